//! The slots that this process has looked at, and the segments that they are copied to.
//!
//! Where marks say which segments to look at, slots are found by their segments: so a sync knows of
//! no more slots than it has to. Otherwise all are found by the directory.

use std::collections::{BTreeMap, HashMap};

use rustc_hash::FxBuildHasher;

use super::buffers::CopiedBuffer;
use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::durability::copied_slots::{self, CopiedSlots};
use crate::durability::segment::{Segment, cannot_sync, small_at};
use crate::error::{Error, Result};
use crate::format::checkpoint::{self, CopyPair};
use crate::format::descriptor::Outline;
use crate::format::layout::{PAGE, SEGMENT_HEAD};
use crate::types::slot_type::SlotType;

#[derive(Debug, Default)]
pub(super) struct KnownSlots {
    pub(super) slots: CopiedSlots,
    /// By the number of the slot.
    pub(super) outlines: Vec<Outline>,
    /// The slots whose versions do not say whether they changed.
    pub(super) buffers: Vec<CopiedBuffer>,
    /// By number. Of a slot that has its segments to itself, those that were asked for.
    pub(super) segments: HashMap<u64, Segment, FxBuildHasher>,
    /// The slots that have their segments to themselves, by the first of these.
    large: BTreeMap<u64, usize>,
    /// All slots on so many lines of the directory are known. `None`: they are found by their
    /// segments.
    scanned: Option<u32>,
    /// The segment that slots share on the last lines that were scanned.
    last_shared: Option<u64>,
    /// How many segments fit into the file, at the length last seen.
    most_segments: u64,
}

impl KnownSlots {
    /// For those who need all slots, with all segments: see [`KnownSlots::add_all`].
    pub(super) fn of_all() -> KnownSlots {
        KnownSlots { scanned: Some(0), ..KnownSlots::default() }
    }

    /// Whether it was all read from the directory: this takes long, so it is not done at each sync.
    pub(super) fn is_of_the_directory(&self) -> bool {
        self.scanned.is_some()
    }

    /// Finds the slots of a segment on the directory's first `lines` lines. False if there are
    /// none: the slot is defined at this moment, or its definer was killed.
    pub(super) fn find(
        &mut self,
        attachment: &Attachment,
        number: u64,
        lines: u32,
    ) -> Result<bool> {
        if let Some(segment) = self.segments.get(&number) {
            let next = segment.next_line;
            if segment.is_complete || next >= lines {
                return Ok(true);
            }
            if self.scanned.is_none() {
                return self.add_sharers(attachment, number, next, lines).map(|()| true);
            }
        }
        if self.scanned.is_none() && !self.add_part(number)? {
            match attachment.first_line(number) {
                // It is being defined, or was defined since.
                Some(line) if line >= lines && line <= descriptors::count(attachment)? => {
                    return Ok(false);
                }
                Some(line) if line < lines && self.find_at(attachment, number, line, lines)? => {
                    return Ok(true);
                }
                // The table does not reach so far, or a definer was killed, or it is damaged.
                _ => self.scanned = Some(0),
            }
        }
        if self.scanned.is_some() {
            self.add_all(attachment, lines)?;
        }
        Ok(self.segments.contains_key(&number) || self.add_part(number)?)
    }

    /// The same, if the first slot of the segment is on this line.
    fn find_at(
        &mut self,
        attachment: &Attachment,
        number: u64,
        line: u32,
        lines: u32,
    ) -> Result<bool> {
        // A line that was never published may have become the middle of another descriptor.
        let Ok(outline) = descriptors::outline_at(attachment, line, lines) else {
            return Ok(false);
        };
        match small_at(&outline) {
            Some(0) if outline.first_segment == number => {
                self.add_sharers(attachment, number, line, lines)?;
                Ok(true)
            }
            Some(_) => Ok(false),
            None if !checkpoint::segments_of(&outline).contains(&number) => Ok(false),
            None => {
                self.add_large(attachment, line, &outline)?;
                self.add_part(number)
            }
        }
    }

    /// Adds the slots that share a segment, on the lines from `from` on.
    fn add_sharers(
        &mut self,
        attachment: &Attachment,
        number: u64,
        from: u32,
        lines: u32,
    ) -> Result<()> {
        let (mut next, mut is_last) = (lines, false);
        descriptors::each_outline(attachment, from, lines, |line, outline| {
            if small_at(outline).is_none() {
                return Ok(true);
            }
            // Segments are filled one at a time.
            is_last = outline.first_segment != number;
            if is_last {
                next = line;
            } else {
                self.add_small(attachment, outline)?;
            }
            Ok(!is_last)
        })?;
        let segment = self.segments.get_mut(&number).expect("its first slot was there");
        segment.next_line = next;
        segment.is_complete |= is_last;
        Ok(())
    }

    /// Adds all slots on the directory's first `lines` lines that are not known yet.
    pub(super) fn add_all(&mut self, attachment: &Attachment, lines: u32) -> Result<()> {
        let from = self.scanned.unwrap_or(0);
        descriptors::each_outline(attachment, from, lines, |line, outline| {
            let added = match small_at(outline) {
                Some(_) => self.add_scanned(attachment, line, outline),
                None if self.large.contains_key(&outline.first_segment) => Ok(()),
                None => self.add_large(attachment, line, outline),
            };
            added.map(|()| true).map_err(|e| descriptors::of_slot_at(attachment, line, e))
        })?;
        self.scanned = Some(lines);
        Ok(())
    }

    fn add_scanned(&mut self, attachment: &Attachment, line: u32, outline: &Outline) -> Result<()> {
        let number = outline.first_segment;
        if self.segments.get(&number).is_none_or(|segment| segment.next_line <= line) {
            self.add_small(attachment, outline)?;
            self.segments.get_mut(&number).expect("just added").next_line = line + 1;
        }
        let last = self.last_shared.replace(number).filter(|last| *last != number);
        if let Some(segment) = last.and_then(|last| self.segments.get_mut(&last)) {
            segment.is_complete = true;
        }
        Ok(())
    }

    /// Makes all segments known of the slots that have theirs to themselves.
    pub(super) fn add_all_parts(&mut self) {
        let large: Vec<usize> = self.large.values().copied().collect();
        for slot in large {
            self.add_parts(slot);
        }
    }

    fn add_small(&mut self, attachment: &Attachment, outline: &Outline) -> Result<()> {
        self.check(attachment, outline, 1)?;
        let pair = CopyPair::of_small(outline);
        let slot = self.slots.len();
        let segment = self.segments.entry(pair.segment).or_insert_with(|| Segment::new(pair));
        if segment.pair != pair {
            return Err(out_of_place(attachment));
        }
        segment.slots.push(slot);
        let end = outline.offset_in_segment - SEGMENT_HEAD + checkpoint::entry_len(outline);
        segment.used = segment.used.max(end as usize);
        self.push(attachment, outline)
    }

    fn add_large(&mut self, attachment: &Attachment, line: u32, outline: &Outline) -> Result<()> {
        self.check(attachment, outline, checkpoint::large_segments(outline))?;
        let slot = self.slots.len();
        self.push(attachment, outline)?;
        self.large.insert(outline.first_segment, slot);
        if outline.is_buffer() {
            let descriptor = descriptors::at(attachment, line)?;
            let memory = descriptors::memory(attachment, &descriptor)?;
            let elements = copied_slots::elements(&descriptor, &memory);
            let is_counter = descriptor.slot_type == SlotType::Counter;
            let buffer = |elements| CopiedBuffer::new(slot, elements, is_counter);
            self.buffers.extend(elements.map(buffer));
            self.add_parts(slot);
        }
        Ok(())
    }

    fn push(&mut self, attachment: &Attachment, outline: &Outline) -> Result<()> {
        self.outlines.push(*outline);
        self.slots.push(attachment, outline)
    }

    fn add_parts(&mut self, slot: usize) {
        let outline = &self.outlines[slot];
        for part in 0..checkpoint::large_segments(outline) {
            let pair = CopyPair::of_large(outline, part);
            let part = || Segment::of_large(pair, slot);
            self.segments.entry(pair.segment).or_insert_with(part);
        }
    }

    /// Adds this segment of a slot that is known. False if there is no such slot.
    fn add_part(&mut self, number: u64) -> Result<bool> {
        let Some((first, slot)) = self.large.range(..=number).next_back() else { return Ok(false) };
        let outline = &self.outlines[*slot];
        if !checkpoint::segments_of(outline).contains(&number) {
            return Ok(false);
        }
        let pair = CopyPair::of_large(outline, number - first);
        self.segments.entry(number).or_insert_with(|| Segment::of_large(pair, *slot));
        Ok(true)
    }

    /// An error unless a store can have these segments. Each takes at least two pages of the file: a
    /// damaged number must not be taken for that many.
    fn check(&mut self, attachment: &Attachment, outline: &Outline, count: u64) -> Result<()> {
        checkpoint::check_segments(outline, &attachment.header)
            .ok_or_else(|| out_of_place(attachment))?;
        let end = outline.first_segment + count;
        if end > self.most_segments {
            let len = attachment.disk().length().map_err(|e| cannot_sync(attachment, e))?;
            self.most_segments = len / (2 * PAGE);
        }
        if end > self.most_segments { Err(out_of_place(attachment)) } else { Ok(()) }
    }
}

fn out_of_place(attachment: &Attachment) -> Error {
    Error::corrupt(&attachment.path, "its checkpoint segments are out of place")
}
