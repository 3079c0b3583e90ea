//! [`Store::list`]: the slots one after the other, in memory that does not grow with their number.

use std::iter::FusedIterator;

use crate::attachment::descriptors;
use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::mutant::planted;
use crate::slots::handle::Handle;
use crate::slots::slot::{Kind, Slot, non_empty};
use crate::store::session::SharedSession;
use crate::store::store::Store;
use crate::types::data::Data;
use crate::types::glob::Glob;
use crate::types::slot_type::SlotType;

/// The slots whose names match a pattern, in the order of their definition; from [`Store::list`].
#[derive(Debug)]
pub struct List {
    store: Store,
    glob: Glob,
    lines: Lines,
    /// The lines of the directory when the list began.
    count: u32,
}

/// The lines on which descriptors begin.
#[derive(Debug)]
enum Lines {
    /// From this one on.
    From(u32),
    These(std::vec::IntoIter<u32>),
}

/// A slot of a [`List`]: what its definition says of it, and its content. [`Store::slot`] opens it.
#[derive(Debug)]
pub struct ListedSlot {
    /// Only for its memory: this process need not know the slot, so its name may be missing.
    slot: Slot,
    descriptor: Descriptor,
}

impl Store {
    /// Goes through the slots whose names match (see [`slots_matching`](Store::slots_matching)), in
    /// the order of their definition. It reads each when it gets there and keeps none, so it needs
    /// no more memory for many slots than for few. [`slots`](Store::slots) opens all of them, and
    /// this process then knows them as long as it has the store open.
    ///
    /// It leaves out slots that are defined after this call, or removed before it gets there.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the pattern is not valid; [`Error::Corrupt`] if the directory is
    /// damaged. If the damage shows later, the iterator returns the error, and then ends.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// store.value::<f64>("arm/x")?;
    /// store.value::<f64>("leg/x")?;
    /// for slot in store.list("arm/*")? {
    ///     let slot = slot?;
    ///     println!("{}: {}", slot.name(), slot.slot_type());
    /// }
    /// # assert_eq!(store.list("arm/*")?.count(), 1);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn list(&self, pattern: &str) -> Result<List> {
        let (glob, count) = (self.glob(pattern)?, descriptors::count(self.attachment())?);
        Ok(List { store: self.clone(), glob, lines: Lines::From(0), count })
    }

    pub(crate) fn glob(&self, pattern: &str) -> Result<Glob> {
        Glob::new(pattern).map_err(|what| Error::Invalid {
            path: self.path().to_owned(),
            slot: None,
            what,
        })
    }
}

impl List {
    /// The same slots, sorted by name, byte by byte. It reads all names at once, and then keeps four
    /// bytes for each slot.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the directory is damaged.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// store.value::<f64>("y")?;
    /// store.value::<f64>("x")?;
    /// let first = store.list("*")?.sorted_by_name()?.next().expect("two slots")?;
    /// assert_eq!(first.name(), "x");
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn sorted_by_name(mut self) -> Result<List> {
        let mut names: Vec<(Box<str>, u32)> = Vec::new();
        while let Some(slot) = self.find()? {
            names.push((slot.name().into(), slot.slot.handle.line));
        }
        names.sort_unstable();
        let lines: Vec<u32> = names.iter().map(|(_, line)| *line).collect();
        self.lines = Lines::These(lines.into_iter());
        Ok(self)
    }

    fn find(&mut self) -> Result<Option<ListedSlot>> {
        let attachment = self.store.attachment();
        while let Some(line) = self.lines.next(self.count) {
            let descriptor = descriptors::at_below(attachment, line, self.count)?;
            if let Lines::From(next) = &mut self.lines {
                *next += descriptor.lines() as u32;
            }
            let memory = descriptors::memory(attachment, &descriptor)?;
            if memory.is_removed() || !self.glob.matches(&descriptor.name) {
                continue;
            }
            if planted!(ListedSlotsAreKept) {
                let _ = self.store.slot(&descriptor.name)?;
            }
            let memory = memory.kept_by(SharedSession::clone(&self.store.session));
            let handle = Handle { memory, line, lock_timeout: self.store.settings.lock_timeout };
            let kind = Kind::of(&descriptor.slot_type, &handle);
            return Ok(Some(ListedSlot { slot: Slot { handle, kind }, descriptor }));
        }
        Ok(None)
    }
}

impl Lines {
    /// The next one below `count`.
    fn next(&mut self, count: u32) -> Option<u32> {
        match self {
            Lines::From(line) => (*line < count).then_some(*line),
            Lines::These(lines) => lines.next(),
        }
    }
}

impl Iterator for List {
    type Item = Result<ListedSlot>;

    fn next(&mut self) -> Option<Result<ListedSlot>> {
        let found = self.find();
        if found.is_err() {
            self.lines = Lines::From(self.count);
        }
        found.transpose()
    }
}

impl FusedIterator for List {}

impl ListedSlot {
    /// The slot's name.
    pub fn name(&self) -> &str {
        &self.descriptor.name
    }

    /// Its type.
    pub fn slot_type(&self) -> &SlotType {
        &self.descriptor.slot_type
    }

    /// What it is for, if its definition says so.
    pub fn doc(&self) -> Option<&str> {
        non_empty(&self.descriptor.doc)
    }

    /// The unit of measure of its numbers, if its definition says so.
    pub fn unit(&self) -> Option<&str> {
        non_empty(&self.descriptor.unit)
    }

    /// As [`Slot::areas`].
    pub fn areas(&self) -> usize {
        self.descriptor.areas.into()
    }

    /// Bytes of its content, that is, of one area.
    pub fn size(&self) -> usize {
        self.descriptor.content_len as usize
    }

    /// As [`Slot::version`].
    pub fn version(&self) -> u64 {
        self.slot.version()
    }

    /// As [`Slot::try_load_versioned`].
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn try_load_versioned(&self) -> Result<(Data, u64)> {
        self.slot.read_all().map_err(|none| {
            let (path, slot) = (self.slot.path(), self.name().to_owned());
            Error::OutOfMemory { path, slot, need: none.need }
        })
    }

    /// As [`Slot::load_beginning`].
    pub fn load_beginning(&self, most: usize) -> (Data, usize) {
        self.slot.load_beginning(most)
    }
}
