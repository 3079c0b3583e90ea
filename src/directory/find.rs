//! From a name to its slot: by this process's cache of names, by the index, or, because the index
//! may be damaged, by the descriptors themselves.

use std::sync::MutexGuard;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptor_cache::Entry;
use crate::attachment::descriptors;
use crate::attachment::name_cache::Hash;
use crate::attachment::survey::Survey;
use crate::directory::found::{Found, each_slot, unless_removed};
use crate::directory::index::{all_steps, find_by_index};
use crate::error::Result;
use crate::mutant::planted;

/// The slot of this name, if there is one.
#[inline]
pub(crate) fn find<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    match find_listed(attachment, name)? {
        None if !planted!(TheIndexIsBelieved) => find_by_directory(attachment, name),
        found => Ok(found),
    }
}

/// The slot of this name, if this process has read all descriptors or the index leads to it: for
/// callers that would define it otherwise, and so look at the descriptors, too.
#[inline]
pub(crate) fn find_listed<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    if let Some(entry) = find_again(attachment, name)
        && let Some(found) = unless_removed(attachment, entry)?
    {
        return Ok(Some(found));
    }
    if !planted!(TheIndexIsBelieved)
        && let Some(survey) = descriptors::current_survey(attachment)?
    {
        return by_survey(attachment, name, survey);
    }
    let found = find_by_index(attachment, name, &mut all_steps(attachment)?)?;
    if let Some(found) = &found {
        attachment.descriptor_cache.names.note(Hash::of(name), found.entry.line());
    }
    Ok(found)
}

/// What is known of the slot of this name, if this process has found it before. It may be removed.
#[inline(always)]
pub(crate) fn find_again<'a>(attachment: &'a Attachment, name: &str) -> Option<Entry<'a>> {
    let (names, hash) = (&attachment.descriptor_cache.names, Hash::of(name));
    let entry = find_on(attachment, names.lines(hash), name)
        .or_else(|| find_beside(attachment, hash, name))?;
    // As the index would: nothing is found in a directory whose count is damaged.
    descriptors::count(attachment).is_ok().then_some(entry)
}

#[cold]
fn find_beside<'a>(attachment: &'a Attachment, hash: Hash, name: &str) -> Option<Entry<'a>> {
    find_on(attachment, attachment.descriptor_cache.names.other_lines(hash), name)
}

/// The first of these lines with this name.
#[inline(always)]
fn find_on<'a>(
    attachment: &'a Attachment,
    lines: impl Iterator<Item = u32>,
    name: &str,
) -> Option<Entry<'a>> {
    for line in lines {
        let Some(entry) = attachment.descriptor_cache.get(line) else { continue };
        attachment.map.fetch(entry.live());
        if entry.is_named(attachment, name) {
            return Some(entry);
        }
    }
    None
}

/// The same by the descriptors, for a name that the index does not lead to. An entry of the index
/// may be damaged; the slot must not count as absent and be made anew because of that.
#[cold]
fn find_by_directory<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    by_survey(attachment, name, descriptors::survey(attachment)?)
}

/// The same by a survey that is up to date. Ends the survey's lock before it looks at the slot.
fn by_survey<'a>(
    attachment: &'a Attachment,
    name: &str,
    survey: MutexGuard<'_, Survey>,
) -> Result<Option<Found<'a>>> {
    let line = survey.last(Hash::of(name));
    drop(survey);
    line.map_or(Ok(None), |line| find_on_last_line(attachment, line, name))
}

/// The slot of this name, given the last line with a name of its hash.
pub(super) fn find_on_last_line<'a>(
    attachment: &'a Attachment,
    line: u32,
    name: &str,
) -> Result<Option<Found<'a>>> {
    let count = descriptors::count(attachment)?;
    let entry = descriptors::known(attachment, line, count)?;
    if descriptors::is_named(attachment, entry, name)? {
        let found = unless_removed(attachment, entry)?;
        if found.is_some() {
            attachment.descriptor_cache.names.note(Hash::of(name), line);
        }
        return Ok(found);
    }
    // Another name has the same hash.
    let mut found = None;
    each_slot(attachment, 0, count, |other| {
        if descriptors::is_named(attachment, other.entry, name)? {
            found = Some(other);
        }
        Ok(())
    })?;
    Ok(found)
}
