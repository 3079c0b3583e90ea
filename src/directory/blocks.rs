//! The disk's blocks for the space that was given out. Each is allocated before it is used, and
//! belongs to this file alone: a page of the mapping that has no block raises SIGBUS on a full
//! disk.

use std::ops::Range;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::directory::allocator;
use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::layout::{Ends, GRANULE, LINE};
use crate::mutant::planted;
use crate::os::disk;
use crate::os::sys;

/// Allocates the blocks of what was placed: lines, live slot, copies. Returns how many bytes it
/// allocated.
pub(crate) fn grow(
    attachment: &Attachment,
    lines: Range<u64>,
    descriptor: &Descriptor,
    before: Ends,
    after: Ends,
) -> Result<u64> {
    let mut allocated = 0;
    let regions = &attachment.header.regions;
    // The directory's first granule was allocated when the store was created, and so were the
    // copies of its pages: two of each, each with a page for its head.
    let lines_before = lines.start.max(regions.directory + GRANULE);
    let copies_of = |line: u64| match descriptor.copies {
        0 => 0,
        _ => regions.directory_copies + 4 * (line - regions.directory),
    };
    for (placed, old_end) in [
        (copies_of(lines.start)..copies_of(lines.end), copies_of(lines_before)),
        (lines, lines_before),
        (descriptor.live..after.live, before.live),
        (descriptor.copies..after.copies, before.copies),
    ] {
        // The granule in which the last of this kind ends is already allocated.
        let have = old_end.next_multiple_of(GRANULE);
        let from = if placed.start < have { have } else { placed.start / GRANULE * GRANULE };
        let to = placed.end.next_multiple_of(GRANULE);
        if from < to {
            allocate(attachment, from, to)?;
            allocated += to - from;
        }
    }
    Ok(allocated)
}

/// Allocates these granules.
pub(crate) fn allocate(attachment: &Attachment, from: u64, to: u64) -> Result<()> {
    attachment
        .disk()
        .allocate(from, to - from)
        .map_err(|error| no_space(attachment, to - from, error))
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

/// `NoSpace`, if the error means that.
pub(crate) fn no_space(attachment: &Attachment, need: u64, source: std::io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => {
            Error::NoSpace { path: attachment.path.clone(), need, source }
        }
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => {
            Error::Unsupported { path: attachment.path.clone(), what: no_fallocate(&source) }
        }
        _ => Error::io(&attachment.path, "cannot write or allocate blocks", source),
    }
}

/// Why a store cannot be written here.
pub(crate) fn no_fallocate(source: &std::io::Error) -> String {
    format!(
        "blocks cannot be allocated before they are used (fallocate: {source}), as on ext3 and \
         exFAT; put it on ext4, xfs, btrfs or tmpfs, or open it read-only"
    )
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
        unshare().map_err(|error| no_space(attachment, len, error))?;
        attachment.note_progress();
    }
    Ok(())
}

/// Allocates the holes of a copied file: `cp` makes holes where it finds zeros, and on a full disk
/// writing to a hole is a SIGBUS. No other process is attached.
pub(crate) fn fill_holes(attachment: &Attachment, on_disk: u64) -> Result<()> {
    let ends = allocator::ends(attachment)?;
    if on_disk >= ends.allocated {
        return Ok(());
    }
    let regions = &attachment.header.regions;
    let lines_end = regions.directory + u64::from(descriptors::count(attachment)?) * LINE as u64;
    allocate(attachment, 0, lines_end.next_multiple_of(GRANULE))?;
    descriptors::each(attachment, |descriptor| {
        let from = descriptor.live / GRANULE * GRANULE;
        let to = (descriptor.live + descriptor.live_len()).next_multiple_of(GRANULE);
        allocate(attachment, from, to)
    })
}
