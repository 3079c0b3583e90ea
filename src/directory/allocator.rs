//! Allocates the space of the file: runs, live slots, checkpoint copies.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::attachment::attach::Attachment;
use crate::attachment::survey::Taken;
use crate::error::{Error, Result};
use crate::format::checkpoint;
use crate::format::layout::{
    Descriptor, Ends, GRANULE, Header, LARGE_UNIT, Outline, PAGE, RUN, SMALL_UNIT, UNIT_HEAD,
    VALUE_LEN, live, live_len,
};
use crate::os::disk;
use crate::os::sys;
use crate::types::dtype::SlotType;

/// The words of the ends, in the order of [`Ends`].
mod word {
    pub(super) const RUNS: usize = 0;
    pub(super) const LIVE: usize = 1;
    pub(super) const COPIES: usize = 2;
    pub(super) const UNITS: usize = 3;
    pub(super) const DEFINED: usize = 4;
    pub(super) const SMALL: usize = 5;
    pub(super) const SMALL_COPIES: usize = 6;
    pub(super) const ALLOCATED: usize = 7;
}

/// The number of slots defined so far and the end of the last run; for display.
pub(crate) fn usage(attachment: &Attachment) -> (u64, u64) {
    // Relaxed: two figures, each correct by itself.
    let load = |word: usize| attachment.live.load(live::ENDS + word, Relaxed);
    (load(word::DEFINED), load(word::RUNS))
}

/// The allocation ends, if they are possible. Whether they fit the slots, only the descriptors say.
/// May run beside definitions.
pub(crate) fn ends(attachment: &Attachment) -> Result<Ends> {
    // Acquire, each before the words that are stored earlier. So no word is older than one that
    // must not be less than it.
    let load = |word: usize| attachment.live.load(live::ENDS + word, Acquire);
    let small_unit = || (load(word::SMALL), load(word::SMALL_COPIES), load(word::SMALL));
    // Both from one moment. If they do not come to rest, assume that there is no such unit.
    let small_unit = (0..64).map(|_| small_unit()).find(|(before, _, after)| before == after);
    let (small, small_copies, _) = small_unit.unwrap_or_default();
    let (allocated, defined) = (load(word::ALLOCATED), load(word::DEFINED));
    let (units, copies) = (load(word::UNITS), load(word::COPIES));
    let (live, runs) = (load(word::LIVE), load(word::RUNS));
    let ends = Ends { runs, live, copies, units, defined, small, small_copies, allocated };
    if !are_sound(&ends, &attachment.header) {
        let what = format!("the allocation ends are wrong: {ends:?}");
        return Err(Error::corrupt(&attachment.path, what));
    }
    Ok(ends)
}

fn are_sound(ends: &Ends, header: &Header) -> bool {
    let first = header.regions.runs;
    let runs = first..=header.max_size.next_multiple_of(RUN);
    let inside = |end: u64, of: u64| {
        end == 0 || (first..=ends.runs).contains(&end) && end.is_multiple_of(of)
    };
    runs.contains(&ends.runs)
        && ends.runs.is_multiple_of(RUN)
        && inside(ends.live, 64)
        && inside(ends.copies, PAGE)
        && inside(ends.small_copies, PAGE)
        && (ends.small_copies == 0 || ends.small_copies + 2 * SMALL_UNIT <= ends.copies)
        // A slot takes at least a value's bytes, and a unit two pages.
        && ends.defined <= ends.live.saturating_sub(first) / VALUE_LEN
        && ends.defined <= header.max_slots
        && ends.units <= ends.copies.saturating_sub(first) / (2 * PAGE)
        && ends.small <= ends.units * SMALL_UNIT
        // A granule may have been counted twice.
        && ends.allocated / 2 <= header.max_size
}

/// Moves the ends. Nothing that is written afterwards can become visible before this.
pub(crate) fn store_ends(attachment: &Attachment, before: Ends, after: Ends) {
    let store = |word: usize, value: u64| {
        // Release: in this order, whenever the process is killed.
        attachment.live.store(live::ENDS + word, value, Release);
    };
    store(word::RUNS, after.runs);
    store(word::LIVE, after.live);
    store(word::COPIES, after.copies);
    store(word::UNITS, after.units);
    store(word::DEFINED, after.defined);
    store(word::ALLOCATED, after.allocated);
    if after.small_copies != before.small_copies {
        store(word::SMALL, 0); // no unit, until its place is known
        store(word::SMALL_COPIES, after.small_copies);
    }
    store(word::SMALL, after.small);
    // Release: nothing is written within the ends before the ends are stored.
    std::sync::atomic::fence(Release);
}

/// The allocation ends that follow from the descriptors of all slots.
pub(crate) fn rebuild<'a>(
    attachment: &Attachment,
    descriptors: impl Iterator<Item = &'a Descriptor>,
) -> Ends {
    let mut taken = Taken::new(&attachment.header.regions);
    descriptors.for_each(|descriptor| taken.add(descriptor));
    taken.ends()
}

/// Stores rebuilt ends. No other process is attached.
pub(crate) fn store_rebuilt(attachment: &Attachment, ends: &Ends) {
    let allocated = attachment.map.file().metadata().map_or(0, |m| 512 * m.blocks());
    let ends = Ends { allocated, ..*ends };
    attachment.live.write(live::ENDS, 0, bytemuck::bytes_of(&ends));
}

/// A slot to define.
pub(crate) struct Definition<'a> {
    pub(crate) name: &'a str,
    pub(crate) doc: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) slot_type: &'a SlotType,
    /// K; ignored for a value or a buffer.
    pub(crate) areas: u8,
    /// The first content: a value's bits, or the bytes of an area.
    pub(crate) initial: Option<&'a [u8]>,
}

/// Places the new slot, and moves the ends past it.
pub(crate) fn place(
    definition: &Definition<'_>,
    mut ends: Ends,
    checkpoint: bool,
) -> (Descriptor, Ends) {
    let slot_type = definition.slot_type;
    let areas = match slot_type {
        SlotType::Value(_) => 0,
        SlotType::Buffer(..) => 1,
        _ => definition.areas,
    };
    let content_len = slot_type.content_len().unwrap_or(0) as u64;
    let live_at = |live: u64| live_len(live, content_len, areas);
    let live = take(&mut ends.live, &mut ends.runs, live_at);
    let entry = checkpoint::entry_len_of(slot_type);
    let (first_unit, place, copies);
    if !checkpoint {
        (first_unit, place, copies) = (0, 0, 0);
    } else if checkpoint::shares_unit(slot_type) {
        let used = ends.small % SMALL_UNIT;
        // 0: there is none, or the last one is completely full.
        if used == 0 || used + entry > SMALL_UNIT {
            ends.small_copies = take(&mut ends.copies, &mut ends.runs, |_| 2 * SMALL_UNIT);
            ends.small = ends.units * SMALL_UNIT + UNIT_HEAD;
            ends.units += 1;
        }
        (first_unit, place) = (ends.small / SMALL_UNIT, ends.small % SMALL_UNIT);
        copies = ends.small_copies;
        ends.small += entry;
    } else {
        let units = content_len.div_ceil(LARGE_UNIT);
        let data = content_len.next_multiple_of(PAGE);
        copies = take(&mut ends.copies, &mut ends.runs, |_| 2 * (units * PAGE + data));
        (first_unit, place) = (ends.units, PAGE);
        ends.units += units;
    }
    ends.defined += 1;
    let descriptor = Descriptor {
        name: definition.name.to_owned(),
        doc: definition.doc.to_owned(),
        unit: definition.unit.to_owned(),
        slot_type: slot_type.clone(),
        outline: Outline { areas, content_len, live, first_unit, copies, place },
    };
    (descriptor, ends)
}

/// Takes space of one kind. It follows the last of that kind if it fits into the same run, or if
/// that run is the last. Otherwise it starts a new run.
fn take(end: &mut u64, runs: &mut u64, len_at: impl Fn(u64) -> u64) -> u64 {
    let room_end = end.next_multiple_of(RUN);
    let here = end.next_multiple_of(64);
    let fits = *end != 0 && (here + len_at(here) <= room_end || room_end == *runs);
    let at = if fits { here } else { *runs };
    *end = at + len_at(at);
    *runs = (*runs).max(end.next_multiple_of(RUN));
    at
}

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
         exFAT; put it on ext4, xfs, btrfs or tmpfs, or only read it"
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
            if shared { sys::write_again(file, at, len) } else { Ok(()) }
        };
        unshare().map_err(|error| no_space(attachment, len, error))?;
        attachment.note_progress();
    }
    Ok(())
}
