//! The directory's tiers: from 1.1 on it grows by parts, each with as many lines as all before it,
//! and with an index of its own. The first one is a region; the others are in the runs.

use bytemuck::{Pod, Zeroable};

use crate::format::layout::{GRANULE, LINE, PAGE};
use crate::format::regions::Regions;

/// Lines of the first tier.
pub(crate) const FIRST_TIER: u64 = 512;
/// The most tiers that there can be beside the first one.
pub(crate) const MOST_TIERS: u32 = 21;

/// Where the two parts of a tier in the runs are: its index with its lines, and their copies (0 in a
/// store without checkpoints).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Parts {
    pub(crate) live: u64,
    pub(crate) copies: u64,
}

/// A tier, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tier {
    /// The number of its first line.
    pub(crate) first_line: u64,
    pub(crate) lines: u64,
    /// Where its index is, and how many words that has: a power of two.
    pub(crate) index: u64,
    pub(crate) index_entries: u64,
    /// Where its first line is.
    pub(crate) directory: u64,
    /// Where the copies of its first page are.
    pub(crate) copies: u64,
}

impl Regions {
    /// The number of the tier with this line.
    #[inline]
    pub(crate) fn tier_of(&self, line: u64) -> u32 {
        match self.first_tier {
            0 => 0,
            first => (line / first).checked_ilog2().map_or(0, |log| log + 1),
        }
    }

    /// How many tiers hold this many lines: at least one.
    #[inline]
    pub(crate) fn tiers(&self, lines: u64) -> u32 {
        self.tier_of(lines.saturating_sub(1)) + 1
    }

    /// The first tier.
    #[inline]
    pub(crate) fn first_tier(&self) -> Tier {
        Tier {
            first_line: 0,
            lines: if self.first_tier == 0 { self.directory_lines } else { self.first_tier },
            index: self.index,
            index_entries: self.index_entries,
            directory: self.directory,
            copies: self.directory_copies,
        }
    }

    /// The first line of a further tier, which has as many lines.
    #[inline]
    fn first_line_of(&self, number: u32) -> u64 {
        self.first_tier << (number - 1)
    }

    /// The tier of this number, from 1 on, whose parts are here.
    #[inline]
    pub(crate) fn tier_at(&self, number: u32, parts: Parts) -> Tier {
        let lines = self.first_line_of(number);
        Tier {
            first_line: lines,
            lines,
            index: parts.live,
            index_entries: 2 * lines,
            directory: parts.live + 16 * lines,
            copies: parts.copies,
        }
    }

    /// Bytes of both parts of a further tier.
    pub(crate) fn parts_len(&self, number: u32) -> Parts {
        let lines = self.first_line_of(number);
        let live = lines * (16 + LINE as u64);
        Parts { live: live.next_multiple_of(GRANULE), copies: lines * 4 * LINE as u64 }
    }

    /// How many bytes of both parts have blocks when the directory has this many lines.
    pub(crate) fn parts_blocks(&self, number: u32, lines: u64) -> Parts {
        let all = self.first_line_of(number);
        let lines = lines.saturating_sub(all).clamp(1, all);
        let live = 16 * all + lines * LINE as u64;
        let copies = (lines * LINE as u64).next_multiple_of(PAGE) * 4;
        Parts { live: live.next_multiple_of(GRANULE), copies: copies.next_multiple_of(GRANULE) }
    }

    /// Whether a further tier can be here. Every number comes from the file.
    pub(crate) fn can_be_at(
        &self,
        number: u32,
        at: Parts,
        max_size: u64,
        checkpoint: bool,
    ) -> bool {
        let len = self.parts_len(number);
        let inside = |from: u64, len: u64| {
            from.is_multiple_of(GRANULE) && from.checked_add(len).is_some_and(|to| to <= max_size)
        };
        let copies = match checkpoint {
            true => inside(at.copies, len.copies) && self.may_hold_copies(at.copies),
            false => at.copies == 0,
        };
        inside(at.live, len.live) && self.may_hold_slots(at.live..at.live + len.live) && copies
    }

    /// Where the copies of a page of the directory are, given where the further tiers are; `None` if
    /// its tier is not among these.
    pub(crate) fn copies_of_page(&self, tiers: &[Parts], page: u64) -> Option<u64> {
        let line = page * (PAGE / LINE as u64);
        let tier = match self.tier_of(line) {
            0 => self.first_tier(),
            number => self.tier_at(number, *tiers.get(number as usize - 1)?),
        };
        Some(tier.copies + (line - tier.first_line) * 4 * LINE as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_hold_all_lines() {
        for max_slots in [1, 128, 129, 65_536, 1 << 28] {
            let regions = Regions::new(1, max_slots, 1 << 45).unwrap();
            let tiers = regions.tiers(regions.directory_lines);
            assert!(tiers <= MOST_TIERS + 1);
            let mut lines = 0;
            for number in 0..tiers {
                let tier = match number {
                    0 => regions.first_tier(),
                    _ => regions.tier_at(number, Parts { live: 0, copies: 0 }),
                };
                let end = lines + tier.lines;
                assert!(tier.first_line == lines && (lines == 0 || end == 2 * lines));
                assert_eq!(tier.index_entries, 2 * tier.lines);
                assert_eq!([lines, end - 1].map(|line| regions.tier_of(line)), [number; 2]);
                assert_eq!([lines + 1, end].map(|lines| regions.tiers(lines)), [number + 1; 2]);
                lines = end;
            }
            assert!(regions.directory_lines <= lines);
            let old = Regions::new(0, max_slots.min(1 << 20), 1 << 45).unwrap();
            assert_eq!(old.tiers(old.directory_lines), 1);
        }
    }
}
