//! A store in use: its live slots, those who update them, and what may go wrong.

use crate::checkpoint::{Entry, hash};
use crate::disk::Disk;
use crate::layout::{
    EMPTY, HEADER, Page, SLOTS, SLOTS_A_SEGMENT, directory, is_checkpoint, live, segments_for,
};
use crate::mutant::Mutant;

/// How a sync or a restore ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The process is killed.
    Kill,
    /// The power fails.
    Cut,
    /// A system call fails.
    Error,
}

/// What a slot should be; whoever updates the store keeps this beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) name: u64,
    /// Tells two slots that had one name after the other.
    pub(crate) id: u64,
    pub(crate) value: u64,
    pub(crate) removed: bool,
}

/// What people see: name, id and value of each slot that is not removed.
pub(crate) type State = Vec<(u64, u64, u64)>;

/// The words of the live header.
pub(crate) mod header {
    pub(crate) const COUNT: usize = 0;
    pub(crate) const ACKED: usize = 1;
    pub(crate) const BOOT: usize = 2;
    pub(crate) const FILE: usize = 3;
}

/// A page that a stopped process still has to write.
pub(crate) type Late = (usize, Page);

pub(crate) struct Machine {
    pub(crate) disk: Disk,
    pub(crate) random: fastrand::Rng,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) boot: u64,
    pub(crate) file: u64,
    pub(crate) slots: Vec<Slot>,
    /// The step at which the operation is interrupted, counted down; and by what.
    pub(crate) stop_in: Option<(u32, Stop)>,
    /// The flush that fails, counted down.
    pub(crate) fail_flush_in: Option<u32>,
    /// Whether others update slots meanwhile.
    pub(crate) busy: bool,
    pub(crate) late: Vec<Late>,
    /// Nothing happens by chance.
    pub(crate) scripted: bool,
    /// The power fails in the next flush.
    pub(crate) cut_in_flush: bool,
    next_id: u64,
}

impl Machine {
    /// A new, empty store, on disk.
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>) -> Machine {
        let mut disk = Disk::new();
        let record = crate::checkpoint::Record::empty();
        for (page, content) in record.pages(0) {
            disk.write(page, content);
        }
        let mut head = EMPTY;
        (head[header::ACKED], head[header::BOOT], head[header::FILE]) = (record.epoch, 1, 1);
        disk.write(HEADER, head);
        disk.flush(&disk.all_pages(), true);
        Machine {
            disk,
            random: fastrand::Rng::with_seed(seed),
            mutant,
            boot: 1,
            file: 1,
            slots: Vec::new(),
            stop_in: None,
            fail_flush_in: None,
            busy: false,
            late: Vec::new(),
            scripted: false,
            cut_in_flush: false,
            next_id: 1,
        }
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(crate) fn header(&self, word: usize) -> u64 {
        self.disk.read(HEADER)[word]
    }

    pub(crate) fn set_header(&mut self, words: &[(usize, u64)]) {
        let mut page = self.disk.read(HEADER);
        for (word, value) in words {
            page[*word] = *value;
        }
        self.disk.write(HEADER, page);
    }

    /// Between any two actions of a sync or a restore: others go on, the kernel writes
    /// pages back, and what is to go wrong here goes wrong.
    pub(crate) fn step(&mut self) -> Result<(), Stop> {
        if self.scripted {
            return Ok(());
        }
        if !self.late.is_empty() && self.random.u8(0..40) == 0 {
            for (page, content) in std::mem::take(&mut self.late) {
                self.disk.write(page, content);
            }
        }
        if self.random.u8(0..3) == 0 {
            self.disk.write_back_one(&mut self.random);
        }
        if self.busy && self.random.u8(0..3) == 0 {
            self.update();
        }
        if let Some((steps, stop)) = &mut self.stop_in {
            *steps = steps.saturating_sub(1);
            if *steps == 0 {
                let stop = *stop;
                self.stop_in = None;
                return Err(stop);
            }
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self, pages: &[usize]) -> Result<(), Stop> {
        self.step()?;
        if self.cut_in_flush {
            return Err(Stop::Cut);
        }
        if self.flush_fails() {
            self.disk.fail_to_flush(pages, &mut self.random);
            return Err(Stop::Error);
        }
        self.disk.flush(pages, !self.is(Mutant::NoSize));
        self.step()
    }

    /// Has these pages in the disk's own cache: no lasting place, but if it fails they are
    /// dropped all the same.
    pub(crate) fn write_out(&mut self, pages: &[usize]) -> Result<(), Stop> {
        self.step()?;
        if self.flush_fails() {
            self.disk.fail_to_flush(pages, &mut self.random);
            return Err(Stop::Error);
        }
        self.step()
    }

    fn flush_fails(&mut self) -> bool {
        let Some(flushes) = &mut self.fail_flush_in else { return false };
        *flushes = flushes.saturating_sub(1);
        let fails = *flushes == 0;
        if fails {
            self.fail_flush_in = None;
        }
        fails
    }

    pub(crate) fn cut_power(&mut self) {
        self.disk.cut(&mut self.random);
        self.restarted();
    }

    pub(crate) fn restarted(&mut self) {
        self.boot += 1;
        self.busy = false;
        self.late.clear();
    }

    pub(crate) fn evict(&mut self) {
        self.disk.evict(is_checkpoint, &mut self.random);
    }

    pub(crate) fn define(&mut self, name: u64, value: u64) {
        let number = self.slots.len();
        if number == SLOTS || self.slots.iter().any(|slot| !slot.removed && slot.name == name) {
            return;
        }
        let segment = number / SLOTS_A_SEGMENT;
        self.disk.grow(segment + 1);
        let id = self.next_id;
        self.next_id += 1;
        self.write_live(number, Entry { version: 1, removed: false, value });
        let mut lines = self.disk.read(directory(segment));
        put_line(&mut lines, number, name, id);
        self.disk.write(directory(segment), lines);
        self.set_header(&[(header::COUNT, number as u64 + 1)]);
        self.slots.push(Slot { name, id, value, removed: false });
    }

    pub(crate) fn remove(&mut self, number: usize) {
        if !self.slots[number].removed {
            let entry = self.live_entry(number);
            self.write_live(number, Entry { version: entry.version + 1, removed: true, ..entry });
            self.slots[number].removed = true;
        }
    }

    pub(crate) fn set(&mut self, number: usize, value: u64) {
        if !self.slots[number].removed {
            let version = self.live_entry(number).version + 1;
            self.write_live(number, Entry { version, removed: false, value });
            self.slots[number].value = value;
        }
    }

    /// One slot gets a value of a few, so that one that was there before returns often.
    pub(crate) fn update(&mut self) {
        if !self.slots.is_empty() {
            let (number, value) = (self.random.usize(0..self.slots.len()), self.random.u64(0..3));
            self.set(number, value);
        }
    }

    /// Several slots get one value, at once.
    pub(crate) fn transaction(&mut self) {
        let value = self.random.u64(0..3);
        for number in 0..self.slots.len() {
            if self.random.bool() {
                self.set(number, value);
            }
        }
    }

    pub(crate) fn live_entry(&self, number: usize) -> Entry {
        let page = self.disk.read(live(number)[0]);
        Entry { version: page[0], removed: page[1] == 1, value: page[2] }
    }

    /// The two pages of a live slot, in any order: nothing says which the kernel writes
    /// back first.
    pub(crate) fn write_live(&mut self, number: usize, entry: Entry) {
        let mut head = EMPTY;
        (head[0], head[1], head[2]) = (entry.version, entry.removed.into(), entry.value);
        let mut writes = [(live(number)[0], head), (live(number)[1], [entry.value; 12])];
        if self.random.bool() {
            writes.reverse();
        }
        for (page, content) in writes {
            self.disk.write(page, content);
        }
    }

    /// What the live area says, if it is sound.
    pub(crate) fn read_live(&self) -> Result<Vec<Slot>, String> {
        (0..self.header(header::COUNT) as usize)
            .map(|number| {
                if segments_for(live(number)[0]) > self.disk.segments() {
                    return Err(format!("slot {number} is beyond the file's end"));
                }
                let lines = self.disk.read(directory(number / SLOTS_A_SEGMENT));
                let (name, id) =
                    line(&lines, number).ok_or(format!("descriptor {number} is damaged"))?;
                let entry = self.live_entry(number);
                if self.disk.read(live(number)[1]) != [entry.value; 12] {
                    return Err(format!("slot {number} is torn"));
                }
                Ok(Slot { name, id, value: entry.value, removed: entry.removed })
            })
            .collect()
    }

    pub(crate) fn state(&self) -> State {
        state_of(&self.slots)
    }
}

pub(crate) fn state_of(slots: &[Slot]) -> State {
    let there = slots.iter().filter(|slot| !slot.removed);
    let mut state: State = there.map(|slot| (slot.name, slot.id, slot.value)).collect();
    state.sort_unstable();
    state
}

fn put_line(lines: &mut Page, number: usize, name: u64, id: u64) {
    let at = 3 * (number % SLOTS_A_SEGMENT);
    (lines[at], lines[at + 1]) = (name, id);
    lines[at + 2] = hash(&[name, id, number as u64]);
}

fn line(lines: &Page, number: usize) -> Option<(u64, u64)> {
    let at = 3 * (number % SLOTS_A_SEGMENT);
    let (name, id) = (lines[at], lines[at + 1]);
    (lines[at + 2] == hash(&[name, id, number as u64])).then_some((name, id))
}
