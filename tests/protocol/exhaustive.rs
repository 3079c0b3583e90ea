//! Every interleaving of small programs, with a death at every step.
//!
//! `replay.rs` tells how the shipping code is made to do one access at a time,
//! `world.rs` what must hold in every state, `script.rs` what every operation may
//! return, `scenarios.rs` what is run.

use super::explore::{Bug, ByteBug, Scenario};
use super::long;
use super::scenarios::*;
use crate::protocol::mutant::Mutant;

#[test]
fn matrix() {
    use Mutant::*;
    let bugs = [ClearStaleAfterCommit, BurialKeepsVersion, IdleBeforeSettling, NoSecondLookAtControl, SnapshotComparesControls, BuryWithoutByte, ClaimWithoutBurial, NoteStaleLate, CommitEarly, ReaderAcceptsTorn, CurrentNotStale, DraftWithoutRecheck].map(Bug::Protocol).into_iter().chain([ByteBug::BuryExclusively, ByteBug::ClaimExclusively].map(Bug::Bytes));
    for s in [TWO_WRITERS, WRAPPING, THREE_WRITERS, FOUR_AREAS, EIGHT_AREAS, SLOW_BURIER, GUARDS, SLEEPERS, SLEEPERS_OF_TRANSACTIONS, READERS_LOCK, READERS_LOCK_SCALAR, SNAPSHOT_LOCKS, REMOVED_ARRAY, REMOVED_SCALAR, VERSIONED, TRANSACTION_READS, TRANSACTION_SNAPSHOT, UPDATE_SNAPSHOT, TRANSACTION_SCALARS, THREE_TRANSACTIONS, TWO_BURIERS] {
        if let Err(e) = s.explore() { println!("Explored {e}"); }
    }
    for bug in bugs {
        for s in [TWO_WRITERS, WRAPPING, THREE_WRITERS, FOUR_AREAS, EIGHT_AREAS, SLOW_BURIER, GUARDS, SLEEPERS, SLEEPERS_OF_TRANSACTIONS, READERS_LOCK, READERS_LOCK_SCALAR, SNAPSHOT_LOCKS, REMOVED_ARRAY, REMOVED_SCALAR, VERSIONED, TRANSACTION_READS, TRANSACTION_SNAPSHOT, UPDATE_SNAPSHOT, TRANSACTION_SCALARS, THREE_TRANSACTIONS, TWO_BURIERS] {
            let t = std::time::Instant::now();
            if let Err(why) = s.explore_with(bug) {
                println!("Explored {bug:?} RED {:.2?} {} ", t.elapsed(), why.lines().next().unwrap());
            }
        }
    }
}
