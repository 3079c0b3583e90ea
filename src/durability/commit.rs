//! The commit of a sync. It starts from what the record in use says, copies what has changed since,
//! and writes the record that names the copies. One flush makes both durable.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::attachment::attach::Attachment;
use crate::directory::allocator;
use crate::directory::directory;
use crate::durability::consistent_copy::{self, Settled, Slots};
use crate::durability::unit::{SlotPlace, Unit, Writer, cannot_sync};
use crate::error::{Error, Result};
use crate::format::checkpoint::{
    self, Choice, DIRECTORY, Place, Record, UNKNOWN, if_there, mix, tag_of,
};
use crate::format::layout::{GRANULE, LARGE_UNIT, LINE, Outline, PAGE, UNIT_HEAD, live};
use crate::mapping::element::ElementRegion;
use crate::mutant::planted;
use crate::os::disk::{Range, ReadAhead};
use crate::os::sys;
use crate::os::time::seconds_since_1970;
use crate::protocol::{Control, Deadline, Form};

/// How many bytes of the whole file are written out at a time.
const PART: u64 = 16 << 20;

/// A length, such as that of the whole file, in parts.
pub(crate) fn parts(len: u64) -> impl Iterator<Item = Range> {
    (0..len.div_ceil(PART)).map(move |i| (i * PART, PART.min(len - i * PART)))
}

/// Makes the whole file survive a power cut. In parts first, as it may take long.
pub(crate) fn flush(attachment: &Attachment) -> std::io::Result<()> {
    let disk = attachment.disk();
    let parts: Vec<Range> = parts(disk.length()?).collect();
    disk.write_out(&parts, &mut || attachment.note_progress())?;
    disk.flush_all()
}

/// Drops what a failed sync has left in the kernel's memory, so that it cannot hinder the next one.
/// Never drops the live area: it may exist nowhere else.
pub(crate) fn forget(attachment: &Attachment) -> Result<()> {
    let regions = &attachment.header.regions;
    let mut parts = vec![(regions.mark, regions.runs)];
    directory::each(attachment, |descriptor| {
        // If its places are impossible, loading reports that.
        if checkpoint::check_places(&descriptor, &attachment.header).is_some() {
            let copies = descriptor.copies;
            parts.push((copies, copies + checkpoint::copies_len(&descriptor)));
        }
        Ok(())
    })?;
    attachment.disk().forget(&allocator::granules(parts.into_iter()));
    Ok(())
}

/// Makes what was written to these ranges survive a power cut. The last one is the record.
fn make_last(attachment: &Attachment, ranges: &[Range]) -> std::io::Result<()> {
    let disk = attachment.disk();
    if !disk.flushes_ranges() && !planted!(RangeFlushAnywhere) {
        return if planted!(NoFlush) { Ok(()) } else { disk.flush_all() };
    }
    if !planted!(NoWriteOut) {
        disk.write_out(ranges, &mut || attachment.note_progress())?;
    }
    match ranges.last() {
        Some(record) if !planted!(NoFlush) => disk.flush(*record),
        _ => Ok(()),
    }
}

/// The epoch of the last acknowledged sync, if the live header has one.
fn acked(attachment: &Attachment) -> Option<u64> {
    // Acquire: stored after the record was written.
    let epoch = attachment.live.load(live::ACKED, Acquire);
    let is_one = checkpoint::EPOCHS.contains(&epoch.wrapping_add(1));
    (is_one && attachment.live.load(live::ACKED + 1, Relaxed) == !epoch).then_some(epoch)
}

/// Notes an acknowledged epoch. Under the sync lock, or before any process is attached.
pub(crate) fn store_acked(attachment: &Attachment, epoch: u64) {
    // Release: in this order, whenever the process is killed. Between the two stores there is no
    // acknowledged epoch, and the next sync reads the records as opening does.
    attachment.live.store(live::ACKED + 1, !epoch, Release);
    attachment.live.store(live::ACKED, epoch, Release);
}

/// What the syncing process remembers, in private memory, about the record in use.
#[derive(Debug)]
pub(crate) struct Tracked {
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
    /// How many pages of the directory, from the first one on, are full and in the record.
    full_pages: usize,
    slots: Slots,
    /// Where each slot is copied to.
    places: Vec<SlotPlace>,
    /// The slots that are buffers, with their elements.
    buffers: Vec<(usize, ElementRegion)>,
    pages: Vec<Unit>,
    /// By number; `None` for units without a slot.
    units: Vec<Option<Unit>>,
    /// How many units fit into the file, at the length last seen.
    most_units: u64,
}

impl Tracked {
    /// Writes what has changed, and the record that names it. The cost depends only on what has
    /// changed, plus one look at each slot.
    pub(crate) fn sync(&mut self, attachment: &Attachment, deadline: &mut Deadline) -> Result<()> {
        let began = sys::since_boot();
        let mut writer = Writer::new(attachment, self.record.epoch + 1);
        self.cut(attachment, &mut writer, deadline)?;
        let mut written = writer.units;
        written.sort_unstable();
        written.dedup();
        written.retain(|number| self.unit(*number).written.is_some());
        // Relaxed: a date for display, and a time.
        let never_dated = attachment.live.load(live::LAST_SYNC + 1, Relaxed) == 0;
        if !written.is_empty() || self.is_missing {
            self.commit(attachment, &written)?;
        } else if !never_dated {
            return Ok(());
        }
        attachment.live.store(live::LAST_SYNC, began, Relaxed);
        attachment.live.store(live::LAST_SYNC + 1, seconds_since_1970(), Relaxed);
        Ok(())
    }

    /// Writes the record that names these copies, and makes both durable.
    fn commit(&mut self, attachment: &Attachment, written: &[u64]) -> Result<()> {
        let cannot = |e| cannot_sync(attachment, e);
        let (disk, regions) = (attachment.disk(), &attachment.header.regions);
        let mut record = self.record.clone();
        record.epoch += 1;
        record.lines = self.lines;
        for number in written {
            let unit = self.unit(*number);
            let (choice, share) = unit.written.expect("only such are named");
            record.sum = record.sum.wrapping_sub(unit.share).wrapping_add(share);
            match number & DIRECTORY {
                0 => record.units.set(*number as usize, choice),
                _ => record.pages.set((number & !DIRECTORY) as usize, choice),
            }
        }
        let (bytes, mut number) = (record.encode(), 1 - self.number);
        if planted!(RecordByParity) {
            number = record.epoch % 2;
        }
        let (at, len) = (regions.records + number * regions.record_len, bytes.len() as u64);
        if len > self.room {
            let room = len.next_multiple_of(GRANULE);
            for number in 0..2 {
                let at = regions.records + number * regions.record_len;
                allocator::allocate(attachment, at, at + room)?;
            }
            self.room = room;
        }
        // Copies and record may reach the disk in any order. A record is valid only with all copies
        // that it names, and nothing is acknowledged before the flush.
        if planted!(MarkEarly) {
            checkpoint::write_mark(disk, regions, record.epoch).map_err(cannot)?;
        }
        disk.write(at, &bytes).map_err(cannot)?;
        let copies = written.iter().map(|number| {
            let unit = self.unit(*number);
            unit.place.range(unit.written.expect("only such are named").0)
        });
        let ranges: Vec<Range> = copies.chain([(at, len)]).collect();
        let mut lasting = make_last(attachment, &ranges);
        if planted!(FlushAgain) && lasting.is_err() {
            lasting = make_last(attachment, &ranges);
        }
        if !planted!(AcknowledgeFailed) {
            lasting.map_err(cannot)?;
        }
        // Committed. What was written is in use from here on.
        store_acked(attachment, record.epoch);
        for number in written {
            let unit = self.unit_mut(*number);
            (unit.choice, unit.share) = unit.written.take().expect("only such are named");
            unit.lost = false;
        }
        self.full_pages = record.lines as usize * LINE / PAGE as usize;
        (self.record, self.number, self.is_missing) = (record, number, false);
        Ok(())
    }

    /// The unit, or the page of the directory, with this number.
    fn unit(&self, number: u64) -> &Unit {
        match number & DIRECTORY {
            0 => self.units[number as usize].as_ref().expect("it was written"),
            _ => &self.pages[(number & !DIRECTORY) as usize],
        }
    }

    fn unit_mut(&mut self, number: u64) -> &mut Unit {
        match number & DIRECTORY {
            0 => self.units[number as usize].as_mut().expect("it was written"),
            _ => &mut self.pages[(number & !DIRECTORY) as usize],
        }
    }

    /// Whether this is still the record in use: no other process has synced since.
    pub(crate) fn is_of(&self, attachment: &Attachment) -> bool {
        acked(attachment) == Some(self.record.epoch)
    }

    /// Writes the mark, see [`checkpoint::write_mark`].
    pub(crate) fn write_mark(&self, attachment: &Attachment) -> Result<()> {
        checkpoint::write_mark(attachment.disk(), &attachment.header.regions, self.record.epoch)
            .map_err(|e| cannot_sync(attachment, e))
    }

    /// How many slots differ from the record in use.
    pub(crate) fn count_unsynced(&mut self, attachment: &Attachment) -> Result<u64> {
        self.extend(attachment, directory::count(attachment)?, &[])?;
        let mut changed: BTreeSet<usize> = self.slots.changed(attachment).collect();
        for (number, elements) in &self.buffers {
            if self.buffer_differs(attachment, *number, elements)? {
                changed.insert(*number);
            }
        }
        Ok(changed.len() as u64)
    }

    /// What the record in use says. That is the acknowledged record, or, if the live header has
    /// none, the one that opening would choose.
    pub(crate) fn load(attachment: &Attachment) -> Result<Tracked> {
        let (disk, regions) = (attachment.disk(), &attachment.header.regions);
        let cannot = |e| cannot_sync(attachment, e);
        let mut found = Vec::new();
        for number in 0..2 {
            if let Some(record) = Record::read(disk, regions, number).map_err(cannot)? {
                found.push((number, record));
            }
        }
        found.sort_by_key(|(_, record)| std::cmp::Reverse(record.epoch));
        let acked = acked(attachment);
        let chosen = found.iter().position(|(_, record)| Some(record.epoch) == acked);
        let chosen = chosen.filter(|_| !planted!(BuildsOnTheNewest));
        let newest = || (!found.is_empty()).then_some(0);
        let Some(chosen) = chosen.or_else(newest) else {
            let what = "both of its commit records are damaged, so it cannot be synced; its \
                        contents last until the machine is restarted: save them now with \
                        `slotfile copy`";
            return Err(Error::corrupt(&attachment.path, what));
        };
        let acknowledged = Some(found[chosen].1.epoch) == acked;
        if !acknowledged && attachment.writable && !planted!(LoadsWithoutFlush) {
            // It may never have reached the disk. What it names must, before a sync builds on it.
            flush(attachment).map_err(cannot)?;
        }
        let (number, mut record) = found.swap_remove(chosen);
        // The acknowledged record cannot be read, but others know it by its number. The next record
        // gets another number.
        let missing = acked.filter(|acked| *acked > record.epoch && !planted!(NumberTwice));
        record.epoch = missing.unwrap_or(record.epoch);
        let lines = record.lines;
        let mut tracked = Tracked {
            record,
            number,
            is_missing: missing.is_some(),
            // As much as in a new store.
            room: GRANULE,
            lines: 0,
            full_pages: 0,
            slots: Slots::default(),
            places: Vec::new(),
            buffers: Vec::new(),
            pages: Vec::new(),
            units: Vec::new(),
            most_units: 0,
        };
        let checked = tracked.load_pages(attachment)?;
        tracked.extend(attachment, lines, &checked)?;
        for (number, unit) in tracked.units.iter_mut().enumerate() {
            if let Some(unit) = unit {
                unit.choice = tracked.record.units.get(number);
            }
        }
        tracked.load_units(attachment)?;
        Ok(tracked)
    }

    /// Reads the copies of the directory's pages. Returns which pages equal their copies. Their
    /// lines were checked when the copies were made. Checking them again would take most of the
    /// loading time.
    fn load_pages(&mut self, attachment: &Attachment) -> Result<Vec<bool>> {
        let Tracked { record, pages, .. } = self;
        let (directory, disk) = (&attachment.directory, attachment.disk());
        let ahead = ReadAhead::of_pieces(disk, 2 * PAGE as usize);
        extend_pages(pages, attachment, record.lines);
        let (mut data, mut live) = (Vec::new(), [0; PAGE as usize]);
        let mut checked = vec![false; pages.len()];
        for (number, unit) in pages.iter_mut().enumerate() {
            unit.choice = record.pages.get(number);
            if unit.choice == Choice::Absent {
                continue;
            }
            let read = if_there(unit.place.read_to(&ahead, unit.choice, &mut data));
            if let Some(head) = read.map_err(|e| cannot_sync(attachment, e))? {
                unit.share = mix(head.unit, head.epoch, head.crc);
                unit.used = data.len();
                let start = number * PAGE as usize;
                let live = &mut live[..(record.lines as usize * LINE - start).min(PAGE as usize)];
                directory.read(start / 8, 0, live);
                checked[number] = *live == data[..];
            }
        }
        Ok(checked)
    }

    /// Reads from each copy in use what it adds to the sum, and which versions it has. Slots
    /// without an available copy count as never synced: they are written anew. If the copies are
    /// not those that the record was made of, all slots are written anew. The disk has then lost a
    /// write, and any copy may be wrong.
    fn load_units(&mut self, attachment: &Attachment) -> Result<()> {
        let Tracked { units, slots, places, .. } = self;
        let seen = &mut slots.seen;
        let disk = attachment.disk();
        let ahead = ReadAhead::new(disk);
        let cannot = |e| cannot_sync(attachment, e);
        let mut data = Vec::new();
        let mut damaged = Vec::new();
        for unit in units.iter_mut().flatten().filter(|unit| unit.choice != Choice::Absent) {
            let small = unit.slots.iter().any(|i| places[*i].small_at.is_some());
            // Of a large unit the head is enough, and its data may be much.
            let read = match small {
                true => unit.place.read_to(&ahead, unit.choice, &mut data),
                false => unit.place.read_head(disk, unit.choice),
            };
            let Some(head) = if_there(read).map_err(cannot)? else {
                unit.lost = true;
                damaged.extend_from_slice(&unit.slots);
                continue;
            };
            attachment.note_progress();
            unit.share = mix(head.unit, head.epoch, head.crc);
            for i in &unit.slots {
                let tag = match places[*i].small_at.map(usize::from) {
                    // Not there: it was defined since.
                    Some(at) => data
                        .get(at..at + 8)
                        .and_then(|b| <[u8; 8]>::try_from(b).ok())
                        .map(|bits| tag_of(Control::from_bits(u64::from_le_bytes(bits)))),
                    None => Some(head.tag),
                };
                // The newest of a large slot's units says what the slot was when the record was
                // made.
                if let Some(tag) = tag
                    && (seen[*i] == UNKNOWN || seen[*i] < tag)
                {
                    seen[*i] = tag;
                }
            }
        }
        for i in damaged {
            seen[i] = UNKNOWN;
        }
        let shares = self.pages.iter().chain(self.units.iter().flatten()).map(|unit| unit.share);
        let sum = shares.fold(0, u64::wrapping_add);
        if sum != self.record.sum && !planted!(SumNotCompared) {
            self.slots.seen.fill(UNKNOWN);
            self.pages.iter_mut().for_each(|page| page.used = 0);
        }
        // Not the record's own sum: the share of an unavailable copy is not known.
        self.record.sum = sum;
        self.slots.are_known();
        Ok(())
    }

    /// Adds the descriptors up to line `lines`.
    fn extend(&mut self, attachment: &Attachment, lines: u32, checked: &[bool]) -> Result<()> {
        if lines < self.lines {
            let what = format!("its directory had {} lines, but has {lines} now", self.lines);
            return Err(Error::corrupt(&attachment.path, what));
        }
        extend_pages(&mut self.pages, attachment, lines);
        let from = self.lines;
        directory::each_outline(attachment, from, lines, checked, |line, outline| {
            let added = self.add(attachment, line, outline);
            added.map_err(|error| directory::of_slot_at(attachment, line, error))
        })?;
        self.lines = lines;
        Ok(())
    }

    fn add(&mut self, attachment: &Attachment, line: u32, outline: &Outline) -> Result<()> {
        let damaged = || Error::corrupt(&attachment.path, "its checkpoint units are out of place");
        let small = checkpoint::is_small(outline);
        let number = self.slots.len();
        let count = if small { 1 } else { checkpoint::large_units(outline) };
        checkpoint::check_places(outline, &attachment.header).ok_or_else(damaged)?;
        let end = outline.first_unit + count;
        if self.units.len() < end as usize {
            // Each unit takes at least two pages of the file. A damaged number must not be taken
            // for that many units.
            if end > self.most_units {
                let len = attachment.disk().length().map_err(|e| cannot_sync(attachment, e))?;
                self.most_units = len / (2 * PAGE);
            }
            if end > self.most_units {
                return Err(damaged());
            }
            self.units.resize_with(end as usize, || None);
        }
        let small_at = small.then(|| (outline.place - UNIT_HEAD) as u16);
        if let Some(at) = small_at {
            let unit = self.unit_of(Place::of_small(outline), number).ok_or_else(damaged)?;
            unit.used = unit.used.max(usize::from(at) + checkpoint::entry_len(outline) as usize);
        } else {
            for part in 0..count {
                let place = Place::of_large(outline, part);
                self.unit_of(place, number).ok_or_else(damaged)?;
            }
        }
        self.slots.push(attachment, outline)?;
        let is_buffer = outline.is_buffer();
        if is_buffer {
            let descriptor = directory::at(attachment, line)?;
            let memory = directory::memory(attachment, &descriptor)?;
            let elements = consistent_copy::elements(&descriptor, &memory);
            self.buffers.extend(elements.map(|elements| (number, elements)));
        }
        let Outline { content_len, first_unit, .. } = *outline;
        self.places.push(SlotPlace { content_len, first_unit, small_at, is_buffer });
        Ok(())
    }

    /// The unit at this place, to which this slot is added. `None`: the unit has another place.
    #[inline]
    fn unit_of(&mut self, place: Place, number: usize) -> Option<&mut Unit> {
        let unit = self.units[place.unit as usize].get_or_insert_with(|| Unit::new(place));
        if unit.place != place {
            return None;
        }
        unit.slots.push(number);
        Some(unit)
    }

    /// Writes copies of all that changed, until they are the state of one instant.
    fn cut(
        &mut self,
        attachment: &Attachment,
        writer: &mut Writer<'_>,
        deadline: &mut Deadline,
    ) -> Result<()> {
        consistent_copy::cut(&mut Cut { tracked: self, attachment, writer }, attachment, deadline)?;
        self.copy_buffers(writer)?;
        self.write_pages(attachment, writer)
    }

    /// Whether anything differs from the record in use.
    pub(crate) fn has_changed(&self, attachment: &Attachment) -> Result<bool> {
        if directory::count(attachment)? != self.lines || self.slots.have_changed(attachment) {
            return Ok(true);
        }
        for (number, elements) in &self.buffers {
            if self.buffer_differs(attachment, *number, elements)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Copies the buffers as they stand. Their versions do not say whether they changed.
    fn copy_buffers(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        for (number, elements) in &self.buffers {
            let units = &mut self.units[self.places[*number].large_units()];
            let tag = self.slots.seen[*number];
            writer.write_large(units, tag, |at, data| elements.read(at, data))?;
        }
        Ok(())
    }

    /// Whether a buffer's content differs from its copies in use.
    fn buffer_differs(
        &self,
        attachment: &Attachment,
        number: usize,
        elements: &ElementRegion,
    ) -> Result<bool> {
        let place = &self.places[number];
        let mut data = vec![0; LARGE_UNIT as usize];
        for (part, unit) in self.units[place.large_units()].iter().enumerate() {
            let unit = unit.as_ref().expect("every slot has its units");
            let data = &mut data[..unit.place.len];
            elements.read(part * LARGE_UNIT as usize, data);
            if unit.tag_if_same(attachment, data)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the pages of the directory with lines that the record in use lacks.
    fn write_pages(&mut self, attachment: &Attachment, writer: &mut Writer<'_>) -> Result<()> {
        let all = self.lines as usize * LINE;
        for (number, unit) in self.pages.iter_mut().enumerate().skip(self.full_pages) {
            let start = number * PAGE as usize;
            let used = (all - start).min(PAGE as usize);
            if unit.choice != Choice::Absent && unit.used == used {
                continue;
            }
            let mut data = vec![0; used];
            attachment.directory.read(start / 8, 0, &mut data);
            writer.write(unit, 0, &data)?;
            unit.used = used;
        }
        Ok(())
    }
}

/// Adds the pages of the directory that this many lines use.
fn extend_pages(pages: &mut Vec<Unit>, attachment: &Attachment, lines: u32) {
    let new = pages.len()..checkpoint::pages(lines);
    pages.extend(new.map(|n| Unit::new(Place::of_page(&attachment.header.regions, n as u64))));
}

/// A sync that copies what has changed.
struct Cut<'a, 'b> {
    tracked: &'a mut Tracked,
    attachment: &'a Attachment,
    writer: &'a mut Writer<'b>,
}

impl consistent_copy::Copier for Cut<'_, '_> {
    fn slots(&mut self) -> &mut Slots {
        &mut self.tracked.slots
    }

    fn extend(&mut self, lines: u32) -> Result<()> {
        self.tracked.extend(self.attachment, lines, &[])
    }

    fn settle_copies(&mut self, lines: u32, deadline: &mut Deadline) -> Result<Settled> {
        let Cut { attachment, writer, .. } = self;
        let Tracked { slots, places, units, .. } = self.tracked;
        slots.settle_copies(attachment, lines, deadline, |changed, memories, seen| {
            let mut done = None;
            for number in changed {
                let place = &places[*number];
                let first = place.first_unit as usize;
                let tag = memories.tag(attachment, *number);
                let memory = memories.get(*number);
                match memory.form() {
                    _ if place.is_buffer => seen[*number] = tag,
                    _ if place.small_at.is_some() && done == Some(first) => {} // with a neighbour
                    Form::Areas(areas) if place.small_at.is_none() => {
                        let units = &mut units[place.large_units()];
                        seen[*number] = writer.copy_large(units, &memory, &areas, tag)?;
                    }
                    _ => {
                        let unit = units[first].as_mut().expect("every slot has a unit");
                        writer.copy_small(unit, places, memories, seen)?;
                        done = Some(first);
                    }
                }
            }
            Ok(())
        })
    }
}
