//! An update of a slot that has areas, from lock to wake-up.
//!
//! 1. **Lock** the slot, or go on under a guard of this thread: [`lock_for_update`]. The caller
//!    then reads the current area, if it needs that, and makes the new content in private memory.
//! 2. **Note** in the stale ranges what will differ between the areas.
//! 3. **Fill** the next area: copy what it lacks of the current one, then store the new content.
//! 4. **Publish** it: one compare-exchange makes it current and releases the lock.
//! 5. **Wake** those who wait for a change, or for the lock (`queue.rs`, if the exchange finds W or
//!    L).
//!
//! A kill before step 4 leaves the current area as it was, and a lock that others recover. Scalars
//! have no areas: `scalar.rs`. Several slots at once: `transaction.rs`.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::lock::{FailureOf, Held, Lockable, lock};
use super::marks::Bytes;
use super::queue::publish;
use super::stale::Range;
use super::{Areas, Deadline, FREE, Failure, Memory, Peers, REMOVED, STALE, planted};

/// Takes the lock for one update: waits for it, or goes on under this thread's own guard.
///
/// [`Failure::Deadlock`] if this thread has the lock, but not by a guard, or is already in an
/// update under it.
#[inline]
pub(crate) fn lock_for_update<L: Lockable + Copy>(
    on: L,
    deadline: &mut Deadline,
) -> Result<Held<L>, FailureOf<L>> {
    match lock(on, deadline) {
        Err(Failure::Deadlock) => go_on_under_guard(on),
        held => held,
    }
}

/// The same, when this thread already has the lock.
#[cold]
pub(crate) fn go_on_under_guard<L: Lockable>(on: L) -> Result<Held<L>, FailureOf<L>> {
    // From here on, the guard's holder cannot update the slot otherwise.
    match on.peers().begin_under_guard(on.memory().slot_id()) {
        Some(update) => Held::under_guard(on, update),
        None => Err(Failure::Deadlock),
    }
}

impl<L: Lockable> Held<L> {
    /// Replaces `data.len()` bytes from byte `at` of the content, in the next area, and makes that
    /// area current. Returns the new version.
    #[inline]
    pub(crate) fn commit(
        mut self,
        areas: &Areas,
        at: usize,
        data: &[u8],
    ) -> Result<u64, FailureOf<L>> {
        if !self.may_store() {
            return Err(Failure::Evicted);
        }
        if planted!(CommitEarly) {
            let next = self.control().advanced(1).with_owner(FREE);
            publish(self.memory(), self.peers(), self.control(), next, None);
            fill(self.memory(), self.version(), areas, at, data);
            return Ok(self.version());
        }
        fill(self.memory(), self.version(), areas, at, data);
        let version = self.publish_next(Bytes { at, len: data.len() })?;
        if planted!(ClearStaleAfterCommit) {
            self.memory().store(STALE + areas.number(version) as usize, 0, Relaxed);
        }
        Ok(version)
    }

    /// Steps 4 and 5: makes what was stored the next version, wakes those who wait, and releases
    /// the lock, unless a guard keeps it.
    #[inline]
    fn publish_next(&mut self, changed: Bytes) -> Result<u64, FailureOf<L>> {
        let next = self.raw.committed();
        // Release: a thread that sees the new version sees the area it makes current.
        if !publish(self.memory(), self.peers(), self.control(), next, Some(changed)) {
            return Err(Failure::Evicted);
        }
        if self.is_own() {
            self.disarm();
            self.peers().note_unlocked();
        }
        Ok(next.version())
    }

    /// Commits what was stored in a buffer without the protocol: advances the version.
    pub(crate) fn notify(mut self) -> Result<u64, FailureOf<L>> {
        if self.may_store() { self.publish_next(Bytes::ALL) } else { Err(Failure::Evicted) }
    }

    /// Ends the slot forever and wakes its waiters. Its last value stays readable.
    pub(crate) fn remove(self) -> Result<(), FailureOf<L>> {
        if !self.may_store() {
            return Err(Failure::Evicted);
        }
        let memory = self.memory();
        let steps = if planted!(RemoveKeepsVersion) { 0 } else { memory.form().recovery_step() };
        let gone = self.control().advanced(steps).with_owner(REMOVED);
        let changed = (!planted!(RemovalMarksNothing)).then_some(Bytes::ALL);
        // Release: orders the removal after all that was done under the lock.
        match publish(memory, self.peers(), self.control(), gone, changed) {
            true => Ok(()),
            false => Err(Failure::Evicted),
        }
    }
}

/// Steps 2 and 3: makes the next area a copy of the current one, with `data` from byte `at`.
/// `version`: the one that is current while the lock is held.
#[inline]
pub(super) fn fill<M: Memory>(memory: &M, version: u64, areas: &Areas, at: usize, data: &[u8]) {
    let current = areas.number(version);
    let next = areas.number(current + 1);
    let changed = Range::of_bytes(at, data.len());
    // Words that `data` covers need no copy; the words in which it begins or ends do.
    let whole = Range::of_whole_words(at, data.len());
    let replaces_all = whole == Range { from: 0, to: areas.words };
    // The words in which, at most, the area differs from the current one. If all words are
    // replaced, no others are stale, and nothing has to be copied.
    let stale = |area: u64| match replaces_all {
        true => Range::NONE,
        // Relaxed: it was stored under the lock, which this thread holds.
        false => Range::from_bits(memory.load(STALE + area as usize, Relaxed), areas.words),
    };
    let old = stale(next);
    let note = || {
        for area in 0..areas.count {
            let mut all = changed;
            if area != current || planted!(ClearStaleAfterCommit) {
                all = all.or(stale(area));
            } else if planted!(CurrentNotStale) {
                continue;
            }
            // Relaxed would do for writers: the fence below orders all of these before the first
            // store. Release: a reader that follows the updates may find this update's range in
            // place of earlier ones; it then sees the lock that was taken before.
            memory.store(STALE + area as usize, all.to_bits(), Release);
        }
    };
    if !planted!(NoteStaleLate) {
        note();
    }
    // Release: a reader that sees anything stored below also sees, after an acquire fence, the lock
    // that was taken before it, and rejects its copy.
    memory.fence(Release);
    let (from, to) = (areas.of(current), areas.of(next));
    let copy = |part: Range| {
        if part.from < part.to {
            memory.copy(from + part.from, to + part.from, part.to - part.from);
        }
    };
    let behind = if whole == changed { old } else { old.or(changed) };
    let (before, after) = behind.without(whole);
    // Both before the data, whose first and last partial words are merged into them.
    copy(before);
    copy(after);
    memory.write(to, at, data);
    if planted!(NoteStaleLate) {
        note();
    }
}
