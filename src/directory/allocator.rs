//! Gives out the space of the file: runs, live slots, checkpoint copies. The words of the live
//! header that say how far each kind reaches are the allocation ends.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::attachment::attach::Attachment;
use crate::attachment::survey::Taken;
use crate::error::{Error, Result};
use crate::format::checkpoint;
use crate::format::descriptor::{Descriptor, Outline, VALUE_LEN, lines_of, live_len};
use crate::format::layout::{
    Ends, GRANULE, Header, LARGE_SEGMENT, PAGE, RUN, SEGMENT_HEAD, SMALL_SEGMENT, live,
};
use crate::format::tiers::Parts;
use crate::types::slot_type::SlotType;

/// The words of the ends, in the order of [`Ends`].
mod word {
    pub(super) const RUNS: usize = 0;
    pub(super) const LIVE: usize = 1;
    pub(super) const COPIES: usize = 2;
    pub(super) const SEGMENTS: usize = 3;
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
    let small_segment = || (load(word::SMALL), load(word::SMALL_COPIES), load(word::SMALL));
    // Both from one moment. If they do not come to rest, assume that there is no such segment.
    let small_segment = (0..64).map(|_| small_segment()).find(|(before, _, after)| before == after);
    let (small, small_copies, _) = small_segment.unwrap_or_default();
    let (allocated, defined) = (load(word::ALLOCATED), load(word::DEFINED));
    let (segments, copies) = (load(word::SEGMENTS), load(word::COPIES));
    let (live, runs) = (load(word::LIVE), load(word::RUNS));
    let ends = Ends { runs, live, copies, segments, defined, small, small_copies, allocated };
    if !are_sound(&ends, &attachment.header) {
        let what = format!("the allocation ends are wrong: {ends:?}");
        return Err(Error::corrupt(&attachment.path, what));
    }
    Ok(ends)
}

fn are_sound(ends: &Ends, header: &Header) -> bool {
    let runs = header.regions.runs..=header.max_size.next_multiple_of(RUN);
    // In 1.0 these are 0.
    let (first_slot, first_copy) = match header.regions.first_ends() {
        (0, _) => (header.regions.runs, header.regions.runs),
        ends => ends,
    };
    let inside = |end: u64, first: u64, of: u64| {
        end == 0 || (first..=ends.runs).contains(&end) && end.is_multiple_of(of)
    };
    runs.contains(&ends.runs)
        && ends.runs.is_multiple_of(RUN)
        && inside(ends.live, first_slot, 64)
        && inside(ends.copies, first_copy, PAGE)
        && inside(ends.small_copies, first_copy, PAGE)
        && (ends.small_copies == 0 || ends.small_copies + 2 * SMALL_SEGMENT <= ends.copies)
        // A slot takes at least a value's bytes, and a segment two pages.
        && ends.defined <= ends.live.saturating_sub(first_slot) / VALUE_LEN
        && ends.defined <= header.max_slots
        && ends.segments <= ends.copies.saturating_sub(first_copy) / (2 * PAGE)
        && ends.small <= ends.segments * SMALL_SEGMENT
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
    store(word::SEGMENTS, after.segments);
    store(word::DEFINED, after.defined);
    store(word::ALLOCATED, after.allocated);
    if after.small_copies != before.small_copies {
        store(word::SMALL, 0); // no segment, until its copies are known
        store(word::SMALL_COPIES, after.small_copies);
    }
    store(word::SMALL, after.small);
    // Release: nothing is written within the ends before the ends are stored.
    std::sync::atomic::fence(Release);
}

/// The allocation ends that follow from the descriptors of all slots, and from where the
/// directory's further tiers are.
pub(crate) fn rebuild<'a>(
    attachment: &Attachment,
    tiers: &[Parts],
    descriptors: impl Iterator<Item = &'a Descriptor>,
) -> Ends {
    let regions = &attachment.header.regions;
    let mut taken = Taken::new(regions);
    (1..).zip(tiers).for_each(|(number, parts)| taken.add_tier(regions, number, *parts));
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
    /// K; ignored for a value, a buffer or a counter.
    pub(crate) areas: u8,
    /// The first content: a value's bits, or the bytes of an area.
    pub(crate) initial: Option<&'a [u8]>,
}

impl Definition<'_> {
    /// How many lines its descriptor will take.
    pub(crate) fn lines(&self) -> u32 {
        lines_of(self.name, self.doc, self.unit) as u32
    }
}

/// Places a further tier, and moves the ends past it.
pub(crate) fn place_tier(header: &Header, number: u32, ends: &mut Ends) -> Parts {
    let len = header.regions.parts_len(number);
    let live = take(&mut ends.live, &mut ends.runs, GRANULE, |_| len.live);
    let copies = match header.has_checkpoint() {
        true => take(&mut ends.copies, &mut ends.runs, GRANULE, |_| len.copies),
        false => 0,
    };
    Parts { live, copies }
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
        SlotType::Buffer(..) | SlotType::Counter => 1,
        _ => definition.areas,
    };
    let content_len = slot_type.content_len().unwrap_or(0) as u64;
    let live_at = |live: u64| live_len(live, content_len, areas);
    let live = take(&mut ends.live, &mut ends.runs, 64, live_at);
    let entry = checkpoint::entry_len_of(slot_type);
    let (first_segment, offset_in_segment, copies);
    if !checkpoint {
        (first_segment, offset_in_segment, copies) = (0, 0, 0);
    } else if checkpoint::shares_segment(slot_type) {
        let used = ends.small % SMALL_SEGMENT;
        // 0: there is none, or the last one is completely full.
        if used == 0 || used + entry > SMALL_SEGMENT {
            ends.small_copies = take(&mut ends.copies, &mut ends.runs, PAGE, |_| 2 * SMALL_SEGMENT);
            ends.small = ends.segments * SMALL_SEGMENT + SEGMENT_HEAD;
            ends.segments += 1;
        }
        (first_segment, offset_in_segment) =
            (ends.small / SMALL_SEGMENT, ends.small % SMALL_SEGMENT);
        copies = ends.small_copies;
        ends.small += entry;
    } else {
        let segments = content_len.div_ceil(LARGE_SEGMENT);
        let data = content_len.next_multiple_of(PAGE);
        copies = take(&mut ends.copies, &mut ends.runs, PAGE, |_| 2 * (segments * PAGE + data));
        (first_segment, offset_in_segment) = (ends.segments, PAGE);
        ends.segments += segments;
    }
    ends.defined += 1;
    let descriptor = Descriptor {
        name: definition.name.to_owned(),
        doc: definition.doc.to_owned(),
        unit: definition.unit.to_owned(),
        slot_type: slot_type.clone(),
        outline: Outline { areas, content_len, live, first_segment, copies, offset_in_segment },
    };
    (descriptor, ends)
}

/// Takes space of one kind, on a multiple of `align`. It follows the last of that kind if it fits into the same run, or if
/// that run is the last. Otherwise it starts a new run.
fn take(end: &mut u64, runs: &mut u64, align: u64, len_at: impl Fn(u64) -> u64) -> u64 {
    let room_end = end.next_multiple_of(RUN);
    let here = end.next_multiple_of(align);
    let fits = *end != 0 && (here + len_at(here) <= room_end || room_end == *runs);
    let at = if fits { here } else { *runs };
    *end = at + len_at(at);
    *runs = (*runs).max(end.next_multiple_of(RUN));
    at
}
