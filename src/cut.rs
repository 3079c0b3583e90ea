//! Copying many slots as they are at one instant, while others write them.
//!
//! As live migration does it: copy what changed, with the readers' protocol; copy again
//! what changed meanwhile; in the later passes take the locks of the few that keep
//! changing, without ever waiting for one. Then look at the version of every slot, those
//! never copied too, and at the number of descriptors: if all are what they were when they
//! were copied, the copies are the state of the instant at which that look began. A stopped
//! writer's slot does not change, so it is never waited for.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use crate::attach::Attachment;
use crate::cell;
use crate::checkpoint::{Tag, UNKNOWN, tag_of};
use crate::directory;
use crate::dtype::SlotType;
use crate::element::ElementRegion;
use crate::error::Result;
use crate::layout::Descriptor;
use crate::map::{Map, Region};
use crate::memory::AnyMemory;
use crate::protocol::{self, Control, Form, Memory, REMOVED, effective_version};

/// Passes in which changed slots are only read; in later ones they are locked as well.
const READING_PASSES: usize = 4;
/// Passes before the cut is begun anew.
const PASSES: usize = 32;

/// What the slot is at this moment.
fn tag(memory: &impl Memory, attachment: &Attachment) -> Tag {
    // Acquire: who sees a version sees what it is of.
    tag_at_rest(memory.control(Acquire))
        .unwrap_or_else(|| effective_version(memory, attachment) << 1)
}

/// What a slot with this control word is; `None`: others' words have a say in it.
#[inline]
fn tag_at_rest(control: Control) -> Option<Tag> {
    let at_rest = !control.in_transaction() || control.owner() == REMOVED;
    at_rest.then(|| tag_of(control))
}

/// The elements of a buffer; `None` for any other slot. A buffer has no part in the cut but its
/// version, and whether it was removed: its content is copied when all else has come to rest,
/// so that all that was stored before the cut is there.
pub(crate) fn elements(descriptor: &Descriptor, region: &Region) -> Option<ElementRegion> {
    match (&descriptor.slot_type, descriptor.form()) {
        (SlotType::Buffer(t, shape), Form::Areas(areas)) => {
            Some(ElementRegion::new(region, &areas, *t, shape.len()))
        }
        _ => None,
    }
}

/// The slots that are copied together, by number.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) memories: Memories,
    /// What each was when it was last copied; [`UNKNOWN`] if it never was, or changed
    /// meanwhile.
    pub(crate) seen: Vec<Tag>,
    /// Those that were copied the last time, in ascending order.
    lately: Vec<usize>,
}

/// Their memories.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    all: Vec<AnyMemory<Arc<Map>>>,
    /// Where each is in the file, and so much of the file as has all of them. Of a slot that
    /// has not changed, and of many nearly none has, only the control word is touched.
    places: Vec<u64>,
    file: Option<Region>,
}

impl Memories {
    pub(crate) fn get(&self, number: usize) -> &AnyMemory<Arc<Map>> {
        &self.all[number]
    }

    /// What a slot is at this moment.
    pub(crate) fn tag(&self, attachment: &Attachment, number: usize) -> Tag {
        let file = self.file.as_ref().expect("it came with the first slot");
        tag_at_rest(cell::control_at(file, self.places[number]))
            .unwrap_or_else(|| tag(&self.all[number], attachment))
    }
}

impl Slots {
    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Adds a slot, which has never been copied.
    pub(crate) fn push(
        &mut self,
        attachment: &Attachment,
        descriptor: &Descriptor,
        region: Region,
    ) -> Result<()> {
        let end = descriptor.live + descriptor.live_len();
        let Memories { all, places, file } = &mut self.memories;
        if file.as_ref().is_none_or(|file| file.len() < end) {
            *file = Some(attachment.region(0, end)?);
        }
        all.push(AnyMemory::new(region, descriptor.form()));
        places.push(descriptor.live);
        self.seen.push(UNKNOWN);
        Ok(())
    }

    /// Those that are not what they were when they were last copied.
    pub(crate) fn changed(&self, attachment: &Attachment) -> impl Iterator<Item = usize> {
        (0..self.len()).filter(|i| self.memories.tag(attachment, *i) != self.seen[*i])
    }

    /// Has `copy` copy those slots that have changed, again and again, until none has.
    /// `copy` is given their numbers, in ascending order, and notes in `seen` what each was.
    ///
    /// False if the cut must be begun anew: there are more than `lines` lines of descriptors
    /// by now, or some slots do not come to rest and cannot be locked.
    pub(crate) fn settle_copies(
        &mut self,
        attachment: &Attachment,
        lines: u32,
        mut copy: impl FnMut(&[usize], &Memories, &mut [Tag]) -> Result<()>,
    ) -> Result<bool> {
        let mut copied = Vec::new();
        // What changed the last time has often changed again. With that copied first, one
        // look at all of them is enough.
        let mut changed = std::mem::take(&mut self.lately);
        changed.retain(|i| self.memories.tag(attachment, *i) != self.seen[*i]);
        let mut held = Vec::new();
        for pass in 0..PASSES {
            if changed.is_empty() {
                changed = self.changed(attachment).collect();
                if changed.is_empty() {
                    copied.sort_unstable();
                    copied.dedup();
                    self.lately = copied;
                    return Ok(directory::count(attachment)? == lines);
                }
            }
            if pass >= READING_PASSES {
                let memories = changed.iter().map(|i| self.memories.get(*i));
                held.extend(memories.filter_map(|memory| protocol::try_lock(memory, attachment)));
            }
            copy(&changed, &self.memories, &mut self.seen)?;
            copied.append(&mut changed);
        }
        Ok(false)
    }
}
