//! The slots that are copied together, and which version each had when it was last copied.

use std::sync::atomic::Ordering::Acquire;

use crate::attachment::attach::Attachment;
use crate::durability::consistent_copy::Copied;
use crate::error::Result;
use crate::format::checkpoint::{Stamp, UNKNOWN, stamp_of};
use crate::format::descriptor::{self, Descriptor, Outline};
use crate::format::layout::GRANULE;
use crate::mapping::cell;
use crate::mapping::element::ElementRegion;
use crate::mapping::map::{Map, Region};
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{Control, Memory, effective_version};

/// The slots, by number: in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct CopiedSlots {
    pub(crate) memories: Memories,
    /// The stamp of each when it was last copied; [`UNKNOWN`] if it never was, or if it changed
    /// during the copy.
    pub(crate) seen: Vec<Stamp>,
    /// Those that the last consistent copy included, in ascending order.
    lately: Vec<usize>,
    /// From this number on they are new: it is not known whether they have changed.
    new: usize,
}

/// Their memories. Nearly all of many slots have not changed, and of such a slot only the control
/// word is touched. So this holds no more than it takes to reach that word.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    extents: Vec<Extent>,
    /// The part of the file that contains all of them.
    file: Option<Region>,
}

/// Where a slot is in the file, and what its memory is made of.
#[derive(Clone, Copy, Debug)]
struct Extent {
    live: u64,
    content_len: u64,
    areas: u8,
}

impl Memories {
    fn file(&self) -> Region<&Map> {
        self.file.as_ref().expect("it came with the first slot").by_ref()
    }

    /// Where a slot is in the file.
    pub(crate) fn offset(&self, number: usize) -> u64 {
        self.extents[number].live
    }

    pub(crate) fn get(&self, number: usize) -> SlotMemory<&Map> {
        let Extent { live, content_len, areas } = self.extents[number];
        let words = descriptor::live_len(live, content_len, areas) as usize / 8;
        let file = self.file();
        SlotMemory::new(
            file.subregion(live as usize / 8, words),
            descriptor::form(live, content_len, areas),
        )
    }

    /// A slot's stamp at this moment.
    pub(crate) fn stamp(&self, attachment: &Attachment, number: usize) -> Stamp {
        stamp_at_rest(cell::control_at(&self.file(), self.offset(number)))
            .unwrap_or_else(|| stamp(&self.get(number), attachment))
    }
}

/// The slot's stamp at this moment.
pub(crate) fn stamp(memory: &impl Memory, attachment: &Attachment) -> Stamp {
    // Acquire: a thread that sees a version sees its content.
    stamp_at_rest(memory.control(Acquire))
        .unwrap_or_else(|| effective_version(memory, attachment) << 1)
}

/// The stamp of a slot with this control word; `None` if it also depends on other words.
#[inline]
fn stamp_at_rest(control: Control) -> Option<Stamp> {
    let at_rest = !control.in_transaction() || control.is_removed();
    at_rest.then(|| stamp_of(control))
}

/// The elements of a buffer or a counter; `None` for any other slot.
pub(crate) fn elements(descriptor: &Descriptor, memory: &SlotMemory) -> Option<ElementRegion> {
    let (of, len) = descriptor.slot_type.raw_elements()?;
    Some(ElementRegion::new(memory, of, len))
}

/// The file up to `end`, and further if possible, for slots that follow.
#[cold]
fn file_up_to(attachment: &Attachment, end: u64) -> Result<Region> {
    let more = attachment.region(0, end.next_multiple_of(GRANULE));
    more.or_else(|_| attachment.region(0, end))
}

impl CopiedSlots {
    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Adds a slot that has never been copied.
    #[inline]
    pub(crate) fn push(&mut self, attachment: &Attachment, outline: &Outline) -> Result<()> {
        let end = outline.live + outline.live_len();
        let Memories { extents, file } = &mut self.memories;
        if file.as_ref().is_none_or(|file| file.len() < end) {
            *file = Some(file_up_to(attachment, end)?);
        }
        let Outline { live, content_len, areas, .. } = *outline;
        extents.push(Extent { live, content_len, areas });
        self.seen.push(UNKNOWN);
        Ok(())
    }

    /// Marks all current slots as no longer new.
    pub(crate) fn mark_known(&mut self) {
        self.new = self.len();
    }

    /// Those whose stamp has changed since their last copy.
    pub(crate) fn all_changed(&self, attachment: &Attachment) -> impl Iterator<Item = usize> {
        let next = |from| self.next_changed(attachment, from);
        std::iter::successors(next(0), move |last| next(last + 1))
    }

    /// The first of those, from this number on. With many slots, nearly all of a sync's time goes
    /// into this look.
    fn next_changed(&self, attachment: &Attachment, from: usize) -> Option<usize> {
        let CopiedSlots { memories, seen, .. } = self;
        let file = memories.file.as_ref()?.by_ref();
        let all = (from..).zip(&memories.extents[from..]).zip(&seen[from..]);
        for ((number, extent), seen) in all {
            let stamp = stamp_at_rest(cell::control_at(&file, extent.live));
            if stamp.unwrap_or_else(|| memories.stamp(attachment, number)) != *seen {
                return Some(number);
            }
        }
        None
    }

    fn has_changed(&self, attachment: &Attachment, number: usize) -> bool {
        self.memories.stamp(attachment, number) != self.seen[number]
    }
}

impl Copied for CopiedSlots {
    /// What changed last time has often changed again, and new slots were never copied. Each is
    /// returned once.
    fn probably_changed(&mut self, attachment: &Attachment) -> Vec<usize> {
        let mut changed = std::mem::take(&mut self.lately);
        changed.extend(self.new..self.len());
        self.mark_known();
        changed.retain(|i| self.has_changed(attachment, *i));
        changed
    }

    fn changed(&mut self, attachment: &Attachment) -> Result<Vec<usize>> {
        Ok(self.all_changed(attachment).collect())
    }

    fn memory(&self, number: usize) -> SlotMemory<&Map> {
        self.memories.get(number)
    }

    fn offset(&self, number: usize) -> u64 {
        self.memories.offset(number)
    }

    fn set_lately(&mut self, mut copied: Vec<usize>) {
        copied.sort_unstable();
        copied.dedup();
        self.lately = copied;
    }
}
