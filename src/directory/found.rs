//! A slot that was found: what is known of its descriptor, and its memory.

use crate::attachment::attach::Attachment;
use crate::attachment::descriptor_cache::Entry;
use crate::attachment::descriptors;
use crate::error::Result;
use crate::mapping::map::{Map, Region};
use crate::mapping::slot_memory::SlotMemory;

/// A slot that was found.
pub(crate) struct Found<'a> {
    pub(crate) entry: Entry<'a>,
    pub(crate) memory: SlotMemory<&'a Map>,
}

/// The memory of the slot with this descriptor.
#[inline(always)]
pub(super) fn memory<'a>(
    attachment: &'a Attachment,
    entry: Entry<'_>,
) -> Result<SlotMemory<&'a Map>> {
    let (live, len) = (entry.live(), entry.live_len());
    Region::of(&*attachment.map, live, len)
        .map(|region| SlotMemory::new(region, entry.form()))
        .map_err(|why| {
            let name = &descriptors::kept(attachment, entry.line()).name;
            attachment.unmapped(why, live + len).of_slot(name)
        })
}

/// The slot on this line, unless it has been removed.
#[inline(always)]
pub(super) fn unless_removed<'a>(
    attachment: &'a Attachment,
    entry: Entry<'a>,
) -> Result<Option<Found<'a>>> {
    let memory = memory(attachment, entry)?;
    Ok((!memory.is_removed()).then_some(Found { entry, memory }))
}

/// Calls `f` with each slot on lines from `line` up to `count` that has not been removed. Reads
/// each descriptor only once.
pub(crate) fn each_slot<'a>(
    attachment: &'a Attachment,
    mut line: u32,
    count: u32,
    mut f: impl FnMut(Found<'a>) -> Result<()>,
) -> Result<()> {
    while line < count {
        let entry = descriptors::known(attachment, line, count)?;
        if let Some(found) = unless_removed(attachment, entry)? {
            f(found)?;
        }
        line += entry.lines();
    }
    Ok(())
}
