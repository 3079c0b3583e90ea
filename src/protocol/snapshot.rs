//! Reading several slots as they were at one instant.

use std::borrow::Borrow;
use std::sync::atomic::Ordering::Acquire;

use super::array::effective_version;
use super::read_lock::{ReadLock, try_read_lock};
use super::scalar::sample;
use super::{Areas, Form, Memory, Peers, planted};

/// Where a snapshot finds a slot's content.
pub(crate) enum Sample {
    /// The value itself.
    Scalar(u64),
    /// The first word of the area to copy.
    Area(usize),
}

/// Reads several slots as they were at one instant, and fills in their versions: `slot` returns
/// each by its position. `copy` is called for each of them, and again for each that changed
/// meanwhile.
///
/// After eight losses it also tries for the locks of slots that keep changing. It keeps those it
/// gets to the end, or until others take them away; it never waits for one.
pub(crate) fn snapshot<'m, M: Memory + 'm, P: Peers>(
    peers: &P,
    versions: &mut [u64],
    slot: impl Fn(usize) -> &'m M,
    mut copy: impl FnMut(usize, &M, Sample),
) {
    let mut held: Vec<ReadLock<'_, M, P>> = Vec::new();
    versions.fill(CHANGED);
    for losses in 0u32.. {
        for (i, version) in versions.iter_mut().enumerate() {
            if *version == CHANGED {
                let memory = slot(i);
                let control = planted!(SnapshotComparesControls).then(|| look(memory, peers));
                let (of, sample) = match memory.form() {
                    Form::Areas(areas) => area(memory, peers, &areas),
                    Form::Scalar | Form::Lock => {
                        let (value, version) = sample(memory, peers);
                        (version, Sample::Scalar(value))
                    }
                };
                copy(i, memory, sample);
                *version = control.unwrap_or(of);
            }
        }
        let seen = versions.iter_mut().enumerate().map(|(i, version)| (slot(i), version));
        if !have_changed(peers, seen, |version| *version = CHANGED) {
            return;
        }
        if losses >= M::LOSSES_BEFORE_LOCK {
            held.retain(ReadLock::is_held);
            let changed = (0..versions.len()).filter(|i| versions[*i] == CHANGED);
            held.extend(changed.filter_map(|i| try_read_lock(slot(i), peers)));
        }
    }
    unreachable!("the loop ends only by returning")
}

/// In place of a version: the slot must be read, or read again. (A version has 47 bits.)
const CHANGED: u64 = u64::MAX;

#[inline]
fn area<M: Memory, P: Peers>(memory: &M, peers: &P, areas: &Areas) -> (u64, Sample) {
    let version = effective_version(memory, peers);
    (version, Sample::Area(areas.of(version)))
}

/// Whether any of these slots is no longer at the version beside it, which was read. If not, all
/// that was read was current when this look began. Calls `note` with the version of each that has
/// changed.
pub(crate) fn have_changed<'m, M: Memory + 'm, P: Peers, V: Borrow<u64>>(
    peers: &P,
    seen: impl Iterator<Item = (&'m M, V)>,
    note: impl Fn(V),
) -> bool {
    if planted!(SnapshotWithoutRecheck) {
        return false;
    }
    let (mut first, mut changed) = (true, false);
    for (memory, version) in seen {
        if first {
            // Acquire: each version is checked again after everything was copied.
            memory.fence(Acquire);
            first = false;
        }
        if look(memory, peers) != *version.borrow() {
            changed = true;
            note(version);
        }
    }
    changed
}

#[inline]
fn look<M: Memory, P: Peers>(memory: &M, peers: &P) -> u64 {
    if planted!(SnapshotComparesControls) {
        memory.control(Acquire).quiet().bits()
    } else {
        effective_version(memory, peers)
    }
}
