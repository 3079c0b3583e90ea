//! A new store takes little of the disk, and grows with what is in it. Whatever it grows by has
//! its blocks before it is used: a full disk is an error, never a signal.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Barrier;

use crate::common;
use crate::common::mounts::{Disk, mount_overlay, on};
use crate::common::raw::{COUNT, ENDS, LIVE_HEADER, Raw, TIERS};
use crate::common::{folder, folder_in_memory, os, store_in};
use slotfile::{Error, OpenOptions, Recovery, Store};

/// Where the live header says how many entries of the process table have blocks.
const TABLE_BLOCKS: u64 = LIVE_HEADER + 640;

fn open(path: &Path) -> Store {
    OpenOptions::new().create(true).sync_every(None).open(path).unwrap()
}

fn on_disk(path: &Path) -> u64 {
    512 * std::fs::metadata(path).unwrap().blocks()
}

#[test]
fn a_new_store_takes_little() {
    if !common::apart("a_new_store_takes_little") {
        return;
    }
    let look = |folder: &Path, what: &str| {
        for checkpoint in [true, false] {
            let path = folder.join(format!("state{checkpoint}.slots"));
            drop(OpenOptions::new().create_new(true).checkpoint(checkpoint).open(&path).unwrap());
            let used = on_disk(&path);
            println!("{what}: {used} bytes on disk, {} long", path.metadata().unwrap().len());
            assert!(used <= 256 << 10, "{what}: {used} bytes of disk");
            let len = path.metadata().unwrap().len();
            assert!(len <= 4 << 20, "{what}: {len} bytes long");
            let store = open(&path);
            for n in 0..100 {
                store.value::<u64>(&n.to_string()).unwrap();
            }
            let used = on_disk(&path);
            assert!(used <= 768 << 10, "{what}: {used} bytes of disk for 100 values");
        }
    };
    for kind in ["ext4", "xfs", "btrfs"] {
        on(kind, |Disk { at, beside, .. }| {
            look(at, kind);
            let overlay = beside.join("overlay");
            if mount_overlay(at, at, &overlay) {
                look(&overlay, &format!("overlayfs on {kind}"));
            }
        });
    }
    let folder = folder();
    if let Some(_mounted) = os::Mount::tmpfs(folder.path(), 12 << 20) {
        look(folder.path(), "tmpfs");
    }
}

/// What is reserved and not used is little, at any number of slots.
#[test]
fn a_store_is_hardly_longer_than_what_it_takes() {
    for slots in [0, 1, 2_000].into_iter().chain(common::long().then_some(65_536)) {
        let folder = folder_in_memory();
        let path = store_in(&folder);
        let store = open(&path);
        for n in 0..slots {
            store.value::<u64>(&n.to_string()).unwrap();
        }
        let (used, len) = (on_disk(&path), path.metadata().unwrap().len());
        println!("{slots} slots: {used} bytes on disk, {len} long");
        assert!(len <= 2 * used + (6 << 20), "{slots} slots: {len} of {used} bytes");
    }
}

/// Fills a disk to the last byte with a file of its own.
fn fill(folder: &Path) {
    use std::io::Write;
    let mut file = File::create(folder.join("fill")).unwrap();
    for len in [1 << 20, 4096, 1] {
        while file.write_all(&vec![1; len]).is_ok() {}
    }
}

/// Runs this in a process of its own on a small disk: a signal there is a failure here.
fn on_a_small_disk(test: &str, f: impl Fn(&Path)) {
    if !common::apart(test) {
        return;
    }
    let folder = folder();
    if let Some(_mounted) = os::Mount::tmpfs(folder.path(), 12 << 20) {
        os::fork(|| f(folder.path())).join();
    }
    on("ext4", |Disk { at, .. }| os::fork(|| f(at)).join());
}

/// Its first page has 64 entries.
#[test]
fn on_a_full_disk_the_process_table_does_not_grow() {
    on_a_small_disk("on_a_full_disk_the_process_table_does_not_grow", |folder| {
        let path = folder.join("state.slots");
        let store = open(&path);
        let array = store.array::<u64>("array", 4).unwrap();
        let lock_in_threads = |count: usize| {
            let all = Barrier::new(count);
            std::thread::scope(|scope| {
                let locked = (0..count).map(|_| {
                    scope.spawn(|| {
                        let locked = array.fetch_add(0, 1);
                        all.wait();
                        locked
                    })
                });
                let locked: Vec<_> = locked.collect();
                locked.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            })
        };
        // Threads of processes that were killed have the first entries.
        drop(array.lock().unwrap());
        fill(folder);
        let locked = lock_in_threads(100);
        let refused: Vec<_> = locked.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 100 - 63);
        assert!(refused.iter().all(|e| matches!(e, Error::NoSpace { .. })), "{refused:?}");
        assert_eq!(Raw::open(&path).word(TABLE_BLOCKS), 0);
        std::fs::remove_file(folder.join("fill")).unwrap();
        assert!(lock_in_threads(100).into_iter().all(|locked| locked.is_ok()));
        assert_eq!(Raw::open(&path).word(TABLE_BLOCKS), 128 | (!128 & 0xffff_ffff) << 32);
        assert_eq!(store.info().unwrap().open_by.len(), 1);
        assert!(store.check().unwrap().is_ok());
        assert_eq!(array.get(0).unwrap(), 163);
    });
}

/// Lines from 512 on, and again from 1,024 on, have an index of their own, whose blocks come with
/// the first of them.
#[test]
fn on_a_full_disk_each_tier_has_all_its_blocks_or_none() {
    on_a_small_disk("on_a_full_disk_each_tier_has_all_its_blocks_or_none", |folder| {
        let store = open(&folder.join("state.slots"));
        let define = |from: usize| {
            (from..).find_map(|n| store.value::<u64>(&n.to_string()).err().map(|error| (n, error)))
        };
        let some = folder.join("some");
        for first in [512, 1_024] {
            for n in 0..first {
                store.value::<u64>(&n.to_string()).unwrap();
            }
            std::fs::write(&some, vec![1; 2 << 20]).unwrap();
            fill(folder);
            let (n, error) = define(first).unwrap();
            assert!(n == first && matches!(error, Error::NoSpace { .. }), "{n}: {error}");
            assert!(matches!(store.slot(&n.to_string()), Err(Error::NotFound { .. })));
            assert!(store.check().unwrap().is_ok(), "{:?}", store.check());
            std::fs::remove_file(&some).unwrap();
            store.value::<u64>(&n.to_string()).unwrap();
            // What follows in the tier needs nothing but what is there.
            fill(folder);
            let (n, error) = define(first + 1).unwrap();
            assert!(n >= first + 128 && matches!(error, Error::NoSpace { .. }), "{n}: {error}");
            let last = store.value::<u64>(&(n - 1).to_string()).unwrap();
            assert_eq!(last.fetch_add(1).unwrap(), 0);
            assert_eq!(store.slots().unwrap().len(), n);
            assert!(store.check().unwrap().is_ok(), "{:?}", store.check());
            std::fs::remove_file(folder.join("fill")).unwrap();
        }
    });
}

fn punch(path: &Path, at: u64, len: u64) -> bool {
    let (at, len) = (at.to_string(), len.to_string());
    let mut punch = std::process::Command::new("fallocate");
    let punched = punch.args(["-p", "-o", &at, "-l", &len]).arg(path).status();
    let done = punched.is_ok_and(|status| status.success());
    if !done {
        eprintln!("skipped: no fallocate");
    }
    done
}

/// Who defined its first slot was killed before that existed. Then a tool made holes where there
/// were zeros.
#[test]
fn a_tier_without_lines_has_its_blocks_after_an_opening() {
    on_a_small_disk("a_tier_without_lines_has_its_blocks_after_an_opening", |folder| {
        let path = folder.join("state.slots");
        let store = open(&path);
        for n in 0..512 {
            store.value::<u64>(&n.to_string()).unwrap();
        }
        let raw = Raw::open(&path);
        let count = raw.word(COUNT);
        store.value::<u64>("512").unwrap();
        drop(store);
        raw.set_word(COUNT, count);
        for part in [raw.word(TIERS), raw.word(TIERS + 8)] {
            if !punch(&path, part, 64 << 10) {
                return;
            }
        }
        let some = folder.join("some");
        std::fs::write(&some, vec![1; 1 << 20]).unwrap();
        fill(folder);
        let error = OpenOptions::new().open(&path).unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        std::fs::remove_file(&some).unwrap();
        let store = open(&path);
        assert_eq!(store.recovery(), Recovery::Resumed);
        fill(folder);
        assert!(matches!(store.slot("512"), Err(Error::NotFound { .. })));
        std::fs::remove_file(folder.join("fill")).unwrap();
        for n in 512..520 {
            store.value::<u64>(&n.to_string()).unwrap();
        }
        store.sync().unwrap();
        assert!(store.check().unwrap().is_ok(), "{:?}", store.check());
    });
}

/// Otherwise each opening would look for missing blocks in all of the store.
#[test]
fn a_store_has_at_least_the_blocks_that_it_has_noted() {
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    for n in 0..3_000 {
        store.value::<u64>(&n.to_string()).unwrap();
        if n % 100 == 0 || n == 512 {
            let noted = Raw::open(&path).word(ENDS + 56);
            assert!(on_disk(&path) >= noted, "{} of {noted} bytes", on_disk(&path));
            assert!(noted >= 44 << 10, "{noted}");
        }
    }
}

/// A tool may make holes where there are zeros.
#[test]
fn holes_in_what_has_grown_are_filled_at_opening() {
    let folder = folder_in_memory();
    let path = store_in(&folder);
    let store = open(&path);
    let array = store.array::<u64>("array", 4).unwrap();
    for n in 0..512 {
        store.value::<u64>(&n.to_string()).unwrap();
    }
    let all = Barrier::new(100);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                array.fetch_add(0, 1).unwrap();
                all.wait();
            });
        }
    });
    drop((store, array));
    let before = on_disk(&path);
    let raw = Raw::open(&path);
    // Free entries; zeros of the second tier's index; values that were never stored.
    let index = (0..2).map(|page| raw.word(TIERS) + 4_096 * page);
    let index = index.into_iter().find(|at| raw.bytes(*at, 4_096) == [0; 4_096]).unwrap();
    let values = raw.slot(400).next_multiple_of(4_096);
    let parts = [(128 << 10 | 4_096, 4_096), (index, 4_096), (values, 8_192)];
    for (at, len) in parts {
        if !punch(&path, at, len) {
            return;
        }
    }
    assert_eq!(on_disk(&path), before - 16_384);
    let store = open(&path);
    assert_eq!(store.recovery(), Recovery::Resumed);
    assert_eq!(on_disk(&path), before);
    assert_eq!(store.array::<u64>("array", 4).unwrap().get(0).unwrap(), 100);
    assert!(store.check().unwrap().is_ok());
}
