//! The disk's blocks for the space that was given out. Each is allocated before it is used, and
//! belongs to this file alone: a page of the mapping that has no block raises SIGBUS on a full
//! disk.

use std::ops::Range;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::directory::allocator;
use crate::error::Result;
use crate::format::checkpoint;
use crate::format::descriptor::Descriptor;
use crate::format::layout::{Ends, GRANULE};
use crate::format::regions::ENTRIES_OF_PAGE;
use crate::format::tiers::Parts;
use crate::mutant::planted;
use crate::os::disk;
use crate::os::sys;

/// What a definition has placed.
pub(crate) struct Placed<'a> {
    /// The lines of the descriptor.
    pub(crate) lines: Range<u64>,
    /// New tiers, each with its number.
    pub(crate) tiers: &'a [(u32, Parts)],
    pub(crate) descriptor: &'a Descriptor,
    /// The segments that were given out for it.
    pub(crate) segments: Range<u64>,
}

/// Allocates the blocks of what was placed. Returns how many bytes it allocated.
pub(crate) fn grow(attachment: &Attachment, placed: &Placed<'_>, before: Ends) -> Result<u64> {
    let regions = &attachment.header.regions;
    let Placed { lines, tiers, descriptor, segments } = placed;
    let within = |at: u64, from: u64, to: u64| (at + from, at + to);
    let (had, have) = (regions.directory_blocks(lines.start), regions.directory_blocks(lines.end));
    let mut parts = Vec::with_capacity(8);
    parts.push(within(regions.directory, had.0, have.0));
    if descriptor.copies != 0 {
        parts.push(within(regions.directory_copies, had.1, have.1));
        let (had, have) =
            (regions.segment_blocks(segments.start), regions.segment_blocks(segments.end));
        parts.push(within(regions.marks, had.0, have.0));
        parts.push(within(regions.first_lines, had.1, have.1));
    }
    for number in regions.tier_of(lines.start).max(1)..regions.tiers(lines.end) {
        let new = tiers.iter().find(|(new, _)| *new == number);
        let (at, had) = match new {
            Some((_, at)) => (*at, Parts::default()),
            None => {
                let Some(at) = attachment.parts(number)? else { continue };
                (at, regions.parts_blocks(number, lines.start))
            }
        };
        let have = regions.parts_blocks(number, lines.end);
        if !planted!(ATierHasNoBlocks) {
            parts.push(within(at.live, had.live, have.live));
        }
        if at.copies != 0 {
            parts.push(within(at.copies, had.copies, have.copies));
        }
    }
    let copies = checkpoint::copies_of(descriptor).map_or((0, 0), |(at, len, _)| (at, at + len));
    for ((start, end), old_end) in [
        ((descriptor.live, descriptor.live + descriptor.live_len()), before.live),
        (copies, before.copies),
    ] {
        // The granule in which the last of this kind ends is already allocated.
        let have = old_end.next_multiple_of(GRANULE);
        let from = if start < have { have } else { start / GRANULE * GRANULE };
        parts.push((from, end.next_multiple_of(GRANULE)));
    }
    parts.retain(|(from, to)| from < to);
    parts.iter().try_for_each(|(from, to)| attachment.allocate(*from, *to))?;
    Ok(parts.iter().map(|(from, to)| to - from).sum())
}

/// The granules that contain these `(from, to)` parts of the file, as ranges that do not touch.
pub(crate) fn granules(parts: impl Iterator<Item = (u64, u64)>) -> Vec<disk::Range> {
    let mut parts: Vec<_> =
        parts.map(|(from, to)| (from / GRANULE * GRANULE, to.next_multiple_of(GRANULE))).collect();
    parts.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (from, to) in parts {
        match merged.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            _ => merged.push((from, to)),
        }
    }
    merged.into_iter().map(|(from, to)| (from, to - from)).collect()
}

/// File systems on which files may share blocks, from linux/magic.h.
const SHARING: [i64; 4] = [
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xca45_1a4e, // bcachefs
    0x794c_7630, // overlayfs, on one of them
];

/// Gives the file blocks of its own where it shares them with a copy (`cp --reflink`, a snapshot).
/// Otherwise the first write to each would need new room, and on a full disk that is a SIGBUS. No
/// other process is attached.
pub(crate) fn unshare(attachment: &Attachment) -> Result<()> {
    let file = attachment.map.file();
    if !sys::file_system(file).is_ok_and(|kind| SHARING.contains(&i64::from(kind as u32))) {
        return Ok(());
    }
    // If the file system does not say, nothing can be done.
    let end = file.metadata().map_or(0, |metadata| metadata.len());
    for (at, len) in sys::shared_ranges(file).unwrap_or_default() {
        let len = len.min(end.saturating_sub(at));
        let unshare = || {
            attachment.disk().unshare(at, len, &mut || attachment.note_progress())?;
            // On btrfs that call may leave blocks shared.
            let shared = sys::shared_ranges(file)?.iter().any(|(from, _)| *from == at);
            let write = shared && !planted!(WhatBtrfsDoesNotUnshareStaysShared);
            if write { sys::write_again(file, at, len) } else { Ok(()) }
        };
        unshare().map_err(|error| attachment.no_space(len, error))?;
        attachment.note_progress();
    }
    Ok(())
}

/// Allocates the holes of a copied file: `cp` makes holes where it finds zeros, and on a full disk
/// writing to a hole is a SIGBUS. No other process is attached.
pub(crate) fn fill_holes(attachment: &Attachment, on_disk: u64) -> Result<()> {
    let ends = allocator::ends(attachment)?;
    let regions = &attachment.header.regions;
    let lines = descriptors::count(attachment)?;
    let segments = attachment.header.has_checkpoint().then_some(ends.segments);
    let structure = |entries| regions.structure(lines.into(), entries, segments);
    let len = |parts: Vec<(u64, u64)>| parts.iter().map(|(from, to)| to - from).sum::<u64>();
    // The process table grows without the allocation ends.
    let entries = attachment.entries_with_blocks();
    let table_grew = len(structure(entries)) - len(structure(ENTRIES_OF_PAGE));
    if on_disk >= ends.allocated + table_grew {
        return Ok(());
    }
    let mut parts = regions.headers();
    parts.extend(structure(entries));
    // Also one that has no lines yet: what its definer allocated counts as there.
    for number in 1.. {
        let Some(at) = attachment.parts(number)? else { break };
        if planted!(ATierWithoutLinesKeepsItsHoles) && number >= regions.tiers(lines.into()) {
            break;
        }
        let used = regions.parts_blocks(number, lines.into());
        parts.push((at.live, at.live + used.live));
        parts.extend((at.copies != 0).then_some((at.copies, at.copies + used.copies)));
    }
    parts.into_iter().try_for_each(|(from, to)| attachment.allocate(from, to))?;
    descriptors::each(attachment, |descriptor| {
        let from = descriptor.live / GRANULE * GRANULE;
        let to = (descriptor.live + descriptor.live_len()).next_multiple_of(GRANULE);
        attachment.allocate(from, to)
    })
}
