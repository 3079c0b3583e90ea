//! Reading and updating a scalar: one compare-exchange of value and control word.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::array::effective_version;
use super::control::State;
use super::marks::{Bytes, mark_all_of, prepare};
use super::queue::{Waiting, pass_on_wake_up, wake};
use super::read_lock::try_read_lock;
use super::{Cell, DRAFT, Deadline, FREE, Failure, Memory, Peers, REMOVED, TxnState, planted};

/// Replaces the value by `f` of it, atomically; `f` may run more than once. If `f` returns `None`,
/// nothing changes. Returns the previous value, in `Ok` if it was replaced; `None` if somebody
/// holds the slot's lock, or if this is the first update after a sync: see [`update_locked`].
///
/// Lock-free.
#[inline]
pub(crate) fn update_scalar<M: Memory>(
    memory: &M,
    mut f: impl FnMut(u64) -> Option<u64>,
) -> Option<Result<u64, u64>> {
    loop {
        let seen = memory.cell();
        if !seen.control.is_free_and_dirty() {
            return None;
        }
        let Some(value) = f(seen.value) else {
            return Some(Err(seen.value));
        };
        let control = seen.control.advanced(1).with_waiters(false).with_transaction(false);
        // Acquire and release: an update comes after the one it replaces, and publishes all that
        // its thread did before.
        match memory.swap_cell(seen, Cell { value, control }, AcqRel) {
            Ok(()) => {
                wake(memory, seen.control, control);
                return Some(Ok(seen.value));
            }
            // The value in the error is old after the pauses.
            Err(_) => (0..M::PAUSES_AFTER_LOSS).for_each(|_| memory.relax()),
        }
    }
}

/// Like [`update_scalar`], but waits for the slot's lock if somebody holds it, and marks the slot's
/// segment if it is clean. `guarded`: whether
/// this thread holds it through a guard, which lets its own updates through.
#[cold]
#[inline(never)]
pub(crate) fn update_locked<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    deadline: &mut Deadline,
    guarded: impl Fn() -> bool,
    mut f: impl FnMut(u64) -> Option<u64>,
) -> Result<Result<u64, u64>, Failure<P::Error>> {
    let mut waiting = Waiting::new(memory);
    loop {
        let mut seen = memory.cell();
        match seen.control.owner() {
            FREE if waiting.may_take(seen.control) => {}
            REMOVED => return Err(Failure::Removed),
            owner if owner != FREE && peers.is_me(owner) => {
                // `f` has forked, or has locked the slot.
                if !guarded() {
                    return Err(Failure::Deadlock);
                }
            }
            _ => {
                waiting.wait(memory, peers, seen.control, deadline)?;
                continue;
            }
        }
        let is_free = seen.control.owner() == FREE;
        let value = f(seen.value);
        if !is_free && !peers.is_me(seen.control.owner()) {
            continue; // `f` has forked
        }
        let state = seen.control.state();
        if value.is_some() && !planted!(CommitKeepsState) {
            match prepare(memory, seen.control, Some(Bytes::ALL)) {
                Ok(prepared) => seen.control = prepared,
                Err(_) => continue,
            }
        }
        let control = seen.control.advanced(1).with_waiters(false).with_transaction(false);
        let control =
            if planted!(CommitKeepsState) { control } else { control.with_state(State::Dirty) };
        // If the lock was handed over, this takes and releases it in one step.
        let control = if is_free { control.with_lock_waiters(false) } else { control };
        let result = match value {
            // Acquire and release: as above.
            Some(value) => match memory.swap_cell(seen, Cell { value, control }, AcqRel) {
                Ok(()) => {
                    if planted!(MarkedAfterTheCommit) && state != State::Dirty {
                        mark_all_of(memory, Some(Bytes::ALL));
                    }
                    wake(memory, seen.control, control);
                    Ok(seen.value)
                }
                Err(_) => continue,
            },
            None => Err(seen.value),
        };
        if waiting.owes_wake_up(memory) {
            pass_on_wake_up(memory);
        }
        return Ok(result);
    }
}

/// The value. Never waits for a writer.
#[inline]
pub(crate) fn load_scalar<M: Memory, P: Peers>(memory: &M, peers: &P) -> u64 {
    let seen = memory.cell();
    match seen.control.in_transaction() {
        false => seen.value,
        true => sample_in_transaction(memory, peers, seen).0,
    }
}

/// The value and its version.
pub(crate) fn load_scalar_versioned<M: Memory, P: Peers>(memory: &M, peers: &P) -> (u64, u64) {
    let mut lock = None;
    for losses in 0u32.. {
        let (value, version) = sample(memory, peers);
        // The second look comes after the value: that was acquired or, if it was a draft, is
        // followed by a fence.
        if effective_version(memory, peers) == version {
            return (value, version);
        }
        drop(lock.take());
        if losses >= M::LOSSES_BEFORE_LOCK {
            lock = try_read_lock(memory, peers);
        }
        if lock.is_none() {
            memory.relax();
        }
    }
    unreachable!("the loop ends only by returning")
}

/// The value and a version at which it was current; the value may be newer.
#[inline]
pub(super) fn sample<M: Memory, P: Peers>(memory: &M, peers: &P) -> (u64, u64) {
    let seen = memory.cell();
    match seen.control.in_transaction() {
        false => (seen.value, seen.control.version()),
        true => sample_in_transaction(memory, peers, seen),
    }
}

/// The same, of a slot that was `seen` in a transaction.
#[cold]
fn sample_in_transaction<M: Memory, P: Peers>(memory: &M, peers: &P, mut seen: Cell) -> (u64, u64) {
    loop {
        let version = seen.control.version();
        if !seen.control.in_transaction() {
            return (seen.value, version);
        }
        // Acquire: a thread that sees COMMITTED sees the draft that this commits.
        let (value, version) = match peers.txn_word(seen.control.owner(), Acquire) {
            // Relaxed: the fence below orders it.
            TxnState::Committed => (memory.load(DRAFT, Relaxed), super::control::next(version)),
            TxnState::Idle | TxnState::Free => (seen.value, version),
        };
        // Acquire: the control word is read after the draft. If it is unchanged, the transaction
        // word that was read was this transaction's, and so was the draft.
        memory.fence(Acquire);
        if planted!(DraftWithoutRecheck) || memory.control(Relaxed).same(seen.control) {
            return (value, version);
        }
        memory.relax();
        seen = memory.cell();
    }
}
