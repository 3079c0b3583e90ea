//! A full disk or table is an error at the moment of growing, never a signal later. Whatever fits
//! works: many slots, many processes, large arrays.

use std::path::Path;
use std::time::Duration;

use crate::common;
use crate::common::raw::{self, Raw};
use crate::common::{Child, folder, long, number, os, path, role, rounds, store_in, until, within};
use slotfile::{Define, Elements, Error, OpenOptions, ScalarType, Store};

/// Fills a store until the disk is full. The store must stay usable, and keep its content.
fn fill_up(path: &Path, small: OpenOptions) -> u64 {
    let store = small.open(path).unwrap();
    let kept = store.array::<u64>("kept", 1_000).unwrap();
    kept.store(&[1; 1_000]).unwrap();
    let mut arrays = Vec::new();
    let refused = loop {
        match store.array::<u64>(&format!("{}", arrays.len()), 30_000) {
            Ok(array) => arrays.push(array),
            Err(error) => break error,
        }
        assert!(arrays.len() < 10_000, "it never fills up");
    };
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused:?}");
    assert!(refused.to_string().contains("free some space"), "{refused}");
    let (slots, size) = (store.info().unwrap().slots, store.info().unwrap().size);
    // The same again: nothing has changed, and no slot is half defined.
    let name = format!("{}", arrays.len());
    assert!(matches!(store.array::<u64>(&name, 30_000), Err(Error::NoSpace { .. })));
    assert!(matches!(store.slot(&name), Err(Error::NotFound { .. })));
    assert_eq!(store.info().unwrap().slots, slots);
    // No SIGBUS: every byte of every area has its block.
    for (n, array) in arrays.iter().enumerate() {
        for _ in 0..3 {
            array.store(&vec![n as u64; 30_000]).unwrap();
        }
    }
    for (n, array) in arrays.iter().enumerate() {
        assert!(array.load().iter().all(|x| *x == n as u64));
    }
    // A slot that still fits can be defined.
    while store.array::<u64>(&format!("small {}", store.info().unwrap().slots), 100).is_ok() {}
    kept.update(|k| k.fill(2)).unwrap();
    assert_eq!(kept.load(), [2; 1_000]);
    // Removing, using existing slots, and opening work as before.
    store.remove("0").unwrap();
    store.array::<u64>("1", 30_000).unwrap().set(0, 9).unwrap();
    drop((store, arrays, kept));
    let store = Store::open(path).unwrap();
    assert_eq!(store.array::<u64>("kept", 1_000).unwrap().load(), [2; 1_000]);
    size
}

fn small() -> OpenOptions {
    OpenOptions::new().create(true).max_slots(1_000).max_size(256 << 20).clone()
}

#[test]
fn row_22_a_full_disk_is_an_error_and_the_store_stays_usable() {
    let folder = folder();
    let at = folder.path().join("disk");
    std::fs::create_dir(&at).unwrap();
    let Some(mounted) = os::Mount::tmpfs(&at, 12 << 20) else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    fill_up(&at.join("state.slots"), small());
    let rest = std::fs::File::create(at.join("rest")).unwrap();
    while std::io::Write::write_all(&mut &rest, &[1; 4096]).is_ok() {}
    // There is no room for a new store: no file is made, and none is left over.
    let before = std::fs::read_dir(&at).unwrap().count();
    let refused = small().open(at.join("another")).unwrap_err();
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused:?}");
    assert_eq!(std::fs::read_dir(&at).unwrap().count(), before);
    drop(mounted);
}

/// A copy with holes (`cp --sparse`) gets its blocks back when it is opened, or is refused
/// there: a write into a hole on a full disk would be a SIGBUS.
#[test]
fn a_copy_with_holes_gets_its_blocks_back_at_opening() {
    use std::os::unix::fs::MetadataExt;
    let folder = folder();
    let (path, copy) = (store_in(&folder), folder.path().join("copy"));
    let on_disk = |path: &Path| 512 * std::fs::metadata(path).unwrap().blocks();
    let said = |path: &Path| Raw::open(path).word(raw::ENDS + 8 * 7);
    let store = small().open(&path).unwrap();
    for n in 0..200 {
        // The store has at least the blocks that it has noted. Otherwise each opening would search
        // all slots for missing blocks.
        assert!(on_disk(&path) >= said(&path), "{} of {}", on_disk(&path), said(&path));
        store.array::<u64>(&format!("{n}"), if n % 10 == 0 { 9_000 } else { 9 }).unwrap();
    }
    drop(store);
    let copied =
        std::process::Command::new("cp").arg("--sparse=always").args([&path, &copy]).status();
    assert!(copied.unwrap().success());
    let holes = on_disk(&path) - on_disk(&copy);
    assert!(holes > 1 << 20, "the copy has no holes");
    let store = Store::open(&copy).unwrap();
    let slots = store.slots().unwrap();
    let live = slots.iter().map(|slot| (slot.areas() * slot.size()) as u64).sum::<u64>();
    assert!(on_disk(&copy) >= live, "{} of {live}", on_disk(&copy));
    store.array::<u64>("0", 9_000).unwrap().store(&[1; 9_000]).unwrap();
}

/// A limit on the size of files, whose signal (SIGXFSZ) would end the process.
#[test]
fn row_23_a_limit_on_file_size_is_an_error_and_not_a_signal() {
    const NAME: &str = "row_23_a_limit_on_file_size_is_an_error_and_not_a_signal";
    if role().is_some() {
        os::limit(libc::RLIMIT_FSIZE, 16 << 20);
        let size = fill_up(&path(), small());
        assert!(size <= 16 << 20);
        os::limit(libc::RLIMIT_FSIZE, 64 << 10);
        let refused = small().open(path().with_file_name("another")).unwrap_err();
        assert!(matches!(refused, Error::NoSpace { .. }), "{refused:?}");
        // An existing store can be opened, read and updated, which does not make it larger.
        let store = Store::open(path()).unwrap();
        store.array::<u64>("kept", 1_000).unwrap().fetch_add(0, 1).unwrap();
        return;
    }
    let folder = folder();
    Child::spawn(NAME, "limited", &store_in(&folder)).join();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no litter");
}

/// The same if a store must be restored in a copy in memory, since it may only be read.
#[test]
fn row_23_a_limit_on_file_size_beside_a_restore_is_an_error_and_not_a_signal() {
    const NAME: &str = "row_23_a_limit_on_file_size_beside_a_restore_is_an_error_and_not_a_signal";
    if role().is_some() {
        os::limit(libc::RLIMIT_FSIZE, 64 << 10);
        let refused = Store::open_read_only(path()).unwrap_err();
        assert!(refused.to_string().contains("File too large"), "{refused:?}");
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = small().open(&path).unwrap();
    store.value::<u64>("value").unwrap().store(7).unwrap();
    store.close().unwrap();
    Raw::open(&path).restart();
    Child::spawn(NAME, "limited", &path).join();
    // Without the limit it is restored.
    assert_eq!(Store::open(&path).unwrap().value::<u64>("value").unwrap().load(), 7);
}

/// With few addresses the reservation is smaller, and access beyond it is an error.
#[test]
fn row_23_a_limit_on_addresses_makes_a_smaller_reservation() {
    const NAME: &str = "row_23_a_limit_on_addresses_makes_a_smaller_reservation";
    if role().is_some() {
        // 16 GiB are wanted. The test harness itself takes some of what there is.
        os::limit(libc::RLIMIT_AS, 256 << 20);
        let store = Store::open(path()).unwrap();
        let value = store.value::<u64>("value").unwrap();
        value.fetch_add(1).unwrap();
        until("another process has made it grow", || value.load() == 2);
        let refused = store.slot("large").unwrap_err();
        assert!(matches!(refused, Error::AddressSpace { .. }), "{refused:?}");
        assert!(refused.to_string().contains("ulimit -v"), "{refused}");
        let refused = store.value::<u64>("beyond").unwrap_err();
        assert!(matches!(refused, Error::AddressSpace { .. }), "{refused:?}");
        // Everything else works.
        assert_eq!(value.fetch_add(1).unwrap(), 2);
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let value = store.value::<u64>("value").unwrap();
    let limited = Child::spawn(NAME, "limited", &path);
    until("the limited one is there", || value.load() == 1);
    store.array::<u8>("large", 150_000_000).unwrap().set(5, 5).unwrap();
    // The next slot also lies beyond: the limited process has no reserved addresses left.
    store.array::<u8>("more", 1 << 20).unwrap();
    value.store(2).unwrap();
    limited.join();
    assert_eq!(value.load(), 3);
}

/// There is not enough memory for the content of a slot, or for what a damaged slot claims to hold.
#[test]
fn row_23_a_content_larger_than_memory_is_an_error_and_not_an_abort() {
    // More than the allocator keeps for later.
    const LEN: usize = 64 << 20;
    #[track_caller]
    fn told<T>(name: &str, result: Result<T, Error>) {
        let error = result.err().expect("there is memory for it");
        let Error::OutOfMemory { slot, need, .. } = &error else { panic!("{error:?}") };
        assert!(
            slot == name && *need > LEN / 4 && error.to_string().contains("ulimit -v"),
            "{error}"
        );
    }
    // The allocator of the whole program may have room left from other tests.
    if !common::apart("row_23_a_content_larger_than_memory_is_an_error_and_not_an_abort") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    os::fork(|| {
        let store = OpenOptions::new().create(true).checkpoint(false).open(&path).unwrap();
        let array = store.array::<u8>("array", LEN).unwrap();
        let buffer = store.buffer::<u8>("buffer", LEN).unwrap();
        let (text, bytes) = (store.text("text", LEN).unwrap(), store.bytes("bytes", LEN).unwrap());
        let third = store.array::<u8>("third", LEN / 3).unwrap();
        let group = store.group(vec![&array]).unwrap();
        let (letters, ones) = ("x".repeat(LEN), vec![1; LEN]);
        let elements = || Elements::from_bytes(ScalarType::U8, ones.clone()).unwrap();
        let (stored, first) = (elements(), elements());
        text.store(&letters).unwrap();
        bytes.store(&ones).unwrap();
        os::leave_addresses(LEN as u64 / 2);
        let too_large = store.slots().unwrap().into_iter().filter(|slot| slot.name() != "third");
        for slot in too_large {
            let name = slot.name();
            told(name, slot.try_load_versioned());
            told(name, slot.wait_until(|_| true, None));
            told(name, slot.update(|_| Ok::<_, Error>(())));
            told(name, store.watch(name).unwrap().with_present().next(Some(Duration::ZERO)));
            if name != "buffer" {
                told(name, store.transaction(|t| t.load(&slot)));
                told(name, store.snapshot_of(std::slice::from_ref(&slot)));
            }
            if ["array", "buffer"].contains(&name) {
                told(name, slot.load_range(..));
            }
            assert!(slot.load_beginning(10).1 == LEN);
        }
        told("text", text.try_load_versioned());
        told("text", text.wait_until(|_| true, None));
        told("bytes", bytes.try_load_versioned());
        told("text", text.store(&letters));
        told("bytes", bytes.store(&ones));
        told("array", store.slot("array").unwrap().store(stored));
        let in_its_place = ones.clone();
        told("new", store.array_with("new", LEN, Define::<u8>::new().initial(first)));
        let _in_both_places = (in_its_place, ones.clone());
        told("array", array.update(|_| ()));
        told("array", store.transaction(|t| t.load(&array)));
        told("array", store.transaction(|t| t.load_range(&array, ..)));
        told("array", store.transaction(|t| t.update(&array, |_| ())));
        told("array", store.snapshot(|s| s.load(&array)));
        told("array", group.load());
        told("array", group.load_into(&mut vec![vec![]]));
        told("array", group.update(|_| ()));
        // A snapshot that runs anew, and by then there is no memory for a copy.
        let mut kept = Vec::new();
        let rerun = store.snapshot(|s| {
            kept.push(s.load(&third)?);
            third.fetch_add(0, 1)?;
            s.load(&third)
        });
        told("third", rerun);
        drop(kept);
        // The transaction's earlier operations are done.
        let set = store.transaction(|t| {
            t.set(&array, 5, 1)?;
            told("array", t.set(&array, LEN - 1, 1));
            told("array", t.set(&array, 0, 1).and_then(|()| t.set(&array, LEN - 1, 1)));
            t.set(&array, 7, 1)
        });
        set.unwrap();
        let set: Vec<usize> = (0..8).filter(|at| array.get(*at).unwrap() == 1).collect();
        assert_eq!(set, [0, 5, 7]);
        assert_eq!(array.get(LEN - 1).unwrap(), 0);
        buffer.set(3, 3).unwrap();
        text.store("short").unwrap();
        assert_eq!(text.load(), "short");
    })
    .join();
}

/// An empty store takes at most a share of the addresses, and more as it grows.
#[test]
fn row_23_a_store_leaves_addresses_to_its_program() {
    const NAME: &str = "row_23_a_store_leaves_addresses_to_its_program";
    if role().is_some() {
        os::limit(libc::RLIMIT_AS, 600 << 20);
        // A thread takes addresses, too, at a time that the test cannot know.
        let options = OpenOptions::new().create_new(true).sync_every(None).clone();
        let store = options.open(path()).unwrap();
        let mut own = Vec::<u8>::new();
        own.try_reserve_exact(400 << 20).expect("the program's own memory");
        drop(own);
        for name in ["first", "second", "third"] {
            let array = store.array::<u8>(name, 20_000_000).unwrap();
            array.set(19_999_999, 9).unwrap();
            assert_eq!(array.get(19_999_999).unwrap(), 9);
        }
        store.sync().unwrap();
        let refused = store.array::<u8>("too large", 200_000_000).unwrap_err();
        assert!(matches!(refused, Error::AddressSpace { .. }), "{refused:?}");
        return;
    }
    let folder = folder();
    Child::spawn(NAME, "limited", &store_in(&folder)).join();
}

#[test]
fn row_23_many_stores_that_may_grow_to_8_tib_can_be_open() {
    let folder = common::folder_in_memory();
    let stores: Vec<Store> = (0..40)
        .map(|number| {
            let path = folder.path().join(number.to_string());
            OpenOptions::new().create(true).max_size(8 << 40).max_slots(10).open(path).unwrap()
        })
        .collect();
    let mut own = Vec::<u8>::new();
    own.try_reserve_exact(1 << 30).expect("the program's own memory");
    for store in &stores {
        store.array::<u64>("array", 1_000).unwrap().fetch_add(999, 1).unwrap();
    }
}

/// If all memory is locked, a reservation counts as memory, so it is smaller, or an error.
#[test]
fn row_23_memory_that_is_locked_makes_a_smaller_reservation_or_an_error() {
    const NAME: &str = "row_23_memory_that_is_locked_makes_a_smaller_reservation_or_an_error";
    let small = || {
        let mut options = OpenOptions::new();
        options.max_slots(10).max_size(256 << 20).mode(0o666);
        // There is no memory for the stack of a thread that syncs.
        options.sync_every(Some(Duration::MAX)).clone()
    };
    if role().is_some() {
        if os::is_root() {
            os::become_user(65_534); // root may lock all memory
        }
        os::limit(libc::RLIMIT_MEMLOCK, number());
        if !os::lock_memory() {
            eprintln!("skipped: this process may not lock {} bytes", number());
            return;
        }
        // A thread to sync in would need more of it for its stack.
        match small().sync_every(None).open(path()) {
            Ok(store) => {
                store.value::<u64>("value").unwrap().fetch_add(1).unwrap();
                store.sync().unwrap();
                let large = store.array::<u8>("large", 10 << 20).unwrap_err();
                assert!(matches!(large, Error::AddressSpace { .. }), "{large:?}");
            }
            Err(error) => {
                assert!(error.to_string().contains("cannot map the file"), "{error}");
            }
        }
        return;
    }
    let folder = folder();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), everybody).unwrap();
    let path = store_in(&folder);
    small().create_new(true).open(&path).unwrap().value::<u64>("value").unwrap();
    let len = std::fs::metadata(&path).unwrap().len();
    for limit in [len + (1 << 20), len / 2] {
        Child::spawn_with(NAME, "locked", &path, limit).join();
    }
    assert_eq!(Store::open(&path).unwrap().value::<u64>("value").unwrap().load(), 1);
}

/// Entries that dead processes leave are used again.
#[test]
fn entries_of_dead_processes_are_used_again() {
    if !common::apart("entries_of_dead_processes_are_used_again") {
        return;
    }
    if !long() {
        eprintln!("skipped: set SLOTFILE_LONG=1 for it");
        return;
    }
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("array", 2).unwrap();
    for n in 1..=5_000 {
        let guard = array.lock().unwrap();
        let victim = os::fork(|| {
            array.fetch_add(0, 1).unwrap();
            os::exit_at_once(9)
        });
        drop(guard);
        until("it has ended", || array.get(0).unwrap() == n);
        drop(victim);
    }
}

#[test]
fn a_full_store_says_which_limit_was_hit() {
    let folder = folder();
    let path = store_in(&folder);
    let store =
        OpenOptions::new().create(true).max_slots(5).max_size(64 << 20).open(&path).unwrap();
    for n in 0..5 {
        store.value::<u8>(&format!("{n}")).unwrap();
    }
    let slots = Error::Full { path: path.clone(), limit: "max_slots", size: 5, removed: 0 };
    assert_eq!(store.value::<u8>("5").unwrap_err().to_string(), slots.to_string());
    store.value::<u8>("4").unwrap();
    // Removed slots count, too, until a compaction.
    store.remove("0").unwrap();
    let full = store.value::<u8>("5").unwrap_err();
    assert!(matches!(full, Error::Full { removed: 1, .. }), "{full:?}");
    assert!(full.to_string().contains("slotfile compact"), "{full}");
    assert_eq!(store.info().unwrap().definitions_left, 0);
    let path = folder.path().join("another");
    let store = OpenOptions::new().create(true).max_slots(5).max_size(8 << 20).open(&path).unwrap();
    let refused = store.array::<u8>("large", 8 << 20).unwrap_err();
    assert!(matches!(refused, Error::Full { limit: "max_size", .. }), "{refused:?}");
    store.array::<u8>("small", 8 << 10).unwrap();
}

/// A full directory: every slot is found, an absent one is not, and each has its own content. Long
/// names take further lines.
#[test]
fn row_44_a_hundred_thousand_slots_are_found() {
    if !common::apart("row_44_a_hundred_thousand_slots_are_found") {
        return;
    }
    const SLOTS: u32 = 100_000;
    let folder = folder();
    let path = store_in(&folder);
    let store = OpenOptions::new().create(true).max_slots(SLOTS.into()).open(&path).unwrap();
    let name = |n: u32| format!("group {}/slot {n}{}", n % 100, "x".repeat(n as usize % 70));
    for n in 0..SLOTS {
        store.value_with::<u32>(&name(n), Define::new().initial(n)).unwrap();
    }
    assert!(matches!(store.value::<u32>("one more"), Err(Error::Full { .. })));
    drop(store);
    let store = OpenOptions::new().define(false).open(&path).unwrap();
    within(Duration::from_secs(20), "looking up all names", || {
        for n in 0..SLOTS {
            assert_eq!(store.value::<u32>(&name(n)).unwrap().load(), n);
        }
    });
    assert!(matches!(store.slot("group 7/slot 8"), Err(Error::NotFound { .. })));
    assert_eq!(store.slots().unwrap().len(), SLOTS as usize);
    // An owner died with an entry: the thread that takes it recovers all its slots.
    os::fork(|| {
        std::mem::forget(store.value::<u32>(&name(5)).unwrap().lock().unwrap());
        os::exit_at_once(0)
    })
    .join();
    within(Duration::from_secs(1), "taking its lock", || {
        store.value::<u32>(&name(5)).unwrap().fetch_add(1).unwrap()
    });
    drop(store);
    let store = within(Duration::from_secs(2), "opening", || Store::open(&path).unwrap());
    assert_eq!(store.value::<u32>(&name(5)).unwrap().load(), 6);
}

#[test]
fn row_44_sixty_four_processes_share_a_store() {
    const NAME: &str = "row_44_sixty_four_processes_share_a_store";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let (value, array) =
            (store.value::<u64>("value").unwrap(), store.array::<u64>("array", 50).unwrap());
        // All of them at the same time.
        value.fetch_add(1).unwrap();
        until("all are there", || value.load() >= 64);
        for _ in 0..rounds(50, 1_000) {
            value.fetch_add(1).unwrap();
            array.update(|a| a.iter_mut().for_each(|x| *x += 1)).unwrap();
            let now = array.load();
            assert!(now.iter().all(|x| *x == now[0]));
        }
        value.fetch_add(1 << 32).unwrap();
        until("the test has listed the processes", || value.load() >> 63 == 1);
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let (value, array) =
        (store.value::<u64>("value").unwrap(), store.array::<u64>("array", 50).unwrap());
    let children: Vec<_> = (0..64).map(|_| Child::spawn(NAME, "one of many", &path)).collect();
    until("all are through", || value.load() >> 32 == 64);
    // This process has defined the slots, under a lock.
    assert_eq!(store.info().unwrap().open_by.len(), 65);
    value.fetch_or(1 << 63).unwrap();
    children.into_iter().for_each(Child::join);
    let rounds = rounds(50, 1_000) as u64;
    assert_eq!(value.load() & 0xffff_ffff, 64 * (rounds + 1));
    assert_eq!(array.load(), [64 * rounds; 50]);
    until("only we are left", || store.info().unwrap().open_by.len() == 1);
}

/// Only the elements and ranges that are touched cost anything. (The long form touches all of it.)
#[test]
fn row_44_an_array_of_one_gib_costs_only_what_is_touched() {
    let folder = folder();
    // Two areas, and as much for checkpoints.
    if fs2::available_space(folder.path()).unwrap() < 6 << 30 {
        eprintln!("skipped: less than 6 GiB of disk are free");
        return;
    }
    const LEN: usize = (1 << 30) / 8;
    let store = Store::create(store_in(&folder)).unwrap();
    let array = store.array::<u64>("array", LEN).unwrap();
    array.set(LEN - 1, 7).unwrap();
    array.update_range(LEN / 2..LEN / 2 + 1_000, |a| a.fill(8)).unwrap();
    array.fetch_add(0, 9).unwrap();
    assert_eq!((array.get(0).unwrap(), array.get(LEN - 1).unwrap()), (9, 7));
    assert_eq!(array.load_range(LEN / 2 - 1..LEN / 2 + 2).unwrap(), [0, 8, 8]);
    drop((store, array));
    let array = Store::open(store_in(&folder)).unwrap().array::<u64>("array", LEN).unwrap();
    assert_eq!((array.get(0).unwrap(), array.get(LEN - 1).unwrap()), (9, 7));
    if long() {
        let whole = array.load();
        assert_eq!(whole.iter().sum::<u64>(), 9 + 7 + 8_000);
        array.store(&whole).unwrap();
        assert!(array.load() == whole);
    }
}
