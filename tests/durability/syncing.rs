//! Syncs while other processes define and change slots, and while nothing changes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::common;
use crate::common::mounts::{Disk, with_own_mounts};
use crate::common::{Child, folder, number, os, store_in, until, within};
use slotfile::{Error, OpenOptions, Recovery, Store};

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).max_slots(400_000).sync_every(None);
    options
}

/// A process that defines slots, this many microseconds apart, and counts them in `defined`.
fn define_slots(path: &Path, pause: u64) {
    let store = options().open(path).unwrap();
    let defined = store.value::<u64>("defined").unwrap();
    for i in 1..=300_000 {
        store.value::<u64>(&format!("new/{i}")).unwrap();
        defined.store(i).unwrap();
        if pause > 0 {
            std::thread::sleep(Duration::from_micros(pause));
        }
    }
}

/// The number of slots that a power cut at this moment would leave, and that in `defined`.
fn after_a_power_cut(path: &Path) -> (u64, u64) {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).unwrap();
    let store = options().open(&copy).unwrap();
    assert!(matches!(store.recovery(), Recovery::Restored { .. }), "{:?}", store.recovery());
    let found = (store.slots_matching("new/*").unwrap().len() as u64, store.value("defined"));
    drop(store);
    std::fs::remove_file(copy).unwrap();
    (found.0, found.1.unwrap().load())
}

#[test]
fn a_sync_and_a_copy_end_while_others_define_slots() {
    const NAME: &str = "a_sync_and_a_copy_end_while_others_define_slots";
    if common::role().is_some() {
        return define_slots(&common::path(), number());
    }
    let folder = common::folder_in_memory();
    let path = store_in(&folder);
    let store = options().lock_timeout(Some(Duration::from_secs(20))).open(&path).unwrap();
    // Looking at all of them takes longer than defining one.
    for i in 0..60_000 {
        store.value::<u8>(&format!("old/{i}")).unwrap();
    }
    store.sync().unwrap();
    let defined = store.value::<u64>("defined").unwrap();
    let definer = Child::spawn_with(NAME, "definer", &path, 50);
    until("the definer defines", || defined.load() > 0);
    for _ in 0..3 {
        store.sync().unwrap();
        assert!(defined.load() < 300_000, "it ended only with the definer");
    }
    let copy = folder.path().join("copy");
    store.copy_to(&copy).unwrap();
    assert!(defined.load() < 300_000, "it ended only with the definer");
    drop(definer);
    let copy = Store::open(&copy).unwrap();
    // All are of one instant: a slot is defined before it is counted.
    let there = copy.slots_matching("new/*").unwrap().len() as u64;
    let counted = copy.value::<u64>("defined").unwrap().load();
    assert!((counted..=counted + 1).contains(&there), "{there} slots, {counted} counted");
}

/// A store in a buffer changes no control word: each process has to look at all buffers.
#[test]
fn a_buffer_is_found_by_a_process_that_has_not_opened_it() {
    const NAME: &str = "a_buffer_is_found_by_a_process_that_has_not_opened_it";
    if common::role().is_some() {
        return options().open(common::path()).unwrap().sync().unwrap();
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = options().open(&path).unwrap();
    let buffer = store.buffer::<u64>("buffer", 20_000).unwrap();
    let counter = store.counter("counter").unwrap();
    for round in 1..4 {
        buffer.set(15_000, round).unwrap();
        counter.add(1).unwrap();
        Child::spawn(NAME, "syncs", &path).join();
        let check = store.check().unwrap();
        assert_eq!((check.problems, check.unverified), (vec![], vec![]), "round {round}");
    }
}

/// Each chunk that is copied lets another slot be defined, so that there is always a new one.
#[test]
fn a_copy_ends_whatever_is_defined_meanwhile() {
    let folder = folder();
    let path = store_in(&folder);
    let store = options().lock_timeout(Some(Duration::from_secs(2))).open(&path).unwrap();
    store.value::<u8>("old").unwrap();
    let copy = folder.path().join("copy");
    let mut new = 0;
    let define = |_| {
        // Refused at the end, since this thread itself keeps definitions out.
        match store.value::<u8>(&format!("new/{new}")) {
            Ok(_) => new += 1,
            Err(error) => assert!(matches!(error, Error::Deadlock { .. }), "{error}"),
        }
    };
    store.copy_with(&copy, define).unwrap();
    assert!(new > 0);
    let copy = Store::open(&copy).unwrap();
    assert_eq!(copy.slots().unwrap().len() as u64, 1 + new);
}

/// Slots that are defined during the final pass over the others belong to the next sync, and so
/// does anything changed after their definition.
#[test]
fn row_19_what_a_sync_has_of_new_slots_is_of_one_instant() {
    const NAME: &str = "row_19_what_a_sync_has_of_new_slots_is_of_one_instant";
    if common::role().is_some() {
        return define_slots(&common::path(), number());
    }
    let folder = common::folder_in_memory();
    let path = store_in(&folder);
    let store = options().open(&path).unwrap();
    let defined = store.value::<u64>("defined").unwrap();
    let _definer = Child::spawn_with(NAME, "definer", &path, 20);
    until("the definer defines", || defined.load() > 0);
    for _ in 0..common::rounds(10, 200) {
        store.sync().unwrap();
        let (there, counted) = after_a_power_cut(&path);
        assert!((counted..=counted + 1).contains(&there), "{there} slots, {counted} counted");
    }
}

/// A slot that changes faster than it can be copied ends a copy or a sync with an error that
/// names it.
#[test]
fn a_copy_that_cannot_end_says_what_kept_changing() {
    let folder = folder();
    let path = store_in(&folder);
    let timeout = Duration::from_millis(200);
    let store = options().lock_timeout(Some(timeout)).open(&path).unwrap();
    store.array::<u64>("mad", 1000).unwrap();
    // A peer that breaks the protocol: it never releases the lock, and keeps incrementing the
    // version.
    let raw = common::raw::Raw::open(&path);
    let control = raw.control(0);
    let copy = folder.path().join("copy");
    let mut version = 1u64 << 20;
    let copying = || {
        store.copy_with(&copy, |_| {
            version += 1;
            raw.set_word(control, version << 17 | 4000 << 2);
        })
    };
    let error = within(Duration::from_secs(20), "it", copying).unwrap_err();
    assert!(matches!(error, Error::KeepsChanging { .. }), "{error}");
    assert!(error.to_string().contains("slot \"mad\" kept changing for 1.0s"), "{error}");
    assert!(!copy.exists());
    store.copy_to(&copy).unwrap();
}

/// How often the thread that syncs has gone to sleep.
fn sleeps_of_the_syncing_thread() -> Option<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let status = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .find(|status| status.starts_with("Name:\tslotfile sync"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

#[test]
fn an_idle_store_is_not_written_to() {
    const NAME: &str = "an_idle_store_is_not_written_to";
    if common::role().is_none() {
        let folder = folder();
        return Child::spawn(NAME, "apart", &store_in(&folder)).join();
    }
    let path = common::path();
    let every = Some(Duration::from_millis(5));
    let store = options().sync_every(every).open(&path).unwrap();
    let (hits, buffer) =
        (store.value::<u64>("hits").unwrap(), store.buffer::<u8>("raw", 5000).unwrap());
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let modified = || {
        // Earlier writes through the mapping are noted by now, and later ones will be noted
        // again.
        file.sync_all().unwrap();
        let there = file.metadata().unwrap();
        (there.mtime(), there.mtime_nsec())
    };
    let wait = || {
        let before = sleeps_of_the_syncing_thread().expect("there is a thread");
        until("it has looked 20 times", || sleeps_of_the_syncing_thread().unwrap() >= before + 20);
    };
    hits.store(5).unwrap();
    until("it is synced", || store.info().unwrap().unsynced == Some(0));
    wait();
    let before = modified();
    wait();
    assert_eq!(modified(), before, "nothing has changed, and the file was written to");
    // Checks that the test would see it: tmpfs, for one, does not note writes by mappings.
    std::thread::sleep(Duration::from_millis(20));
    buffer.set(0, 7).unwrap();
    if modified() == before {
        eprintln!("skipped: this file system does not note when mapped pages are written to");
        return;
    }
    until("a buffer is synced", || store.info().unwrap().unsynced == Some(0));
}

#[test]
fn an_opener_that_asks_for_a_shorter_period_gets_it_at_once() {
    const NAME: &str = "an_opener_that_asks_for_a_shorter_period_gets_it_at_once";
    if common::role().is_none() {
        let folder = folder();
        return Child::spawn(NAME, "apart", &store_in(&folder)).join();
    }
    let open = |period: Duration| options().sync_every(Some(period)).open(common::path()).unwrap();
    let store = open(Duration::from_secs(3_600));
    let hits = store.value::<u64>("hits").unwrap();
    until("the thread sleeps", || sleeps_of_the_syncing_thread().is_some_and(|sleeps| sleeps > 0));
    store.sync().unwrap();
    hits.store(1).unwrap();
    assert_eq!(store.info().unwrap().unsynced, Some(1), "it sleeps for an hour");
    let _second = open(Duration::from_millis(1));
    until("it is synced", || store.info().unwrap().unsynced == Some(0));
}

#[test]
fn a_period_of_zero_is_no_reason_to_spin() {
    const NAME: &str = "a_period_of_zero_is_no_reason_to_spin";
    if common::role().is_none() {
        let folder = folder();
        return Child::spawn(NAME, "apart", &store_in(&folder)).join();
    }
    let store = options().sync_every(Some(Duration::ZERO)).open(common::path()).unwrap();
    let hits = store.value::<u64>("hits").unwrap();
    hits.store(1).unwrap();
    until("it is synced", || store.info().unwrap().unsynced == Some(0));
    let before = sleeps_of_the_syncing_thread().expect("there is a thread");
    until("it sleeps", || sleeps_of_the_syncing_thread().unwrap() >= before + 20);
}

/// A page with a copy, and a page with the record. The file's times are not among them, even where
/// the file system has no journal: at most once for each tick of the kernel's clock.
#[test]
fn a_sync_of_one_value_writes_two_pages() {
    const SYNCS: u64 = 20;
    if !common::apart("a_sync_of_one_value_writes_two_pages") {
        return;
    }
    let folder = folder();
    with_own_mounts(|| {
        // In memory, so that many syncs take no longer than a tick.
        assert!(os::mount("tmpfs", Path::new("tmpfs"), folder.path(), 0, "size=120m"));
        let of_disk = ["-O", "^has_journal", "-b", "4096"];
        let Some(disk) = Disk::make("ext4", &of_disk, folder.path()) else { return };
        let store = options().open(disk.at.join("state.slots")).unwrap();
        let value = store.value::<u64>("value").unwrap();
        let written_by_each = || {
            let before = disk.written();
            for _ in 0..SYNCS {
                value.fetch_add(1).unwrap();
                store.sync().unwrap();
            }
            (disk.written() - before) / SYNCS
        };
        // A busy machine takes longer, and the first syncs write more.
        let least = (0..50).map(|_| written_by_each()).min().unwrap();
        assert!((8_192..10_000).contains(&least), "{least} bytes for each sync");
    });
}
