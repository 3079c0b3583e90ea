//! The programs that are explored. Each thread's script is a line. All written values differ, so
//! that a value that is read tells who wrote it.

use super::explore::Scenario;
use super::script::{Op::*, both, first, middle, second};
use super::world::Slot;

/// The fourth thread also has an entry of its own.
const THREE_ENTRIES: [Option<u8>; 4] = [Some(0), Some(1), None, Some(2)];

/// The writers write different words, so that a lost stale range shows.
pub(super) const TWO_WRITERS: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "two writers and a reader",
        [
            &[Update(first(1)), Update(second(2))],
            &[Update(second(3)), Update(first(4))],
            &[Read, Read],
            &[],
        ],
    )
};

/// Updates of parts of words, while the version wraps around at 2^47.
pub(super) const WRAPPING: Scenario = Scenario {
    version: (1 << 47) - 2,
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "versions that wrap around",
        [
            &[Update(middle(1)), Update(second(2))],
            &[Update(middle(3)), Update(first(4))],
            &[Read],
            &[],
        ],
    )
};

pub(super) const THREE_WRITERS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0, 1],
    ..Scenario::new(
        "three writers, two of them mortal",
        [&[Update(first(1)), Update(both(2))], &[Update(second(3))], &[Read], &[Update(first(4))]],
    )
};

/// Long enough that every area is overwritten.
pub(super) const FOUR_AREAS: Scenario = Scenario {
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

pub(super) const EIGHT_AREAS: Scenario = Scenario {
    areas: 8,
    mortal: &[0],
    ..Scenario::new(
        "eight areas",
        [
            &[Update(first(1)), Update(second(2))],
            &[
                Update(second(3)),
                Update(first(4)),
                Update(second(5)),
                Update(first(6)),
                Update(second(7)),
                Update(first(8)),
            ],
            &[Read],
            &[],
        ],
    )
};

/// A recoverer that looked at the lock before the entry was claimed anew must not break the new
/// lock.
pub(super) const SLOW_RECOVERER: Scenario = Scenario {
    sleepers: true,
    mortal: &[0],
    stoppable: &[1, 2],
    ..Scenario::new(
        "a guard and a slow recoverer",
        [&[Guard, Release], &[Update(second(2))], &[Claim(0), Update(first(3))], &[Read]],
    )
};

/// A thread that drops its guard after another thread has got its entry must not release the
/// other's lock.
pub(super) const LATE_GUARD: Scenario = Scenario {
    mortal: &[0],
    ..Scenario::new(
        "a guard that is dropped after its entry",
        [&[GuardBeyondEntry], &[Update(second(2))], &[Claim(0), Update(first(3))], &[Read]],
    )
};

pub(super) const GUARDS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "the holder's own updates",
        [&[UnderGuards(1, first(1))], &[Update(second(2))], &[Read], &[Add(2)]],
    )
};

pub(super) const TRANSACTION_UNDER_GUARD: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "a transaction on a guarded array",
        [&[TransactionUnderGuard(1, first(1))], &[Update(second(2))], &[Read, Load], &[]],
    )
};

/// Threads that wait for a lock sleep, and are woken by the unlock.
pub(super) const SLEEPERS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0],
    stoppable: &[1],
    sleepers: true,
    ..Scenario::new(
        "sleepers on an array",
        [&[Update(first(1))], &[Update(second(3))], &[], &[Guard]],
    )
};

/// The same in a store of format 1.0.
pub(super) const SLEEPERS_OF_OLD: Scenario = Scenario {
    entries: THREE_ENTRIES,
    sleepers: true,
    is_old: true,
    ..Scenario::new(
        "sleepers on an array of an old store",
        [&[Update(first(1))], &[Guard], &[Await(JUST_Y)], &[]],
    )
};

/// A lock that comes and goes wakes one thread that waits for it, and none that waits for a change.
pub(super) const SLEEPERS_OF_BOTH_KINDS: Scenario = Scenario {
    entries: [None, Some(0), Some(1), Some(2)],
    sleepers: true,
    ..Scenario::new(
        "sleepers until an array changes, and until it is free",
        [&[Await(JUST_Y)], &[Guard, Update(first(1))], &[Guard], &[]],
    )
};

pub(super) const SLEEPERS_IN_LINE: Scenario = Scenario {
    entries: THREE_ENTRIES,
    sleepers: true,
    ..Scenario::new(
        "sleepers until a scalar is free, which they add to",
        [&[TransactionOfX(1)], &[Add(2)], &[], &[Add(4)]],
    )
};

/// The change comes from a thread that has slept.
pub(super) const SLEEPER_WAKES_SLEEPER: Scenario = Scenario {
    sleepers: true,
    ..Scenario::new(
        "a sleeper until a scalar changes, and one until it is free, which changes it",
        [&[TransactionOfX(1)], &[Add(2)], &[Await(JUST_X)], &[]],
    )
};

pub(super) const SLEEPERS_BESIDE_A_GUARD: Scenario = Scenario {
    entries: THREE_ENTRIES,
    sleepers: true,
    ..Scenario::new(
        "sleepers until a guard is gone, under which an update runs",
        [&[UnderGuards(1, first(1))], &[Guard], &[Await(JUST_Y)], &[]],
    )
};

pub(super) const SLEEPERS_THAT_GIVE_UP: Scenario = Scenario {
    entries: THREE_ENTRIES,
    sleepers: true,
    ..Scenario::new("sleepers that give up", [&[Guard, Guard], &[GuardOnce], &[], &[Guard]])
};

/// A thread that takes the lock again and again does not keep it from one that waits.
pub(super) const OVERTAKEN: Scenario = Scenario {
    sleepers: true,
    is_fair: true,
    ..Scenario::new(
        "a thread that is overtaken",
        [&[Guard, Guard, Guard, Guard, Guard], &[Guard, Guard], &[], &[]],
    )
};

pub(super) const SLEEPERS_OF_TRANSACTIONS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0],
    sleepers: true,
    ..Scenario::new(
        "sleepers until a transaction is over",
        [&[Transaction(1, first(1))], &[Update(second(3))], &[], &[Add(4)]],
    )
};

/// Threads that wait for a change need no entry, and the change wakes them, beside threads that
/// lock.
pub(super) const WAITERS: Scenario = Scenario {
    sleepers: true,
    ..Scenario::new(
        "waiters for a scalar, an array, and either",
        [&[Guard, Update(first(1)), Add(1)], &[], &[Await(BOTH)], &[Await(JUST_Y)]],
    )
};

pub(super) const WAITERS_FOR_TRANSACTION: Scenario = Scenario {
    mortal: &[0],
    sleepers: true,
    ..Scenario::new(
        "waiters for the change of a transaction",
        [&[Transaction(1, first(1))], &[], &[Await(JUST_Y)], &[Await(BOTH)]],
    )
};

pub(super) const WAITERS_FOR_REMOVED: Scenario = Scenario {
    mortal: &[3],
    sleepers: true,
    ..Scenario::new(
        "waiters for a slot that is removed, one of them mortal",
        [&[Guard, Remove(Slot::Y)], &[], &[Await(JUST_Y), Await(BOTH)], &[Await(BOTH)]],
    )
};

const JUST_X: &[Slot] = &[Slot::X];
const JUST_Y: &[Slot] = &[Slot::Y];
const BOTH: &[Slot] = &[Slot::X, Slot::Y];

pub(super) const READERS_LOCK: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0, 3],
    stoppable: &[3],
    readers_lock: true,
    ..Scenario::new(
        "readers that try for the lock",
        [&[Update(first(1)), Update(second(2))], &[Update(second(3))], &[], &[Read]],
    )
};

/// Enough writes to take the lock away from a reader, and to come round to the area that it copies.
pub(super) const READERS_LOSE_LOCKS: Scenario = Scenario {
    stoppable: &[3],
    entries: THREE_ENTRIES,
    readers_lock: true,
    ..Scenario::new(
        "a reader whose lock is taken away",
        [
            &[Update(first(1)), Update(second(2)), Update(first(3)), Update(second(4))],
            &[],
            &[],
            &[Read],
        ],
    )
};

/// A reader that copies by pieces, and follows the updates meanwhile. The third update is the first
/// whose stale range replaces the earlier ones.
pub(super) const FOLLOWER: Scenario = Scenario::new(
    "a reader that follows the updates",
    [&[Update(first(1)), Update(second(2)), Update(second(3))], &[], &[], &[Follow]],
);

pub(super) const FOLLOWER_OF_THE_DEAD: Scenario = Scenario {
    mortal: &[0],
    ..Scenario::new(
        "a reader that follows a mortal writer",
        [&[Update(first(1))], &[Update(second(3))], &[], &[Follow]],
    )
};

pub(super) const FOLLOWER_OF_TRANSACTIONS: Scenario = Scenario {
    version: (1 << 47) - 2,
    ..Scenario::new(
        "a reader that follows a transaction, while versions wrap around",
        [&[Transaction(1, first(1)), Update(second(2))], &[], &[], &[Follow]],
    )
};

pub(super) const FOLLOWER_OF_GUARDS: Scenario = Scenario::new(
    "a reader that follows updates under guards",
    [&[UnderGuards(1, first(1)), UnderGuards(1, second(2))], &[], &[], &[Follow]],
);

pub(super) const READERS_LOCK_SCALAR: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0],
    stoppable: &[3],
    readers_lock: true,
    ..Scenario::new(
        "readers that try for the lock of a scalar",
        [&[TransactionOfX(1)], &[Add(2)], &[], &[LoadVersioned]],
    )
};

pub(super) const SNAPSHOT_LOCKS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0],
    stoppable: &[3],
    readers_lock: true,
    ..Scenario::new(
        "a snapshot that locks",
        [&[TransactionOfX(1), Add(2)], &[Update(second(2))], &[], &[Snapshot]],
    )
};

pub(super) const REMOVED_ARRAY: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0, 1],
    ..Scenario::new(
        "an array that is removed",
        [
            &[Remove(Slot::Y)],
            &[Update(first(1)), Update(second(2))],
            &[Read, Read],
            &[Update(second(3))],
        ],
    )
};

pub(super) const REMOVED_SCALAR: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0],
    ..Scenario::new(
        "a scalar that is removed",
        [&[Remove(Slot::X)], &[Add(1), Add(2)], &[Load], &[TransactionOfX(4)]],
    )
};

/// Two transactions in a row: a reader may find the draft of the second beside the transaction word
/// of the first.
pub(super) const VERSIONED: Scenario = Scenario {
    mortal: &[0],
    ..Scenario::new(
        "the version of a scalar",
        [&[TransactionOfX(1), TransactionOfX(2)], &[Add(4)], &[LoadVersioned], &[]],
    )
};

/// A reader that sees a transaction on X must see it on Y.
pub(super) const TRANSACTION_READS: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1, 2],
    ..Scenario::new(
        "transactions and single reads",
        [
            &[Transaction(1, first(1)), Release],
            &[Update(second(2))],
            &[Claim(0), Transaction(2, first(3))],
            &[Load, Read],
        ],
    )
};

pub(super) const TRANSACTION_SNAPSHOT: Scenario = Scenario {
    mortal: &[0],
    ..Scenario::new(
        "transactions and a snapshot",
        [&[Transaction(1, first(1)), Release], &[], &[Claim(0), TransactionOfX(2)], &[Snapshot]],
    )
};

/// One slot changes alone, so that a snapshot reads only that one again.
pub(super) const UPDATE_SNAPSHOT: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "a transaction, an update and a snapshot",
        [&[Transaction(1, first(1)), Release], &[Update(second(2))], &[], &[Snapshot]],
    )
};

/// A snapshot that reads one slot after the other.
pub(super) const TRANSACTION_LOADS: Scenario = Scenario {
    mortal: &[0],
    ..Scenario::new(
        "a transaction beside loads that look back",
        [
            &[Transaction(1, first(1)), Release],
            &[Add(4)],
            &[],
            &[SnapshotByLoads(Slot::X), SnapshotByLoads(Slot::Y)],
        ],
    )
};

pub(super) const TRANSACTION_SCALARS: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "a transaction beside a scalar update",
        [&[Transaction(1, both(1)), Release], &[Add(4)], &[], &[Snapshot]],
    )
};

pub(super) const THREE_TRANSACTIONS: Scenario = Scenario {
    mortal: &[0, 2],
    stoppable: &[1],
    ..Scenario::new(
        "three transactions, the claimant mortal",
        [
            &[Transaction(1, first(1)), Transaction(2, second(5)), Release],
            &[],
            &[Claim(0), Transaction(8, first(3))],
            &[Read, Load],
        ],
    )
};

pub(super) const TWO_RECOVERERS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0, 2],
    stoppable: &[1],
    ..Scenario::new(
        "two recoverers, an entry used again",
        [
            &[Transaction(1, first(1)), Release],
            &[Update(second(2))],
            &[Claim(0), TransactionOfX(8)],
            &[Add(4)],
        ],
    )
};

pub(super) const LONG_FOLLOWER: Scenario = Scenario {
    mortal: &[0],
    ..Scenario::new(
        "long: a reader that follows a mortal writer",
        [&[Update(first(1)), Update(second(2))], &[Update(second(3))], &[], &[Follow]],
    )
};

pub(super) const LONG_FOLLOWER_OF_TRANSACTIONS: Scenario = Scenario {
    mortal: &[0],
    version: (1 << 47) - 2,
    ..Scenario::new(
        "long: a reader that follows a mortal transaction, while versions wrap around",
        [&[Transaction(1, first(1))], &[Update(second(3))], &[], &[Follow]],
    )
};

pub(super) const LONG_VERSIONED: Scenario = Scenario {
    mortal: &[0],
    ..Scenario::new(
        "long: the version of a scalar",
        [
            &[TransactionOfX(1), TransactionOfX(2)],
            &[Add(4), Add(8)],
            &[LoadVersioned, LoadVersioned],
            &[],
        ],
    )
};

/// Each slot may be settled by a different thread.
pub(super) const LONG_UPDATE_SNAPSHOT: Scenario = Scenario {
    mortal: &[0],
    stoppable: &[1],
    ..Scenario::new(
        "long: a transaction, an update, a claim and a snapshot",
        [&[Transaction(1, first(1)), Release], &[Update(second(2))], &[Claim(0)], &[Snapshot]],
    )
};

pub(super) const LONG_SNAPSHOT: Scenario = Scenario {
    mortal: &[0],
    ..Scenario::new(
        "long: transactions on both slots and a snapshot",
        [
            &[Transaction(1, first(1)), Release],
            &[],
            &[Claim(0), Transaction(2, second(3))],
            &[Snapshot],
        ],
    )
};

pub(super) const LONG_TRANSACTIONS: Scenario = Scenario {
    mortal: &[0, 2],
    stoppable: &[1],
    ..Scenario::new(
        "long: transactions beside a scalar update, the claimant mortal",
        [
            &[Transaction(1, first(1)), Release],
            &[Add(4)],
            &[Claim(0), Transaction(8, second(3))],
            &[Read, Load],
        ],
    )
};

pub(super) const LONG_RECOVERERS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0, 2],
    stoppable: &[1],
    ..Scenario::new(
        "long: two recoverers, a transaction on an entry used again",
        [
            &[Transaction(1, both(1)), Release],
            &[Update(second(2))],
            &[Claim(0), Transaction(8, first(3))],
            &[Add(4)],
        ],
    )
};

/// Small enough to be explored without forgetting lost rounds.
pub(super) const LOST_ROUNDS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    ..Scenario::new(
        "lost rounds",
        [&[Update(first(1)), Update(second(2))], &[TransactionOfX(1)], &[Read, LoadVersioned], &[]],
    )
};

pub(super) const LOST_SNAPSHOTS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    ..Scenario::new(
        "lost snapshots",
        [&[Add(1)], &[Update(first(1)), Update(second(2))], &[Snapshot], &[]],
    )
};

pub(super) const LOST_LOCKS: Scenario = Scenario {
    entries: THREE_ENTRIES,
    mortal: &[0],
    ..Scenario::new(
        "lost tries for a lock",
        [&[Transaction(1, first(1))], &[Update(second(2))], &[], &[Add(2)]],
    )
};
