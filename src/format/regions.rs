//! Where the regions of the file are.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::format::layout::{
    GRANULE, LINE, LIVE_HEADER, PAGE, RUN, TABLE, TABLE_ENTRIES, TABLE_ENTRY_LEN,
};
use crate::format::tiers::{FIRST_TIER, MOST_TIERS};

/// Where the regions are. They follow from the version, `max_slots` and `max_size`; the header
/// holds them for tools that do not want to compute them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Regions {
    pub(crate) live_header: u64,
    pub(crate) table: u64,
    pub(crate) table_entries: u64,
    /// The first tier's index.
    pub(crate) index: u64,
    /// A power of two.
    pub(crate) index_entries: u64,
    /// The first tier's lines.
    pub(crate) directory: u64,
    /// Lines of all tiers.
    pub(crate) directory_lines: u64,
    /// The mark's page.
    pub(crate) mark: u64,
    /// The first commit record; the second follows.
    pub(crate) records: u64,
    pub(crate) record_len: u64,
    /// Both copies of each page of the first tier's lines, side by side.
    pub(crate) directory_copies: u64,
    /// The first run, or from 1.1 on, the first run behind the regions.
    pub(crate) runs: u64,
    /// Lines of the first tier; 0 in 1.0: there is only one tier.
    pub(crate) first_tier: u64,
    /// Where the first slot can be, in the run of the regions; 0 in 1.0: in the first run.
    first_slot: u64,
    /// Where the first copy of a slot can be, likewise.
    first_copy: u64,
    /// The segment marks; 0 in 1.0.
    pub(crate) marks: u64,
    /// The first lines of the segments; 0 in 1.0.
    pub(crate) first_lines: u64,
}

/// Where the first tier's index is.
const INDEX: u64 = TABLE + TABLE_ENTRIES as u64 * TABLE_ENTRY_LEN;
/// From 1.1 on, where the marks are, the lines of the first tier, the first lines of the segments, and
/// where slots begin.
const MARKS: u64 = INDEX + 4 * PAGE;
const DIRECTORY: u64 = INDEX + GRANULE;
const FIRST_LINES: u64 = DIRECTORY + GRANULE;
const FIRST_SLOT: u64 = FIRST_LINES + GRANULE;

/// How many segment marks there are, a bit each. Segment s has mark number s modulo this.
pub(crate) const SEGMENT_MARKS: u64 = 1 << 18;
/// How many segments have a first line, of 4 bytes each. Of the others, those who need it look at
/// the directory.
pub(crate) const MOST_FIRST_LINES: u64 = GRANULE / 4;

const _: () = assert!(INDEX.is_multiple_of(GRANULE) && FIRST_SLOT < RUN);
const _: () = assert!(FIRST_TIER * LINE as u64 == GRANULE);
const _: () = assert!(INDEX + 16 * FIRST_TIER <= MARKS && MARKS + SEGMENT_MARKS / 8 <= DIRECTORY);

/// Lines reserved for each slot, on average, in 1.0.
const LINES_PER_SLOT_BEFORE: u64 = 2;
/// The same from 1.1 on.
pub(crate) const LINES_PER_SLOT: u64 = 4;

/// The most slots that a store can have: line numbers must fit in 32 bits.
pub(crate) const MOST_SLOTS: u64 = 1 << 28;
/// The largest store: what a 47-bit address space can hold, with room to spare.
pub(crate) const MOST_SIZE: u64 = 1 << 45;

/// Entries of the process table in a page.
pub(crate) const ENTRIES_OF_PAGE: u16 = (PAGE / TABLE_ENTRY_LEN) as u16;

impl Regions {
    /// The regions of a store of this minor version and size; `None` if no store can have it.
    pub(crate) fn new(minor: u32, max_slots: u64, max_size: u64) -> Option<Regions> {
        if !(1..=MOST_SLOTS).contains(&max_slots) || max_size > MOST_SIZE {
            return None;
        }
        let per_slot = if minor == 0 { LINES_PER_SLOT_BEFORE } else { LINES_PER_SLOT };
        let directory_lines = max_slots * per_slot;
        let (index_entries, first_tier, directory, directory_len, pairs);
        if minor == 0 {
            index_entries = (2 * max_slots).next_power_of_two();
            first_tier = 0;
            directory = INDEX + (index_entries * 8).next_multiple_of(GRANULE);
            directory_len = (directory_lines * LINE as u64).next_multiple_of(GRANULE);
            pairs = 0;
        } else {
            (index_entries, first_tier) = (2 * FIRST_TIER, FIRST_TIER);
            (directory, directory_len) = (DIRECTORY, FIRST_TIER * LINE as u64);
            pairs = 16 * u64::from(MOST_TIERS);
        }
        let mark = (directory + directory_len).next_multiple_of(RUN);
        let records = mark + GRANULE;
        // Two bits for each page of the directory and for each possible segment. A segment's two
        // copies alone take two pages.
        let pages = (directory_lines * LINE as u64).next_multiple_of(GRANULE) / PAGE;
        let choices = (pages + max_size / (2 * PAGE)).div_ceil(4);
        let record_len = (64 + pairs + choices).next_multiple_of(GRANULE);
        let directory_copies = records + 2 * record_len;
        // A copy of a page takes that page and one for its head.
        let copies_end = directory_copies + 4 * directory_len;
        let runs = copies_end.next_multiple_of(RUN);
        let (first_slot, first_copy) = if minor == 0 { (0, 0) } else { (FIRST_SLOT, copies_end) };
        let (marks, first_lines) = if minor == 0 { (0, 0) } else { (MARKS, FIRST_LINES) };
        let table_entries = u64::from(TABLE_ENTRIES);
        (runs + RUN <= max_size).then_some(Regions {
            live_header: LIVE_HEADER,
            table: TABLE,
            table_entries,
            index: INDEX,
            index_entries,
            directory,
            directory_lines,
            mark,
            records,
            record_len,
            directory_copies,
            runs,
            first_tier,
            first_slot,
            first_copy,
            marks,
            first_lines,
        })
    }

    /// Why no store of this version can have this size, for display.
    pub(crate) fn why_not(minor: u32, max_slots: u64, max_size: u64) -> String {
        if max_slots == 0 {
            return "max_slots is 0: use at least 1".into();
        }
        if max_slots > MOST_SLOTS {
            return format!("max_slots {max_slots} is too large: at most {MOST_SLOTS}");
        }
        if max_size > MOST_SIZE {
            return format!("max_size {max_size} is too large: at most {} TiB", MOST_SIZE >> 40);
        }
        let fits = |mib: &u32| Regions::new(minor, max_slots, 1 << mib << 20).is_some();
        let least = (0..=25)
            .find(fits)
            .map_or("more".into(), |mib| format!("at least {} MiB", 1u64 << mib));
        format!("max_size {max_size} is too small for max_slots {max_slots}: use {least}")
    }

    /// Whether blocks are allocated only by granules, and there is only one tier: in 1.0.
    pub(super) fn is_by_granules(&self) -> bool {
        self.first_tier == 0
    }

    /// Where the end of the last slot is in a new store; 0 in 1.0.
    pub(crate) fn first_ends(&self) -> (u64, u64) {
        (self.first_slot, self.first_copy)
    }

    /// Whether slots, or the live part of a tier, can be here.
    #[inline]
    pub(crate) fn may_hold_slots(&self, part: Range<u64>) -> bool {
        part.start >= self.runs
            || self.first_slot != 0 && part.start >= self.first_slot && part.end <= self.mark
    }

    /// Whether copies can begin here.
    #[inline]
    pub(crate) fn may_hold_copies(&self, at: u64) -> bool {
        at >= self.runs || self.first_copy != 0 && at >= self.first_copy
    }

    /// Both headers, with all else that has blocks before the process table.
    pub(crate) fn headers(&self) -> Vec<(u64, u64)> {
        if self.is_by_granules() {
            return vec![(0, self.table)];
        }
        vec![(0, PAGE), (self.live_header, self.live_header + PAGE)]
    }

    /// The parts of the process table, of the first tier and of the segments' regions that have blocks
    /// in a store with this many lines, entries of the table, and segments (`None`: without
    /// checkpoints), in ascending order.
    pub(crate) fn structure(
        &self,
        lines: u64,
        entries: u16,
        segments: Option<u64>,
    ) -> Vec<(u64, u64)> {
        let directory_end = self.directory + self.directory_blocks(lines).0;
        if self.is_by_granules() {
            return vec![(self.table, directory_end)];
        }
        let table_end = self.table + u64::from(entries) * TABLE_ENTRY_LEN;
        let index_end = self.index + 8 * self.index_entries;
        let mut parts =
            vec![(self.table, table_end), (self.index, index_end), (self.directory, directory_end)];
        if let Some(segments) = segments {
            let (marks, first_lines) = self.segment_blocks(segments);
            parts.insert(2, (self.marks, self.marks + marks));
            parts.push((self.first_lines, self.first_lines + first_lines));
        }
        parts
    }

    /// How many bytes of the marks have blocks when this many segments are given out, and how many of
    /// the first lines. None in 1.0.
    pub(crate) fn segment_blocks(&self, segments: u64) -> (u64, u64) {
        if self.is_by_granules() {
            return (0, 0);
        }
        let pages = |bytes: u64| bytes.max(1).next_multiple_of(PAGE);
        (pages(segments.min(SEGMENT_MARKS).div_ceil(8)), pages(4 * segments.min(MOST_FIRST_LINES)))
    }

    /// Where what [`Regions::structure`] lists ends at the latest.
    pub(crate) fn structure_end(&self) -> u64 {
        if self.is_by_granules() { self.mark } else { self.first_slot }
    }

    /// How many bytes of the first tier's lines have blocks when this many lines of the directory
    /// are in use, and how many of their copies.
    pub(crate) fn directory_blocks(&self, lines: u64) -> (u64, u64) {
        if self.is_by_granules() {
            let len = (lines * LINE as u64).max(1);
            let copies = (4 * len.max(GRANULE)).next_multiple_of(GRANULE);
            return (len.next_multiple_of(GRANULE), copies);
        }
        let len = (lines.min(self.first_tier) * LINE as u64).max(1).next_multiple_of(PAGE);
        (len, 4 * len)
    }

    /// Bytes of a commit record that have blocks in a new store.
    pub(crate) fn record_blocks(&self) -> u64 {
        if self.is_by_granules() { GRANULE } else { PAGE }
    }

    /// What has blocks in an empty store. The file is at least as long as the last of it.
    pub(crate) fn new_store(&self, checkpoint: bool) -> Vec<(u64, u64)> {
        let mut parts = self.headers();
        parts.extend(self.structure(0, ENTRIES_OF_PAGE, checkpoint.then_some(0)));
        if checkpoint {
            let (record, room, copies) =
                (self.records, self.record_blocks(), self.directory_copies);
            parts.push((self.mark, self.mark + PAGE));
            parts.extend([record, record + self.record_len].map(|at| (at, at + room)));
            parts.push((copies, copies + self.directory_blocks(0).1));
        }
        parts
    }

    /// How long a store's file is at least.
    pub(crate) fn least_len(&self, checkpoint: bool) -> u64 {
        match self.is_by_granules() {
            true => self.runs,
            false => self.new_store(checkpoint).last().map_or(0, |(_, end)| *end),
        }
    }
}
