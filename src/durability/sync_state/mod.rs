//! What a process that syncs remembers from one sync to the next, in private memory. It is the
//! record in use, and what the copy in use of each slot and each segment is. Reading it from the
//! disk is in `sync_state/load.rs`.

mod load;

use std::collections::BTreeSet;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::durability::copied_slots::{self, CopiedSlots};
use crate::durability::segment::{Segment, SlotPlace, cannot_sync};
use crate::durability::segment_writer::{NewCopies, SegmentWriter};
use crate::durability::sync_notes;
use crate::error::{Error, Result};
use crate::format::checkpoint::{
    self, Choice, CopyPair, DIRECTORY, Record, Stamp, UNKNOWN, is_removed,
};
use crate::format::descriptor::Outline;
use crate::format::layout::{GRANULE, LARGE_SEGMENT, LINE, PAGE, SEGMENT_HEAD};
use crate::format::tiers::Parts;
use crate::mapping::element::ElementRegion;
use crate::mutant::planted;
use crate::os::disk::Range;
use crate::protocol::{Form, Memory};
use crate::types::slot_type::{STRIPE, STRIPES, SlotType};

#[derive(Debug)]
pub(crate) struct SyncState {
    /// The record in use.
    record: Record,
    /// Which of the two it is.
    number: u64,
    /// No record has the acknowledged epoch: this older one stands in for it.
    is_missing: bool,
    /// Bytes that are allocated for each of the two records.
    room: u64,
    /// Lines of the directory that `slots` covers.
    lines: u32,
    /// Where the directory's further tiers are, as far as `pages` needs them.
    tiers: Vec<Parts>,
    /// How many pages of the directory, from the first one on, are full and in the record.
    full_pages: usize,
    pub(crate) slots: CopiedSlots,
    /// Where each slot is copied to.
    places: Vec<SlotPlace>,
    /// The slots whose versions do not say whether they changed.
    buffers: Vec<CopiedBuffer>,
    pages: Vec<Segment>,
    /// By number; `None` for segments without a slot.
    segments: Vec<Option<Segment>>,
    /// How many segments fit into the file, at the length last seen.
    most_segments: u64,
}

/// A buffer or a counter.
#[derive(Debug)]
struct CopiedBuffer {
    number: usize,
    elements: ElementRegion,
    is_counter: bool,
    /// What its copy in use says, as far as it is remembered: its stamp, and the number of a counter.
    copied: Option<(Stamp, u64)>,
}

impl CopiedBuffer {
    /// Whether its copy in use is known to say what it is now, without a look at the disk. A removed
    /// one stays what it is. A counter is its number, wherever its stripes have it: the sum includes
    /// all adds from before this look, as a copy made now would.
    fn is_copied(&self, stamp: Stamp) -> bool {
        let remembered = self.copied.filter(|(of, _)| *of == stamp && *of != UNKNOWN);
        remembered.is_some_and(|(_, sum)| {
            is_removed(stamp)
                || self.is_counter
                    && (counter_sum(&self.elements) == sum || planted!(AnAddIsNotLookedFor))
        })
    }
}

/// Of a counter in memory.
fn counter_sum(elements: &ElementRegion) -> u64 {
    (0..STRIPES).fold(0, |sum, stripe| sum.wrapping_add(elements.load(stripe * STRIPE)))
}

/// Of a counter's content as it was copied.
fn sum_of(data: &[u8]) -> u64 {
    let words = data.chunks_exact(8).step_by(STRIPE);
    words.fold(0, |sum, word| {
        sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("8 bytes")))
    })
}

/// The steps of a sync, in the order of `sync.rs`.
impl SyncState {
    /// Whether this is still the record in use: no other process has synced since.
    pub(crate) fn is_of(&self, attachment: &Attachment) -> bool {
        sync_notes::acked(attachment) == Some(self.record.epoch)
    }

    /// The epoch of the record in use.
    pub(crate) fn epoch(&self) -> u64 {
        self.record.epoch
    }

    /// Whether the record in use only stands in for the acknowledged one, which cannot be read.
    pub(crate) fn is_record_missing(&self) -> bool {
        self.is_missing
    }

    /// Adds the slots whose descriptors are on the directory's first `lines` lines.
    pub(crate) fn add_slots(&mut self, attachment: &Attachment, lines: u32) -> Result<()> {
        self.extend(attachment, lines, &[])
    }

    /// Writes copies of these slots. Buffers follow later, see [`SyncState::copy_buffers`].
    pub(crate) fn copy_slots(
        &mut self,
        attachment: &Attachment,
        changed: &[usize],
        writer: &mut SegmentWriter<'_>,
    ) -> Result<()> {
        let SyncState { slots, places, segments, .. } = self;
        let CopiedSlots { memories, seen, .. } = slots;
        let mut done = None;
        for number in changed {
            let place = &places[*number];
            let first = place.first_segment as usize;
            let stamp = memories.stamp(attachment, *number);
            let memory = memories.get(*number);
            match memory.form() {
                _ if place.is_buffer => seen[*number] = stamp,
                _ if place.small_at.is_some() && done == Some(first) => {} // with a neighbour
                Form::Areas(areas) if place.small_at.is_none() => {
                    let segments = &segments[place.large_segments()];
                    seen[*number] = writer.copy_large(segments, &memory, &areas, stamp)?;
                }
                _ => {
                    let segment = segments[first].as_ref().expect("every slot has a segment");
                    writer.copy_small(segment, places, memories, seen)?;
                    done = Some(first);
                }
            }
        }
        Ok(())
    }

    /// Copies the buffers as they stand. Their versions do not say whether they changed.
    pub(crate) fn copy_buffers(&mut self, writer: &mut SegmentWriter<'_>) -> Result<()> {
        for buffer in &mut self.buffers {
            let stamp = self.slots.seen[buffer.number];
            if buffer.is_copied(stamp) {
                continue;
            }
            let segments = &self.segments[self.places[buffer.number].large_segments()];
            // The last data that is read is what the copy has in the end.
            let mut sum = 0;
            writer.copy_changed_segments(segments, stamp, |at, data| {
                buffer.elements.read(at, data);
                if buffer.is_counter {
                    sum = sum_of(data);
                }
            })?;
            buffer.copied = Some((stamp, sum));
        }
        Ok(())
    }

    /// Writes the pages of the directory with lines that the record in use lacks.
    pub(crate) fn copy_directory(
        &mut self,
        attachment: &Attachment,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<()> {
        let all = self.lines as usize * LINE;
        for (number, segment) in self.pages.iter_mut().enumerate().skip(self.full_pages) {
            let start = number * PAGE as usize;
            let used = (all - start).min(PAGE as usize);
            if segment.choice != Choice::Absent && segment.used == used {
                continue;
            }
            let mut data = vec![0; used];
            attachment.read_lines((start / LINE) as u32, &mut data)?;
            writer.write(segment, 0, &data)?;
            segment.used = used;
        }
        Ok(())
    }

    /// The record that names these copies, and for all else what the record in use names.
    pub(crate) fn next_record(&self, copies: &NewCopies) -> Record {
        let mut record = self.record.clone();
        record.epoch += 1;
        record.lines = self.lines;
        record.tiers = self.tiers.clone();
        if planted!(ARecordNamesNoTiers) {
            record.tiers.fill(Parts::default());
        }
        for (number, copy) in copies.iter() {
            let before = self.segment(number).share;
            record.sum = record.sum.wrapping_sub(before).wrapping_add(copy.share);
            match number & DIRECTORY {
                0 => record.segments.set(number as usize, copy.choice),
                _ => record.pages.set((number & !DIRECTORY) as usize, copy.choice),
            }
        }
        record
    }

    /// Writes the record over the one that is not in use. Returns where it is.
    pub(crate) fn write_record(
        &mut self,
        attachment: &Attachment,
        record: &Record,
    ) -> Result<Range> {
        let (disk, regions) = (attachment.disk(), &attachment.header.regions);
        let cannot = |e| cannot_sync(attachment, e);
        let bytes = record.encode();
        let offset = |number: u64| regions.records + number * regions.record_len;
        let (at, len) = (offset(self.other_number(record)), bytes.len() as u64);
        if len > self.room {
            let room = len.next_multiple_of(GRANULE);
            for at in [offset(0), offset(1)] {
                attachment.allocate(at, at + room)?;
            }
            self.room = room;
        }
        if planted!(MarkEarly) {
            checkpoint::write_mark(disk, regions, record.epoch).map_err(cannot)?;
        }
        if planted!(AcknowledgesEarly) {
            sync_notes::store_acked(attachment, record.epoch);
        }
        disk.write(at, &bytes).map_err(cannot)?;
        Ok((at, len))
    }

    /// Which of the two records is not in use, so that `record` may be written there.
    fn other_number(&self, record: &Record) -> u64 {
        if planted!(RecordByParity) { record.epoch % 2 } else { 1 - self.number }
    }

    /// From here on this record is in use, and so are the copies that it names.
    pub(crate) fn adopt(&mut self, record: Record, copies: &NewCopies) {
        for (number, copy) in copies.iter() {
            let segment = self.segment_mut(number);
            (segment.choice, segment.share, segment.lost) = (copy.choice, copy.share, false);
        }
        self.full_pages = record.lines as usize * LINE / PAGE as usize;
        self.number = self.other_number(&record);
        (self.record, self.is_missing) = (record, false);
    }

    /// The segment, or the page of the directory, with this number.
    fn segment(&self, number: u64) -> &Segment {
        match number & DIRECTORY {
            0 => self.segments[number as usize].as_ref().expect("it was written"),
            _ => &self.pages[(number & !DIRECTORY) as usize],
        }
    }

    fn segment_mut(&mut self, number: u64) -> &mut Segment {
        match number & DIRECTORY {
            0 => self.segments[number as usize].as_mut().expect("it was written"),
            _ => &mut self.pages[(number & !DIRECTORY) as usize],
        }
    }
}

/// What differs from the record in use.
impl SyncState {
    /// Whether anything does.
    pub(crate) fn has_changed(&self, attachment: &Attachment) -> Result<bool> {
        if descriptors::count(attachment)? != self.lines || self.slots.have_changed(attachment) {
            return Ok(true);
        }
        let mut data = Vec::new();
        for buffer in &self.buffers {
            if self.buffer_differs(attachment, buffer, &mut data)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many slots do.
    pub(crate) fn count_unsynced(&mut self, attachment: &Attachment) -> Result<u64> {
        self.add_slots(attachment, descriptors::count(attachment)?)?;
        let mut changed: BTreeSet<usize> = self.slots.changed(attachment).collect();
        let mut data = Vec::new();
        for buffer in &self.buffers {
            if self.buffer_differs(attachment, buffer, &mut data)? {
                changed.insert(buffer.number);
            }
        }
        Ok(changed.len() as u64)
    }

    /// Whether a buffer's content differs from its copies in use. `data` is for reuse.
    fn buffer_differs(
        &self,
        attachment: &Attachment,
        buffer: &CopiedBuffer,
        data: &mut Vec<u8>,
    ) -> Result<bool> {
        if buffer.is_copied(self.slots.memories.stamp(attachment, buffer.number)) {
            return Ok(false);
        }
        let place = &self.places[buffer.number];
        for (part, segment) in self.segments[place.large_segments()].iter().enumerate() {
            let segment = segment.as_ref().expect("every slot has its segments");
            data.resize(segment.pair.len, 0);
            buffer.elements.read(part * LARGE_SEGMENT as usize, data);
            if segment.stamp_if_same(attachment, data)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Slots that are added.
impl SyncState {
    /// Adds those on the directory's first `lines` lines. `checked` says which pages, from the
    /// first on, are unchanged since their last check.
    fn extend(&mut self, attachment: &Attachment, lines: u32, checked: &[bool]) -> Result<()> {
        if lines < self.lines {
            let what = format!("its directory had {} lines, but has {lines} now", self.lines);
            return Err(Error::corrupt(&attachment.path, what));
        }
        self.extend_pages(attachment, lines)?;
        let from = self.lines;
        descriptors::each_outline(attachment, from, lines, checked, |line, outline| {
            let added = self.add(attachment, line, outline);
            added.map_err(|error| descriptors::of_slot_at(attachment, line, error))
        })?;
        self.lines = lines;
        Ok(())
    }

    /// Adds the pages of the directory that this many lines use.
    fn extend_pages(&mut self, attachment: &Attachment, lines: u32) -> Result<()> {
        let tiers = attachment.tiers_of(lines)?;
        if !tiers.starts_with(&self.tiers) {
            let what = "its directory is not where the last sync says";
            return Err(Error::corrupt(&attachment.path, what));
        }
        self.tiers = tiers;
        let new = self.pages.len()..checkpoint::pages(lines);
        let regions = &attachment.header.regions;
        let pair = |number| CopyPair::of_page(regions, &self.tiers, number as u64);
        self.pages.extend(new.map(|number| Segment::new(pair(number))));
        Ok(())
    }

    fn add(&mut self, attachment: &Attachment, line: u32, outline: &Outline) -> Result<()> {
        let damaged =
            || Error::corrupt(&attachment.path, "its checkpoint segments are out of place");
        let small = checkpoint::is_small(outline);
        let number = self.slots.len();
        let count = if small { 1 } else { checkpoint::large_segments(outline) };
        checkpoint::check_segments(outline, &attachment.header).ok_or_else(damaged)?;
        let end = outline.first_segment + count;
        if self.segments.len() < end as usize {
            // Each segment takes at least two pages of the file. A damaged number must not be taken
            // for that many segments.
            if end > self.most_segments {
                let len = attachment.disk().length().map_err(|e| cannot_sync(attachment, e))?;
                self.most_segments = len / (2 * PAGE);
            }
            if end > self.most_segments {
                return Err(damaged());
            }
            self.segments.resize_with(end as usize, || None);
        }
        let small_at = small.then(|| (outline.offset_in_segment - SEGMENT_HEAD) as u16);
        if let Some(at) = small_at {
            let segment =
                self.segment_of(CopyPair::of_small(outline), number).ok_or_else(damaged)?;
            segment.used =
                segment.used.max(usize::from(at) + checkpoint::entry_len(outline) as usize);
        } else {
            for part in 0..count {
                let pair = CopyPair::of_large(outline, part);
                self.segment_of(pair, number).ok_or_else(damaged)?;
            }
        }
        self.slots.push(attachment, outline)?;
        let is_buffer = outline.is_buffer();
        if is_buffer {
            let descriptor = descriptors::at(attachment, line)?;
            let memory = descriptors::memory(attachment, &descriptor)?;
            let elements = copied_slots::elements(&descriptor, &memory);
            let is_counter = descriptor.slot_type == SlotType::Counter;
            let buffer = |elements| CopiedBuffer { number, elements, is_counter, copied: None };
            self.buffers.extend(elements.map(buffer));
        }
        let Outline { content_len, first_segment, .. } = *outline;
        self.places.push(SlotPlace { content_len, first_segment, small_at, is_buffer });
        Ok(())
    }

    /// The segment with these copies, to which this slot is added. `None`: the segment's copies are
    /// elsewhere.
    #[inline]
    fn segment_of(&mut self, pair: CopyPair, number: usize) -> Option<&mut Segment> {
        let segment =
            self.segments[pair.segment as usize].get_or_insert_with(|| Segment::new(pair));
        if segment.pair != pair {
            return None;
        }
        segment.slots.push(number);
        Some(segment)
    }
}
