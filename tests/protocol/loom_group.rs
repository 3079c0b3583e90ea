//! Group commit under loom: the fences between callers and leader, and what a caller that is told
//! sees. (All that syncs runs in spawned threads; see `loom_scenarios.rs`.)

use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};

use loom::sync::atomic::{AtomicU64, fence};
use loom::thread::{JoinHandle, spawn, yield_now};

use super::loom_store::{Cells, Peer, Store};
use super::weaken::weakened;
use crate::protocol::{Deadline, Joined, Number, Numbers, Owner, Told, join, ticket, try_lead};

/// Two slots, what a sync has saved of them, and the numbers. The lock of the store's array serves
/// as the sync lock.
#[derive(Clone)]
struct Group {
    store: Store,
    slots: Arc<[AtomicU64; 2]>,
    saved: Arc<[AtomicU64; 2]>,
    numbers: Arc<[AtomicU64; 3]>,
}

impl Group {
    fn new() -> Group {
        Group {
            store: Store::new(Cells::ControlOnly, 2),
            slots: Arc::new([0; 2].map(AtomicU64::new)),
            saved: Arc::new([0; 2].map(AtomicU64::new)),
            numbers: Arc::new([0; 3].map(AtomicU64::new)),
        }
    }

    fn spawn(&self, me: Owner, f: impl FnOnce(&Group, Peer) + 'static) -> JoinHandle<()> {
        let group = self.clone();
        spawn(move || f(&group, group.store.peer(me)))
    }

    /// Relaxed: what orders them is the protocol.
    fn make_checkpoint(&self) -> Result<(), ()> {
        for (slot, saved) in self.slots.iter().zip(&*self.saved) {
            saved.store(slot.load(Relaxed), Relaxed);
        }
        Ok(())
    }

    /// Stores in this slot, then syncs. What was stored must be saved.
    fn commit(&self, peer: &Peer, slot: usize) {
        self.slots[slot].store(1, Relaxed);
        let ticket = ticket(self);
        match join((&*self.store.y, peer), self, ticket, &mut Deadline::new(None)).unwrap() {
            Joined::Told(told) => assert_eq!(told, Told::Done),
            Joined::Leads(lead) => {
                lead.sync(self, || self.make_checkpoint(), |()| None).unwrap();
            }
        }
        assert_eq!(self.saved[slot].load(Relaxed), 1, "it was told of success");
    }
}

impl Numbers for Group {
    fn load(&self, number: Number, order: Ordering) -> u64 {
        self.numbers[number as usize].load(weakened("number", order))
    }

    fn store(&self, number: Number, value: u64, order: Ordering) {
        self.numbers[number as usize].store(value, weakened("number", order));
    }

    fn fence(&self, order: Ordering) {
        if weakened("fence", order) == SeqCst {
            fence(SeqCst);
        }
    }
}

/// If the leader's look misses what a caller has stored, the caller does not join that sync.
pub(super) fn callers_and_leader() {
    let group = Group::new();
    let taken = Arc::new([2; 2].map(AtomicU64::new));
    let caller = |slot: usize| {
        let taken = taken.clone();
        group.spawn(slot as Owner + 1, move |group, _| {
            group.slots[slot].store(1, Relaxed);
            taken[slot].store(ticket(group).0, Relaxed);
        })
    };
    let callers = [0, 1].map(caller);
    let leader = group.spawn(3, |group, peer| {
        let lead = try_lead((&*group.store.y, &peer)).unwrap();
        lead.sync(group, || group.make_checkpoint(), |()| None).unwrap();
    });
    leader.join().unwrap();
    for (slot, caller) in callers.into_iter().enumerate() {
        caller.join().unwrap();
        // Relaxed: the joins order them.
        let (ticket, saved) = (taken[slot].load(Relaxed), group.saved[slot].load(Relaxed));
        assert!(ticket == 1 || saved == 1, "it joins a sync that has not seen its update");
    }
}

pub(super) fn two_that_commit() {
    let group = Group::new();
    let first = group.spawn(1, |group, peer| group.commit(&peer, 0));
    let second = group.spawn(2, |group, peer| group.commit(&peer, 1));
    first.join().unwrap();
    second.join().unwrap();
}

/// A leader syncs, takes the lock once more, and is stopped: those whom its first sync has served
/// do not wait for it.
pub(super) fn stopped_leader() {
    let group = Group::new();
    let stopped = group.spawn(1, |group, peer| {
        group.commit(&peer, 0);
        loop {
            match try_lead((&*group.store.y, &peer)) {
                Some(lead) => return std::mem::forget(lead),
                None => yield_now(),
            }
        }
    });
    let caller = group.spawn(2, |group, peer| {
        let ticket = ticket(group);
        // If it came after the first sync, it waits, and rightly so.
        if ticket.0 == 0 {
            let deadline = &mut Deadline::new(None);
            drop(join((&*group.store.y, &peer), group, ticket, deadline).unwrap());
        }
    });
    stopped.join().unwrap();
    caller.join().unwrap();
}
