//! Defines new slots, under the directory's lock.

use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors::{self, count_word, memory};
use crate::attachment::survey::Survey;
use crate::directory::allocator::{self, Definition};
use crate::directory::blocks::{self, Placed};
use crate::directory::find::find_by_survey;
use crate::directory::found::{self, Found};
use crate::directory::index::{index_entry, vacant_place};
use crate::error::{Error, Result};
use crate::format::checkpoint;
use crate::format::descriptor::{Descriptor, hash_name};
use crate::format::layout::{Ends, live};
use crate::format::tiers::Parts;
use crate::mapping::map::Region;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::protocol::{self, Deadline, Form, Held, STALE, VALUE};

/// The existing slot of this name, or else a new one with this definition. The flag is true for a
/// new one.
pub(crate) fn define<'a>(
    attachment: &'a Attachment,
    deadline: &mut Deadline,
    definition: &Definition<'_>,
) -> Result<(Found<'a>, bool)> {
    attachment.check_writable()?;

    // 1. Lock the directory.
    let lock = attachment.lock(live::DIRECTORY_LOCK);
    let held = lock_directory(attachment, &lock, deadline)?;
    // 2. Look for the name in the descriptors. The index would do for an intact file.
    let mut survey = descriptors::survey(attachment)?;
    if !planted!(TheIndexIsBelieved)
        && let Some(found) = find_by_survey(attachment, definition.name, &survey)?
    {
        return Ok((found, false));
    }
    // 3. Find space that nothing else has.
    let mut new = NewSlot::plan(attachment, definition, &survey)?;
    // 4. Allocate its blocks, and map it.
    new.allocate(attachment)?;
    let memory = memory(attachment, &new.descriptor)?;
    // 5. Write it, and make it exist. From here on nothing can fail, unless others damage the file.
    new.publish(attachment, memory.region(), definition.initial)?;
    // 6. Note it in this process. Only now: had anything failed, its line would go to another slot.
    let NewSlot { descriptor, line, tiers, .. } = new;
    for (_, at) in tiers {
        survey.add_tier(&attachment.header.regions, at);
    }
    let is_named = |other| descriptors::is_name_on(attachment, other, &descriptor.name);
    survey.add(&descriptor.name, descriptor.lines() as u32, &descriptor, is_named);
    let entry = descriptors::enter(attachment, line, &descriptor)?;
    // 7. Release the lock, with a new version: that wakes those who wait for a definition.
    let _ = held.notify();
    Ok((Found { entry, memory: found::memory(attachment, entry)? }, true))
}

/// A slot that does not exist yet, and the space for it.
struct NewSlot {
    descriptor: Descriptor,
    /// The first line of its descriptor, which is the number of lines in use without it.
    line: u32,
    /// The number of lines in use with it.
    next_count: u32,
    /// Where its entry goes in the index.
    index_at: usize,
    /// Of its name, for the index.
    hash: u64,
    /// The tiers of the directory that its lines need and that are not there yet, by number.
    tiers: Vec<(u32, Parts)>,
    /// The allocation ends without it, and with it.
    before: Ends,
    after: Ends,
}

impl NewSlot {
    /// Finds space for it. Changes nothing.
    fn plan(
        attachment: &Attachment,
        definition: &Definition<'_>,
        survey: &Survey,
    ) -> Result<NewSlot> {
        let header = &attachment.header;
        let full = |limit, size| {
            let (path, removed) = (attachment.path.clone(), count_removed(attachment));
            Error::Full { path, limit, size, removed }
        };
        let before = checked_ends(attachment, survey)?;
        if before.defined >= header.max_slots {
            return Err(full("max_slots", header.max_slots));
        }
        let (line, regions) = (survey.lines(), &header.regions);
        let next_count = line + definition.lines();
        if u64::from(next_count) > regions.directory_lines {
            return Err(full(Error::LINES, regions.directory_lines));
        }
        let hash = hash_name(definition.name);
        let vacant = vacant_place(attachment, line, (hash, definition.name))?;
        let index_at = vacant.ok_or_else(|| full("max_slots", header.max_slots))?;
        let mut after = before;
        let tiers: Vec<_> = (survey.tiers()..regions.tiers(next_count.into()))
            .map(|number| (number, allocator::place_tier(header, number, &mut after)))
            .collect();
        let (descriptor, after) = allocator::place(definition, after, header.has_checkpoint());
        if after.runs > header.max_size {
            return Err(full("max_size", header.max_size));
        }
        let has_place =
            descriptor.copies == 0 || checkpoint::check_segments(&descriptor, header).is_some();
        let taken = &survey.taken;
        let are_free =
            || tiers.iter().all(|(number, at)| taken.is_tier_free(regions, *number, *at));
        let is_free =
            || planted!(WhatIsTakenIsGivenOut) || are_free() && taken.is_free(&descriptor);
        if !has_place || !is_free() {
            let what = format!("the allocation ends point to space that is taken: {before:?}");
            return Err(Error::corrupt(&attachment.path, what));
        }
        Ok(NewSlot { descriptor, line, next_count, index_at, hash, tiers, before, after })
    }

    /// Allocates the blocks of its space.
    fn allocate(&mut self, attachment: &Attachment) -> Result<()> {
        let placed = Placed {
            lines: self.line.into()..self.next_count.into(),
            tiers: &self.tiers,
            descriptor: &self.descriptor,
            segments: self.before.segments..self.after.segments,
        };
        self.after.allocated += blocks::grow(attachment, &placed, self.before)?;
        Ok(())
    }

    /// Writes the slot, then the count that makes it exist.
    fn publish(
        &self,
        attachment: &Attachment,
        region: &Region,
        initial: Option<&[u8]>,
    ) -> Result<()> {
        let store_ends = || allocator::store_ends(attachment, self.before, self.after);
        let write_content = || {
            write_initial(region, &self.descriptor, initial);
            attachment.write_segment(region, &self.descriptor);
        };
        // Release: a thread that sees the count sees descriptor, index and first content.
        let store_count =
            || attachment.live.store(live::COUNT, count_word(self.next_count), Release);

        let note_tiers = || {
            self.tiers.iter().for_each(|(number, at)| attachment.store_parts(*number, Some(*at)));
        };

        if planted!(ATierIsNamedBeforeTheEnds) {
            note_tiers();
            std::thread::yield_now(); // a system call, so that the tests stop it here
        }
        // The ends first: whatever is written next lies within them, so the same space is never
        // given out twice.
        if !planted!(TheEndsAreStoredAfterTheCount) {
            store_ends();
        }
        if planted!(TheCountIsStoredBeforeTheTier) && !self.tiers.is_empty() {
            store_count();
            std::thread::sleep(std::time::Duration::from_millis(5)); // another process sees it
        }
        note_tiers();
        if !planted!(TheFirstContentIsWrittenAfterTheCount) {
            write_content();
        }
        if planted!(TheCountIsStoredBeforeTheDescriptor) {
            store_count();
            std::thread::yield_now(); // a system call, so that the tests stop it here
        }
        attachment.write_lines(self.line, &self.descriptor.encode())?;
        let segments = attachment.note_first_lines(self.line, &self.descriptor)?;
        let mark = || {
            if let Some(marks) = attachment.marks() {
                protocol::mark_new(marks, segments.clone());
            }
        };
        // Before it exists: a new slot is dirty.
        if !planted!(ANewSlotIsMarkedLate) {
            mark();
        }
        let entry = index_entry(self.hash, self.line);
        // Relaxed: nobody looks at a line at or beyond the count.
        let index = attachment.index(attachment.header.regions.tier_of(self.line.into()))?;
        index.store(self.index_at, entry, Relaxed);
        store_count();
        if planted!(ANewSlotIsMarkedLate) {
            std::thread::yield_now();
            mark();
        }
        if planted!(TheEndsAreStoredAfterTheCount) {
            std::thread::yield_now();
            store_ends();
        }
        if planted!(TheFirstContentIsWrittenAfterTheCount) {
            std::thread::yield_now();
            write_content();
        }
        Ok(())
    }
}

/// The allocation ends, if all that exists lies before them.
fn checked_ends(attachment: &Attachment, survey: &Survey) -> Result<Ends> {
    let mut ends = allocator::ends(attachment)?;
    let corrupt = |what: String| Error::corrupt(&attachment.path, what);
    survey.taken.check_ends(&ends).map_err(corrupt)?;
    if !survey.taken.shares_segment(&ends) {
        ends.small = 0;
    }
    Ok(ends)
}

/// The number of removed slots, as far as the directory can be read.
fn count_removed(attachment: &Attachment) -> u64 {
    let mut removed = 0;
    let _ = descriptors::each(attachment, |descriptor| {
        removed += u64::from(memory(attachment, &descriptor)?.is_removed());
        Ok(())
    });
    removed
}

fn lock_directory<'a>(
    attachment: &'a Attachment,
    lock: &'a SlotMemory,
    deadline: &mut Deadline,
) -> Result<Held<(&'a SlotMemory, &'a Attachment)>> {
    protocol::lock((lock, attachment), deadline)
        .map_err(|failure| attachment.lock_error("the directory", failure, deadline))
}

/// How many words of a new slot are made sure to be zero.
const CLEARED: usize = 8 << 10;

/// Puts the first content into the first area, which is current in version 0. All else is zero, as
/// nothing was ever written beyond the ends. A damaged file may have something there. It is cleared
/// at least at the beginning, where it would matter.
fn write_initial(region: &Region, descriptor: &Descriptor, initial: Option<&[u8]>) {
    for at in 0..CLEARED.min(region.words().len()) {
        // Relaxed, here and below: published by the count.
        if region.load(at, Relaxed) != 0 {
            region.store(at, 0, Relaxed);
        }
    }
    let Some(initial) = initial else { return };
    match descriptor.form() {
        Form::Scalar => {
            let mut bits = [0; 8];
            bits[..initial.len()].copy_from_slice(initial);
            region.store(VALUE, u64::from_le_bytes(bits), Relaxed);
        }
        Form::Areas(areas) => {
            region.write(areas.first, 0, initial);
            for area in 1..areas.count as usize {
                region.store(STALE + area, protocol::all_stale(areas.words), Relaxed);
            }
        }
        Form::Lock => {}
    }
}
