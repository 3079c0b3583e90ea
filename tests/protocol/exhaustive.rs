//! Every interleaving of small programs, with a death at every step.
//!
//! `replay.rs` makes the code that ships do one access at a time. `world.rs` says what must hold in
//! every state, `script.rs` what every operation may return, and `scenarios.rs` which programs run.

use std::panic::catch_unwind;

use super::explore::{Bug, ByteBug, Scenario};
use super::scenarios::*;
use super::sync::SyncBug;
use super::synced::*;
use super::{group, long, lost};
use crate::protocol::mutant::{Mutant, plant};

fn green(scenarios: &[Scenario]) {
    for scenario in scenarios {
        let explored = scenario.explore().unwrap_or_else(|why| panic!("{why}"));
        assert!(explored.ends > 0 && explored.states > 1000, "{explored:?}");
    }
}

/// Readers see whole commits. No commit is lost, no lock is stolen, and no thread waits for ever. A
/// writer may die, and its recoverer may be stopped.
#[test]
fn every_interleaving_of_writers_and_a_reader_is_whole() {
    green(&[TWO_WRITERS, WRAPPING, FOUR_AREAS]);
}

#[test]
#[ignore = "many interleavings: CI runs it"]
fn every_interleaving_of_three_writers_or_with_eight_areas_is_whole() {
    green(&[THREE_WRITERS, EIGHT_AREAS]);
}

#[test]
#[ignore = "many interleavings: CI runs it"]
fn no_lock_is_stolen_from_a_thread_that_has_claimed_the_entry() {
    green(&[SLOW_RECOVERER]);
}

#[test]
fn the_holder_of_a_guard_updates_what_it_guards() {
    green(&[GUARDS, TRANSACTION_UNDER_GUARD, LATE_GUARD]);
}

#[test]
fn sleepers_are_woken() {
    green(&[SLEEPERS, SLEEPERS_OF_TRANSACTIONS, SLEEPERS_OF_OLD]);
}

#[test]
fn of_the_threads_that_wait_for_a_lock_one_is_woken() {
    green(&[
        SLEEPERS_OF_BOTH_KINDS,
        SLEEPERS_IN_LINE,
        SLEEPER_WAKES_SLEEPER,
        SLEEPERS_BESIDE_A_GUARD,
        SLEEPERS_THAT_GIVE_UP,
    ]);
}

#[test]
fn an_overtaken_thread_gets_the_lock_next() {
    let explored = OVERTAKEN.explore().unwrap_or_else(|why| panic!("{why}"));
    assert!(explored.ends > 0, "{explored:?}");
}

#[test]
fn a_change_wakes_the_threads_that_wait_for_it() {
    green(&[WAITERS, WAITERS_FOR_TRANSACTION, WAITERS_FOR_REMOVED]);
}

#[test]
fn readers_that_lock_see_whole_commits() {
    green(&[READERS_LOCK, READERS_LOSE_LOCKS, READERS_LOCK_SCALAR, SNAPSHOT_LOCKS]);
}

#[test]
fn a_reader_that_follows_the_updates_sees_one_version() {
    green(&[FOLLOWER, FOLLOWER_OF_THE_DEAD, FOLLOWER_OF_TRANSACTIONS, FOLLOWER_OF_GUARDS]);
}

#[test]
fn a_removed_scalar_keeps_its_last_value() {
    green(&[REMOVED_SCALAR]);
}

#[test]
#[ignore = "many interleavings: CI runs it"]
fn a_removed_array_keeps_its_last_value() {
    green(&[REMOVED_ARRAY]);
}

#[test]
fn a_loaded_version_belongs_to_the_loaded_value() {
    green(&[VERSIONED]);
}

#[test]
fn a_transaction_is_seen_on_all_its_slots_or_on_none() {
    green(&[THREE_TRANSACTIONS]);
}

#[test]
#[ignore = "many interleavings: CI runs it"]
fn a_transaction_is_seen_by_single_reads_on_all_its_slots_or_on_none() {
    green(&[TRANSACTION_READS]);
}

#[test]
fn a_snapshot_is_of_one_instant() {
    green(&[TRANSACTION_SNAPSHOT]);
}

#[test]
#[ignore = "many interleavings: CI runs it"]
fn a_snapshot_beside_updates_is_of_one_instant() {
    green(&[UPDATE_SNAPSHOT, TRANSACTION_SCALARS]);
}

const SNAPSHOTS: &[Scenario] = &[TRANSACTION_SNAPSHOT, UPDATE_SNAPSHOT, TRANSACTION_SCALARS];

#[test]
#[ignore = "many interleavings: CI runs it"]
fn loads_that_are_checked_again_are_of_one_instant() {
    green(&[TRANSACTION_LOADS]);
}

/// A sync finds all that has changed, as of one instant, whoever dies or is stopped: at each moment,
/// what differs from the checkpoint is marked.
#[test]
fn a_sync_finds_by_the_marks_all_that_has_changed() {
    green(SYNCS);
}

const SYNCS: &[Scenario] = &[
    SYNCED,
    STOPPED_THROUGH_SYNCS,
    TWO_SEGMENTS,
    SYNCED_LOCKS,
    SYNCED_LOCK_OF_SCALAR,
    SYNCED_TRANSACTION,
    SYNCED_GUARDS,
    SYNCED_REMOVAL,
    SYNCED_LARGE,
    SYNCED_LARGE_IN_TWO_WORDS,
    SYNCED_LARGE_SHARING_A_MARK,
    SYNCED_LARGE_TRANSACTION,
    SYNCED_NEW,
    SYNCS_DIE,
    SYNCS_FAIL,
];

#[test]
fn clean_slots_are_locked_waited_for_and_read_like_dirty_ones() {
    green(&[CLEAN_SLEEPERS, CLEAN_READERS_LOCK, CLEAN_SNAPSHOT]);
    CLEAN_OVERTAKEN.explore().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn two_recoverers_agree() {
    green(&[TWO_RECOVERERS]);
}

/// Millions of states each, which takes minutes. Measured on two busy cores, which were busier
/// still during the last two programs:
///
/// | | states | seconds |
/// | --- | --- | --- |
/// | the version of a scalar | 1,018,606 | 42 |
/// | transactions beside a scalar update | 4,791,289 | 161 |
/// | two recoverers, a transaction | 1,370,487 | 39 |
/// | an update, a claim and a snapshot | 4,476,552 | 287 |
/// | transactions on both slots and a snapshot | 2,168,728 | 209 |
/// | a reader that follows a mortal writer | 3,449,645 | 66 |
/// | a reader that follows a mortal transaction | 1,205,755 | 31 |
#[test]
fn every_interleaving_of_the_long_programs_is_whole() {
    if long() {
        green(&[
            LONG_VERSIONED,
            LONG_TRANSACTIONS,
            LONG_RECOVERERS,
            LONG_UPDATE_SNAPSHOT,
            LONG_SNAPSHOT,
            LONG_FOLLOWER,
            LONG_FOLLOWER_OF_TRANSACTIONS,
            LONG_SYNCED,
            LONG_SYNCED_TRANSACTION,
        ]);
    }
}

/// The checker forgets the rounds that a loop or a snapshot has lost. The results must be the same
/// as if it remembered them all.
#[test]
fn forgetting_lost_rounds_changes_no_result() {
    for scenario in [LOST_ROUNDS, LOST_SNAPSHOTS, LOST_LOCKS] {
        let scenario = Scenario { notes_results: true, ..scenario };
        let short = scenario.explore().expect("green");
        let full = Scenario { remembers: true, ..scenario }.explore().expect("green");
        assert!(short.states < full.states, "nothing was forgotten");
        assert_eq!(short.results, full.results);
    }
}

/// Each bug, and the scenarios that must find it.
const BUGS: [(Bug, &[Scenario]); 65] = [
    (Bug::Protocol(Mutant::ClearStaleAfterCommit), &[TWO_WRITERS]),
    (Bug::Protocol(Mutant::NoteStaleLate), &[TWO_WRITERS]),
    (Bug::Protocol(Mutant::CurrentNotStale), &[TWO_WRITERS]),
    (Bug::Protocol(Mutant::CommitEarly), &[TWO_WRITERS]),
    (Bug::Protocol(Mutant::ReaderAcceptsTorn), &[TWO_WRITERS]),
    (Bug::Protocol(Mutant::RecoveryKeepsVersion), &[TWO_WRITERS]),
    (Bug::Protocol(Mutant::RecoverWithoutByte), &[SLOW_RECOVERER]),
    (Bug::Bytes(ByteBug::RecoverExclusively), &[SLOW_RECOVERER]),
    (Bug::Bytes(ByteBug::ClaimExclusively), &[SLOW_RECOVERER]),
    (Bug::Protocol(Mutant::DraftWithoutRecheck), &[VERSIONED, TRANSACTION_SNAPSHOT]),
    (Bug::Protocol(Mutant::IdleBeforeSettling), SNAPSHOTS),
    (Bug::Protocol(Mutant::CommittedBeforeT), SNAPSHOTS),
    (Bug::Protocol(Mutant::AreasFilledAfterTheCommit), &[TRANSACTION_SNAPSHOT]),
    (Bug::Protocol(Mutant::NoSecondLookAtControl), SNAPSHOTS),
    (Bug::Protocol(Mutant::SnapshotComparesControls), SNAPSHOTS),
    (Bug::Protocol(Mutant::SnapshotWithoutRecheck), SNAPSHOTS),
    (Bug::Protocol(Mutant::SnapshotWithoutRecheck), &[TRANSACTION_LOADS]),
    (Bug::Protocol(Mutant::ClaimWithoutRecovery), &[TRANSACTION_SNAPSHOT]),
    (Bug::Protocol(Mutant::SleepWithoutW), &[WAITERS]),
    (Bug::Protocol(Mutant::AnnounceUnseen), &[WAITERS]),
    (Bug::Protocol(Mutant::ClearWithoutWake), &[WAITERS]),
    (Bug::Protocol(Mutant::DropByOwner), &[LATE_GUARD]),
    (Bug::Protocol(Mutant::RemoveKeepsVersion), &[REMOVED_ARRAY]),
    (Bug::Protocol(Mutant::ReadersAreWaitedFor), &[READERS_LOCK]),
    (Bug::Protocol(Mutant::ReadersAreWaitedFor), &[READERS_LOCK_SCALAR]),
    (Bug::Protocol(Mutant::ReadersAreWaitedFor), &[SNAPSHOT_LOCKS]),
    (Bug::Protocol(Mutant::ReadLockIsTrusted), &[READERS_LOSE_LOCKS]),
    (Bug::Protocol(Mutant::WakeAnyone), &[SLEEPERS_OF_BOTH_KINDS]),
    (Bug::Protocol(Mutant::TakeWithoutL), &[SLEEPERS]),
    (Bug::Protocol(Mutant::GiveUpSilently), &[SLEEPERS_THAT_GIVE_UP]),
    (Bug::Protocol(Mutant::GuardClearsL), &[SLEEPERS_BESIDE_A_GUARD]),
    (Bug::Protocol(Mutant::LockClearsW), &[WAITERS, SLEEPERS_OF_BOTH_KINDS]),
    (Bug::Protocol(Mutant::EventCountedEarly), &[WAITERS]),
    (Bug::Protocol(Mutant::NoHandOver), &[OVERTAKEN]),
    (Bug::Protocol(Mutant::FollowerMissesChange), &[FOLLOWER]),
    (Bug::Protocol(Mutant::FollowerTrustsRange), &[FOLLOWER]),
    (Bug::Protocol(Mutant::ReaderAcceptsTorn), &[FOLLOWER]),
    (Bug::Protocol(Mutant::CurrentNotStale), &[FOLLOWER]),
    (Bug::Protocol(Mutant::MarkedAfterTheCommit), &[SYNCED, SYNCED_LARGE]),
    (
        Bug::Protocol(Mutant::CleanIsNotTouched),
        &[SYNCED, STOPPED_THROUGH_SYNCS, SYNCED_LOCKS, SYNCED_LARGE],
    ),
    (Bug::Protocol(Mutant::TouchedLooksDirty), &[SYNCED, SYNCED_LOCKS, SYNCED_REMOVAL]),
    (Bug::Protocol(Mutant::TouchedCountsAsMarked), &[SYNCED, SYNCED_LOCKS, SYNCED_GUARDS]),
    (Bug::Protocol(Mutant::MarkSeenBeforeTheTouch), &[SYNCED, SYNCS_FAIL, SYNCED_LARGE]),
    (Bug::Protocol(Mutant::CommitKeepsState), &[SYNCED, SYNCED_LOCKS, SYNCED_GUARDS]),
    (
        Bug::Protocol(Mutant::RecoveryMarksNothing),
        &[SYNCED_LOCKS, SYNCED_LOCK_OF_SCALAR, SYNCED_GUARDS],
    ),
    (Bug::Protocol(Mutant::RecoveryMarksNoneOfItsOwn), &[SYNCED_LARGE, SYNCED_LARGE_IN_TWO_WORDS]),
    (Bug::Protocol(Mutant::RemovalMarksNothing), &[SYNCED_REMOVAL]),
    (Bug::Protocol(Mutant::TransactionMarksLate), &[SYNCED_LOCK_OF_SCALAR, SYNCED_TRANSACTION]),
    (
        Bug::Protocol(Mutant::DirtyCountsAsMarked),
        &[SYNCED_LARGE, SYNCED_LARGE_IN_TWO_WORDS, SYNCED_LARGE_TRANSACTION],
    ),
    (Bug::Protocol(Mutant::RemovedCountsAsCopied), &[SYNCED_REMOVAL]),
    (Bug::Protocol(Mutant::MarksOfTheFirstLook), &[TWO_SEGMENTS, SYNCED_LARGE]),
    (Bug::Protocol(Mutant::MarksClearedByTheLook), &[SYNCS_DIE, SYNCS_FAIL]),
    (Bug::Protocol(Mutant::MarksClearedLast), &[SYNCED, SYNCED_LARGE_IN_TWO_WORDS]),
    (Bug::Protocol(Mutant::CleaningIsNotNoted), &[SYNCS_DIE]),
    (Bug::Protocol(Mutant::CleaningEndsEarly), &[SYNCS_DIE]),
    (Bug::Protocol(Mutant::CleaningForgottenFirst), &[SYNCED_NEW, SYNCS_DIE]),
    (Bug::Protocol(Mutant::CleanWithoutTheVersion), &[SYNCED, SYNCED_LOCKS]),
    (Bug::Protocol(Mutant::CleanInTransaction), &[SYNCED_LOCK_OF_SCALAR, SYNCED_TRANSACTION]),
    (Bug::Protocol(Mutant::TouchedIsMadeClean), &[SYNCED, STOPPED_THROUGH_SYNCS]),
    (Bug::Protocol(Mutant::TouchedIsNotMarkedAgain), &[SYNCED, SYNCED_LARGE]),
    (Bug::Protocol(Mutant::OneSegmentIsMarkedAgain), &[SYNCED_LARGE, SYNCED_LARGE_TRANSACTION]),
    (Bug::Protocol(Mutant::SharersAreForgotten), &[SYNCED_LARGE_SHARING_A_MARK]),
    (Bug::Sync(SyncBug::DefinedUnmarked), &[SYNCED_NEW]),
    (Bug::Sync(SyncBug::CleanBeforeTheAcknowledgement), &[SYNCS_DIE, SYNCS_FAIL]),
    (Bug::Sync(SyncBug::CleaningForgottenByTheNext), &[SYNCED_NEW, SYNCS_DIE]),
];

/// Bugs that show only where the protocol is broken already, or where time counts, and the tests
/// that find them.
const BUGS_ELSEWHERE: [(Mutant, fn()); 9] = [
    (Mutant::UndoFreesGuard, lost::an_undone_transaction_leaves_the_guard),
    (Mutant::NoTimeoutWhileLosing, lost::a_thread_that_is_always_late_gives_up),
    (
        Mutant::LargeReadsBeginAnew,
        lost::a_reader_without_an_entry_reads_what_changes_while_it_copies,
    ),
    (Mutant::NumberAfterLook, group::every_caller_of_a_sync_is_told_what_became_of_it),
    (Mutant::JoinsInFlight, group::every_caller_of_a_sync_is_told_what_became_of_it),
    (Mutant::DoneBeforeFlush, group::every_caller_of_a_sync_is_told_what_became_of_it),
    (Mutant::FailureCountsAsDone, group::every_caller_of_a_sync_is_told_what_became_of_it),
    (Mutant::FailureUntold, group::every_caller_of_a_sync_is_told_what_became_of_it),
    (Mutant::LeaderWakesNobody, group::every_caller_of_a_sync_is_told_what_became_of_it),
];

#[test]
fn every_planted_bug_is_found() {
    for (bug, scenario) in BUGS.iter().flat_map(|(bug, all)| all.iter().map(|one| (*bug, one))) {
        let found = scenario.explore_with(bug).err();
        let why = found.unwrap_or_else(|| panic!("{bug:?} survives {}", scenario.name));
        println!("{bug:?}: {}", why.lines().next().unwrap_or_default());
    }
    for (mutant, test) in BUGS_ELSEWHERE {
        plant(Some(mutant));
        let found = catch_unwind(test);
        plant(None);
        assert!(found.is_err(), "{mutant:?} survives");
    }
    for &mutant in Mutant::EXPLORED {
        let is_there = BUGS.iter().any(|(bug, _)| *bug == Bug::Protocol(mutant))
            || BUGS_ELSEWHERE.iter().any(|(bug, _)| *bug == mutant);
        assert!(is_there, "no scenario for {mutant:?}");
    }
}
