//! The commit record: which copies belong together.

use std::io;

use bytemuck::{Pod, Zeroable};

use super::pages;
use crate::format::layout::{Header, PAGE};
use crate::format::regions::Regions;
use crate::format::tiers::Parts;
use crate::os::disk::{self, Disk};

/// Which of a segment's copies a record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The segment has never been synced.
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

    /// The choice for a segment; [`Choice::Absent`] if the record does not name it.
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
    /// Where the directory's further tiers are, as far as these lines need them.
    pub(crate) tiers: Vec<Parts>,
    /// One for each page of the directory in use.
    pub(crate) pages: Choices,
    /// One for each segment in use.
    pub(crate) segments: Choices,
    /// The sum of [`mix`] over all copies that are named.
    pub(crate) sum: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RecordHead {
    epoch: u64,
    lines: u64,
    pages: u64,
    segments: u64,
    sum: u64,
    reserved: [u32; 5],
    /// CRC-32 of the head before it and of what follows.
    crc: u32,
}

/// The epochs that a record can have. Each has a successor.
pub(crate) const EPOCHS: std::ops::Range<u64> = 1..1 << 63;

const RECORD_HEAD: usize = size_of::<RecordHead>();
const _: () = assert!(RECORD_HEAD == 64);

impl Record {
    /// The record of a new store.
    pub(crate) fn empty() -> Record {
        Record {
            epoch: 1,
            lines: 0,
            tiers: Vec::new(),
            pages: Choices::default(),
            segments: Choices::default(),
            sum: 0,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut head = RecordHead {
            epoch: self.epoch,
            lines: self.lines.into(),
            pages: self.pages.len() as u64,
            segments: self.segments.len() as u64,
            sum: self.sum,
            ..Zeroable::zeroed()
        };
        let tiers = bytemuck::cast_slice(&self.tiers);
        let rest = [tiers, &self.pages.packed, &self.segments.packed].concat();
        head.crc = record_crc(&head, &rest);
        [bytemuck::bytes_of(&head), &rest].concat()
    }

    /// Reads record 0 or 1. `None` if it cannot be read, its CRC is wrong, or its numbers are
    /// impossible.
    pub(crate) fn read(
        disk: &dyn Disk,
        header: &Header,
        number: u64,
    ) -> io::Result<Option<Record>> {
        let regions = &header.regions;
        let at = regions.records + number * regions.record_len;
        let mut head = RecordHead::zeroed();
        if !disk::read_if_there(disk, at, bytemuck::bytes_of_mut(&mut head))? {
            return Ok(None);
        }
        let lines = u32::try_from(head.lines).unwrap_or(u32::MAX);
        if !EPOCHS.contains(&head.epoch)
            || head.lines > regions.directory_lines
            || head.pages != pages(lines) as u64
            || head.segments > 4 * regions.record_len
        {
            return Ok(None);
        }
        let tier_bytes = (regions.tiers(lines.into()) - 1) as usize * size_of::<Parts>();
        let (page_bytes, segment_bytes) = (packed_len(head.pages), packed_len(head.segments));
        let len = tier_bytes + page_bytes + segment_bytes;
        if (RECORD_HEAD + len) as u64 > regions.record_len {
            return Ok(None);
        }
        let mut rest = vec![0; len];
        let there = disk::read_if_there(disk, at + RECORD_HEAD as u64, &mut rest)?;
        if !there || record_crc(&head, &rest) != head.crc {
            return Ok(None);
        }
        let (tiers, choices) = rest.split_at(tier_bytes);
        let tiers: Vec<Parts> = bytemuck::pod_collect_to_vec(tiers);
        let can_be = |(number, parts): (u32, &Parts)| {
            regions.can_be_at(number, *parts, header.max_size, header.has_checkpoint())
        };
        if !(1..).zip(&tiers).all(can_be) {
            return Ok(None);
        }
        let (page_choices, segment_choices) = choices.split_at(page_bytes);
        let pages = Choices::unpack(page_choices, head.pages as usize);
        let segments = Choices::unpack(segment_choices, head.segments as usize);
        Ok(pages.zip(segments).map(|(pages, segments)| Record {
            epoch: head.epoch,
            lines,
            tiers,
            pages,
            segments,
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

fn record_crc(head: &RecordHead, rest: &[u8]) -> u32 {
    let head = bytemuck::bytes_of(head);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..head.len() - 4]);
    crc.update(rest);
    crc.finalize()
}

/// Bytes that this many choices take.
fn packed_len(choices: u64) -> usize {
    (choices as usize).div_ceil(4).next_multiple_of(8)
}

/// What a named copy adds to a record's sum: two rounds of the finaliser of splitmix64
/// (<https://prng.di.unimi.it/splitmix64.c>). If other copies stand in the places that a record
/// names, their sum differs.
pub(crate) fn mix(segment: u64, epoch: u64, crc: u32) -> u64 {
    let round = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    round(round(segment.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ epoch)
        .wrapping_add(u64::from(crc).wrapping_mul(0x9e37_79b9_7f4a_7c15))
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
            segments in proptest::collection::vec(choice(), 0..100),
            epoch in EPOCHS,
            sum: u64,
            bit: usize,
        ) {
            let regions = Regions::new(1, 1000, 1 << 30).unwrap();
            let header = Header { minor: 1, max_slots: 1000, max_size: 1 << 30, regions, ..Zeroable::zeroed() };
            let packed = |choices: &[Choice]| {
                let mut packed = Choices::default();
                choices.iter().enumerate().for_each(|(i, choice)| packed.set(i, *choice));
                packed
            };
            let tiers = vec![Parts { live: 576 << 10, copies: 8 << 20 }];
            let pages = packed(&[Choice::A; 17]);
            let record = Record { epoch, lines: 540, tiers, pages, segments: packed(&segments), sum };
            prop_assert_eq!(record.segments.iter().collect::<Vec<_>>(), segments);
            let file = tempfile::tempfile().unwrap();
            file.set_len(regions.runs).unwrap();
            let mut bytes = record.encode();
            file.write_all_at(&bytes, regions.records).unwrap();
            prop_assert_eq!(Record::read(&file, &header, 0).unwrap(), Some(record));
            prop_assert_eq!(Record::read(&file, &header, 1).unwrap(), None);
            let bit = bit % (8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            file.write_all_at(&bytes, regions.records).unwrap();
            prop_assert_eq!(Record::read(&file, &header, 0).unwrap(), None);
        }
    }
}
