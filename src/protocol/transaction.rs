//! Committing several slots with one word.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::lock::{FailureOf, Held, Lockable};
use super::queue::publish;
use super::recover::settle_draft;
use super::{Areas, Control, DRAFT, FREE, Failure, Memory, Owner, Peers, TxnState, planted};

/// What a transaction does to one slot.
pub(crate) enum Change<'d> {
    /// Replaces a scalar.
    Scalar(u64),
    /// Replaces the bytes from byte `at` of the current area.
    Area { areas: Areas, at: usize, data: &'d [u8] },
}

/// Commits the changes of all these slots, which this thread has locked, at once. From here on only
/// a death can interrupt it, and those that recover then finish it. (The child of a fork has no
/// locks to commit under and gets [`Failure::Evicted`] at once. So does a thread whose lock was
/// taken away, which the protocol never does to a live one.)
pub(crate) fn commit_all<L: Lockable>(
    peers: &L::Peers,
    me: Owner,
    changes: Vec<(Held<L>, Change<'_>)>,
) -> Result<(), FailureOf<L>> {
    if changes.iter().any(|(held, _)| !held.may_store()) {
        return Err(Failure::Evicted);
    }
    for (held, change) in &changes {
        match change {
            Change::Area { .. } if planted!(AreasFilledAfterTheCommit) => {}
            Change::Area { areas, at, data } => held.fill(areas, *at, data),
            Change::Scalar(value) => {
                // Release: a thread that sees the draft sees the lock under which it was stored.
                held.memory().fence(Release);
                held.memory().store(DRAFT, *value, Relaxed);
            }
        }
    }
    if planted!(CommittedBeforeT) {
        peers.set_word(me, TxnState::Committed, Release);
    }
    if !changes.iter().all(|(held, _)| set_transaction(held.memory(), held.control())) {
        changes.iter().for_each(|(held, _)| undo(held));
        return Err(Failure::Evicted);
    }
    // The commit point. Release: a thread that sees it sees every draft and every area.
    peers.set_word(me, TxnState::Committed, Release);
    if planted!(IdleBeforeSettling) {
        peers.set_word(me, TxnState::Idle, Release);
    }
    for (held, change) in &changes {
        let old = held.control().with_transaction(true);
        let new = held.committed();
        // Does nothing if the word has changed: a process that took us for dead has seen the
        // commit, and has settled it in the same way.
        match change {
            Change::Scalar(_) => settle_draft(held.memory(), peers, old, new),
            Change::Area { areas, at, data } => {
                if planted!(AreasFilledAfterTheCommit) {
                    held.fill(areas, *at, data);
                }
                publish(held.memory(), peers, old, new);
            }
        }
    }
    // Release: a thread that sees IDLE sees every slot settled.
    peers.set_word(me, TxnState::Idle, Release);
    Ok(())
}

/// Sets T, and keeps W, which others may set at any time. False if the lock is lost.
fn set_transaction<M: Memory>(memory: &M, locked: Control) -> bool {
    let mut seen = locked;
    // Release: a thread that sees T sees the draft, or the area, that it announces.
    while let Err(now) = memory.swap_control(seen, seen.with_transaction(true), Release) {
        if !now.same(locked) {
            return false;
        }
        seen = now;
    }
    true
}

/// Ends the lock and discards what was stored under it, as a recovery does.
fn undo<L: Lockable>(held: &Held<L>) {
    let (memory, peers) = (held.memory(), held.peers());
    let keeps = !held.is_own() && !planted!(UndoFreesGuard);
    let owner = if keeps { held.owner() } else { FREE };
    let undone = held.control().advanced(memory.form().recovery_step()).with_owner(owner);
    let in_transaction = held.control().with_transaction(true);
    let _ = publish(memory, peers, held.control(), undone)
        || publish(memory, peers, in_transaction, undone);
}
