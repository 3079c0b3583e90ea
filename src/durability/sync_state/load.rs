//! Reads from the disk what the record in use says, and what the copies that it names say.

use std::sync::atomic::Ordering::Acquire;

use super::SyncState;
use super::known::KnownSlots;
use super::look::Look;
use crate::attachment::attach::Attachment;
use crate::durability::flush;
use crate::durability::segment::{Segment, cannot_sync, small_at, small_entry};
use crate::durability::sync_notes;
use crate::error::{Error, Result};
use crate::format::checkpoint::{
    Choice, CopyPair, DIRECTORY, Record, UNKNOWN, if_there, is_removed, mix,
};
use crate::format::layout::{GRANULE, LINE, PAGE};
use crate::format::tiers::Parts;
use crate::mutant::planted;
use crate::os::disk::{Disk, ReadAhead};
use crate::protocol::Marks;

impl SyncState {
    /// What the record in use says. Its copies are read when a mark leads to them; in a store
    /// without marks, at once.
    pub(crate) fn load(attachment: &Attachment) -> Result<SyncState> {
        if marks_tell(attachment) {
            let state = SyncState::read(attachment, Look::at_marked(), KnownSlots::default())?;
            // The marks say what differs from the acknowledged record, not from one in its place.
            if !state.is_missing {
                return Ok(state);
            }
        }
        SyncState::load_all(attachment)
    }

    /// The same, with all of its copies: for those who cannot rely on marks, as after a sync that
    /// failed, and to find out what the disk has lost. Slots without an available copy count as
    /// never synced: they are written anew. If the copies are not those that the record was made of,
    /// all slots are written anew. The disk has then lost a write, and any copy may be wrong.
    pub(crate) fn load_all(attachment: &Attachment) -> Result<SyncState> {
        let mut state = SyncState::read(attachment, Look::AtAll, KnownSlots::of_all())?;
        state.add_slots(attachment, state.record.lines)?;
        state.full_pages = 0;
        state.load_copies(attachment)?;
        Ok(state)
    }

    /// Reads the record in use anew, if another process has synced since. What is known of the slots
    /// stays, but for their copies.
    pub(crate) fn renewed(self, attachment: &Attachment) -> Result<SyncState> {
        if self.look.is_at_all() || !marks_tell(attachment) {
            return SyncState::load(attachment);
        }
        let lines = self.lines;
        let mut known = self.known;
        for buffer in &mut known.buffers {
            known.slots.seen[buffer.slot] = UNKNOWN;
            buffer.copied = None;
        }
        let mut state = SyncState::read(attachment, self.look, known)?;
        if state.is_missing {
            return SyncState::load_all(attachment);
        }
        state.reading = self.reading + 1;
        state.lines = lines.max(state.record.lines);
        Ok(state)
    }

    fn read(attachment: &Attachment, look: Look, known: KnownSlots) -> Result<SyncState> {
        let InUse { record, number, is_missing } = record_in_use(attachment)?;
        Ok(SyncState {
            number,
            is_missing,
            room: room_for(attachment, &record),
            reading: 1,
            lines: record.lines,
            tiers: record.tiers.clone(),
            full_pages: full_pages(record.lines),
            known,
            look,
            record,
        })
    }

    /// Reads what each copy in use adds to the sum, and which versions it has.
    fn load_copies(&mut self, attachment: &Attachment) -> Result<()> {
        let ahead = ReadAhead::of_pieces(attachment.disk(), 2 * PAGE as usize);
        for page in 0..self.record.pages.len() as u64 {
            self.load_page(attachment, &ahead, page)?;
        }
        let ahead = ReadAhead::new(attachment.disk());
        let mut numbers: Vec<u64> = self.known.segments.keys().copied().collect();
        numbers.retain(|number| number & DIRECTORY == 0);
        numbers.sort_unstable();
        for number in numbers {
            self.load_segment(attachment, &ahead, number)?;
        }
        let KnownSlots { slots, segments, buffers, .. } = &mut self.known;
        for segment in segments.values().filter(|segment| segment.lost) {
            for slot in &segment.slots {
                slots.seen[*slot] = UNKNOWN;
            }
        }
        let sum = segments.values().map(|segment| segment.share).fold(0, u64::wrapping_add);
        if sum != self.record.sum && !planted!(SumNotCompared) {
            slots.seen.fill(UNKNOWN);
            segments.values_mut().for_each(|segment| segment.used_in_page(0));
        }
        // Not the record's own sum: the share of an unavailable copy is not known.
        self.record.sum = sum;
        slots.mark_known();
        // Of a removed one the stamp is all that counts.
        for buffer in buffers {
            let stamp = slots.seen[buffer.slot];
            buffer.copied = is_removed(stamp).then_some((stamp, 0));
        }
        Ok(())
    }

    /// Reads the copy in use of a page of the directory, unless it is known.
    pub(super) fn load_page(
        &mut self,
        attachment: &Attachment,
        disk: &dyn Disk,
        page: u64,
    ) -> Result<()> {
        let (reading, choice) = (self.reading, self.record.pages.get(page as usize));
        let SyncState { known, look, tiers, .. } = self;
        let segment = page_of(known, attachment, tiers, page);
        if !segment.begin_reading(reading, choice) {
            return Ok(());
        }
        let mut data = Vec::new();
        let read = if_there(segment.pair.read_to(disk, choice, &mut data));
        match read.map_err(|e| cannot_sync(attachment, e))? {
            Some(head) => {
                segment.share = mix(head.segment, head.epoch, head.crc);
                segment.used = data.len();
            }
            None => look.note_lost(attachment, segment)?,
        }
        Ok(())
    }

    /// Reads the copy in use of a segment, unless it is known.
    pub(super) fn load_segment(
        &mut self,
        attachment: &Attachment,
        disk: &dyn Disk,
        number: u64,
    ) -> Result<()> {
        let SyncState { record, known, look, reading, .. } = self;
        let KnownSlots { slots, outlines, segments, .. } = known;
        let segment = segments.get_mut(&number).expect("it was found");
        let choice = record.segments.get(number as usize);
        let is_absent = choice == Choice::Absent;
        if segment.reading == *reading {
            return Ok(());
        }
        let is_shared = segment.slots.iter().any(|slot| small_at(&outlines[*slot]).is_some());
        if is_shared {
            segment.slots.iter().for_each(|slot| slots.seen[*slot] = UNKNOWN);
        }
        segment.begin_reading(*reading, choice);
        if is_absent {
            return Ok(());
        }
        let mut data = Vec::new();
        // Of a large segment the head is enough, and its data may be much.
        let read = match is_shared {
            true => segment.pair.read_to(disk, choice, &mut data),
            false => segment.pair.read_head(disk, choice),
        };
        let Some(head) = if_there(read).map_err(|e| cannot_sync(attachment, e))? else {
            return look.note_lost(attachment, segment);
        };
        attachment.note_progress();
        segment.share = mix(head.segment, head.epoch, head.crc);
        for slot in &segment.slots {
            let outline = &outlines[*slot];
            let stamp = match small_at(outline) {
                // Not there: it was defined since.
                Some(at) => small_entry(&data, at, outline.content_len).map(|(stamp, _)| stamp),
                None => Some(head.stamp),
            };
            // The newest of a large slot's segments says what the slot was when the record was
            // made.
            let seen = &mut slots.seen[*slot];
            if let Some(stamp) = stamp
                && (*seen == UNKNOWN || *seen < stamp)
            {
                *seen = stamp;
            }
        }
        Ok(())
    }
}

/// The segment that is the copy of this page of the directory.
fn page_of<'a>(
    known: &'a mut KnownSlots,
    attachment: &Attachment,
    tiers: &[Parts],
    page: u64,
) -> &'a mut Segment {
    let pair = CopyPair::of_page(&attachment.header.regions, tiers, page);
    known.segments.entry(pair.segment).or_insert_with(|| Segment::new(pair))
}

impl Segment {
    /// Notes that its copy is read now. False if that is known already, or there is none.
    fn begin_reading(&mut self, reading: u64, choice: Choice) -> bool {
        if self.reading == reading {
            return false;
        }
        (self.reading, self.choice, self.share, self.lost) = (reading, choice, 0, false);
        self.same_at = UNKNOWN;
        self.used_in_page(0);
        choice != Choice::Absent
    }

    /// Sets how much data of a page of the directory is in its copy.
    fn used_in_page(&mut self, used: usize) {
        if self.pair.segment & DIRECTORY != 0 {
            self.used = used;
        }
    }
}

/// Whether the marks say what differs from the acknowledged record. Without such a record nobody
/// knows what they are about. While a sync clears some of them, or if it was killed there, some are
/// missing. And a check may have found that they do not.
pub(super) fn marks_tell(attachment: &Attachment) -> bool {
    // Acquire: whoever sees that they were cleared sees which, unless all are there again.
    let are_there = attachment.marks().is_some_and(|marks| marks.cleaning(Acquire) == 0);
    are_there
        && sync_notes::acked(attachment).is_some()
        && !sync_notes::must_look_at_all(attachment)
}

/// The record that the next sync builds on.
struct InUse {
    record: Record,
    /// Which of the two it is.
    number: u64,
    /// It only stands in for the acknowledged one, which cannot be read.
    is_missing: bool,
}

/// The acknowledged record or, if the live header has none, the one that opening would choose.
fn record_in_use(attachment: &Attachment) -> Result<InUse> {
    let disk = attachment.disk();
    let cannot = |e| cannot_sync(attachment, e);
    let mut found = Vec::new();
    for number in 0..2 {
        if let Some(record) = Record::read(disk, &attachment.header, number).map_err(cannot)? {
            found.push((number, record));
        }
    }
    found.sort_by_key(|(_, record)| std::cmp::Reverse(record.epoch));
    let acked = sync_notes::acked(attachment);
    let chosen = found.iter().position(|(_, record)| Some(record.epoch) == acked);
    let chosen = chosen.filter(|_| !planted!(BuildsOnTheNewest));
    let newest = || (!found.is_empty()).then_some(0);
    let Some(chosen) = chosen.or_else(newest) else {
        let what = "both of its commit records are damaged, so it cannot be synced; its contents \
                    last until the machine is restarted: save them now with `slotfile copy`";
        return Err(Error::corrupt(&attachment.path, what));
    };
    let (number, mut record) = found.swap_remove(chosen);
    let is_acknowledged = Some(record.epoch) == acked;
    if !is_acknowledged && attachment.writable && !planted!(LoadsWithoutFlush) {
        // It may never have reached the disk. What it names must, before a sync builds on it.
        flush::whole_file(attachment).map_err(cannot)?;
    }
    // The acknowledged record cannot be read, but others know it by its number. The next record
    // gets another number.
    let missing = acked.filter(|acked| *acked > record.epoch && !planted!(NumberTwice));
    record.epoch = missing.unwrap_or(record.epoch);
    Ok(InUse { record, number, is_missing: missing.is_some() })
}

/// How many bytes are allocated for each of the two records: at least what this one needed, as both
/// are given as much. (To allocate them again costs a flush a third more.)
fn room_for(attachment: &Attachment, record: &Record) -> u64 {
    let (len, room) = (record.encode().len() as u64, attachment.header.regions.record_blocks());
    if len > room { len.next_multiple_of(GRANULE) } else { room }
}

/// How many pages of the directory are full with this many lines.
fn full_pages(lines: u32) -> u64 {
    u64::from(lines) * LINE as u64 / PAGE
}
