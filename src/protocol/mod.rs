//! The protocol: how processes read and update one slot without tearing it, without waiting for a
//! writer, and without losing anything to a kill.
//!
//! **Two copies and one word.** A slot has K areas (2, 4 or 8) and one control word. The area
//! `version % K` is current. A writer takes the lock, fills the next area, then changes the word
//! with one compare-exchange: that is the commit. A writer that dies on the way leaves the current
//! area as it was, so there is nothing to roll back. A scalar is simpler: value and control word
//! are one 16-byte cell, and an update is one compare-exchange of both.
//!
//! **Readers** take the version, copy its area, and look at the version again. The copy is whole if
//! no writer can have begun to fill that area meanwhile.
//!
//! **Stale ranges.** Each area has a range of words in which, at most, it differs from the current
//! one. So an update copies only what the previous ones changed. The range is stored before
//! anything else, and never cleared.
//!
//! **Recovery.** The owner in the control word is an entry of the process table. A thread that
//! waits for a lock asks whether that entry's process is alive: whether the entry's byte of the
//! file is locked. If not, it settles the slot. If the dead owner had committed a transaction, it
//! completes that. Otherwise it advances the version by K, which keeps the current area and tells
//! every reader that the others are no longer whole.
//!
//! **Marks** say which segments of the checkpoint may have changed, at no cost to the second update
//! after a sync: `marks.rs`, `clean.rs`.
//!
//! This folder knows nothing of files, names or processes. Memory comes through [`Memory`], other
//! processes through [`Peers`], so the exhaustive checker and loom (`tests/protocol/`) run the same
//! code. `docs/design.md` describes the whole protocol; change `src/protocol/` only together with
//! it.
//!
//! May use: `mutant`. Begin with `control.rs`, then `update.rs`.

mod array;
mod clean;
mod control;
mod group_commit;
mod lock;
mod marks;
pub(crate) mod mutant;
mod pieces;
mod queue;
mod read_lock;
mod recover;
mod scalar;
mod snapshot;
mod stale;
mod transaction;
mod update;
mod wait;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) use array::{Destination, effective_version, read, read_bytes, validate_read};
pub(crate) use clean::{Stand, clean, finish_cleaning, look_at_marked, stand};
pub(crate) use control::{Control, FREE, MAX_OWNER, Owner, REMOVED, State, lead};
#[cfg(feature = "tokio")]
pub(crate) use group_commit::told;
pub(crate) use group_commit::{
    Joined, Lead, Number, Numbers, Ticket, Told, join, ticket, try_lead,
};
pub(crate) use lock::{FailureOf, Held, Lockable, RawLock, lock, try_lock};
#[cfg(test)]
pub(crate) use marks::NoMarks;
pub(crate) use marks::{Marks, Segments, mark_new};
use mutant::planted;
#[cfg(test)]
pub(crate) use pieces::read_by_pieces;
pub(crate) use recover::{claim, recover_dead_owner, settle};
pub(crate) use scalar::{load_scalar, load_scalar_versioned, update_locked, update_scalar};
pub(crate) use snapshot::{Sample, have_changed, snapshot};
pub(crate) use stale::all_stale;
#[cfg(test)]
pub(crate) use transaction::Change;
pub(crate) use transaction::{Changes, Replacement, commit_all};
pub(crate) use update::{go_on_under_guard, lock_for_update};
pub(crate) use wait::{
    Await, EventCount, Pause, advance, announce, listen, look_to_wait, wait_any,
};

/// Word offsets from the start of a slot: its value (scalars only).
pub(crate) const VALUE: usize = 0;
/// The control word.
pub(crate) const CONTROL: usize = 1;
/// The value that a transaction is about to give a scalar.
pub(crate) const DRAFT: usize = 2;
/// The stale range of the first area; those of the other areas follow.
pub(crate) const STALE: usize = 2;
/// The slot's first segment of the checkpoint: its number + 1; 0: it has no marks.
pub(crate) const SEGMENT_OF_SCALAR: usize = 3;
/// The same of a slot with areas.
pub(crate) const SEGMENT_OF_AREAS: usize = 0;

/// A scalar's value and control word, which change together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) value: u64,
    pub(crate) control: Control,
}

/// The words of one slot, shared with all processes.
///
/// The tests' memories identify call sites by their location, and weaken the orderings one by one:
/// each must turn a test red.
pub(crate) trait Memory {
    /// After this many losses to writers, from the next loss on, a reader also tries for the slot's
    /// lock between its tries, so that continuous writers cannot starve it. (The exhaustive checker
    /// sets 0, to reach that path in few steps.)
    const LOSSES_BEFORE_LOCK: u32 = 8;

    /// How long a reader may keep writers waiting, in addition to the time that copying takes. (The
    /// exhaustive checker sets 0, as it may end at any moment.)
    const READING_TIME: Duration = LONGEST_SLEEP;

    /// Words that a reader following the updates copies between two looks at them: few, so that few
    /// updates come between. (1 KiB takes 30 ns. The tests' memories set 1.)
    const PIECE: usize = 128;

    /// How often an update relaxes before it tries again. Meanwhile the faster thread has the cache
    /// line to itself, which is worth far more than the time lost here. (0.45 µs on the machine of
    /// docs/performance.md, where updates by two processes became twice as fast. It means nothing
    /// to the tests' memories, which set 0.)
    const PAUSES_AFTER_LOSS: u32 = 32;

    /// The marks of the store's segments.
    type Marks: Marks;

    /// What the control word protects.
    fn form(&self) -> Form;
    /// Identifies the slot in its store.
    fn slot_id(&self) -> u64;
    /// The marks, and this slot's segments. `None`: changes of this slot are not marked, and it is
    /// always dirty. So are buffers, and all slots of a store of format 1.0.
    fn marks(&self) -> Option<(&Self::Marks, Segments)>;
    /// The same, of a slot with several segments.
    fn marks_of_several(&self) -> Option<(&Self::Marks, Segments)> {
        self.marks().filter(|(_, segments)| segments.each.is_some())
    }

    /// Not the value of a scalar, nor a control word: those are read by `cell` and `control`.
    #[track_caller]
    fn load(&self, word: usize, order: Ordering) -> u64;
    #[track_caller]
    fn store(&self, word: usize, value: u64, order: Ordering);
    #[track_caller]
    fn control(&self, order: Ordering) -> Control;
    /// Replaces the control word if it is `old`, else returns the current one (relaxed).
    #[track_caller]
    fn swap_control(&self, old: Control, new: Control, order: Ordering) -> Result<(), Control>;
    /// Loads a scalar's control word, then its value. The value may be of a later version than the
    /// control word, never of an earlier one. Both loads acquire, the value too: a reader that
    /// finds a newer value must see what its writer had done before.
    fn cell(&self) -> Cell {
        let control = self.control(Ordering::Acquire);
        Cell { control, value: self.load(VALUE, Ordering::Acquire) }
    }
    /// Replaces value and control word together, else returns the current ones (relaxed).
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

    /// A short pause before retrying what another thread's progress has undone.
    fn relax(&self);
    /// Spins for a short time; true if the control word is no longer `seen`.
    fn spin(&self, seen: Control) -> bool;
    /// Sleeps as one of `who` while the control word is `seen`, at most `limit`; true if it was
    /// woken before.
    fn sleep(&self, seen: Control, who: Sleepers, limit: Duration) -> bool;
    /// Wakes one or all of `who` that sleep on the control word; true if there was one.
    fn wake(&self, who: Sleepers, all: bool) -> bool;
    /// Advances the store's event count, if it has one (see [`EventCount`]).
    fn advance_event_count(&self);
    /// Whether L may be set. Not in a store of format 1.0: older builds would take a lock with L
    /// for a dead owner's. There, W stands for both.
    fn has_lock_bit(&self) -> bool;
    /// Whether this thread has already slept in its current wait for the lock.
    #[cfg(test)]
    fn has_slept(&self) -> bool {
        false
    }
    /// How long a waiter for the lock may sleep before it checks whether the owner is alive: longer
    /// where many wait.
    fn longest_sleep(&self) -> Duration {
        LONGEST_SLEEP
    }
}

/// What a thread on a control word sleeps for. (As bits: see futex(2), FUTEX_WAIT_BITSET.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sleepers(u32);

impl Sleepers {
    /// Until the version changes.
    pub(crate) const CHANGE: Sleepers = Sleepers(1);
    /// Until the lock is free.
    pub(crate) const LOCK: Sleepers = Sleepers(2);
    /// For the lock, after it was woken once and another thread was faster.
    pub(crate) const OVERTAKEN: Sleepers = Sleepers(4);
    pub(crate) const ANY: Sleepers = Sleepers(!0);

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn and(self, other: Sleepers) -> Sleepers {
        Sleepers(self.0 | other.0)
    }
}

/// The process table: the other processes and threads.
pub(crate) trait Peers {
    /// Why this thread has no entry.
    type Error;

    /// This thread's own owner number; claims an entry if it has none yet.
    fn me(&self) -> Result<Owner, Self::Error>;
    /// Whether that failed because all entries are taken: one may be given back soon.
    fn may_be_free_soon(error: &Self::Error) -> bool;
    /// Whether this is the calling thread's own number.
    fn is_me(&self, owner: Owner) -> bool;
    /// The transaction word of an owner's entry; [`TxnState::Idle`] if the entry does not exist.
    #[track_caller]
    fn txn_word(&self, owner: Owner, order: Ordering) -> TxnState;
    #[track_caller]
    fn set_txn_word(&self, owner: Owner, word: TxnState, order: Ordering);
    /// Runs `f` while no other thread of this process claims or recovers.
    fn one_at_a_time<R>(&self, f: impl FnOnce() -> R) -> R;
    /// Read-locks the entry's byte; false if a live process has the entry.
    fn share(&self, owner: Owner) -> bool;
    fn unshare(&self, owner: Owner);
    /// Turns the read lock into the write lock in one step; false if others share it.
    fn promote(&self, owner: Owner) -> bool;
    /// A number that changes in the child with every fork.
    fn fork_generation(&self) -> u64;
    /// This thread has taken a lock. If it ends without releasing it, its entry stays to be
    /// settled.
    fn note_locked(&self);
    /// This thread has released or lost a lock.
    fn note_unlocked(&self);
    /// This thread did not get a lock for which it had asked for its number.
    fn note_given_up(&self) {}
    /// Begins an update under the lock that a guard of this thread keeps on a slot. Returns the
    /// update's number. `None`: no guard keeps it, or the thread is already in an update under it.
    fn begin_under_guard(&self, slot: u64) -> Option<u64>;
    /// Whether the guard under which this update began still exists.
    fn is_under_guard(&self, slot: u64, update: u64) -> bool;
    fn end_under_guard(&self, slot: u64, update: u64);
    /// Whether no lock was handed over to an overtaken waiter in this interval yet. If so, counts
    /// this one.
    fn is_handover_due(&self) -> bool;
}

/// An entry's transaction word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum TxnState {
    /// The entry is free, and no slot names it.
    Free = 0,
    /// The entry is taken.
    Idle = 1,
    /// Its transaction is committed, and being settled slot by slot.
    Committed = 2,
}

/// What the control word protects.
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
    /// How far the version advances when a lock ends without a commit: the current area stays, and
    /// readers of any other see that it may be torn.
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

/// The layout of a slot's areas, in words from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Areas {
    /// K: 2, 4 or 8. A buffer has 1, which is always current; it uses only the lock and the version
    /// of the protocol.
    pub(crate) count: u64,
    pub(crate) first: usize,
    /// The distance from one area to the next.
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
pub(crate) enum Failure<E> {
    /// This thread holds the lock itself.
    Deadlock,
    Removed,
    /// This owner did not release the lock in time.
    Timeout(Owner),
    /// The lock was lost before the commit.
    Evicted,
    /// No entry of the process table was available.
    Peers(E),
}

/// The longest sleep of a waiter for a lock. If a process dies before a wake-up that it owed, this
/// is the most that the loss costs.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// How long to wait for a lock. The clock is first read when a wait is necessary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    timeout: Option<Duration>,
    at: Option<Instant>,
    /// The reader waited for, and since when.
    reader: Option<(Control, Instant)>,
    /// Replaces the clock: how many more checks find it not yet over.
    #[cfg(test)]
    looks: Option<u32>,
}

impl Deadline {
    /// `None`: forever.
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

    /// Over after this many checks.
    #[cfg(test)]
    pub(crate) fn of_looks(looks: u32) -> Deadline {
        Deadline { looks: Some(looks), ..Deadline::new(None) }
    }

    /// The timeout it was made with.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Runs `f` with the time that is left, but at most `limit`. The time that `f` takes
    /// counts against this deadline, too.
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

    /// The whole timeout; the longest duration if it is forever.
    pub(crate) fn limit(&self) -> Duration {
        self.timeout.unwrap_or(Duration::MAX)
    }

    /// Whether the time is over. Never on the first call: at least one try is made.
    pub(crate) fn is_over(&mut self) -> bool {
        let first = self.at.is_none() && self.timeout.is_some();
        self.next_sleep().is_none() && !first
    }

    /// A deadline for the time that is left, but at most `most`. This one begins to run now.
    pub(crate) fn capped(&mut self, most: Duration) -> Deadline {
        self.next_sleep();
        let left = self.at.map(|at| at.saturating_duration_since(Instant::now()));
        Deadline::new(Some(left.map_or(most, |left| left.min(most))))
    }

    /// How long the next sleep may last; `None` when the time is over.
    fn next_sleep(&mut self) -> Option<Duration> {
        self.left().map(|left| left.min(LONGEST_SLEEP))
    }

    /// How much time is left; `None` when the time is over.
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
            // A deadline beyond the clock's range never comes.
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
