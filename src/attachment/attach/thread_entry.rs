//! A thread's entry of the process table, and the slots it has locked through it.

use std::cell::{Cell, RefCell};
use std::sync::Weak;
use std::sync::atomic::Ordering;

use super::Attachment;
use crate::error::{Error, Result};
use crate::format::layout::{TABLE_ENTRIES, live};
use crate::mapping::map::Region;
use crate::mutant::planted;
use crate::os::fork;
use crate::os::sys;
use crate::protocol::{Owner, Peers, TxnState};

/// The last eighth of the table is lent: a thread keeps such an entry only while it holds a lock.
/// So idle threads, in all processes, leave that many entries to active ones.
pub(super) const FIRST_LENT: u16 = TABLE_ENTRIES / 8 * 7;

/// A thread's entry in one store's process table, and what it holds through it.
#[derive(Debug)]
pub(super) struct ThreadEntry {
    attachment: Weak<Attachment>,
    id: u64,
    /// The fork generation that claimed it: the child of a fork has none of its parent's entries.
    generation: u64,
    owner: Owner,
    locks: Vec<KeptLock>,
    /// Whether the thread is inside a transaction.
    in_transaction: bool,
    /// Whether to give it back as soon as the thread has no lock.
    lent: bool,
}

/// A slot that this thread keeps locked beyond one call.
#[derive(Debug)]
struct KeptLock {
    slot: u64,
    /// Its guard, if there is one.
    guard: Option<Number>,
    /// How many times it was taken without a guard.
    depth: usize,
    /// The update or transaction under it. A second one would wait for itself.
    update: Option<Number>,
}

/// Distinguishes a guard, or an update under one, from all others that this thread has ever had:
/// also from those of the same slot, and from copies made by a fork.
pub(crate) type Number = u64;

impl ThreadEntry {
    fn kept(&mut self, slot: u64) -> Option<&mut KeptLock> {
        self.locks.iter_mut().find(|lock| lock.slot == slot)
    }

    fn update_of(&mut self, slot: u64, update: Number) -> Option<&mut KeptLock> {
        let any = planted!(AnyUpdateIsThatOfTheLock);
        self.kept(slot).filter(|lock| lock.update == Some(update) || any && lock.update.is_some())
    }
}

impl KeptLock {
    fn times(&self) -> usize {
        self.depth + usize::from(self.guard.is_some())
    }
}

impl Drop for ThreadEntry {
    fn drop(&mut self) {
        LAST.set(None);
        if self.generation != fork::generation() {
            return;
        }
        if let Some(attachment) = self.attachment.upgrade() {
            // A lock may still name the entry: it was leaked, it is kept for later, or a closure
            // that exits the process holds it. The entry's next holder recovers it.
            let word = if is_without_locks() { TxnState::Free } else { TxnState::Idle };
            attachment.one_at_a_time(|| {
                attachment.give_back(attachment.process(), self.owner - 1, word);
            });
        }
    }
}

thread_local! {
    static ENTRIES: RefCell<Vec<ThreadEntry>> = const { RefCell::new(Vec::new()) };
    /// The entry that was asked for last: the attachment's id, the generation, the owner. It is
    /// nearly always the next one asked for, too.
    static LAST: Cell<Option<(u64, u64, Owner)>> = const { Cell::new(None) };
    /// How many locks the thread holds, in all stores, plus `NONE_LENT` while it has no lent entry.
    /// So one look tells when a lent entry must be given back.
    static HELD: Cell<usize> = const { Cell::new(NONE_LENT) };
    /// How many numbers it has given out.
    static NUMBERS: Cell<Number> = const { Cell::new(0) };
}

const NONE_LENT: usize = 1 << 31;

/// The thread has taken a lock.
#[inline]
pub(super) fn note_locked() {
    HELD.set(HELD.get().wrapping_add(1));
}

/// The thread has released a lock.
#[inline]
pub(super) fn note_unlocked() {
    let held = HELD.get().wrapping_sub(1);
    HELD.set(held);
    if held == 0 && !planted!(LoansDoNotEnd) {
        end_loans();
    }
}

fn is_without_locks() -> bool {
    let none = HELD.get().is_multiple_of(NONE_LENT) && !planted!(NoEntryIsGivenBackFree);
    none || planted!(AllEntriesAreGivenBackFree)
}

/// The thread did not get the lock for which it asked for its entry, or no longer needs it.
pub(super) fn note_given_up() {
    if HELD.get() == 0 && !planted!(WhatIsWaitedForInVainIsKept) {
        end_loans();
    }
}

/// Gives back the lent entries of this thread, which holds no lock.
#[cold]
fn end_loans() {
    let ended = ENTRIES.try_with(|entries| {
        let mut entries = entries.try_borrow_mut().ok()?;
        let kept = entries.extract_if(.., |l| l.lent && !l.in_transaction && l.locks.is_empty());
        let ended: Vec<ThreadEntry> = kept.collect();
        if !entries.iter().any(|entry| entry.lent) {
            HELD.set(HELD.get() + NONE_LENT);
        }
        Some(ended)
    });
    // Not while they are borrowed: giving back may close the store.
    drop(ended);
}

fn next_number() -> Number {
    NUMBERS.set(NUMBERS.get() + 1);
    NUMBERS.get()
}

/// Whether no lock of this store was handed over in this interval yet. If so, counts this one.
pub(super) fn is_handover_due(live: &Region) -> bool {
    let now = sys::since_boot() >> 20; // in intervals of 1.05 ms
    // Relaxed: if two threads get here at once, two locks are handed over.
    let is_due = live.load(live::LAST_HANDOVER, Ordering::Relaxed) != now;
    if is_due {
        live.store(live::LAST_HANDOVER, now, Ordering::Relaxed);
    }
    is_due
}

/// The calling thread's owner number in this store, if it has an entry.
#[inline]
pub(super) fn owner(attachment: &Attachment) -> Option<Owner> {
    match LAST.get() {
        Some((id, generation, owner))
            if id == attachment.id && generation == fork::generation() =>
        {
            Some(owner)
        }
        _ => other_owner(attachment),
    }
}

#[cold]
fn other_owner(attachment: &Attachment) -> Option<Owner> {
    existing_entry(attachment, remember)
}

/// The same; claims an entry if the thread has none yet.
#[inline]
pub(super) fn owner_or_claim(attachment: &Attachment) -> Result<Owner> {
    match owner(attachment) {
        Some(owner) => Ok(owner),
        None => claim(attachment),
    }
}

#[cold]
fn claim(attachment: &Attachment) -> Result<Owner> {
    with_entry(attachment, |entry| Ok(remember(entry)))
}

fn remember(entry: &mut ThreadEntry) -> Owner {
    LAST.set(Some((entry.id, entry.generation, entry.owner)));
    entry.owner
}

/// Whether this entry is the current process's, in this store.
fn is_of(entry: &ThreadEntry, attachment: &Attachment) -> bool {
    entry.id == attachment.id && entry.generation == fork::generation()
}

/// Runs `f` on the calling thread's entry, if it has one.
fn existing_entry<R>(attachment: &Attachment, f: impl FnOnce(&mut ThreadEntry) -> R) -> Option<R> {
    ENTRIES
        .try_with(|entries| entries.borrow_mut().iter_mut().find(|l| is_of(l, attachment)).map(f))
        .ok()?
}

/// Runs `f` on the calling thread's entry; claims one if it has none yet.
fn with_entry<R>(
    attachment: &Attachment,
    f: impl FnOnce(&mut ThreadEntry) -> Result<R>,
) -> Result<R> {
    let result = ENTRIES.try_with(|entries| {
        let mut entries = entries.borrow_mut();
        if let Some(entry) = entries.iter_mut().find(|l| is_of(l, attachment)) {
            return f(entry);
        }
        // Drop the entries of closed stores and of the process that this one was forked from.
        entries.retain(|l| l.attachment.strong_count() > 0 && l.generation == fork::generation());
        let owner = attachment.claim()?;
        let lent = owner > FIRST_LENT && !planted!(NoEntryIsLent);
        if lent {
            HELD.set(HELD.get() % NONE_LENT);
        }
        entries.push(ThreadEntry {
            attachment: attachment.this.clone(),
            id: attachment.id,
            generation: fork::generation(),
            owner,
            locks: Vec::new(),
            in_transaction: false,
            lent,
        });
        f(entries.last_mut().expect("just pushed"))
    });
    result.unwrap_or_else(|_| {
        Err(Error::Invalid {
            path: attachment.path.clone(),
            slot: None,
            what: "this thread is ending: take locks before its thread-locals are dropped".into(),
        })
    })
}

/// Whether this thread is ending and can no longer have an entry.
pub(crate) fn thread_is_ending() -> bool {
    ENTRIES.try_with(|_| ()).is_err()
}

/// Begins an update under the lock that this thread holds. `None` if it does not hold it, or is
/// already inside an update of the slot.
pub(super) fn begin_under_guard(attachment: &Attachment, slot: u64) -> Option<Number> {
    existing_entry(attachment, |entry| {
        let lock = entry.kept(slot).filter(|lock| lock.update.is_none())?;
        lock.update = Some(next_number());
        lock.update
    })?
}

/// Whether this update still holds the lock under which it began.
pub(super) fn is_under_guard(attachment: &Attachment, slot: u64, update: Number) -> bool {
    existing_entry(attachment, |entry| entry.update_of(slot, update).is_some()).unwrap_or(false)
}

/// Ends the update under a lock that this thread holds.
pub(super) fn end_under_guard(attachment: &Attachment, slot: u64, update: Number) {
    let end = |entry: &mut ThreadEntry| entry.update_of(slot, update).map(|l| l.update = None);
    existing_entry(attachment, end);
}

impl Attachment {
    /// Notes that this thread has locked the slot with a guard. Returns the guard's number.
    pub(crate) fn add_guard(&self, slot: u64) -> Number {
        let number = next_number();
        self.keep(KeptLock { slot, guard: Some(number), depth: 0, update: None });
        number
    }

    /// The guard is gone. Returns how many times the thread still holds the lock: at 0, release it.
    /// `None`: the lock was already lost.
    pub(crate) fn remove_guard(&self, slot: u64, guard: Number) -> Option<usize> {
        let any = planted!(AnyGuardIsThatOfTheLock);
        let is_it = |lock: &KeptLock| lock.guard == Some(guard) || any && lock.guard.is_some();
        self.give_up(slot, is_it, |lock| lock.guard = None)
    }

    /// Notes that this thread has locked the slot without a guard.
    pub(crate) fn enter(&self, slot: u64) {
        self.keep(KeptLock { slot, guard: None, depth: 1, update: None });
    }

    /// Notes that this thread takes a lock that it holds once more; false if it does not hold it.
    pub(crate) fn reenter(&self, slot: u64) -> bool {
        existing_entry(self, |entry| entry.kept(slot).map(|lock| lock.depth += 1).is_some())
            .unwrap_or(false)
    }

    /// Notes that this thread leaves the lock once. Returns how many times it still holds it: at 0,
    /// release it. `None`: it does not hold it, or holds it only through a guard.
    pub(crate) fn leave(&self, slot: u64) -> Option<usize> {
        self.give_up(slot, |lock| lock.depth > 0, |lock| lock.depth -= 1)
    }

    /// How many times this thread has taken the slot's lock.
    pub(crate) fn lock_depth(&self, slot: u64) -> usize {
        existing_entry(self, |entry| entry.kept(slot).map_or(0, |lock| lock.times())).unwrap_or(0)
    }

    fn keep(&self, lock: KeptLock) {
        existing_entry(self, |entry| match entry.kept(lock.slot) {
            // This thread lost the lock and has just taken it anew.
            Some(lost) => *lost = lock,
            None => {
                entry.locks.push(lock);
                // Relaxed, here and below: it is read when no other thread has the store.
                self.kept_locks.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    fn give_up(
        &self,
        slot: u64,
        has: impl FnOnce(&KeptLock) -> bool,
        give_up: impl FnOnce(&mut KeptLock),
    ) -> Option<usize> {
        existing_entry(self, |entry| {
            let lock = entry.kept(slot).filter(|lock| has(lock))?;
            give_up(lock);
            let left = lock.times();
            if left == 0 {
                entry.locks.retain(|lock| lock.slot != slot);
                self.kept_locks.fetch_sub(1, Ordering::Relaxed);
            }
            Some(left)
        })?
    }

    /// Whether this thread holds the slot's lock beyond one call and is not inside an update of it.
    pub(crate) fn is_guarded(&self, slot: u64) -> bool {
        existing_entry(self, |entry| entry.kept(slot).is_some_and(|lock| lock.update.is_none()))
            .unwrap_or(false)
    }

    /// Notes that this thread begins a transaction; false if it is already inside one.
    pub(crate) fn begin_transaction(&self) -> Result<bool> {
        with_entry(self, |entry| Ok(!std::mem::replace(&mut entry.in_transaction, true)))
    }

    /// The transaction is over and holds no slot's lock.
    pub(crate) fn end_transaction(&self) {
        existing_entry(self, |entry| entry.in_transaction = false);
        note_given_up();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;
    use crate::format::layout::entry_byte;
    use crate::os::sys::ByteLock;
    use crate::protocol;

    /// A reader that keeps losing to writers takes an entry, so that they hold off. A lent entry
    /// goes back as soon as the read is done.
    #[test]
    fn a_reader_gives_a_lent_entry_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.slots");
        let store = crate::Store::create(&path).unwrap();
        store.pause_syncing();
        let array = store.array::<u64>("array", 4).unwrap();
        // Other processes have all entries that are not lent.
        let others = File::options().read(true).write(true).open(&path).unwrap();
        for entry in 0..FIRST_LENT {
            sys::set_byte_lock(others.as_fd(), ByteLock::Write, entry_byte(entry)).unwrap();
        }
        let attachment = store.attachment();
        let mut losses = 0;
        let read = || {
            protocol::read(
                &array.handle.memory,
                attachment,
                array.handle.memory.areas(),
                |_, _| {
                    losses += 1;
                    if losses < 15 {
                        std::thread::scope(|scope| {
                            scope.spawn(|| (0..2).for_each(|_| array.set(0, losses).unwrap()));
                        });
                    }
                },
            );
            owner(attachment)
        };
        let has = std::thread::scope(|scope| scope.spawn(read).join().unwrap());
        assert_eq!((has, losses), (None, 15));
    }
}
