//! The index in the file: for each tier of the directory a hash table from names to its lines. It has
//! no checksum, so whoever finds nothing here also asks the descriptors.

use std::sync::atomic::Ordering::Relaxed;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::directory::found::{Found, unless_removed};
use crate::error::Result;
use crate::format::descriptor::hash_name;
use crate::mutant::planted;

/// The slot of this name, if the index leads to it. Looks at no more than `steps` entries, and
/// subtracts those from `steps`.
#[inline]
pub(crate) fn find_by_index<'a>(
    attachment: &'a Attachment,
    name: &str,
    steps: &mut u64,
) -> Result<Option<Found<'a>>> {
    let tiers = attachment.header.regions.tiers(descriptors::count(attachment)?.into());
    let hash = hash_name(name);
    // The caches miss most of these words: so they are fetched together, not one after the other.
    (0..tiers).for_each(|tier| attachment.fetch_index(tier, hash));
    let oldest = if planted!(OnlyTheNewestIndexIsProbed) { tiers - 1 } else { 0 };
    for tier in (oldest..tiers).rev() {
        let found = find_in_tier(attachment, tier, (hash, name), steps)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// As many steps as the tiers in use have entries.
#[inline]
pub(crate) fn all_steps(attachment: &Attachment) -> Result<u64> {
    let regions = &attachment.header.regions;
    let tiers = regions.tiers(descriptors::count(attachment)?.into());
    // Each has as many as all before it.
    Ok(regions.index_entries << (tiers - 1))
}

/// Where in an index of this length the search for names with this hash begins.
#[inline]
fn first_place(entries: u64, hash: u64) -> usize {
    (hash & (entries - 1)) as usize
}

/// The same in one tier.
#[inline]
fn find_in_tier<'a>(
    attachment: &'a Attachment,
    tier: u32,
    (hash, name): (u64, &str),
    steps: &mut u64,
) -> Result<Option<Found<'a>>> {
    let index = attachment.index(tier)?;
    let entries = index.words().len();
    let mut at = first_place(entries as u64, hash);
    for _ in 0..(*steps).min(entries as u64) {
        *steps -= 1;
        // Relaxed: the count, acquired below, says whether its line exists.
        let in_index = index.load(at, Relaxed);
        if in_index == 0 {
            return Ok(None);
        }
        let line = (in_index as u32).wrapping_sub(1);
        let count = descriptors::count(attachment)?;
        // A line beyond the count was left by a process that died while defining.
        if line < count && in_index >> 32 == hash >> 32 {
            // Check all of it before believing anything in it. A damaged descriptor must not pass
            // for another slot's, or this name would be defined anew.
            let entry = descriptors::known(attachment, line, count)?;
            if descriptors::is_named(attachment, entry, name)? {
                let found = unless_removed(attachment, entry)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        at = (at + 1) & (entries - 1);
    }
    Ok(None)
}

/// Where in the index of its tier the entry of a new slot goes: to a place that is empty, or whose
/// entry leads nowhere. `None`: there is none. Its line is the next one, and no slot has its name.
pub(super) fn vacant_place(
    attachment: &Attachment,
    line: u32,
    (hash, name): (u64, &str),
) -> Result<Option<usize>> {
    let regions = &attachment.header.regions;
    let tier = regions.tier_of(line.into());
    // A tier without lines need not be there. Whatever its index holds leads to no slot.
    if tier == regions.tiers(line.into()) {
        return Ok(Some(first_place(regions.index_entries << (tier - 1), hash)));
    }
    let index = attachment.index(tier)?;
    let entries = index.words().len();
    let mut at = first_place(entries as u64, hash);
    for _ in 0..entries {
        // Relaxed: only the holder of the directory's lock changes the index.
        let in_index = index.load(at, Relaxed);
        let leads_to = (in_index as u32).wrapping_sub(1);
        // Empty, or left by a process that died while defining.
        if leads_to >= line {
            return Ok(Some(at));
        }
        // A removed slot's of this name.
        if in_index >> 32 == hash >> 32 {
            let entry = descriptors::known(attachment, leads_to, line)?;
            if descriptors::is_named(attachment, entry, name)? {
                return Ok(Some(at));
            }
        }
        at = (at + 1) & (entries - 1);
    }
    Ok(None)
}

/// Enters these names into the empty index, each with its first line. Of slots with the same name
/// it enters the last, as all before it were removed. No other process is attached.
pub(crate) fn fill_index<'a>(
    attachment: &Attachment,
    names: impl Iterator<Item = (u32, &'a str)>,
) -> Result<()> {
    let regions = &attachment.header.regions;
    let lines: std::collections::HashMap<&str, u32> =
        names.map(|(line, name)| (name, line)).collect();
    for (name, line) in lines {
        let hash = hash_name(name);
        let index = attachment.index(regions.tier_of(line.into()))?;
        let entries = index.words().len();
        let mut at = first_place(entries as u64, hash);
        while index.load(at, Relaxed) != 0 {
            at = (at + 1) & (entries - 1);
        }
        index.store(at, index_entry(hash, line), Relaxed);
    }
    Ok(())
}

pub(super) fn index_entry(hash: u64, line: u32) -> u64 {
    hash >> 32 << 32 | (u64::from(line) + 1)
}
