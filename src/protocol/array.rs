//! Reading what has areas: arrays, texts, bytes. (Their updates are `Held::commit`.)

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::pieces::read_by_pieces;
use super::read_lock::lock_to_read;
use super::{Areas, Control, FREE, Memory, Peers, TxnState, control, lead, planted};

/// Lets `copy` copy from the current area, whose first word it is given, until what
/// it copied is whole; returns the version that it is of. `copy` runs once, or again
/// after each time that writers were faster. Never waits for a writer, but for the time of a copy
/// after many losses; from then on it keeps them waiting while it copies.
#[inline]
pub(crate) fn read<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    areas: &Areas,
    mut copy: impl FnMut(&M, usize),
) -> u64 {
    loop {
        if let Some(version) = try_to_read(memory, peers, areas, &mut copy) {
            return version;
        }
    }
}

/// The same: fills `out` from byte `at` of the content. Who may not lock follows the updates
/// after many losses, see `pieces.rs`.
#[inline]
pub(crate) fn read_bytes<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    areas: &Areas,
    at: usize,
    out: &mut [u8],
) -> u64 {
    let copy = |memory: &M, area| memory.read(area, at, out);
    match try_to_read(memory, peers, areas, copy) {
        Some(version) => version,
        None => read_by_pieces(memory, peers, areas, at, out),
    }
}

/// As [`read`]; `None` if writers were faster many times, and this one may not lock.
#[inline]
fn try_to_read<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    areas: &Areas,
    mut copy: impl FnMut(&M, usize),
) -> Option<u64> {
    let mut lock = None;
    for losses in 0u32.. {
        let version = effective_version(memory, peers);
        copy(memory, areas.of(version));
        // Under the lock, too, which anybody may have taken away.
        let trusts_lock = planted!(ReadLockIsTrusted) && lock.is_some();
        if trusts_lock || validate_read(memory, areas, version) {
            return Some(version);
        }
        lock = None;
        if losses >= M::LOSSES_BEFORE_LOCK {
            if peers.me().is_err() {
                return None;
            }
            lock = lock_to_read(memory, peers, areas.words);
        }
        if lock.is_none() {
            memory.relax();
        }
    }
    unreachable!("the loop ends only by returning")
}

/// Whether no writer can have stored into the area of this version before what was
/// copied from it until now.
#[inline]
pub(crate) fn validate_read<M: Memory>(memory: &M, areas: &Areas, version: u64) -> bool {
    // Acquire: pairs with the writer's release fence. If the copy saw a word of a
    // later update, the control word seen next is at least that update's lock.
    memory.fence(Acquire);
    let now = memory.control(Relaxed);
    // -1: of a transaction that is committed, but not yet settled on this slot.
    let lead = lead(now.version(), version);
    let last = areas.count as i64 - 1;
    let nobody_stores = || now.owner() == FREE || now.is_read_lock();
    lead < last || (lead == last && (nobody_stores() || planted!(ReaderAcceptsTorn)))
}

/// The version that counts: the next one already if the slot is in a transaction
/// that is committed, though not yet settled on this slot.
#[inline]
pub(crate) fn effective_version<M: Memory, P: Peers>(memory: &M, peers: &P) -> u64 {
    look(memory, peers).1
}

/// The control word, and the version that counted while it was that.
#[inline]
pub(super) fn look<M: Memory, P: Peers>(memory: &M, peers: &P) -> (Control, u64) {
    loop {
        // Acquire: who sees the version sees the area, or the value, it makes current.
        let seen = memory.control(Acquire);
        if !seen.in_transaction() {
            return (seen, seen.version());
        }
        // Acquire: who sees COMMITTED sees the areas it commits; and the second look
        // at the control word comes after it.
        let word = peers.word(seen.owner(), Acquire);
        // The same: the word that was read was this transaction's, not a later one's.
        if planted!(NoSecondLookAtControl) || memory.control(Relaxed).same(seen) {
            return match word {
                TxnState::Committed => (seen, control::next(seen.version())),
                TxnState::Idle | TxnState::Free => (seen, seen.version()),
            };
        }
        memory.relax();
    }
}
