//! The open lock: a waiter keeps waiting while the holder makes progress; otherwise no longer
//! than its timeout.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common;
use crate::common::mounts::on;
use crate::common::raw::{LIVE_HEADER, Raw};
use crate::common::{Child, folder, os, store_in, until, within};
use slotfile::{Error, OpenOptions, Store};

/// The word that counts the progress of the holder of the open lock.
const PROGRESS: u64 = LIVE_HEADER + 384;

fn opening(timeout: Duration) -> OpenOptions {
    OpenOptions::new().lock_timeout(Some(timeout)).sync_every(None).clone()
}

/// A process that holds the lock as long as it lives, and reports when it has it. Syncs and writes
/// of other processes do not count as its progress.
#[test]
fn row_38_a_stranger_that_keeps_the_open_lock_costs_the_time_out_and_no_more() {
    const NAME: &str = "row_38_a_stranger_that_keeps_the_open_lock_costs_the_time_out_and_no_more";
    let timeout = Duration::from_millis(200);
    if common::role().is_some() {
        for read_only in [false, true] {
            let start = Instant::now();
            let error = opening(timeout).read_only(read_only).open(common::path()).unwrap_err();
            assert!(matches!(error, Error::LockTimeout { .. }), "{error}");
            assert!(error.to_string().contains("open lock"), "{error}");
            let took = start.elapsed();
            assert!(took >= timeout && took < Duration::from_secs(5), "{took:?}");
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let every = Duration::from_millis(10);
    let options = OpenOptions::new().create(true).sync_every(Some(every)).clone();
    let store = options.open(&path).unwrap();
    let hits = store.value::<u64>("hits").unwrap();
    let array = store.array::<u64>("array", 100_000).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    fs2::FileExt::lock_exclusive(&file).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                hits.fetch_add(1).unwrap();
                array.set(hits.load() as usize % 100_000, 1).unwrap();
            }
        });
        let _over = common::Finally(&over);
        Child::spawn(NAME, "opens", &path).join();
    });
    assert!(store.info().unwrap().last_sync.is_some(), "it was not synced meanwhile");
    // Another store is not affected, even while a process waits for this one.
    drop(store);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| opening(Duration::from_secs(3)).open(&path));
        std::thread::sleep(Duration::from_millis(50));
        within(Duration::from_secs(2), "opening another store", || {
            Store::create(folder.path().join("another")).unwrap()
        });
        fs2::FileExt::unlock(&file).unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_waiter_for_the_open_lock_waits_on_while_its_holder_makes_progress() {
    let folder = folder();
    let path = store_in(&folder);
    drop(Store::create(&path).unwrap());
    let file = std::fs::File::open(&path).unwrap();
    let raw = Raw::open(&path);
    let timeout = Duration::from_millis(500);
    for gets_on in [true, false] {
        fs2::FileExt::lock_exclusive(&file).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| opening(timeout).open(&path));
            // Half as long again as the timeout, while it makes progress.
            for step in 0..30 {
                std::thread::sleep(timeout / 20);
                if gets_on {
                    raw.set_word(PROGRESS, 100 + step);
                }
            }
            fs2::FileExt::unlock(&file).unwrap();
            match waiting.join().unwrap() {
                Ok(_) => assert!(gets_on),
                Err(error) => {
                    assert!(!gets_on, "{error}");
                    assert!(matches!(error, Error::LockTimeout { .. }), "{error}");
                }
            }
        });
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod slow {
    use super::*;
    use crate::common::apart_to_trace;
    use crate::common::trace::{Call, Traced, mark};

    const TIMEOUT: Duration = Duration::from_secs(2);
    /// The duration of each of the holder's reads and writes.
    const PAUSE: Duration = Duration::from_millis(60);
    const SLOW: [i64; 3] = [libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_sync_file_range];
    /// Ten segments of the checkpoint.
    const BYTES: usize = 10 * 64 * 1024;

    fn open(path: &Path) -> Store {
        opening(TIMEOUT).create(true).open(path).unwrap()
    }

    fn fill(store: &Store, with: u8) {
        store.array::<u8>("large", BYTES).unwrap().update(|bytes| bytes.fill(with)).unwrap();
    }

    /// Runs an operation in another process, whose reads and writes are slow once it has the open
    /// lock. A process that waits for the lock meanwhile gets it.
    fn wait_for_slow(path: &Path, operation: impl FnOnce(), mut after: impl FnMut(Call)) {
        let mut holder = Traced::start(operation);
        std::thread::scope(|scope| {
            let mut waiting = None;
            let mut calls = 0;
            while let Some(call) = holder.next_call() {
                holder.end_call();
                after(call);
                if call.number == libc::SYS_flock && waiting.is_none() {
                    waiting = Some(scope.spawn(|| {
                        let start = Instant::now();
                        opening(TIMEOUT).open(path).map(|_| start.elapsed())
                    }));
                } else if waiting.is_some() && SLOW.contains(&call.number) {
                    std::thread::sleep(PAUSE);
                    calls += 1;
                }
            }
            let waited = waiting.expect("it takes the open lock").join().unwrap().unwrap();
            println!("waited {waited:?} for {calls} calls");
            assert!(waited > TIMEOUT, "it was over too soon to show anything: {waited:?}");
        });
    }

    #[test]
    fn a_waiter_for_a_long_restore_waits_on() {
        if !apart_to_trace("slow::a_waiter_for_a_long_restore_waits_on") {
            return;
        }
        let folder = common::folder_in_memory();
        let path = store_in(&folder);
        let store = open(&path);
        fill(&store, 7);
        store.sync().unwrap();
        drop(store);
        Raw::open(&path).restart();
        let restore = || {
            mark();
            let _store = open(&path);
            mark();
        };
        wait_for_slow(&path, restore, |_| ());
        assert_eq!(open(&path).array::<u8>("large", BYTES).unwrap().load(), [7; BYTES]);
    }

    /// The last process to leave, after others have changed much since its own sync.
    #[test]
    fn a_waiter_for_a_long_sync_at_leaving_waits_on() {
        if !apart_to_trace("slow::a_waiter_for_a_long_sync_at_leaving_waits_on") {
            return;
        }
        let folder = common::folder_in_memory();
        let path = store_in(&folder);
        fill(&open(&path), 1);
        let leave = || {
            let mut options = opening(TIMEOUT);
            let store = options.sync_every(Some(Duration::from_secs(3_000))).open(&path).unwrap();
            store.sync().unwrap();
            store.value::<u64>("value").unwrap().store(1).unwrap();
            std::thread::sleep(Duration::from_millis(3));
            mark();
            drop(store);
            mark();
        };
        let mut own_sync_is_done = false;
        wait_for_slow(&path, leave, |call| {
            // The latter on a file system that cannot flush single ranges.
            let flushes = [libc::SYS_msync, libc::SYS_fdatasync].contains(&call.number);
            if flushes && !std::mem::replace(&mut own_sync_is_done, true) {
                fill(&open(&path), 2);
            }
        });
        Raw::open(&path).restart();
        assert_eq!(open(&path).array::<u8>("large", BYTES).unwrap().load(), [2; BYTES]);
    }

    #[test]
    fn a_waiter_for_a_long_compaction_waits_on() {
        if !apart_to_trace("slow::a_waiter_for_a_long_compaction_waits_on") {
            return;
        }
        let folder = common::folder_in_memory();
        let path = store_in(&folder);
        fill(&open(&path), 3);
        let compact = || {
            let store = open(&path);
            mark();
            let _store = store.compact().unwrap();
            mark();
        };
        wait_for_slow(&path, compact, |_| ());
        assert_eq!(open(&path).array::<u8>("large", BYTES).unwrap().load(), [3; BYTES]);
    }
}

/// A long restore does not keep other threads of its process from opening another store. Here it
/// waits for a frozen file system.
#[test]
fn row_38_another_store_is_opened_while_one_is_restored() {
    if !common::apart("row_38_another_store_is_opened_while_one_is_restored") {
        return;
    }
    on("ext4", |disk| {
        let [slow, other] = [&disk.at, &disk.beside].map(|folder| folder.join("state.slots"));
        for path in [&slow, &other] {
            opening(Duration::from_secs(5)).create(true).open(path).unwrap().sync().unwrap();
        }
        Raw::open(&slow).restart();
        let Some(frozen) = os::freeze(&disk.at) else {
            return eprintln!("skipped: the file system cannot be frozen");
        };
        let file = std::fs::File::open(&slow).unwrap();
        std::thread::scope(|scope| {
            let frozen = frozen;
            let restoring = scope.spawn(|| Store::open(&slow).map(|store| store.recovery()));
            until("it has the open lock", || match fs2::FileExt::try_lock_shared(&file) {
                Ok(()) => fs2::FileExt::unlock(&file).is_err(),
                Err(_) => true,
            });
            let (done, is_done) = std::sync::mpsc::channel();
            let opening = opening(Duration::from_millis(100));
            scope.spawn(move || done.send(opening.open(&other).map(drop)).unwrap());
            let opened = is_done.recv_timeout(Duration::from_secs(5));
            drop(frozen);
            assert!(matches!(opened, Ok(Ok(()))), "{opened:?}");
            restoring.join().unwrap().unwrap();
        });
    });
}
