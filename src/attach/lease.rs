//! A thread's entry of the process table, and the slots it has locked through it.

use std::cell::{Cell, RefCell};
use std::sync::Weak;
use std::sync::atomic::Ordering;

use super::Attachment;
use crate::error::{Error, Result};
use crate::fork;
use crate::protocol::{Owner, Peers, Word};

/// A thread's entry of one store's process table, and what it holds through it.
#[derive(Debug)]
pub(super) struct Lease {
    attachment: Weak<Attachment>,
    id: u64,
    /// Of the process that claimed it: the child of a fork has none of its parent's.
    generation: u64,
    owner: Owner,
    guards: Vec<GuardMark>,
    /// The thread is inside of a transaction.
    in_transaction: bool,
}

/// A slot that this thread has locked through a guard.
#[derive(Debug)]
struct GuardMark {
    slot: u64,
    /// In an update of it: a second one inside would wait for itself.
    busy: bool,
    /// How many times it has taken it: more than once only without guards.
    depth: usize,
}

impl Lease {
    fn guard(&mut self, slot: u64) -> Option<&mut GuardMark> {
        self.guards.iter_mut().find(|mark| mark.slot == slot)
    }

    fn has_guard(&mut self, slot: u64, busy: bool) -> bool {
        self.guard(slot).is_some_and(|mark| mark.busy == busy)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        LAST.set(None);
        if self.generation != fork::generation() {
            return;
        }
        if let Some(attachment) = self.attachment.upgrade() {
            // What was leaked still names the entry.
            let leaked = !self.guards.is_empty() || self.in_transaction;
            let word = if leaked { Word::Idle } else { Word::Free };
            attachment.one_at_a_time(|| {
                attachment.give_back(attachment.process(), self.owner - 1, word);
            });
        }
    }
}

thread_local! {
    static LEASES: RefCell<Vec<Lease>> = const { RefCell::new(Vec::new()) };
    /// Of the lease that was asked for last: the attachment's id, the generation, the owner.
    /// Nearly always it is the one that is asked for next.
    static LAST: Cell<Option<(u64, u64, Owner)>> = const { Cell::new(None) };
}

/// The owner number that the calling thread has in this store, if it has an entry.
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
    existing_lease(attachment, remember)
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
    with_lease(attachment, |lease| Ok(remember(lease)))
}

fn remember(lease: &mut Lease) -> Owner {
    LAST.set(Some((lease.id, lease.generation, lease.owner)));
    lease.owner
}

/// Whether the lease is this thread's own of this store.
fn is_of(lease: &Lease, attachment: &Attachment) -> bool {
    lease.id == attachment.id && lease.generation == fork::generation()
}

/// Runs `f` on the calling thread's lease, if it has one.
fn existing_lease<R>(attachment: &Attachment, f: impl FnOnce(&mut Lease) -> R) -> Option<R> {
    LEASES
        .try_with(|leases| leases.borrow_mut().iter_mut().find(|l| is_of(l, attachment)).map(f))
        .ok()?
}

/// Runs `f` on the calling thread's lease; claims an entry if it has none yet.
fn with_lease<R>(attachment: &Attachment, f: impl FnOnce(&mut Lease) -> Result<R>) -> Result<R> {
    let result = LEASES.try_with(|leases| {
        let mut leases = leases.borrow_mut();
        if let Some(lease) = leases.iter_mut().find(|l| is_of(l, attachment)) {
            return f(lease);
        }
        // Those of stores that were closed, and of the process that this was forked from.
        leases.retain(|l| l.attachment.strong_count() > 0 && l.generation == fork::generation());
        let owner = attachment.claim()?;
        leases.push(Lease {
            attachment: attachment.this.clone(),
            id: attachment.id,
            generation: fork::generation(),
            owner,
            guards: Vec::new(),
            in_transaction: false,
        });
        f(leases.last_mut().expect("just pushed"))
    });
    result.unwrap_or_else(|_| {
        Err(Error::Invalid {
            path: attachment.path.clone(),
            slot: None,
            what: "this thread is ending: take locks before its thread-locals are dropped".into(),
        })
    })
}

impl Attachment {
    /// Notes that this thread has locked the slot through a guard.
    pub(crate) fn add_guard(&self, slot: u64) {
        self.guards.fetch_add(1, Ordering::Relaxed);
        existing_lease(self, |lease| lease.guards.push(GuardMark { slot, busy: false, depth: 1 }));
    }

    /// The guard is gone.
    pub(crate) fn remove_guard(&self, slot: u64) {
        self.guards.fetch_sub(1, Ordering::Relaxed);
        existing_lease(self, |lease| lease.guards.retain(|mark| mark.slot != slot));
    }

    /// Notes that this thread begins a transaction; false if it is inside of one.
    pub(crate) fn begin_transaction(&self) -> Result<bool> {
        let first = with_lease(self, |l| Ok(!std::mem::replace(&mut l.in_transaction, true)))?;
        self.guards.fetch_add(usize::from(first), Ordering::Relaxed);
        Ok(first)
    }

    /// The transaction is over, and no slot is locked by it.
    pub(crate) fn end_transaction(&self) {
        self.guards.fetch_sub(1, Ordering::Relaxed);
        existing_lease(self, |lease| lease.in_transaction = false);
    }

    /// Whether this thread has locked the slot through a guard, and is not inside an
    /// update of it.
    pub(crate) fn is_guarded(&self, slot: u64) -> bool {
        existing_lease(self, |lease| lease.has_guard(slot, false)).unwrap_or(false)
    }

    /// Whether this thread is inside an update of the slot, under the same guard since
    /// the update began.
    pub(crate) fn is_busy(&self, slot: u64) -> bool {
        existing_lease(self, |lease| lease.has_guard(slot, true)).unwrap_or(false)
    }

    /// How many times this thread has taken the slot's lock.
    pub(crate) fn guard_depth(&self, slot: u64) -> usize {
        existing_lease(self, |lease| lease.guard(slot).map_or(0, |mark| mark.depth)).unwrap_or(0)
    }

    /// Notes that this thread takes a lock that it has once more; false if it has it not.
    pub(crate) fn reenter(&self, slot: u64) -> bool {
        let entered =
            existing_lease(self, |lease| lease.guard(slot).map(|mark| mark.depth += 1).is_some());
        entered.unwrap_or(false)
    }

    /// Notes that this thread lets go of the lock once, and returns how many times it has it
    /// still: at 0, it is to be let go of. `None`: it had it not.
    pub(crate) fn leave(&self, slot: u64) -> Option<usize> {
        let left = existing_lease(self, |lease| {
            let mark = lease.guard(slot)?;
            mark.depth -= 1;
            Some(mark.depth)
        })??;
        if left == 0 {
            self.remove_guard(slot);
        }
        Some(left)
    }

    /// Notes that an update under a guard begins or ends.
    pub(crate) fn set_busy(&self, slot: u64, busy: bool) {
        existing_lease(self, |lease| {
            for mark in lease.guards.iter_mut().filter(|mark| mark.slot == slot) {
                mark.busy = busy;
            }
        });
    }
}
