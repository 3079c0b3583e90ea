//! `check` of a damaged file ends in time: what it looks at, and how long it pauses, does not grow
//! with what the file claims.

use std::path::Path;
use std::time::Duration;

use crate::common::raw::Raw;
use crate::common::{folder, folder_in_memory, store_in, within};
use crate::damaged_files::{control, open};
use slotfile::{Check, OpenOptions};

/// A store of many slots, whose index has two million entries. Each slot has one line.
fn of_many_slots(path: &Path) {
    let mut options = OpenOptions::new();
    options.create_new(true).max_slots(1 << 20).max_size(2 << 30).sync_every(None);
    let store = options.open(path).unwrap();
    for n in 0..MANY {
        store.array::<u8>(&format!("{n}"), 8).unwrap();
    }
}

const MANY: u64 = 3_000;

/// Checks a damaged one, in a second at most. (It would be a minute if each slot had a pause of
/// its own, or a search of the whole index.)
fn check_in_time(path: &Path) -> Check {
    within(Duration::from_secs(20), "checking it", || open(path).unwrap().check().unwrap())
}

#[test]
fn row_31_many_locks_of_nobody_are_reported_in_time() {
    let folder = folder();
    let path = store_in(&folder);
    of_many_slots(&path);
    let raw = Raw::open(&path);
    (0..MANY).for_each(|line| raw.set_word(raw.control(line), control(7, 0)));
    let check = check_in_time(&path);
    let odd =
        check.problems.iter().filter(|problem| problem.what.contains("no process is that owner"));
    assert_eq!(odd.count() as u64, MANY);
}

#[test]
fn row_28_an_index_of_rubbish_is_reported_in_time() {
    let folder = folder();
    let path = store_in(&folder);
    of_many_slots(&path);
    let raw = Raw::open(&path);
    raw.write(raw.index(), &vec![!0; raw.index_len() as usize]);
    let check = check_in_time(&path);
    let lost = check.problems.iter().any(|problem| problem.what.contains("index does not lead"));
    let given_up = check.unverified.iter().any(|what| what.contains("whether the index leads"));
    assert!(lost && given_up, "{check:?}");
}

/// Slots that all lie at the place of the first: reading each of them is reading far more than the
/// file has.
#[test]
fn row_29_many_large_slots_at_one_place_are_reported_in_time() {
    const LARGE: usize = 64 << 20;
    let folder = folder_in_memory();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    options.create_new(true).max_slots(2 * MANY).max_size(2 << 30).sync_every(None);
    let store = options.open(&path).unwrap();
    store.array::<u8>("1000", LARGE).unwrap();
    for n in 1..MANY {
        store.array::<u8>(&format!("{}", 1_000 + n), 8).unwrap();
    }
    store.sync().unwrap();
    drop(store);
    let raw = Raw::open(&path);
    // All before the name, except the CRC.
    let first = raw.bytes(raw.line(0) + 4, 84);
    for line in 1..MANY {
        raw.write(raw.line(line) + 4, &first);
        raw.seal_line(line);
    }
    let check = check_in_time(&path);
    let overlapping = check.problems.iter().filter(|problem| problem.what.contains("overlaps"));
    assert!(overlapping.count() as u64 >= MANY - 1, "{:?}", check.problems.first());
}
