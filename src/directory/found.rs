//! A slot that was found: its line, its cached descriptor and its memory.

use crate::attachment::attach::Attachment;
use crate::attachment::descriptor_cache::Entry;
use crate::attachment::descriptors;
use crate::error::Result;
use crate::mapping::map::{Map, Region};
use crate::mapping::slot_memory::SlotMemory;

/// A slot that was found.
pub(crate) struct Found<'a> {
    /// The first line of its descriptor.
    pub(crate) line: u32,
    pub(crate) entry: &'a Entry,
    pub(crate) memory: SlotMemory<&'a Map>,
}

/// The memory of the slot with this descriptor.
#[inline(always)]
pub(super) fn memory<'a>(attachment: &'a Attachment, entry: &Entry) -> Result<SlotMemory<&'a Map>> {
    let (live, len) = (entry.live(), entry.live_len());
    Region::of(&*attachment.map, live, len)
        .map(|region| SlotMemory::new(region, entry.form()))
        .map_err(|why| attachment.unmapped(why, live + len).of_slot(&entry.descriptor().name))
}

/// The slot on this line, unless it has been removed.
#[inline(always)]
pub(super) fn unless_removed<'a>(
    attachment: &'a Attachment,
    line: u32,
    entry: &'a Entry,
) -> Result<Option<Found<'a>>> {
    let memory = memory(attachment, entry)?;
    Ok((!memory.is_removed()).then_some(Found { line, entry, memory }))
}

/// The descriptor at a line below `count`, read and checked once in this process.
#[inline]
pub(super) fn known(attachment: &Attachment, line: u32, count: u32) -> Result<&Entry> {
    attachment.descriptor_cache.get(line, || descriptors::at_below(attachment, line, count))
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
        let entry = known(attachment, line, count)?;
        if let Some(found) = unless_removed(attachment, line, entry)? {
            f(found);
        }
        line += entry.descriptor().lines() as u32;
    }
    Ok(())
}
