//! The sync, as the design has it: the copies that are not in use, then the record that is
//! not, then one flush.

use crate::checkpoint::{Content, Copy, Record, mark_page};
use crate::layout::{EMPTY, Page, Part, SLOTS_A_SEGMENT, Unit, directory};
use crate::machine::{Machine, State, Stop, header};
use crate::mutant::Mutant;

/// A sync that did not reach its end, and the state that it was to save, once it had one.
pub(crate) struct Failed {
    pub(crate) stop: Stop,
    pub(crate) in_flight: Option<State>,
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Failed {
        Failed { stop, in_flight: None }
    }
}

impl Machine {
    /// Syncs; returns what is saved by it.
    pub(crate) fn sync(&mut self) -> Result<State, Failed> {
        let (base_number, base) = self.base()?;
        // The cut: how it comes about while others write is another matter, here it is
        // the state of one instant.
        let in_flight = self.state();
        let failed = |stop| Failed { stop, in_flight: Some(in_flight.clone()) };
        let epoch = base.epoch + 1;
        let (mut record, mut writes) =
            (Record { epoch, count: self.slots.len(), ..base.clone() }, Vec::new());
        record.sum = 0;
        for unit in Unit::all(record.count) {
            if self.is(Mutant::NoDirectory) && unit.part() == Part::Directory {
                continue;
            }
            let (which, copy, write) = self.next_copy(&base, unit, epoch);
            record.choices[unit.number()] = Some(which);
            record.sum = record.sum.wrapping_add(copy.share());
            if write {
                writes.extend(copy.pages(which));
            }
        }
        let number = match self.mutant {
            Some(Mutant::RecordByParity) => (epoch % 2) as usize,
            _ => 1 - base_number,
        };
        let record = record.pages(number);
        self.busy = true;
        let committed = self.commit(writes, record.to_vec());
        self.busy = false;
        committed.map_err(failed)?;
        self.set_header(&[(header::ACKED, epoch)]);
        Ok(in_flight)
    }

    /// The mark: not flushed, and after the acknowledgement.
    pub(crate) fn write_mark(&mut self, epoch: u64) {
        if !self.is(Mutant::NoMark) {
            let (page, content) = mark_page(epoch);
            self.disk.write(page, content);
        }
    }

    /// The record to build on: the acknowledged one.
    fn base(&mut self) -> Result<(usize, Record), Stop> {
        let mut found = Record::read_both(&self.disk);
        let acked = self.header(header::ACKED);
        let chosen = found.iter().position(|(_, record)| record.epoch == acked);
        match chosen {
            Some(chosen) if !self.is(Mutant::BuildsOnTheNewest) => Ok(found.swap_remove(chosen)),
            _ if found.is_empty() => Err(Stop::Error),
            _ => Ok(found.swap_remove(0)),
        }
    }

    /// The copy of a unit that the next record names, and whether it is to be written.
    fn next_copy(&mut self, base: &Record, unit: Unit, epoch: u64) -> (usize, Copy, bool) {
        let in_use = base.choices[unit.number()];
        let content = self.content(base, unit);
        let same = |which: usize| {
            Copy::read(&self.disk, unit, which).filter(|copy| is_clean(&copy.content, &content))
        };
        let clean = match in_use {
            // Of the copies that have the version, the first.
            Some(_) if self.is(Mutant::CleanByAnyCopy) => {
                (0..2).find_map(|which| Some((which, same(which)?)))
            }
            Some(which) => same(which).map(|copy| (which, copy)),
            None => None,
        };
        if let Some((which, copy)) = clean {
            return (which, copy, false);
        }
        let which = match in_use {
            _ if self.is(Mutant::CopyByParity) => (epoch % 2) as usize,
            Some(0) => 1,
            _ => 0,
        };
        (which, Copy { unit, epoch, content }, true)
    }

    /// What is to be saved of a unit.
    fn content(&self, base: &Record, unit: Unit) -> Content {
        let there = unit.slots().start..unit.slots().end.min(self.slots.len());
        match unit.part() {
            Part::Small => {
                let mut entries: Vec<_> = there.clone().map(|i| self.live_entry(i)).collect();
                if self.is(Mutant::StaleNeighbour) && entries.len() == 2 {
                    self.spoil_neighbour(base, unit, &mut entries);
                }
                Content::Small(entries)
            }
            Part::Large(_) => Content::Large(self.live_entry(there.start)),
            Part::Directory => {
                let (mut page, live): (Page, Page) =
                    (EMPTY, self.disk.read(directory(unit.segment())));
                let used = 3 * (there.len().min(SLOTS_A_SEGMENT));
                page[..used].copy_from_slice(&live[..used]);
                Content::Directory(there.len(), page)
            }
        }
    }

    /// The planted bug: of a small unit in which one slot has changed, the other one is
    /// what the copy to be overwritten says.
    fn spoil_neighbour(&self, base: &Record, unit: Unit, entries: &mut [crate::checkpoint::Entry]) {
        let Some(in_use) = base.choices[unit.number()] else { return };
        let (Some(now), Some(before)) =
            (Copy::read(&self.disk, unit, in_use), Copy::read(&self.disk, unit, 1 - in_use))
        else {
            return;
        };
        let first = unit.slots().start;
        let changed: Vec<bool> = (0..2).map(|i| now.entry(first + i) != Some(entries[i])).collect();
        for i in 0..2 {
            if !changed[i]
                && changed[1 - i]
                && let Some(old) = before.entry(first + i)
            {
                entries[i] = old;
            }
        }
    }

    /// Writes the copies, then the record, and flushes once. On the disk they arrive in any
    /// order: only the flush is a border.
    fn commit(
        &mut self,
        mut copies: Vec<(usize, Page)>,
        record: Vec<(usize, Page)>,
    ) -> Result<(), Stop> {
        self.random.shuffle(&mut copies);
        let pages: Vec<usize> = copies.iter().chain(&record).map(|(page, _)| *page).collect();
        let last_copy = copies.len();
        let writes = [copies, record].concat();
        for (done, (page, content)) in writes.iter().enumerate() {
            if done == last_copy {
                self.write_out(&pages[..last_copy])?;
            }
            let stop = self.step();
            if stop == Err(Stop::Kill) && self.is(Mutant::LockStolen) {
                self.late = writes[done..].to_vec();
            }
            stop?;
            self.disk.write(*page, *content);
        }
        if self.is(Mutant::NoFlush) {
            return Ok(());
        }
        match self.flush(&pages) {
            Err(Stop::Error) if self.is(Mutant::FlushAgain) => self.flush(&pages),
            result => result,
        }
    }
}

/// Whether a copy need not be written again: its slots have the versions of now.
fn is_clean(copy: &Content, now: &Content) -> bool {
    match (copy, now) {
        (Content::Small(copy), Content::Small(now)) => {
            copy.len() == now.len()
                && copy
                    .iter()
                    .zip(now)
                    .all(|(a, b)| (a.version, a.removed) == (b.version, b.removed))
        }
        (Content::Large(a), Content::Large(b)) => (a.version, a.removed) == (b.version, b.removed),
        (Content::Directory(a, _), Content::Directory(b, _)) => a == b,
        _ => false,
    }
}
