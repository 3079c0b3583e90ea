//! Reads the descriptors of all slots from the lines of the directory. Any process may have written
//! what is read here. So it is copied to private memory, then checked, then used.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Acquire;

use bytemuck::Zeroable;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptor_cache::Entry;
use crate::attachment::survey::Survey;
use crate::error::{Error, Result};
use crate::format::checkpoint;
use crate::format::descriptor::{Descriptor, DescriptorHead, Outline, checked_texts};
use crate::format::layout::{LINE, MAX_LINES, live};
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::types::slot_type::SlotType;

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

/// The descriptor at a line below `count`.
pub(crate) fn at_below(attachment: &Attachment, line: u32, count: u32) -> Result<Descriptor> {
    let mut first = [0; LINE];
    attachment.read_lines(line, &mut first)?;
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
    attachment.read_lines(line + 1, &mut all[LINE..])?;
    decode(attachment, line, all)
}

/// The descriptor at a line below the count.
pub(crate) fn at(attachment: &Attachment, line: u32) -> Result<Descriptor> {
    at_below(attachment, line, count(attachment)?)
}

const WRONG_LENGTH: &str = "its descriptor's length is wrong";

/// Where a descriptor says how many lines it takes.
pub(crate) const LINES_AT: usize = std::mem::offset_of!(DescriptorHead, lines);

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
        let descriptor = at_below(attachment, line, count)?;
        line += descriptor.lines() as u32;
        f(descriptor)?;
    }
    Ok(())
}

/// Calls `f` with each descriptor's first line and outline, on lines from `line` up to `count`, until
/// it returns false. It runs for all slots of a store, so it does as little work as possible.
pub(crate) fn each_outline(
    attachment: &Attachment,
    line: u32,
    count: u32,
    mut f: impl FnMut(u32, &Outline) -> Result<bool>,
) -> Result<()> {
    let header = &attachment.header;
    each_lines(attachment, line, count, |line, lines| {
        let whole = match planted!(TheDirectoryIsBelieved) {
            true => Ok(()),
            false => checked_texts(lines).map(drop),
        };
        let outline = whole.and_then(|()| Outline::decode(lines, &header.regions, header.max_size));
        f(line, &outline.map_err(|what| damaged(attachment, line, what))?)
    })
}

/// The outline of the descriptor at a line below `count`.
pub(crate) fn outline_at(attachment: &Attachment, line: u32, count: u32) -> Result<Outline> {
    let mut found = None;
    each_outline(attachment, line, count, |_, outline| {
        found = Some(*outline);
        Ok(false)
    })?;
    found.ok_or_else(|| damaged(attachment, line, "there is no descriptor"))
}

/// Calls `f` with the lines of each descriptor on lines from `line` up to `count`, and the number
/// of the first, until it returns false. Checks only how many lines it has.
#[inline]
fn each_lines(
    attachment: &Attachment,
    mut line: u32,
    count: u32,
    mut f: impl FnMut(u32, &[u8]) -> Result<bool>,
) -> Result<()> {
    // Most calls find nothing new. They clear no memory for it.
    if line >= count {
        return Ok(());
    }
    let mut bytes = [0; MAX_LINES as usize * LINE];
    while line < count {
        let bytes = &mut bytes[..(count - line).min(MAX_LINES.into()) as usize * LINE];
        attachment.read_lines(line, bytes)?;
        let (first, mut rest) = (line, &*bytes);
        while let Some(lines) = rest.get(LINES_AT).map(|lines| usize::from(*lines)) {
            match rest.split_at_checked(lines * LINE) {
                Some((of, behind)) if lines > 0 => {
                    if !f(line, of)? {
                        return Ok(());
                    }
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

/// What is known of the descriptor at a line below `count`: it is read and checked once in this
/// process.
#[inline]
pub(crate) fn known(attachment: &Attachment, line: u32, count: u32) -> Result<Entry<'_>> {
    match attachment.descriptor_cache.get(line) {
        Some(entry) => Ok(entry),
        None => read(attachment, line, count),
    }
}

#[cold]
fn read(attachment: &Attachment, line: u32, count: u32) -> Result<Entry<'_>> {
    enter(attachment, line, &at_below(attachment, line, count)?)
}

/// Keeps what is known of this descriptor, which has been checked.
pub(crate) fn enter<'a>(
    attachment: &'a Attachment,
    line: u32,
    descriptor: &Descriptor,
) -> Result<Entry<'a>> {
    let entered = attachment.descriptor_cache.enter(attachment, line, descriptor)?;
    entered.ok_or_else(|| damaged(attachment, line, CHANGED))
}

const CHANGED: &str = "its descriptor has changed";

/// The whole descriptor of a slot that is known, kept in private memory.
pub(crate) fn kept(attachment: &Attachment, line: u32) -> &Descriptor {
    let entry = attachment.descriptor_cache.get(line).expect("what is known stays so");
    entry.descriptor(|| at_below(attachment, line, line.saturating_add(entry.lines())))
}

/// The type of a slot that is known.
#[inline]
pub(crate) fn slot_type(attachment: &Attachment, entry: Entry<'_>) -> Result<SlotType> {
    match entry.value_type() {
        Some(scalar_type) => Ok(SlotType::Value(scalar_type)),
        None => type_in_head(attachment, entry),
    }
}

fn type_in_head(attachment: &Attachment, entry: Entry<'_>) -> Result<SlotType> {
    let mut head = DescriptorHead::zeroed();
    entry.read_head(bytemuck::bytes_of_mut(&mut head));
    entry.slot_type(&head).ok_or_else(|| damaged(attachment, entry.line(), CHANGED))
}

/// Whether a slot that is known can be opened as this type.
#[inline]
pub(crate) fn opens_as(
    attachment: &Attachment,
    entry: Entry<'_>,
    asked: &SlotType,
) -> Result<bool> {
    match asked {
        SlotType::Value(scalar_type) => Ok(entry.is_value_of(*scalar_type)),
        other => Ok(slot_type(attachment, entry)?.opens_as(other)),
    }
}

/// Whether the slot is of this name. If it is not, its descriptor is looked at once more: the name
/// may have been damaged since it was checked.
#[inline(always)]
pub(crate) fn is_named(attachment: &Attachment, entry: Entry<'_>, name: &str) -> Result<bool> {
    if entry.is_named(attachment, name) {
        return Ok(true);
    }
    let line = entry.line();
    at_below(attachment, line, line.saturating_add(entry.lines())).map(|_| false)
}

/// The error, attributed to the slot whose descriptor is on this line.
#[cold]
pub(crate) fn of_slot_at(attachment: &Attachment, line: u32, error: Error) -> Error {
    match at(attachment, line) {
        Ok(descriptor) => error.of_slot(&descriptor.name),
        Err(_) => error,
    }
}

/// The slot's memory.
pub(crate) fn memory(attachment: &Attachment, descriptor: &Descriptor) -> Result<SlotMemory> {
    attachment
        .region(descriptor.live, descriptor.live_len())
        .map(|region| SlotMemory::new(region, descriptor.form()))
        .map_err(|error| error.of_slot(&descriptor.name))
}

/// `Corrupt` unless a store can have the copies of a slot at these places.
pub(crate) fn check_segments(attachment: &Attachment, name: &str, outline: &Outline) -> Result<()> {
    if outline.copies == 0 || checkpoint::check_segments(outline, &attachment.header).is_some() {
        return Ok(());
    }
    let what = "its checkpoint segments are out of place";
    Err(Error::corrupt(&attachment.path, what).of_slot(name))
}

/// The survey of all descriptors, up to date.
pub(crate) fn survey(attachment: &Attachment) -> Result<MutexGuard<'_, Survey>> {
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
        check_segments(attachment, name, &outline)?;
        let is_named = |other| is_name_on(attachment, other, name);
        survey.add(name, (lines.len() / LINE) as u32, &outline, is_named);
        Ok(true)
    })?;
    // One that has no lines yet, too: its definer may have died.
    while let Some(parts) = attachment.parts(survey.tiers())? {
        survey.add_tier(&header.regions, parts);
    }
    Ok(survey)
}

/// Whether the descriptor on this line is of this name. If it cannot be read, it is not.
pub(crate) fn is_name_on(attachment: &Attachment, line: u32, name: &str) -> bool {
    at(attachment, line).is_ok_and(|descriptor| descriptor.name == name)
}

/// The survey, if there is nothing to read for it and no other thread uses it.
pub(crate) fn current_survey(attachment: &Attachment) -> Result<Option<MutexGuard<'_, Survey>>> {
    let count = count(attachment)?;
    Ok(attachment.try_survey().filter(|survey| survey.lines() == count))
}
