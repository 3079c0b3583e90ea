//! The file of the model: which page holds what.
//!
//! Four slots make a segment: two small ones that share a unit, and two large ones. A
//! segment is what the file grows by.

use std::ops::Range;

/// A page of 4 KiB, as few words as are needed.
pub(crate) type Page = [u64; 12];

pub(crate) const EMPTY: Page = [0; 12];

/// The live header: how many slots, the acknowledged epoch, the identity.
pub(crate) const HEADER: usize = 0;
pub(crate) const MARK: usize = 1;
const FIRST_RECORD: usize = 2;
const FIRST_SEGMENT: usize = 6;

pub(crate) const SLOTS: usize = 16;
pub(crate) const SLOTS_A_SEGMENT: usize = 4;
pub(crate) const SEGMENTS: usize = SLOTS / SLOTS_A_SEGMENT;
const SEGMENT: usize = 23;
pub(crate) const PAGES: usize = FIRST_SEGMENT + SEGMENTS * SEGMENT;

/// The two pages of a commit record.
pub(crate) fn record(number: usize) -> [usize; 2] {
    let first = FIRST_RECORD + 2 * number;
    [first, first + 1]
}

/// How many segments the file must have for this page to be in it.
pub(crate) fn segments_for(page: usize) -> usize {
    if page < FIRST_SEGMENT { 0 } else { (page - FIRST_SEGMENT) / SEGMENT + 1 }
}

/// Page `offset` of a segment.
fn at(segment: usize, offset: usize) -> usize {
    FIRST_SEGMENT + segment * SEGMENT + offset
}

/// The page of the directory that describes a segment's slots.
pub(crate) fn directory(segment: usize) -> usize {
    at(segment, 0)
}

/// The two pages of a live slot.
pub(crate) fn live(slot: usize) -> [usize; 2] {
    let first = at(slot / SLOTS_A_SEGMENT, 1 + 2 * (slot % SLOTS_A_SEGMENT));
    [first, first + 1]
}

/// Whether a page belongs to the checkpoint.
pub(crate) fn is_checkpoint(page: usize) -> bool {
    match page {
        HEADER => false,
        MARK..FIRST_SEGMENT => true,
        _ => (page - FIRST_SEGMENT) % SEGMENT >= 9,
    }
}

/// What is checkpointed as a whole, in one of two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    segment: usize,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Directory,
    /// The first two slots, in one page.
    Small,
    /// The third or the fourth slot: a page for the head, a page for the data.
    Large(usize),
}

pub(crate) const UNITS: usize = 4 * SEGMENTS;

impl Unit {
    pub(crate) fn new(segment: usize, part: Part) -> Unit {
        Unit { segment, part }
    }

    /// The units of a store with so many slots.
    pub(crate) fn all(count: usize) -> impl Iterator<Item = Unit> {
        (0..count.div_ceil(SLOTS_A_SEGMENT))
            .flat_map(|segment| {
                [Part::Directory, Part::Small, Part::Large(2), Part::Large(3)]
                    .map(|part| Unit { segment, part })
            })
            .filter(move |unit| unit.slots().start < count)
    }

    pub(crate) fn number(self) -> usize {
        let part = match self.part {
            Part::Directory => 0,
            Part::Small => 1,
            Part::Large(slot) => slot,
        };
        4 * self.segment + part
    }

    pub(crate) fn part(self) -> Part {
        self.part
    }

    pub(crate) fn segment(self) -> usize {
        self.segment
    }

    /// The slots in it, or that it describes.
    pub(crate) fn slots(self) -> Range<usize> {
        let first = self.segment * SLOTS_A_SEGMENT;
        match self.part {
            Part::Directory => first..first + SLOTS_A_SEGMENT,
            Part::Small => first..first + 2,
            Part::Large(slot) => first + slot..first + slot + 1,
        }
    }

    /// The first page of a copy: 0 or 1.
    pub(crate) fn copy(self, which: usize) -> usize {
        match self.part {
            Part::Small => at(self.segment, 9 + which),
            Part::Large(slot) => at(self.segment, 11 + 4 * (slot - 2) + 2 * which),
            Part::Directory => at(self.segment, 19 + 2 * which),
        }
    }
}

#[test]
fn no_page_is_of_two() {
    let mut owners = [0; PAGES];
    let mut own = |page: usize| owners[page] += 1;
    own(HEADER);
    own(MARK);
    (0..2).flat_map(record).for_each(&mut own);
    (0..SEGMENTS).map(directory).for_each(&mut own);
    (0..SLOTS).flat_map(live).for_each(&mut own);
    for unit in Unit::all(SLOTS) {
        for which in 0..2 {
            own(unit.copy(which));
            if unit.part() != Part::Small {
                own(unit.copy(which) + 1);
            }
        }
    }
    assert!(owners.iter().all(|n| *n == 1), "{owners:?}");
    assert_eq!(Unit::all(SLOTS).count(), UNITS);
}
