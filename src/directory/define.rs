//! Defines new slots, under the directory's lock.

use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors::{self, count_word, memory};
use crate::attachment::name_cache::Hash;
use crate::directory::allocator::{self, Definition};
use crate::directory::blocks;
use crate::directory::find::find_on_last_line;
use crate::directory::found::{self, Found};
use crate::directory::index::{all_steps, index_entry, probe};
use crate::error::{Error, Result};
use crate::format::checkpoint;
use crate::format::layout::{Descriptor, LINE, hash_name, live};
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
    let lock = attachment.lock(live::DIRECTORY_LOCK);
    let held = lock_directory(attachment, &lock, deadline)?;
    let (found, vacant) = probe(attachment, definition.name, &mut all_steps(attachment))?;
    if let Some(found) = found {
        return Ok((found, false));
    }
    let mut survey = descriptors::survey(attachment)?;
    if let Some(line) = survey.last(Hash::of(definition.name))
        && let Some(found) = find_on_last_line(attachment, line, definition.name)?
    {
        return Ok((found, false));
    }
    let full = |limit, size| {
        let (path, removed) = (attachment.path.clone(), count_removed(attachment));
        Error::Full { path, limit, size, removed }
    };
    let header = &attachment.header;
    let count = survey.lines();
    let mut before = allocator::ends(attachment)?;
    let corrupt = |what: String| Error::corrupt(&attachment.path, what);
    survey.taken.check_ends(&before).map_err(corrupt)?;
    if !survey.taken.shares_segment(&before) {
        before.small = 0;
    }
    if before.defined >= header.max_slots {
        return Err(full("max_slots", header.max_slots));
    }
    let checkpoint = header.has_checkpoint();
    let (descriptor, mut after) = allocator::place(definition, before, checkpoint);
    let lines = descriptor.encode();
    let next_count = count + descriptor.lines() as u32;
    let vacant = vacant.filter(|_| u64::from(next_count) <= header.regions.directory_lines);
    let vacant = vacant.ok_or_else(|| full("max_slots", header.max_slots))?;
    if after.runs > header.max_size {
        return Err(full("max_size", header.max_size));
    }
    let has_place =
        descriptor.copies == 0 || checkpoint::check_places(&descriptor, header).is_some();
    let is_free = || planted!(WhatIsTakenIsGivenOut) || survey.taken.is_free(&descriptor);
    if !has_place || !is_free() {
        return Err(corrupt(format!(
            "the allocation ends point to space that is taken: {before:?}"
        )));
    }
    let line_at = |line: u32| header.regions.directory + u64::from(line) * LINE as u64;
    after.allocated +=
        blocks::grow(attachment, line_at(count)..line_at(next_count), &descriptor, before, after)?;
    let memory = memory(attachment, &descriptor)?;
    // From here on nothing can fail. The ends first: whatever is written next lies within them, so
    // the same space is never given out twice.
    if !planted!(TheEndsAreStoredAfterTheCount) {
        allocator::store_ends(attachment, before, after);
    }
    if !planted!(TheFirstContentIsWrittenAfterTheCount) {
        write_initial(memory.region(), &descriptor, definition.initial);
    }
    if planted!(TheCountIsStoredBeforeTheDescriptor) {
        attachment.live.store(live::COUNT, count_word(next_count), Release);
        std::thread::yield_now(); // a system call, so that the tests stop it here
    }
    attachment.directory.write(count as usize * LINE / 8, 0, &lines);
    let entry = index_entry(hash_name(definition.name), count);
    // Relaxed: nobody looks at a line at or beyond the count.
    attachment.index.store(vacant, entry, Relaxed);
    // Release: a thread that sees the count sees descriptor, index and first content.
    attachment.live.store(live::COUNT, count_word(next_count), Release);
    if planted!(TheEndsAreStoredAfterTheCount) {
        std::thread::yield_now();
        allocator::store_ends(attachment, before, after);
    }
    if planted!(TheFirstContentIsWrittenAfterTheCount) {
        std::thread::yield_now();
        write_initial(memory.region(), &descriptor, definition.initial);
    }
    survey.add(&descriptor.name, descriptor.lines() as u32, &descriptor);
    // Cached only now: had anything failed, this line would go to another descriptor.
    let entry = attachment.descriptor_cache.get(count, || Ok(descriptor))?;
    // The lock's new version wakes those who wait for a definition.
    let _ = held.notify();
    Ok((Found { line: count, entry, memory: found::memory(attachment, entry)? }, true))
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
