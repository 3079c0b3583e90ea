//! The programs that loom runs. Each is a promise about what one thread sees of another.
//!
//! Slots begin with zeros, at version 1.
//!
//! Loom lets a load return any older value, but does not go back to put a store before a load that
//! has already run. So the main thread, which runs first, writes or only waits, and readers are
//! spawned. If a reader ran first, loom would see a single execution, without the race, and the
//! test would be green.

use loom::sync::atomic::Ordering::Relaxed;
use loom::thread::{JoinHandle, spawn, yield_now};

use super::loom_group;
use super::loom_store::{Awaited, BEGIN, Cells, Death, Peer, Slot, Store, WIDTH, Waiter};
use super::update;
use crate::protocol::{
    Change, Deadline, Memory, Owner, Peers as _, Replacement, Sample, claim, commit_all,
    have_changed, load_scalar, load_scalar_versioned, lock, read, read_by_pieces, settle, snapshot,
    wait_any,
};

/// A promise: `run` panics in an execution that breaks it.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) run: fn(),
    /// How often, at most, a thread that could go on is interrupted.
    pub(super) preemptions: usize,
}

pub(super) const fn scenario(name: &'static str, preemptions: usize, run: fn()) -> Scenario {
    Scenario { name, run, preemptions }
}

/// Those of marks are in `loom_marks.rs`.
pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("a waiter for a scalar", 5, waiter_for_a_scalar),
    scenario("a waiter for two slots", 2, waiter_for_two_slots),
    scenario("a waiter for one slot, and one for two", 2, waiters_for_one_and_for_two),
    scenario("a waiter for a transaction", 2, waiter_for_a_transaction),
    scenario("a reader of two areas", 2, reader_of_two_areas),
    scenario("a reader of four areas", 2, reader_of_four_areas),
    scenario("a reader that follows the updates", 1, follower),
    scenario("two writers of different words", 5, two_writers),
    scenario("an array, then a scalar", 5, array_then_scalar),
    scenario("an update that stores nothing", 5, update_that_declines),
    scenario("the value and the version of a scalar", 5, versioned_scalar),
    scenario("a value that is never older than its version", 5, value_and_its_control_word),
    scenario("data under a lock", 5, data_under_a_lock),
    scenario("sleepers until a lock is free", 2, sleepers_until_a_lock_is_free),
    scenario("an update after a guard", 5, update_after_a_guard),
    scenario("an update that had to wait", 3, update_that_had_to_wait),
    scenario("a transaction, scalar first", 2, transaction_x_then_y),
    scenario("a transaction, array first", 2, transaction_y_then_x),
    scenario("two transactions on one scalar", 2, two_drafts),
    scenario("two transactions on one array", 2, two_transactions_on_an_array),
    scenario("a snapshot beside a writer", 2, snapshot_beside_a_writer),
    scenario("a snapshot beside a transaction", 2, snapshot_beside_a_transaction),
    scenario("loads that are checked again, beside a transaction", 2, loads_beside_a_transaction),
    scenario("a thread that died after the commit point", 3, recovery_after_commit),
    scenario("a thread that died before the commit point", 2, recovery_before_commit),
    scenario("an entry used again", 3, entry_used_again),
    scenario("the entry of a thread that died after the commit point", 2, claim_after_commit),
    scenario("two callers beside the leader of a sync", 3, loom_group::callers_and_leader),
    scenario("two that commit", 2, loom_group::two_that_commit),
    scenario("a leader that is stopped after its sync", 3, loom_group::stopped_leader),
];

impl Store {
    /// Commits `to` into this word of Y, the first or the second.
    pub(super) fn update(&self, peer: &Peer, word: usize, to: u8) {
        let held = lock((&*self.y, peer), &mut Deadline::new(None)).unwrap();
        held.commit(&self.areas(), 8 * word, &[to; 8]).unwrap();
    }

    fn read(&self, peer: &Peer) -> ([u64; WIDTH], u64) {
        let mut content = [0; WIDTH];
        let version = read(&*self.y, peer, &self.areas(), |y, area| content = load_area(y, area));
        (content, version)
    }

    pub(super) fn add(&self, peer: &Peer, n: u64) -> u64 {
        let add = |value| Some(value + n);
        let deadline = &mut Deadline::new(None);
        update(&*self.x, peer, deadline, false, add).unwrap().unwrap()
    }

    /// Sets X, and every word of Y, in one transaction.
    fn transaction(&self, peer: &Peer, to: u8) {
        let deadline = &mut Deadline::new(None);
        let x = lock((&*self.x, peer), deadline).unwrap();
        let y = lock((&*self.y, peer), deadline).unwrap();
        let data = [to; 8 * WIDTH];
        let area = Change::Area(Replacement { areas: &self.areas(), at: 0, data: &data });
        let changes = [(x, Change::Scalar(to.into())), (y, area)];
        commit_all(peer, peer.me().unwrap(), &changes[..]).unwrap();
    }

    pub(super) fn transaction_of_x(&self, peer: &Peer, to: u64) {
        let x = lock((&*self.x, peer), &mut Deadline::new(None)).unwrap();
        commit_all(peer, peer.me().unwrap(), &[(x, Change::Scalar(to))][..]).unwrap();
    }

    fn transaction_of_y(&self, peer: &Peer, to: u8) {
        let y = lock((&*self.y, peer), &mut Deadline::new(None)).unwrap();
        let data = [to; 8 * WIDTH];
        let area = Change::Area(Replacement { areas: &self.areas(), at: 0, data: &data });
        commit_all(peer, peer.me().unwrap(), &[(y, area)][..]).unwrap();
    }

    /// Waits until one of these slots has another version than at first. Returns which.
    fn wait(&self, peer: &Peer, slots: &[&Slot]) -> Vec<usize> {
        let each = slots.iter().map(|slot| Awaited { peer, slot }).collect::<Vec<_>>();
        let awaited: Vec<_> = each.iter().map(|one| (one, BEGIN)).collect();
        let deadline = &mut Deadline::new(None);
        let changed = wait_any(&awaited, deadline, &mut Waiter { slots, heard: 0 }).unwrap();
        assert!(!changed.is_empty(), "woken for nothing");
        changed
    }

    /// Runs `f` in a thread that has this owner number.
    pub(super) fn spawn(
        &self,
        me: Owner,
        f: impl FnOnce(&Store, Peer) + 'static,
    ) -> JoinHandle<()> {
        let store = self.clone();
        spawn(move || f(&store, store.peer(me)))
    }
}

fn load_area(y: &impl Memory, area: usize) -> [u64; WIDTH] {
    let mut bytes = [[0; 8]; WIDTH];
    y.read(area, 0, bytes.as_flattened_mut());
    bytes.map(u64::from_le_bytes)
}

/// A word of eight such bytes.
const fn word(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Checks what was read of Y against its contents, by version.
fn assert_among(contents: &[[u64; WIDTH]], (content, version): ([u64; WIDTH], u64)) {
    let expected = contents[(version - BEGIN) as usize];
    assert_eq!(content, expected, "torn, or not the content of version {version}");
}

fn reader_of_two_areas() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let contents = [[0, 0], [word(1), 0], [word(1), word(2)]];
        assert_among(&contents, store.read(&me));
    });
    let me = store.peer(1);
    store.update(&me, 0, 1);
    store.update(&me, 1, 2);
    reader.join().unwrap();
}

/// The third update is the first whose stale range replaces the earlier ones.
fn follower() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let contents = [[0, 0], [word(1), 0], [word(1), word(2)], [word(1), word(3)]];
        let mut bytes = [[0; 8]; WIDTH];
        let version = read_by_pieces(&*store.y, &me, &store.areas(), 0, bytes.as_flattened_mut());
        assert_among(&contents, (bytes.map(u64::from_le_bytes), version));
    });
    let me = store.peer(1);
    for (index, to) in [(0, 1), (1, 2), (1, 3)] {
        store.update(&me, index, to);
    }
    reader.join().unwrap();
}

/// The fourth update is the first to store into the area that was current at first.
fn reader_of_four_areas() {
    let store = Store::new(Cells::Packed, 4);
    let reader = store.spawn(2, |store, me| {
        let contents = [[0, 0], [word(1), 0], [word(2), 0], [word(3), 0], [word(3), word(4)]];
        assert_among(&contents, store.read(&me));
    });
    let me = store.peer(1);
    for (index, to) in [(0, 1), (0, 2), (0, 3), (1, 4)] {
        store.update(&me, index, to);
    }
    reader.join().unwrap();
}

/// The second writer keeps what the first one stored.
fn two_writers() {
    let store = Store::new(Cells::Packed, 2);
    let other = store.spawn(2, |store, me| store.update(&me, 1, 2));
    let me = store.peer(1);
    store.update(&me, 0, 1);
    let (content, _) = store.read(&me);
    assert_eq!(content[0], word(1), "lost");
    other.join().unwrap();
    assert_eq!(store.read(&me).0, [word(1), word(2)], "lost");
}

/// A thread that sees the scalar's new value sees the array that was updated before.
fn array_then_scalar() {
    let store = Store::new(Cells::Split, 2);
    let reader = store.spawn(2, |store, me| {
        let x = load_scalar(&*store.x, &me);
        let (_, version) = store.read(&me);
        assert!(version - BEGIN >= x, "the scalar came before the array");
    });
    let me = store.peer(1);
    for to in 1..=2 {
        store.update(&me, 0, to);
        store.add(&me, 1);
    }
    reader.join().unwrap();
}

/// An update that finds another thread's value and stores nothing has acquired that value, too.
fn update_that_declines() {
    let store = Store::new(Cells::Packed, 2);
    let other = store.spawn(2, |store, me| {
        let if_zero = |value| (value == 0).then_some(0);
        let deadline = &mut Deadline::new(None);
        let updated = update(&*store.x, &me, deadline, false, if_zero).unwrap();
        let (_, version) = store.read(&me);
        let x = updated.unwrap_or_else(|declined| declined);
        assert!(version - BEGIN >= x, "the scalar came before the array");
    });
    let me = store.peer(1);
    for to in 1..=2 {
        store.update(&me, 0, to);
        store.add(&me, 1);
    }
    other.join().unwrap();
}

fn versioned_scalar() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let (value, version) = load_scalar_versioned(&*store.x, &me);
        assert_eq!(value, version - BEGIN, "the value of another version");
    });
    let me = store.peer(1);
    for _ in 0..3 {
        store.add(&me, 1);
    }
    reader.join().unwrap();
}

/// The two halves of a cell are loaded one after the other. (With two atomics the value may be
/// visible before its control word, so it may be newer than its version here.)
fn value_and_its_control_word() {
    let store = Store::new(Cells::Split, 2);
    let reader = store.spawn(2, |store, me| {
        let (value, version) = load_scalar_versioned(&*store.x, &me);
        assert!(value >= version - BEGIN, "the value of an older version");
    });
    let me = store.peer(1);
    store.add(&me, 1);
    store.add(&me, 1);
    reader.join().unwrap();
}

/// What is done under a lock is done by one thread at a time, and seen by the next.
fn data_under_a_lock() {
    let store = Store::new(Cells::Packed, 2);
    let add = |store: &Store, me: &Peer| {
        let _held = lock((&*store.y, me), &mut Deadline::new(None)).unwrap();
        store.data.store(store.data.load(Relaxed) + 1, Relaxed);
    };
    let other = store.spawn(2, move |store, me| {
        add(store, &me);
        add(store, &me);
    });
    let me = store.peer(1);
    add(&store, &me);
    add(&store, &me);
    other.join().unwrap();
    assert_eq!(store.data.load(Relaxed), 4, "lost");
}

/// Each of three threads is woken, and sees what was done under the lock before.
fn sleepers_until_a_lock_is_free() {
    let store = Store::new(Cells::Packed, 2);
    store.y.sleepers.store(true, Relaxed);
    let add = |store: &Store, me: &Peer| {
        let _held = lock((&*store.y, me), &mut Deadline::new(None)).unwrap();
        store.data.store(store.data.load(Relaxed) + 1, Relaxed);
    };
    let others = [2, 3].map(|owner| store.spawn(owner, move |store, me| add(store, &me)));
    add(&store, &store.peer(1));
    for other in others {
        other.join().unwrap();
    }
    assert_eq!(store.data.load(Relaxed), 3, "lost");
}

/// A scalar's update comes after what was done under each guard before it.
fn update_after_a_guard() {
    let store = Store::new(Cells::Packed, 2);
    let updater = store.clone();
    let updated = spawn(move || {
        updater.add(&updater.peer(2), 1);
        updater.data.load(Relaxed)
    });
    let me = store.peer(1);
    let mut guards_before = 0;
    for guard in 1..=2 {
        let held = lock((&*store.x, &me), &mut Deadline::new(None)).unwrap();
        store.data.store(guard, Relaxed);
        if held.version() == BEGIN {
            guards_before = guard;
        }
    }
    let seen = updated.join().unwrap();
    assert!(seen >= guards_before, "the update did not see what was done under the guard");
}

/// A thread that sees the update sees what the updating thread did before.
fn update_that_had_to_wait() {
    let store = Store::new(Cells::Packed, 2);
    let me = store.peer(1);
    let guard = lock((&*store.x, &me), &mut Deadline::new(None)).unwrap();
    let updater = store.spawn(2, |store, me| {
        store.data.store(1, Relaxed);
        store.add(&me, 1);
    });
    let reader = store.spawn(3, |store, me| {
        let x = load_scalar(&*store.x, &me);
        assert!(x == 0 || store.data.load(Relaxed) == 1, "what the updater did before is missing");
    });
    drop(guard);
    updater.join().unwrap();
    reader.join().unwrap();
}

/// No thread sees half a transaction: one that has seen it on X sees it on Y.
fn transaction_x_then_y() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let x = load_scalar(&*store.x, &me);
        let (y, _) = store.read(&me);
        assert!(x == 0 || y == [word(1); 2], "X = {x}, then Y = {y:x?}");
    });
    store.transaction(&store.peer(1), 1);
    reader.join().unwrap();
}

fn transaction_y_then_x() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let (y, _) = store.read(&me);
        let x = load_scalar(&*store.x, &me);
        assert!(y == [0; 2] || x == 1, "Y = {y:x?}, then X = {x}");
    });
    store.transaction(&store.peer(1), 1);
    reader.join().unwrap();
}

/// The draft of the second is not taken for what the first has committed.
fn two_drafts() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let (value, version) = load_scalar_versioned(&*store.x, &me);
        assert_eq!(value, version - BEGIN, "the value of another version");
    });
    let me = store.peer(1);
    store.transaction_of_x(&me, 1);
    store.transaction_of_x(&me, 2);
    reader.join().unwrap();
}

fn two_transactions_on_an_array() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let contents = [[0; 2], [word(1); 2], [word(2); 2]];
        assert_among(&contents, store.read(&me));
    });
    let me = store.peer(1);
    store.transaction_of_y(&me, 1);
    store.transaction_of_y(&me, 2);
    reader.join().unwrap();
}

/// X and Y as they were at one instant.
fn take_snapshot(store: &Store, peer: &Peer) -> (u64, [u64; WIDTH]) {
    let (mut x, mut y) = (0, [0; WIDTH]);
    let slot = |place: usize| [&*store.x, &*store.y][place];
    let copy = |_, memory: &_, sample| match sample {
        Sample::Scalar(value) => x = value,
        Sample::Area(area) => y = load_area(memory, area),
    };
    snapshot(peer, &mut [0; 2], slot, copy);
    (x, y)
}

fn snapshot_beside_a_writer() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let seen = take_snapshot(store, &me);
        let instants = [(0, [0; 2]), (0, [word(1), 0]), (0, [word(1), word(2)])];
        let instants = instants.into_iter().chain([(1, [word(1), word(2)])]);
        assert!(instants.into_iter().any(|i| i == seen), "{seen:x?} never was the state");
    });
    let me = store.peer(1);
    store.update(&me, 0, 1);
    store.update(&me, 1, 2);
    store.add(&me, 1);
    reader.join().unwrap();
}

fn snapshot_beside_a_transaction() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let seen = take_snapshot(store, &me);
        let instants = [0, 1].map(|n: u8| (u64::from(n), [word(n); 2]));
        assert!(instants.contains(&seen), "{seen:x?} never was the state");
    });
    let me = store.peer(1);
    store.transaction(&me, 1);
    reader.join().unwrap();
}

fn loads_beside_a_transaction() {
    let store = Store::new(Cells::Packed, 2);
    let reader = store.spawn(2, |store, me| {
        let (x, version) = load_scalar_versioned(&*store.x, &me);
        let (y, _) = store.read(&me);
        if !have_changed(&me, [(&*store.x, version)].into_iter(), |_| ()) {
            assert!((x, y) == (0, [0; 2]) || (x, y) == (1, [word(1); 2]), "{x}, {y:x?}");
        }
    });
    store.transaction(&store.peer(1), 1);
    reader.join().unwrap();
}

/// The recovery of X completes the transaction, and a thread that has seen it sees Y committed,
/// too.
fn recovery_after_commit() {
    let store = Store::new(Cells::Packed, 2);
    let dead = store.spawn(2, |store, me| {
        me.die(Death::AfterCommitPoint, |me| store.transaction(me, 1));
    });
    let recoverer = store.spawn(1, |store, me| {
        if store.add(&me, 4) == 1 {
            assert_eq!(store.read(&me).0, [word(1); 2], "half a transaction");
        }
    });
    dead.join().unwrap();
    recoverer.join().unwrap();
    assert_eq!(store.read(&store.peer(3)).0, [word(1); 2], "not committed");
}

/// The transaction word of the dead thread's last transaction does not commit its next one.
fn recovery_before_commit() {
    let store = Store::new(Cells::Packed, 2);
    let dead = store.spawn(2, |store, me| {
        store.transaction_of_x(&me, 1);
        me.die(Death::BeforeCommitPoint, |me| store.transaction_of_x(me, 2));
    });
    let recoverer = store.spawn(1, |store, me| {
        let before = store.add(&me, 4);
        assert!(before < 2, "an uncommitted value is there");
    });
    dead.join().unwrap();
    recoverer.join().unwrap();
    let me = store.peer(3);
    let last = store.add(&me, 0);
    assert!(last == 1 || last == 5, "{last}");
}

/// A thread that claims an entry finds no slot that names it.
fn entry_used_again() {
    let store = Store::new(Cells::Packed, 2);
    let next = store.spawn(1, |store, me| {
        if claim(&me, 2, || {
            settle_all(store, &me, 2);
            true
        }) {
            store.update(&store.peer(2), 1, 2);
        }
    });
    let reader = store.spawn(3, |store, me| {
        let contents = [[0, 0], [word(1), 0], [word(1), word(2)]];
        assert_among(&contents, store.read(&me));
    });
    let me = store.peer(2);
    store.update(&me, 0, 1);
    me.leave();
    reader.join().unwrap();
    next.join().unwrap();
}

/// A thread that sees the dead owner's entry as IDLE again sees all that the owner had committed.
fn claim_after_commit() {
    let store = Store::new(Cells::Packed, 2);
    let dead = store.spawn(2, |store, me| {
        me.die(Death::AfterCommitPoint, |me| store.transaction(me, 1));
    });
    let claimant = store.spawn(1, |store, me| {
        while !claim(&me, 2, || {
            settle_all(store, &me, 2);
            true
        }) {
            yield_now();
        }
    });
    let reader = store.spawn(3, |store, me| {
        let (y, _) = store.read(&me);
        let x = load_scalar(&*store.x, &me);
        assert!(y == [0; 2] || x == 1, "Y = {y:x?}, then X = {x}");
    });
    dead.join().unwrap();
    claimant.join().unwrap();
    reader.join().unwrap();
}

/// A waiter sleeps until the change, and sees what its writer did before.
fn waiter_for_a_scalar() {
    let store = Store::new(Cells::Packed, 2);
    let waiter = store.spawn(2, |store, me| {
        store.wait(&me, &[&store.x]);
        assert_eq!(store.data.load(Relaxed), 1, "what the writer did before the change is missing");
    });
    let me = store.peer(1);
    store.data.store(1, Relaxed);
    store.add(&me, 1);
    waiter.join().unwrap();
}

/// A lock that comes and goes does not hide the change.
fn waiter_for_two_slots() {
    let store = Store::new(Cells::Packed, 2);
    let waiter = store.spawn(2, |store, me| {
        assert_eq!(store.wait(&me, &[&store.x, &store.y]), [1]);
        assert_among(&[[0, 0], [word(1), 0]], store.read(&me));
    });
    let me = store.peer(1);
    drop(lock((&*store.x, &me), &mut Deadline::new(None)).unwrap());
    store.update(&me, 0, 1);
    waiter.join().unwrap();
}

/// If W is set already, only the event count tells that it was cleared.
fn waiters_for_one_and_for_two() {
    let store = Store::new(Cells::Packed, 2);
    let one = store.spawn(2, |store, me| drop(store.wait(&me, &[&store.y])));
    let other = store.spawn(3, |store, me| {
        assert_eq!(store.wait(&me, &[&store.x, &store.y]), [1]);
    });
    store.update(&store.peer(1), 0, 1);
    one.join().unwrap();
    other.join().unwrap();
}

fn waiter_for_a_transaction() {
    let store = Store::new(Cells::Packed, 2);
    let waiter = store.spawn(2, |store, me| {
        store.wait(&me, &[&store.y]);
        assert_eq!(load_scalar(&*store.x, &me), 1, "half a transaction");
    });
    store.transaction(&store.peer(1), 1);
    waiter.join().unwrap();
}

fn settle_all(store: &Store, me: &Peer, owner: Owner) {
    settle(&*store.x, me, owner);
    settle(&*store.y, me, owner);
}
