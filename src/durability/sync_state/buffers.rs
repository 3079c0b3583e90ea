//! Buffers and counters, whose versions do not say whether they changed.

use super::SyncState;
use crate::attachment::attach::Attachment;
use crate::durability::segment_writer::SegmentWriter;
use crate::error::Result;
use crate::format::checkpoint::{self, Stamp, UNKNOWN, is_removed};
use crate::format::layout::LARGE_SEGMENT;
use crate::mapping::element::ElementRegion;
use crate::mutant::planted;
use crate::types::slot_type::{STRIPE, STRIPES};

/// A buffer or a counter.
#[derive(Debug)]
pub(super) struct CopiedBuffer {
    /// The slot's number.
    pub(super) slot: usize,
    elements: ElementRegion,
    is_counter: bool,
    /// What its copy in use says, as far as it is remembered: its stamp, and the number of a counter.
    pub(super) copied: Option<(Stamp, u64)>,
}

impl CopiedBuffer {
    pub(super) fn new(slot: usize, elements: ElementRegion, is_counter: bool) -> CopiedBuffer {
        CopiedBuffer { slot, elements, is_counter, copied: None }
    }

    /// Whether its copy in use is known to say what it is now, without a look at the disk. A removed
    /// one stays what it is. A counter is its number, wherever its stripes have it: the sum includes
    /// all adds from before this look, as a copy made now would.
    fn is_copied(&self, stamp: Stamp) -> bool {
        let remembered = self.copied.filter(|(of, _)| *of == stamp && *of != UNKNOWN);
        remembered.is_some_and(|(_, sum)| {
            is_removed(stamp)
                || self.is_counter
                    && (counter_sum(&self.elements) == sum || planted!(AnAddIsNotLookedFor))
        })
    }
}

/// Of a counter in memory.
fn counter_sum(elements: &ElementRegion) -> u64 {
    (0..STRIPES).fold(0, |sum, stripe| sum.wrapping_add(elements.load(stripe * STRIPE)))
}

/// Of a counter's content as it was copied.
fn sum_of(data: &[u8]) -> u64 {
    let words = data.chunks_exact(8).step_by(STRIPE);
    words.fold(0, |sum, word| {
        sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("8 bytes")))
    })
}

impl SyncState {
    /// Copies the buffers as they stand.
    pub(crate) fn copy_buffers(&mut self, writer: &mut SegmentWriter<'_>) -> Result<()> {
        let known = &mut self.known;
        for buffer in &mut known.buffers {
            let stamp = known.slots.seen[buffer.slot];
            if buffer.is_copied(stamp) {
                continue;
            }
            let numbers = checkpoint::segments_of(&known.outlines[buffer.slot]);
            let first = numbers.start;
            let segments: Vec<_> = numbers.map(|number| &known.segments[&number]).collect();
            // The last data that is read is what the copy has in the end.
            let mut sum = 0;
            writer.copy_changed_segments(&segments, stamp, first, |at, data| {
                buffer.elements.read(at, data);
                if buffer.is_counter {
                    sum = sum_of(data);
                }
            })?;
            buffer.copied = Some((stamp, sum));
        }
        Ok(())
    }

    /// The slots of those that differ from their copies in use.
    pub(super) fn changed_buffers(&self, attachment: &Attachment) -> Result<Vec<usize>> {
        let mut changed = Vec::new();
        let mut data = Vec::new();
        for buffer in &self.known.buffers {
            if self.buffer_differs(attachment, buffer, &mut data)? {
                changed.push(buffer.slot);
            }
        }
        Ok(changed)
    }

    /// `data` is for reuse.
    fn buffer_differs(
        &self,
        attachment: &Attachment,
        buffer: &CopiedBuffer,
        data: &mut Vec<u8>,
    ) -> Result<bool> {
        let known = &self.known;
        if buffer.is_copied(known.slots.memories.stamp(attachment, buffer.slot)) {
            return Ok(false);
        }
        let numbers = checkpoint::segments_of(&known.outlines[buffer.slot]);
        for (part, segment) in numbers.map(|number| &known.segments[&number]).enumerate() {
            data.resize(segment.pair.len, 0);
            buffer.elements.read(part * LARGE_SEGMENT as usize, data);
            if segment.stamp_if_same(attachment, data)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
