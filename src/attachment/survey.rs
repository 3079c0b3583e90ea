//! What the descriptors say of the whole store: which names exist, and which space is taken.
//!
//! Descriptors have a checksum; the index and the allocation ends have none. So a definition looks
//! here before it believes that a name is absent or that space is free. A process looks at each
//! descriptor once.

use bytemuck::Zeroable;

use crate::attachment::name_cache::Hash;
use crate::format::checkpoint;
use crate::format::descriptor::Outline;
use crate::format::layout::{Ends, PAGE, RUN, SMALL_SEGMENT};
use crate::format::regions::{LINES_PER_SLOT, MOST_SLOTS, Regions};
use crate::format::tiers::Parts;
use crate::mutant::planted;

/// A summary of the descriptors from the first line on.
#[derive(Debug)]
pub(crate) struct Survey {
    lines: u32,
    /// How many tiers the directory has, the first one included.
    tiers: u32,
    names: Names,
    pub(crate) taken: Taken,
}

impl Survey {
    pub(crate) fn new(regions: &Regions) -> Survey {
        Survey { lines: 0, tiers: 1, names: Names::default(), taken: Taken::new(regions) }
    }

    /// How many lines it covers.
    pub(crate) fn lines(&self) -> u32 {
        self.lines
    }

    /// How many tiers the directory has.
    pub(crate) fn tiers(&self) -> u32 {
        self.tiers
    }

    /// Adds the next tier.
    pub(crate) fn add_tier(&mut self, regions: &Regions, parts: Parts) {
        self.taken.add_tier(regions, self.tiers, parts);
        self.tiers += 1;
    }

    /// Adds the descriptor that follows those already covered. Its places have been checked.
    /// `is_named`: whether the descriptor on this line has the same name.
    pub(crate) fn add(
        &mut self,
        name: &str,
        lines: u32,
        outline: &Outline,
        is_named: impl Fn(u32) -> bool,
    ) {
        self.names.insert(Hash::of(name), self.lines, is_named);
        self.taken.add(outline);
        self.lines += lines;
    }

    /// The last line of each name with this hash. None: no slot has ever had a name with it.
    pub(crate) fn lines_of(&self, hash: Hash) -> impl Iterator<Item = u32> {
        self.names.lines(hash)
    }
}

/// The line on which each name was defined last: a hash table of 8 bytes for a name.
#[derive(Debug, Default)]
struct Names {
    /// The upper part of a hash and, in the lower [`LINE_BITS`], the line + 1; or 0. At most three
    /// of four are in use.
    words: Box<[u64]>,
    used: usize,
}

const LINE_BITS: u32 = 31;
const _: () = assert!(MOST_SLOTS * LINES_PER_SLOT < 1 << LINE_BITS);

impl Names {
    /// Notes a name of this hash. `is_named`: whether it is the name on this line, too.
    fn insert(&mut self, hash: Hash, line: u32, is_named: impl Fn(u32) -> bool) {
        if 4 * self.used >= 3 * self.words.len() {
            let larger = (2 * self.words.len()).max(64);
            let before = std::mem::replace(&mut self.words, vec![0; larger].into());
            for word in before.into_iter().filter(|word| *word != 0) {
                let at = self.places(word).find(|at| self.words[*at] == 0);
                self.words[at.expect("one of four is empty")] = word;
            }
        }
        let word = tag_of(hash) | (u64::from(line) + 1);
        let takes = |at: &usize| match self.words[*at] {
            0 => true,
            other => {
                let is_named = || planted!(NamesOfOneHashAreOne) || is_named(line_in(other));
                other & TAG == tag_of(hash) && is_named()
            }
        };
        let at = self.places(word).find(takes).expect("one of four is empty");
        self.used += usize::from(self.words[at] == 0);
        self.words[at] = word;
    }

    fn lines(&self, hash: Hash) -> impl Iterator<Item = u32> {
        let words = self.places(tag_of(hash)).map_while(|at| self.words.get(at).copied());
        let of_hash = move |word: &u64| word & TAG == tag_of(hash);
        words.take_while(|word| *word != 0).filter(of_hash).map(line_in)
    }

    /// Where a word with this tag may be, in the order of the search.
    fn places(&self, word: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.words.len().wrapping_sub(1);
        let first = (word >> LINE_BITS) as usize;
        (0..).map(move |step: usize| first.wrapping_add(step) & mask)
    }
}

/// The bits of a word that are of the hash.
const TAG: u64 = u64::MAX << LINE_BITS;

/// What a survey knows of a hash.
pub(crate) fn tag_of(hash: Hash) -> u64 {
    hash.bits() & TAG
}

fn line_in(word: u64) -> u32 {
    (word & !TAG) as u32 - 1
}

/// The space that slots and their copies take.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The lowest values that the ends may have, except `allocated`, which is 0.
    ends: Ends,
    /// What each run holds.
    runs: Vec<Holds>,
}

/// What a run holds: only one kind of space, or nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    Slots,
    Copies,
}

impl Taken {
    pub(crate) fn new(regions: &Regions) -> Taken {
        let (live, copies) = regions.first_ends();
        let ends = Ends { runs: regions.runs, live, copies, ..Zeroable::zeroed() };
        Taken { ends, runs: Vec::new() }
    }

    pub(crate) fn ends(&self) -> Ends {
        self.ends
    }

    /// Adds what a slot takes. Its places have been checked.
    pub(crate) fn add(&mut self, outline: &Outline) {
        let ends = &mut self.ends;
        ends.defined += 1;
        let live = (outline.live, outline.live + outline.live_len());
        ends.live = ends.live.max(live.1);
        let copies = checkpoint::copies_of(outline);
        if let Some((from, len, segments)) = copies {
            if checkpoint::is_small(outline) {
                let used = outline.offset_in_segment + checkpoint::entry_len(outline);
                ends.small = outline.first_segment * SMALL_SEGMENT + used;
                ends.small_copies = from;
            }
            ends.copies = ends.copies.max(from + len);
            ends.segments = ends.segments.max(outline.first_segment + segments);
        }
        ends.runs = ends.runs.max(ends.live.max(ends.copies).next_multiple_of(RUN));
        self.mark(live.0, live.1, Holds::Slots);
        if let Some((from, len, _)) = copies {
            self.mark(from, from + len, Holds::Copies);
        }
    }

    /// Adds what a further tier takes. Its places have been checked.
    pub(crate) fn add_tier(&mut self, regions: &Regions, number: u32, parts: Parts) {
        let len = regions.parts_len(number);
        let ends = &mut self.ends;
        ends.live = ends.live.max(parts.live + len.live);
        self.mark(parts.live, parts.live + len.live, Holds::Slots);
        if parts.copies != 0 {
            let ends = &mut self.ends;
            ends.copies = ends.copies.max(parts.copies + len.copies);
            self.mark(parts.copies, parts.copies + len.copies, Holds::Copies);
        }
        let ends = &mut self.ends;
        ends.runs = ends.runs.max(ends.live.max(ends.copies).next_multiple_of(RUN));
    }

    fn runs_of(from: u64, to: u64) -> std::ops::Range<usize> {
        (from / RUN) as usize..((to - 1) / RUN) as usize + 1
    }

    fn mark(&mut self, from: u64, to: u64, holds: Holds) {
        let runs = Self::runs_of(from, to);
        if self.runs.len() < runs.end {
            self.runs.resize(runs.end, Holds::Nothing);
        }
        self.runs[runs].fill(holds);
    }

    /// Whether everything that is taken lies before these ends; otherwise, what is wrong.
    pub(crate) fn check_ends(&self, ends: &Ends) -> Result<(), String> {
        if planted!(TheEndsAreBelieved) {
            return Ok(());
        }
        let least = &self.ends;
        for (what, end, least) in [
            ("the last run", ends.runs, least.runs),
            ("the last slot", ends.live, least.live),
            ("the last copy", ends.copies, least.copies),
            ("the numbers of the segments", ends.segments, least.segments),
            ("the count of definitions", ends.defined, least.defined),
        ] {
            if end < least {
                return Err(format!("the end of {what} is {end}, but {least} is taken"));
            }
        }
        if self.shares_segment(ends)
            && (ends.small < least.small || ends.small_copies != least.small_copies)
        {
            return Err(format!(
                "the segment of small slots is filled to {} at {}, but {} at {} is taken",
                ends.small, ends.small_copies, least.small, least.small_copies
            ));
        }
        Ok(())
    }

    /// Whether the segment that is being filled is that of the last small slot. If not, the process
    /// that began it has died, or a bit has flipped. Nothing is known of such a segment, so it is
    /// left alone.
    pub(crate) fn shares_segment(&self, ends: &Ends) -> bool {
        let segment = |small: u64| small.checked_sub(1).map(|used| used / SMALL_SEGMENT);
        segment(ends.small) == segment(self.ends.small)
    }

    fn is_part_free(&self, from: u64, len: u64, holds: Holds) -> bool {
        let runs = Self::runs_of(from, from + len);
        let known = &self.runs[runs.start.min(self.runs.len())..runs.end.min(self.runs.len())];
        known.iter().all(|run| *run == holds || *run == Holds::Nothing)
    }

    /// Whether the space for this new slot is free. Its ends have been checked.
    pub(crate) fn is_free(&self, outline: &Outline) -> bool {
        self.is_part_free(outline.live, outline.live_len(), Holds::Slots)
            && checkpoint::copies_of(outline).is_none_or(|(from, len, _)| {
                from.is_multiple_of(PAGE) && self.is_part_free(from, len, Holds::Copies)
            })
    }

    /// The same of a new tier.
    pub(crate) fn is_tier_free(&self, regions: &Regions, number: u32, parts: Parts) -> bool {
        let len = regions.parts_len(number);
        self.is_part_free(parts.live, len.live, Holds::Slots)
            && (parts.copies == 0 || self.is_part_free(parts.copies, len.copies, Holds::Copies))
    }
}
