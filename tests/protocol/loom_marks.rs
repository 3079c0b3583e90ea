//! Marks of loom's atomics, and the programs that loom runs of them. Every thread of these is
//! spawned: each reads what the others write.

use std::sync::atomic::Ordering;

use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::sync::atomic::{AtomicU64, fence};

use super::loom_scenarios::{Scenario, scenario};
use super::loom_store::{BEGIN, Peer, Store};
use super::weaken::weakened;
use crate::protocol::{
    self, Marks as _, Memory, Stand, State, clean, load_scalar, look_at_marked, stand,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("a slot made clean beside updates", 2, made_clean_beside_updates),
    scenario("a mark that is cleared beside two updates", 2, cleared_beside_two_updates),
    scenario("marks that are cleared beside locks", 2, cleared_beside_locks),
    scenario("a sync after updates", 2, sync_after_updates),
    scenario("a look at what has changed, and at its cause", 2, look_at_cause_and_effect),
    scenario("a reader of what was made clean and updated", 2, reader_of_what_was_made_clean),
];

/// The marks of all slots, in one word.
pub(super) struct Marks {
    word: AtomicU64,
    cleaning: AtomicU64,
}

impl Marks {
    pub(super) fn new(word: u64) -> Marks {
        Marks { word: AtomicU64::new(word), cleaning: AtomicU64::new(0) }
    }
}

impl protocol::Marks for Marks {
    fn words(&self) -> usize {
        1
    }

    fn load(&self, _: usize, order: Ordering) -> u64 {
        self.word.load(weakened("load_marks", order))
    }

    fn set(&self, _: usize, bits: u64, order: Ordering) {
        self.word.fetch_or(bits, weakened("set_marks", order));
    }

    fn clear(&self, _: usize, bits: u64, order: Ordering) {
        self.word.fetch_and(!bits, weakened("clear_marks", order));
    }

    fn cleaning(&self, order: Ordering) -> u64 {
        self.cleaning.load(weakened("cleaning", order))
    }

    fn set_cleaning(&self, cleaning: u64, order: Ordering) {
        self.cleaning.store(cleaning, weakened("set_cleaning", order));
    }

    fn fence(&self, order: Ordering) {
        match weakened("fence", order) {
            Relaxed => {}
            order => fence(order),
        }
    }
}

/// The segment of X; that of Y is the next.
const OF_X: u64 = 1;
const OF_Y: u64 = 2;

impl Store {
    /// What a sync does after its acknowledgement, if it has copied both slots at this version.
    fn clean(&self, version: u64) {
        let copied = Stand { version, is_removed: false };
        let slots = [(&*self.x, copied), (&*self.y, copied)];
        clean(&*self.marks, 0, OF_X | OF_Y, slots.into_iter(), || 0);
    }

    /// The versions of X and Y at one instant, by the marks; 0: as their copies say.
    fn cut(&self, peer: &Peer) -> [u64; 2] {
        let (mut versions, mut looked) = ([0; 2], [0]);
        let look = |segment: usize, versions: &mut [u64; 2]| {
            let slot = [&*self.x, &*self.y][segment];
            let version = stand(slot, peer).map_or(0, |stand| stand.version);
            std::mem::replace(&mut versions[segment], version) != version
        };
        while look_at_marked(&*self.marks, &mut looked, |segment| look(segment, &mut versions)) {}
        versions
    }

    /// Whichever of them has changed is marked.
    fn assert_marked(&self) {
        let marks = self.marks.load(0, Relaxed);
        for (slot, bit) in [(&self.x, OF_X), (&self.y, OF_Y)] {
            let control = slot.control(Relaxed);
            let has_changed = control.version() != BEGIN;
            assert!(!has_changed || marks & bit != 0, "not marked: {control:?}");
        }
    }
}

/// A sync makes all clean, or finds the slots clean and clears their marks, while others change
/// them.
fn beside(state: State, others: &[fn(&Store, &Peer)]) {
    let store = Store::marked(state, OF_X | OF_Y);
    let sync = store.spawn(3, |store, _| store.clean(BEGIN));
    let others: Vec<_> = others
        .iter()
        .zip(1..)
        .map(|(other, owner)| {
            let other = *other;
            store.spawn(owner, move |store, me| other(store, &me))
        })
        .collect();
    sync.join().unwrap();
    for other in others {
        other.join().unwrap();
    }
    store.assert_marked();
}

fn add(store: &Store, me: &Peer) {
    store.add(me, 1);
}

fn made_clean_beside_updates() {
    beside(State::Dirty, &[add, add]);
}

/// One of them may find that the other has touched it.
fn cleared_beside_two_updates() {
    beside(State::Clean, &[add, add]);
}

fn cleared_beside_locks() {
    beside(
        State::Clean,
        &[|store, me| store.transaction_of_x(me, 1), |store, me| store.update(me, 0, 1)],
    );
}

/// A thread that commits, and then finds that no sync has begun, is in the next one.
fn sync_after_updates() {
    let store = Store::marked(State::Clean, 0);
    let committers = [(1, OF_X), (2, OF_Y)].map(|(owner, bit)| {
        store.spawn(owner, move |store, me| {
            if bit == OF_X {
                store.add(&me, 1);
            } else {
                store.update(&me, 0, 1);
            }
            fence(SeqCst);
            store.late.fetch_or(bit * store.data.load(Relaxed), Relaxed);
        })
    });
    let sync = store.spawn(3, |store, me| {
        store.data.store(1, Relaxed);
        fence(SeqCst);
        let found = store.cut(&me).map(|version| u64::from(version == BEGIN + 1));
        store.found.store((found[0] * OF_X) | (found[1] * OF_Y), Relaxed);
    });
    for committer in committers {
        committer.join().unwrap();
    }
    sync.join().unwrap();
    let all = store.late.load(Relaxed) | store.found.load(Relaxed);
    assert_eq!(all, OF_X | OF_Y, "a sync that began afterwards has missed it");
}

/// Y was updated by a thread that had seen the update of X.
fn look_at_cause_and_effect() {
    let store = Store::marked(State::Clean, 0);
    let sync = store.spawn(3, |store, me| {
        let [x, y] = store.cut(&me);
        assert!(y == 0 || x != 0, "the effect without its cause");
    });
    let second = store.spawn(2, |store, me| {
        if load_scalar(&*store.x, &me) == 1 {
            store.update(&me, 0, 1);
        }
    });
    add(&store, &store.peer(1));
    sync.join().unwrap();
    second.join().unwrap();
}

/// Neither a touch nor a sync hides what an update's thread did before.
fn reader_of_what_was_made_clean() {
    let store = Store::marked(State::Dirty, OF_X);
    let sync = store.spawn(3, |store, _| store.clean(BEGIN + 1));
    let reader = store.spawn(2, |store, me| {
        let x = load_scalar(&*store.x, &me);
        assert!(x == 0 || store.data.load(Relaxed) == 1, "what the updater did before is missing");
    });
    store.data.store(1, Relaxed);
    add(&store, &store.peer(1));
    sync.join().unwrap();
    reader.join().unwrap();
}
