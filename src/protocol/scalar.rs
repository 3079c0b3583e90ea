//! Reading and updating a scalar: one compare-exchange of value and control word.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::array::effective_version;
use super::lock::{wait_for_owner, wake_if_waiting};
use super::read_lock::try_read_lock;
use super::{
    Cell, Control, DRAFT, FREE, Failure, Form, Memory, Patience, Peers, REMOVED, Word, planted,
};

/// Replaces the value by `f` of it, atomically; `f` may run more than once. Where
/// `f` has nothing to store, nothing changes. Returns the value before, in `Ok` if
/// it was replaced.
///
/// Lock-free, but where somebody holds the slot's lock. `guarded`: this thread
/// holds it through a guard, under which its own updates go through.
#[inline]
pub(crate) fn update_scalar<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    patience: &mut Patience,
    guarded: impl Fn() -> bool,
    mut f: impl FnMut(u64) -> Option<u64>,
) -> Result<Result<u64, u64>, Failure> {
    let mut seen = memory.cell();
    loop {
        let owner = seen.control.owner();
        if owner != FREE && !(owner != REMOVED && peers.is_me(owner) && guarded()) {
            wait_until_free(memory, peers, seen.control, patience)?;
            seen = memory.cell();
            continue;
        }
        let Some(value) = f(seen.value) else {
            return Ok(Err(seen.value));
        };
        // `f` may have forked: then the child is here, too, without its parent's lock.
        if owner != FREE && !peers.is_me(owner) {
            seen = memory.cell();
            continue;
        }
        let control = seen.control.advanced(1).with_waiters(false).with_transaction(false);
        // Acquire and release: an update comes after what it replaces, and brings
        // along all that its thread did before.
        match memory.swap_cell(seen, Cell { value, control }, AcqRel) {
            Ok(()) => {
                wake_if_waiting(memory, seen.control);
                return Ok(Ok(seen.value));
            }
            // What it has now is old after the pauses.
            Err(_) => {
                (0..M::PAUSES_AFTER_LOSS).for_each(|_| memory.relax());
                seen = memory.cell();
            }
        }
    }
}

#[cold]
fn wait_until_free<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    mut seen: Control,
    patience: &mut Patience,
) -> Result<(), Failure> {
    loop {
        match seen.owner() {
            FREE => return Ok(()),
            REMOVED => return Err(Failure::Removed),
            owner if peers.is_me(owner) => return Err(Failure::Deadlock),
            _ => wait_for_owner(memory, peers, Form::Scalar, seen, patience)?,
        }
        seen = memory.control(Relaxed);
    }
}

/// The value. Never waits for a writer.
#[inline]
pub(crate) fn load_scalar<M: Memory, P: Peers>(memory: &M, peers: &P) -> u64 {
    let seen = memory.cell();
    if !seen.control.in_transaction() { seen.value } else { sample(memory, peers).0 }
}

/// The value and the version it is of.
pub(crate) fn load_scalar_versioned<M: Memory, P: Peers>(memory: &M, peers: &P) -> (u64, u64) {
    let mut lock = None;
    for losses in 0u32.. {
        let (value, version) = sample(memory, peers);
        // The second look comes after the value, which was acquired, or, if it was a
        // draft, has a fence behind it.
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

/// The value and a version at which it was current, or which it is newer than.
#[cold]
pub(super) fn sample<M: Memory, P: Peers>(memory: &M, peers: &P) -> (u64, u64) {
    loop {
        let seen = memory.cell();
        let version = seen.control.version();
        if !seen.control.in_transaction() {
            return (seen.value, version);
        }
        // Acquire: who sees COMMITTED sees the draft it commits.
        let (value, version) = match peers.word(seen.control.owner(), Acquire) {
            // Relaxed: the fence below orders it.
            Word::Committed => (memory.load(DRAFT, Relaxed), super::control::next(version)),
            Word::Idle | Word::Free => (seen.value, version),
        };
        // Acquire: the control word is looked at after the draft was loaded. If it is
        // the same, the word that was read was this transaction's, and the draft too.
        memory.fence(Acquire);
        if planted!(DraftWithoutRecheck) || memory.control(Relaxed).same(seen.control) {
            return (value, version);
        }
        memory.relax();
    }
}
