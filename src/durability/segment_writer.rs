//! Writes copies of segments. A sync compares a segment with its copy in use, or knows from a
//! version that it has changed. It then writes the other copy.

use std::collections::BTreeMap;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::durability::copied_slots::Memories;
use crate::durability::segment::{
    SPOILED, Segment, cannot_sync, is_spoiled, small_at, small_entry,
};
use crate::error::{Error, Result};
use crate::format::checkpoint::{Choice, Stamp, UNKNOWN, control_of, mix};
use crate::format::descriptor::Outline;
use crate::format::layout::LARGE_SEGMENT;
use crate::mapping::map::Map;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::os::disk::Range;
use crate::protocol::{self, Areas, Form, Memory};

/// The copies that a sync has written, and that differ from those in use.
#[derive(Debug, Default)]
pub(crate) struct NewCopies {
    by_segment: BTreeMap<u64, NewCopy>,
}

#[derive(Debug)]
pub(crate) struct NewCopy {
    pub(crate) choice: Choice,
    /// What it adds to the record's sum.
    pub(crate) share: u64,
    range: Range,
}

impl NewCopies {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_segment.is_empty()
    }

    /// Each with its segment's number, in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &NewCopy)> {
        self.by_segment.iter().map(|(number, copy)| (*number, copy))
    }

    /// Where they are in the file.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range> {
        self.by_segment.values().map(|copy| copy.range)
    }
}

/// Writes the copies of one sync.
pub(crate) struct SegmentWriter<'a> {
    attachment: &'a Attachment,
    epoch: u64,
    copies: NewCopies,
}

impl<'a> SegmentWriter<'a> {
    pub(crate) fn new(attachment: &'a Attachment, epoch: u64) -> SegmentWriter<'a> {
        SegmentWriter { attachment, epoch, copies: NewCopies::default() }
    }

    /// What it has written.
    pub(crate) fn into_copies(self) -> NewCopies {
        self.copies
    }

    /// Writes the copy that is not in use.
    pub(crate) fn write(&mut self, segment: &Segment, stamp: Stamp, data: &[u8]) -> Result<()> {
        let mut choice = segment.choice.other();
        if planted!(CopyByParity) {
            choice = if self.epoch.is_multiple_of(2) { Choice::A } else { Choice::B };
        }
        if planted!(TheCopyInUseIsOverwritten) && segment.choice != Choice::Absent {
            choice = segment.choice;
        }
        let crc = segment
            .pair
            .write(self.attachment.disk(), choice, self.epoch, stamp, data)
            .map_err(|e| cannot_sync(self.attachment, e))?;
        let (number, range) = (segment.pair.segment, segment.pair.range(choice));
        let share = mix(number, self.epoch, crc);
        self.copies.by_segment.insert(number, NewCopy { choice, share, range });
        self.attachment.note_progress();
        Ok(())
    }

    /// Writes a small segment with all slots in it. `Corrupt` if one of them has been damaged since
    /// its last copy: damaged data must not get a valid CRC.
    pub(crate) fn copy_small(
        &mut self,
        segment: &Segment,
        outlines: &[Outline],
        memories: &Memories,
        seen: &mut [Stamp],
    ) -> Result<()> {
        let in_use = segment.in_use(self.attachment)?;
        let mut data = vec![0; segment.used];
        for i in &segment.slots {
            let content_len = outlines[*i].content_len;
            let at = small_at(&outlines[*i]).expect("a small segment has small slots");
            let stamp = memories.stamp(self.attachment, *i);
            let (entry, rest) = data[at..].split_at_mut(8);
            let memory = memories.get(*i);
            let version = match memory.form() {
                Form::Scalar | Form::Lock => {
                    let (value, version) =
                        protocol::load_scalar_versioned(&memory, self.attachment);
                    rest[..8].copy_from_slice(&value.to_le_bytes());
                    version
                }
                Form::Areas(areas) => {
                    let content = &mut rest[..content_len as usize];
                    protocol::read(&memory, self.attachment, &areas, |memory, area| {
                        memory.read(area, 0, content);
                    })
                }
            };
            entry.copy_from_slice(&control_of(stamp).bits().to_le_bytes());
            let before = seen[*i];
            // It changed between the two reads: the copy has no known version.
            seen[*i] = if stamp >> 1 == version { stamp } else { UNKNOWN };
            let copy = in_use.as_ref().and_then(|(_, c)| small_entry(c, at, content_len));
            // Nearly all slots of a segment are what their copy says.
            if let Some((of, copy)) = copy
                && rest[..content_len as usize] != *copy
                && is_spoiled(self.attachment, &memory, of, 0, copy)
                && !planted!(FlippedBitCopied)
            {
                return Err(self.spoiled(memories.offset(*i)));
            }
            if planted!(StaleNeighbour)
                && before == stamp
                && let Ok((_, other)) =
                    segment.pair.read(self.attachment.disk(), segment.choice.other())
                && let Some((_, other)) = small_entry(&other, at, content_len)
            {
                rest[..other.len()].copy_from_slice(other);
            }
        }
        self.write(segment, 0, &data)
    }

    /// The user's error for the slot at this offset, which [`is_spoiled`].
    #[cold]
    fn spoiled(&self, offset: u64) -> Error {
        let mut name = None;
        let walked = descriptors::each(self.attachment, |descriptor| {
            if descriptor.live == offset {
                name = Some(descriptor.name);
            }
            Ok(())
        });
        let error = Error::corrupt(&self.attachment.path, SPOILED);
        match (walked, name) {
            (Ok(()), Some(name)) => error.of_slot(&name),
            _ => error,
        }
    }

    /// Writes those of these segments of a large slot that differ from the copies in use. Returns
    /// `stamp`, the slot's stamp before; [`UNKNOWN`] if the slot changed meanwhile.
    pub(crate) fn copy_large(
        &mut self,
        segments: &[&Segment],
        memory: &SlotMemory<&Map>,
        areas: &Areas,
        stamp: Stamp,
        first_segment: u64,
    ) -> Result<Stamp> {
        let version = stamp >> 1;
        self.copy_changed_segments(segments, stamp, first_segment, |at, data| {
            memory.read(areas.of(version), at, data)
        })?;
        Ok(if protocol::validate_read(memory, areas, version) { stamp } else { UNKNOWN })
    }

    /// Writes those of these segments of a large slot whose content differs from the copy in use;
    /// `read` reads it from a byte offset on. Also writes the first of them if otherwise none of
    /// their heads would hold the slot's stamp.
    pub(crate) fn copy_changed_segments(
        &mut self,
        segments: &[&Segment],
        stamp: Stamp,
        first_segment: u64,
        mut read: impl FnMut(usize, &mut [u8]),
    ) -> Result<()> {
        let longest = segments.iter().map(|segment| segment.pair.len).max();
        let mut data = vec![0; longest.unwrap_or(0)];
        let at = |segment: &Segment| {
            (segment.pair.segment - first_segment) as usize * LARGE_SEGMENT as usize
        };
        // The newest of the heads says which version the slot has, and whether it was removed.
        let mut newest = None;
        for segment in segments {
            let data = &mut data[..segment.pair.len];
            read(at(segment), data);
            let same = segment.stamp_if_same(self.attachment, data)?;
            match same {
                // An earlier pass may have written it when it differed.
                Some(_) => _ = self.copies.by_segment.remove(&segment.pair.segment),
                None => self.write(segment, stamp, data)?,
            }
            self.attachment.note_progress();
            newest = newest.max(same.or(Some(stamp)));
        }
        if let Some(first) = segments.first()
            && newest != Some(stamp)
        {
            let data = &mut data[..first.pair.len];
            read(at(first), data);
            self.write(first, stamp, data)?;
        }
        Ok(())
    }
}
