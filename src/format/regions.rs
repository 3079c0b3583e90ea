//! Where the regions of the file are, and which parts of them have blocks.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::format::layout::{
    GRANULE, LINE, LIVE_HEADER, PAGE, RUN, TABLE, TABLE_ENTRIES, TABLE_ENTRY_LEN,
};

/// Where the regions are. They follow from the version, `max_slots` and `max_size`; the header
/// holds them for tools that do not want to compute them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Regions {
    pub(crate) live_header: u64,
    pub(crate) table: u64,
    pub(crate) table_entries: u64,
    pub(crate) index: u64,
    /// In 1.0, a power of two.
    pub(crate) index_entries: u64,
    pub(crate) directory: u64,
    pub(crate) directory_lines: u64,
    /// The mark's page.
    pub(crate) mark: u64,
    /// The first commit record; the second follows.
    pub(crate) records: u64,
    pub(crate) record_len: u64,
    /// Both copies of each directory page, side by side.
    pub(crate) directory_copies: u64,
    /// The first run.
    pub(crate) runs: u64,
    /// Lines of the first tier; 0 in 1.0: there is only one tier.
    pub(crate) first_tier: u64,
}

/// Where the index is.
const INDEX: u64 = TABLE + TABLE_ENTRIES as u64 * TABLE_ENTRY_LEN;
const _: () = assert!(INDEX.is_multiple_of(GRANULE));

/// Lines reserved for each slot, on average.
pub(crate) const LINES_PER_SLOT: u64 = 2;
/// Lines of the first tier, from 1.1 on.
const FIRST_TIER: u64 = 512;

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
        let directory_lines = max_slots * LINES_PER_SLOT;
        let (first_tier, index_entries) = match minor {
            0 => (0, (2 * max_slots).next_power_of_two()),
            // Each tier, and so all of them, has twice as many words as lines.
            _ => (FIRST_TIER, 2 * directory_lines.next_power_of_two().max(FIRST_TIER)),
        };
        let directory = INDEX + (index_entries * 8).next_multiple_of(GRANULE);
        let directory_len = (directory_lines * LINE as u64).next_multiple_of(GRANULE);
        let mark = (directory + directory_len).next_multiple_of(RUN);
        let records = mark + GRANULE;
        // Two bits for each page of the directory and for each possible segment. A segment's two
        // copies alone take two pages.
        let choices = (directory_len / PAGE + max_size / (2 * PAGE)).div_ceil(4);
        let record_len = (64 + choices).next_multiple_of(GRANULE);
        let directory_copies = records + 2 * record_len;
        // A copy of a page takes that page and one for its head.
        let runs = (directory_copies + 4 * directory_len).next_multiple_of(RUN);
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

    /// Whether there is only one tier, all of whose index has blocks, and blocks are allocated only
    /// by granules: a store of 1.0.
    fn is_by_granules(&self) -> bool {
        self.first_tier == 0
    }

    /// The tier with this line. A tier is a part of the directory with an index of its own. Each
    /// has as many lines as all before it.
    pub(crate) fn tier_of(&self, line: u64) -> u32 {
        match self.first_tier {
            0 => 0,
            first => (line / first).checked_ilog2().map_or(0, |log| log + 1),
        }
    }

    /// How many tiers hold this many lines: at least one.
    pub(crate) fn tiers(&self, lines: u64) -> u32 {
        self.tier_of(lines.saturating_sub(1)) + 1
    }

    /// The words of a tier's index, whose number is a power of two.
    pub(crate) fn index_of(&self, tier: u32) -> Range<u64> {
        let end = self.index_end(tier + 1);
        if tier == 0 { 0..end } else { end / 2..end }
    }

    /// How many words the indexes of this many tiers have: two for each line.
    fn index_end(&self, tiers: u32) -> u64 {
        if self.is_by_granules() { self.index_entries } else { self.first_tier << tiers }
    }

    /// Both headers, with all else that has blocks before the process table.
    pub(crate) fn headers(&self) -> Vec<(u64, u64)> {
        if self.is_by_granules() {
            return vec![(0, self.table)];
        }
        vec![(0, PAGE), (self.live_header, self.live_header + PAGE)]
    }

    /// The parts of the process table, of the index and of the directory that have blocks in a
    /// store with this many lines and entries of the table.
    pub(crate) fn structure(&self, lines: u64, entries: u16) -> Vec<(u64, u64)> {
        let directory_end = self.directory + self.directory_blocks(lines).0;
        if self.is_by_granules() {
            return vec![(self.table, directory_end)];
        }
        let table_end = self.table + u64::from(entries) * TABLE_ENTRY_LEN;
        let index_end = self.index + 8 * self.index_end(self.tiers(lines));
        vec![(self.table, table_end), (self.index, index_end), (self.directory, directory_end)]
    }

    /// How many bytes of the directory have blocks when this many lines are in use, and how many of
    /// its copies.
    pub(crate) fn directory_blocks(&self, lines: u64) -> (u64, u64) {
        let len = (lines * LINE as u64).max(1);
        if len <= GRANULE && !self.is_by_granules() {
            let len = len.next_multiple_of(PAGE);
            return (len, 4 * len);
        }
        let copies = (4 * len.max(GRANULE)).next_multiple_of(GRANULE);
        (len.next_multiple_of(GRANULE), copies)
    }

    /// Bytes of a commit record that have blocks in a new store.
    pub(crate) fn record_blocks(&self) -> u64 {
        if self.is_by_granules() { GRANULE } else { PAGE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_hold_all_lines_and_their_indexes_all_words() {
        for max_slots in [1, 256, 257, 65_536, MOST_SLOTS] {
            let regions = Regions::new(1, max_slots, MOST_SIZE).unwrap();
            let (mut lines, mut words) = (0, 0);
            for tier in 0..regions.tiers(regions.directory_lines) {
                let index = regions.index_of(tier);
                assert!(index.start == words && (index.end - index.start).is_power_of_two());
                let end = lines + (index.end - index.start) / 2;
                assert!(lines == 0 || end == 2 * lines);
                assert_eq!([lines, end - 1].map(|line| regions.tier_of(line)), [tier, tier]);
                assert_eq!([lines + 1, end].map(|lines| regions.tiers(lines)), [tier + 1; 2]);
                (lines, words) = (end, index.end);
            }
            assert!(regions.directory_lines <= lines);
            assert_eq!(words, regions.index_entries);
            let old = Regions::new(0, max_slots, MOST_SIZE).unwrap();
            assert_eq!(old.tiers(old.directory_lines), 1);
            assert_eq!(old.index_of(0), 0..old.index_entries);
        }
    }
}
