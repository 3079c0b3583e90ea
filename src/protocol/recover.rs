//! What becomes of the locks of dead processes.
//!
//! A process holds its entry's byte of the file locked for as long as it lives. That byte tells a
//! thread that waits for a lock, or takes an entry, whether the owner is dead. If so, the thread
//! ends the locks that the entry holds. A transaction that the dead owner had committed is
//! completed; all else is undone.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::marks::Bytes;
use super::queue::{keep_bits, publish, wake};
use super::{Cell, Control, DRAFT, FREE, Form, Memory, Owner, Peers, TxnState, planted};

/// Whether no live process has this entry.
pub(super) fn try_share<P: Peers>(peers: &P, owner: Owner) -> bool {
    peers.one_at_a_time(|| {
        let shared = peers.share(owner);
        if shared {
            peers.unshare(owner);
        }
        shared
    })
}

/// Recovers the slot if `owner` is dead; false if it is alive.
pub(crate) fn recover_dead_owner<M: Memory, P: Peers>(memory: &M, peers: &P, owner: Owner) -> bool {
    peers.one_at_a_time(|| {
        if planted!(RecoverWithoutByte) {
            let seen = memory.control(Acquire);
            if !peers.share(owner) {
                return false;
            }
            peers.unshare(owner);
            if seen.owner() == owner {
                settle_seen(memory, peers, seen);
            }
            return true;
        }
        if !peers.share(owner) {
            return false;
        }
        settle(memory, peers, owner);
        peers.unshare(owner);
        true
    })
}

/// Ends the lock that `owner`, which is dead, holds on this slot: completes the update if its
/// transaction was committed, otherwise undoes it. The caller holds the owner's byte, so nobody can
/// have claimed the entry again.
pub(crate) fn settle<M: Memory, P: Peers>(memory: &M, peers: &P, owner: Owner) {
    // Acquire: T announces a draft or an area that is about to be read.
    let seen = memory.control(Acquire);
    if seen.owner() == owner {
        settle_seen(memory, peers, seen);
    }
}

fn settle_seen<M: Memory, P: Peers>(memory: &M, peers: &P, seen: Control) {
    // Acquire: COMMITTED announces all that was stored before it.
    let committed =
        seen.in_transaction() && peers.txn_word(seen.owner(), Acquire) == TxnState::Committed;
    let steps = if committed { 1 } else { memory.form().recovery_step() };
    let seen = seen.quiet();
    let settled = seen.advanced(steps).with_owner(FREE).with_transaction(false);
    if committed && memory.form() == Form::Scalar {
        settle_draft(memory, peers, seen, settled);
    } else {
        // Nobody knows any more what the owner has stored. (What was committed is marked.)
        publish(memory, peers, seen, settled, marked_by_recovery(memory));
    }
}

fn marked_by_recovery<M: Memory>(memory: &M) -> Option<Bytes> {
    if planted!(RecoveryMarksNothing) {
        return None;
    }
    if planted!(RecoveryMarksNoneOfItsOwn)
        && memory.marks().is_some_and(|(_, segments)| segments.each.is_some())
    {
        return None;
    }
    Some(Bytes::ALL)
}

/// Makes a scalar's draft its value if the control word is still `old`, apart from W, L and the state.
/// It was marked before the commit. Both words are quiet.
#[inline]
pub(super) fn settle_draft<M: Memory, P: Peers>(memory: &M, peers: &P, old: Control, new: Control) {
    // Relaxed: the draft was stored before T, which was acquired.
    let draft = memory.load(DRAFT, Relaxed);
    let mut seen = memory.cell();
    while seen.control.same(old) {
        let waits = seen.control.may_have_waiters();
        let control = if waits { keep_bits(memory, peers, seen.control, new) } else { new };
        // Release: a thread that sees the version sees all that the transaction did before.
        match memory.swap_cell(seen, Cell { value: draft, control }, Release) {
            Ok(()) => return wake(memory, seen.control, control),
            Err(now) => seen = now,
        }
    }
}

/// Takes an entry for the calling thread if it is free; first settles what a dead holder left.
/// `settle_all` calls [`settle`] with this owner on every slot and every lock of the store, and
/// returns whether it could. Runs under [`Peers::one_at_a_time`].
pub(crate) fn claim<P: Peers>(peers: &P, owner: Owner, settle_all: impl FnOnce() -> bool) -> bool {
    if !peers.share(owner) {
        return false;
    }
    // Acquire: FREE means that no slot names the entry, as its last holder left them.
    let left_behind =
        peers.txn_word(owner, Acquire) != TxnState::Free && !planted!(ClaimWithoutRecovery);
    // If only half is settled, the word must stay: it tells how to settle the rest.
    if left_behind && !settle_all() {
        peers.unshare(owner);
        return false;
    }
    // In one step, so that nobody else can claim between recovery and claim. Refused while another
    // process shares the byte, perhaps stopped forever: try the next entry.
    if !peers.promote(owner) {
        peers.unshare(owner);
        return false;
    }
    // Release: a thread that sees IDLE sees every slot settled.
    peers.set_txn_word(owner, TxnState::Idle, Release);
    true
}
