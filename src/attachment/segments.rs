//! What the file says of the checkpoint's segments beside their copies: which may have changed (the
//! marks), and which slot is the first in each (the first lines).

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use crate::attachment::attach::Attachment;
use crate::error::Result;
use crate::format::checkpoint;
use crate::format::descriptor::Outline;
use crate::format::layout::{Header, LARGE_SEGMENT, SEGMENT_HEAD, live};
use crate::format::regions::{MOST_FIRST_LINES, SEGMENT_MARKS};
use crate::mapping::file_marks::{BYTES_LOG, MarksPlace};
use crate::mapping::map::{Map, Region};
use crate::protocol::{SEGMENT_OF_AREAS, SEGMENT_OF_SCALAR};

const _: () = assert!(LARGE_SEGMENT == 1 << BYTES_LOG);

/// Where a store's marks are: one of version 1.1 with checkpoints has some.
pub(super) fn marks_place(header: &Header) -> Option<MarksPlace> {
    (header.minor >= 1 && header.has_checkpoint()).then_some(MarksPlace {
        marks: header.regions.marks,
        words: SEGMENT_MARKS as usize / 64,
        cleaning: header.regions.live_header + 8 * live::CLEANING as u64,
    })
}

impl Attachment {
    /// The marks, if the store has any.
    #[inline]
    pub(crate) fn marks(&self) -> Option<&Map> {
        self.map.marks()
    }

    /// The line of the directory with the first slot in this segment, as the table of first lines
    /// has it; `None` if it has none. It is a hint: the definer of that slot may have been killed
    /// before the slot existed, and the line given to another one.
    pub(crate) fn first_line(&self, segment: u64) -> Option<u32> {
        let (at, shift) = place_of(segment)?;
        // Relaxed: who sees the slot has acquired the count.
        let word = self.first_lines().ok()?.load(at, Relaxed);
        ((word >> shift) as u32).checked_sub(1)
    }

    /// Notes the line of a slot as the first in its segments, where it is. Under the directory's lock,
    /// or before any process is attached. Returns the slot's segments; none in a store without marks.
    pub(crate) fn note_first_lines(&self, line: u32, slot: &Outline) -> Result<Range<usize>> {
        if self.marks().is_none() {
            return Ok(0..0);
        }
        let segments = checkpoint::segments_of(slot);
        if !checkpoint::is_small(slot) || slot.offset_in_segment == SEGMENT_HEAD {
            let table = self.first_lines()?;
            for (at, shift) in segments.clone().map_while(place_of) {
                // Relaxed, here and below: published by the count.
                let others = table.load(at, Relaxed) & !(u64::from(u32::MAX) << shift);
                table.store(at, others | (u64::from(line) + 1) << shift, Relaxed);
            }
        }
        Ok(segments.start as usize..segments.end as usize)
    }

    /// Writes into a slot's memory which its first segment is, so that updates find its mark. Not for
    /// a buffer: it changes without its control word, so it is never clean.
    pub(crate) fn write_segment(&self, memory: &Region, slot: &Outline) {
        if self.marks().is_some() && !slot.is_buffer() {
            let word = if slot.areas == 0 { SEGMENT_OF_SCALAR } else { SEGMENT_OF_AREAS };
            // Relaxed: as above.
            memory.store(word, slot.first_segment + 1, Relaxed);
        }
    }

    fn first_lines(&self) -> Result<Region<&Map>> {
        let (at, len) = (self.header.regions.first_lines, 4 * MOST_FIRST_LINES);
        Region::of(&*self.map, at, len).map_err(|why| self.unmapped(why, at + len))
    }
}

/// The word of the table with a segment's first line, and where it is in that; `None` if the table
/// does not reach so far.
fn place_of(segment: u64) -> Option<(usize, u32)> {
    (segment < MOST_FIRST_LINES).then_some((segment as usize / 2, segment as u32 % 2 * 32))
}
