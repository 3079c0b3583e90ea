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
use crate::cell::CellRegion;
use crate::checkpoint::{Tag, tag_of};
use crate::directory;
use crate::dtype::SlotType;
use crate::element::ElementRegion;
use crate::error::Result;
use crate::layout::Descriptor;
use crate::map::Region;
use crate::protocol::{self, Areas, Form, Held, Memory, REMOVED, effective_version};

/// Passes in which changed slots are only read; in later ones they are locked as well.
const READING_PASSES: usize = 4;
/// Passes before the cut is begun anew.
const PASSES: usize = 32;

/// A slot's memory, of the kind that its form needs.
#[derive(Debug)]
pub(crate) enum SlotMemory {
    Scalar(CellRegion),
    Areas(Region, Areas),
    /// Has no part in the cut but its version, and whether it was removed: its content is
    /// copied when all else has come to rest, so that all that was stored before the cut is
    /// there.
    Buffer(Region, ElementRegion),
}

/// A slot's lock, held for its drop.
enum AnyHeld<'a> {
    Scalar(#[expect(dead_code)] Held<'a, CellRegion, Attachment>),
    Areas(#[expect(dead_code)] Held<'a, Region, Attachment>),
}

impl SlotMemory {
    /// The memory of this slot.
    pub(crate) fn new(descriptor: &Descriptor, region: Region) -> SlotMemory {
        match (descriptor.form(), &descriptor.slot_type) {
            (Form::Areas(areas), SlotType::Buffer(t, shape)) => {
                let elements = ElementRegion::new(&region, &areas, *t, shape.len());
                SlotMemory::Buffer(region, elements)
            }
            (Form::Areas(areas), _) => SlotMemory::Areas(region, areas),
            (Form::Scalar | Form::Lock, _) => SlotMemory::Scalar(CellRegion::new(region)),
        }
    }

    /// What the slot is at this moment.
    pub(crate) fn tag(&self, attachment: &Attachment) -> Tag {
        fn tag<M: Memory>(memory: &M, attachment: &Attachment) -> Tag {
            // Acquire: who sees a version sees what it is of.
            let control = memory.control(Acquire);
            // The usual case, with one load: a sync asks this of every slot.
            if !control.in_transaction() || control.owner() == REMOVED {
                return tag_of(control);
            }
            effective_version(memory, attachment) << 1
        }
        match self {
            SlotMemory::Scalar(cell) => tag(cell, attachment),
            SlotMemory::Areas(region, _) | SlotMemory::Buffer(region, _) => tag(region, attachment),
        }
    }

    /// The slot's lock, if it is free.
    fn try_lock<'a>(&'a self, attachment: &'a Attachment) -> Option<AnyHeld<'a>> {
        match self {
            SlotMemory::Scalar(cell) => protocol::try_lock(cell, attachment).map(AnyHeld::Scalar),
            SlotMemory::Areas(region, _) | SlotMemory::Buffer(region, _) => {
                protocol::try_lock(region, attachment).map(AnyHeld::Areas)
            }
        }
    }
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
            (0..slots.len()).filter(|i| memory(&slots[*i]).tag(attachment) != seen[*i]).collect();
        if changed.is_empty() {
            return Ok(directory::count(attachment)? == lines);
        }
        if pass >= READING_PASSES {
            held.extend(changed.iter().filter_map(|i| memory(&slots[*i]).try_lock(attachment)));
        }
        copy(&changed, seen)?;
    }
    Ok(false)
}
