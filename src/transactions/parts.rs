//! The slots that a transaction has used, and how each is found again.

use std::cell::Cell;
use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::attachment::attach::Attachment;
use crate::error::Result;
use crate::slots::handle::Handle;
use crate::transactions::participant::{Part, Spare};

/// The slots that a transaction has used, in this run or an earlier one; each once.
///
/// They are kept in the order of their first use. That is nearly always the order of their places,
/// the order in which the next run uses them, and that of the thread's next transaction.
#[derive(Default)]
pub(crate) struct Parts {
    /// Behind those in use: what an earlier transaction has left. If the next slot is that one
    /// again, its part is already there.
    all: Vec<Part>,
    used: usize,
    /// The attachment that they are of.
    of: u64,
    /// Whether they are not in the order of their places.
    is_mixed: bool,
    /// The index of each by its place, if they are many and mixed; else empty.
    by_place: HashMap<u64, usize, FxBuildHasher>,
    /// The one used last, which is often also the next.
    last: usize,
    spare: Spare,
}

/// Up to so many of them, looking at each is as fast as a map.
const FEW: usize = 16;
/// What one transaction leaves to the thread's next: at most so many slots, so many buffers, and
/// bytes of each.
const MOST_PARTS: usize = 1024;
const MOST_SPARE: usize = 64;
const MOST_BYTES: usize = 64 << 10;

thread_local! {
    /// What the last transaction of this thread has left: memory, to be used again.
    static LEFT: Cell<Option<Parts>> = const { Cell::new(None) };
}

impl Parts {
    /// None yet, in the memory that the thread's last transaction has left.
    #[inline]
    pub(crate) fn of(attachment: &Attachment) -> Parts {
        let mut parts = LEFT.try_with(Cell::take).ok().flatten().unwrap_or_default();
        if parts.of != attachment.id() {
            parts.all.clear();
            parts.of = attachment.id();
        }
        parts
    }

    /// Leaves the memory to the thread's next transaction. (In a thread that ends, nothing is
    /// kept.)
    #[inline]
    pub(crate) fn leave(mut self) {
        self.clear();
        if self.all.capacity() > MOST_PARTS {
            (self.all, self.by_place) = Default::default();
        }
        if !self.spare.is_empty() {
            self.spare.truncate(MOST_SPARE);
            self.spare.retain(|buffer| buffer.capacity() <= MOST_BYTES);
        }
        let _ = LEFT.try_with(|left| left.set(Some(self)));
    }

    /// Those in use.
    #[inline]
    pub(crate) fn all(&self) -> &[Part] {
        &self.all[..self.used]
    }

    #[inline]
    pub(crate) fn all_mut(&mut self) -> &mut [Part] {
        &mut self.all[..self.used]
    }

    /// The same, and buffers for their drafts.
    #[inline]
    pub(crate) fn with_spare(&mut self) -> (&mut [Part], &mut Spare) {
        (&mut self.all[..self.used], &mut self.spare)
    }

    /// Changes bytes of the content of this slot, which has this part.
    pub(crate) fn write(
        &mut self,
        part: usize,
        slot: &Handle,
        at: usize,
        new: &[u8],
    ) -> Result<()> {
        let (parts, spare) = self.with_spare();
        parts[part].write(&slot.memory, at, new, spare).map_err(|none| slot.no_memory(none))
    }

    /// The index of the one that was used, or added, last.
    #[inline]
    pub(crate) fn last(&self) -> usize {
        self.last
    }

    /// None is in use any more. All have been released.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.last = 0;
        if self.is_mixed {
            self.is_mixed = false;
            self.by_place.clear();
        }
    }

    /// Adds a slot that is not among them.
    #[inline]
    pub(crate) fn push(&mut self, slot: &Handle) -> &mut Part {
        let (at, place) = (self.used, slot.place());
        match self.all.get_mut(at) {
            Some(left) if left.place == place => {}
            Some(left) => *left = Part::new(slot),
            None => self.all.push(Part::new(slot)),
        }
        self.is_mixed |= at > 0 && self.all[at - 1].place > place;
        if self.is_mixed {
            self.note(place, at);
        }
        (self.used, self.last) = (at + 1, at);
        &mut self.all[at]
    }

    fn note(&mut self, place: u64, at: usize) {
        if at < FEW {
            return;
        }
        if self.by_place.is_empty() {
            let places = self.all[..at].iter().map(|part| part.place);
            self.by_place.extend(places.zip(0..));
        }
        self.by_place.insert(place, at);
    }

    /// Takes the last one away again.
    pub(crate) fn pop(&mut self) {
        self.used -= 1;
        self.by_place.remove(&self.all[self.used].place);
    }

    /// Puts them in the order of their places.
    #[inline]
    pub(crate) fn sort(&mut self) {
        if self.is_mixed {
            self.all_mut().sort_unstable_by_key(|part| part.place);
            self.is_mixed = false;
            self.by_place.clear();
        }
        self.last = 0;
    }

    /// The index of the slot at this place.
    #[inline]
    pub(crate) fn find(&mut self, place: u64) -> Option<usize> {
        let all = self.all();
        let is_at = |at: usize| all.get(at).is_some_and(|part| part.place == place);
        let last = self.last;
        let found = match () {
            () if is_at(last) => return Some(last),
            () if is_at(last + 1) => last + 1,
            // Usually it comes after all of them.
            () if !self.is_mixed && all.last().is_none_or(|last| last.place < place) => {
                return None;
            }
            () => self.search(place)?,
        };
        self.last = found;
        Some(found)
    }

    fn search(&self, place: u64) -> Option<usize> {
        match self.is_mixed {
            false => self.all().binary_search_by_key(&place, |part| part.place).ok(),
            true if self.by_place.is_empty() => {
                self.all().iter().position(|part| part.place == place)
            }
            true => self.by_place.get(&place).copied(),
        }
    }
}
