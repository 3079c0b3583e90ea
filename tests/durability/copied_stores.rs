//! Copies of stores in use: `cp` gives a consistent sync or a refusal that says how to copy
//! (row 26); `copy_to` always gives the state of one instant. And compacting.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common;
use crate::common::{Child, folder, role, rounds, store_in};
use slotfile::{Define, Error, OpenOptions, Recovery, Store};

const SLOTS: usize = 6;

fn open(path: &Path) -> Result<Store, Error> {
    OpenOptions::new().create(true).max_slots(64).max_size(64 << 20).sync_every(None).open(path)
}

/// Writes round after round: each slot is filled with its round's number, and the slots go to
/// the next round in order. So at any instant all slots are of one round, or those up to some
/// slot are one ahead of the others.
fn write_rounds(path: &Path) -> ! {
    let store = open(path).unwrap();
    let arrays: Vec<_> =
        (0..SLOTS).map(|i| store.array::<u64>(&format!("slot{i}"), length(i)).unwrap()).collect();
    let mut round = arrays[0].get(0).unwrap();
    // A killed writer may have left the later slots behind.
    arrays.iter().for_each(|array| array.update(|a| a.fill(round)).unwrap());
    loop {
        round += 1;
        for array in &arrays {
            array.update(|a| a.fill(round)).unwrap();
        }
    }
}

/// Some small, some with checkpoint segments of their own.
fn length(i: usize) -> usize {
    [3, 10_000, 20][i % 3]
}

/// The newest round in a store; panics unless the store is the state of one instant.
fn round_of(store: &Store) -> u64 {
    let contents: Vec<Vec<u64>> = (0..SLOTS)
        .map(|i| store.array::<u64>(&format!("slot{i}"), length(i)).unwrap().load())
        .collect();
    for (i, content) in contents.iter().enumerate() {
        assert!(content.iter().all(|x| *x == content[0]), "slot{i} is torn");
    }
    let rounds: Vec<u64> = contents.iter().map(|content| content[0]).collect();
    let in_order = rounds.is_sorted_by(|a, b| a >= b) && rounds[0] - rounds[SLOTS - 1] <= 1;
    assert!(in_order, "not of one instant: {rounds:?}");
    rounds[0]
}

fn defined(path: &Path) -> Store {
    let store = open(path).unwrap();
    for i in 0..SLOTS {
        store.array::<u64>(&format!("slot{i}"), length(i)).unwrap();
    }
    store.sync().unwrap();
    store
}

/// Runs `f` while a process writes rounds, and a thread syncs as often as it can if asked.
fn while_written(test: &str, path: &Path, syncs: bool, f: impl FnOnce(&Store)) {
    let store = defined(path);
    let writer = Child::spawn(test, "writer", path);
    let start = store.array::<u64>("slot0", length(0)).unwrap();
    common::until("the writer has begun", || start.get(0).unwrap() > 2);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while syncs && !done.load(Ordering::Relaxed) {
                store.sync().unwrap();
            }
        });
        // Also on a panic, or the scope would wait forever.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _done = Done(&done);
        f(&store);
    });
    drop(writer);
}

#[test]
fn row_26_cp_of_a_store_in_use_is_a_consistent_commit_or_a_refusal_that_says_how_to_copy() {
    const NAME: &str =
        "row_26_cp_of_a_store_in_use_is_a_consistent_commit_or_a_refusal_that_says_how_to_copy";
    if role().is_some() {
        write_rounds(&common::path());
    }
    let folder = folder();
    let path = store_in(&folder);
    let (mut opened, mut refused) = (0, 0);
    for syncs in [true, false] {
        while_written(NAME, &path, syncs, |store| {
            for n in 0..rounds(12, 200) {
                let copy = folder.path().join("copy");
                let before = round_of_prefix(store);
                store.sync().unwrap();
                std::fs::copy(&path, &copy).unwrap();
                match open(&copy) {
                    Ok(copy) => {
                        assert!(matches!(copy.recovery(), Recovery::Restored { .. }));
                        let round = round_of(&copy);
                        // A sync that completed before the copying began is in the copy.
                        assert!(round >= before, "copy {n}: of {round}, older than {before}");
                        assert!(copy.check().unwrap().is_ok());
                        opened += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
                        assert!(error.to_string().contains("`slotfile copy`"), "{error}");
                        assert!(syncs, "nothing changed its checkpoint: {error}");
                        refused += 1;
                    }
                }
                std::fs::remove_file(&copy).unwrap();
            }
        });
    }
    println!("cp of a store in use: {opened} opened, {refused} refused");
    assert!(opened > 0);
}

/// A round that all slots have reached.
fn round_of_prefix(store: &Store) -> u64 {
    let last = SLOTS - 1;
    store.array::<u64>(&format!("slot{last}"), length(last)).unwrap().get(0).unwrap()
}

#[test]
fn copy_to_of_a_store_in_use_is_of_one_instant() {
    const NAME: &str = "copy_to_of_a_store_in_use_is_of_one_instant";
    if role().is_some() {
        write_rounds(&common::path());
    }
    let folder = folder();
    let path = store_in(&folder);
    while_written(NAME, &path, false, |store| {
        let copy = folder.path().join("copy");
        let start = Instant::now();
        for n in 0.. {
            if n >= rounds(30, 500) && start.elapsed() > Duration::from_millis(500) {
                break;
            }
            let before = round_of_prefix(store);
            match store.copy_to(&copy) {
                Ok(()) => {}
                // Allowed, if it says so and leaves nothing.
                Err(Error::Unsupported { .. }) => {
                    assert!(!copy.exists());
                    continue;
                }
                Err(error) => panic!("{error:?}"),
            }
            let opened = open(&copy).unwrap();
            assert!(round_of(&opened) >= before);
            assert!(opened.check().unwrap().is_ok());
            // Now the path exists.
            assert!(matches!(store.copy_to(&copy), Err(Error::Exists { .. })));
            drop(opened);
            std::fs::remove_file(&copy).unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    });
}

#[test]
fn compact_gives_room_back_and_keeps_contents_and_versions() {
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path).unwrap();
    let fill = |n: u64| 0x0101_0101_0101_0101 * (n + 1);
    for n in 0..40 {
        let name = format!("n{n}");
        let array =
            store.array_with::<u64>(&name, 20_000, Define::new().areas([2, 4, 8][n % 3])).unwrap();
        for k in 0..n as u64 {
            array.fetch_add(7, k).unwrap();
        }
        array.update(|a| a[9..].fill(fill(n as u64))).unwrap();
    }
    store.text("text", 50).unwrap().store("kept").unwrap();
    for n in (0..40).filter(|n| n % 4 != 0) {
        store.remove(&format!("n{n}")).unwrap();
    }
    let kept = |store: &Store| -> Vec<_> {
        let mut all: Vec<_> = store
            .slots()
            .unwrap()
            .iter()
            .map(|s| (s.name().to_owned(), s.slot_type().clone(), s.version(), s.load()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    let (before, info) = (kept(&store), store.info().unwrap());
    assert_eq!(before.len(), 11);
    store.sync().unwrap();
    let blocks = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap());
    let blocks_before = blocks(&path);
    let store = store.compact().unwrap();
    assert!(kept(&store) == before);
    assert_eq!(store.info().unwrap().definitions_left, info.max_slots - 11);
    assert!(blocks(&path) < blocks_before / 2, "{} of {blocks_before}", blocks(&path));
    assert_eq!(store.check().unwrap().problems, []);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was left");
    // The room can be used.
    for n in 0..30 {
        store.array::<u64>(&format!("new{n}"), 20_000).unwrap().set(5, n).unwrap();
    }
    store.sync().unwrap();
    drop(store);
    common::raw::Raw::open(&path).restart();
    let store = open(&path).unwrap();
    assert!(kept(&store)[..10].iter().eq(&before[..10]));
}

#[test]
fn compact_is_refused_while_others_have_the_store_open() {
    const NAME: &str = "compact_is_refused_while_others_have_the_store_open";
    if let Some(role) = role() {
        let _store = match role.as_str() {
            "reader" => Store::open_read_only(common::path()).unwrap(),
            _ => open(&common::path()).unwrap(),
        };
        std::fs::write(common::path().with_extension("there"), "").unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let there = path.with_extension("there");
    let busy = |store: Store| {
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
        let (before, files) = (inode(&path), std::fs::read_dir(folder.path()).unwrap().count());
        let store = store.with_lock_timeout(Some(Duration::from_millis(50)));
        let error = store.compact().unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error:?}");
        assert_eq!(inode(&path), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), files);
    };
    defined(&path).array::<u64>("slot0", length(0)).unwrap().set(0, 77).unwrap();
    for role in ["reader", "writer"] {
        let child = Child::spawn(NAME, role, &path);
        common::until("the other one has it open", || there.exists());
        busy(open(&path).unwrap());
        // Killed: it has nothing open once it is gone.
        drop(child);
        std::fs::remove_file(&there).unwrap();
        let store = open(&path).unwrap().compact().unwrap();
        assert_eq!(store.array::<u64>("slot0", length(0)).unwrap().get(0).unwrap(), 77);
    }
    // Another handle of this program.
    let other = open(&path).unwrap();
    busy(open(&path).unwrap());
    let slot = other.array::<u64>("slot0", length(0)).unwrap();
    drop(other);
    busy(open(&path).unwrap());
    assert_eq!(slot.get(0).unwrap(), 77);
}

/// Not only slot by slot: one may be large.
#[test]
fn the_progress_of_a_copy_goes_on_within_a_slot() {
    let folder = folder();
    let store = Store::create(store_in(&folder)).unwrap();
    store.array_with("a", 1 << 20, Define::new().initial(vec![7u8; 1 << 20])).unwrap();
    store.buffer::<u8>("b", 1 << 20).unwrap();
    let mut seen = Vec::new();
    store.copy_with(folder.path().join("copy"), |bytes| seen.push(bytes)).unwrap();
    assert!(seen.len() >= 16 && seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&(2 << 20)));
}
