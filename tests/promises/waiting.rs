//! Waiting for a change: none is missed, timeouts are kept, and no thread waits for a dead one.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common::{
    Child, Finally, folder, folder_in_memory, path, role, rounds, store_in, within,
};
use slotfile::{Awaitable, Error, Store, Value};

/// Far more than any machine needs.
const HANG: Option<Duration> = Some(Duration::from_secs(60));
const SHORT: Option<Duration> = Some(Duration::from_millis(30));

/// Each waits for the other's number, and answers with the next: after one missed change, both
/// would wait forever. They hand over so fast that some find the other spinning, and now and
/// then so slowly that others find it asleep.
#[test]
fn no_hand_over_between_two_processes_is_missed() {
    const NAME: &str = "no_hand_over_between_two_processes_is_missed";
    let hand_overs = rounds(20_000, 100_000) as u64;
    let play = |store: &Store, first: u64| {
        let value = store.value::<u64>("value").unwrap();
        let array = store.array::<u64>("array", 3).unwrap();
        let is_in_value = |n: u64| n % 4 < 2;
        for n in (first..hand_overs).step_by(2) {
            if n % 2_000 < 2 {
                std::thread::sleep(Duration::from_millis(1)); // the other falls asleep
            }
            let seen = match is_in_value(n) {
                true => value.wait_until(|now| now == n, HANG).unwrap(),
                false => array.wait_until(|now| now == [n; 3], HANG).unwrap().map(|now| now[0]),
            };
            assert_eq!(seen, Some(n), "missed");
            match is_in_value(n + 1) {
                true => value.store(n + 1).unwrap(),
                false => array.store(&[n + 1; 3]).unwrap(),
            }
        }
    };
    if role().is_some() {
        return play(&Store::open(path()).unwrap(), 1);
    }
    let folder = folder_in_memory();
    let store = Store::create(store_in(&folder)).unwrap();
    let other = Child::spawn(NAME, "other", store.path());
    play(&store, 0);
    other.join();
    assert_eq!(store.value::<u64>("value").unwrap().load(), hand_overs);
}

/// A waiter for each kind of handle; each sees what another process stores.
#[test]
fn every_kind_of_handle_waits_across_processes() {
    const NAME: &str = "every_kind_of_handle_waits_across_processes";
    let open = |store: &Store| {
        let value = store.value::<i16>("value").unwrap();
        let array = store.array::<f64>("array", [2, 2]).unwrap();
        let text = store.text("text", 16).unwrap();
        let bytes = store.bytes("bytes", 16).unwrap();
        let slot = store.value::<bool>("slot").unwrap();
        (value, array, text, bytes, slot)
    };
    if role().is_some() {
        let (value, array, text, bytes, slot) = open(&Store::open(path()).unwrap());
        let pause = || std::thread::sleep(Duration::from_millis(10));
        pause();
        value.store(-5).unwrap();
        pause();
        array.set([1, 1], 0.5).unwrap();
        pause();
        text.store("Karel").unwrap();
        pause();
        bytes.store(&[1, 2]).unwrap();
        pause();
        return slot.store(true).unwrap();
    }
    let folder = folder_in_memory();
    let store = Store::create(store_in(&folder)).unwrap();
    let (value, array, text, bytes, _) = open(&store);
    let slot = store.slot("slot").unwrap();
    let seen = (value.version(), array.version(), text.version(), bytes.version(), slot.version());
    let other = Child::spawn(NAME, "other", store.path());
    assert_eq!(value.wait_until(|x| x < 0, HANG).unwrap(), Some(-5));
    assert_eq!(array.wait_until(|x| x[3] > 0.0, HANG).unwrap(), Some(vec![0.0, 0.0, 0.0, 0.5]));
    assert_eq!(text.wait_until(|x| !x.is_empty(), HANG).unwrap().as_deref(), Some("Karel"));
    assert_eq!(bytes.wait_until(|x| x.len() == 2, HANG).unwrap(), Some(vec![1, 2]));
    let seen_true = slot.wait_until(|x| *x == true.into(), HANG).unwrap();
    assert_eq!(seen_true, Some(true.into()));
    // A change that has already happened returns at once.
    assert_eq!(value.wait_for_change(seen.0, None).unwrap(), Some(value.version()));
    assert_eq!(array.wait_for_change(seen.1, None).unwrap(), Some(array.version()));
    assert_eq!(text.wait_for_change(seen.2, None).unwrap(), Some(text.version()));
    assert_eq!(bytes.wait_for_change(seen.3, None).unwrap(), Some(bytes.version()));
    assert_eq!(slot.wait_for_change(seen.4, None).unwrap(), Some(slot.version()));
    other.join();
}

/// Also while the slot keeps changing to other values than the awaited one.
#[test]
fn time_outs_are_kept() {
    let store = Store::temporary().unwrap();
    let x = store.value::<u64>("x").unwrap();
    let never =
        |limit| within(Duration::from_secs(20), "a short wait", || x.wait_until(|_| false, limit));
    assert_eq!(x.wait_until(|x| x == 0, Some(Duration::ZERO)).unwrap(), Some(0));
    for limit in [Duration::ZERO, Duration::from_millis(30)] {
        let start = Instant::now();
        assert_eq!(never(Some(limit)).unwrap(), None);
        assert_eq!(x.wait_for_change(x.version(), Some(limit)).unwrap(), None);
        assert!(store.wait_any(&[(&x, 0)], Some(limit)).unwrap().is_empty());
        assert!(start.elapsed() >= limit * 3, "too early");
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                x.fetch_add(1).unwrap();
            }
        });
        let _finally = Finally(&done);
        assert_eq!(never(SHORT).unwrap(), None);
    });
    // The longest timeout, beyond any clock, means forever, and does not end at once.
    std::thread::scope(|scope| {
        let (seen, x) = (x.version(), &x);
        let waiter = scope.spawn(move || x.wait_for_change(seen, Some(Duration::MAX)).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        x.store(0).unwrap();
        assert!(waiter.join().unwrap().is_some());
    });
}

#[test]
fn a_waiter_is_told_that_its_slot_was_removed() {
    let store = Store::temporary().unwrap();
    let (x, a) = (store.value::<u64>("x").unwrap(), store.array::<u8>("a", 100).unwrap());
    let removed = |result: Result<(), Error>, name| match result {
        Err(Error::Removed { slot, .. }) => assert_eq!(slot, name),
        other => panic!("{other:?}"),
    };
    std::thread::scope(|scope| {
        let one = scope.spawn(|| x.wait_until(|x| x == 1, None).map(drop));
        let other = scope.spawn(|| store.wait_any(&[(&x, 0), (&a, 0)], None).map(drop));
        std::thread::sleep(Duration::from_millis(30));
        store.remove("x").unwrap();
        removed(one.join().unwrap(), "x");
        removed(other.join().unwrap(), "x");
    });
    // From then on it returns at once, whatever was seen.
    removed(x.wait_for_change(x.version(), None).map(drop), "x");
    removed(x.wait_for_change(0, None).map(drop), "x");
    removed(x.wait_until(|x| x == 0, None).map(drop), "x");
    removed(store.wait_any(&[(&a, 0), (&x, 0)], None).map(drop), "x");
}

/// No other thread can change what this thread has locked.
#[test]
fn a_thread_that_would_wait_for_itself_is_told() {
    let store = Store::temporary().unwrap();
    let (x, a) = (store.value::<u64>("x").unwrap(), store.array::<u8>("a", 8).unwrap());
    let deadlock = |result: Result<Option<u64>, Error>| {
        assert!(matches!(result, Err(Error::Deadlock { .. })), "{result:?}");
    };
    let guard = x.lock().unwrap();
    deadlock(x.wait_for_change(x.version(), None));
    assert_eq!(x.wait_until(|x| x == 0, None).unwrap(), Some(0), "it holds already");
    x.store(1).unwrap();
    assert!(x.wait_for_change(0, None).unwrap().is_some(), "it has changed already");
    drop(guard);
    a.update(|_| deadlock(a.wait_for_change(a.version(), None))).unwrap();
}

/// A lock that is taken and released, or held for long, is not a change.
#[test]
fn locks_are_not_changes() {
    let store = Store::temporary().unwrap();
    let a = store.array::<u64>("a", 8).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (seen, a) = (a.version(), &a);
        let waiter = scope.spawn(move || a.wait_for_change(seen, None).unwrap());
        for _ in 0..2_000 {
            drop(a.lock().unwrap());
        }
        let guard = a.lock().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiter.is_finished(), "woken for nothing");
        a.set(0, 1).unwrap();
        done.store(true, Relaxed);
        // Under the guard, too, it is a change.
        let now = within(Duration::from_secs(20), "a wait", || waiter.join().unwrap());
        assert_eq!(now, Some(a.version()));
        drop(guard);
    });
}

/// A waiter on many slots finds the one that changed, and only that.
#[test]
fn of_many_slots_the_one_that_changes_is_found() {
    let store = Store::temporary().unwrap();
    for count in [1, 2, 127, 128, 129, 300] {
        let values: Vec<_> =
            (0..count).map(|i| store.value::<u32>(&format!("{count}/{i}")).unwrap()).collect();
        for which in [0, count / 2, count - 1] {
            let seen: Vec<(&dyn Awaitable, u64)> =
                values.iter().map(|v| (v as &dyn Awaitable, v.version())).collect();
            assert!(store.wait_any(&seen, SHORT).unwrap().is_empty());
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| store.wait_any(&seen, HANG).unwrap());
                std::thread::sleep(Duration::from_millis(5));
                values[which].fetch_add(1).unwrap();
                assert_eq!(waiter.join().unwrap(), [which], "of {count}");
            });
        }
    }
}

/// It would be for ever.
#[test]
fn a_wait_for_no_slots_is_refused() {
    let store = Store::temporary().unwrap();
    let refused = |result: slotfile::Result<()>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Invalid { slot: None, .. }), "{error:?}");
        assert!(error.to_string().ends_with("there is no slot to wait for; give at least one"));
    };
    let empty = store.group(Vec::<Value<u64>>::new()).unwrap();
    for timeout in [None, HANG, Some(Duration::ZERO)] {
        within(Duration::from_secs(20), "a refusal", || {
            refused(store.wait_any(&[], timeout).map(drop));
            refused(empty.wait_for_change(&[], timeout).map(drop));
            refused(empty.wait_until(|_| false, timeout).map(drop));
        });
        // What holds already need not be waited for.
        assert_eq!(empty.wait_until(|_| true, timeout).unwrap(), Some(Vec::new()));
    }
}

/// A read-only process cannot register as waiting; it finds the change by polling.
#[test]
fn a_read_only_store_waits_too() {
    const NAME: &str = "a_read_only_store_waits_too";
    if role().is_some() {
        std::thread::sleep(Duration::from_millis(20));
        let store = Store::open(path()).unwrap();
        store.array::<u8>("a", 10_000).unwrap().set(9_999, 1).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        return store.value::<u64>("x").unwrap().store(7).unwrap();
    }
    let folder = folder();
    let writable = Store::create(store_in(&folder)).unwrap();
    writable.value::<u64>("x").unwrap();
    writable.array::<u8>("a", 10_000).unwrap();
    let store = Store::open_read_only(writable.path()).unwrap();
    let (x, a) = (store.value::<u64>("x").unwrap(), store.array::<u8>("a", 10_000).unwrap());
    assert_eq!(x.wait_for_change(x.version(), SHORT).unwrap(), None);
    let other = Child::spawn(NAME, "other", store.path());
    assert_eq!(store.wait_any(&[(&x, 0), (&a, 0)], HANG).unwrap(), [1]);
    assert_eq!(x.wait_until(|x| x == 7, HANG).unwrap(), Some(7));
    other.join();
}

/// One of several waiters is killed while it sleeps: the others do not notice.
#[test]
fn row_06_a_waiter_that_is_killed_keeps_nobody_asleep() {
    const NAME: &str = "row_06_a_waiter_that_is_killed_keeps_nobody_asleep";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let (x, ready) = (store.value::<u64>("x").unwrap(), store.value::<u64>("ready").unwrap());
        ready.fetch_add(1).unwrap();
        let seen = x.wait_until(|x| x > 0, HANG).unwrap();
        ready.fetch_add(1).unwrap();
        return assert_eq!(seen, Some(1));
    }
    let folder = folder_in_memory();
    let store = Store::create(store_in(&folder)).unwrap();
    let (x, ready) = (store.value::<u64>("x").unwrap(), store.value::<u64>("ready").unwrap());
    for _ in 0..5 {
        x.store(0).unwrap();
        ready.store(0).unwrap();
        let mut waiters: Vec<_> =
            (0..3).map(|_| Child::spawn(NAME, "waiter", store.path())).collect();
        assert!(ready.wait_until(|n| n == 3, HANG).unwrap().is_some());
        std::thread::sleep(Duration::from_millis(5));
        drop(waiters.remove(1)); // by SIGKILL
        x.store(1).unwrap();
        assert!(ready.wait_until(|n| n == 5, HANG).unwrap().is_some());
        waiters.into_iter().for_each(Child::join);
    }
}

/// A sleeper is woken; it does not find the change by polling every 20 ms. That would be 17 ms
/// later, since the changes come right after it falls asleep. (A loaded machine delays some.)
#[test]
fn a_change_wakes_sleepers() {
    let store = Store::temporary().unwrap();
    let (x, a) = (store.value::<u64>("x").unwrap(), store.array::<u64>("a", 8).unwrap());
    // Given the versions of `x` and of `a`.
    type Wait<'a> = (&'a str, Box<dyn Fn(u64, u64) -> bool + Sync + 'a>);
    let y = store.value::<u8>("y").unwrap();
    let watch = std::sync::Mutex::new(store.watch("x").unwrap().with_present());
    let waits: [Wait<'_>; 4] = [
        ("a value", Box::new(|seen, _| x.wait_for_change(seen, HANG).unwrap().is_some())),
        ("an array", Box::new(|_, seen| a.wait_for_change(seen, HANG).unwrap().is_some())),
        (
            "several",
            Box::new(|x_seen, a_seen| {
                let all: [(&dyn Awaitable, u64); 3] = [(&y, 0), (&a, a_seen), (&x, x_seen)];
                !store.wait_any(&all, HANG).unwrap().is_empty()
            }),
        ),
        ("a watch", Box::new(|_, _| watch.lock().unwrap().next(HANG).unwrap().is_some())),
    ];
    for (what, wait) in &waits {
        let mut times: Vec<Duration> = (0..20)
            .map(|_| {
                let seen = (x.version(), a.version());
                std::thread::scope(|scope| {
                    let waiter = scope.spawn(|| {
                        assert!(wait(seen.0, seen.1));
                        Instant::now()
                    });
                    std::thread::sleep(Duration::from_millis(2));
                    let changed = Instant::now();
                    a.set(0, 1).unwrap();
                    x.fetch_add(1).unwrap();
                    waiter.join().unwrap().saturating_duration_since(changed)
                })
            })
            .collect();
        times.sort();
        assert!(times[5] < Duration::from_millis(10), "{what}: {times:?}");
    }
}

/// A long wait takes almost no processor time.
#[test]
fn an_idle_waiter_costs_little() {
    const LIMIT: Duration = Duration::from_millis(500);
    /// The processor time of this thread.
    fn used() -> Duration {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
    }
    fn costs_little(what: &str, wait_in_vain: impl FnOnce() -> bool) {
        let before = used();
        assert!(wait_in_vain(), "{what}: nothing changes");
        let used = used() - before;
        println!("{what}: {used:?} of {LIMIT:?}");
        assert!(used < LIMIT / 5, "{what}: {used:?} of {LIMIT:?}");
    }
    let folder = folder();
    let store = Store::create(store_in(&folder)).unwrap();
    let values: Vec<_> = (0..100).map(|n| store.value::<u8>(&n.to_string()).unwrap()).collect();
    let all: Vec<(&dyn Awaitable, u64)> = values.iter().map(|v| (v as &dyn Awaitable, 0)).collect();
    let read_only = Store::open_read_only(store.path()).unwrap();
    let limit = Some(LIMIT);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            costs_little("a value", || values[0].wait_for_change(0, limit).unwrap().is_none());
        });
        scope.spawn(|| {
            costs_little("100 values", || store.wait_any(&all, limit).unwrap().is_empty());
        });
        scope.spawn(|| {
            let mut watch = store.watch("*").unwrap();
            costs_little("a watch", || watch.next(limit).unwrap().is_none());
        });
        scope.spawn(|| {
            let value = read_only.value::<u8>("0").unwrap();
            let wait = || value.wait_for_change(0, limit).unwrap().is_none();
            costs_little("a value of a read-only store", wait);
        });
    });
}

/// How often this thread has gone to sleep.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
    line.unwrap().split_whitespace().last().unwrap().parse().unwrap()
}

/// A long wait sleeps for long. (It used to wake 50 times a second, and 1,000 times for more than
/// 128 slots, or in a read-only store.)
#[test]
fn an_idle_waiter_hardly_wakes() {
    const LIMIT: Option<Duration> = Some(Duration::from_secs(2));
    fn hardly_wakes(what: &str, most: u64, wait_in_vain: impl FnOnce() -> bool) {
        let before = sleeps();
        assert!(wait_in_vain(), "{what}: nothing changes");
        let slept = sleeps() - before;
        println!("{what}: {slept} sleeps");
        assert!(slept < most, "{what}: {slept} sleeps");
    }
    let folder = folder();
    let store = Store::create(store_in(&folder)).unwrap();
    let values: Vec<_> = (0..300).map(|n| store.value::<u8>(&n.to_string()).unwrap()).collect();
    let all: Vec<(&dyn Awaitable, u64)> = values.iter().map(|v| (v as &dyn Awaitable, 0)).collect();
    let read_only = Store::open_read_only(store.path()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            hardly_wakes("a value", 60, || values[0].wait_for_change(0, LIMIT).unwrap().is_none());
        });
        scope.spawn(|| {
            hardly_wakes("300 values", 60, || store.wait_any(&all, LIMIT).unwrap().is_empty());
        });
        scope.spawn(|| {
            let mut watch = store.watch("*").unwrap();
            hardly_wakes("a watch of 300", 60, || watch.next(LIMIT).unwrap().is_none());
        });
        scope.spawn(|| {
            let mut watch = read_only.watch("*").unwrap();
            let wait = || watch.next(LIMIT).unwrap().is_none();
            hardly_wakes("a watch of a read-only store", 200, wait);
        });
    });
}

/// Each changed slot is found, in a time that grows only with their number. (All used to be looked
/// at for each, and this did not end.)
#[test]
fn a_watch_finds_many_changes() {
    const SLOTS: u64 = 100_000;
    let folder = folder_in_memory();
    let mut options = slotfile::OpenOptions::new();
    let options = options.create(true).max_slots(SLOTS).sync_every(None);
    let store = options.open(store_in(&folder)).unwrap();
    let values: Vec<_> =
        (0..SLOTS).map(|n| store.value::<u64>(&format!("s{n}")).unwrap()).collect();
    let mut watch = store.watch("*").unwrap();
    values.iter().for_each(|value| value.store(1).unwrap());
    within(Duration::from_secs(120), "a watch of many", move || {
        for n in 0..SLOTS {
            let change = watch.next(HANG).unwrap().expect("changed");
            assert_eq!(change.slot.name(), format!("s{n}"));
        }
        assert!(watch.next(Some(Duration::ZERO)).unwrap().is_none());
    });
}

/// Many threads of many processes take one lock for a short time each: all get it in time.
#[test]
fn a_crowd_gets_the_lock() {
    const NAME: &str = "a_crowd_gets_the_lock";
    const PROCESSES: u64 = 20;
    const THREADS: u64 = 10;
    const TIMES: u64 = 20;
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let x = store.value::<u64>("x").unwrap().with_lock_timeout(HANG);
        return std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..TIMES {
                        let _guard = x.lock().unwrap();
                        x.store(x.load() + 1).unwrap();
                    }
                });
            }
        });
    }
    let folder = folder_in_memory();
    let store = Store::create(store_in(&folder)).unwrap();
    let x = store.value::<u64>("x").unwrap();
    let crowd: Vec<_> =
        (0..PROCESSES).map(|_| Child::spawn(NAME, "one of many", store.path())).collect();
    crowd.into_iter().for_each(Child::join);
    assert_eq!(x.load(), PROCESSES * THREADS * TIMES);
}

/// A thread that retakes a lock again and again, and holds it nearly all the time, does not starve
/// a waiter: the lock is handed over.
#[test]
fn a_waiter_for_a_busy_lock_gets_it() {
    let store = Store::temporary().unwrap();
    let x = store.value::<u64>("x").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let _guard = x.lock().unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let _finally = Finally(&done);
        let other = x.clone().with_lock_timeout(HANG);
        for _ in 0..20 {
            drop(other.lock().unwrap());
        }
    });
}

/// A change by a transaction wakes like any other; a waiter woken by one of its slots sees the
/// others changed.
#[test]
fn transactions_wake_who_waits() {
    const NAME: &str = "transactions_wake_who_waits";
    const TIMES: u64 = 2_000;
    let folder = folder_in_memory();
    let path = if role().is_some() { path() } else { store_in(&folder) };
    let store = Store::open_or_create(path).unwrap();
    let (x, y) = (store.value::<u64>("x").unwrap(), store.value::<u64>("y").unwrap());
    let (a, turn) = (store.array::<u64>("a", 4).unwrap(), store.value::<u64>("turn").unwrap());
    if role().is_some() {
        for n in 1..=TIMES {
            let all = store.transaction(|tx| {
                tx.store(&x, n)?;
                tx.update(&a, |a| a.fill(n))?;
                tx.store(&y, n)
            });
            all.map_err(|error: Error| error).unwrap();
            assert!(turn.wait_until(|turn| turn == n, HANG).unwrap().is_some());
        }
        return;
    }
    let other = Child::spawn(NAME, "other", store.path());
    for n in 1..=TIMES {
        match n % 3 {
            0 => assert_eq!(x.wait_until(|x| x == n, HANG).unwrap(), Some(n)),
            1 => assert_eq!(a.wait_until(|a| a[0] == n, HANG).unwrap(), Some(vec![n; 4])),
            _ => assert_eq!(y.wait_until(|y| y == n, HANG).unwrap(), Some(n)),
        }
        assert_eq!((x.load(), a.load(), y.load()), (n, vec![n; 4], n));
        turn.store(n).unwrap();
    }
    other.join();
}

/// Existing slots, and slots that others define later.
#[test]
fn a_watch_picks_up_what_others_define() {
    const NAME: &str = "a_watch_picks_up_what_others_define";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        for n in 0..20 {
            store.value::<u64>(&format!("else/{n}")).unwrap().store(n).unwrap();
            store.value::<u64>(&format!("here/{n}")).unwrap().store(n + 1).unwrap();
        }
        return;
    }
    let folder = folder_in_memory();
    let store = Store::create(store_in(&folder)).unwrap();
    let old = store.value::<u64>("here/old").unwrap();
    let mut watch = store.watch("here/*").unwrap();
    assert!(watch.next(SHORT).unwrap().is_none(), "nothing has happened");
    old.store(1).unwrap();
    assert_eq!(watch.next(HANG).unwrap().unwrap().content, 1u64.into());
    assert!(watch.next(SHORT).unwrap().is_none(), "told twice");
    let other = Child::spawn(NAME, "other", store.path());
    let mut last = std::collections::BTreeMap::new();
    let is_last = |n: u64, content: &slotfile::Data| *content == (n + 1).into();
    while !(0..20).all(|n| last.get(&format!("here/{n}")).is_some_and(|c| is_last(n, c))) {
        let change = watch.next(HANG).unwrap().expect("missed");
        assert!(change.version <= 1);
        last.insert(change.slot.name().to_owned(), change.content);
    }
    other.join();
    assert_eq!(last.len(), 20, "{last:?}");
    assert!(watch.next(SHORT).unwrap().is_none());
    // A removed slot leaves, which is reported once; a new one of its name comes.
    store.remove("here/old").unwrap();
    let last = watch.next(HANG).unwrap().unwrap();
    assert_eq!((last.slot.name(), last.removed, last.content), ("here/old", true, 1u64.into()));
    assert!(watch.next(SHORT).unwrap().is_none(), "told twice");
    // A slot that comes and goes unseen is not reported at all.
    store.value::<u8>("here/short").unwrap();
    store.remove("here/short").unwrap();
    assert!(watch.next(SHORT).unwrap().is_none());
    store.text("here/old", 9).unwrap();
    assert_eq!(watch.next(HANG).unwrap().unwrap().content, "".into());
    assert_eq!(
        store.watch("h*/old").unwrap().with_present().next(None).unwrap().unwrap().version,
        0
    );
    assert!(matches!(store.watch("[a"), Err(Error::Invalid { .. })));
}

/// However fast it comes; and one slot's storm does not hide another slot.
#[test]
fn a_watch_never_misses_the_last_state() {
    let store = Store::temporary().unwrap();
    // Also for more slots than the kernel waits for.
    for slots in [3u64, 200] {
        let name = |n| format!("{slots}/{n}");
        let values: Vec<_> = (0..slots).map(|n| store.value::<u64>(&name(n)).unwrap()).collect();
        for round in 1..=20 {
            let mut watch = store.watch(&format!("{slots}/*")).unwrap();
            let mut left = slots;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for n in (0..1_000 * slots).rev() {
                        values[(n % slots) as usize].store(n / slots + round).unwrap();
                    }
                });
                let mut seen = vec![None; slots as usize];
                while left > 0 {
                    let change = watch.next(HANG).unwrap().expect("missed");
                    let n: usize = change.slot.name().split_once('/').unwrap().1.parse().unwrap();
                    assert!(seen[n].replace(change.version) < Some(change.version), "told twice");
                    left -= u64::from(change.content == round.into());
                }
            });
            assert!(watch.next(Some(Duration::ZERO)).unwrap().is_none());
        }
    }
}
