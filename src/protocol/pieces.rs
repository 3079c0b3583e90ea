//! Reading beside writers that cannot be kept waiting.
//!
//! Who may not lock cannot make writers hold off, and a large array takes longer to copy than
//! it takes two small updates to come by. So it follows the updates: it copies piece by piece,
//! each from the area that is current by then, and looks after each at what has changed since the
//! look before. That is the stale range of the area that was current then: where, at
//! most, it differs from the one that is current now. What it has of those words, it copies again.
//! When no word is missing after a look, it has the content of the version that it saw there.

use std::sync::atomic::Ordering::Relaxed;

use super::array::{effective_version, validate_read};
use super::stale::{Range, Ranges};
use super::{Areas, Memory, Peers, STALE, control, planted};

/// Fills `out` from byte `at` of the content; returns the version that it is of.
///
/// It does not end while, each time again, more than K updates come in the time that a piece
/// takes, as then nobody knows what they have changed; or while more changes than it can copy.
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
    let mut place = 0;
    let mut version = effective_version(memory, peers);
    while let Some(piece) = missing.take(place, M::PIECE) {
        place = piece.to;
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

/// Which words, at most, have changed from this version to the one that was seen after it; all
/// of them where that is not known any more.
fn changed_after<M: Memory>(memory: &M, areas: &Areas, version: u64) -> Range {
    let place = STALE + areas.number(version) as usize;
    // Relaxed: the fence of `validate_read` pairs with the writer's release. If this is the range of a
    // later update, which knows nothing of those before it, the control word seen after the fence
    // is at least that one's lock.
    let changed = Range::from_bits(memory.load(place, Relaxed), areas.words);
    if planted!(FollowerMissesChange) {
        return Range::NONE;
    }
    // The first update that puts a new range there begins K versions later: as the first that
    // stores into the area of the version before this one does, one later.
    if validate_read(memory, areas, control::next(version)) || planted!(FollowerTrustsRange) {
        return changed;
    }
    Range { from: 0, to: areas.words }
}
