//! What a checkpoint is on disk: copies of units, and the record that says which of them belong
//! together.
//!
//! Each unit has two copies, of which at most one is in use. A sync writes the other copies, then
//! the record that is not in use. So wherever it is interrupted, the record in use and all that it
//! names are untouched. This module knows nothing of the live slots.

use std::io;

use bytemuck::{Pod, Zeroable};

use crate::format::layout::{
    Header, LARGE_UNIT, LINE, Outline, PAGE, Regions, SMALL_ENTRY, SMALL_UNIT, UNIT_HEAD,
};
use crate::mutant::planted;
use crate::os::disk::{self, Disk, Range};
use crate::protocol::{self, Control, REMOVED};
use crate::types::dtype::SlotType;

/// The head of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct CopyHead {
    /// The unit's number; for a page of the directory, its number with [`DIRECTORY`] set.
    pub(crate) unit: u64,
    /// The epoch of the sync that wrote it.
    pub(crate) epoch: u64,
    /// Bytes of data.
    pub(crate) len: u64,
    /// For a large slot: see [`Tag`]. Otherwise 0.
    pub(crate) tag: u64,
    pub(crate) reserved: [u32; 7],
    /// CRC-32 of the head before it and of the data.
    pub(crate) crc: u32,
}

const _: () = assert!(size_of::<CopyHead>() == UNIT_HEAD as usize);

/// Set in the numbers of the directory's pages.
pub(crate) const DIRECTORY: u64 = 1 << 63;

/// A slot's version times two, plus one if it was removed.
pub(crate) type Tag = u64;

/// A tag that no slot has: versions have 47 bits.
pub(crate) const UNKNOWN: Tag = Tag::MAX;

/// The tag of a slot with this control word.
#[inline]
pub(crate) fn tag_of(control: Control) -> Tag {
    control.version() << 1 | Tag::from(control.is_removed())
}

/// The control word of a slot at rest with this tag.
pub(crate) fn control_of(tag: Tag) -> Control {
    let owner = if tag & 1 == 1 { REMOVED } else { protocol::FREE };
    Control::default().advanced(tag >> 1).with_owner(owner)
}

/// Where the two copies of a unit are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) unit: u64,
    /// The first copy's head.
    at: u64,
    /// From one copy to the other.
    stride: u64,
    /// From a copy's head to its data.
    data: u64,
    /// Bytes of data, at most.
    pub(crate) len: usize,
}

impl Place {
    /// The place of a page of the directory.
    pub(crate) fn of_page(regions: &Regions, page: u64) -> Place {
        let at = regions.directory_copies + page * 4 * PAGE;
        Place { unit: DIRECTORY | page, at, stride: 2 * PAGE, data: PAGE, len: PAGE as usize }
    }

    /// The place of the small unit that a slot is in.
    #[inline]
    pub(crate) fn of_small(outline: &Outline) -> Place {
        Place {
            unit: outline.first_unit,
            at: outline.copies,
            stride: SMALL_UNIT,
            data: UNIT_HEAD,
            len: (SMALL_UNIT - UNIT_HEAD) as usize,
        }
    }

    /// The place of a large slot's unit number `part`, counted from its first.
    pub(crate) fn of_large(outline: &Outline, part: u64) -> Place {
        let len = (outline.content_len - part * LARGE_UNIT).min(LARGE_UNIT);
        Place {
            unit: outline.first_unit + part,
            at: outline.copies + part * 2 * (PAGE + LARGE_UNIT),
            stride: PAGE + len.next_multiple_of(PAGE),
            data: PAGE,
            len: len as usize,
        }
    }

    /// The bytes of one copy, to be synced.
    pub(crate) fn range(&self, choice: Choice) -> Range {
        (self.head(choice), self.stride)
    }

    fn head(&self, choice: Choice) -> u64 {
        match choice {
            Choice::B => self.at + self.stride,
            Choice::A | Choice::Absent => self.at,
        }
    }

    /// Writes one copy; returns its CRC.
    pub(crate) fn write(
        &self,
        disk: &dyn Disk,
        choice: Choice,
        epoch: u64,
        tag: Tag,
        data: &[u8],
    ) -> io::Result<u32> {
        assert!(data.len() <= self.len, "a unit's data fits it");
        let mut head = CopyHead { unit: self.unit, epoch, tag, ..Zeroable::zeroed() };
        head.len = data.len() as u64;
        head.crc = copy_crc(&head, data);
        let at = self.head(choice);
        if self.data == UNIT_HEAD {
            // One page, one write: the cache never holds a half-old page.
            let mut page = bytemuck::bytes_of(&head).to_vec();
            page.extend_from_slice(data);
            disk.write(at, &page)?;
        } else {
            disk.write(at + self.data, data)?;
            disk.write(at, bytemuck::bytes_of(&head))?;
        }
        Ok(head.crc)
    }

    /// A copy's head alone, if it belongs to this unit.
    pub(crate) fn read_head(&self, disk: &dyn Disk, choice: Choice) -> Result<CopyHead, Missing> {
        let mut head = CopyHead::zeroed();
        disk::read(disk, self.head(choice), bytemuck::bytes_of_mut(&mut head))?;
        let fits = head.unit == self.unit && head.len as usize <= self.len;
        if fits { Ok(head) } else { Err(Missing::Damaged) }
    }

    /// A whole copy.
    pub(crate) fn read(
        &self,
        disk: &dyn Disk,
        choice: Choice,
    ) -> Result<(CopyHead, Vec<u8>), Missing> {
        let mut data = Vec::new();
        let head = self.read_to(disk, choice, &mut data)?;
        Ok((head, data))
    }

    /// The same, but replaces the contents of `data`, so that a reader of many copies can reuse it.
    pub(crate) fn read_to(
        &self,
        disk: &dyn Disk,
        choice: Choice,
        data: &mut Vec<u8>,
    ) -> Result<CopyHead, Missing> {
        let head = self.read_head(disk, choice)?;
        data.resize(head.len as usize, 0);
        disk::read(disk, self.head(choice) + self.data, data)?;
        if copy_crc(&head, data) == head.crc { Ok(head) } else { Err(Missing::Damaged) }
    }
}

/// Why a copy is not available.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Its CRC is wrong, or it belongs to another unit.
    Damaged,
    /// The file ends before the copy does: a power cut may have lost the new length of the file.
    BeyondEnd,
    /// The disk cannot read it.
    Unreadable(io::Error),
    /// Something else went wrong that says nothing about the copy.
    Failed(io::Error),
}

impl From<io::Error> for Missing {
    fn from(error: io::Error) -> Missing {
        match error.kind() {
            io::ErrorKind::UnexpectedEof if !planted!(ShortReadFails) => Missing::BeyondEnd,
            _ if disk::is_unreadable(&error) && !planted!(UnreadableFails) => {
                Missing::Unreadable(error)
            }
            _ => Missing::Failed(error),
        }
    }
}

/// What was read, or `None` if it is not available; an error if nobody can tell.
pub(crate) fn if_there<T>(read: Result<T, Missing>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Missing::Failed(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

fn copy_crc(head: &CopyHead, data: &[u8]) -> u32 {
    let head = bytemuck::bytes_of(head);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..head.len() - 4]);
    crc.update(data);
    crc.finalize()
}

/// Whether a slot shares its unit with others.
#[inline]
pub(crate) fn is_small(outline: &Outline) -> bool {
    !outline.is_buffer() && entry_len(outline) <= SMALL_ENTRY
}

/// Whether a slot of this type shares its unit with others. A buffer never does: only a comparison
/// shows whether it has changed, and that must concern no other slot.
pub(crate) fn shares_unit(slot_type: &SlotType) -> bool {
    !matches!(slot_type, SlotType::Buffer(..)) && entry_len_of(slot_type) <= SMALL_ENTRY
}

/// Bytes of a slot's entry in a small unit: its control word, then its content.
#[inline]
pub(crate) fn entry_len(outline: &Outline) -> u64 {
    entry_len_of_content(outline.content_len)
}

/// The same, of a slot of this type.
pub(crate) fn entry_len_of(slot_type: &SlotType) -> u64 {
    entry_len_of_content(slot_type.content_len().unwrap_or(0) as u64)
}

#[inline]
fn entry_len_of_content(len: u64) -> u64 {
    8 + len.next_multiple_of(8)
}

/// How many units a slot has to itself.
#[inline]
pub(crate) fn large_units(outline: &Outline) -> u64 {
    outline.content_len.div_ceil(LARGE_UNIT)
}

/// Bytes of both copies of all units that hold a slot.
#[inline]
pub(crate) fn copies_len(outline: &Outline) -> u64 {
    if is_small(outline) {
        return 2 * SMALL_UNIT;
    }
    2 * (large_units(outline) * PAGE + outline.content_len.next_multiple_of(PAGE))
}

/// Where a slot's copies are, how many bytes they take, and how many units they are of. A small
/// slot shares its unit with others. `None` in a store without checkpoints.
pub(crate) fn copies_of(outline: &Outline) -> Option<(u64, u64, u64)> {
    let units = if is_small(outline) { 1 } else { large_units(outline) };
    (outline.copies != 0).then(|| (outline.copies, copies_len(outline), units))
}

/// Whether a store can have a slot's units and copies at these places. Every number comes from the
/// file.
#[inline]
pub(crate) fn check_places(outline: &Outline, header: &Header) -> Option<()> {
    let (count, place_fits) = if is_small(outline) {
        let end = outline.place.checked_add(entry_len(outline))?;
        (1, outline.place >= UNIT_HEAD && end <= SMALL_UNIT)
    } else {
        (large_units(outline), outline.place == PAGE)
    };
    // A unit's two copies take at least two pages.
    let most_units = header.max_size / (2 * PAGE);
    let fits = place_fits
        && outline.first_unit.checked_add(count)? <= most_units
        && outline.copies.is_multiple_of(PAGE)
        && outline.copies >= header.regions.runs
        && outline.copies.checked_add(copies_len(outline))? <= header.max_size;
    fits.then_some(())
}

/// How many pages of the directory hold this many lines.
pub(crate) fn pages(lines: u32) -> usize {
    (lines as usize * LINE).div_ceil(PAGE as usize)
}

/// Which of a unit's copies a record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The unit has never been synced.
    Absent = 0,
    A = 1,
    B = 2,
}

impl Choice {
    fn of(bits: u8) -> Option<Choice> {
        match bits {
            0 => Some(Choice::Absent),
            1 => Some(Choice::A),
            2 => Some(Choice::B),
            _ => None,
        }
    }

    /// The copy that may be written while this one is in use.
    pub(crate) fn other(self) -> Choice {
        if self == Choice::A { Choice::B } else { Choice::A }
    }
}

/// Which copies a record names, packed as on disk: two bits each, in whole words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choices {
    len: usize,
    packed: Vec<u8>,
}

impl Choices {
    /// `None` if one of them is not a valid choice.
    fn unpack(packed: &[u8], len: usize) -> Option<Choices> {
        let choices = Choices { len, packed: packed.to_vec() };
        (0..len).all(|i| Choice::of(choices.bits(i)).is_some()).then_some(choices)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn bits(&self, number: usize) -> u8 {
        self.packed[number / 4] >> (2 * (number % 4)) & 3
    }

    /// The choice for a unit; [`Choice::Absent`] if the record does not name it.
    pub(crate) fn get(&self, number: usize) -> Choice {
        let bits = if number < self.len { self.bits(number) } else { 0 };
        Choice::of(bits).unwrap_or(Choice::Absent)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Choice> {
        (0..self.len).map(|number| self.get(number))
    }

    /// Changes one. Any missing ones before it become absent.
    pub(crate) fn set(&mut self, number: usize, choice: Choice) {
        self.len = self.len.max(number + 1);
        self.packed.resize(packed_len(self.len as u64), 0);
        let shift = 2 * (number % 4);
        let byte = &mut self.packed[number / 4];
        *byte = *byte & !(3 << shift) | (choice as u8) << shift;
    }
}

/// A commit record: which copies belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Counts the syncs; epoch 1 is the empty store.
    pub(crate) epoch: u64,
    /// Lines of the directory.
    pub(crate) lines: u32,
    /// One for each page of the directory in use.
    pub(crate) pages: Choices,
    /// One for each unit in use.
    pub(crate) units: Choices,
    /// The sum of [`mix`] over all copies that are named.
    pub(crate) sum: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RecordHead {
    epoch: u64,
    lines: u64,
    pages: u64,
    units: u64,
    sum: u64,
    reserved: [u32; 5],
    /// CRC-32 of the head before it and of the choices.
    crc: u32,
}

/// The epochs that a record can have. Each has a successor.
pub(crate) const EPOCHS: std::ops::Range<u64> = 1..1 << 63;

const RECORD_HEAD: usize = size_of::<RecordHead>();
const _: () = assert!(RECORD_HEAD == 64);

impl Record {
    /// The record of a new store.
    pub(crate) fn empty() -> Record {
        Record { epoch: 1, lines: 0, pages: Choices::default(), units: Choices::default(), sum: 0 }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut head = RecordHead {
            epoch: self.epoch,
            lines: self.lines.into(),
            pages: self.pages.len() as u64,
            units: self.units.len() as u64,
            sum: self.sum,
            ..Zeroable::zeroed()
        };
        let choices = [&self.pages.packed[..], &self.units.packed].concat();
        head.crc = record_crc(&head, &choices);
        [bytemuck::bytes_of(&head), &choices].concat()
    }

    /// Reads record 0 or 1. `None` if it cannot be read, its CRC is wrong, or its numbers are
    /// impossible.
    pub(crate) fn read(
        disk: &dyn Disk,
        regions: &Regions,
        number: u64,
    ) -> io::Result<Option<Record>> {
        let at = regions.records + number * regions.record_len;
        let mut head = RecordHead::zeroed();
        if !disk::read_if_there(disk, at, bytemuck::bytes_of_mut(&mut head))? {
            return Ok(None);
        }
        let lines = u32::try_from(head.lines).unwrap_or(u32::MAX);
        if !EPOCHS.contains(&head.epoch)
            || head.lines > regions.directory_lines
            || head.pages != pages(lines) as u64
            || head.units > 4 * regions.record_len
        {
            return Ok(None);
        }
        let (page_bytes, unit_bytes) = (packed_len(head.pages), packed_len(head.units));
        let len = page_bytes + unit_bytes;
        if (RECORD_HEAD + len) as u64 > regions.record_len {
            return Ok(None);
        }
        let mut choices = vec![0; len];
        let there = disk::read_if_there(disk, at + RECORD_HEAD as u64, &mut choices)?;
        if !there || record_crc(&head, &choices) != head.crc {
            return Ok(None);
        }
        let (page_choices, unit_choices) = choices.split_at(page_bytes);
        let pages = Choices::unpack(page_choices, head.pages as usize);
        let units = Choices::unpack(unit_choices, head.units as usize);
        Ok(pages.zip(units).map(|(pages, units)| Record {
            epoch: head.epoch,
            lines,
            pages,
            units,
            sum: head.sum,
        }))
    }

    /// Whether record 0 or 1 is zeros, as a restore or the store's creation leaves it.
    pub(crate) fn is_erased(disk: &dyn Disk, regions: &Regions, number: u64) -> io::Result<bool> {
        let mut page = [0; PAGE as usize];
        let at = regions.records + number * regions.record_len;
        Ok(disk::read_if_there(disk, at, &mut page)? && page == [0; PAGE as usize])
    }

    /// Makes record 0 or 1 look as if it had never been written.
    pub(crate) fn erase(disk: &dyn Disk, regions: &Regions, number: u64) -> io::Result<()> {
        let at = regions.records + number * regions.record_len;
        disk.write(at, &[0; PAGE as usize])
    }
}

fn record_crc(head: &RecordHead, choices: &[u8]) -> u32 {
    let head = bytemuck::bytes_of(head);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..head.len() - 4]);
    crc.update(choices);
    crc.finalize()
}

/// Bytes that this many choices take.
fn packed_len(choices: u64) -> usize {
    (choices as usize).div_ceil(4).next_multiple_of(8)
}

/// What a named copy adds to a record's sum: two rounds of the finaliser of splitmix64
/// (<https://prng.di.unimi.it/splitmix64.c>). If other copies stand in the places that a record
/// names, their sum differs.
pub(crate) fn mix(unit: u64, epoch: u64, crc: u32) -> u64 {
    let round = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    round(round(unit.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ epoch)
        .wrapping_add(u64::from(crc).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The mark: the epoch of the last acknowledged sync, with its CRC. It is written without a flush.
/// If the mark is there, the record it names must be there too.
pub(crate) fn write_mark(disk: &dyn Disk, regions: &Regions, epoch: u64) -> io::Result<()> {
    if planted!(NoMark) {
        return Ok(());
    }
    let epoch = epoch.to_le_bytes();
    let crc = crc32fast::hash(&epoch).to_le_bytes();
    let mut mark = [0; 16];
    mark[..8].copy_from_slice(&epoch);
    mark[8..12].copy_from_slice(&crc);
    disk.write(regions.mark, &mark)
}

/// What the mark's place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing: no sync was acknowledged yet, or a power cut lost the mark.
    Absent,
    /// The epoch of an acknowledged sync.
    Of(u64),
    /// Neither, or it cannot be read. The mark lies within one sector, which no power cut tears: so
    /// this is damage.
    Damaged,
}

impl Mark {
    pub(crate) fn read(disk: &dyn Disk, regions: &Regions) -> io::Result<Mark> {
        let mut mark = [0; 16];
        if !disk::read_if_there(disk, regions.mark, &mut mark)? {
            return Ok(Mark::Damaged);
        }
        if mark == [0; 16] {
            return Ok(Mark::Absent);
        }
        let (epoch, rest) = mark.split_at(8);
        let crc = crc32fast::hash(epoch).to_le_bytes();
        let epoch = epoch.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        let right = rest[..4] == crc && rest[4..] == [0; 4] && EPOCHS.contains(&epoch);
        Ok(if right { Mark::Of(epoch) } else { Mark::Damaged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    fn choice() -> impl Strategy<Value = Choice> {
        prop_oneof![Just(Choice::Absent), Just(Choice::A), Just(Choice::B)]
    }

    proptest! {
        #[test]
        fn a_record_reads_back_and_any_flipped_bit_shows(
            units in proptest::collection::vec(choice(), 0..100),
            epoch in EPOCHS,
            sum: u64,
            bit: usize,
        ) {
            let regions = Regions::new(1000, 1 << 30).unwrap();
            let packed = |choices: &[Choice]| {
                let mut packed = Choices::default();
                choices.iter().enumerate().for_each(|(i, choice)| packed.set(i, *choice));
                packed
            };
            let pages = packed(&[Choice::A; 2]);
            let record = Record { epoch, lines: 40, pages, units: packed(&units), sum };
            prop_assert_eq!(record.units.iter().collect::<Vec<_>>(), units);
            let file = tempfile::tempfile().unwrap();
            file.set_len(regions.runs).unwrap();
            let mut bytes = record.encode();
            file.write_all_at(&bytes, regions.records).unwrap();
            prop_assert_eq!(Record::read(&file, &regions, 0).unwrap(), Some(record));
            prop_assert_eq!(Record::read(&file, &regions, 1).unwrap(), None);
            let bit = bit % (8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            file.write_all_at(&bytes, regions.records).unwrap();
            prop_assert_eq!(Record::read(&file, &regions, 0).unwrap(), None);
        }
    }

    #[test]
    fn a_mark_reads_back_and_any_other_byte_is_damage() {
        let regions = Regions::new(1000, 1 << 30).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(regions.runs).unwrap();
        assert_eq!(Mark::read(&file, &regions).unwrap(), Mark::Absent);
        write_mark(&file, &regions, 0x0102_0304_0506).unwrap();
        assert_eq!(Mark::read(&file, &regions).unwrap(), Mark::Of(0x0102_0304_0506));
        for at in 0..16 {
            write_mark(&file, &regions, 0x0102_0304_0506).unwrap();
            file.write_all_at(&[0x99], regions.mark + at).unwrap();
            assert_eq!(Mark::read(&file, &regions).unwrap(), Mark::Damaged, "byte {at}");
        }
    }
}
