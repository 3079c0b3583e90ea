//! Committing several slots with one word.
//!
//! 1. **Lock** each slot at its first use.
//! 2. **Prepare** each slot that is written: fill its next area, or store its draft. Then set T: it
//!    tells readers to ask the owner's word. (Not in step 1, which would save an exchange: a slot
//!    with T always ends with a new version, so a reader that finds its control word unchanged has
//!    read the word of this transaction. Of a slot that is locked with T, released unwritten and
//!    locked with T again, it may have read that of one in between.)
//! 3. **Commit** all of them: COMMITTED in the owner's word.
//! 4. **Settle** each: one exchange makes it the next version, without T, and releases the lock.
//! 5. IDLE in the owner's word: whoever sees it sees all slots settled.
//!
//! A kill before step 3 leaves locks to be undone; from there on, whoever recovers a slot completes
//! it.

use std::cell::Cell;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::control::State;
use super::lock::RawLock;
use super::marks::{Bytes, mark_all_of, mark_several};
use super::queue::publish;
use super::recover::settle_draft;
use super::update::fill;
use super::{Areas, Control, DRAFT, FREE, Failure, Memory, Owner, Peers, TxnState, planted};

/// The slots that a transaction writes, all of which this thread has locked.
pub(crate) trait Changes {
    type Memory: Memory;

    /// Calls `scalar` with each scalar and its new value, and `area` with each slot that has areas
    /// and what is new in it; always in the same order.
    fn each(
        &self,
        scalar: impl FnMut(&Self::Memory, &RawLock, u64),
        area: impl FnMut(&Self::Memory, &RawLock, &Replacement<'_>),
    );
}

/// What replaces the bytes from byte `at` of the current area.
pub(crate) struct Replacement<'d> {
    pub(crate) areas: &'d Areas,
    pub(crate) at: usize,
    pub(crate) data: &'d [u8],
}

/// What a transaction of the tests does to one slot.
#[cfg(test)]
pub(crate) enum Change<'d> {
    Scalar(u64),
    Area(Replacement<'d>),
}

#[cfg(test)]
impl<L: super::Lockable> Changes for [(super::Held<L>, Change<'_>)] {
    type Memory = L::Memory;

    fn each(
        &self,
        mut scalar: impl FnMut(&L::Memory, &RawLock, u64),
        mut area: impl FnMut(&L::Memory, &RawLock, &Replacement<'_>),
    ) {
        self.iter().for_each(|(held, change)| match change {
            Change::Scalar(value) => scalar(held.memory(), &held.raw, *value),
            Change::Area(patch) => area(held.memory(), &held.raw, patch),
        });
    }
}

/// Commits these changes, all at once. From here on only a death can interrupt it, and those that
/// recover then finish it. (The child of a fork has no locks to commit under and gets
/// [`Failure::Evicted`] at once. So does a thread whose lock was taken away, which the protocol
/// never does to a live one.)
pub(crate) fn commit_all<P: Peers, C: Changes + ?Sized>(
    peers: &P,
    me: Owner,
    changes: &C,
) -> Result<(), Failure<P::Error>> {
    if planted!(CommittedBeforeT) {
        peers.set_txn_word(me, TxnState::Committed, Release);
    }
    let all_held = Cell::new(true);
    changes.each(
        |memory, lock, draft| {
            all_held.set(
                all_held.get() && lock.may_store(memory, peers) && {
                    // Release: a thread that sees the draft sees the lock under which it was
                    // stored.
                    memory.fence(Release);
                    memory.store(DRAFT, draft, Relaxed);
                    set_transaction(memory, lock.control(), Bytes::ALL)
                },
            );
        },
        |memory, lock, Replacement { areas, at, data }| {
            all_held.set(
                all_held.get() && lock.may_store(memory, peers) && {
                    if !planted!(AreasFilledAfterTheCommit) {
                        fill(memory, lock.version(), areas, *at, data);
                    }
                    set_transaction(memory, lock.control(), Bytes { at: *at, len: data.len() })
                },
            );
        },
    );
    if !all_held.get() {
        let undo = |memory: &C::Memory, lock: &RawLock| {
            if lock.may_store(memory, peers) {
                undo(memory, peers, lock);
            }
        };
        changes.each(|memory, lock, _| undo(memory, lock), |memory, lock, _| undo(memory, lock));
        return Err(Failure::Evicted);
    }
    // The commit point. Release: a thread that sees it sees every draft and every area.
    peers.set_txn_word(me, TxnState::Committed, Release);
    if planted!(IdleBeforeSettling) {
        peers.set_txn_word(me, TxnState::Idle, Release);
    }
    // Neither does anything if the word has changed: a process that took us for dead has seen the
    // commit, and has settled it in the same way.
    let in_transaction = |lock: &RawLock| lock.control().with_transaction(true);
    changes.each(
        |memory, lock, _| {
            if planted!(TransactionMarksLate) {
                mark_all_of(memory, Some(Bytes::ALL));
            }
            settle_draft(memory, peers, in_transaction(lock), lock.committed());
        },
        |memory, lock, Replacement { areas, at, data }| {
            if planted!(AreasFilledAfterTheCommit) {
                fill(memory, lock.version(), areas, *at, data);
            }
            let late = planted!(TransactionMarksLate).then_some(Bytes::ALL);
            publish(memory, peers, in_transaction(lock), lock.committed(), late);
        },
    );
    // Release: a thread that sees IDLE sees every slot settled.
    peers.set_txn_word(me, TxnState::Idle, Release);
    Ok(())
}

/// Sets T, and keeps W and L, which others may set at any time. A clean slot is touched by it. Then
/// marks what changes. False if the lock is lost.
#[inline(always)] // in two places; for a scalar there is less to do
fn set_transaction<M: Memory>(memory: &M, locked: Control, changed: Bytes) -> bool {
    let (mut seen, mut next) = (locked, locked);
    // Release: a thread that sees T sees the draft, or the area, that it announces.
    while let Err(now) = memory.swap_control(seen, next.with_transaction(true), Release) {
        if !now.same(locked) {
            return false;
        }
        let is_dirty = now.state() == State::Dirty;
        (seen, next) = (now, if is_dirty { now } else { now.with_state(State::Touched) });
    }
    if next.state() == State::Dirty {
        mark_several(memory, changed);
    } else if !planted!(TransactionMarksLate) {
        mark_all_of(memory, Some(changed));
    }
    true
}

/// Ends the lock and discards what was stored under it, as a recovery does.
fn undo<M: Memory, P: Peers>(memory: &M, peers: &P, lock: &RawLock) {
    let keeps = !lock.is_own() && !planted!(UndoFreesGuard);
    let owner = if keeps { lock.owner() } else { FREE };
    let undone = lock.control().advanced(memory.form().recovery_step()).with_owner(owner);
    let in_transaction = lock.control().with_transaction(true);
    let changed = Some(Bytes::ALL);
    let _ = publish(memory, peers, lock.control(), undone, changed)
        || publish(memory, peers, in_transaction, undone, changed);
}
