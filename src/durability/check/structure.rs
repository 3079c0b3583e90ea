//! Whether the descriptors, the index, the allocation ends, the process table and the locks of all
//! slots agree.

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use super::{Check, contents, text};
use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::attachment::survey::Taken;
use crate::directory;
use crate::directory::allocator;
use crate::error::{Error, Result};
use crate::format::checkpoint;
use crate::format::descriptor::Descriptor;
use crate::format::layout::{RUN, TABLE_ENTRIES, live};
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::protocol::{self, Control, Form, MAX_OWNER, Memory, REMOVED, STALE, State};

/// What is collected from all slots, to be compared.
pub(super) struct Structure<'a> {
    attachment: &'a Attachment,
    taken: Taken,
    /// Start, end, and the slot's name.
    ranges: Vec<(u64, u64, String)>,
    /// The slots that have not been removed, by name.
    pub(super) there: HashMap<String, SlotMemory>,
    /// Locks that name an owner which, at one look, no process was.
    odd: Vec<OddLock>,
    /// Slots that other processes kept from being seen at rest.
    pub(super) busy: Vec<(Descriptor, SlotMemory)>,
    /// Where the copies of the last tier end.
    tiers_end: u64,
    /// Bytes of the slots whose contents were looked at, then of the file.
    contents: u64,
    length: u64,
    /// How many more entries of the index may be looked at. In an index full of rubbish, each name
    /// is looked for in all of it.
    pub(super) steps_left: u64,
}

/// A lock, its slot if it is one's, and its control word.
struct OddLock {
    slot: Option<String>,
    memory: SlotMemory,
    control: Control,
}

/// What is shown as the slot that a further tier of the directory is.
const THE_DIRECTORY: &str = "the directory";

/// How often, at most, to look again at what others may be in the middle of. One pause for all of
/// it: in a damaged file it may be many slots.
const LOOKS: usize = 10;

/// How many looks there may be in total for each entry of the index. (In an intact store it takes
/// one or two per slot.)
const STEPS: u64 = 64;

impl<'a> Structure<'a> {
    pub(super) fn new(attachment: &'a Attachment) -> Structure<'a> {
        let regions = &attachment.header.regions;
        // If the count is damaged, no slot is looked at.
        let entries = directory::all_steps(attachment).unwrap_or(1);
        Structure {
            attachment,
            taken: Taken::new(regions),
            ranges: Vec::new(),
            there: HashMap::new(),
            odd: Vec::new(),
            busy: Vec::new(),
            tiers_end: regions.first_ends().1,
            contents: 0,
            length: 0,
            steps_left: STEPS * entries,
        }
    }

    pub(super) fn add(&mut self, descriptor: &Descriptor, check: &mut Check) {
        let (attachment, name) = (self.attachment, descriptor.name.as_str());
        let end = descriptor.live + descriptor.live_len();
        self.ranges.push((descriptor.live, end, descriptor.name.clone()));
        match descriptors::check_segments(attachment, name, descriptor) {
            Ok(()) => {
                if let Some((from, len, _)) = checkpoint::copies_of(descriptor) {
                    let copies = (from, from + len, descriptor.name.clone());
                    // Many slots share a small segment.
                    let shared = checkpoint::is_small(descriptor)
                        && self.taken.ends().small_copies == descriptor.copies;
                    self.ranges.extend((!shared).then_some(copies));
                }
                self.taken.add(descriptor);
            }
            Err(_) => check.note(Some(name), "its checkpoint segments are out of place"),
        }
        let memory = match descriptors::memory(attachment, descriptor) {
            Ok(memory) => memory,
            Err(error) => return check.note(Some(name), error.to_string()),
        };
        self.check_name(descriptor, &memory, check);
        self.check_lock(Some(name), &memory, check);
        check_stale_ranges(descriptor, &memory, check);
        if self.has_room_for(descriptor) {
            if contents::is_busy(&memory, descriptor, check) {
                self.busy.push((descriptor.clone(), memory.clone()));
            }
            text::check(attachment, descriptor, &memory, check);
        }
        if !memory.is_removed() {
            self.there.insert(descriptor.name.clone(), memory);
        }
    }

    /// Adds the further tiers of the directory.
    pub(super) fn add_tiers(&mut self, check: &mut Check) -> Result<()> {
        let regions = &self.attachment.header.regions;
        for number in 1.. {
            let at = match self.attachment.parts(number) {
                Ok(Some(at)) => at,
                Ok(None) => break,
                Err(error) => return check.note_error(error),
            };
            let len = regions.parts_len(number);
            self.taken.add_tier(regions, number, at);
            self.ranges.push((at.live, at.live + len.live, THE_DIRECTORY.into()));
            if at.copies != 0 {
                self.ranges.push((at.copies, at.copies + len.copies, THE_DIRECTORY.into()));
                self.tiers_end = at.copies + len.copies;
            }
        }
        Ok(())
    }

    /// Whether the file has room for this slot beside those already looked at. If not, some of them
    /// overlap, which is reported separately. Looking at all of them could take forever.
    fn has_room_for(&mut self, descriptor: &Descriptor) -> bool {
        let contents = self.contents.saturating_add(descriptor.live_len());
        if contents > self.length {
            // It may have grown.
            self.length = self.attachment.disk().length().unwrap_or(self.length);
        }
        let has_room = contents <= self.length || planted!(OverlappingSlotsAreAllLookedAt);
        if has_room {
            self.contents = contents;
        }
        has_room
    }

    /// Whether the name leads to this slot, and to no other.
    fn check_name(&mut self, descriptor: &Descriptor, memory: &SlotMemory, check: &mut Check) {
        if memory.is_removed() {
            return;
        }
        let name = descriptor.name.as_str();
        if planted!(AllOfTheIndexForEachName) {
            self.steps_left = u64::MAX;
        }
        let found = directory::find_by_index(self.attachment, name, &mut self.steps_left);
        let leads = matches!(found, Ok(Some(ref found)) if found.entry.live() == descriptor.live);
        // It may have been removed meanwhile; its name may be another slot's by now.
        if !leads && self.steps_left > 0 && !memory.is_removed() && !planted!(IndexIsNotCompared) {
            check.note(Some(name), "the index does not lead to it");
        }
        if self.there.get(name).is_some_and(|before| !before.is_removed()) {
            check.note(Some(name), "there are two slots of this name");
        }
    }

    /// Whether all slots lie before the allocation ends.
    pub(super) fn check_ends(&self, check: &mut Check) -> Result<()> {
        let (attachment, disk) = (self.attachment, self.attachment.disk());
        let ends = match allocator::ends(attachment) {
            Ok(ends) => ends,
            Err(error) => return check.note_error(error),
        };
        if let Err(what) = self.taken.check_ends(&ends) {
            check.note(None, what);
        }
        let cannot = |e| Error::io(&attachment.path, "cannot tell how long the file is (fstat)", e);
        let len = disk.length().map_err(cannot)?;
        // The file grows before the ends move. But the last tier's copies have blocks only as far as
        // they are in use.
        let regions = &attachment.header.regions;
        let is_shorter = match ends.copies == self.tiers_end && self.tiers_end != 0 {
            true => ends.live > len && ends.live != regions.first_ends().0,
            false => {
                let runs = if ends.runs == regions.runs { 0 } else { ends.runs };
                ends.live.max(ends.copies) > len || runs > len.next_multiple_of(RUN)
            }
        };
        if is_shorter {
            check.note(
                None,
                format!("the file has {len} bytes, but the allocation ends at {ends:?}"),
            );
        }
        Ok(())
    }

    pub(super) fn check_locks(&mut self, check: &mut Check) {
        for lock in [live::DIRECTORY_LOCK, live::SYNC_LOCK] {
            let memory = self.attachment.lock(lock);
            self.check_lock(None, &memory, check);
        }
    }

    /// Whether a slot can have this control word.
    fn check_lock(&mut self, name: Option<&str>, memory: &SlotMemory, check: &mut Check) {
        let control = memory.control(Acquire);
        let owner = control.owner();
        let last = if memory.has_lock_bit() { MAX_OWNER } else { TABLE_ENTRIES };
        if control.is_read_lock() {
            let reader = control.reader();
            if !(1..=last).contains(&reader) && !planted!(AnyReaderCanExist) {
                check.note(name, format!("its lock names reader {reader}, which cannot exist"));
            }
            return; // whoever wants the slot may take it away
        }
        if control.state() != State::Dirty && memory.marks().is_none() {
            check.note(name, "it counts as unchanged since the last sync, which it cannot");
        }
        if owner > last && owner != REMOVED {
            check.note(name, format!("its lock names owner {owner}, which cannot exist"));
        } else if control.in_transaction() && owner == protocol::FREE {
            check.note(name, "it is in a transaction, but has no owner");
        } else if owner != protocol::FREE && owner != REMOVED {
            let odd = OddLock { slot: name.map(str::to_owned), memory: memory.clone(), control };
            self.odd.extend(odd.is_odd(self.attachment).then_some(odd));
        }
    }

    /// Looks again at what other processes may be in the middle of.
    pub(super) fn look_again(&mut self, check: &mut Check) {
        for _ in 0..LOOKS {
            if self.odd.is_empty() && self.busy.is_empty() {
                return;
            }
            pause();
            self.odd.retain(|odd| odd.is_odd(self.attachment));
            self.busy.retain(|(slot, memory)| contents::is_busy(memory, slot, check));
        }
        for OddLock { slot, control, .. } in &self.odd {
            let owner = control.owner();
            check.note(
                slot.as_deref(),
                format!("its lock names owner {owner}, but no process is that owner"),
            );
        }
    }

    /// Whether each slot and each copy has its space to itself.
    pub(super) fn check_overlaps(&mut self, check: &mut Check) {
        self.ranges.sort();
        // Of the ranges before, the one that reaches furthest.
        let mut furthest: Option<(u64, &str)> = None;
        for (start, end, name) in &self.ranges {
            if let Some((before, first)) = furthest
                && *start < before
            {
                check.note(Some(name), format!("it overlaps with slot {first:?}"));
            }
            if furthest.is_none_or(|(before, _)| before < *end) {
                furthest = Some((*end, name));
            }
        }
    }
}

impl OddLock {
    /// A lock's holder has an entry. Between two looks it may have released both and taken them
    /// again.
    fn is_odd(&self, attachment: &Attachment) -> bool {
        if planted!(EachOddLockHasItsOwnPause) {
            pause();
        }
        let free = attachment.is_free(self.control.owner());
        free && self.memory.control(Acquire) == self.control
    }
}

/// Lets other processes continue. A fuzzer has none.
fn pause() {
    if !cfg!(fuzzing) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn check_stale_ranges(descriptor: &Descriptor, memory: &impl Memory, check: &mut Check) {
    let Form::Areas(areas) = descriptor.form() else { return };
    for area in 0..areas.count as usize {
        let stale = memory.load(STALE + area, Relaxed);
        let (from, to) = (stale as u32 as usize, (stale >> 32) as usize);
        if stale != 0 && !(from < to && to <= areas.words) {
            let what = format!("area {area} has a stale range that does not fit it");
            check.note(Some(&descriptor.name), what);
        }
    }
}

pub(super) fn check_table(attachment: &Attachment, check: &mut Check) {
    for (entry, word) in attachment.strange_words() {
        check.note(
            None,
            format!("entry {entry} of the process table says {word}, which is not a state"),
        );
    }
    if attachment.known_entries_with_blocks().is_none() {
        check.note(None, "the word that says how much of the process table has blocks is damaged");
    }
}
