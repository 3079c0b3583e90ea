//! From names to slots: the directory's lines and the index over them. Any process may have written
//! what is read here. So it is copied to private memory, then checked, then used.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::attachment::attach::{Attachment, Failure};
use crate::attachment::descriptor_cache::Entry;
use crate::attachment::name_cache::Hash;
use crate::attachment::survey::Survey;
use crate::directory::allocator::{self, Definition};
use crate::error::{Error, Result};
use crate::format::checkpoint;
use crate::format::layout::{
    Descriptor, GRANULE, LINE, MAX_LINES, Outline, PAGE, checked_texts, hash_name, live,
};
use crate::mapping::map::{Map, Region};
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Deadline, FREE, Form, Held, Memory, Owner, REMOVED, STALE, VALUE};

/// How many lines of the directory are in use.
#[inline]
pub(crate) fn count(attachment: &Attachment) -> Result<u32> {
    // Acquire: a thread that sees the count sees the descriptors below it.
    let word = attachment.live.load(live::COUNT, Acquire);
    let (count, complement) = (word as u32, (word >> 32) as u32);
    if count != !complement || u64::from(count) > attachment.header.regions.directory_lines {
        return Err(no_count(attachment, word));
    }
    Ok(count)
}

#[cold]
fn no_count(attachment: &Attachment, word: u64) -> Error {
    let what = format!("the directory's count is {word:#x}, which is not valid");
    Error::corrupt(&attachment.path, what)
}

/// The count's word, with its complement, so that a flipped bit shows.
pub(crate) const fn count_word(count: u32) -> u64 {
    count as u64 | (!count as u64) << 32
}

/// Checks what can be checked without walking the directory.
pub(crate) fn check(attachment: &Attachment) -> Result<()> {
    count(attachment).map(|_| ())
}

/// The descriptor at a line below `count`.
fn descriptor(attachment: &Attachment, line: u32, count: u32) -> Result<Descriptor> {
    let at = line as usize * LINE / 8;
    let mut first = [0; LINE];
    attachment.directory.read(at, 0, &mut first);
    let lines = u32::from(first[LINES_AT]);
    if !(1..=u32::from(MAX_LINES)).contains(&lines) || lines > count.saturating_sub(line) {
        return Err(damaged(attachment, line, WRONG_LENGTH));
    }
    // Most have one line, and there may be many: do not clear room for more.
    if lines == 1 {
        return decode(attachment, line, &first);
    }
    let mut all = [0; MAX_LINES as usize * LINE];
    let all = &mut all[..lines as usize * LINE];
    all[..LINE].copy_from_slice(&first);
    attachment.directory.read(at + LINE / 8, 0, &mut all[LINE..]);
    decode(attachment, line, all)
}

/// The descriptor at a line below the count.
pub(crate) fn at(attachment: &Attachment, line: u32) -> Result<Descriptor> {
    descriptor(attachment, line, count(attachment)?)
}

const WRONG_LENGTH: &str = "its descriptor's length is wrong";

/// Where a descriptor says how many lines it takes.
pub(crate) const LINES_AT: usize =
    std::mem::offset_of!(crate::format::layout::DescriptorHead, lines);

fn decode(attachment: &Attachment, line: u32, lines: &[u8]) -> Result<Descriptor> {
    let header = &attachment.header;
    Descriptor::decode(lines, &header.regions, header.max_size)
        .map_err(|what| damaged(attachment, line, what))
}

fn damaged(attachment: &Attachment, line: u32, what: &str) -> Error {
    Error::corrupt(&attachment.path, format!("line {line} of the directory: {what}"))
}

/// Calls `f` with each descriptor, removed ones too, in the order of definition.
pub(crate) fn each(attachment: &Attachment, f: impl FnMut(Descriptor) -> Result<()>) -> Result<()> {
    each_between(attachment, 0, count(attachment)?, f)
}

/// The same for descriptors on lines from `line` up to `count`.
pub(crate) fn each_between(
    attachment: &Attachment,
    mut line: u32,
    count: u32,
    mut f: impl FnMut(Descriptor) -> Result<()>,
) -> Result<()> {
    while line < count {
        let descriptor = descriptor(attachment, line, count)?;
        line += descriptor.lines() as u32;
        f(descriptor)?;
    }
    Ok(())
}

/// Calls `f` with each descriptor's first line and outline, on lines from `line` up to `count`. It
/// runs for all slots of a store, so it does as little work as possible. `checked` says which
/// pages, from the first on, are unchanged since their last check.
pub(crate) fn each_outline(
    attachment: &Attachment,
    line: u32,
    count: u32,
    checked: &[bool],
    mut f: impl FnMut(u32, &Outline) -> Result<()>,
) -> Result<()> {
    let header = &attachment.header;
    let is_checked = |line: usize| checked.get(line * LINE / PAGE as usize) == Some(&true);
    each_lines(attachment, line, count, |line, lines| {
        let (first, last) = (line as usize, line as usize + lines.len() / LINE - 1);
        let whole = match is_checked(first) && is_checked(last) {
            true => Ok(()),
            false => checked_texts(lines).map(drop),
        };
        let outline = whole.and_then(|()| Outline::decode(lines, &header.regions, header.max_size));
        f(line, &outline.map_err(|what| damaged(attachment, line, what))?)
    })
}

/// Calls `f` with the lines of each descriptor on lines from `line` up to `count`, and the number
/// of the first. Checks only how many lines it has.
#[inline]
fn each_lines(
    attachment: &Attachment,
    mut line: u32,
    count: u32,
    mut f: impl FnMut(u32, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut bytes = [0; MAX_LINES as usize * LINE];
    while line < count {
        let bytes = &mut bytes[..(count - line).min(MAX_LINES.into()) as usize * LINE];
        attachment.directory.read(line as usize * LINE / 8, 0, bytes);
        let (first, mut rest) = (line, &*bytes);
        while let Some(lines) = rest.get(LINES_AT).map(|lines| usize::from(*lines)) {
            match rest.split_at_checked(lines * LINE) {
                Some((of, behind)) if lines > 0 => {
                    f(line, of)?;
                    line += lines as u32;
                    rest = behind;
                }
                // Its other lines, if any, come with the next read.
                None if line > first => break,
                _ => return Err(damaged(attachment, line, WRONG_LENGTH)),
            }
        }
    }
    Ok(())
}

/// The error, attributed to the slot whose descriptor is on this line.
#[cold]
pub(crate) fn of_slot_at(attachment: &Attachment, line: u32, error: Error) -> Error {
    match at(attachment, line) {
        Ok(descriptor) => error.of_slot(&descriptor.name),
        Err(_) => error,
    }
}

/// Calls `f` with each slot on lines from `line` up to `count` that has not been removed. Reads
/// each descriptor only once.
pub(crate) fn each_slot<'a>(
    attachment: &'a Attachment,
    mut line: u32,
    count: u32,
    mut f: impl FnMut(Found<'a>),
) -> Result<()> {
    while line < count {
        let entry = attachment.known.get(line, || descriptor(attachment, line, count))?;
        if let Some(found) = slot(attachment, line, entry)? {
            f(found);
        }
        line += entry.descriptor().lines() as u32;
    }
    Ok(())
}

/// The slot's memory.
pub(crate) fn memory(attachment: &Attachment, descriptor: &Descriptor) -> Result<SlotMemory> {
    attachment
        .region(descriptor.live, descriptor.live_len())
        .map(|region| SlotMemory::new(region, descriptor.form()))
        .map_err(|error| error.of_slot(&descriptor.name))
}

#[inline(always)]
fn entry_memory<'a>(attachment: &'a Attachment, entry: &Entry) -> Result<SlotMemory<&'a Map>> {
    let (live, len) = (entry.live(), entry.live_len());
    Region::of(&*attachment.map, live, len)
        .map(|region| SlotMemory::new(region, entry.form()))
        .map_err(|why| attachment.unmapped(why, live + len).of_slot(&entry.descriptor().name))
}

/// A slot that was found.
pub(crate) struct Found<'a> {
    /// The first line of its descriptor.
    pub(crate) line: u32,
    pub(crate) entry: &'a Entry,
    pub(crate) memory: SlotMemory<&'a Map>,
}

/// The slot of this name, if there is one.
#[inline]
pub(crate) fn find<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    let hash = Hash::of(name);
    for (line, entry) in attachment.known.noted(hash, |place| attachment.map.fetch(place)) {
        if entry.is_named(name)
            && let Some(found) = slot(attachment, line, entry)?
        {
            // As the index would: nothing is found in a directory whose count is damaged.
            count(attachment)?;
            return Ok(Some(found));
        }
    }
    let found = match find_by_index(attachment, name, &mut all_steps(attachment))? {
        None => find_by_directory(attachment, name)?,
        found => found,
    };
    if let Some(found) = &found {
        attachment.known.note(hash, found.line);
    }
    Ok(found)
}

/// The same by the index alone, whether or not the cache has the name. Looks at no more than
/// `steps` entries of the index, and subtracts those from `steps`.
#[inline]
pub(crate) fn find_by_index<'a>(
    attachment: &'a Attachment,
    name: &str,
    steps: &mut u64,
) -> Result<Option<Found<'a>>> {
    probe(attachment, name, steps).map(|(found, _)| found)
}

/// The same by the descriptors, for a name that the index does not lead to. An entry of the index
/// may be damaged; the slot must not count as absent and be made anew because of that.
#[cold]
fn find_by_directory<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    let line = survey(attachment)?.last(Hash::of(name));
    line.map_or(Ok(None), |line| find_on_last_line(attachment, line, name))
}

/// The slot of this name, given the last line with a name of its hash.
fn find_on_last_line<'a>(
    attachment: &'a Attachment,
    line: u32,
    name: &str,
) -> Result<Option<Found<'a>>> {
    let count = count(attachment)?;
    let entry = attachment.known.get(line, || descriptor(attachment, line, count))?;
    if entry.is_named(name) {
        return slot(attachment, line, entry);
    }
    // Another name has the same hash.
    let mut found = None;
    each_slot(attachment, 0, count, |other| {
        if other.entry.is_named(name) {
            found = Some(other);
        }
    })?;
    Ok(found)
}

/// `Corrupt` unless a store can have the copies of a slot at these places.
pub(crate) fn check_places(attachment: &Attachment, name: &str, outline: &Outline) -> Result<()> {
    if outline.copies == 0 || checkpoint::check_places(outline, &attachment.header).is_some() {
        return Ok(());
    }
    let what = "its checkpoint units are out of place";
    Err(Error::corrupt(&attachment.path, what).of_slot(name))
}

/// The survey of all descriptors, up to date.
fn survey(attachment: &Attachment) -> Result<MutexGuard<'_, Survey>> {
    let mut survey = attachment.survey();
    let (known, count) = (survey.lines(), count(attachment)?);
    if count < known {
        let what = format!("its directory had {known} lines, but has {count} now");
        return Err(Error::corrupt(&attachment.path, what));
    }
    let header = &attachment.header;
    each_lines(attachment, known, count, |line, lines| {
        let damaged = |what| damaged(attachment, line, what);
        let [name, ..] = checked_texts(lines).map_err(damaged)?;
        let outline = Outline::decode(lines, &header.regions, header.max_size).map_err(damaged)?;
        check_places(attachment, name, &outline)?;
        survey.add(name, (lines.len() / LINE) as u32, &outline);
        Ok(())
    })?;
    Ok(survey)
}

/// The slot on this line, unless it has been removed.
#[inline(always)]
fn slot<'a>(attachment: &'a Attachment, line: u32, entry: &'a Entry) -> Result<Option<Found<'a>>> {
    let memory = entry_memory(attachment, entry)?;
    Ok((!memory.is_removed()).then_some(Found { line, entry, memory }))
}

/// As many steps as the index has entries.
#[inline]
fn all_steps(attachment: &Attachment) -> u64 {
    attachment.header.regions.index_entries
}

/// The slot of this name, and where in the index a new one would go.
#[inline]
fn probe<'a>(
    attachment: &'a Attachment,
    name: &str,
    steps: &mut u64,
) -> Result<(Option<Found<'a>>, Option<usize>)> {
    let hash = hash_name(name);
    let mask = attachment.header.regions.index_entries - 1;
    let mut vacant = None;
    let mut at = hash & mask;
    for _ in 0..(*steps).min(all_steps(attachment)) {
        *steps -= 1;
        // Relaxed: the count, acquired below, says whether its line exists.
        let in_index = attachment.index.load(at as usize, Relaxed);
        if in_index == 0 {
            return Ok((None, vacant.or(Some(at as usize))));
        }
        let line = (in_index as u32).wrapping_sub(1);
        let count = count(attachment)?;
        if line >= count {
            // Left by a process that died while defining.
            vacant = vacant.or(Some(at as usize));
        } else if in_index >> 32 == hash >> 32 {
            // Check all of it before believing anything in it. A damaged descriptor must not pass
            // for another slot's, or this name would be defined anew.
            let entry = attachment.known.get(line, || descriptor(attachment, line, count))?;
            if entry.is_named(name) {
                let found = slot(attachment, line, entry)?;
                if found.is_some() {
                    return Ok((found, None));
                }
                vacant = vacant.or(Some(at as usize));
            }
        }
        at = (at + 1) & mask;
    }
    Ok((None, vacant))
}

/// Empties the index, then enters these names, each with its first line. Of slots with the same
/// name it enters the last, as all before it were removed. No other process is attached.
pub(crate) fn rebuild_index<'a>(
    attachment: &Attachment,
    names: impl Iterator<Item = (u32, &'a str)>,
) {
    let entries = attachment.header.regions.index_entries;
    for at in 0..entries {
        // A page that has never been used stays untouched.
        if attachment.index.load(at as usize, Relaxed) != 0 {
            attachment.index.store(at as usize, 0, Relaxed);
        }
    }
    let lines: std::collections::HashMap<&str, u32> =
        names.map(|(line, name)| (name, line)).collect();
    for (name, line) in lines {
        let hash = hash_name(name);
        let mut at = hash & (entries - 1);
        while attachment.index.load(at as usize, Relaxed) != 0 {
            at = (at + 1) & (entries - 1);
        }
        attachment.index.store(at as usize, index_entry(hash, line), Relaxed);
    }
}

fn index_entry(hash: u64, line: u32) -> u64 {
    hash >> 32 << 32 | (u64::from(line) + 1)
}

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
    let mut survey = survey(attachment)?;
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
    if !survey.taken.shares_unit(&before) {
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
    if !has_place || !survey.taken.is_free(&descriptor) {
        return Err(corrupt(format!(
            "the allocation ends point to space that is taken: {before:?}"
        )));
    }
    let line_at = |line: u32| header.regions.directory + u64::from(line) * LINE as u64;
    after.allocated += allocator::grow(
        attachment,
        line_at(count)..line_at(next_count),
        &descriptor,
        before,
        after,
    )?;
    let memory = memory(attachment, &descriptor)?;
    // From here on nothing can fail. The ends first: whatever is written next lies within them, so
    // the same space is never given out twice.
    allocator::store_ends(attachment, before, after);
    write_initial(memory.region(), &descriptor, definition.initial);
    attachment.directory.write(count as usize * LINE / 8, 0, &lines);
    let entry = index_entry(hash_name(definition.name), count);
    // Relaxed: nobody looks at a line at or beyond the count.
    attachment.index.store(vacant, entry, Relaxed);
    // Release: a thread that sees the count sees descriptor, index and first content.
    attachment.live.store(live::COUNT, count_word(next_count), Release);
    survey.add(&descriptor.name, descriptor.lines() as u32, &descriptor);
    // Cached only now: had anything failed, this line would go to another descriptor.
    let entry = attachment.known.get(count, || Ok(descriptor))?;
    // The lock's new version wakes those who wait for a definition.
    let _ = held.notify();
    Ok((Found { line: count, entry, memory: entry_memory(attachment, entry)? }, true))
}

/// The number of removed slots, as far as the directory can be read.
fn count_removed(attachment: &Attachment) -> u64 {
    let mut removed = 0;
    let _ = each(attachment, |descriptor| {
        removed += u64::from(memory(attachment, &descriptor)?.is_removed());
        Ok(())
    });
    removed
}

fn lock_directory<'a>(
    attachment: &'a Attachment,
    lock: &'a SlotMemory,
    deadline: &mut Deadline,
) -> Result<Held<'a, SlotMemory, Attachment>> {
    const WHAT: &str = "the directory";
    protocol::lock(lock, attachment, Form::Lock, deadline)
        .map_err(|failure| explain(attachment, WHAT, failure, deadline))
}

/// The user's error for a failure of the protocol.
pub(crate) fn explain(
    attachment: &Attachment,
    slot: &str,
    failure: Failure,
    deadline: &Deadline,
) -> Error {
    let path = attachment.path.clone();
    let slot = slot.to_owned();
    match failure {
        Failure::Deadlock => Error::Deadlock { path, slot: Some(slot) },
        Failure::Removed => Error::Removed { path, slot },
        Failure::Evicted => Error::Evicted { path, slot },
        Failure::Timeout(owner) => {
            let holder = attachment.holder(owner);
            Error::LockTimeout { path, slot, holder, waited: deadline.limit() }
        }
        Failure::Peers(error) => error,
    }
}

/// Allocates the holes of a copied file: `cp` makes holes where it finds zeros, and on a full disk
/// writing to a hole is a SIGBUS. No other process is attached.
pub(crate) fn fill_holes(attachment: &Attachment, on_disk: u64) -> Result<()> {
    let ends = allocator::ends(attachment)?;
    if on_disk >= ends.allocated {
        return Ok(());
    }
    let regions = &attachment.header.regions;
    let lines_end = regions.directory + u64::from(count(attachment)?) * LINE as u64;
    allocator::allocate(attachment, 0, lines_end.next_multiple_of(GRANULE))?;
    each(attachment, |descriptor| {
        let from = descriptor.live / GRANULE * GRANULE;
        let to = (descriptor.live + descriptor.live_len()).next_multiple_of(GRANULE);
        allocator::allocate(attachment, from, to)
    })
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

/// Recovers every slot and every lock of the store from `owner`, which is dead.
pub(crate) fn settle_all(attachment: &Attachment, owner: Owner) -> Result<()> {
    each_memory(attachment, |memory| protocol::settle(memory, attachment, memory.form(), owner))
}

/// Recovers the locks of all dead processes, except those that were never counted as attached,
/// because their kernel had no memory for a lock.
pub(crate) fn settle_everything(attachment: &Attachment) -> Result<()> {
    each_memory(attachment, |memory| {
        // Relaxed: the open lock, which is held, orders it.
        let owner = memory.control(Relaxed).owner();
        if owner != FREE && owner != REMOVED {
            protocol::recover_dead_owner(memory, attachment, memory.form(), owner);
        }
    })
}

fn each_memory(attachment: &Attachment, f: impl Fn(&SlotMemory)) -> Result<()> {
    f(&attachment.lock(live::DIRECTORY_LOCK));
    f(&attachment.lock(live::SYNC_LOCK));
    each(attachment, |descriptor| {
        f(&memory(attachment, &descriptor)?);
        Ok(())
    })
}
