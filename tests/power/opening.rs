//! Opening: the live area is the truth within a boot, the checkpoint after it.

use crate::checkpoint::{Content, Copy, Mark, Record, read_mark};
use crate::layout::{Part, SLOTS_A_SEGMENT, Unit, directory};
use crate::machine::{Machine, Stop, header};
use crate::mutant::Mutant;

/// What opening did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    Resumed,
    Restored {
        newer_dropped: bool,
    },
    /// The store is damaged, and that is said.
    Refused(&'static str),
}

impl Machine {
    pub(crate) fn open(&mut self) -> Result<Opened, Stop> {
        self.busy = false;
        let now = [(header::BOOT, self.boot), (header::FILE, self.file)];
        if now.iter().all(|(word, value)| self.header(*word) == *value) {
            return Ok(Opened::Resumed);
        }
        if self.is(Mutant::IdentityFirst) {
            self.set_header(&now);
            self.step()?;
        }
        let records = Record::read_both(&self.disk);
        let is_read = |number| records.iter().any(|(read, _)| *read == number);
        let unreadable =
            (0..2).any(|number| !is_read(number) && !Record::is_erased(&self.disk, number));
        let newest = records.first().map(|(number, _)| *number);
        let Some((number, record)) = records.into_iter().find(|(_, record)| self.is_whole(record))
        else {
            return Ok(Opened::Refused("no record is whole"));
        };
        let newer_dropped = newest != Some(number) || unreadable;
        match read_mark(&self.disk) {
            Mark::Of(epoch) if epoch > record.epoch => {
                return Ok(Opened::Refused("a newer sync was acknowledged"));
            }
            Mark::Damaged if newer_dropped && !self.is(Mutant::DamagedMarkIsNone) => {
                return Ok(Opened::Refused(
                    "nobody can tell whether a newer sync was acknowledged",
                ));
            }
            _ => {}
        }
        let again = self.header(header::BOOT) == 0;
        self.set_header(&[(header::BOOT, 0), (header::FILE, 0)]);
        self.step()?;
        if again && !self.is(Mutant::RestoreTrustsTheCache) {
            self.write_again(number, &record)?;
        }
        self.restore(number, &record)?;
        self.set_header(&now);
        self.step()?;
        Ok(Opened::Restored { newer_dropped })
    }

    /// Whether a record's copies are all right, and those that it was made of.
    fn is_whole(&self, record: &Record) -> bool {
        let mut sum = 0u64;
        for unit in Unit::all(record.count) {
            if unit.part() == Part::Directory && self.is(Mutant::NoDirectory) {
                continue;
            }
            let Some(copy) = record.copy(&self.disk, unit) else { return false };
            sum = sum.wrapping_add(copy.share());
        }
        sum == record.sum || self.is(Mutant::NoSum)
    }

    /// An earlier attempt has failed, perhaps in its flush: then the kernel takes pages for
    /// clean that have never reached the disk.
    fn write_again(&mut self, number: usize, record: &Record) -> Result<(), Stop> {
        let mut writes = record.pages(number).to_vec();
        for unit in Unit::all(record.count) {
            if let Some(copy) = record.copy(&self.disk, unit) {
                writes.extend(copy.pages(record.choices[unit.number()].unwrap_or(0)));
            }
        }
        for (page, content) in writes {
            self.disk.write(page, content);
            self.step()?;
        }
        Ok(())
    }

    fn restore(&mut self, number: usize, record: &Record) -> Result<(), Stop> {
        let segments = record.count.div_ceil(SLOTS_A_SEGMENT);
        self.disk.grow(segments);
        for unit in Unit::all(record.count) {
            let Some(copy) = record.copy(&self.disk, unit) else { continue };
            self.put_back(&copy, record.count)?;
        }
        if !self.is(Mutant::NoErase) {
            for (page, _) in record.pages(1 - number) {
                self.disk.write(page, crate::layout::EMPTY);
                self.step()?;
            }
        }
        self.set_header(&[(header::COUNT, record.count as u64), (header::ACKED, record.epoch)]);
        self.step()?;
        if self.is(Mutant::NoFsyncInRestore) { Ok(()) } else { self.flush(&self.disk.all_pages()) }
    }

    fn put_back(&mut self, copy: &Copy, count: usize) -> Result<(), Stop> {
        if let Content::Directory(_, page) = &copy.content {
            self.disk.write(directory(copy.unit.segment()), *page);
            return self.step();
        }
        for slot in copy.unit.slots().filter(|slot| *slot < count) {
            if let Some(entry) = copy.entry(slot) {
                self.write_live(slot, entry);
                self.step()?;
            }
        }
        Ok(())
    }
}
