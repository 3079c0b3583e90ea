//! Reading several slots as they were at one instant.

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

/// Reads all these slots as they were at one instant, and returns their versions. `copy` is called
/// for each of them, and again for each that changed meanwhile.
///
/// After eight losses it also tries for the locks of slots that keep changing. It keeps those it
/// gets to the end, or until others take them away; it never waits for one.
pub(crate) fn snapshot<M: Memory, P: Peers>(
    peers: &P,
    slots: &[&M],
    mut copy: impl FnMut(usize, &M, Sample),
) -> Vec<u64> {
    let mut versions = vec![0; slots.len()];
    let mut changed: Vec<usize> = (0..slots.len()).collect();
    let mut held: Vec<ReadLock<'_, M, P>> = Vec::new();
    for losses in 0u32.. {
        for i in changed {
            let memory = slots[i];
            let control = planted!(SnapshotComparesControls).then(|| look(memory, peers));
            let (version, sample) = match memory.form() {
                Form::Areas(areas) => area(memory, peers, &areas),
                Form::Scalar | Form::Lock => {
                    let (value, version) = sample(memory, peers);
                    (version, Sample::Scalar(value))
                }
            };
            copy(i, memory, sample);
            versions[i] = control.unwrap_or(version);
        }
        // If none has changed, all of them were current when this look began.
        let seen = slots.iter().zip(&versions).map(|(memory, version)| (*memory, *version));
        changed = changed_since(peers, seen);
        if changed.is_empty() {
            return versions;
        }
        if losses >= M::LOSSES_BEFORE_LOCK {
            held.retain(ReadLock::is_held);
            held.extend(changed.iter().filter_map(|i| try_read_lock(slots[*i], peers)));
        }
    }
    unreachable!("the loop ends only by returning")
}

fn area<M: Memory, P: Peers>(memory: &M, peers: &P, areas: &Areas) -> (u64, Sample) {
    let version = effective_version(memory, peers);
    (version, Sample::Area(areas.of(version)))
}

/// The positions of the slots that are no longer at the version that was read. If there are none,
/// all that was read was current when this look began.
pub(crate) fn changed_since<'m, M: Memory + 'm, P: Peers>(
    peers: &P,
    seen: impl Iterator<Item = (&'m M, u64)>,
) -> Vec<usize> {
    if planted!(SnapshotWithoutRecheck) {
        return Vec::new();
    }
    let mut seen = seen.peekable();
    // Acquire: each version is checked again after everything was copied.
    if let Some((memory, _)) = seen.peek() {
        memory.fence(Acquire);
    }
    let changed = seen.enumerate().filter(|(_, (memory, v))| look(*memory, peers) != *v);
    changed.map(|(place, _)| place).collect()
}

fn look<M: Memory, P: Peers>(memory: &M, peers: &P) -> u64 {
    if planted!(SnapshotComparesControls) {
        memory.control(Acquire).quiet().bits()
    } else {
        effective_version(memory, peers)
    }
}
