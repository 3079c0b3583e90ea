//! Where a sync looks for what has changed: at all slots, or at those whose segments are marked.

use super::SyncState;
use super::known::KnownSlots;
use crate::attachment::attach::Attachment;
use crate::directory::allocator;
use crate::durability::consistent_copy::Copied;
use crate::durability::segment::{Segment, small_at};
use crate::error::{Error, Result};
use crate::format::checkpoint::{Stamp, UNKNOWN};
use crate::mapping::map::Map;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::protocol::{self, Marks, Stand};

/// Where to look.
#[derive(Debug)]
pub(super) enum Look {
    /// At all slots: in a store without marks, or where marks are not enough.
    AtAll,
    /// At the slots of marked segments.
    AtMarked(Marked),
}

/// What the looks at the marks have found.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// The marks that were set, one word for each of theirs.
    looked: Vec<u64>,
    /// How many segments had been given out at the last look.
    segments: u64,
    /// How many marks there are: several segments may share one.
    marks: u64,
    /// A copy in use could not be read. Then all slots have to be looked at.
    is_lost: bool,
}

impl Look {
    pub(super) fn at_marked() -> Look {
        Look::AtMarked(Marked::default())
    }

    pub(super) fn is_at_all(&self) -> bool {
        matches!(self, Look::AtAll)
    }

    /// Whether this segment is looked at.
    pub(super) fn is_at(&self, segment: u64) -> bool {
        match self {
            Look::AtAll => true,
            Look::AtMarked(marked) => {
                let mark = segment % marked.marks.max(1);
                let word = marked.looked.get(mark as usize / 64);
                word.is_some_and(|word| word >> (mark % 64) & 1 == 1)
            }
        }
    }

    /// The copy in use of this segment cannot be read. Where all slots are looked at, it is lost: its
    /// share is left out of the sum. Otherwise an error: all slots have to be looked at.
    pub(super) fn note_lost(
        &mut self,
        attachment: &Attachment,
        segment: &mut Segment,
    ) -> Result<()> {
        match self {
            Look::AtAll => {
                segment.lost = true;
                Ok(())
            }
            Look::AtMarked(marked) => {
                marked.is_lost = true;
                // The record's sum still has its share, so it is to be read again.
                segment.reading =
                    if planted!(AFailedReadIsRemembered) { segment.reading } else { 0 };
                Err(Error::corrupt(&attachment.path, "a copy of the last sync cannot be read"))
            }
        }
    }
}

impl Marked {
    /// The segments that a mark stands for.
    fn segments_of(&self, mark: u64) -> impl Iterator<Item = u64> + use<> {
        (mark..self.segments).step_by(self.marks as usize)
    }

    /// Whether segments may have been given out since that share these marks.
    fn are_shared_since(&self, attachment: &Attachment) -> bool {
        match allocator::ends(attachment) {
            _ if planted!(SharedMarksAreForgotten) => false,
            Ok(ends) => ends.segments > self.marks && ends.segments != self.segments,
            Err(_) => true,
        }
    }
}

impl SyncState {
    /// Begins to look anew.
    pub(crate) fn begin(&mut self, attachment: &Attachment) {
        if let (Look::AtMarked(marked), Some(marks)) = (&mut self.look, attachment.marks()) {
            *marked = Marked { marks: 64 * marks.words() as u64, ..Marked::default() };
        }
    }

    /// Whether a look at the marks has failed, and all slots have to be looked at.
    pub(crate) fn has_to_look_at_all(&self) -> bool {
        matches!(&self.look, Look::AtMarked(marked) if marked.is_lost)
    }

    /// One look at all marks: the slots that differ from what was last copied.
    fn changed_marked(&mut self, attachment: &Attachment) -> Result<Vec<usize>> {
        let Some(marks) = attachment.marks() else { return Ok(Vec::new()) };
        let segments = allocator::ends(attachment)?.segments;
        let Look::AtMarked(marked) = &mut self.look else { return Ok(Vec::new()) };
        marked.segments = segments;
        let mut looked = std::mem::take(&mut marked.looked);
        looked.resize((segments.div_ceil(64) as usize).min(marks.words()), 0);
        let mut changed = Vec::new();
        let mut result = Ok(());
        protocol::look_at_marked(marks, &mut looked, |mark| {
            let before = changed.len();
            if result.is_ok() {
                result = self.look_at_mark(attachment, mark as u64, &mut changed);
            }
            changed.len() > before
        });
        if let Look::AtMarked(marked) = &mut self.look {
            marked.looked = looked;
        }
        result.map(|()| {
            changed.sort_unstable();
            changed.dedup();
            changed
        })
    }

    /// Adds the slots that have changed in the segments of this mark.
    fn look_at_mark(
        &mut self,
        attachment: &Attachment,
        mark: u64,
        changed: &mut Vec<usize>,
    ) -> Result<()> {
        let Look::AtMarked(marked) = &self.look else { return Ok(()) };
        for number in marked.segments_of(mark) {
            if !self.known.find(attachment, number, self.lines)? {
                continue;
            }
            self.load_segment(attachment, attachment.disk(), number)?;
            let segment = &self.known.segments[&number];
            for slot in &segment.slots {
                if self.known.has_changed(attachment, segment, *slot) {
                    changed.push(*slot);
                }
            }
        }
        Ok(())
    }

    /// After the acknowledgement: makes clean what is as it was copied, and clears the marks of its
    /// segments.
    pub(crate) fn clean(&self, attachment: &Attachment) {
        let (Look::AtMarked(marked), Some(marks)) = (&self.look, attachment.marks()) else {
            return;
        };
        let mut slots = Vec::new();
        for (word, looked) in marked.looked.iter().enumerate() {
            slots.clear();
            let (mut bits, mut rest) = (0, *looked);
            while rest != 0 {
                let mark = 64 * word as u64 + u64::from(rest.trailing_zeros());
                if self.known.take_cleanable(marked.segments_of(mark), &mut slots) {
                    bits |= rest & rest.wrapping_neg();
                }
                rest &= rest - 1;
            }
            if bits == 0 {
                continue;
            }
            let shared_since = || if marked.are_shared_since(attachment) { bits } else { 0 };
            let slots = slots.iter().map(|(memory, stand)| (memory, *stand));
            protocol::clean(marks, word, bits, slots, shared_since);
        }
    }
}

impl KnownSlots {
    /// Whether a slot of this segment differs from what was last copied of it.
    fn has_changed(&self, attachment: &Attachment, segment: &Segment, slot: usize) -> bool {
        let memory = self.slots.memories.get(slot);
        let outline = &self.outlines[slot];
        let stand = match outline.is_buffer() {
            // It is never clean.
            true => return self.slots.memories.stamp(attachment, slot) != self.slots.seen[slot],
            false => protocol::stand(&memory, attachment),
        };
        stand.map(stamp_of).is_some_and(|stamp| stamp != self.copied_of(segment, slot))
    }

    /// The stamp of a slot that is in the copies, as far as this segment shows it.
    fn copied_of(&self, segment: &Segment, slot: usize) -> Stamp {
        match small_at(&self.outlines[slot]) {
            Some(_) => self.slots.seen[slot],
            None if planted!(OneSegmentStandsForAll) => self.slots.seen[slot],
            None => segment.same_at,
        }
    }

    /// Adds the slots of these segments, and how they were copied, if all of them may become clean.
    fn take_cleanable<'a>(
        &'a self,
        segments: impl Iterator<Item = u64>,
        slots: &mut Vec<(SlotMemory<&'a Map>, Stand)>,
    ) -> bool {
        let before = slots.len();
        // There is none if the mark is of a segment that was given out since the look.
        let mut is_known = planted!(MarksOfNothingAreCleared);
        for number in segments {
            is_known = true;
            // Of one that is not known, and of one that may get more slots, a definer may have set
            // the mark without having published the slot.
            let segment = self.segments.get(&number).filter(|segment| {
                let is_complete = segment.is_complete || planted!(SegmentsAreCleanedTooEarly);
                let has_buffer = segment.slots.iter().any(|slot| self.outlines[*slot].is_buffer());
                is_complete && (!has_buffer || planted!(BuffersAreMadeClean))
            });
            let Some(segment) = segment else {
                slots.truncate(before);
                return false;
            };
            slots.extend(segment.slots.iter().map(|slot| {
                (self.slots.memories.get(*slot), stand_of(self.copied_of(segment, *slot)))
            }));
        }
        is_known
    }
}

impl Copied for SyncState {
    fn probably_changed(&mut self, attachment: &Attachment) -> Vec<usize> {
        match self.look {
            Look::AtAll => self.known.slots.probably_changed(attachment),
            // A look at the marks is as fast.
            Look::AtMarked(_) => Vec::new(),
        }
    }

    fn changed(&mut self, attachment: &Attachment) -> Result<Vec<usize>> {
        match self.look {
            Look::AtAll => self.known.slots.changed(attachment),
            Look::AtMarked(_) => self.changed_marked(attachment),
        }
    }

    fn memory(&self, slot: usize) -> SlotMemory<&Map> {
        self.known.slots.memory(slot)
    }

    fn offset(&self, slot: usize) -> u64 {
        self.known.slots.offset(slot)
    }

    fn set_lately(&mut self, copied: Vec<usize>) {
        self.known.slots.set_lately(copied);
    }
}

fn stamp_of(stand: Stand) -> Stamp {
    stand.version << 1 | Stamp::from(stand.is_removed)
}

/// `UNKNOWN` is that of no slot.
fn stand_of(stamp: Stamp) -> Stand {
    let version = if stamp == UNKNOWN { UNKNOWN } else { stamp >> 1 };
    Stand { version, is_removed: stamp & 1 == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use crate::durability::segment_writer::SegmentWriter;
    use crate::durability::sync;
    use crate::format::checkpoint::CopyPair;
    use crate::protocol::Deadline;

    fn store(folder: &tempfile::TempDir) -> Store {
        let mut options = crate::OpenOptions::new();
        options.create(true).sync_every(None);
        options.open(folder.path().join("state.slots")).unwrap()
    }

    /// How many slots differ from the last sync, as a look at all of them says.
    fn unsynced(store: &Store) -> u64 {
        let attachment = store.attachment();
        SyncState::load_all(attachment).unwrap().count_unsynced(attachment).unwrap()
    }

    #[test]
    fn a_slot_that_is_defined_before_the_marks_are_cleared_keeps_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let attachment = store.attachment();
        store.value::<u64>("first").unwrap().store(1).unwrap();
        let mut state = None;
        sync::sync(&mut state, attachment, &Deadline::new(None), false).unwrap();
        store.value::<u64>("second").unwrap().store(2).unwrap();
        sync::clean(&mut state, attachment);
        store.sync().unwrap();
        assert_eq!(unsynced(&store), 0);
        assert!(store.check().unwrap().is_ok());
    }

    /// It is given its segment between the two moments at which a look reads how many there are, and the
    /// marks.
    #[test]
    fn the_mark_of_a_segment_that_was_given_out_since_the_look_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let attachment = store.attachment();
        store.array::<u8>("first", 2_000).unwrap();
        let mut state = None;
        sync::sync(&mut state, attachment, &Deadline::new(None), false).unwrap();
        store.array::<u8>("second", 2_000).unwrap();
        if let Some(SyncState { look: Look::AtMarked(marked), .. }) = &mut state {
            marked.looked[0] |= 1 << 1;
        }
        sync::clean(&mut state, attachment);
        store.sync().unwrap();
        assert_eq!(unsynced(&store), 0);
        assert!(store.check().unwrap().is_ok());
    }

    /// A look of the background thread fails for a moment.
    #[test]
    fn a_copy_that_could_not_be_read_for_a_moment_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let attachment = store.attachment();
        let value = store.value::<u64>("value").unwrap();
        value.store(1).unwrap();
        store.sync().unwrap();
        let mut state = SyncState::load(attachment).unwrap();
        value.store(2).unwrap();
        let outline = crate::attachment::descriptors::outline_at(attachment, 0, 1).unwrap();
        let choice = state.record.segments.get(0);
        let (at, _) = CopyPair::of_small(&outline).range(choice);
        let flip = || {
            let mut byte = [0];
            attachment.disk().read(at + 64, &mut byte).unwrap();
            attachment.disk().write(at + 64, &[byte[0] ^ 1]).unwrap();
        };
        flip();
        assert!(state.has_changed(attachment).is_err());
        flip();
        sync::sync(&mut Some(state), attachment, &Deadline::new(None), false).unwrap();
        let check = store.check().unwrap();
        assert!(check.is_ok(), "{check:?}");
    }

    #[test]
    fn a_segment_that_is_marked_late_is_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let attachment = store.attachment();
        let large = store.array::<u8>("large", 200_000).unwrap();
        store.sync().unwrap();
        large.set(0, 1).unwrap();
        let mut state = SyncState::load(attachment).unwrap();
        let lines = crate::attachment::descriptors::count(attachment).unwrap();
        state.begin(attachment);
        state.add_slots(attachment, lines).unwrap();
        let changed = state.changed(attachment).unwrap();
        assert_eq!(changed.len(), 1);
        large.set(100_000, 2).unwrap();
        let mut writer = SegmentWriter::new(attachment, state.epoch() + 1);
        state.copy_slots(attachment, &changed, &mut writer).unwrap();
        assert_eq!(state.changed(attachment).unwrap(), changed, "its second segment");
        state.copy_slots(attachment, &changed, &mut writer).unwrap();
        assert_eq!(state.changed(attachment).unwrap(), []);
    }

    #[test]
    fn a_mark_that_also_stands_for_a_new_segment_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let attachment = store.attachment();
        store.array::<u8>("large", 200_000).unwrap();
        let marked = |marks| {
            let segments = allocator::ends(attachment).unwrap().segments;
            Marked { segments, marks, ..Marked::default() }
        };
        let (few, many) = (marked(4), marked(1 << 18));
        assert!(!few.are_shared_since(attachment));
        store.array::<u8>("another", 200_000).unwrap();
        assert!(few.are_shared_since(attachment) && !many.are_shared_since(attachment));
    }
}
