//! The index in the file: a hash table from names to lines of the directory. It has no checksum, so
//! whoever finds nothing here also asks the descriptors.

use std::sync::atomic::Ordering::Relaxed;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::directory::found::{Found, known, unless_removed};
use crate::error::Result;
use crate::format::descriptor::hash_name;

/// The slot of this name, if the index leads to it. Looks at no more than `steps` entries, and
/// subtracts those from `steps`.
#[inline]
pub(crate) fn find_by_index<'a>(
    attachment: &'a Attachment,
    name: &str,
    steps: &mut u64,
) -> Result<Option<Found<'a>>> {
    probe(attachment, name, steps).map(|(found, _)| found)
}

/// As many steps as the index has entries.
#[inline]
pub(super) fn all_steps(attachment: &Attachment) -> u64 {
    attachment.header.regions.index_entries
}

/// The slot of this name, and where in the index a new one would go.
#[inline]
pub(super) fn probe<'a>(
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
        let count = descriptors::count(attachment)?;
        if line >= count {
            // Left by a process that died while defining.
            vacant = vacant.or(Some(at as usize));
        } else if in_index >> 32 == hash >> 32 {
            // Check all of it before believing anything in it. A damaged descriptor must not pass
            // for another slot's, or this name would be defined anew.
            let entry = known(attachment, line, count)?;
            if entry.is_named(name) {
                let found = unless_removed(attachment, line, entry)?;
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

pub(super) fn index_entry(hash: u64, line: u32) -> u64 {
    hash >> 32 << 32 | (u64::from(line) + 1)
}
