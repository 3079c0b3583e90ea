//! Ranges of an area's words: what differs between areas, and what a reader still needs.

use std::collections::BTreeMap;

/// The stale word of an area of which nothing is known: all its words are stale.
pub(crate) fn all_stale(words: usize) -> u64 {
    Range { from: 0, to: words }.to_bits()
}

/// A half-open range of an area's words. In the file, `from` is the low half, `to` the high half; 0
/// means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Range {
    pub(super) const NONE: Range = Range { from: 0, to: 0 };

    /// A range that does not fit the area comes from a damaged file, and becomes the whole area.
    #[inline]
    pub(super) fn from_bits(bits: u64, words: usize) -> Range {
        let (from, to) = ((bits as u32) as usize, (bits >> 32) as usize);
        if bits == 0 {
            Range::NONE
        } else if from < to && to <= words {
            Range { from, to }
        } else {
            Range { from: 0, to: words }
        }
    }

    #[inline]
    pub(super) fn to_bits(self) -> u64 {
        self.from as u64 | (self.to as u64) << 32
    }

    /// The words that these bytes touch, in part or whole.
    #[inline]
    pub(super) fn of_bytes(at: usize, len: usize) -> Range {
        if len == 0 { Range::NONE } else { Range { from: at / 8, to: (at + len).div_ceil(8) } }
    }

    /// The words that these bytes cover completely.
    #[inline]
    pub(super) fn of_whole_words(at: usize, len: usize) -> Range {
        let (from, to) = (at.div_ceil(8), (at + len) / 8);
        if from < to { Range { from, to } } else { Range::NONE }
    }

    /// The smallest range that contains both.
    #[inline]
    pub(super) fn or(self, other: Range) -> Range {
        match (self, other) {
            (Range::NONE, range) | (range, Range::NONE) => range,
            (a, b) => Range { from: a.from.min(b.from), to: a.to.max(b.to) },
        }
    }

    /// The parts of it before and after `hole`.
    #[inline]
    pub(super) fn without(self, hole: Range) -> (Range, Range) {
        if hole == Range::NONE {
            return (self, Range::NONE);
        }
        let before = Range { from: self.from, to: self.to.min(hole.from) };
        (before, Range { from: self.from.max(hole.to), to: self.to })
    }

    /// The words that are in both.
    pub(super) fn and(self, other: Range) -> Range {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        if from < to { Range { from, to } } else { Range::NONE }
    }
}

/// Words of an area, as ranges that neither overlap nor touch: the start of each, with its end.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<usize, usize>);

impl Ranges {
    pub(super) fn insert(&mut self, range: Range) {
        let mut all = range;
        if all == Range::NONE {
            return;
        }
        while let Some((&from, &to)) = self.0.range(..=all.to).next_back()
            && all.from <= to
        {
            self.0.remove(&from);
            all = all.or(Range { from, to });
        }
        self.0.insert(all.from, all.to);
    }

    /// Takes up to `most` words from the start of the next range that begins at or after `start`,
    /// or else of the first range.
    pub(super) fn take(&mut self, start: usize, most: usize) -> Option<Range> {
        let next = self.0.range(start..).next().or_else(|| self.0.first_key_value());
        let (&from, &end) = next?;
        self.0.remove(&from);
        let to = end.min(from + most);
        if to < end {
            self.0.insert(to, end);
        }
        Some(Range { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Compared with a plain set of words.
        #[test]
        fn ranges_are_the_words_that_were_put_in_and_not_taken(
            steps in proptest::collection::vec((any::<bool>(), 0usize..60, 0usize..20), 0..60),
        ) {
            let mut ranges = Ranges::default();
            let mut words = std::collections::BTreeSet::new();
            for (inserts, at, len) in steps {
                if inserts {
                    let some = Range { from: at, to: at + len };
                    let range = if len == 0 { Range::NONE } else { some };
                    ranges.insert(range);
                    words.extend(range.from..range.to);
                } else {
                    let taken = ranges.take(at, len + 1);
                    prop_assert_eq!(taken.is_none(), words.is_empty());
                    let taken = taken.unwrap_or(Range::NONE);
                    prop_assert!(taken.to - taken.from <= len + 1);
                    prop_assert!((taken.from..taken.to).all(|word| words.remove(&word)));
                }
            }
            let left: Vec<usize> = ranges.0.iter().flat_map(|(from, to)| *from..*to).collect();
            prop_assert_eq!(left, Vec::from_iter(words));
            // No range touches the next.
            let ends: Vec<_> = ranges.0.into_iter().collect();
            prop_assert!(ends.windows(2).all(|two| two[0].1 < two[1].0));
        }
    }
}
