//! What a sync copies: the slots, and the units that they are in. Each compared with its
//! copy in use, or known to have changed by its version; and written to the other one.

use crate::attach::Attachment;
use crate::checkpoint::{Choice, Place, Tag, UNKNOWN, control_of, mix};
use crate::cut::Memories;
use crate::element::ElementRegion;
use crate::error::{Error, Result};
use crate::layout::{LARGE_UNIT, PAGE};
use crate::map::Region;
use crate::memory::AnyMemory;
use crate::protocol::{self, Areas, Memory};
use crate::space;

/// Where a slot is copied to.
#[derive(Debug)]
pub(crate) struct SlotPlace {
    pub(crate) content_len: u64,
    pub(crate) first_unit: u64,
    /// Where its entry is in a small unit's data; `None`: it has units of its own.
    pub(crate) small_at: Option<usize>,
    /// Of a buffer.
    pub(crate) elements: Option<ElementRegion>,
}

impl SlotPlace {
    /// The numbers of a large slot's units.
    pub(crate) fn large_units(&self) -> std::ops::Range<usize> {
        let first = self.first_unit as usize;
        first..first + self.content_len.div_ceil(LARGE_UNIT) as usize
    }
}

/// A unit, as the sync sees it.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) place: Place,
    /// The copy in use, and what it adds to the sum.
    pub(crate) choice: Choice,
    pub(crate) share: u64,
    /// The copy that this sync has written, and what that adds.
    pub(crate) written: Option<(Choice, u64)>,
    /// The slots in it; of a large one, the one.
    pub(crate) slots: Vec<usize>,
    /// Bytes of data, in a small unit or a page of the directory.
    pub(crate) used: usize,
}

impl Unit {
    pub(crate) fn new(place: Place) -> Unit {
        let (choice, written) = (Choice::Absent, None);
        Unit { place, choice, share: 0, written, slots: Vec::new(), used: 0 }
    }

    /// The copy in use, if it holds just this data: what its head says of the slot.
    pub(crate) fn tag_if_same(&self, attachment: &Attachment, data: &[u8]) -> Result<Option<Tag>> {
        if self.choice == Choice::Absent {
            return Ok(None);
        }
        let in_use = self.place.read(attachment.map.file(), self.choice);
        let in_use = in_use.map_err(|e| cannot_sync(attachment, e))?;
        Ok(in_use.filter(|(_, copy)| copy == data).map(|(head, _)| head.tag))
    }
}

/// The copies that one sync writes.
pub(crate) struct Writer<'a> {
    attachment: &'a Attachment,
    epoch: u64,
    /// The numbers of all units of which it has written one, some of them in vain.
    pub(crate) units: Vec<u64>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(attachment: &'a Attachment, epoch: u64) -> Writer<'a> {
        Writer { attachment, epoch, units: Vec::new() }
    }

    /// Writes the copy that is not in use.
    pub(crate) fn write(&mut self, unit: &mut Unit, tag: Tag, data: &[u8]) -> Result<()> {
        let choice = unit.choice.other();
        let crc = unit
            .place
            .write(self.attachment.map.file(), choice, self.epoch, tag, data)
            .map_err(|e| cannot_sync(self.attachment, e))?;
        unit.written = Some((choice, mix(unit.place.unit, self.epoch, crc)));
        self.units.push(unit.place.unit);
        self.attachment.note_progress();
        Ok(())
    }

    /// Writes a small unit, with all slots in it.
    pub(crate) fn copy_small(
        &mut self,
        unit: &mut Unit,
        places: &[SlotPlace],
        memories: &Memories,
        seen: &mut [Tag],
    ) -> Result<()> {
        let mut data = vec![0; unit.used];
        for i in &unit.slots {
            let place = &places[*i];
            let at = place.small_at.expect("a small unit has small slots");
            let tag = memories.tag(self.attachment, *i);
            let (entry, rest) = data[at..].split_at_mut(8);
            let version = match memories.get(*i) {
                AnyMemory::Scalar(cell) => {
                    let (value, version) = protocol::load_scalar_versioned(cell, self.attachment);
                    rest[..8].copy_from_slice(&value.to_le_bytes());
                    version
                }
                AnyMemory::Areas(region, areas) => {
                    let content = &mut rest[..place.content_len as usize];
                    protocol::read(region, self.attachment, areas, |region, area| {
                        region.read(area, 0, content);
                    })
                }
            };
            entry.copy_from_slice(&control_of(tag).bits().to_le_bytes());
            // Changed between the two: what was copied is of no known version.
            seen[*i] = if tag >> 1 == version { tag } else { UNKNOWN };
        }
        self.write(unit, 0, &data)
    }

    /// Writes those units of a large slot that differ from the copies in use. Returns `tag`, which
    /// the slot was before; [`UNKNOWN`] if it has changed meanwhile.
    pub(crate) fn copy_large(
        &mut self,
        units: &mut [Option<Unit>],
        region: &Region,
        areas: &Areas,
        tag: Tag,
    ) -> Result<Tag> {
        let version = tag >> 1;
        self.write_large(units, tag, |at, data| region.read(areas.of(version), at, data))?;
        Ok(if protocol::is_whole(region, areas, version) { tag } else { UNKNOWN })
    }

    /// Writes those units of a large slot whose content, read from so many bytes on, differs
    /// from the copy in use; the first one also if otherwise none would say what the slot is.
    pub(crate) fn write_large(
        &mut self,
        units: &mut [Option<Unit>],
        tag: Tag,
        read: impl Fn(usize, &mut [u8]),
    ) -> Result<()> {
        let mut data = vec![0; LARGE_UNIT as usize];
        // The newest of the heads says which version the slot is of, and whether it was removed.
        let mut newest = None;
        for (part, unit) in units.iter_mut().enumerate() {
            let unit = unit.as_mut().expect("every slot has its units");
            let data = &mut data[..unit.place.len];
            read(part * LARGE_UNIT as usize, data);
            let same = unit.tag_if_same(self.attachment, data)?;
            match same {
                Some(_) => unit.written = None,
                None => self.write(unit, tag, data)?,
            }
            self.attachment.note_progress();
            newest = newest.max(same.or(Some(tag)));
        }
        if newest != Some(tag) {
            let first = units[0].as_mut().expect("every slot has its units");
            let data = &mut data[..first.place.len];
            read(0, data);
            self.write(first, tag, data)?;
        }
        Ok(())
    }
}

pub(crate) fn cannot_sync(attachment: &Attachment, error: std::io::Error) -> Error {
    space::no_space(attachment, PAGE, error)
}
