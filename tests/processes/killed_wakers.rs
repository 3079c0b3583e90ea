//! A process is killed before a wake-up that it owes: the waiters continue within 50 ms.

use std::time::{Duration, Instant};

use crate::common::trace::{Traced, mark};
use crate::common::{apart_to_trace, folder_in_memory, median, store_in};
use slotfile::{Array, Awaitable, Error, Store, Value};

const ROUNDS: usize = 5;
const HANG: Option<Duration> = Some(Duration::from_secs(60));

struct Slots {
    store: Store,
    x: Value<u64>,
    a: Array<u64>,
}

impl Slots {
    fn new(folder: &tempfile::TempDir) -> Slots {
        let store = Store::create(store_in(folder)).unwrap();
        let (x, a) = (store.value("x").unwrap(), store.array("a", 4).unwrap());
        Slots { store, x, a }
    }

    fn versions(&self) -> (u64, u64) {
        (self.x.version(), self.a.version())
    }
}

/// Runs `change` in a child up to the point of `stop`, where the slots are changed, and kills it
/// there, while a waiter waits for them. (Takes the median, for machines that stand still now and
/// then. Tries again if the waiter was not asleep in time, so that no wake-up was owed.)
fn killed_on_the_way(change: impl Fn(&Slots), stop: impl Fn(&Slots, (u64, u64), &mut Traced)) {
    let folder = folder_in_memory();
    let slots = Slots::new(&folder);
    let mut waits = Vec::new();
    for _ in 0..10 * ROUNDS {
        let seen = slots.versions();
        let mut child = Traced::start(|| {
            // Recovers the process killed in the last round, so that this does not interfere.
            drop((slots.x.lock().unwrap(), slots.a.lock().unwrap()));
            mark();
            change(&slots);
            mark();
        });
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let both: [(&dyn Awaitable, u64); 2] = [(&slots.x, seen.0), (&slots.a, seen.1)];
                (slots.store.wait_any(&both, HANG).unwrap(), Instant::now())
            });
            std::thread::sleep(Duration::from_millis(10));
            stop(&slots, seen, &mut child);
            let (owes, stopped) = (!child.is_over(), Instant::now());
            assert_ne!(slots.versions(), seen, "nothing has changed yet");
            child.kill();
            let (changed, woken) = waiter.join().unwrap();
            assert!(!changed.is_empty(), "waited in vain");
            if owes {
                waits.push(woken.saturating_duration_since(stopped));
            }
        });
        if waits.len() == ROUNDS {
            let median = median(&mut waits);
            println!("{median:?}");
            return assert!(median < Duration::from_millis(50), "median {median:?}");
        }
    }
    panic!("no wake-up was owed");
}

/// Killed before its first wake-up, with the store done.
fn before_its_wake(_: &Slots, _: (u64, u64), child: &mut Traced) {
    while child.next_call().is_some_and(|call| call.number != libc::SYS_futex) {}
}

/// Killed at the instruction that changes the versions of both slots at once.
fn when_it_has_changed(slots: &Slots, seen: (u64, u64), child: &mut Traced) {
    while slots.versions() == seen && child.step(1) == 1 {}
    let now = slots.versions();
    assert!(now.0 != seen.0 && now.1 != seen.1, "half a transaction");
}

fn pay(slots: &Slots) {
    let both = slots.store.transaction(|tx| {
        tx.fetch_add(&slots.x, 1)?;
        tx.update(&slots.a, |a| a[0] += 1)
    });
    both.map_err(|error: Error| error).unwrap();
}

#[test]
fn row_06_a_value_was_stored_but_nobody_woken() {
    if apart_to_trace("row_06_a_value_was_stored_but_nobody_woken") {
        killed_on_the_way(|slots| slots.x.store(1).unwrap(), before_its_wake);
    }
}

#[test]
fn row_06_an_array_was_stored_but_nobody_woken() {
    if apart_to_trace("row_06_an_array_was_stored_but_nobody_woken") {
        killed_on_the_way(|slots| slots.a.set(0, 1).unwrap(), before_its_wake);
    }
}

#[test]
fn row_06_a_transaction_was_committed_but_nobody_woken() {
    if apart_to_trace("row_06_a_transaction_was_committed_but_nobody_woken") {
        killed_on_the_way(pay, before_its_wake);
    }
}

/// Nothing is recovered yet, and no other process needs the slots, so none recovers the dead one.
#[test]
fn row_06_a_transaction_was_committed_but_not_settled() {
    if apart_to_trace("row_06_a_transaction_was_committed_but_not_settled") {
        killed_on_the_way(pay, when_it_has_changed);
    }
}
