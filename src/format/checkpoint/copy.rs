//! The copies of a segment: where they are, and what each consists of.

use std::io;

use bytemuck::{Pod, Zeroable};

use super::{Choice, Stamp};
use crate::format::descriptor::Outline;
use crate::format::layout::{LARGE_SEGMENT, PAGE, SEGMENT_HEAD, SMALL_SEGMENT};
use crate::format::regions::Regions;
use crate::format::tiers::Parts;
use crate::mutant::planted;
use crate::os::disk::{self, Disk, Range};

/// The head of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct CopyHead {
    /// The segment's number; for a page of the directory, its number with [`DIRECTORY`] set.
    pub(crate) segment: u64,
    /// The epoch of the sync that wrote it.
    pub(crate) epoch: u64,
    /// Bytes of data.
    pub(crate) len: u64,
    /// For a large slot: see [`Stamp`]. Otherwise 0.
    pub(crate) stamp: u64,
    pub(crate) reserved: [u32; 7],
    /// CRC-32 of the head before it and of the data.
    pub(crate) crc: u32,
}

const _: () = assert!(size_of::<CopyHead>() == SEGMENT_HEAD as usize);

/// Set in the numbers of the directory's pages.
pub(crate) const DIRECTORY: u64 = 1 << 63;

/// The two copies of a segment, and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopyPair {
    pub(crate) segment: u64,
    /// The first copy's head.
    at: u64,
    /// From one copy to the other.
    stride: u64,
    /// From a copy's head to its data.
    data: u64,
    /// Bytes of data, at most.
    pub(crate) len: usize,
}

impl CopyPair {
    /// The copies of a page of the directory. `tiers` says where the further tiers are, as far as
    /// the directory has lines.
    pub(crate) fn of_page(regions: &Regions, tiers: &[Parts], page: u64) -> CopyPair {
        let at = regions.copies_of_page(tiers, page).expect("the tier of a page in use is known");
        CopyPair { segment: DIRECTORY | page, at, stride: 2 * PAGE, data: PAGE, len: PAGE as usize }
    }

    /// The copies of the small segment that a slot is in.
    #[inline]
    pub(crate) fn of_small(outline: &Outline) -> CopyPair {
        CopyPair {
            segment: outline.first_segment,
            at: outline.copies,
            stride: SMALL_SEGMENT,
            data: SEGMENT_HEAD,
            len: (SMALL_SEGMENT - SEGMENT_HEAD) as usize,
        }
    }

    /// The copies of a large slot's segment number `part`, counted from its first.
    pub(crate) fn of_large(outline: &Outline, part: u64) -> CopyPair {
        let len = (outline.content_len - part * LARGE_SEGMENT).min(LARGE_SEGMENT);
        CopyPair {
            segment: outline.first_segment + part,
            at: outline.copies + part * 2 * (PAGE + LARGE_SEGMENT),
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
        stamp: Stamp,
        data: &[u8],
    ) -> io::Result<u32> {
        assert!(data.len() <= self.len, "a segment's data fits it");
        let mut head = CopyHead { segment: self.segment, epoch, stamp, ..Zeroable::zeroed() };
        head.len = data.len() as u64;
        head.crc = copy_crc(&head, data);
        let at = self.head(choice);
        if self.data == SEGMENT_HEAD {
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

    /// A copy's head alone, if it belongs to this segment.
    pub(crate) fn read_head(&self, disk: &dyn Disk, choice: Choice) -> Result<CopyHead, Missing> {
        let mut head = CopyHead::zeroed();
        disk::read(disk, self.head(choice), bytemuck::bytes_of_mut(&mut head))?;
        let fits = head.segment == self.segment && head.len as usize <= self.len;
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
    /// Its CRC is wrong, or it belongs to another segment.
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
