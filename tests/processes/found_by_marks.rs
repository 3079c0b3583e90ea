//! Processes that update, define and remove slots of all kinds while others sync, and that are
//! killed at any moment: each change is found by the next sync, which looks only where marks lead
//! it. So afterwards every slot is what its copy says.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::state::{open, options, restart};
use crate::common::{self, Child, rounds, store_in};
use slotfile::{Buffer, Error, OpenOptions, Store};

/// Values: they fill several segments.
const VALUES: usize = 600;
/// Bytes of an array with four segments, and of one with a segment of its own.
const LARGE: usize = 200_000;
const LONG: usize = 2_000;
/// Slots that are defined and removed.
const NAMES: usize = 20;

fn value(number: usize) -> String {
    format!("value/{number}")
}

fn define_all(store: &Store) {
    for number in 0..VALUES {
        store.value::<u64>(&value(number)).unwrap();
    }
    store.array::<u8>("large", LARGE).unwrap();
    store.array::<u8>("long", LONG).unwrap();
    store.array::<u8>("short", 100).unwrap();
    store.text("text", 50).unwrap();
    store.counter("counter").unwrap();
    store.buffer::<u64>("buffer", 20_000).unwrap();
}

/// What may fail beside others who remove slots and are killed.
fn expected(error: &Error) -> bool {
    matches!(error, Error::Removed { .. } | Error::Evicted { .. } | Error::Full { .. })
}

fn update_for_ever(path: &Path, seed: u64) {
    let store = options().max_slots(1 << 20).lock_timeout(None).open(path).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let values: Vec<_> = (0..VALUES).map(|n| store.value::<u64>(&value(n)).unwrap()).collect();
    let arrays = [("large", LARGE), ("long", LONG), ("short", 100)]
        .map(|(n, l)| store.array::<u8>(n, l).unwrap());
    let text = store.text("text", 50).unwrap();
    let counter = store.counter("counter").unwrap();
    let buffer: Buffer<u64> = store.buffer("buffer", 20_000).unwrap();
    loop {
        // Mostly the same few, and sometimes others.
        let at = if random.bool() { random.usize(0..4) } else { random.usize(0..VALUES) };
        let array = &arrays[random.usize(0..3)];
        let element = random.usize(0..array.len());
        let done: Result<(), Error> = match random.u8(0..12) {
            0..4 => values[at].fetch_add(1).map(drop),
            4 | 5 => array.set(element, random.u8(..)).map(drop),
            6 => array.update(|all| all[element..].fill(3)).map(drop),
            7 => text.store(&"x".repeat(random.usize(0..50))).map(drop),
            8 => store.transaction(|transaction| {
                transaction.store(&values[at], 7)?;
                transaction.store(&values[VALUES - 1], 8)
            }),
            9 => counter.add(1).map(drop),
            10 => buffer.set(random.usize(0..20_000), 5).map(drop),
            _ => {
                let name = format!("name/{}", random.usize(0..NAMES));
                match random.u8(0..3) {
                    0 => store.remove(&name),
                    1 => store.array::<u8>(&name, LONG).and_then(|new| new.set(1, 1)).map(drop),
                    _ => store.value::<u64>(&name).and_then(|new| new.fetch_add(1)).map(drop),
                }
                .or_else(|error| match error {
                    Error::NotFound { .. } | Error::Type { .. } => Ok(()),
                    error => Err(error),
                })
            }
        };
        if let Err(error) = done {
            assert!(expected(&error), "{error}");
        }
    }
}

fn sync_for_ever(path: &Path) {
    let store = options().max_slots(1 << 20).lock_timeout(None).open(path).unwrap();
    loop {
        store.sync().unwrap();
    }
}

#[test]
fn each_change_beside_syncs_and_kills_is_in_the_next_sync() {
    const NAME: &str = "each_change_beside_syncs_and_kills_is_in_the_next_sync";
    match common::role().as_deref() {
        Some("updates") => return update_for_ever(&common::path(), common::number()),
        Some(_) => return sync_for_ever(&common::path()),
        None => {}
    }
    let folder = common::folder_in_memory();
    let path = store_in(&folder);
    let mut options: OpenOptions = options();
    let store = options.max_slots(1 << 20).lock_timeout(None).open(&path).unwrap();
    define_all(&store);
    let start = |number: u64| {
        let role = if number % 5 < 3 { "updates" } else { "syncs" };
        Child::spawn_with(NAME, role, &path, number)
    };
    let mut children: Vec<Child> = (0..5).map(start).collect();
    for round in 0..rounds(20, 400) as u64 {
        let until = Instant::now() + Duration::from_millis(fastrand::u64(1..60));
        while Instant::now() < until {
            store.sync().unwrap();
        }
        let killed = round as usize % 5;
        children[killed].kill();
        children[killed] = start(round + 5 - round % 5 + killed as u64);
        if round % 5 < 4 {
            continue;
        }
        // Nobody is left: what is not in this sync was not marked.
        children.clear();
        store.sync().unwrap();
        let check = store.check().unwrap();
        assert_eq!(check.problems, [], "round {round}");
        let differs: Vec<_> = check.unverified.iter().filter(|u| u.contains("changed")).collect();
        assert!(differs.is_empty(), "round {round}: {differs:?}");
        children = (0..5).map(|number| start(round + 1 + number)).collect();
    }
    drop(children);
    let there = common::state::State::of(&store);
    store.sync().unwrap();
    drop(store);
    restart(&path);
    let store = open(&path);
    assert!(common::state::State::of(&store) == there, "a restart returns to all of it");
    assert_eq!(store.check().unwrap().problems, []);
}
