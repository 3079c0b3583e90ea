//! What a process that syncs knows of the last sync, in private memory: the record in use, and what
//! the copies in use say of the slots that it has looked at.
//!
//! Where a sync looks for changes is in `look.rs`; reading records and copies from the disk, in
//! `load.rs`.

mod buffers;
mod known;
mod load;
mod look;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::durability::consistent_copy::Copied;
use crate::durability::segment::{Segment, cannot_sync, small_at};
use crate::durability::segment_writer::{NewCopies, SegmentWriter};
use crate::durability::sync_notes;
use crate::error::{Error, Result};
use crate::format::checkpoint::{self, Choice, DIRECTORY, Record};
use crate::format::layout::{GRANULE, LINE, PAGE};
use crate::format::tiers::Parts;
use crate::mutant::planted;
use crate::os::disk::Range;
use crate::protocol::{Form, Memory};
use known::KnownSlots;
use look::Look;

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
    /// Counts how often the record was read. What was known of an older one's copies counts no more.
    reading: u64,
    /// Lines of the directory that are looked at.
    lines: u32,
    /// Where the directory's further tiers are, as far as these lines need them.
    tiers: Vec<Parts>,
    /// How many pages of the directory, from the first one on, are full and in the record.
    full_pages: u64,
    known: KnownSlots,
    look: Look,
}

/// How many slots are remembered from one sync to the next, where marks find them again.
const REMEMBERED: usize = 1 << 16;

/// The steps of a sync, in the order of `sync.rs`.
impl SyncState {
    /// Whether this is still the record in use: no other process has synced since.
    pub(crate) fn is_of(&self, attachment: &Attachment) -> bool {
        let is_told = self.look.is_at_all() || load::marks_tell(attachment);
        sync_notes::acked(attachment) == Some(self.record.epoch) && is_told
    }

    /// The epoch of the record in use.
    pub(crate) fn epoch(&self) -> u64 {
        self.record.epoch
    }

    /// Whether the record in use only stands in for the acknowledged one, which cannot be read.
    pub(crate) fn is_record_missing(&self) -> bool {
        self.is_missing
    }

    /// From here on the slots on the directory's first `lines` lines are looked at.
    pub(crate) fn add_slots(&mut self, attachment: &Attachment, lines: u32) -> Result<()> {
        let known = self.lines.max(self.record.lines);
        if lines < known {
            let what = format!("its directory had {known} lines, but has {lines} now");
            return Err(Error::corrupt(&attachment.path, what));
        }
        let tiers = attachment.tiers_of(lines)?;
        if !tiers.starts_with(&self.tiers) {
            let what = "its directory is not where the last sync says";
            return Err(Error::corrupt(&attachment.path, what));
        }
        self.tiers = tiers;
        if self.look.is_at_all() {
            self.known.add_all(attachment, lines)?;
            self.known.add_all_parts();
        }
        self.lines = lines;
        Ok(())
    }

    /// Writes copies of these slots. Buffers follow later, see [`SyncState::copy_buffers`].
    pub(crate) fn copy_slots(
        &mut self,
        attachment: &Attachment,
        changed: &[usize],
        writer: &mut SegmentWriter<'_>,
    ) -> Result<()> {
        let SyncState { known, look, .. } = self;
        let KnownSlots { slots, outlines, segments, .. } = known;
        let (memories, seen) = (&slots.memories, &mut slots.seen);
        let mut done = None;
        for slot in changed {
            let outline = &outlines[*slot];
            let first = outline.first_segment;
            let stamp = memories.stamp(attachment, *slot);
            let memory = memories.get(*slot);
            match (memory.form(), small_at(outline)) {
                _ if outline.is_buffer() => seen[*slot] = stamp,
                (_, Some(_)) if done == Some(first) => {} // with a neighbour
                (Form::Areas(areas), None) => {
                    let parts: Vec<u64> = checkpoint::segments_of(outline)
                        .filter(|number| look.is_at(*number) && segments.contains_key(number))
                        .collect();
                    let of: Vec<&Segment> = parts.iter().map(|number| &segments[number]).collect();
                    let copied = writer.copy_large(&of, &memory, &areas, stamp, first)?;
                    seen[*slot] = copied;
                    for part in parts {
                        segments.get_mut(&part).expect("just seen").same_at = copied;
                    }
                }
                _ => {
                    writer.copy_small(&segments[&first], outlines, memories, seen)?;
                    done = Some(first);
                }
            }
        }
        Ok(())
    }

    /// Writes the pages of the directory with lines that the record in use lacks. `Corrupt` if the
    /// lines have been damaged: they must not get a valid CRC.
    pub(crate) fn copy_directory(
        &mut self,
        attachment: &Attachment,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<()> {
        let all = self.lines as usize * LINE;
        for page in self.full_pages..checkpoint::pages(self.lines) as u64 {
            let start = page as usize * PAGE as usize;
            let used = (all - start).min(PAGE as usize);
            self.load_page(attachment, attachment.disk(), page)?;
            let segment =
                self.known.segments.get_mut(&(DIRECTORY | page)).expect("it was just loaded");
            if segment.choice != Choice::Absent && segment.used == used {
                continue;
            }
            let line = (start / LINE) as u32;
            let mut data = vec![0; used];
            attachment.read_lines(line, &mut data)?;
            let copy = segment.in_use(attachment)?.map(|(_, copy)| copy).unwrap_or_default();
            if !data.starts_with(&copy) && !planted!(TheDirectoryIsBelieved) {
                let what = format!("descriptors on line {line} or behind it have been damaged");
                return Err(Error::corrupt(&attachment.path, what));
            }
            writer.write(segment, 0, &data)?;
            segment.used = used;
        }
        // The copies have the other lines, and every line is copied once.
        descriptors::each_outline(attachment, self.record.lines, self.lines, |_, _| Ok(true))
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
            let before = self.known.segments[&number].share;
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
            let segment = self.known.segments.get_mut(&number).expect("it was written");
            (segment.choice, segment.share, segment.lost) = (copy.choice, copy.share, false);
        }
        self.full_pages = u64::from(record.lines) * LINE as u64 / PAGE;
        self.number = self.other_number(&record);
        (self.record, self.is_missing) = (record, false);
    }

    /// What is worth to be remembered for the next sync.
    pub(crate) fn remembered(mut self, attachment: &Attachment) -> Option<SyncState> {
        if self.look.is_at_all() {
            sync_notes::set_look_at_all(attachment, false);
            // In a store with marks the next one looks at these again.
            return attachment.marks().is_none().then_some(self);
        }
        if self.known.slots.len() > REMEMBERED && !self.known.is_of_the_directory() {
            self.known = KnownSlots::default();
        }
        Some(self)
    }
}

/// What differs from the record in use.
impl SyncState {
    /// Whether anything does.
    pub(crate) fn has_changed(&mut self, attachment: &Attachment) -> Result<bool> {
        let lines = descriptors::count(attachment)?;
        Ok(lines != self.record.lines || !self.changed_slots(attachment, lines)?.is_empty())
    }

    /// How many slots do.
    pub(crate) fn count_unsynced(mut self, attachment: &Attachment) -> Result<u64> {
        let lines = descriptors::count(attachment)?;
        let changed = match self.changed_slots(attachment, lines) {
            Err(_) if self.has_to_look_at_all() => {
                SyncState::load_all(attachment)?.changed_slots(attachment, lines)
            }
            changed => changed,
        };
        Ok(changed?.len() as u64)
    }

    /// The slots that do, on so many lines of the directory.
    fn changed_slots(&mut self, attachment: &Attachment, lines: u32) -> Result<Vec<usize>> {
        self.begin(attachment);
        self.add_slots(attachment, lines)?;
        let mut changed = self.changed(attachment)?;
        changed.extend(self.changed_buffers(attachment)?);
        changed.sort_unstable();
        changed.dedup();
        Ok(changed)
    }
}
