//! A failed sync is reported; and leaving a store always syncs.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::common;
use crate::common::mounts::{Disk, with_own_mounts};
use crate::common::raw::{LIVE_HEADER, Raw};
use crate::common::{Child, folder, os, store_in, until};
use slotfile::{Error, OpenOptions, Recovery, Store};

/// The owner of the sync lock stands in this word.
const SYNC_LOCK: u64 = LIVE_HEADER + 256 + 8;

fn syncing_every(period: Duration) -> OpenOptions {
    OpenOptions::new().create(true).max_slots(64).sync_every(Some(period)).clone()
}

/// Makes all writes of this process to files fail, or work again.
fn let_syncs_fail(fail: bool) {
    os::limit(libc::RLIMIT_FSIZE, if fail { 4096 } else { u64::MAX });
}

#[test]
fn row_21_a_failed_sync_in_the_background_is_heard_once() {
    const NAME: &str = "row_21_a_failed_sync_in_the_background_is_heard_once";
    if common::role().is_none() {
        let folder = folder();
        return Child::spawn(NAME, "apart", &store_in(&folder)).join();
    }
    let store = syncing_every(Duration::from_millis(10)).open(common::path()).unwrap();
    let hits = store.value::<u64>("hits").unwrap();
    let array = store.array::<u64>("array", 8).unwrap();
    for _ in 0..2 {
        store.sync().unwrap();
        assert_eq!(store.info().unwrap().failed_sync, None);
        let_syncs_fail(true);
        let mut told = None;
        until("the next call that writes is told", || {
            let before = hits.load();
            let result = hits.store(before + 1);
            // The call that reports it has done nothing.
            assert_eq!(hits.load(), before + u64::from(result.is_ok()));
            told = result.err();
            told.is_some()
        });
        let told = told.unwrap();
        let Error::NotSynced { source, .. } = &told else { panic!("{told}") };
        assert!(matches!(**source, Error::NoSpace { .. }), "{told}");
        // A program that continues means to: it is told once, however often it fails from here.
        let failed = store.info().unwrap().failed_sync.unwrap();
        assert_eq!(failed.errno, libc::EFBIG);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            hits.fetch_add(1).unwrap();
            array.set(0, 1).unwrap();
        }
        let problems = store.check().unwrap().problems;
        assert!(problems.iter().any(|p| p.what.contains("the last sync failed")), "{problems:?}");
        assert!(matches!(store.sync(), Err(Error::NoSpace { .. })));
        let_syncs_fail(false);
        // It recovers by itself.
        until("a sync has succeeded", || store.info().unwrap().failed_sync.is_none());
        assert!(store.check().unwrap().is_ok());
    }
}

/// Places where a store is not dropped like a local variable.
const PLACES: [&str; 7] = [
    "a variable",
    "a thread-local",
    "a static",
    "a static, and exit",
    "a leak",
    "a forked child",
    "a forked child that stays",
];

thread_local! {
    static HERE: RefCell<Option<Store>> = const { RefCell::new(None) };
}
static EVERYWHERE: OnceLock<Store> = OnceLock::new();

/// The disk lacks the room that it has promised, like a thin volume, and gets it later. Data that
/// could not be written at first, and is written again, must be there after a restart. (ext4 takes
/// the pages for written, and does not note that their blocks are in use.)
#[test]
fn row_21_what_a_full_device_has_refused_is_lasting_once_it_is_synced() {
    if !common::apart("row_21_what_a_full_device_has_refused_is_lasting_once_it_is_synced") {
        return;
    }
    let folder = folder();
    with_own_mounts(|| {
        let small = folder.path();
        assert!(os::mount("tmpfs", Path::new("tmpfs"), small, 0, "size=120m"));
        // Without a journal, which would stop if it found no room.
        let without = ["-O", "^has_journal"];
        let Some(disk) = Disk::make("ext4", &without, small) else { return };
        let path = disk.at.join("state.slots");
        let options = OpenOptions::new().create(true).max_slots(64).sync_every(None).clone();
        const LEN: usize = 4 << 20;
        let store = options.open(&path).unwrap();
        let large = store.array::<u8>("large", LEN).unwrap();
        store.sync().unwrap();
        fs::write(small.join("fill"), vec![1; 120 << 20]).unwrap_err();
        large.store(&vec![5; LEN]).unwrap();
        for _ in 0..3 {
            store.sync().unwrap_err();
        }
        fs::remove_file(small.join("fill")).unwrap();
        // An old error may be reported once more.
        assert!((0..3).any(|_| store.sync().is_ok()));
        drop((large, store));
        disk.mount_anew();
        let store = options.open(&path).unwrap();
        assert!(matches!(store.recovery(), Recovery::Restored { .. }), "{:?}", store.recovery());
        assert!(store.array::<u8>("large", LEN).unwrap().load().iter().all(|x| *x == 5));
    });
}

/// Stores 1, which is synced at once, then 2, which is left to the last sync.
fn write(store: &Store) {
    let array = store.array::<u64>("a", 1).unwrap();
    array.set(0, 1).unwrap();
    store.sync().unwrap();
    array.set(0, 2).unwrap();
}

fn leave_it_in(place: &str, store: Store) {
    match place {
        "a variable" => write(&store),
        "a thread-local" => {
            let thread = std::thread::spawn(move || {
                HERE.with(|here| write(here.borrow_mut().insert(store)));
            });
            thread.join().unwrap();
        }
        "a static" => write(EVERYWHERE.get_or_init(|| store)),
        "a leak" => write(Box::leak(Box::new(store))),
        "a static, and exit" => {
            write(EVERYWHERE.get_or_init(|| store));
            std::thread::spawn(|| std::process::exit(0)).join().unwrap();
        }
        "a forked child that stays" => {
            // Like a program that becomes a daemon: no other process is left to sync.
            write(EVERYWHERE.get_or_init(|| store));
            let parent = std::process::id();
            if let Some(child) = os::fork_and_go_on() {
                std::mem::forget(child);
                os::exit_at_once(0);
            }
            until("the parent has gone", || std::os::unix::process::parent_id() != parent);
            std::process::exit(0);
        }
        _ => {
            // The child, which only has a copy, leaves it to its parent, which is killed.
            write(EVERYWHERE.get_or_init(|| store));
            if let Some(child) = os::fork_and_go_on() {
                child.join();
                os::exit_at_once(0);
            }
            std::process::exit(0);
        }
    }
}

/// The content that a power cut would leave.
fn after_a_power_cut(path: &Path) -> u64 {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    let store = OpenOptions::new().sync_every(None).open(&copy).unwrap();
    assert!(matches!(store.recovery(), Recovery::Restored { .. }), "{:?}", store.recovery());
    let found = store.array::<u64>("a", 1).unwrap().get(0).unwrap();
    fs::remove_file(&copy).unwrap();
    found
}

#[test]
fn a_store_is_synced_when_it_is_left_from_wherever_it_is() {
    const NAME: &str = "a_store_is_synced_when_it_is_left_from_wherever_it_is";
    if let Some(place) = common::role() {
        // No background sync happens meanwhile.
        let store = syncing_every(Duration::from_secs(3000)).open(common::path()).unwrap();
        return leave_it_in(&place, store);
    }
    let folder = folder();
    for (number, place) in PLACES.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        Child::spawn(NAME, place, &path).join();
        let expected = if *place == "a forked child" { 1 } else { 2 };
        if *place == "a forked child that stays" {
            until("the child has left", || after_a_power_cut(&path) == expected);
        }
        assert_eq!(after_a_power_cut(&path), expected, "left in {place}");
    }
}

#[test]
fn closing_a_store_says_whether_it_was_synced() {
    const NAME: &str = "closing_a_store_says_whether_it_was_synced";
    if common::role().is_some() {
        let open = || syncing_every(Duration::from_secs(3000)).open(common::path()).unwrap();
        let store = open();
        write(&store);
        let_syncs_fail(true);
        // With another handle, and without.
        let other = store.clone();
        assert!(matches!(store.close(), Err(Error::NoSpace { .. })));
        assert!(matches!(other.close(), Err(Error::NoSpace { .. })));
        // An error in the drop of the last handle is reported to all that ask.
        let store = open();
        store.array::<u64>("a", 1).unwrap().set(0, 2).unwrap();
        return drop(store);
    }
    let folder = folder();
    let path = store_in(&folder);
    Child::spawn(NAME, "apart", &path).join();
    let store = Store::open_read_only(&path).unwrap();
    assert_eq!(store.info().unwrap().failed_sync.unwrap().errno, libc::EFBIG);
    drop(store);
    let store = syncing_every(Duration::from_secs(3000)).open(&path).unwrap();
    store.close().unwrap();
    assert_eq!(after_a_power_cut(&path), 2);
    let store = Store::open_read_only(&path).unwrap();
    assert_eq!(store.info().unwrap().failed_sync, None);
    store.close().unwrap();
    let unsynced = OpenOptions::new().sync_every(None).open(&path).unwrap();
    unsynced.array::<u64>("a", 1).unwrap().set(0, 3).unwrap();
    unsynced.close().unwrap();
    assert_eq!(after_a_power_cut(&path), 2, "it was not to be synced");
    let store = syncing_every(Duration::from_secs(3000)).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.close(), Err(Error::Detached { .. })));
}

/// If no thread can be started (RLIMIT_NPROC, pids.max), nothing is synced in the background.
#[test]
fn row_21_that_no_thread_is_to_be_had_is_heard_and_tried_again() {
    const NAME: &str = "row_21_that_no_thread_is_to_be_had_is_heard_and_tried_again";
    let no_thread = |error: &Error| {
        let Error::NotSynced { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("cannot start a thread"), "{error}");
    };
    if let Some(role) = common::role() {
        if role == "a thread-local" {
            let thread = std::thread::spawn(move || {
                HERE.with(|here| {
                    os::have_no_more_threads(true);
                    let options = syncing_every(Duration::from_secs(3000));
                    let mut here = here.borrow_mut();
                    let store = here.insert(options.open(common::path()).unwrap());
                    let array = store.array::<u64>("a", 1).unwrap();
                    no_thread(&array.set(0, 3).unwrap_err());
                    array.set(0, 3).unwrap();
                    store.sync().unwrap();
                    array.set(0, 4).unwrap();
                });
            });
            return thread.join().unwrap();
        }
        os::have_no_more_threads(true);
        let store = syncing_every(Duration::from_millis(10)).open(common::path()).unwrap();
        let array = store.array::<u64>("a", 1).unwrap();
        let before = array.get(0).unwrap();
        no_thread(&array.set(0, 1).unwrap_err());
        assert_eq!(array.get(0).unwrap(), before);
        assert_eq!(store.info().unwrap().failed_sync.unwrap().errno, libc::EAGAIN);
        let problems = store.check().unwrap().problems;
        assert!(problems.iter().any(|p| p.what.contains("the last sync failed")), "{problems:?}");
        for n in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            array.set(0, n).unwrap();
        }
        if role == "a static" {
            array.set(0, 2).unwrap();
            EVERYWHERE.get_or_init(|| store);
            // Threads can be started again, but no write finds that out.
            os::have_no_more_threads(false);
            std::process::exit(0);
        }
        store.pause_syncing();
        assert_eq!(after_a_power_cut(&common::path()), 19);
        array.set(0, 4).unwrap();
        os::have_no_more_threads(false);
        until("a thread has synced", || {
            array.set(0, 5).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            store.info().unwrap().failed_sync.is_none() && after_a_power_cut(&common::path()) == 5
        });
        assert!(store.check().unwrap().is_ok());
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let anybody = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(folder.path(), anybody(0o777)).unwrap();
    // It stays open: the handle that leaves is not the last one.
    let store = syncing_every(Duration::MAX).open(&path).unwrap();
    store.array::<u64>("a", 1).unwrap();
    store.sync().unwrap();
    fs::set_permissions(&path, anybody(0o666)).unwrap();
    Child::spawn(NAME, "a variable", &path).join();
    Child::spawn(NAME, "a static", &path).join();
    assert_eq!(after_a_power_cut(&path), 2);
    assert_eq!(store.info().unwrap().failed_sync, None);
    // If its thread ends, another one is needed to sync.
    Child::spawn(NAME, "a thread-local", &path).join();
    assert_eq!(store.info().unwrap().failed_sync.unwrap().errno, libc::EAGAIN);
}

#[test]
fn a_store_that_is_synced_only_when_it_is_left_has_no_thread() {
    if !common::apart("a_store_that_is_synced_only_when_it_is_left_has_no_thread") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    os::fork(|| {
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();
        let store = syncing_every(Duration::MAX).open(&path).unwrap();
        let array = store.array::<u64>("a", 1).unwrap();
        array.set(0, 1).unwrap();
        assert_eq!(threads(), 1);
        drop((store, array));
        assert_eq!(after_a_power_cut(&path), 1);
        // Another opening in this program wants it sooner.
        let store = syncing_every(Duration::MAX).open(&path).unwrap();
        let sooner = syncing_every(Duration::from_millis(10)).open(&path).unwrap();
        store.array::<u64>("a", 1).unwrap().set(0, 2).unwrap();
        assert_eq!(threads(), 2);
        until("it is synced", || after_a_power_cut(&path) == 2);
        drop(sooner);
    })
    .join();
}

/// No background sync completes while another process is stopped inside one.
#[test]
fn a_process_that_is_stopped_inside_a_sync_is_named_to_the_others() {
    const NAME: &str = "a_process_that_is_stopped_inside_a_sync_is_named_to_the_others";
    if common::role().is_some() {
        let store = OpenOptions::new().sync_every(None).open(common::path()).unwrap();
        let large = store.array::<u64>("large", 1 << 17).unwrap();
        for i in 0.. {
            large.update(|all| all.fill(i)).unwrap();
            store.sync().unwrap();
        }
    }
    let folder = folder();
    let path = store_in(&folder);
    // Ten periods, and at least a second, count as stopped.
    let store = syncing_every(Duration::from_millis(20)).open(&path).unwrap();
    let hits = store.value::<u64>("hits").unwrap();
    let child = Child::spawn(NAME, "syncs", &path);
    let raw = Raw::open(&path);
    until("it is stopped inside a sync", || {
        os::stop(child.pid());
        // The lock's owner can be read reliably only while the process is stopped.
        let its = is_syncing(child.pid(), &raw);
        if !its {
            os::resume(child.pid());
            std::thread::sleep(Duration::from_millis(1));
        }
        its
    });
    let mut told = None;
    until("the next call that writes is told", || {
        told = hits.fetch_add(1).err();
        std::thread::sleep(Duration::from_millis(1));
        told.is_some()
    });
    let told = told.unwrap().to_string();
    assert!(told.contains("the sync lock") && told.contains(&child.pid().to_string()), "{told}");
    assert_eq!(store.info().unwrap().failed_sync.unwrap().errno, libc::ETIMEDOUT);
    // Killed there, it leaves the lock to the others.
    drop(child);
    until("a sync has succeeded", || store.info().unwrap().failed_sync.is_none());
}

/// Whether this process has the sync lock, by what the process table says of its owner.
fn is_syncing(pid: u32, raw: &Raw) -> bool {
    let owner = raw.word(SYNC_LOCK) >> 2 & 0x7fff;
    let entry = common::raw::TABLE + common::raw::TABLE_ENTRY * owner.saturating_sub(1);
    owner != 0 && raw.word(entry + 8) as u32 == pid
}
