//! [`Snapshot`]: several slots as they were at one instant.

use std::fmt;
use std::ops::{Range, RangeBounds};

use crate::attachment::descriptors;
use crate::error::{Error, Result};
use crate::mapping::map::Map;
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Form, Memory, Sample, have_changed, load_scalar_versioned};
use crate::slots::array::{Array, ArrayIndex};
use crate::slots::handle::Handle;
use crate::slots::slot::Slot;
use crate::store::store::Store;
use crate::transactions::transactional::sealed::View;
use crate::transactions::transactional::{Ranged, Transactional};
use crate::types::data::Data;
use crate::types::element::Element;
use crate::types::elements::zeros;

impl Store {
    /// Reads several slots as they were at one instant. All of a
    /// [`transaction`](Store::transaction) is seen, or nothing of it, even while `f` still runs.
    /// Never waits for a writer, and keeps writers waiting only while it copies.
    ///
    /// If others change meanwhile what `f` has read, a load returns [`Error::Conflict`], which `f`
    /// passes on with `?`; then `f` **runs again**. The second run reads copies made at one instant
    /// and is the last, unless it reads slots that it had not read before. Slots that were removed
    /// have their last content.
    ///
    /// For many slots, [`snapshot_of`](Store::snapshot_of) is faster: each load here checks
    /// all slots loaded before. For the same slots again and again, a [`group`](Store::group) is.
    ///
    /// # Errors
    ///
    /// What `f` returns; [`Error::Invalid`] for a slot of another store.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// let (a, b) = (store.value::<i64>("a")?, store.array::<i64>("b", 10)?);
    /// let (x, y) = store.snapshot(|s| Ok((s.load(&a)?, s.get(&b, 3)?)))?;
    /// assert_eq!(x + y, 0);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn snapshot<R>(&self, mut f: impl FnMut(&mut Snapshot<'_>) -> Result<R>) -> Result<R> {
        let mut snapshot = Snapshot { store: self, reads: Vec::new(), lost: false };
        loop {
            let result = f(&mut snapshot);
            if !snapshot.lost {
                return result;
            }
            snapshot.copy_again()?;
        }
    }

    /// Returns the contents and versions of all these slots as they were at one instant, in the
    /// order given. Never waits for a writer.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a slot of another store, and for a buffer.
    ///
    /// ```
    /// use slotfile::{Data, Store};
    /// let store = Store::temporary()?;
    /// store.value::<i64>("a")?.store(5)?;
    /// store.text("b", 10)?.store("five")?;
    /// let all = store.snapshot_of(&store.slots()?)?;
    /// assert_eq!(all, [(Data::from(5i64), 1), (Data::from("five"), 1)]);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn snapshot_of(&self, slots: &[Slot]) -> Result<Vec<(Data, u64)>> {
        for slot in slots {
            slot.transactional()?.check_store(&self.session)?;
        }
        let nothing = (Data::Bytes(Vec::new()), 0);
        let (mut contents, mut failed) = (vec![nothing; slots.len()], None);
        let mut versions = vec![0; slots.len()];
        let memory = |i: usize| &slots[i].handle.memory;
        protocol::snapshot(self.attachment(), &mut versions, memory, |i, _, sample| {
            match slots[i].content_at(sample) {
                Ok(content) => contents[i].0 = content,
                Err(none) => failed = Some((i, none)),
            }
        });
        if let Some((i, none)) = failed {
            return Err(slots[i].handle.no_memory(none));
        }
        for ((_, version), of) in contents.iter_mut().zip(versions) {
            *version = of;
        }
        Ok(contents)
    }
}

/// What the closure of [`Store::snapshot`] reads through.
pub struct Snapshot<'s> {
    store: &'s Store,
    /// What it has read, all current at one instant.
    reads: Vec<ReadRange<'s>>,
    /// They are not all current at one instant: one changed before the last was read.
    lost: bool,
}

/// Some bytes of a slot.
struct ReadRange<'s> {
    /// The slot's line in the directory.
    line: u32,
    memory: SlotMemory<&'s Map>,
    /// The range of its content; for a scalar, all eight bytes of its bit pattern.
    range: Range<usize>,
    version: u64,
    /// `None`: it was read in this run, and returned at once.
    copy: Option<Vec<u8>>,
}

impl Snapshot<'_> {
    /// Copies all that `f` has read so far, as of one instant, for its next run.
    #[cold]
    fn copy_again(&mut self) -> Result<()> {
        let attachment = self.store.attachment();
        let copy = |read: &ReadRange<'_>| {
            zeros(read.range.len()).map_err(|none| {
                let slot = descriptors::kept(attachment, read.line).name.clone();
                Error::OutOfMemory { path: attachment.path.clone(), slot, need: none.need }
            })
        };
        let mut copies = self.reads.iter().map(copy).collect::<Result<Vec<_>>>()?;
        let mut versions = vec![0; self.reads.len()];
        let memory = |i: usize| &self.reads[i].memory;
        protocol::snapshot(attachment, &mut versions, memory, |i, memory, sample| match sample {
            Sample::Scalar(bits) => copies[i].copy_from_slice(&bits.to_le_bytes()),
            Sample::Area(area) => memory.read(area, self.reads[i].range.start, &mut copies[i]),
        });
        for (read, (copy, version)) in self.reads.iter_mut().zip(copies.into_iter().zip(versions)) {
            (read.copy, read.version) = (Some(copy), version);
        }
        self.lost = false;
        Ok(())
    }
}

impl View for Snapshot<'_> {
    fn read(&mut self, slot: &Handle, at: usize, out: &mut [u8]) -> Result<()> {
        let attachment = self.store.attachment();
        slot.check_store(&self.store.session)?;
        let conflict =
            || Error::Conflict { path: attachment.path.clone(), slot: slot.name().to_owned() };
        if self.lost {
            return Err(conflict());
        }
        let range = at..at + out.len();
        let line = slot.line;
        for read in self.reads.iter().filter(|read| read.line == line) {
            if let Some(copy) = &read.copy
                && read.range.start <= range.start
                && range.end <= read.range.end
            {
                let from = range.start - read.range.start;
                out.copy_from_slice(&copy[from..from + out.len()]);
                return Ok(());
            }
        }
        let memory = slot.memory_in(self.store);
        let version = match memory.form() {
            Form::Scalar | Form::Lock => {
                let (bits, version) = load_scalar_versioned(&memory, attachment);
                out.copy_from_slice(&bits.to_le_bytes());
                version
            }
            Form::Areas(areas) => protocol::read_bytes(&memory, attachment, &areas, at, out),
        };
        let before = self.reads.iter().map(|read| (&read.memory, read.version));
        self.lost = have_changed(attachment, before, |_| ());
        // If the same was read before and has changed, that part shows it.
        if !self.reads.iter().any(|read| read.line == line && read.range == range) {
            self.reads.push(ReadRange { line, memory, range, version, copy: None });
        }
        if self.lost { Err(conflict()) } else { Ok(()) }
    }

    fn bits(&mut self, slot: &Handle) -> Result<u64> {
        let mut bits = [0; 8];
        self.read(slot, 0, &mut bits)?;
        Ok(u64::from_le_bytes(bits))
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// # Errors
///
/// All of these fail with [`Error::Invalid`] for a slot of another store, and with
/// [`Error::Conflict`] if the closure has to run again. Those for elements also fail as the
/// handles' own methods do.
impl Snapshot<'_> {
    /// Returns the content.
    pub fn load<S: Transactional>(&mut self, slot: &S) -> Result<S::Content> {
        slot.load_from(self)
    }

    /// Returns one element of an array.
    pub fn get<T: Element>(&mut self, array: &Array<T>, index: impl ArrayIndex) -> Result<T> {
        let position = array.position(index)?;
        array.get_from(self, position)
    }

    /// Returns the elements at these positions.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// let (a, b) = (store.array::<i64>("a", 100)?, store.slot("a")?);
    /// a.set(2, 7)?;
    /// let (x, y) = store.snapshot(|s| Ok((s.load_range(&a, 1..3)?, s.load_range(&b, 2..3)?)))?;
    /// assert_eq!((x, y), (vec![0, 7], [7i64].into()));
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn load_range<S: Ranged>(
        &mut self,
        slot: &S,
        range: impl RangeBounds<usize>,
    ) -> Result<S::Part> {
        slot.load_part_from(self, range)
    }
}
