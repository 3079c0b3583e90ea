//! Copying many slots as they are at one instant, while others write them.
//!
//! As live migration does it: copy what changed, with the readers' protocol; copy again
//! what changed meanwhile; in the later passes take the locks of the few that keep
//! changing, without ever waiting for one. Then look at the version of every slot, those
//! never copied too, and at the number of descriptors: if all are what they were when they
//! were copied, the copies are the state of the instant at which that look began. A stopped
//! writer's slot does not change, so it is never waited for.

use std::sync::atomic::Ordering::Acquire;

use crate::attach::Attachment;
use crate::checkpoint::{Tag, tag_of};
use crate::directory;
use crate::error::Result;
use crate::memory::SlotMemory;
use crate::protocol::{Memory, REMOVED, effective_version, try_lock};

/// Passes in which changed slots are only read; in later ones they are locked as well.
const READING_PASSES: usize = 4;
/// Passes before the cut is begun anew.
const PASSES: usize = 32;

/// What the slot is at this moment.
pub(crate) fn tag(memory: &SlotMemory, attachment: &Attachment) -> Tag {
    // Acquire: who sees a version sees what it is of.
    let control = memory.control(Acquire);
    if control.owner() == REMOVED {
        return tag_of(control);
    }
    effective_version(memory, attachment) << 1
}

/// Has `copy` copy those slots that are not what they were when `seen`, again and again,
/// until all are. `copy` is given their numbers, and notes what each was in `seen`
/// ([`UNKNOWN`](crate::checkpoint::UNKNOWN) if it changed meanwhile).
///
/// False if the cut must be begun anew: there are more than `lines` lines of descriptors
/// by now, or some slots do not come to rest and cannot be locked.
pub(crate) fn settle_copies<S>(
    attachment: &Attachment,
    slots: &[S],
    memory: impl Fn(&S) -> &SlotMemory,
    lines: u32,
    seen: &mut [Tag],
    mut copy: impl FnMut(&[usize], &mut [Tag]) -> Result<()>,
) -> Result<bool> {
    let mut held = Vec::new();
    for pass in 0..PASSES {
        let changed: Vec<usize> =
            (0..slots.len()).filter(|i| tag(memory(&slots[*i]), attachment) != seen[*i]).collect();
        if changed.is_empty() {
            return Ok(directory::count(attachment)? == lines);
        }
        if pass >= READING_PASSES {
            held.extend(changed.iter().filter_map(|i| try_lock(memory(&slots[*i]), attachment)));
        }
        copy(&changed, seen)?;
    }
    Ok(false)
}
