//! Reading slots that have areas: arrays, texts, bytes. (`Held::commit` updates them.)

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::pieces::read_by_pieces;
use super::read_lock::lock_to_read;
use super::{Areas, Control, FREE, Memory, Peers, TxnState, control, lead, planted};

/// Private memory that a read fills.
pub(crate) trait Destination<M> {
    /// Fills all of it, from `skip` bytes after `word`.
    fn fill(&mut self, memory: &M, word: usize, skip: usize);
    /// Its bytes: after a `fill`, what that has copied.
    fn bytes(&mut self) -> &mut [u8];
}

impl<M: Memory> Destination<M> for [u8] {
    #[inline]
    fn fill(&mut self, memory: &M, word: usize, skip: usize) {
        memory.read(word, skip, self);
    }

    fn bytes(&mut self) -> &mut [u8] {
        self
    }
}

/// Calls `copy` with the first word of the current area until what it copied is whole; returns the
/// version of the copy. `copy` runs once, and again each time that a writer was faster. Never waits
/// for a writer, except that after many losses it tries for the lock for about the time of a copy.
/// With the lock, it keeps writers waiting while it copies.
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

/// Like [`read`], but fills `out` from byte `at` of the content. After many losses, a reader that
/// may not lock follows the updates, see `pieces.rs`.
#[inline]
pub(crate) fn read_bytes<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    areas: &Areas,
    at: usize,
    out: &mut (impl Destination<M> + ?Sized),
) -> u64 {
    let copy = |memory: &M, area| out.fill(memory, area, at);
    match try_to_read(memory, peers, areas, copy) {
        Some(version) => version,
        None if planted!(LargeReadsBeginAnew) => {
            read(memory, peers, areas, |memory, area| out.fill(memory, area, at))
        }
        None => read_by_pieces(memory, peers, areas, at, out.bytes()),
    }
}

/// Like [`read`]; `None` if writers were faster many times and this reader may not lock.
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
        // Also under the lock, since anybody may have taken it away.
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

/// Whether no writer can have stored into the area of this version while it was copied.
#[inline]
pub(crate) fn validate_read<M: Memory>(memory: &M, areas: &Areas, version: u64) -> bool {
    // Acquire: pairs with the writer's release fence. If the copy saw a word of a later update, the
    // control word read next is at least that update's lock.
    memory.fence(Acquire);
    let now = memory.control(Relaxed);
    // -1: from a transaction that is committed, but not yet settled on this slot.
    let lead = lead(now.version(), version);
    let last = areas.count as i64 - 1;
    let nobody_stores = || now.owner() == FREE || now.is_read_lock();
    lead < last || (lead == last && (nobody_stores() || planted!(ReaderAcceptsTorn)))
}

/// The version that counts: already the next one if the slot is in a transaction that is committed,
/// but not yet settled on this slot.
#[inline]
pub(crate) fn effective_version<M: Memory, P: Peers>(memory: &M, peers: &P) -> u64 {
    look(memory, peers).1
}

/// The control word, and the version that counted at that moment.
#[inline]
pub(super) fn look<M: Memory, P: Peers>(memory: &M, peers: &P) -> (Control, u64) {
    // Acquire: a reader that sees the version sees the area, or the value, it makes current.
    let seen = memory.control(Acquire);
    match seen.in_transaction() {
        false => (seen, seen.version()),
        true => look_in_transaction(memory, peers, seen),
    }
}

/// The same, of a slot that was `seen` in a transaction.
#[cold]
fn look_in_transaction<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    mut seen: Control,
) -> (Control, u64) {
    loop {
        if !seen.in_transaction() {
            return (seen, seen.version());
        }
        // Acquire: a reader that sees COMMITTED sees the areas that this commits; and the second
        // look at the control word comes after it.
        let word = peers.txn_word(seen.owner(), Acquire);
        // Unchanged: the transaction word that was read was this transaction's, not a later one's.
        if planted!(NoSecondLookAtControl) || memory.control(Relaxed).same(seen) {
            return match word {
                TxnState::Committed => (seen, control::next(seen.version())),
                TxnState::Idle | TxnState::Free => (seen, seen.version()),
            };
        }
        memory.relax();
        // Acquire: as above.
        seen = memory.control(Acquire);
    }
}
