//! The slots that take part in a transaction, and how each is found again.

use std::cell::Cell;
use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::attachment::attach::Attachment;
use crate::error::Result;
use crate::slots::handle::Handle;
use crate::transactions::participant::{Participant, Spare};

/// The slots that a transaction has used, in this run or an earlier one; each once.
///
/// They are kept in the order of their first use. That is nearly always the order of their offsets.
/// It is also the order in which the next run, or the thread's next transaction, uses them.
#[derive(Default)]
pub(crate) struct Participants {
    /// Behind those in use: what an earlier transaction has left. If the next slot is that one
    /// again, its participant is already there.
    all: Vec<Participant>,
    used: usize,
    /// The attachment that they are of.
    of: u64,
    /// Whether they are not in the order of their offsets.
    is_mixed: bool,
    /// The index of each by its offset, if they are many and mixed; else empty.
    by_offset: HashMap<u64, usize, FxBuildHasher>,
    /// The one used last, which is often also the next.
    last: usize,
    spare: Spare,
}

/// Up to so many of them, looking at each is as fast as a map.
const FEW: usize = 16;
/// What one transaction leaves to the thread's next: at most so many slots, so many buffers, and
/// bytes of each.
const MOST_SLOTS: usize = 1024;
const MOST_SPARE: usize = 64;
const MOST_BYTES: usize = 64 << 10;

thread_local! {
    /// What the last transaction of this thread has left: memory, to be used again.
    static LEFT: Cell<Option<Participants>> = const { Cell::new(None) };
}

impl Participants {
    /// None yet, in the memory that the thread's last transaction has left.
    #[inline]
    pub(crate) fn of(attachment: &Attachment) -> Participants {
        let mut participants = LEFT.try_with(Cell::take).ok().flatten().unwrap_or_default();
        if participants.of != attachment.id() {
            participants.all.clear();
            participants.of = attachment.id();
        }
        participants
    }

    /// Leaves the memory to the thread's next transaction. (In a thread that ends, nothing is
    /// kept.)
    #[inline]
    pub(crate) fn leave(mut self) {
        self.clear();
        if self.all.capacity() > MOST_SLOTS {
            (self.all, self.by_offset) = Default::default();
        }
        if !self.spare.is_empty() {
            self.spare.truncate(MOST_SPARE);
            self.spare.retain(|buffer| buffer.capacity() <= MOST_BYTES);
        }
        let _ = LEFT.try_with(|left| left.set(Some(self)));
    }

    /// Those in use.
    #[inline]
    pub(crate) fn all(&self) -> &[Participant] {
        &self.all[..self.used]
    }

    #[inline]
    pub(crate) fn all_mut(&mut self) -> &mut [Participant] {
        &mut self.all[..self.used]
    }

    /// The same, and buffers for their drafts.
    #[inline]
    pub(crate) fn with_spare(&mut self) -> (&mut [Participant], &mut Spare) {
        (&mut self.all[..self.used], &mut self.spare)
    }

    /// Changes bytes of the content of this slot, which is this participant.
    pub(crate) fn write(
        &mut self,
        participant: usize,
        slot: &Handle,
        at: usize,
        new: &[u8],
    ) -> Result<()> {
        let (participants, spare) = self.with_spare();
        participants[participant]
            .write(&slot.memory, at, new, spare)
            .map_err(|none| slot.no_memory(none))
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
            self.by_offset.clear();
        }
    }

    /// Adds a slot that is not among them.
    #[inline]
    pub(crate) fn push(&mut self, slot: &Handle) -> &mut Participant {
        let (at, offset) = (self.used, slot.offset());
        match self.all.get_mut(at) {
            Some(left) if left.offset == offset => {}
            Some(left) => *left = Participant::new(slot),
            None => self.all.push(Participant::new(slot)),
        }
        self.is_mixed |= at > 0 && self.all[at - 1].offset > offset;
        if self.is_mixed {
            self.note(offset, at);
        }
        (self.used, self.last) = (at + 1, at);
        &mut self.all[at]
    }

    fn note(&mut self, offset: u64, at: usize) {
        if at < FEW {
            return;
        }
        if self.by_offset.is_empty() {
            let offsets = self.all[..at].iter().map(|participant| participant.offset);
            self.by_offset.extend(offsets.zip(0..));
        }
        self.by_offset.insert(offset, at);
    }

    /// Takes the last one away again.
    pub(crate) fn pop(&mut self) {
        self.used -= 1;
        self.by_offset.remove(&self.all[self.used].offset);
    }

    /// Puts them in the order of their offsets.
    #[inline]
    pub(crate) fn sort(&mut self) {
        if self.is_mixed {
            self.all_mut().sort_unstable_by_key(|participant| participant.offset);
            self.is_mixed = false;
            self.by_offset.clear();
        }
        self.last = 0;
    }

    /// The index of the slot at this offset.
    #[inline]
    pub(crate) fn find(&mut self, offset: u64) -> Option<usize> {
        let all = self.all();
        let is_at = |at: usize| all.get(at).is_some_and(|participant| participant.offset == offset);
        let last = self.last;
        let found = match () {
            () if is_at(last) => return Some(last),
            () if is_at(last + 1) => last + 1,
            // Usually it comes after all of them.
            () if !self.is_mixed && all.last().is_none_or(|last| last.offset < offset) => {
                return None;
            }
            () => self.search(offset)?,
        };
        self.last = found;
        Some(found)
    }

    fn search(&self, offset: u64) -> Option<usize> {
        match self.is_mixed {
            false => {
                self.all().binary_search_by_key(&offset, |participant| participant.offset).ok()
            }
            true if self.by_offset.is_empty() => {
                self.all().iter().position(|participant| participant.offset == offset)
            }
            true => self.by_offset.get(&offset).copied(),
        }
    }
}
