//! Compares what is in memory with what the last sync saved.

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::{Check, error_text};
use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::durability::copied_slots;
use crate::durability::copies;
use crate::durability::segment;
use crate::error::Result;
use crate::format::checkpoint::{self, Choice, CopyPair, Record, Stamp, UNKNOWN, mix, stamp_of};
use crate::format::descriptor::Descriptor;
use crate::format::layout::{LARGE_SEGMENT, LINE, SEGMENT_HEAD};
use crate::format::regions::MOST_FIRST_LINES;
use crate::mapping::element::ElementRegion;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::protocol::{FREE, Form, Marks, Memory, REMOVED, STALE, State};

/// Names of slots in one line of the result, at most.
const NAMED: usize = 5;

/// Reads all that a commit record names, and compares the slots with it. Returns whether all of it is
/// there, and the next sync will find all that has changed.
/// `is_exclusive`: no other process can sync meanwhile.
pub(super) fn compare(
    attachment: &Attachment,
    record: &Record,
    is_exclusive: bool,
    check: &mut Check,
) -> Result<bool> {
    let count = descriptors::count(attachment).unwrap_or(0);
    if count < record.lines {
        let what =
            format!("the directory has {count} lines, but the last sync saved {}", record.lines);
        check.note(None, what);
    }
    let mut comparison = Comparison {
        attachment,
        record,
        sum: 0,
        changed: Vec::new(),
        is_exclusive,
        is_whole: true,
        small: None,
    };
    let saved = match copies::directory_of(attachment, record) {
        Ok(saved) => saved,
        Err(error) => return check.note_error(error).map(|()| false),
    };
    let mut lines = vec![0; saved.lines.len()];
    if let Err(error) = attachment.read_lines(0, &mut lines) {
        return check.note_error(error).map(|()| true);
    }
    if attachment.tiers_of(record.lines)? != record.tiers {
        check.note(None, "the last sync has other places for its directory");
    }
    let mut whole = true;
    for (page, choice) in record.pages.iter().enumerate() {
        let pair = CopyPair::of_page(&attachment.header.regions, &record.tiers, page as u64);
        whole &= comparison.read(&pair, choice, None, check)?.is_some();
    }
    let mut room = attachment.disk().length().unwrap_or(0);
    for (line, descriptor) in &saved.slots {
        let bytes = *line as usize * LINE..(*line as usize + descriptor.lines()) * LINE;
        if lines[bytes.clone()] != saved.lines[bytes] {
            check.note(Some(&descriptor.name), "its descriptor is not what the last sync saved");
        }
        comparison.check_first_lines(*line, descriptor, check);
        // Slots that overlap, which has been noted, could add up to far more than the file.
        let left = room.checked_sub(descriptor.content_len);
        whole &= left.is_some() && comparison.compare_slot(descriptor, check)?;
        room = left.unwrap_or(room);
    }
    if whole && comparison.sum != record.sum && !planted!(ALostWriteIsNotNoted) {
        whole = false;
        let what = format!("the copies of sync {} are not those that it was made of", record.epoch);
        check.note(None, what);
    }
    // A damaged directory has already been noted.
    let since = descriptors::each_between(attachment, record.lines, count, |descriptor| {
        let memory = descriptors::memory(attachment, &descriptor)?;
        comparison.check_state(&memory, UNKNOWN, &descriptor, check);
        if !memory.is_removed() {
            comparison.changed.push(descriptor.name);
        }
        Ok(())
    });
    if let Err(error) = since {
        error_text(error)?;
    }
    if !comparison.changed.is_empty() {
        let what = "contents that have changed since the last sync: they have no checksum yet";
        check.unverified.push(list(what, &comparison.changed));
    }
    Ok(whole && comparison.is_whole)
}

/// The message, with the number of slots and the names of the first of them.
pub(super) fn list(what: &str, names: &[String]) -> String {
    let slots = if names.len() == 1 { "slot" } else { "slots" };
    let named: Vec<String> = names.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
    let more = if names.len() > NAMED { ", ..." } else { "" };
    format!("{what} ({} {slots}: {}{more})", names.len(), named.join(", "))
}

struct Comparison<'a> {
    attachment: &'a Attachment,
    record: &'a Record,
    /// The sum over all copies that were read.
    sum: u64,
    /// Slots that have changed since the last sync.
    changed: Vec<String>,
    /// Whether no other process can sync meanwhile.
    is_exclusive: bool,
    /// The next sync finds all that has changed.
    is_whole: bool,
    /// The number of the small segment that was read last, and its data.
    small: Option<(u64, Option<Vec<u8>>)>,
}

impl Comparison<'_> {
    /// Compares a slot with its copies. False if one of these is damaged.
    fn compare_slot(&mut self, descriptor: &Descriptor, check: &mut Check) -> Result<bool> {
        let name = Some(descriptor.name.as_str());
        let memory = descriptors::memory(self.attachment, descriptor);
        if checkpoint::is_small(descriptor) {
            let Some(data) = self.small_segment(descriptor, check)? else { return Ok(false) };
            let at = (descriptor.offset_in_segment - SEGMENT_HEAD) as usize;
            let Some((stamp, copy)) = segment::small_entry(&data, at, descriptor.content_len)
            else {
                check.note(name, "its checkpoint is too short to hold it");
                return Ok(false);
            };
            // A slot that cannot be reached has already been noted.
            if let Ok(memory) = memory
                && self.has_version(&memory, stamp, descriptor, check)
                && segment::is_spoiled(self.attachment, &memory, stamp, 0, copy)
                && !planted!(SmallSlotsAreNotCompared)
            {
                check.note(name, segment::SPOILED);
            }
            return Ok(true);
        }
        let copies: Vec<(CopyPair, Choice)> = (0..checkpoint::large_segments(descriptor))
            .map(|part| CopyPair::of_large(descriptor, part))
            .map(|pair| (pair, self.record.segments.get(pair.segment as usize)))
            .collect();
        let disk = self.attachment.disk();
        // The newest of the heads says which version the slot has. A head that cannot be read is
        // noted below.
        let heads = copies.iter().filter_map(|(pair, choice)| pair.read_head(disk, *choice).ok());
        let stamp = heads.map(|head| head.stamp).max().unwrap_or(0);
        let buffer = memory.as_ref().ok().and_then(|memory| elements(descriptor, memory));
        let compared = memory.as_ref().is_ok_and(|memory| {
            self.has_version(memory, stamp, descriptor, check) || buffer.is_some()
        });
        let (mut whole, mut spoiled, mut differs) = (true, false, false);
        for (part, (pair, choice)) in (0..).zip(&copies) {
            let Some(copy) = self.read(pair, *choice, name, check)? else {
                whole = false;
                continue;
            };
            let at = (part * LARGE_SEGMENT) as usize;
            if let (Ok(memory), true) = (&memory, compared && !planted!(LargeSlotsAreNotCompared)) {
                spoiled |= segment::is_spoiled(self.attachment, memory, stamp, at, &copy);
            }
            differs |= buffer.as_ref().is_some_and(|elements| {
                let mut now = vec![0; copy.len()];
                elements.read(at, &mut now);
                now != copy
            });
        }
        if spoiled {
            check.note(name, segment::SPOILED);
        }
        if differs && self.changed.last() != Some(&descriptor.name) {
            self.changed.push(descriptor.name.clone());
        }
        Ok(whole)
    }

    /// Whether the slot has the version of its copy. Notes a slot with a later version, and one
    /// whose version cannot follow the copy's.
    fn has_version(
        &mut self,
        memory: &SlotMemory,
        stamp: Stamp,
        descriptor: &Descriptor,
        check: &mut Check,
    ) -> bool {
        self.check_state(memory, stamp, descriptor, check);
        let now = copied_slots::stamp(memory, self.attachment);
        if now == stamp {
            return true;
        }
        // Versions are counted modulo 2^47.
        let ahead = (now >> 1).wrapping_sub(stamp >> 1) & ((1 << 47) - 1);
        if (ahead >= 1 << 46 || stamp & 1 == 1) && !planted!(VersionsAreNotCompared) {
            let what = format!(
                "its control word says version {}{}, but the last sync saved the later \
                 version {}{}",
                now >> 1,
                if now & 1 == 1 { ", removed" } else { "" },
                stamp >> 1,
                if stamp & 1 == 1 { ", removed" } else { "" },
            );
            check.note(Some(&descriptor.name), what);
        } else if now & 1 == 0 {
            self.changed.push(descriptor.name.clone());
        }
        false
    }

    /// Notes a slot that differs from its copy, and that the next sync will not find.
    fn check_state(
        &mut self,
        memory: &SlotMemory,
        stamp: Stamp,
        descriptor: &Descriptor,
        check: &mut Check,
    ) {
        let Some((marks, segments)) = memory.marks() else { return };
        // Acquire: the mark was set before the update that this shows.
        let control = memory.control(Acquire);
        if !self.is_exclusive || control.in_transaction() || stamp_of(control) == stamp {
            return;
        }
        let is_marked = segments.all().any(|segment| {
            // Relaxed: as above. Nobody clears marks meanwhile.
            let word = marks.load(segment / 64, Relaxed);
            word >> (segment % 64) & 1 == 1
        });
        if (control.state() != State::Dirty || !is_marked) && !planted!(UnmarkedChangesAreAccepted)
        {
            let saved = match stamp {
                UNKNOWN => "has nothing of it".to_owned(),
                stamp => format!("saved version {}", stamp >> 1),
            };
            let what = format!(
                "it counts as unchanged since the last sync, but has version {}, and that sync \
                 {saved}; the next one looks at all slots",
                control.version(),
            );
            check.note(Some(&descriptor.name), what);
            self.is_whole = false;
        }
    }

    /// Notes a slot that the table of first lines does not lead to.
    fn check_first_lines(&self, line: u32, descriptor: &Descriptor, check: &mut Check) {
        let segments = checkpoint::segments_of(descriptor);
        let is_first =
            !checkpoint::is_small(descriptor) || descriptor.offset_in_segment == SEGMENT_HEAD;
        if self.attachment.marks().is_none() || !is_first {
            return;
        }
        let mut listed = segments.take_while(|segment| *segment < MOST_FIRST_LINES);
        if listed.any(|segment| self.attachment.first_line(segment) != Some(line)) {
            check.note(Some(&descriptor.name), "the table of first lines does not lead to it");
        }
    }

    /// The data of the small segment that holds the slot; `None` if it is damaged.
    fn small_segment(&mut self, of: &Descriptor, check: &mut Check) -> Result<Option<Vec<u8>>> {
        if self.small.as_ref().is_none_or(|(segment, _)| *segment != of.first_segment) {
            let choice = self.record.segments.get(of.first_segment as usize);
            let data = self.read(&CopyPair::of_small(of), choice, Some(&of.name), check)?;
            self.small = Some((of.first_segment, data));
        }
        Ok(self.small.as_ref().and_then(|(_, data)| data.clone()))
    }

    /// The data of a copy. `None` if it is damaged, which is noted.
    fn read(
        &mut self,
        pair: &CopyPair,
        choice: Choice,
        slot: Option<&str>,
        check: &mut Check,
    ) -> Result<Option<Vec<u8>>> {
        if choice == Choice::Absent {
            check.note(slot, "it has no checkpoint");
            return Ok(None);
        }
        match copies::read_copy(self.attachment, pair, choice) {
            Ok((head, data)) => {
                self.sum = self.sum.wrapping_add(mix(head.segment, head.epoch, head.crc));
                Ok(Some(data))
            }
            Err(error) => {
                check.note(slot, error_text(error)?);
                Ok(None)
            }
        }
    }
}

/// The elements of a buffer, which may have changed without a new version.
fn elements(descriptor: &Descriptor, memory: &SlotMemory) -> Option<ElementRegion> {
    // Acquire: see copied_slots::stamp.
    let is_there = memory.control(Acquire).owner() != REMOVED;
    is_there.then(|| copied_slots::elements(descriptor, memory)).flatten()
}

/// Whether other processes kept an array's areas from being seen at rest. Outside its stale range,
/// each area must hold what the current one holds there: the next updates rely on it.
pub(super) fn is_busy(memory: &impl Memory, descriptor: &Descriptor, check: &mut Check) -> bool {
    let agree = areas_agree(memory, descriptor);
    if agree == Some(false) && !planted!(AreasAreNotCompared) {
        check.note(Some(&descriptor.name), "its areas differ where none is stale");
    }
    agree.is_none()
}

fn areas_agree(memory: &impl Memory, descriptor: &Descriptor) -> Option<bool> {
    let Form::Areas(areas) = descriptor.form() else { return Some(true) };
    let len = descriptor.content_len as usize;
    // Acquire: what it says of the areas is read next.
    let before = memory.control(Acquire);
    if before.owner() == REMOVED {
        return Some(true);
    }
    if before.owner() != FREE || before.in_transaction() {
        return None;
    }
    let current = areas.number(before.version());
    let agree = (0..areas.count).filter(|area| *area != current).all(|area| {
        let stale = memory.load(STALE + area as usize, Acquire);
        let stale = (stale as u32 as usize)..((stale >> 32) as usize);
        words_outside(&stale, areas.words).all(|word| {
            let at = |area: u64| areas.first + areas.stride * area as usize + word;
            let load = |area: u64| memory.load(at(area), Acquire);
            let used = (len - 8 * word).min(8);
            (load(area) ^ load(current)) << (64 - 8 * used) == 0
        })
    });
    // Acquire, above: a word of a later update is seen with that update's lock.
    memory.fence(Acquire);
    (memory.control(Acquire) == before).then_some(agree)
}

/// The words of an area that are not stale. A range that does not fit counts as the whole area.
fn words_outside(stale: &Range<usize>, words: usize) -> impl Iterator<Item = usize> {
    let fits = stale.start < stale.end && stale.end <= words;
    let stale = match fits {
        true => stale.clone(),
        false if *stale == (0..0) => 0..0,
        false => 0..words,
    };
    (0..stale.start).chain(stale.end..words)
}
