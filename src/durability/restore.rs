//! Puts back what a commit record names.
//!
//! Nothing of the live area is read. It is first made zeros, in blocks of its own. So a sector of
//! it that cannot be read does no harm, nor does one that is shared with a copy of the file.

use std::sync::atomic::Ordering::Relaxed;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::directory;
use crate::directory::allocator;
use crate::directory::blocks;
use crate::durability::choose_record::Chosen;
use crate::durability::copies::{self, Directory, cannot_restore, each_copy, read_copy};
use crate::durability::flush;
use crate::durability::group;
use crate::durability::sync_notes;
use crate::error::{Error, Result};
use crate::format::checkpoint::{self, CopyPair, Record, Stamp, control_of, stamp_of};
use crate::format::descriptor::Descriptor;
use crate::format::layout::{Ends, LARGE_SEGMENT, PAGE, RUN, SEGMENT_HEAD, SMALL_SEGMENT, live};
use crate::format::regions::ENTRIES_OF_PAGE;
use crate::format::tiers::Parts;
use crate::mapping::map::Region;
use crate::mutant::planted;
use crate::protocol::{self, Areas, CONTROL, Control, DRAFT, Form, STALE, State, VALUE, all_stale};

/// An intact record to return to, and the directory that it names.
pub(crate) struct Restore<'a> {
    attachment: &'a Attachment,
    record: &'a Record,
    /// Which of the two records it is.
    number: Option<u64>,
    directory: Directory,
}

impl<'a> Restore<'a> {
    pub(crate) fn new(attachment: &'a Attachment, chosen: &'a Chosen) -> Result<Restore<'a>> {
        let Chosen { record, number, .. } = chosen;
        let directory = copies::directory_of(attachment, record)?;
        Ok(Restore { attachment, record, number: *number, directory })
    }

    fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.directory.slots.iter().map(|(_, descriptor)| descriptor)
    }

    /// Before anything is written, gives everything that stays as it is blocks of its own: headers,
    /// records, copies.
    pub(crate) fn unshare(&self) -> Result<()> {
        let Restore { attachment, .. } = self;
        let regions = &attachment.header.regions;
        let checkpoint = (regions.mark, regions.runs);
        let headers = regions.headers().into_iter().chain([checkpoint]);
        let copies = self.descriptors().filter(|d| d.copies != 0);
        let copies = copies.map(|d| (d.copies, d.copies + checkpoint::copies_len(d)));
        let copies =
            copies.chain(self.tiers().map(|(at, used, _)| (at.copies, at.copies + used.copies)));
        for (at, len) in blocks::granules(headers.chain(copies)) {
            attachment
                .disk()
                .unshare(at, len, &mut || attachment.note_progress())
                .map_err(|e| attachment.no_space(len, e))?;
        }
        Ok(())
    }

    /// Puts back directory, slots, index and ends. `tried_before`: an earlier attempt has failed.
    pub(crate) fn put_back(&self, tried_before: bool) -> Result<()> {
        let Restore { attachment, record, number, directory } = self;
        let (disk, regions) = (attachment.disk(), &attachment.header.regions);
        let fail = |e| cannot_restore(attachment, e);
        let ends = allocator::rebuild(attachment, &record.tiers, self.descriptors());
        self.clear(ends.segments)?;
        self.note_tiers();
        if !planted!(DirectoryStays) {
            attachment.write_lines(0, &directory.lines)?;
        }
        let names = directory.slots.iter().map(|(line, d)| (*line, d.name.as_str()));
        directory::fill_index(attachment, names)?;
        let mut segment = None;
        for (line, descriptor) in &directory.slots {
            restore_slot(attachment, record, descriptor, &mut segment)
                .map_err(|e| e.of_slot(&descriptor.name))?;
            note_segments(attachment, *line, descriptor)?;
        }
        clear_beyond(attachment, &ends)?;
        // Locks, and whatever else belonged to earlier processes.
        for lock in [live::DIRECTORY_LOCK, live::SYNC_LOCK] {
            attachment.live.store(lock + CONTROL, 0, Relaxed);
        }
        attachment.live.store(live::LAST_SYNC, 0, Relaxed);
        group::reset(attachment);
        if attachment.header.minor >= 1 {
            attachment.live.store(live::TABLE_BLOCKS, 0, Relaxed);
            attachment.live.store(live::CLEANING, 0, Relaxed);
        }
        // A failed sync no longer matters: what it was to save is gone.
        for word in [live::FAILED_SYNC, live::FAILED_SYNC + 1] {
            attachment.live.store(word, 0, Relaxed);
        }
        allocator::store_rebuilt(attachment, &ends);
        // The record that was not chosen could come back, after further syncs, as the newest.
        if let Some(number) = number.filter(|_| !planted!(NoErase)) {
            Record::erase(disk, regions, 1 - number).map_err(fail)?;
        }
        sync_notes::store_acked(attachment, record.epoch);
        attachment.live.store(live::COUNT, descriptors::count_word(record.lines), Relaxed);
        if tried_before && !planted!(RestoreTrustsTheCache) {
            write_again(attachment, record, *number)?;
        }
        // Everything, not only what was just written: nothing of a copied file may be on the disk
        // yet. After an error the next opener does all of it again.
        if !planted!(NoFlushInRestore) {
            flush::whole_file(attachment).map_err(fail)?;
        }
        if tried_before && !planted!(BelievesASecondRestore) {
            // What could not be written in that attempt may still be missing, though it was written
            // again: see `Disk::forget`.
            flush::forget(attachment)?;
            copies::check_whole(attachment, record)?;
        }
        // The mark may be damaged, or a power cut may have lost it.
        if attachment.header.has_checkpoint() {
            checkpoint::write_mark(disk, regions, record.epoch).map_err(fail)?;
        }
        Ok(())
    }

    /// The further tiers that the record names: where each is, how much of it is in use, and how
    /// long it is.
    fn tiers(&self) -> impl Iterator<Item = (Parts, Parts, Parts)> {
        let (regions, lines) = (&self.attachment.header.regions, self.record.lines.into());
        (1..).zip(&self.record.tiers).map(move |(number, at)| {
            (*at, regions.parts_blocks(number, lines), regions.parts_len(number))
        })
    }

    /// Notes where the further tiers are.
    fn note_tiers(&self) {
        let regions = &self.attachment.header.regions;
        for number in 1..regions.tiers(regions.directory_lines) {
            let parts = self.record.tiers.get(number as usize - 1).copied();
            self.attachment.store_parts(number, parts);
        }
    }

    /// Makes the process table, the index, the directory, the marks, the first lines and the live slots
    /// zeros, in blocks of their own.
    fn clear(&self, segments: u64) -> Result<()> {
        let Restore { attachment, record, .. } = self;
        let regions = &attachment.header.regions;
        for (from, to) in regions.headers() {
            attachment.allocate(from, to)?;
        }
        // As in a new store in which these lines were defined.
        let segments = attachment.header.has_checkpoint().then_some(segments);
        let structure = regions.structure(record.lines.into(), ENTRIES_OF_PAGE, segments);
        let slots = self.descriptors().map(|d| (d.live, d.live + d.live_len()));
        let disk = attachment.disk();
        let zeros = structure.iter().map(|(from, to)| (*from, to - from));
        let tiers = self.tiers().map(|(at, used, _)| (at.live, at.live + used.live));
        for (at, len) in zeros.chain(blocks::granules(slots.chain(tiers))) {
            for (from, len) in flush::parts(len) {
                attachment.allocate(at + from, at + from + len)?;
                disk.zero(at + from, len, &mut || attachment.note_progress())
                    .map_err(|e| attachment.no_space(len, e))?;
                attachment.note_progress();
            }
        }
        // What lies between them has no blocks.
        let next = structure.iter().skip(1).map(|(from, _)| *from).chain([regions.structure_end()]);
        let rest = structure.iter().map(|(_, end)| *end).zip(next);
        let tiers = self.tiers().map(|(at, used, len)| (at.live + used.live, at.live + len.live));
        let end = disk.length().map_err(|e| cannot_restore(attachment, e))?;
        for (from, to) in rest.chain(tiers).map(|(from, to)| (from, to.min(end))) {
            if from < to {
                disk.punch(from, to - from).map_err(|e| cannot_restore(attachment, e))?;
            }
        }
        Ok(())
    }
}

/// Writes the data behind the restored state once more, unchanged. An earlier attempt has failed,
/// perhaps in its fsync. The kernel then takes pages of a copied file for clean that never reached
/// the disk, and another fsync alone would leave them out.
fn write_again(attachment: &Attachment, record: &Record, number: Option<u64>) -> Result<()> {
    let (disk, regions) = (attachment.disk(), &attachment.header.regions);
    let fail = |e| cannot_restore(attachment, e);
    let mut header = [0; PAGE as usize];
    disk.read(0, &mut header).and_then(|()| disk.write(0, &header)).map_err(fail)?;
    if let Some(number) = number {
        let at = regions.records + number * regions.record_len;
        disk.write(at, &record.encode()).map_err(fail)?;
    }
    each_copy(attachment, record, |pair, choice| {
        let (head, data) = read_copy(attachment, pair, choice)?;
        pair.write(disk, choice, head.epoch, head.stamp, &data).map_err(fail)?;
        Ok(())
    })
}

/// Makes the space beyond the ends zeros, as in a new store. Slots defined after the sync have left
/// their bytes there.
fn clear_beyond(attachment: &Attachment, ends: &Ends) -> Result<()> {
    if planted!(LeavesWhatIsBeyond) {
        return Ok(());
    }
    let disk = attachment.disk();
    let fail = |e| cannot_restore(attachment, e);
    let file_end = disk.length().map_err(fail)?;
    let punch = |from: u64, to: u64| {
        if from < to { disk.punch(from, to - from).map_err(fail) } else { Ok(()) }
    };
    if ends.live != 0 {
        punch(ends.live, ends.live.next_multiple_of(RUN).min(file_end))?;
    }
    punch(ends.runs, file_end)?;
    Ok(())
}

/// Notes which segments a restored slot has. It is clean, but for a buffer, which is marked for ever.
fn note_segments(attachment: &Attachment, line: u32, descriptor: &Descriptor) -> Result<()> {
    let segments = attachment.note_first_lines(line, descriptor)?;
    let Some(marks) = attachment.marks() else { return Ok(()) };
    let memory = descriptors::memory(attachment, descriptor)?;
    attachment.write_segment(memory.region(), descriptor);
    if descriptor.is_buffer() {
        protocol::mark_new(marks, segments);
        return Ok(());
    }
    let control = Control::from_bits(memory.region().load(CONTROL, Relaxed));
    if !control.is_removed() {
        memory.region().store(CONTROL, control.with_state(State::Clean).bits(), Relaxed);
    }
    Ok(())
}

/// Writes one slot's control word and content. `segment` is the small segment read last.
fn restore_slot(
    attachment: &Attachment,
    record: &Record,
    descriptor: &Descriptor,
    segment: &mut Option<(u64, Vec<u8>)>,
) -> Result<()> {
    let memory = descriptors::memory(attachment, descriptor)?;
    if !checkpoint::is_small(descriptor) {
        return restore_large(attachment, record, descriptor, memory.region());
    }
    let number = descriptor.first_segment;
    if segment.as_ref().is_none_or(|(read, _)| *read != number) {
        let choice = record.segments.get(number as usize);
        *segment =
            Some((number, read_copy(attachment, &CopyPair::of_small(descriptor), choice)?.1));
    }
    let data = segment.as_ref().map_or(&[][..], |(_, data)| data);
    let at = (descriptor.offset_in_segment - SEGMENT_HEAD) as usize;
    let entry = data.get(at..at + checkpoint::entry_len(descriptor) as usize);
    let entry = entry.ok_or_else(|| {
        Error::corrupt(&attachment.path, "its checkpoint is too short to hold it")
    })?;
    restore_small(descriptor, entry, memory.region());
    Ok(())
}

/// Writes a slot that shares its segment with others. `entry` is what its copy holds of it.
fn restore_small(descriptor: &Descriptor, entry: &[u8], region: &Region) {
    let (control, content) = entry.split_at(8);
    let control = u64::from_le_bytes(control.try_into().unwrap_or_default());
    let stamp = stamp_of(Control::from_bits(control));
    match descriptor.form() {
        Form::Areas(areas) => {
            let content = &content[..descriptor.content_len as usize];
            region.write(areas.of(stamp >> 1), 0, content);
            store_at_rest(region, Some(&areas), stamp);
        }
        Form::Scalar | Form::Lock => {
            let value = u64::from_le_bytes(content.try_into().unwrap_or_default());
            region.store(VALUE, value, Relaxed);
            region.store(DRAFT, 0, Relaxed);
            store_at_rest(region, None, stamp);
        }
    }
}

/// Writes a slot that has segments of its own.
fn restore_large(
    attachment: &Attachment,
    record: &Record,
    descriptor: &Descriptor,
    region: &Region,
) -> Result<()> {
    let Form::Areas(areas) = descriptor.form() else { unreachable!("a scalar is small") };
    let pairs = || {
        let pairs = (0..checkpoint::large_segments(descriptor))
            .map(|part| (part, CopyPair::of_large(descriptor, part)));
        pairs.map(|(part, pair)| (part, pair, record.segments.get(pair.segment as usize)))
    };
    // First the heads: the newest says which version the slot has, and so where its content goes.
    let mut stamp: Stamp = 0;
    for (_, pair, choice) in pairs() {
        let head = pair.read_head(attachment.disk(), choice);
        let head = head.map_err(|why| copies::missing(attachment, &pair, choice, why))?;
        stamp = stamp.max(head.stamp);
    }
    for (part, pair, choice) in pairs() {
        let (_, data) = read_copy(attachment, &pair, choice)?;
        region.write(areas.of(stamp >> 1), (part * LARGE_SEGMENT) as usize, &data);
    }
    store_at_rest(region, Some(&areas), stamp);
    Ok(())
}

/// Writes the control word of a slot at rest. All areas but the current one are stale.
fn store_at_rest(region: &Region, areas: Option<&Areas>, stamp: Stamp) {
    // A buffer has one area, which is never stale.
    if let Some(areas) = areas.filter(|areas| areas.count > 1) {
        for area in 0..areas.count as usize {
            region.store(STALE + area, all_stale(areas.words), Relaxed);
        }
    }
    region.store(CONTROL, control_of(stamp).bits(), Relaxed);
}

const _: () = assert!(SMALL_SEGMENT == PAGE);
