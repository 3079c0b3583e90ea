//! The protocol: how processes read and update one slot without tearing it,
//! without waiting for a writer, and without losing anything to a kill.
//!
//! **Two copies and one word.** A slot has K areas (2, 4 or 8) and one control
//! word. The area `version % K` is current. A writer takes the lock, fills the
//! next area, then changes the word with one compare-exchange: that is the
//! commit. Whoever dies on the way has left the current area as it was, so
//! there is nothing to roll back. A scalar is smaller still: value and control
//! word are one 16-byte cell, and an update is one compare-exchange of both.
//!
//! **Readers** take the version, copy its area, and look at the version again.
//! The copy is whole if no writer can have begun to fill that area meanwhile.
//!
//! **Stale ranges.** Each area has a range of words in which, at most, it differs
//! from the current one; so an update copies what the previous ones changed, not
//! the whole. The range is noted before anything is stored, and never cleared.
//!
//! **Recovery.** The owner in the control word is an entry of the process table.
//! Who waits for a lock asks whether that entry's process still lives (its byte
//! of the file is locked), and if not, settles the slot: forwards if the dead one
//! had committed a transaction, else by moving the version on by K, which keeps
//! the current area and tells every reader that the others are no longer whole.
//!
//! Nothing here knows of files, names or processes: memory comes through
//! [`Memory`], the others through [`Peers`], so that the same code is run by the
//! exhaustive checker and by loom (`tests/protocol/`). `docs/design.md` has the
//! protocol as a whole; `src/protocol/` is to be changed only together with it.
//!
//! May use: `error`. Begin with `control.rs`, then `lock.rs`.

mod array;
mod control;
mod lock;
#[cfg(test)]
pub(crate) mod mutant;
mod pieces;
mod queue;
mod read_lock;
mod scalar;
mod snapshot;
mod stale;
mod transaction;
mod wait;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) use array::{effective_version, read, read_bytes, validate_read};
pub(crate) use control::{Control, FREE, Owner, REMOVED, lead};
pub(crate) use lock::{Held, RawLock, claim, lock, recover_dead_owner, remove, settle, try_lock};
#[cfg(test)]
pub(crate) use pieces::read_by_pieces;
pub(crate) use scalar::{load_scalar, load_scalar_versioned, update_locked, update_scalar};
pub(crate) use snapshot::{Sample, changed_since, snapshot};
pub(crate) use transaction::{Change, commit_all};
pub(crate) use wait::{Await, Bell, Pause, announce, listen, look_to_wait, ring, wait_any};

use crate::error::Error;

/// Whether a bug planted for a test is switched on; constant `false` in what ships.
macro_rules! planted {
    ($mutant:ident) => {{
        #[cfg(test)]
        {
            crate::protocol::mutant::is_planted(crate::protocol::mutant::Mutant::$mutant)
        }
        #[cfg(not(test))]
        {
            false
        }
    }};
}
use planted;

/// Words from the start of a slot: its value (scalars only).
pub(crate) const VALUE: usize = 0;
/// The control word.
pub(crate) const CONTROL: usize = 1;
/// The value a transaction is about to give a scalar.
pub(crate) const DRAFT: usize = 2;
/// The stale range of the first area; those of the others follow.
pub(crate) const STALE: usize = 2;

/// A scalar's value and control word, which change together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) value: u64,
    pub(crate) control: Control,
}

/// The words of one slot, shared with everybody.
///
/// The tests' memories tell the call sites apart by their location, and weaken
/// the orderings one by one: each must turn a test red.
pub(crate) trait Memory {
    /// After so many losses to writers, with the next one, a reader also tries for the slot's lock
    /// between its tries, so that a storm of writers cannot starve it. (The
    /// exhaustive checker sets 0, to see that path in few steps.)
    const LOSSES_BEFORE_LOCK: u32 = 8;

    /// So long, and as long as it takes to copy what there is, a reader may keep writers waiting.
    /// (The exhaustive checker sets 0, as any moment may be the end of it.)
    const READING_TIME: Duration = LONGEST_SLEEP;

    /// Words that who follows the updates copies between two looks at them: few, so that few come
    /// between. (1 KiB takes 30 ns. The tests' memories set 1.)
    const PIECE: usize = 128;

    /// So often an update relaxes before it tries again: whoever was faster goes on meanwhile
    /// with the cache line to itself, which is worth far more than the time that this one
    /// loses. (0.45 µs on the machine of docs/performance.md, where updates by two processes
    /// became twice as fast. Of no meaning to the tests' memories, which set 0.)
    const PAUSES_AFTER_LOSS: u32 = 32;

    #[track_caller]
    fn load(&self, word: usize, order: Ordering) -> u64;
    #[track_caller]
    fn store(&self, word: usize, value: u64, order: Ordering);
    #[track_caller]
    fn control(&self, order: Ordering) -> Control;
    /// Replaces the control word if it is `old`, else returns what it is (relaxed).
    #[track_caller]
    fn swap_control(&self, old: Control, new: Control, order: Ordering) -> Result<(), Control>;
    /// A scalar's control word, then its value: the value may be of a later
    /// version than the control word, never of an earlier one. Both acquire: the
    /// value too, or a reader that finds a newer one would not see what its writer
    /// had done before.
    fn cell(&self) -> Cell {
        let control = self.control(Ordering::Acquire);
        Cell { control, value: self.load(VALUE, Ordering::Acquire) }
    }
    /// Replaces value and control word together, else returns both as they are (relaxed).
    #[track_caller]
    fn swap_cell(&self, old: Cell, new: Cell, order: Ordering) -> Result<(), Cell>;
    #[track_caller]
    fn fence(&self, order: Ordering);

    /// Fills `out` from `skip` bytes after `word`, relaxed.
    fn read(&self, word: usize, skip: usize, out: &mut [u8]);
    /// Stores `data` from `skip` bytes after `word`, relaxed; keeps the bytes beside it.
    fn write(&self, word: usize, skip: usize, data: &[u8]);
    /// Copies `count` words, relaxed.
    fn copy(&self, from: usize, to: usize, count: usize);

    /// A short pause before trying again what somebody else's progress undid.
    fn relax(&self);
    /// Spins a short while; whether the control word is no longer `seen`.
    fn spin(&self, seen: Control) -> bool;
    /// Sleeps while the control word is `seen`, at most `limit`, as one of `who`; whether it was
    /// woken before.
    fn sleep(&self, seen: Control, who: Sleepers, limit: Duration) -> bool;
    /// Wakes all, or one, of `who` who sleep on the control word; whether there was one.
    fn wake(&self, who: Sleepers, all: bool) -> bool;
    /// Rings the store's bell, if it has one (see [`Bell`]).
    fn ring(&self);
    /// Whether L may be set: not in a store of format 1.0, where older builds would take a
    /// lock with L for one of the dead. There, W stands for both.
    fn has_lock_bit(&self) -> bool;
    /// Whether this thread has slept already, while it waited for the lock that it waits for.
    #[cfg(test)]
    fn has_slept(&self) -> bool {
        false
    }
    /// How long one of those who wait for the lock may sleep until it looks whether the owner
    /// lives: longer where many do.
    fn longest_sleep(&self) -> Duration {
        LONGEST_SLEEP
    }
}

/// For what somebody sleeps on a control word. (As bits, see futex(2), FUTEX_WAIT_BITSET.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sleepers(u32);

impl Sleepers {
    /// Until the version is another one.
    pub(crate) const CHANGE: Sleepers = Sleepers(1);
    /// Until the lock is free.
    pub(crate) const LOCK: Sleepers = Sleepers(2);
    /// For the lock, and was woken before, when somebody else was faster.
    pub(crate) const OVERTAKEN: Sleepers = Sleepers(4);
    pub(crate) const ANY: Sleepers = Sleepers(!0);

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn and(self, other: Sleepers) -> Sleepers {
        Sleepers(self.0 | other.0)
    }
}

/// The process table: who else is there.
pub(crate) trait Peers {
    /// This thread's own owner number; claims an entry if it has none yet.
    fn me(&self) -> Result<Owner, Error>;
    /// Whether this is the calling thread's own number.
    fn is_me(&self, owner: Owner) -> bool;
    /// The transaction word of an owner's entry; [`TxnState::Idle`] if there is no such entry.
    #[track_caller]
    fn word(&self, owner: Owner, order: Ordering) -> TxnState;
    #[track_caller]
    fn set_word(&self, owner: Owner, word: TxnState, order: Ordering);
    /// Runs `f` while no other thread of this process claims or recovers.
    fn one_at_a_time<R>(&self, f: impl FnOnce() -> R) -> R;
    /// Read-locks the entry's byte; false if somebody alive stands behind it.
    fn share(&self, owner: Owner) -> bool;
    fn unshare(&self, owner: Owner);
    /// Turns the read lock into the write lock in one step; false if others share it.
    fn promote(&self, owner: Owner) -> bool;
    /// Changes with every fork, in the child.
    fn fork_generation(&self) -> u64;
    /// This thread has taken a lock. Whoever ends with one that it has not let go of leaves its
    /// entry to be settled.
    fn has_locked(&self);
    /// This thread has let go of a lock, or has lost it.
    fn has_unlocked(&self);
    /// This thread has not got a lock for which it had asked for its number.
    fn has_given_up(&self) {}
    /// Whether a turn has passed since a lock was last handed over to one who was overtaken; if
    /// so, a new one begins.
    fn is_turn_over(&self) -> bool;
}

/// An entry's transaction word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum TxnState {
    /// Nobody has the entry, and no slot names it.
    Free = 0,
    /// Somebody has it.
    Idle = 1,
    /// Its transaction is committed, and being settled slot by slot.
    Committed = 2,
}

/// What stands behind the control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One value in the cell.
    Scalar,
    /// K areas.
    Areas(Areas),
    /// Nothing: a lock of the store itself.
    Lock,
}

impl Form {
    /// How far the version moves when a lock ends without a commit: such that the
    /// current area stays, and a reader of any other sees that it may be torn.
    fn recovery_step(self) -> u64 {
        if planted!(RecoveryKeepsVersion) {
            return 0;
        }
        match self {
            Form::Areas(areas) => areas.count,
            Form::Scalar | Form::Lock => 1,
        }
    }
}

/// Where a slot's areas lie, in words from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Areas {
    /// K: 2, 4 or 8. A buffer has 1, which is always current, and no part in the protocol
    /// but its lock and its version.
    pub(crate) count: u64,
    pub(crate) first: usize,
    /// From one area to the next.
    pub(crate) stride: usize,
    /// Words of one area.
    pub(crate) words: usize,
}

impl Areas {
    /// The number of the area that is current in this version.
    #[inline]
    pub(crate) fn number(&self, version: u64) -> u64 {
        version & (self.count - 1)
    }

    /// The first word of the area that is current in this version.
    #[inline]
    pub(crate) fn of(&self, version: u64) -> usize {
        self.first + self.stride * self.number(version) as usize
    }
}

/// Why the protocol gave up. The handles add the path and the slot.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This thread holds the lock itself.
    Deadlock,
    Removed,
    /// This owner did not let go in time.
    Timeout(Owner),
    /// The lock was lost before the commit.
    Evicted,
    /// No entry of the process table was to be had.
    Peers(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Peers(error)
    }
}

/// Nobody who waits for a lock sleeps longer, so that a wake-up lost with the process that owed
/// it costs no more than this.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// How long to wait for a lock. The clock is first read when there is need to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    timeout: Option<Duration>,
    at: Option<Instant>,
    /// A reader that is waited for, and since when.
    reader: Option<(Control, Instant)>,
    /// In place of a clock: how often it is not yet over.
    #[cfg(test)]
    looks: Option<u32>,
}

impl Deadline {
    /// `None`: for ever.
    #[inline]
    pub(crate) fn new(timeout: Option<Duration>) -> Deadline {
        Deadline {
            timeout,
            at: None,
            reader: None,
            #[cfg(test)]
            looks: None,
        }
    }

    /// Over after it was asked so often.
    #[cfg(test)]
    pub(crate) fn of_looks(looks: u32) -> Deadline {
        Deadline { looks: Some(looks), ..Deadline::new(None) }
    }

    /// What it was made with.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Runs `f` with as much of it as is left, but no more than `limit`. What `f` takes is
    /// taken from this, too.
    pub(crate) fn at_most<R>(&mut self, limit: Duration, f: impl FnOnce(&mut Deadline) -> R) -> R {
        let left = match self.at {
            Some(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            None => self.timeout,
        };
        let timeout = left.map_or(limit, |left| left.min(limit));
        let mut brief = Deadline::new(Some(timeout));
        let result = f(&mut brief);
        if self.at.is_none() {
            let began = brief.at.and_then(|deadline| deadline.checked_sub(timeout));
            let deadline = began.zip(self.timeout).and_then(|(began, all)| began.checked_add(all));
            self.at = deadline;
        }
        result
    }

    /// How long there is to wait in all; the longest there is, where that is for ever.
    pub(crate) fn limit(&self) -> Duration {
        self.timeout.unwrap_or(Duration::MAX)
    }

    /// Whether the time is over. Not before the second call: one try is always made.
    pub(crate) fn is_over(&mut self) -> bool {
        let first = self.at.is_none() && self.timeout.is_some();
        self.next_sleep().is_none() && !first
    }

    /// As much of what is left as this, at most.
    pub(crate) fn part(&mut self, most: Duration) -> Deadline {
        self.next_sleep(); // the time begins now
        let left = self.at.map(|at| at.saturating_duration_since(Instant::now()));
        Deadline::new(Some(left.map_or(most, |left| left.min(most))))
    }

    /// How long the next sleep may last; `None` when the time is over.
    fn next_sleep(&mut self) -> Option<Duration> {
        self.left().map(|left| left.min(LONGEST_SLEEP))
    }

    /// How long there is to wait; `None` when the time is over.
    fn left(&mut self) -> Option<Duration> {
        #[cfg(test)]
        if let Some(looks) = &mut self.looks {
            *looks = looks.saturating_sub(1);
            return (*looks > 0).then_some(Duration::MAX);
        }
        let Some(timeout) = self.timeout else {
            return Some(Duration::MAX);
        };
        let now = Instant::now();
        let deadline = match self.at {
            Some(deadline) => deadline,
            // A deadline beyond what the clock can tell is no deadline.
            None => match now.checked_add(timeout) {
                Some(deadline) => *self.at.insert(deadline),
                None => return Some(Duration::MAX),
            },
        };
        let left = deadline.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
#[path = "../../tests/protocol/mod.rs"]
mod tests;
