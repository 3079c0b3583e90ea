//! What a checkpoint is on disk, in the model: copies of units, and the record that says
//! which belong together.

use crate::disk::Disk;
use crate::layout::{EMPTY, MARK, Page, Part, SLOTS, UNITS, Unit, record};

/// Stands for a CRC. Never 0, so that an empty page is not a right one.
pub(crate) fn hash(words: &[u64]) -> u64 {
    words.iter().fold(0x1234, |sum, word| {
        let mut x = sum ^ word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }) | 1
}

/// What is checkpointed of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) removed: bool,
    pub(crate) value: u64,
}

/// One copy of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) unit: Unit,
    pub(crate) epoch: u64,
    pub(crate) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Of the one or two slots of a small unit.
    Small(Vec<Entry>),
    Large(Entry),
    /// So many descriptors.
    Directory(usize, Page),
}

impl Copy {
    /// The pages of this copy as number `which` of its unit.
    pub(crate) fn pages(&self, which: usize) -> Vec<(usize, Page)> {
        let first = self.unit.copy(which);
        let (head, data) = self.encode();
        let data = data.map(|data| (first + 1, data));
        [(first, head)].into_iter().chain(data).collect()
    }

    /// What it adds to a record's sum.
    pub(crate) fn share(&self) -> u64 {
        hash(&[self.unit.number() as u64, self.epoch, self.encode().0[3]])
    }

    fn encode(&self) -> (Page, Option<Page>) {
        let mut head = EMPTY;
        (head[0], head[1]) = (self.unit.number() as u64, self.epoch);
        let put = |words: &mut [u64], entry: &Entry| {
            (words[0], words[1], words[2]) = (entry.version, entry.removed.into(), entry.value);
        };
        let data = match &self.content {
            Content::Small(entries) => {
                head[2] = entries.len() as u64;
                for (i, entry) in entries.iter().enumerate() {
                    put(&mut head[4 + 3 * i..], entry);
                }
                None
            }
            Content::Large(entry) => {
                put(&mut head[4..], entry);
                Some([entry.value; 12])
            }
            Content::Directory(count, page) => {
                head[2] = *count as u64;
                Some(*page)
            }
        };
        head[3] = hash(&[&head[..], data.as_ref().map_or(&[][..], |d| d)].concat());
        (head, data)
    }

    /// Copy number `which`, if it is right.
    pub(crate) fn read(disk: &Disk, unit: Unit, which: usize) -> Option<Copy> {
        let first = unit.copy(which);
        let head = disk.read(first);
        let entry =
            |words: &[u64]| Entry { version: words[0], removed: words[1] == 1, value: words[2] };
        let content = match unit.part() {
            Part::Small => {
                let count = head[2].min(2) as usize;
                Content::Small((0..count).map(|i| entry(&head[4 + 3 * i..])).collect())
            }
            Part::Large(_) => Content::Large(entry(&head[4..])),
            Part::Directory => Content::Directory(head[2] as usize, disk.read(first + 1)),
        };
        let copy = Copy { unit, epoch: head[1], content };
        // Written again it must be the same, the CRC included.
        let same = copy.pages(which).iter().all(|(page, content)| disk.read(*page) == *content);
        same.then_some(copy)
    }

    /// What it holds of a slot of its unit.
    pub(crate) fn entry(&self, slot: usize) -> Option<Entry> {
        match &self.content {
            Content::Small(entries) => entries.get(slot - self.unit.slots().start).copied(),
            Content::Large(entry) => Some(*entry),
            Content::Directory(..) => None,
        }
    }
}

/// For each unit the copy in use, by [`Unit::number`].
pub(crate) type Choices = [Option<usize>; UNITS];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) epoch: u64,
    /// How many slots.
    pub(crate) count: usize,
    pub(crate) choices: Choices,
    pub(crate) sum: u64,
}

impl Record {
    pub(crate) fn empty() -> Record {
        Record { epoch: 1, count: 0, choices: [None; UNITS], sum: 0 }
    }

    pub(crate) fn pages(&self, number: usize) -> [(usize, Page); 2] {
        let [head_at, choices_at] = record(number);
        let (mut head, mut choices) = (EMPTY, EMPTY);
        (head[0], head[1], head[2]) = (self.epoch, self.count as u64, self.sum);
        choices[0] = self
            .choices
            .iter()
            .rev()
            .fold(0, |bits, choice| bits << 2 | choice.map_or(0, |which| which as u64 + 1));
        head[3] = hash(&[head, choices].concat());
        [(head_at, head), (choices_at, choices)]
    }

    /// Record number 0 or 1, if its CRC is right.
    pub(crate) fn read(disk: &Disk, number: usize) -> Option<Record> {
        let [head, bits] = record(number).map(|page| disk.read(page));
        let choice =
            |unit: usize| [None, Some(0), Some(1), None][(bits[0] >> (2 * unit) & 3) as usize];
        let read = Record {
            epoch: head[0],
            count: (head[1] as usize).min(SLOTS),
            choices: std::array::from_fn(choice),
            sum: head[2],
        };
        let same = read.pages(number).iter().all(|(page, content)| disk.read(*page) == *content);
        same.then_some(read)
    }

    /// The copy that it names of a unit, if that is right.
    pub(crate) fn copy(&self, disk: &Disk, unit: Unit) -> Option<Copy> {
        Copy::read(disk, unit, self.choices[unit.number()]?)
    }

    /// Whether record number 0 or 1 was never written, or erased.
    pub(crate) fn is_erased(disk: &Disk, number: usize) -> bool {
        disk.read(record(number)[0]) == EMPTY
    }

    /// Both records, as far as they are right, with their numbers, the newest first.
    pub(crate) fn read_both(disk: &Disk) -> Vec<(usize, Record)> {
        let mut found: Vec<_> =
            (0..2).filter_map(|number| Some((number, Record::read(disk, number)?))).collect();
        found.sort_by_key(|(_, record)| std::cmp::Reverse(record.epoch));
        found
    }
}

pub(crate) fn mark_page(epoch: u64) -> (usize, Page) {
    let mut page = EMPTY;
    (page[0], page[1]) = (epoch, hash(&[epoch]));
    (MARK, page)
}

/// What is in the mark's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Absent,
    Of(u64),
    Damaged,
}

pub(crate) fn read_mark(disk: &Disk) -> Mark {
    match disk.read(MARK) {
        EMPTY => Mark::Absent,
        page if page == mark_page(page[0]).1 => Mark::Of(page[0]),
        _ => Mark::Damaged,
    }
}
