//! From a name to its slot: by this process's cache of names, by the index, or, because the index
//! may be damaged, by the descriptors themselves.

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::attachment::name_cache::Hash;
use crate::directory::found::{Found, each_slot, known, unless_removed};
use crate::directory::index::{all_steps, find_by_index};
use crate::error::Result;
use crate::mutant::planted;

/// The slot of this name, if there is one.
#[inline]
pub(crate) fn find<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    let hash = Hash::of(name);
    for (line, entry) in
        attachment.descriptor_cache.noted(hash, |place| attachment.map.fetch(place))
    {
        if entry.is_named(name)
            && let Some(found) = unless_removed(attachment, line, entry)?
        {
            // As the index would: nothing is found in a directory whose count is damaged.
            descriptors::count(attachment)?;
            return Ok(Some(found));
        }
    }
    let found = match find_by_index(attachment, name, &mut all_steps(attachment)?)? {
        None if !planted!(TheIndexIsBelieved) => find_by_directory(attachment, name)?,
        found => found,
    };
    if let Some(found) = &found {
        attachment.descriptor_cache.note(hash, found.line);
    }
    Ok(found)
}

/// The same by the descriptors, for a name that the index does not lead to. An entry of the index
/// may be damaged; the slot must not count as absent and be made anew because of that.
#[cold]
fn find_by_directory<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    let line = descriptors::survey(attachment)?.last(Hash::of(name));
    line.map_or(Ok(None), |line| find_on_last_line(attachment, line, name))
}

/// The slot of this name, given the last line with a name of its hash.
pub(super) fn find_on_last_line<'a>(
    attachment: &'a Attachment,
    line: u32,
    name: &str,
) -> Result<Option<Found<'a>>> {
    let count = descriptors::count(attachment)?;
    let entry = known(attachment, line, count)?;
    if entry.is_named(name) {
        return unless_removed(attachment, line, entry);
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
