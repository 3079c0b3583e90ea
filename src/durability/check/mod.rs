//! Verifying a store: its structure, its locks, its checkpoint, its contents.

mod contents;

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::attachment::survey::Taken;
use crate::directory;
use crate::directory::allocator;
use crate::error::{Error, Result};
use crate::format::checkpoint::{self, Mark, Record};
use crate::format::layout::{Descriptor, RUN, TABLE_ENTRIES, live};
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Control, Deadline, Form, Memory, REMOVED, STALE};
use crate::types::data::TEXT_LEN;
use crate::types::dtype::SlotType;

/// What [`Store::check`](crate::Store::check) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What could not be verified, and why.
    pub unverified: Vec<String>,
}

/// Something that is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The slot that it concerns, if any.
    pub slot: Option<String>,
    /// What was expected and what was found.
    pub what: String,
}

impl Check {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Verifies everything that can be verified.
pub(crate) fn check(
    attachment: &Attachment,
    timeout: Option<Duration>,
    progress: &mut dyn FnMut(u64),
) -> Result<Check> {
    let mut check = Check::default();
    let mut structure = Structure::new(attachment);
    let mut done = 0;
    let walked = descriptors::each(attachment, |descriptor| {
        structure.add(&descriptor, &mut check);
        done += descriptor.content_len;
        progress(done);
        Ok(())
    });
    match walked {
        Ok(()) => structure.check_ends(&mut check)?,
        Err(error) => check.note_error(error)?,
    }
    structure.check_locks(&mut check);
    structure.look_again(&mut check);
    check_overlaps(structure.ranges, &mut check);
    check_table(attachment, &mut check);
    if attachment.has_strange_superseded() {
        check.note(None, "the word that says whether it was compacted says neither yes nor no");
    }
    if structure.steps_left == 0 {
        let what =
            "whether the index leads to each slot: it has far more entries than there are slots";
        check.unverified.push(what.into());
    }
    if !structure.busy.is_empty() {
        let what = "areas that are not current, of slots that others had locked";
        let busy: Vec<String> = structure.busy.into_iter().map(|(slot, _)| slot.name).collect();
        check.unverified.push(contents::list(what, &busy));
    }
    if attachment.header.has_checkpoint() {
        check_checkpoint(attachment, timeout, &mut check)?;
    } else if !structure.there.is_empty() {
        check
            .unverified
            .push("contents: a store without checkpoints has no checksums of them".into());
    }
    Ok(check)
}

impl Check {
    fn note(&mut self, slot: Option<&str>, what: impl Into<String>) {
        self.problems.push(Problem { slot: slot.map(str::to_owned), what: what.into() });
    }

    /// Notes what an error says of a damaged file. Any other error ends the check.
    fn note_error(&mut self, error: Error) -> Result<()> {
        let slot = match &error {
            Error::Corrupt { slot, .. } => slot.clone(),
            _ => None,
        };
        self.note(slot.as_deref(), error_text(error)?);
        Ok(())
    }
}

/// What an error says of a damaged file. Any other error ends the check.
fn error_text(error: Error) -> Result<String> {
    match error {
        Error::Corrupt { what, .. } => Ok(what),
        Error::Truncated { have, need, .. } => {
            Ok(format!("the file has {have} bytes and should have at least {need}"))
        }
        other => Err(other),
    }
}

/// What is collected from all slots, to be compared.
struct Structure<'a> {
    attachment: &'a Attachment,
    taken: Taken,
    /// Start, end, and the slot's name.
    ranges: Vec<(u64, u64, String)>,
    /// The slots that have not been removed, by name.
    there: HashMap<String, SlotMemory>,
    /// Locks that name an owner which, at one look, no process was.
    odd: Vec<OddLock>,
    /// Slots that other processes kept from being seen at rest.
    busy: Vec<(Descriptor, SlotMemory)>,
    /// Bytes of the slots whose contents were looked at, then of the file.
    contents: u64,
    length: u64,
    /// How many more entries of the index may be looked at. In an index full of rubbish, each name
    /// is looked for in all of it.
    steps_left: u64,
}

/// A lock, its slot if it is one's, and its control word.
struct OddLock {
    slot: Option<String>,
    memory: SlotMemory,
    control: Control,
}

/// How often, at most, to look again at what others may be in the middle of. One pause for all of
/// it: in a damaged file it may be many slots.
const LOOKS: usize = 10;

/// How many looks there may be in total for each entry of the index. (In an intact store it takes
/// one or two per slot.)
const STEPS: u64 = 64;

impl<'a> Structure<'a> {
    fn new(attachment: &'a Attachment) -> Structure<'a> {
        let regions = &attachment.header.regions;
        Structure {
            attachment,
            taken: Taken::new(regions),
            ranges: Vec::new(),
            there: HashMap::new(),
            odd: Vec::new(),
            busy: Vec::new(),
            contents: 0,
            length: 0,
            steps_left: STEPS * regions.index_entries,
        }
    }

    fn add(&mut self, descriptor: &Descriptor, check: &mut Check) {
        let (attachment, name) = (self.attachment, descriptor.name.as_str());
        let end = descriptor.live + descriptor.live_len();
        self.ranges.push((descriptor.live, end, descriptor.name.clone()));
        match descriptors::check_places(attachment, name, descriptor) {
            Ok(()) => {
                if let Some((from, len, _)) = checkpoint::copies_of(descriptor) {
                    let copies = (from, from + len, descriptor.name.clone());
                    // Many slots share a small unit.
                    let shared = checkpoint::is_small(descriptor)
                        && self.taken.ends().small_copies == descriptor.copies;
                    self.ranges.extend((!shared).then_some(copies));
                }
                self.taken.add(descriptor);
            }
            Err(_) => check.note(Some(name), "its checkpoint units are out of place"),
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
            check_text(attachment, descriptor, &memory, check);
        }
        if !memory.is_removed() {
            self.there.insert(descriptor.name.clone(), memory);
        }
    }

    /// Whether the file has room for this slot beside those already looked at. If not, some of them
    /// overlap, which is reported separately. Looking at all of them could take forever.
    fn has_room_for(&mut self, descriptor: &Descriptor) -> bool {
        let contents = self.contents.saturating_add(descriptor.live_len());
        if contents > self.length {
            // It may have grown.
            self.length = self.attachment.disk().length().unwrap_or(self.length);
        }
        let has_room = contents <= self.length;
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
        let found = directory::find_by_index(self.attachment, name, &mut self.steps_left);
        let leads = matches!(found, Ok(Some(ref found)) if found.entry.live() == descriptor.live);
        // It may have been removed meanwhile; its name may be another slot's by now.
        if !leads && self.steps_left > 0 && !memory.is_removed() {
            check.note(Some(name), "the index does not lead to it");
        }
        if self.there.get(name).is_some_and(|before| !before.is_removed()) {
            check.note(Some(name), "there are two slots of this name");
        }
    }

    /// Whether all slots lie before the allocation ends.
    fn check_ends(&self, check: &mut Check) -> Result<()> {
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
        // The file grows before the ends move.
        if ends.live.max(ends.copies) > len || ends.runs > len.next_multiple_of(RUN) {
            check.note(
                None,
                format!("the file has {len} bytes, but the allocation ends at {ends:?}"),
            );
        }
        Ok(())
    }

    fn check_locks(&mut self, check: &mut Check) {
        for lock in [live::DIRECTORY_LOCK, live::SYNC_LOCK] {
            let memory = self.attachment.lock(lock);
            self.check_lock(None, &memory, check);
        }
    }

    /// Whether a slot can have this control word.
    fn check_lock(&mut self, name: Option<&str>, memory: &SlotMemory, check: &mut Check) {
        let control = memory.control(Acquire);
        let owner = control.owner();
        if control.is_read_lock() {
            let reader = control.reader();
            if !(1..=TABLE_ENTRIES).contains(&reader) {
                check.note(name, format!("its lock names reader {reader}, which cannot exist"));
            }
            return; // whoever wants the slot may take it away
        }
        if owner > TABLE_ENTRIES && owner != REMOVED {
            check.note(name, format!("its lock names owner {owner}, which cannot exist"));
        } else if control.in_transaction() && owner == protocol::FREE {
            check.note(name, "it is in a transaction, but has no owner");
        } else if owner != protocol::FREE && owner != REMOVED {
            let odd = OddLock { slot: name.map(str::to_owned), memory: memory.clone(), control };
            self.odd.extend(odd.is_odd(self.attachment).then_some(odd));
        }
    }

    /// Looks again at what other processes may be in the middle of.
    fn look_again(&mut self, check: &mut Check) {
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
}

impl OddLock {
    /// A lock's holder has an entry. Between two looks it may have released both and taken them
    /// again.
    fn is_odd(&self, attachment: &Attachment) -> bool {
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

/// Whether the content of a text, or of bytes, is valid.
fn check_text(
    attachment: &Attachment,
    descriptor: &Descriptor,
    memory: &SlotMemory,
    check: &mut Check,
) {
    let (SlotType::Text(capacity) | SlotType::Bytes(capacity)) = descriptor.slot_type else {
        return;
    };
    let areas = memory.areas();
    if memory.is_removed() {
        return;
    }
    let is_text = matches!(descriptor.slot_type, SlotType::Text(_));
    let problem = |len: u64, is_utf8: &dyn Fn(usize) -> bool| match usize::try_from(len)
        .ok()
        .filter(|len| *len <= capacity)
    {
        None => Some(format!("its length is {len}, but its capacity is {capacity}")),
        Some(len) if is_text && !is_utf8(len) => Some("it is not UTF-8".into()),
        Some(_) => None,
    };
    let mut wrong = None;
    let mut len = [0; TEXT_LEN];
    if capacity <= AT_ONCE {
        // This read ends even if writers never pause.
        let mut content = vec![0; TEXT_LEN + capacity];
        protocol::read_bytes(memory, attachment, areas, 0, &mut content);
        let text = content.split_off(TEXT_LEN);
        len.copy_from_slice(&content);
        wrong = problem(u64::from_le_bytes(len), &|len| std::str::from_utf8(&text[..len]).is_ok());
    } else {
        // The content may be larger than memory.
        protocol::read(memory, attachment, areas, |memory, area| {
            memory.read(area, 0, &mut len);
            wrong = problem(u64::from_le_bytes(len), &|len| is_utf8(memory, area, len));
        });
    }
    if let Some(what) = wrong {
        check.note(Some(&descriptor.name), what);
    }
}

/// Bytes of a text that are checked at once.
const AT_ONCE: usize = 1 << 20;

/// Whether the first `len` bytes of an area's text are UTF-8. Reads them in parts.
pub(crate) fn is_utf8(memory: &impl Memory, area: usize, len: usize) -> bool {
    const PART: usize = 64 << 10;
    let mut part = Vec::new();
    let mut at = 0;
    while at < len {
        // Append to the beginning of a character that the last part ended in.
        let (begun, more) = (part.len(), PART.min(len - at));
        part.resize(begun + more, 0);
        memory.read(area, TEXT_LEN + at, &mut part[begun..]);
        at += more;
        let valid = match std::str::from_utf8(&part) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() && at < len => error.valid_up_to(),
            Err(_) => return false,
        };
        part.drain(..valid);
    }
    true
}

fn check_overlaps(mut ranges: Vec<(u64, u64, String)>, check: &mut Check) {
    ranges.sort();
    // Of the ranges before, the one that reaches furthest.
    let mut furthest: Option<(u64, &str)> = None;
    for (start, end, name) in &ranges {
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

fn check_table(attachment: &Attachment, check: &mut Check) {
    for (entry, word) in attachment.strange_words() {
        check.note(
            None,
            format!("entry {entry} of the process table says {word}, which is not a state"),
        );
    }
}

/// Checks the checkpoint, and compares the slots with it.
fn check_checkpoint(
    attachment: &Attachment,
    timeout: Option<Duration>,
    check: &mut Check,
) -> Result<()> {
    let lock = attachment.lock(live::SYNC_LOCK);
    let mut deadline = Deadline::new(timeout);
    // A sync would overwrite the copies that were in use before the last one.
    let held = match attachment.writable {
        true => protocol::lock(&lock, attachment, Form::Lock, &mut deadline).ok(),
        false => None,
    };
    for _ in 0..TRIES {
        // Acquire: stored after the record was written.
        let acked = attachment.live.load(live::ACKED, Acquire);
        let mut found = Check::default();
        check_record(attachment, acked, &mut found)?;
        if held.is_some() || attachment.live.load(live::ACKED, Acquire) == acked {
            check.problems.append(&mut found.problems);
            check.unverified.append(&mut found.unverified);
            return Ok(());
        }
    }
    let what = "the checkpoint: it was replaced while it was being read";
    check.unverified.push(what.into());
    Ok(())
}

/// How often to read a checkpoint anew if a sync has replaced it meanwhile.
const TRIES: usize = 3;

fn check_record(attachment: &Attachment, acked: u64, check: &mut Check) -> Result<()> {
    let (disk, regions) = (attachment.disk(), &attachment.header.regions);
    let cannot = |e| Error::io(&attachment.path, "cannot read the checkpoint", e);
    // Relaxed: a sync that stands or was killed between its two stores has stored the next one's
    // complement.
    let complement = attachment.live.load(live::ACKED + 1, Relaxed);
    if complement != !acked && complement != !(acked.wrapping_add(1)) {
        let what = format!("the last sync is {acked}, but its complement is {complement:#x}");
        check.note(None, what);
    }
    let is_mark_damaged =
        || Mark::read(disk, regions).map(|mark| mark == Mark::Damaged).map_err(cannot);
    // Twice: a read-only process has no lock, and may see the mark half-written.
    if is_mark_damaged()? && is_mark_damaged()? {
        check.note(None, "the mark of the last sync is damaged; the next sync writes it anew");
    }
    for number in 0..2 {
        let record = Record::read(disk, regions, number).map_err(cannot)?;
        if let Some(record) = record.filter(|record| record.epoch == acked) {
            return contents::compare(attachment, &record, check);
        }
    }
    check.note(None, format!("there is no intact commit record of the last sync, {acked}"));
    Ok(())
}
