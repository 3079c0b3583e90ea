//! A power cut returns the last completed sync, or the one in flight: all slots of the
//! same one, never a mix, never an older one in silence.
//!
//! Here the sync and recovery of the design run in a model: pages that are lost, kept or
//! caught in between, thousands of histories a second, planted bugs that must be found.
//! The same of the code that ships, on a real file system over a disk that logs its
//! writes, is `run.sh`, with `workload.rs` and `replay.rs`.

mod checkpoint;
mod disk;
mod history;
mod layout;
mod machine;
mod mutant;
mod opening;
mod replay;
mod syncing;
mod workload;

use std::time::Instant;

use history::{Counts, History};
use layout::{MARK, Part, Unit, is_checkpoint, record};
use machine::Machine;
use mutant::Mutant;
use opening::Opened;

fn long() -> bool {
    std::env::var_os("SLOTFILE_LONG").is_some()
}

/// Not a test of its own: `run.sh` starts this program again for its parts.
#[test]
fn part_of_a_power_cut_run() {
    match std::env::var("SLOTFILE_POWER").as_deref() {
        Ok("run") => workload::run(),
        Ok("write") => workload::write(),
        Ok("noise") => workload::make_noise(),
        Ok("replay") => replay::replay(),
        _ => {}
    }
}

#[test]
fn row_19_every_recovery_is_one_sync() {
    let histories = if long() { 1_000_000 } else { 100_000 };
    let start = Instant::now();
    let halves = std::thread::scope(|scope| {
        let half = |odd: u64| {
            let mut counts = Counts::default();
            for seed in (odd..histories).step_by(2) {
                let (what, result) = history::run(seed, None);
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
    // That it was not in vain.
    assert!(counts.cuts > histories, "{counts:?}");
    assert!(counts.in_flight_returned > histories / 100, "{counts:?}");
    assert!(counts.restores_interrupted > histories / 2, "{counts:?}");
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let found = match mutant {
            // Too rare to be met by chance.
            Mutant::NoErase => a_dropped_sync_stays_dropped(Some(Mutant::NoErase)),
            Mutant::NoMark | Mutant::DamagedMarkIsNone => rot(Some(*mutant)).map(|_| ()),
            _ => (0..20_000).try_for_each(|seed| {
                history::run(seed, Some(*mutant)).1.map_err(|wrong| format!("{seed}: {wrong}"))
            }),
        };
        match found {
            Err(wrong) => println!("{mutant:?}: history {wrong}"),
            Ok(()) => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn row_20_a_dropped_sync_does_not_return() {
    a_dropped_sync_stays_dropped(None).unwrap();
}

/// A cut in the middle of a sync keeps its record and one of two copies, so it is dropped.
/// The next sync, of the same epoch, writes the missing copy with what it had before, and
/// is cut in its turn, with the record lost. If the first record is still there, it is
/// whole now, and a state returns that was never to be.
fn a_dropped_sync_stays_dropped(mutant: Option<Mutant>) -> Result<(), String> {
    let mut history = History::new(Machine::new(0, mutant));
    let machine = &mut history.machine;
    machine.scripted = true;
    // Slots 2 and 3: each has its own unit.
    for (name, value) in [(0, 0), (1, 0), (2, 0), (3, 0)] {
        machine.define(name, value);
    }
    history.sync().unwrap();
    let second = Unit::new(0, Part::Large(3));
    let of_second = |page| (0..2).any(|which| (0..2).any(|i| second.copy(which) + i == page));
    history.machine.set(2, 1);
    history.machine.set(3, 2);
    history.cut_in_the_flush(&|page| is_checkpoint(page) && !of_second(page))?;
    history.recover_undisturbed()?;
    history.machine.set(3, 2);
    history.cut_in_the_flush(&of_second)?;
    history.recover_undisturbed()
}

#[test]
fn row_30_rot_is_found_or_harmless() {
    let counts = rot(None).unwrap();
    println!("refused, harmless: {counts:?}");
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}

/// After an acknowledged sync one bit of its checkpoint flips, or one in each of two pages.
/// The store must be refused, or be exactly what it was.
fn rot(mutant: Option<Mutant>) -> Result<[u64; 2], String> {
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..10_000 {
        let mut machine = Machine::new(seed, mutant);
        let mut saved = machine.state();
        for name in 0..machine.random.u64(2..6) {
            let value = machine.random.u64(0..3);
            machine.define(name, value);
            machine.transaction();
            saved = machine.sync().map_err(|_| "the sync failed")?;
            machine.write_mark(machine.header(machine::header::ACKED));
        }
        machine.disk.flush(&machine.disk.all_pages(), true);
        machine.restarted();
        for rotten in 0..=seed % 2 {
            let mut pages = machine.disk.all_pages();
            pages.retain(|page| is_checkpoint(*page));
            let page = *machine.random.choice(&pages).unwrap();
            let page = match machine.random.u8(0..3) {
                // Alone it is harmless.
                1 | 2 if rotten == 1 => MARK,
                0 => record(machine.random.usize(0..2))[machine.random.usize(0..2)],
                _ => page,
            };
            let (word, bit) = (machine.random.usize(0..6), machine.random.u32(0..60));
            machine.disk.rot(page, word, bit);
        }
        match machine.open() {
            Ok(Opened::Refused(_)) => refused += 1,
            _ if machine::state_of(&machine.read_live()?) == saved => harmless += 1,
            opened => return Err(format!("{seed}: an older sync: {opened:?}")),
        }
    }
    Ok([refused, harmless])
}
