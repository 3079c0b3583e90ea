//! A power cut returns the last completed sync, or the one in flight: all slots of the same sync,
//! never a mix, never an older sync in silence.
//!
//! Here all the code that ships, from `Store` down, runs on a simulated disk: thousands of
//! histories of updates, syncs, kills, cuts, errors and copies, in which the disk loses, tears and
//! reorders writes. Every `explored` bug of `src/mutant.rs` is planted in that code, and must be
//! found. The same on real file systems, over a disk that logs its writes, is `../run.sh`.

mod disk;
mod history;
mod machine;
mod scripts;

use std::time::Instant;

use history::Counts;
use scripts::{
    a_dropped_sync_stays_dropped, a_flipped_bit_is_not_synced, a_lost_write_is_made_good,
    a_lost_write_is_refused, a_number_is_given_once, a_record_that_nobody_acknowledged_is_flushed,
    a_second_restore_is_read_back, a_slot_defined_after_a_restart_is_zero,
    an_unreadable_copy_counts_as_absent, an_unreadable_copy_is_written_anew, rot,
    the_length_of_the_file_may_lag, unwritten_pages_are_forgotten,
};

use crate::mutant::{Mutant, plant};

fn long() -> bool {
    std::env::var_os("SLOTFILE_LONG").is_some()
}

#[test]
fn row_19_every_recovery_is_one_sync() {
    let histories = if long() { 100_000 } else { 600 };
    let start = Instant::now();
    let halves = std::thread::scope(|scope| {
        let half = |odd: u64| {
            let mut counts = Counts::default();
            for seed in (odd..histories).step_by(2) {
                let (what, result) = history::run(seed);
                result.unwrap_or_else(|wrong| panic!("history {seed}: {wrong}"));
                counts.add(&what);
            }
            counts
        };
        let other = scope.spawn(move || half(1));
        [half(0), other.join().unwrap()]
    });
    let mut counts = halves[0];
    counts.add(&halves[1]);
    println!("{counts:?} in {:.1?}", start.elapsed());
    // The run has tested something.
    assert!(counts.cuts > histories, "{counts:?}");
    assert!(counts.in_flight_returned > histories / 100, "{counts:?}");
    assert!(counts.restores_interrupted > histories / 2, "{counts:?}");
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for mutant in Mutant::EXPLORED {
        plant(Some(*mutant));
        // A bug may also end in a panic, in the library or in an assertion.
        let found = std::panic::catch_unwind(|| find(*mutant));
        plant(None);
        match found {
            Ok(Ok(())) => missed.push(mutant),
            Ok(Err(wrong)) => {
                println!("{mutant:?}: {}", wrong.chars().take(200).collect::<String>())
            }
            Err(_) => println!("{mutant:?}: a panic"),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Runs the script that is made for this bug; without one, histories.
fn find(mutant: Mutant) -> Result<(), String> {
    match mutant {
        // Too rare to happen by chance.
        Mutant::NoErase => a_dropped_sync_stays_dropped(),
        Mutant::LoadsWithoutFlush => a_record_that_nobody_acknowledged_is_flushed(),
        // The disk loses or damages data by itself.
        Mutant::NoMark | Mutant::DamagedMarkIsNone => rot(3_000).map(|_| ()),
        Mutant::NoSum => a_lost_write_is_refused(),
        Mutant::SumNotCompared => a_lost_write_is_made_good(),
        Mutant::FlippedBitCopied => a_flipped_bit_is_not_synced(),
        Mutant::UnreadableFails => an_unreadable_copy_counts_as_absent(),
        Mutant::LostCopyIsFound => an_unreadable_copy_is_written_anew(),
        Mutant::NumberTwice => a_number_is_given_once(),
        Mutant::WritesAgainWhatFailed => unwritten_pages_are_forgotten(),
        Mutant::BelievesASecondRestore => a_second_restore_is_read_back(),
        Mutant::LeavesWhatIsBeyond => a_slot_defined_after_a_restart_is_zero(),
        Mutant::ShortReadFails => the_length_of_the_file_may_lag(),
        _ => {
            (0..3_000).try_for_each(|seed| history::run(seed).1.map_err(|e| format!("{seed}: {e}")))
        }
    }
}

#[test]
fn row_20_a_slot_that_a_dropped_sync_defined_leaves_nothing() {
    a_slot_defined_after_a_restart_is_zero().unwrap();
}

#[test]
fn row_20_a_dropped_sync_does_not_return() {
    a_dropped_sync_stays_dropped().unwrap();
}

#[test]
fn row_19_a_power_cut_may_keep_the_record_without_the_length_of_the_file() {
    the_length_of_the_file_may_lag().unwrap();
}

#[test]
fn row_21_an_unacknowledged_record_is_flushed_before_a_sync_builds_on_it() {
    a_record_that_nobody_acknowledged_is_flushed().unwrap();
}

#[test]
fn row_30_a_lost_write_is_refused_after_a_restart_and_made_good_before_it() {
    a_lost_write_is_refused().unwrap();
    a_lost_write_is_made_good().unwrap();
}

#[test]
fn row_30_a_bit_that_flips_in_an_unchanged_slot_is_not_synced() {
    a_flipped_bit_is_not_synced().unwrap();
}

#[test]
fn row_30_an_unreadable_copy_counts_as_absent() {
    an_unreadable_copy_counts_as_absent().unwrap();
}

#[test]
fn row_21_a_copy_that_was_unreadable_for_a_while_is_written_anew() {
    an_unreadable_copy_is_written_anew().unwrap();
}

#[test]
fn row_21_a_sync_that_cannot_read_the_last_one_gets_a_number_of_its_own() {
    a_number_is_given_once().unwrap();
}

#[test]
fn row_21_pages_that_could_not_be_written_are_forgotten_before_the_next_try() {
    unwritten_pages_are_forgotten().unwrap();
}

#[test]
fn row_21_a_restore_after_a_failed_one_is_read_back() {
    a_second_restore_is_read_back().unwrap();
}

#[test]
fn row_30_rot_is_found_or_harmless() {
    let counts = rot(if long() { 10_000 } else { 500 }).unwrap();
    println!("refused, harmless: {counts:?}");
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}
