//! The segments of a checkpoint as a sync sees them: which slots are in each, and its copy in use.

use crate::attachment::attach::Attachment;
use crate::durability::copied_slots;
use crate::error::{Error, Result};
use crate::format::checkpoint::{
    self, Choice, CopyHead, CopyPair, Stamp, UNKNOWN, if_there, stamp_of,
};
use crate::format::descriptor::Outline;
use crate::format::layout::{PAGE, SEGMENT_HEAD};
use crate::mapping::map::KeepsMapped;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::protocol::{self, Control, Form, Memory};

/// Where the entry of a slot is in a small segment's data; `None` for a slot that has its segments to
/// itself.
#[inline]
pub(crate) fn small_at(outline: &Outline) -> Option<usize> {
    let at = outline.offset_in_segment.saturating_sub(SEGMENT_HEAD) as usize;
    checkpoint::is_small(outline).then_some(at)
}

/// A segment, or a page of the directory, as a sync sees it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) pair: CopyPair,
    /// The copy in use, and what it adds to the sum.
    pub(crate) choice: Choice,
    pub(crate) share: u64,
    /// The copy in use could not be read when its share was asked for. It counts as absent, even if
    /// it can be read later.
    pub(crate) lost: bool,
    /// The slots in it; for a large slot's segment, that slot.
    pub(crate) slots: Vec<usize>,
    /// Bytes of data, for a small segment or a page of the directory.
    pub(crate) used: usize,
    /// Of a large slot: the stamp with which it was last seen to be what its copy says.
    pub(crate) same_at: Stamp,
    /// Of which reading of the record choice and share are: see `SyncState::load_segment`.
    pub(crate) reading: u64,
    /// Further slots in it can only be on this line of the directory, or behind it.
    pub(crate) next_line: u32,
    /// No further slots will be in it.
    pub(crate) is_complete: bool,
}

impl Segment {
    pub(crate) fn new(pair: CopyPair) -> Segment {
        Segment {
            pair,
            choice: Choice::Absent,
            share: 0,
            lost: false,
            slots: Vec::new(),
            used: 0,
            same_at: UNKNOWN,
            reading: 0,
            next_line: 0,
            is_complete: false,
        }
    }

    /// A segment of a slot that has it to itself.
    pub(crate) fn of_large(pair: CopyPair, slot: usize) -> Segment {
        Segment { slots: vec![slot], is_complete: true, ..Segment::new(pair) }
    }

    /// The copy in use, if there is one and it is available.
    pub(crate) fn in_use(&self, attachment: &Attachment) -> Result<Option<(CopyHead, Vec<u8>)>> {
        if self.choice == Choice::Absent || self.lost && !planted!(LostCopyIsFound) {
            return Ok(None);
        }
        let read = if_there(self.pair.read(attachment.disk(), self.choice));
        read.map_err(|e| cannot_sync(attachment, e))
    }

    /// The stamp in the head of the copy in use, if that copy holds exactly this data.
    pub(crate) fn stamp_if_same(
        &self,
        attachment: &Attachment,
        data: &[u8],
    ) -> Result<Option<Stamp>> {
        let mut in_use = self.in_use(attachment)?;
        if planted!(CleanByAnyCopy)
            && let Ok(other) = self.pair.read(attachment.disk(), self.choice.other())
            && other.1 == data
        {
            in_use = Some(other);
        }
        Ok(in_use.filter(|(_, copy)| copy == data).map(|(head, _)| head.stamp))
    }
}

/// A slot's entry in the data of a small segment: the version it has, and its content.
pub(crate) fn small_entry(data: &[u8], at: usize, content_len: u64) -> Option<(Stamp, &[u8])> {
    let entry = data.get(at..at + 8 + content_len as usize)?;
    let (control, content) = entry.split_at(8);
    let control = u64::from_le_bytes(control.try_into().ok()?);
    Some((stamp_of(Control::from_bits(control)), content))
}

/// Whether a slot's bytes differ from a copy of them although it still has the copy's version. No
/// update has changed them, so they are damaged. `copy` is the content, or a part of it, from byte
/// `at` on. Always false for a buffer, whose version says nothing.
pub(crate) fn is_spoiled<K: KeepsMapped>(
    attachment: &Attachment,
    memory: &SlotMemory<K>,
    stamp: Stamp,
    at: usize,
    copy: &[u8],
) -> bool {
    if copied_slots::stamp(memory, attachment) != stamp {
        return false;
    }
    match memory.form() {
        Form::Scalar => {
            let (value, version) = protocol::load_scalar_versioned(memory, attachment);
            let value = value.to_le_bytes();
            version == stamp >> 1 && value.get(at..at + copy.len()).is_some_and(|now| now != copy)
        }
        Form::Areas(areas) if areas.count > 1 => {
            let mut now = vec![0; copy.len()];
            memory.read(areas.of(stamp >> 1), at, &mut now);
            protocol::validate_read(memory, &areas, stamp >> 1) && now != copy
        }
        Form::Areas(_) | Form::Lock => false,
    }
}

/// The message for a slot that [`is_spoiled`].
pub(crate) const SPOILED: &str = "its content differs from what the last sync saved, although no \
                                  update has changed it since; store a new value";

/// The user's error for a failure of the disk in a sync.
pub(crate) fn cannot_sync(attachment: &Attachment, error: std::io::Error) -> Error {
    attachment.no_space(PAGE, error)
}
