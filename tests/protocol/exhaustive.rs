//! Every interleaving of small programs, with a death at every step.
//!
//! `replay.rs` tells how the shipping code is made to do one access at a time,
//! `world.rs` what must hold in every state, `script.rs` what every operation may return.

use super::explore::{Bug, ByteBug, Scenario};
use super::long;
use super::script::{Op::*, both, first, middle, second};
use super::world::Slot;
use crate::protocol::mutant::Mutant;

const TWO_WRITERS: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "two writers, two reads",
        [
            &[Update(first(1)), Update(second(2))],
            &[Update(second(3)), Update(first(4))],
            &[Read, Read],
            &[],
        ],
    )
};

const THREE_WRITERS: Scenario = Scenario {
    entries: [Some(0), Some(1), None, Some(2)],
    mortal: &[0, 1],
    ..Scenario::new(
        "three writers, two of them mortal",
        [
            &[Update(first(1)), Update(both(2))],
            &[Update(second(3))],
            &[Read],
            &[Update(first(4))],
        ],
    )
};

const FOUR_AREAS: Scenario = Scenario {
    areas: 4,
    mortal: &[0],
    ..Scenario::new(
        "four areas",
        [
            &[Update(first(1)), Update(second(2)), Update(first(3))],
            &[Update(second(4)), Update(first(5)), Update(second(6))],
            &[Read],
            &[],
        ],
    )
};

const TRANSACTION_READS: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1, 2],
    ..Scenario::new(
        "transactions, single reads",
        [
            &[Transaction(1, first(1)), Release],
            &[Update(second(2))],
            &[Claim(0), Transaction(2, first(3))],
            &[Load, Read],
        ],
    )
};

const TRANSACTION_SNAPSHOT: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "transactions, a snapshot",
        [
            &[Transaction(1, first(1)), Release],
            &[Update(second(2))],
            &[Claim(0), Transaction(2, second(3))],
            &[Snapshot],
        ],
    )
};

const TRANSACTION_SCALARS: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "transactions beside scalar updates",
        [
            &[Transaction(1, both(1)), Release],
            &[Add(4)],
            &[Claim(0), Transaction(2, first(3))],
            &[Snapshot, Load],
        ],
    )
};

const THREE_TRANSACTIONS: Scenario = Scenario {
    mortal: &[0, 2],
    stoppable: &[1],
    ..Scenario::new(
        "three transactions, the claimant mortal",
        [
            &[Transaction(1, first(1)), Transaction(2, second(5)), Release],
            &[Add(4)],
            &[Claim(0), Transaction(8, first(3))],
            &[Read, Load],
        ],
    )
};

const TWO_BURIERS: Scenario = Scenario {
    entries: [Some(0), Some(1), None, Some(2)],
    mortal: &[0, 2],
    stoppable: &[1],
    ..Scenario::new(
        "two buriers, an entry used again",
        [
            &[Transaction(1, both(1)), Release],
            &[Update(second(2))],
            &[Claim(0), Transaction(2, both(3))],
            &[Add(4), Snapshot],
        ],
    )
};

const SLOW_BURIER: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1, 2],
    ..Scenario::new(
        "a guard, and a slow burier",
        [&[Guard, Release], &[Update(second(2))], &[Claim(0), Update(first(3))], &[Read]],
    )
};

const VERSIONED: Scenario = Scenario {
    mortal: &[0],
    ..Scenario::new(
        "versions of a scalar",
        [
            &[TransactionOfX(1), TransactionOfX(2)],
            &[Add(4), Add(8)],
            &[LoadVersioned, LoadVersioned],
            &[],
        ],
    )
};

const SCENARIOS: [Scenario; 10] = [
    TWO_WRITERS,
    THREE_WRITERS,
    FOUR_AREAS,
    SLOW_BURIER,
    VERSIONED,
    TRANSACTION_READS,
    TRANSACTION_SNAPSHOT,
    TRANSACTION_SCALARS,
    THREE_TRANSACTIONS,
    TWO_BURIERS,
];

fn green(scenario: Scenario) {
    match scenario.explore() {
        Ok(explored) => assert!(explored.ends > 0 && explored.states > 1000, "{explored:?}"),
        Err(why) => panic!("{why}"),
    }
}

#[test]
fn all() {
    for s in SCENARIOS {
        green(s);
    }
}
#[test]
fn muts() {
    use Mutant::*;
    for m in [ClearStaleAfterCommit, BurialKeepsVersion, IdleBeforeSettling, NoSecondLookAtControl, SnapshotComparesControls, BuryWithoutByte, ClaimWithoutBurial, NoteStaleLate, CommitEarly, ReaderAcceptsTorn, CurrentNotStale, DraftWithoutRecheck] {
        let mut found = false;
        for s in SCENARIOS {
            if let Err(why) = s.explore_with(Bug::Protocol(m)) {
                println!("{m:?} RED {}", why.lines().next().unwrap());
                found = true;
                break;
            }
        }
        if !found { println!("{m:?} SURVIVES"); }
    }
}
