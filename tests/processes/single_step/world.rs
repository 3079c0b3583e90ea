//! A store that survives one killed process after the other.

use std::path::PathBuf;
use std::time::Duration;

use slotfile::{Array, Data, Elements, Scalar, ScalarType, Store, Value};

use crate::common::state::{State, open, restart};
use crate::common::{folder_in_memory, store_in, within};

/// Elements of the small array, and of the one with segments and pages of its own.
pub(crate) const WORDS: usize = 24;
pub(crate) const LARGE: usize = 1_200;

pub(crate) fn number(n: u64) -> Data {
    Scalar::from(n).into()
}

pub(crate) fn numbers(n: &[u64]) -> Data {
    let bytes = n.iter().flat_map(|n| n.to_le_bytes()).collect();
    Elements::from_bytes(ScalarType::U64, bytes).unwrap().into()
}

/// The same state but for the small array.
pub(crate) fn with_array(state: &State, change: impl FnOnce(&mut [u64])) -> State {
    let Some(Data::Array(elements)) = state.0.get("array") else { panic!("no array") };
    let bytes = elements.as_bytes();
    let mut now: Vec<u64> =
        bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
    change(&mut now);
    state.with("array", numbers(&now))
}

pub(crate) fn array(store: &Store) -> Array<u64> {
    store.array("array", WORDS).unwrap()
}

pub(crate) fn value(store: &Store) -> Value<u64> {
    store.value("value").unwrap()
}

/// Takes an entry of the process table for this thread in advance.
pub(crate) fn claim(store: &Store) {
    drop(value(store).lock().unwrap());
}

pub(crate) struct World {
    /// Removed with this.
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    /// As of the last sync that was acknowledged.
    pub(crate) synced: State,
    /// Kills so far, and since the store was new.
    pub(crate) round: u64,
    pub(crate) age: u64,
}

impl World {
    pub(crate) fn new() -> World {
        let folder = folder_in_memory();
        let path = store_in(&folder);
        let mut world = World { _folder: folder, path, synced: State::default(), round: 0, age: 0 };
        world.renew();
        world
    }

    /// Starts over with a new store.
    pub(crate) fn renew(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let store = open(&self.path);
        value(&store).store(1).unwrap();
        array(&store).update(|a| a.fill(1)).unwrap();
        store.array::<u64>("large", LARGE).unwrap().update(|a| a.fill(1)).unwrap();
        store.text("text", 40).unwrap().store("at first").unwrap();
        store.sync().unwrap();
        (self.synced, self.age) = (State::of(&store), 0);
    }

    /// What a reader sees, which recovers nothing.
    pub(crate) fn state(&self) -> State {
        State::of(&Store::open_read_only(&self.path).unwrap())
    }

    /// Checks that nothing blocks the next process: it finds what a reader saw, gets every lock,
    /// makes its own updates, defines and removes.
    pub(crate) fn next_process(&mut self, found: &State) {
        let (path, round) = (&self.path, self.round);
        let store = within(Duration::from_secs(5), "opening", || open(path));
        let now = || State::of(&store);
        within(Duration::from_secs(5), "taking all locks", || {
            assert_eq!(now(), *found, "the next process finds another state");
            for slot in store.slots().unwrap() {
                drop(slot.lock().unwrap());
            }
            assert_eq!(now(), *found, "recovering has changed it");
            // Other ranges than the victim's, whose half-written data must not show.
            let from = (5 * round) as usize % (WORDS - 2);
            let changed = with_array(found, |a| a[from..from + 3].fill(1_000_000 + round));
            array(&store).update_range(from..from + 3, |a| a.fill(1_000_000 + round)).unwrap();
            assert_eq!(now(), changed, "the next update brings something back");
            array(&store).update_range(0..1, |a| a[0] = round).unwrap();
            let changed = with_array(&changed, |a| a[0] = round);
            assert_eq!(now(), changed, "the one after it brings something back");
            value(&store).store(2_000_000 + round).unwrap();
            let mut changed = changed.with("value", number(2_000_000 + round));
            // Slots beside the victim's, if it has one, and one of its name, which is free again.
            for name in ["next", "new"] {
                if changed.0.remove(name).is_some() {
                    store.remove(name).unwrap();
                }
                let slot = store.array::<u64>(name, 3).unwrap();
                assert_eq!(slot.load(), [0; 3], "a new slot is zero");
                slot.store(&[round; 3]).unwrap();
                changed = changed.with(name, numbers(&[round; 3]));
                assert_eq!(now(), changed, "the new slot {name} lies upon another");
            }
            for name in ["next", "new"] {
                store.remove(name).unwrap();
            }
            assert_eq!(now(), changed.without("next").without("new"));
        });
        if round % 8 == 0 {
            drop(store);
            self.check_from_scratch();
        }
    }

    pub(crate) fn check_from_scratch(&self) {
        let store = open(&self.path);
        let check = store.check().unwrap();
        assert!(check.is_ok(), "{:?}", check.problems);
    }

    /// After a restart, the store is as of an acknowledged sync, or the one in flight.
    pub(crate) fn restart_to_one_of(&mut self, states: &[&State]) {
        restart(&self.path);
        let now = State::of(&open(&self.path));
        let place = states.iter().position(|s| **s == now);
        assert!(place.is_some(), "after a restart: {now:?}\nis none of\n{states:?}");
        self.synced = now;
    }
}
