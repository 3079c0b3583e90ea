//! Which segments a slot has, and where they are, as its descriptor says.

use crate::format::descriptor::Outline;
use crate::format::layout::{
    Header, LARGE_SEGMENT, LINE, PAGE, SEGMENT_HEAD, SMALL_ENTRY, SMALL_SEGMENT,
};
use crate::types::slot_type::SlotType;

/// Whether a slot shares its segment with others.
#[inline]
pub(crate) fn is_small(outline: &Outline) -> bool {
    !outline.is_buffer() && entry_len(outline) <= SMALL_ENTRY
}

/// Whether a slot of this type shares its segment with others. Raw memory never does: only a
/// comparison shows whether it has changed, and that must concern no other slot.
pub(crate) fn shares_segment(slot_type: &SlotType) -> bool {
    slot_type.raw_elements().is_none() && entry_len_of(slot_type) <= SMALL_ENTRY
}

/// Bytes of a slot's entry in a small segment: its control word, then its content.
#[inline]
pub(crate) fn entry_len(outline: &Outline) -> u64 {
    entry_len_of_content(outline.content_len)
}

/// The same, of a slot of this type.
pub(crate) fn entry_len_of(slot_type: &SlotType) -> u64 {
    entry_len_of_content(slot_type.content_len().unwrap_or(0) as u64)
}

#[inline]
fn entry_len_of_content(len: u64) -> u64 {
    8 + len.next_multiple_of(8)
}

/// How many segments a slot has to itself.
#[inline]
pub(crate) fn large_segments(outline: &Outline) -> u64 {
    outline.content_len.div_ceil(LARGE_SEGMENT)
}

/// The numbers of a slot's segments, of which a small slot has one, which it shares.
#[inline]
pub(crate) fn segments_of(outline: &Outline) -> std::ops::Range<u64> {
    let count = if is_small(outline) { 1 } else { large_segments(outline) };
    outline.first_segment..outline.first_segment + count
}

/// Bytes of both copies of all segments that hold a slot.
#[inline]
pub(crate) fn copies_len(outline: &Outline) -> u64 {
    if is_small(outline) {
        return 2 * SMALL_SEGMENT;
    }
    2 * (large_segments(outline) * PAGE + outline.content_len.next_multiple_of(PAGE))
}

/// Where a slot's copies are, how many bytes they take, and how many segments they are of. A small
/// slot shares its segment with others. `None` in a store without checkpoints.
pub(crate) fn copies_of(outline: &Outline) -> Option<(u64, u64, u64)> {
    let segments = if is_small(outline) { 1 } else { large_segments(outline) };
    (outline.copies != 0).then(|| (outline.copies, copies_len(outline), segments))
}

/// Whether a store can have a slot's segments and copies where its descriptor says. Every number
/// comes from the file.
#[inline]
pub(crate) fn check_segments(outline: &Outline, header: &Header) -> Option<()> {
    let (count, offset_fits) = if is_small(outline) {
        let end = outline.offset_in_segment.checked_add(entry_len(outline))?;
        (1, outline.offset_in_segment >= SEGMENT_HEAD && end <= SMALL_SEGMENT)
    } else {
        (large_segments(outline), outline.offset_in_segment == PAGE)
    };
    // A segment's two copies take at least two pages.
    let most_segments = header.max_size / (2 * PAGE);
    let fits = offset_fits
        && outline.first_segment.checked_add(count)? <= most_segments
        && outline.copies.is_multiple_of(PAGE)
        && header.regions.may_hold_copies(outline.copies)
        && outline.copies.checked_add(copies_len(outline))? <= header.max_size;
    fits.then_some(())
}

/// How many pages of the directory hold this many lines.
pub(crate) fn pages(lines: u32) -> usize {
    (lines as usize * LINE).div_ceil(PAGE as usize)
}
