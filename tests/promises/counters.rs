//! Counters: no add is lost or counted twice, whoever else adds, replaces, syncs or is killed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use slotfile::{
    Data, Define, Elements, Error, OpenOptions, Recovery, Scalar, ScalarType, SlotType, Store,
};

use crate::common::raw::Raw;
use crate::common::{Child, Finally, folder, long, number, path, role, rounds, store_in, until};

/// Syncs only when told.
fn open(path: &Path) -> Store {
    OpenOptions::new().create(true).max_slots(64).sync_every(None).open(path).unwrap()
}

#[test]
fn it_counts() {
    let store = Store::temporary().unwrap();
    let c = store.counter_with("c", Define::new().initial(40)).unwrap();
    assert_eq!((c.name(), c.load()), ("c", 40));
    c.add(5).unwrap();
    c.add(-3).unwrap();
    assert_eq!(store.counter("c").unwrap().load(), 42);
    assert_eq!(c.swap(7).unwrap(), 42);
    c.store(i64::MAX).unwrap();
    c.add(1).unwrap();
    assert_eq!(c.load(), i64::MIN, "it wraps around");
    c.add(i64::MIN).unwrap();
    assert_eq!(c.load(), 0);
    assert_eq!(c.swap(i64::MIN).unwrap(), 0);
    assert_eq!(c.swap(1).unwrap(), i64::MIN);

    assert!(matches!(store.value::<i64>("c"), Err(Error::Type { .. })));
    assert!(matches!(store.buffer::<i64>("c", 512), Err(Error::Type { .. })));
    store.value::<i64>("v").unwrap();
    assert!(matches!(store.counter("v"), Err(Error::Type { .. })));

    store.remove("c").unwrap();
    assert!(c.is_removed());
    assert!(matches!(c.add(1), Err(Error::Removed { .. })));
    assert!(matches!(c.swap(1), Err(Error::Removed { .. })));
    assert_eq!((c.load(), store.counter("c").unwrap().load()), (1, 0));
}

#[test]
fn who_only_reads_cannot_add() {
    let folder = folder();
    let path = store_in(&folder);
    open(&path).counter("c").unwrap().add(3).unwrap();
    let store = Store::open_read_only(&path).unwrap();
    let c = store.counter("c").unwrap();
    assert_eq!(c.load(), 3);
    assert!(matches!(c.add(1), Err(Error::ReadOnly { .. })));
    assert!(matches!(c.store(1), Err(Error::ReadOnly { .. })));
    assert_eq!(c.load(), 3);
}

/// Tools see one `i64`, and may change it.
#[test]
fn tools_see_a_number() {
    let store = Store::temporary().unwrap();
    let slot_type: SlotType = "counter".parse().unwrap();
    assert_eq!((slot_type.clone(), slot_type.to_string()), (SlotType::Counter, "counter".into()));
    assert!("counter[3]".parse::<SlotType>().is_err());
    let slot = store.define("c", &slot_type, Define::new().initial(Scalar::I64(3))).unwrap();
    store.counter("c").unwrap().add(-5).unwrap();
    assert_eq!((slot.load(), slot.areas()), (Data::from(-2i64), 1));
    assert_eq!(slot.load_versioned(), (Data::from(-2i64), 0), "an add has no version");
    slot.store(9i64).unwrap();
    assert_eq!(slot.load_versioned(), (Data::from(9i64), 1));
    assert_eq!(slot.load_beginning(1), (Data::from(9i64), 1));
    assert_eq!(slot.load_range(..).unwrap(), Elements::from([9i64]));
    assert!(slot.load_range(1..1).unwrap().is_empty());
    assert!(matches!(slot.load_range(1..2), Err(Error::Index { .. })));
    let old = slot.update(|data| Ok::<_, Error>(std::mem::replace(data, Data::from(4i64))));
    assert_eq!((old.unwrap(), slot.load()), (Data::from(9i64), Data::from(4i64)));
    slot.store_range(0, &Elements::from([5i64])).unwrap();
    slot.update_range(1..1, |_| Ok::<_, Error>(())).unwrap();
    assert_eq!(slot.load(), 5i64.into());
    for wrong in [Data::from(5u64), Data::from(vec![1i64, 2]), Data::from("5")] {
        assert!(matches!(slot.store(wrong.clone()), Err(Error::Type { .. })), "{wrong:?}");
        let update = slot.update(|data| {
            *data = wrong.clone();
            Ok::<_, Error>(())
        });
        assert!(matches!(update, Err(Error::Type { .. })), "{wrong:?}");
    }
    let too_many = slot.update_range(.., |elements| {
        *elements = Elements::zeros(ScalarType::I64, 2);
        Ok::<_, Error>(())
    });
    assert!(matches!(too_many, Err(Error::Length { .. })));
    assert_eq!(slot.load(), 5i64.into());
    assert!(slot.raw_buffer().is_none());
}

/// What would need the number at one moment, or a thread that wakes others.
#[test]
fn what_it_cannot_do_is_refused() {
    let store = Store::temporary().unwrap();
    store.counter("c").unwrap();
    let slot = store.slot("c").unwrap();
    let value = store.value::<u8>("v").unwrap();
    let mut watch = store.watch("later").unwrap();
    store.counter("later").unwrap();
    let second = Some(Duration::from_secs(1));
    for (refused, why) in [
        (store.transaction(|tx| tx.load(&slot).map(drop)), "use a value"),
        (store.transaction(|tx| tx.store(&slot, 1i64.into())), "use a value"),
        (store.snapshot(|s| s.load(&slot).map(drop)), "use a value"),
        (store.snapshot_of(std::slice::from_ref(&slot)).map(drop), "use a value"),
        (store.group([slot.clone()]).map(drop), "use a value"),
        (slot.wait_until(|data| *data == 1i64.into(), second).map(drop), "wakes nobody"),
        (slot.wait_for_change(0, second).map(drop), "wakes nobody"),
        (store.wait_any(&[(&value, 0), (&slot, 0)], second).map(drop), "wakes nobody"),
        (store.watch("c").map(drop), "wakes nobody"),
        (store.watch("\\c").map(drop), "wakes nobody"),
        (watch.next(second).map(drop), "wakes nobody"),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(slot.load(), 0i64.into());
}

/// Each process adds to the counter, then to its own number of the buffer; they are killed at
/// random moments.
#[test]
fn row_01_eight_processes_that_are_killed_lose_no_add() {
    const NAME: &str = "row_01_eight_processes_that_are_killed_lose_no_add";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let counter = store.counter("counter").unwrap();
        let done = store.buffer::<i64>("done", 64).unwrap();
        loop {
            counter.add(1).unwrap();
            done.fetch_add(8 * number() as usize, 1).unwrap();
        }
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let counter = store.counter("counter").unwrap();
    let done = store.buffer::<i64>("done", 64).unwrap();
    let all_done = || done.load().iter().sum::<i64>();
    let mut killed = 0;
    for round in 0..rounds(3, 100) {
        let children: Vec<_> =
            (0..8).map(|number| Child::spawn_with(NAME, "adder", &path, number)).collect();
        let before = done.load();
        until("all are adding", || {
            done.load().iter().zip(&before).step_by(8).all(|(now, before)| now > before)
        });
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..20)));
        killed += children.len() as i64;
        drop(children);
        let (sum, done) = (counter.load(), all_done());
        assert!((done..=done + killed).contains(&sum), "round {round}: {sum}, of {done} done");
    }
    let sum = counter.load();
    drop((counter, done, store));
    assert_eq!(open(&path).counter("counter").unwrap().load(), sum);
}

/// All that is taken, and what is left, is all that was added.
#[test]
fn no_add_is_lost_to_a_swap() {
    let store = Store::temporary().unwrap();
    let counter = store.counter("counter").unwrap();
    let (adds, done) = (if long() { 5_000_000 } else { 300_000 }, AtomicBool::new(false));
    let mut taken = 0;
    std::thread::scope(|scope| {
        let add = || (0..adds).for_each(|_| counter.add(1).unwrap());
        let adders = [scope.spawn(add), scope.spawn(add), scope.spawn(add)];
        let taker = scope.spawn(|| {
            let mut taken = 0;
            while !done.load(Relaxed) {
                taken += counter.swap(0).unwrap();
                let slot = store.slot("counter").unwrap();
                taken += slot
                    .update(|data| match std::mem::replace(data, Data::from(0i64)) {
                        Data::Scalar(Scalar::I64(old)) => Ok::<_, Error>(old),
                        other => panic!("{other:?}"),
                    })
                    .unwrap();
            }
            taken
        });
        let _done = Finally(&done);
        while !done.load(Relaxed) {
            taken += counter.swap(0).unwrap();
            done.store(adders.iter().all(|adder| adder.is_finished()), Relaxed);
        }
        taken += taker.join().unwrap();
    });
    assert_eq!(taken + counter.load(), 3 * adds);
}

/// While all add, what a reader sees never becomes less.
#[test]
fn a_reader_never_sees_less() {
    let store = Store::temporary().unwrap();
    let counter = store.counter("counter").unwrap();
    let done = AtomicBool::new(false);
    let added: i64 = std::thread::scope(|scope| {
        let add = || {
            let mut added = 0;
            while !done.load(Relaxed) {
                counter.add(1).unwrap();
                added += 1;
            }
            added
        };
        let adders = [scope.spawn(add), scope.spawn(add)];
        let ended = Finally(&done);
        let (mut last, mut grown) = (0, 0);
        until("it has grown often", || {
            for _ in 0..1_000 {
                let now = counter.load();
                assert!(now >= last, "{now} after {last}");
                grown += usize::from(now > last);
                last = now;
            }
            grown > rounds(500, 20_000)
        });
        drop(ended);
        adders.map(|adder| adder.join().unwrap()).iter().sum()
    });
    assert_eq!(counter.load(), added);
}

/// A sync has every add that returned before it began, and each at most once.
#[test]
fn a_sync_has_all_adds_that_came_before() {
    for round in 0..rounds(8, 200) {
        let folder = folder();
        let path = store_in(&folder);
        let store = open(&path);
        let (counter, done) =
            (store.counter("counter").unwrap(), store.value::<i64>("done").unwrap());
        let end = AtomicBool::new(false);
        let (mut least, mut most) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Relaxed) {
                    counter.add(1).unwrap();
                    done.fetch_add(1).unwrap();
                }
            });
            let _end = Finally(&end);
            until("it is counted", || done.load() > 100);
            least = done.load();
            store.sync().unwrap();
            most = done.load() + 1;
            store.copy_to(path.with_extension("copy")).unwrap();
        });
        let unsynced = counter.load();
        drop((counter, done, store));
        Raw::open(&path).restart();
        for path in [&path, &path.with_extension("copy")] {
            let store = open(path);
            let sum = store.counter("counter").unwrap().load();
            // As of the instant of the sync, `done` counts no add that is not there.
            assert!(sum >= store.value::<i64>("done").unwrap().load(), "round {round}");
            assert!((least..=unsynced).contains(&sum), "round {round}: {sum}");
            assert!(store.check().unwrap().is_ok());
        }
        let store = open(&path);
        assert!(store.counter("counter").unwrap().load() <= most, "round {round}");
    }
}

/// Adds are found by comparing, as they change no version.
#[test]
fn adds_are_synced_in_the_background_and_on_leaving() {
    let folder = folder();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    options.create(true).max_slots(64).sync_every(Some(Duration::from_millis(20)));
    let store = options.open(&path).unwrap();
    let counter = store.counter("counter").unwrap();
    store.sync().unwrap();
    counter.add(5).unwrap();
    until("it is synced", || store.info().unwrap().unsynced == Some(0));
    drop((counter, store));
    let store = options.sync_every(Some(Duration::from_secs(1000))).open(&path).unwrap();
    store.counter("counter").unwrap().add(6).unwrap();
    assert_eq!(store.info().unwrap().unsynced, Some(1));
    drop(store);
    Raw::open(&path).restart();
    let store = open(&path);
    assert!(matches!(store.recovery(), Recovery::Restored { .. }));
    assert_eq!(store.counter("counter").unwrap().load(), 11);
}

#[test]
fn a_store_of_format_1_0_has_none_until_it_is_compacted() {
    let folder = folder();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    drop(options.create_new(true).max_slots(16).max_size(16 << 20).open(&path).unwrap());
    Raw::open(&path).make_older();
    let store = open(&path);
    store.value::<u8>("value").unwrap();
    let error = store.counter("counter").unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("`slotfile compact`"), "{error}");
    assert!(matches!(store.slot("counter"), Err(Error::NotFound { .. })));
    let store = store.compact().unwrap();
    store.counter("counter").unwrap().add(1).unwrap();
    let store = store.compact().unwrap();
    assert_eq!(store.counter("counter").unwrap().load(), 1);
}

/// As documented: of a counter among others, what has a version.
#[test]
fn a_watch_of_many_slots_reports_its_stores_and_removal() {
    let store = Store::temporary().unwrap();
    let c = store.counter("c").unwrap();
    let mut watch = store.watch("*").unwrap();
    let mut next = || watch.next(Some(Duration::ZERO)).unwrap();
    c.add(3).unwrap();
    assert!(next().is_none(), "an add has no version");
    c.store(7).unwrap();
    assert_eq!(next().unwrap().content, 7i64.into());
    store.remove("c").unwrap();
    assert!(next().unwrap().removed);
}

/// A sync does not read the copy of a counter again that it wrote, nor that of what is removed. What
/// was added is seen all the same, on whatever stripes.
#[test]
fn a_sync_copies_what_was_added_since_the_last() {
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let synced = || {
        let now = store.info().unwrap();
        store.sync().unwrap();
        (now.unsynced.unwrap(), store.info().unwrap().unsynced.unwrap())
    };
    let c = store.counter("c").unwrap();
    let gone = store.counter("gone").unwrap();
    store.buffer::<u8>("gone too", 9000).unwrap();
    synced();
    c.add(1).unwrap();
    assert_eq!(synced(), (1, 0));
    c.add(1).unwrap();
    c.add(-1).unwrap();
    assert_eq!(synced().1, 0);
    c.store(5).unwrap();
    gone.add(2).unwrap();
    assert_eq!(synced(), (2, 0));
    store.remove("gone").unwrap();
    store.remove("gone too").unwrap();
    assert_eq!(synced(), (2, 0));
    c.add(3).unwrap();
    store.sync().unwrap();
    drop((c, gone, store));
    Raw::open(&path).restart();
    let store = open(&path);
    assert!(matches!(store.recovery(), Recovery::Restored { .. }));
    assert_eq!(store.counter("c").unwrap().load(), 8);
    assert!(store.slot("gone").is_err() && store.slot("gone too").is_err());
}

/// Read calls of this thread.
fn reads() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("syscr: "))?.parse().ok()
}

#[test]
fn a_sync_reads_no_copies_of_counters_that_it_knows() {
    let folder = folder();
    let store = open(&store_in(&folder));
    for i in 0..40 {
        store.counter(&format!("c{i}")).unwrap().add(i).unwrap();
    }
    for i in 0..20 {
        store.remove(&format!("c{i}")).unwrap();
    }
    let value = store.value::<u64>("v").unwrap();
    store.sync().unwrap();
    value.store(1).unwrap();
    let Some(before) = reads() else { return eprintln!("no /proc/thread-self/io: skipped") };
    store.sync().unwrap();
    let read = reads().unwrap() - before;
    assert!(read < 20, "{read} reads to sync one value");
}
