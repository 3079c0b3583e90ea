//! Reading beside writers that cannot be kept waiting.
//!
//! A reader that may not lock cannot make writers wait, and copying a large array takes longer than
//! two small updates. So it follows the updates. It copies piece by piece, each from the area that
//! is current by then. After each piece it looks at the stale range of the area that was current at
//! its last look. That range covers all that has changed since. It copies again the words of the
//! range that it already has. When no word is missing after a look, it has the content of the
//! version that it saw there.

use std::sync::atomic::Ordering::Relaxed;

use super::array::{effective_version, validate_read};
use super::stale::{Range, Ranges};
use super::{Areas, Memory, Peers, STALE, control, planted};

/// Fills `out` from byte `at` of the content; returns the version of what it read.
///
/// It does not end while more than K updates come during every piece, as it then cannot tell what
/// they changed; nor while words change faster than it can copy.
#[cold]
pub(crate) fn read_by_pieces<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    areas: &Areas,
    at: usize,
    out: &mut [u8],
) -> u64 {
    let end = at + out.len();
    let all = Range::of_bytes(at, out.len());
    let mut missing = Ranges::default();
    missing.insert(all);
    let mut next = 0;
    let mut version = effective_version(memory, peers);
    while let Some(piece) = missing.take(next, M::PIECE) {
        next = piece.to;
        let (from, to) = ((8 * piece.from).max(at), (8 * piece.to).min(end));
        memory.read(areas.of(version), from, &mut out[from - at..to - at]);
        if !validate_read(memory, areas, version) {
            missing.insert(piece);
        }
        let now = effective_version(memory, peers);
        if now != version {
            missing.insert(changed_after(memory, areas, version).and(all));
            version = now;
        }
    }
    version
}

/// The words that, at most, have changed between this version and the one seen after it; all words
/// if that is no longer known.
fn changed_after<M: Memory>(memory: &M, areas: &Areas, version: u64) -> Range {
    let stale = STALE + areas.number(version) as usize;
    // Relaxed: the fence of `validate_read` pairs with the writer's release. If this is the range
    // of a later update, which does not include earlier ones, the control word seen after the fence
    // is at least that update's lock.
    let changed = Range::from_bits(memory.load(stale, Relaxed), areas.words);
    if planted!(FollowerMissesChange) {
        return Range::NONE;
    }
    // The first update that puts a new range there begins K versions later: one after the first
    // update that stores into the area of the version before this one.
    if validate_read(memory, areas, control::next(version)) || planted!(FollowerTrustsRange) {
        return changed;
    }
    Range { from: 0, to: areas.words }
}
