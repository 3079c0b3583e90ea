//! Programs beside a sync: what has changed is found by marks (`src/protocol/marks.rs`).

use super::explore::Scenario;
use super::scenarios::{OVERTAKEN, READERS_LOCK, SLEEPERS_OF_BOTH_KINDS, TRANSACTION_SNAPSHOT};
use super::script::{Op, Op::*, both, first, second};
use super::sync::Layout;
use super::world::Slot;

/// Clean slots, beside a sync.
const fn marked(name: &'static str, marks: Layout, scripts: [&'static [Op]; 4]) -> Scenario {
    Scenario { marks: Some(marks), ..Scenario::new(name, scripts) }
}

pub(super) const SYNCED: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "two who update one scalar, two syncs",
        Layout::ONE,
        [&[Add(1)], &[Add(2)], &[Cut, Clean, Cut, Clean], &[]],
    )
};

/// One of the updates may be stopped, at any of its steps, while all syncs run.
pub(super) const STOPPED_THROUGH_SYNCS: Scenario = marked(
    "an update that is stopped through three syncs",
    Layout::ONE,
    [&[Add(1)], &[Add(2), Add(4)], &[Cut, Clean, Cut, Clean, Cut, Clean], &[]],
);

pub(super) const TWO_SEGMENTS: Scenario = marked(
    "two segments, one instant",
    Layout::TWO,
    [&[Add(1), Update(first(1))], &[Update(second(2)), Add(2)], &[Cut, Clean], &[]],
);

pub(super) const SYNCED_LOCKS: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "updates under the lock, two syncs",
        Layout::ONE,
        [&[Update(first(1))], &[Update(second(2))], &[Cut, Clean, Cut, Clean], &[]],
    )
};

/// Locks of both kinds on one scalar.
pub(super) const SYNCED_LOCK_OF_SCALAR: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "a transaction of a scalar beside an update, two syncs",
        Layout::ONE,
        [&[TransactionOfX(1)], &[Add(2)], &[Cut, Clean, Cut, Clean], &[]],
    )
};

pub(super) const SYNCED_TRANSACTION: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "a transaction of two segments, a sync",
        Layout::TWO,
        [&[Transaction(1, first(1))], &[Add(2)], &[Cut, Clean], &[]],
    )
};

pub(super) const SYNCED_GUARDS: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "the holder's own updates, a sync",
        Layout::ONE,
        [&[UnderGuards(1, first(1))], &[Add(2)], &[Cut, Clean], &[]],
    )
};

pub(super) const SYNCED_REMOVAL: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "a removal, two syncs",
        Layout::ONE,
        [&[Remove(Slot::X)], &[Add(1)], &[Cut, Clean, Cut, Clean], &[]],
    )
};

pub(super) const SYNCED_LARGE: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "an array with segments of its own, two syncs",
        Layout::LARGE,
        [&[Update(first(1))], &[Update(second(2))], &[Cut, Clean, Cut, Clean], &[]],
    )
};

/// The dead writer's range is not known.
pub(super) const SYNCED_LARGE_IN_TWO_WORDS: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "an array with segments of its own, whose marks are in two words",
        Layout::LARGE_IN_TWO_WORDS,
        [&[Update(both(1))], &[Update(second(2))], &[Cut, Clean, Cut, Clean], &[]],
    )
};

/// A mark that stands for segments of both slots.
pub(super) const SYNCED_LARGE_SHARING_A_MARK: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "an array with segments of its own, one of which shares its mark with a scalar",
        Layout::LARGE_SHARING_A_MARK,
        [&[Update(second(1))], &[Add(2)], &[Cut, Clean, Cut, Clean], &[]],
    )
};

pub(super) const SYNCED_LARGE_TRANSACTION: Scenario = Scenario {
    mortal: &[0],
    ..marked(
        "a transaction on an array with segments of its own, a sync",
        Layout::LARGE,
        [&[Transaction(1, second(1))], &[Update(first(2))], &[Cut, Clean], &[]],
    )
};

pub(super) const SYNCED_NEW: Scenario = Scenario {
    mortal: &[2],
    ..marked(
        "slots that have just been defined, two syncs",
        Layout::NEW,
        [&[Add(1)], &[], &[Cut, Clean], &[Cut, Clean]],
    )
};

pub(super) const SYNCS_DIE: Scenario = Scenario {
    mortal: &[2, 3],
    ..marked(
        "syncs that die",
        Layout::ONE,
        [&[Add(1), Add(2)], &[], &[Cut, Clean, Cut, Clean], &[Cut, Clean]],
    )
};

pub(super) const SYNCS_FAIL: Scenario = marked(
    "a sync whose flush fails",
    Layout::ONE,
    [&[Add(1)], &[Add(2)], &[CutInVain, Cut, Clean, Cut, Clean], &[]],
);

/// Locks, waiters and readers of clean slots, without a sync.
pub(super) const CLEAN_SLEEPERS: Scenario =
    Scenario { marks: Some(Layout::ONE), ..SLEEPERS_OF_BOTH_KINDS };
pub(super) const CLEAN_OVERTAKEN: Scenario = Scenario { marks: Some(Layout::ONE), ..OVERTAKEN };
pub(super) const CLEAN_READERS_LOCK: Scenario =
    Scenario { marks: Some(Layout::ONE), ..READERS_LOCK };
pub(super) const CLEAN_SNAPSHOT: Scenario =
    Scenario { marks: Some(Layout::ONE), ..TRANSACTION_SNAPSHOT };

pub(super) const LONG_SYNCED: Scenario = Scenario {
    mortal: &[0, 2],
    ..marked(
        "long: two who update one scalar, three syncs",
        Layout::ONE,
        [&[Add(1), Add(4)], &[Add(2), Add(8)], &[Cut, Clean, Cut, Clean, Cut, Clean], &[]],
    )
};

pub(super) const LONG_SYNCED_TRANSACTION: Scenario = Scenario {
    mortal: &[0, 2],
    ..marked(
        "long: a transaction of two segments, two syncs",
        Layout::TWO,
        [&[Transaction(1, first(1))], &[Add(2), Update(second(2))], &[Cut, Clean], &[Cut, Clean]],
    )
};
