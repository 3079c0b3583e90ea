//! Reads from the disk what the record in use says, for the first sync of a process.

use super::SyncState;
use crate::attachment::attach::Attachment;
use crate::durability::copied_slots::CopiedSlots;
use crate::durability::flush;
use crate::durability::segment::cannot_sync;
use crate::durability::sync_notes;
use crate::error::{Error, Result};
use crate::format::checkpoint::{Choice, Record, UNKNOWN, if_there, is_removed, mix, stamp_of};
use crate::format::layout::{LINE, PAGE};
use crate::mutant::planted;
use crate::os::disk::ReadAhead;
use crate::protocol::Control;

impl SyncState {
    /// What the record in use says.
    pub(crate) fn load(attachment: &Attachment) -> Result<SyncState> {
        let InUse { record, number, is_missing } = record_in_use(attachment)?;
        let (lines, record_tiers) = (record.lines, record.tiers.clone());
        let mut state = SyncState {
            record,
            number,
            is_missing,
            // As much as in a new store.
            room: attachment.header.regions.record_blocks(),
            lines: 0,
            full_pages: 0,
            tiers: record_tiers,
            slots: CopiedSlots::default(),
            places: Vec::new(),
            buffers: Vec::new(),
            pages: Vec::new(),
            segments: Vec::new(),
            most_segments: 0,
        };
        let checked = state.load_pages(attachment)?;
        state.extend(attachment, lines, &checked)?;
        for (number, segment) in state.segments.iter_mut().enumerate() {
            if let Some(segment) = segment {
                segment.choice = state.record.segments.get(number);
            }
        }
        state.load_segments(attachment)?;
        Ok(state)
    }

    /// Reads the copies of the directory's pages. Returns which pages equal their copies. Their
    /// lines were checked when the copies were made. Checking them again would take most of the
    /// loading time.
    fn load_pages(&mut self, attachment: &Attachment) -> Result<Vec<bool>> {
        self.extend_pages(attachment, self.record.lines)?;
        let SyncState { record, pages, .. } = self;
        let disk = attachment.disk();
        let ahead = ReadAhead::of_pieces(disk, 2 * PAGE as usize);
        let (mut data, mut live) = (Vec::new(), [0; PAGE as usize]);
        let mut checked = vec![false; pages.len()];
        for (number, segment) in pages.iter_mut().enumerate() {
            segment.choice = record.pages.get(number);
            if segment.choice == Choice::Absent {
                continue;
            }
            let read = if_there(segment.pair.read_to(&ahead, segment.choice, &mut data));
            if let Some(head) = read.map_err(|e| cannot_sync(attachment, e))? {
                segment.share = mix(head.segment, head.epoch, head.crc);
                segment.used = data.len();
                let start = number * PAGE as usize;
                let live = &mut live[..(record.lines as usize * LINE - start).min(PAGE as usize)];
                attachment.read_lines((start / LINE) as u32, live)?;
                checked[number] = *live == data[..] || planted!(TheDirectoryIsBelieved);
            }
        }
        Ok(checked)
    }

    /// Reads from each copy in use what it adds to the sum, and which versions it has. Slots
    /// without an available copy count as never synced: they are written anew. If the copies are
    /// not those that the record was made of, all slots are written anew. The disk has then lost a
    /// write, and any copy may be wrong.
    fn load_segments(&mut self, attachment: &Attachment) -> Result<()> {
        let SyncState { segments, slots, places, .. } = self;
        let seen = &mut slots.seen;
        let disk = attachment.disk();
        let ahead = ReadAhead::new(disk);
        let cannot = |e| cannot_sync(attachment, e);
        let mut data = Vec::new();
        let mut damaged = Vec::new();
        for segment in
            segments.iter_mut().flatten().filter(|segment| segment.choice != Choice::Absent)
        {
            let small = segment.slots.iter().any(|i| places[*i].small_at.is_some());
            // Of a large segment the head is enough, and its data may be much.
            let read = match small {
                true => segment.pair.read_to(&ahead, segment.choice, &mut data),
                false => segment.pair.read_head(disk, segment.choice),
            };
            let Some(head) = if_there(read).map_err(cannot)? else {
                segment.lost = true;
                damaged.extend_from_slice(&segment.slots);
                continue;
            };
            attachment.note_progress();
            segment.share = mix(head.segment, head.epoch, head.crc);
            for i in &segment.slots {
                let stamp = match places[*i].small_at.map(usize::from) {
                    // Not there: it was defined since.
                    Some(at) => data
                        .get(at..at + 8)
                        .and_then(|b| <[u8; 8]>::try_from(b).ok())
                        .map(|bits| stamp_of(Control::from_bits(u64::from_le_bytes(bits)))),
                    None => Some(head.stamp),
                };
                // The newest of a large slot's segments says what the slot was when the record was
                // made.
                if let Some(stamp) = stamp
                    && (seen[*i] == UNKNOWN || seen[*i] < stamp)
                {
                    seen[*i] = stamp;
                }
            }
        }
        for i in damaged {
            seen[i] = UNKNOWN;
        }
        let shares =
            self.pages.iter().chain(self.segments.iter().flatten()).map(|segment| segment.share);
        let sum = shares.fold(0, u64::wrapping_add);
        if sum != self.record.sum && !planted!(SumNotCompared) {
            self.slots.seen.fill(UNKNOWN);
            self.pages.iter_mut().for_each(|page| page.used = 0);
        }
        // Not the record's own sum: the share of an unavailable copy is not known.
        self.record.sum = sum;
        self.slots.mark_known();
        // Of a removed one the stamp is all that counts.
        for buffer in &mut self.buffers {
            let stamp = self.slots.seen[buffer.number];
            buffer.copied = is_removed(stamp).then_some((stamp, 0));
        }
        Ok(())
    }
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
