//! What a sync copies: the slots and the units that hold them. A sync compares a unit with its copy
//! in use, or knows from a version that it has changed. It then writes the other copy.

use crate::attachment::attach::Attachment;
use crate::directory::allocator;
use crate::directory::directory;
use crate::durability::consistent_copy::{self, Memories};
use crate::error::{Error, Result};
use crate::format::checkpoint::{
    Choice, CopyHead, Place, Tag, UNKNOWN, control_of, if_there, mix, tag_of,
};
use crate::format::layout::{LARGE_UNIT, PAGE};
use crate::mapping::map::{KeepsMapped, Map};
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::protocol::{self, Areas, Control, Form, Memory};

/// Where a slot is copied to.
#[derive(Debug)]
pub(crate) struct SlotPlace {
    pub(crate) content_len: u64,
    pub(crate) first_unit: u64,
    /// Where its entry is in a small unit's data. `None`: it has units of its own.
    pub(crate) small_at: Option<u16>,
    pub(crate) is_buffer: bool,
}

impl SlotPlace {
    /// The numbers of a large slot's units.
    pub(crate) fn large_units(&self) -> std::ops::Range<usize> {
        let first = self.first_unit as usize;
        first..first + self.content_len.div_ceil(LARGE_UNIT) as usize
    }
}

/// A unit, as a sync sees it.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) place: Place,
    /// The copy in use, and what it adds to the sum.
    pub(crate) choice: Choice,
    pub(crate) share: u64,
    /// The copy in use could not be read when its share was asked for. It counts as absent, even if
    /// it can be read later.
    pub(crate) lost: bool,
    /// The copy that this sync has written, and what it adds to the sum.
    pub(crate) written: Option<(Choice, u64)>,
    /// The slots in it; for a large slot's unit, that slot.
    pub(crate) slots: Vec<usize>,
    /// Bytes of data, for a small unit or a page of the directory.
    pub(crate) used: usize,
}

impl Unit {
    pub(crate) fn new(place: Place) -> Unit {
        let (choice, written, slots) = (Choice::Absent, None, Vec::new());
        Unit { place, choice, share: 0, lost: false, written, slots, used: 0 }
    }

    /// The copy in use, if there is one and it is available.
    fn in_use(&self, attachment: &Attachment) -> Result<Option<(CopyHead, Vec<u8>)>> {
        if self.choice == Choice::Absent || self.lost && !planted!(LostCopyIsFound) {
            return Ok(None);
        }
        let read = if_there(self.place.read(attachment.disk(), self.choice));
        read.map_err(|e| cannot_sync(attachment, e))
    }

    /// The tag in the head of the copy in use, if that copy holds exactly this data.
    pub(crate) fn tag_if_same(&self, attachment: &Attachment, data: &[u8]) -> Result<Option<Tag>> {
        let mut in_use = self.in_use(attachment)?;
        if planted!(CleanByAnyCopy)
            && let Ok(other) = self.place.read(attachment.disk(), self.choice.other())
            && other.1 == data
        {
            in_use = Some(other);
        }
        Ok(in_use.filter(|(_, copy)| copy == data).map(|(head, _)| head.tag))
    }
}

/// A slot's entry in the data of a small unit: the version it has, and its content.
pub(crate) fn small_entry(data: &[u8], at: usize, content_len: u64) -> Option<(Tag, &[u8])> {
    let entry = data.get(at..at + 8 + content_len as usize)?;
    let (control, content) = entry.split_at(8);
    let control = u64::from_le_bytes(control.try_into().ok()?);
    Some((tag_of(Control::from_bits(control)), content))
}

/// Whether a slot's bytes differ from a copy of them although it still has the copy's version. No
/// update has changed them, so they are damaged. `copy` is the content, or a part of it, from byte
/// `at` on. Always false for a buffer, whose version says nothing.
pub(crate) fn is_spoiled<K: KeepsMapped>(
    attachment: &Attachment,
    memory: &SlotMemory<K>,
    tag: Tag,
    at: usize,
    copy: &[u8],
) -> bool {
    if consistent_copy::tag(memory, attachment) != tag {
        return false;
    }
    match memory.form() {
        Form::Scalar => {
            let (value, version) = protocol::load_scalar_versioned(memory, attachment);
            let value = value.to_le_bytes();
            version == tag >> 1 && value.get(at..at + copy.len()).is_some_and(|now| now != copy)
        }
        Form::Areas(areas) if areas.count > 1 => {
            let mut now = vec![0; copy.len()];
            memory.read(areas.of(tag >> 1), at, &mut now);
            protocol::validate_read(memory, &areas, tag >> 1) && now != copy
        }
        Form::Areas(_) | Form::Lock => false,
    }
}

/// The message for a slot that [`is_spoiled`].
pub(crate) const SPOILED: &str = "its content is not what its last sync saved, though no update \
                                  has changed it since; store it anew";

/// The copies that one sync writes.
pub(crate) struct Writer<'a> {
    attachment: &'a Attachment,
    epoch: u64,
    /// The numbers of all units of which it has written a copy, some in vain.
    pub(crate) units: Vec<u64>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(attachment: &'a Attachment, epoch: u64) -> Writer<'a> {
        Writer { attachment, epoch, units: Vec::new() }
    }

    /// Writes the copy that is not in use.
    pub(crate) fn write(&mut self, unit: &mut Unit, tag: Tag, data: &[u8]) -> Result<()> {
        let mut choice = unit.choice.other();
        if planted!(CopyByParity) {
            choice = if self.epoch.is_multiple_of(2) { Choice::A } else { Choice::B };
        }
        let crc = unit
            .place
            .write(self.attachment.disk(), choice, self.epoch, tag, data)
            .map_err(|e| cannot_sync(self.attachment, e))?;
        unit.written = Some((choice, mix(unit.place.unit, self.epoch, crc)));
        self.units.push(unit.place.unit);
        self.attachment.note_progress();
        Ok(())
    }

    /// Writes a small unit with all slots in it. `Corrupt` if one of them has been damaged since
    /// its last copy: damaged data must not get a valid CRC.
    pub(crate) fn copy_small(
        &mut self,
        unit: &mut Unit,
        places: &[SlotPlace],
        memories: &Memories,
        seen: &mut [Tag],
    ) -> Result<()> {
        let in_use = unit.in_use(self.attachment)?;
        let mut data = vec![0; unit.used];
        for i in &unit.slots {
            let place = &places[*i];
            let at = usize::from(place.small_at.expect("a small unit has small slots"));
            let tag = memories.tag(self.attachment, *i);
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
                    let content = &mut rest[..place.content_len as usize];
                    protocol::read(&memory, self.attachment, &areas, |memory, area| {
                        memory.read(area, 0, content);
                    })
                }
            };
            entry.copy_from_slice(&control_of(tag).bits().to_le_bytes());
            let before = seen[*i];
            // It changed between the two reads: the copy has no known version.
            seen[*i] = if tag >> 1 == version { tag } else { UNKNOWN };
            let copy = in_use.as_ref().and_then(|(_, c)| small_entry(c, at, place.content_len));
            if let Some((of, copy)) = copy
                && is_spoiled(self.attachment, &memory, of, 0, copy)
                && !planted!(FlippedBitCopied)
            {
                return Err(self.spoiled(*i));
            }
            if planted!(StaleNeighbour)
                && before == tag
                && let Ok((_, other)) = unit.place.read(self.attachment.disk(), unit.choice.other())
                && let Some((_, other)) = small_entry(&other, at, place.content_len)
            {
                rest[..other.len()].copy_from_slice(other);
            }
        }
        self.write(unit, 0, &data)
    }

    /// The user's error for slot number `i`, which [`is_spoiled`].
    #[cold]
    fn spoiled(&self, i: usize) -> Error {
        let mut names = Vec::new();
        let walked = directory::each(self.attachment, |descriptor| {
            names.push(descriptor.name);
            Ok(())
        });
        let error = Error::corrupt(&self.attachment.path, SPOILED);
        match (walked, names.get(i)) {
            (Ok(()), Some(name)) => error.of_slot(name),
            _ => error,
        }
    }

    /// Writes those units of a large slot that differ from the copies in use. Returns `tag`, the
    /// slot's tag before; [`UNKNOWN`] if the slot changed meanwhile.
    pub(crate) fn copy_large(
        &mut self,
        units: &mut [Option<Unit>],
        memory: &SlotMemory<&Map>,
        areas: &Areas,
        tag: Tag,
    ) -> Result<Tag> {
        let version = tag >> 1;
        self.write_large(units, tag, |at, data| memory.read(areas.of(version), at, data))?;
        Ok(if protocol::validate_read(memory, areas, version) { tag } else { UNKNOWN })
    }

    /// Writes those units of a large slot whose content differs from the copy in use; `read` reads
    /// it from a byte offset on. Also writes the first unit if otherwise no head would hold the
    /// slot's tag.
    pub(crate) fn write_large(
        &mut self,
        units: &mut [Option<Unit>],
        tag: Tag,
        read: impl Fn(usize, &mut [u8]),
    ) -> Result<()> {
        let mut data = vec![0; LARGE_UNIT as usize];
        // The newest of the heads says which version the slot has, and whether it was removed.
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
    allocator::no_space(attachment, PAGE, error)
}
