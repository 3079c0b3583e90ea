//! The process table has 4,096 entries, and a thread keeps one. Idle threads keep no other thread
//! out, in any process.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Barrier;
use std::time::Duration;

use crate::common;
use crate::common::{Child, folder_in_memory, number, os, path, role, store_in, until, within};
use slotfile::{Error, OpenOptions, Store};

fn open(path: &std::path::Path) -> Store {
    OpenOptions::new().create(true).sync_every(None).open(path).unwrap()
}

/// Runs `then` while this many threads live that have each taken a lock, and are idle.
fn among_idle_threads(count: usize, lock: impl Fn() + Sync, then: impl FnOnce()) {
    let (locked, over) = (Barrier::new(count + 1), Barrier::new(count + 1));
    std::thread::scope(|scope| {
        for _ in 0..count {
            // A failed one is counted too, or the others would wait for it forever.
            let body = || {
                let done = catch_unwind(AssertUnwindSafe(&lock));
                locked.wait();
                over.wait();
                done.unwrap_or_else(|panic| resume_unwind(panic));
            };
            std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, body).unwrap();
        }
        locked.wait();
        let done = catch_unwind(AssertUnwindSafe(then));
        over.wait();
        done.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// All operations that take an entry.
fn use_entries(store: &Store) {
    let array = store.array::<u64>("array", 4).unwrap();
    let value = store.value::<u64>("value").unwrap();
    array.fetch_add(1, 1).unwrap();
    let guard = array.lock().unwrap();
    array.fetch_add(1, 1).unwrap();
    drop(guard);
    drop(value.lock().unwrap());
    store
        .transaction(|t| {
            t.update(&array, |a| a[1] += 1)?;
            t.fetch_add(&value, 1)
        })
        .unwrap();
    store.sync().unwrap();
}

#[test]
fn row_52_idle_threads_of_one_process_keep_nobody_out() {
    if !common::apart("row_52_idle_threads_of_one_process_keep_nobody_out") {
        return;
    }
    let folder = folder_in_memory();
    let path = store_in(&folder);
    let store = open(&path);
    let array = store.array::<u64>("array", 4).unwrap();
    let taken = store.value::<u64>("taken").unwrap().with_lock_timeout(Some(Duration::ZERO));
    let guard = taken.lock().unwrap();
    among_idle_threads(
        4_300,
        || {
            array.fetch_add(0, 1).unwrap();
            drop(array.lock().unwrap());
            // A loan ends also if the operation failed.
            let refused = taken.lock();
            assert!(matches!(refused, Err(Error::LockTimeout { .. })), "{refused:?}");
        },
        || {
            assert_eq!(array.get(0).unwrap(), 4_300);
            use_entries(&store);
            std::thread::scope(|s| s.spawn(|| use_entries(&store)).join().unwrap());
            os::fork(|| use_entries(&open(&path))).join();
            // A thread that dies with a lent entry is recovered like any other.
            let victim = os::fork(|| {
                let _guard = array.lock().unwrap();
                store.value::<u64>("inside").unwrap().store(1).unwrap();
                std::thread::sleep(Duration::from_secs(30));
            });
            let inside = store.value::<u64>("inside").unwrap();
            until("it has the lock", || inside.load() == 1);
            drop(victim);
            within(Duration::from_secs(5), "the lock", || array.set(2, 7)).unwrap();
        },
    );
    drop(guard);
    assert_eq!(array.load(), [4_300, 9, 7, 0]);
    assert!(store.check().unwrap().problems.is_empty());
}

#[test]
fn row_52_idle_threads_of_many_processes_keep_nobody_out() {
    const NAME: &str = "row_52_idle_threads_of_many_processes_keep_nobody_out";
    if role().as_deref() == Some("idle") {
        let store = open(&path());
        let array = store.array::<u64>("array", 4).unwrap();
        let (ready, over) =
            (store.value::<u64>("ready").unwrap(), store.value::<u64>("over").unwrap());
        among_idle_threads(
            number() as usize,
            || array.update(|a| a[0] += 1).unwrap(),
            || {
                ready.fetch_add(1).unwrap();
                over.wait_until(|over| over == 1, None).unwrap();
            },
        );
        return;
    }
    if !common::apart(NAME) {
        return;
    }
    let folder = folder_in_memory();
    let path = store_in(&folder);
    let store = open(&path);
    let array = store.array::<u64>("array", 4).unwrap();
    let (ready, over) = (store.value::<u64>("ready").unwrap(), store.value::<u64>("over").unwrap());
    let crowd: Vec<Child> = (0..4).map(|_| Child::spawn_with(NAME, "idle", &path, 1_100)).collect();
    until("all are idle", || ready.load() == 4);
    assert_eq!(array.get(0).unwrap(), 4_400);
    os::fork(|| use_entries(&open(&path))).join();
    over.store(1).unwrap();
    crowd.into_iter().for_each(Child::join);
    assert_eq!(array.load(), [4_400, 3, 0, 0]);
}

/// Only locks held at the same time can use up the table.
#[test]
fn row_18_a_full_process_table_is_an_error_that_says_its_size() {
    // Of 4,096, five are never taken.
    const ENTRIES: usize = 4_091;
    let timeout = Some(Duration::from_millis(500));
    let store = OpenOptions::new().lock_timeout(timeout).open_temporary().unwrap();
    let array = store.array::<u64>("array", 2).unwrap();
    let value = store.value::<u64>("value").unwrap();
    let values: Vec<_> =
        (1..ENTRIES).map(|n| store.value::<u64>(&format!("{n}")).unwrap()).collect();
    let barrier = Barrier::new(ENTRIES);
    std::thread::scope(|scope| {
        // This thread has taken one to define the slots.
        for value in &values {
            let body = || {
                let guard = value.lock().unwrap();
                barrier.wait(); // all have an entry
                barrier.wait(); // the test has looked
                drop(guard);
            };
            std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, body).unwrap();
        }
        barrier.wait();
        match std::thread::scope(|s| s.spawn(|| array.fetch_add(1, 1)).join().unwrap()) {
            Err(error @ Error::TooManyProcesses { size, .. }) => {
                assert_eq!(size, ENTRIES);
                assert!(error.to_string().contains("4091"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        // What needs no lock needs no entry.
        assert_eq!(array.get(0).unwrap(), 0);
        value.fetch_add(1).unwrap();
        barrier.wait();
    });
    // They have ended, and their entries are free.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| array.fetch_add(1, 1).unwrap());
        }
    });
    assert_eq!(array.load(), [0, 8]);
}
