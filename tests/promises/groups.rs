//! Groups: a fixed set of slots, loaded, stored, updated and waited for as one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use slotfile::{Data, Error, OpenOptions, Store, Value};

use crate::common;
use crate::common::kinds::slots;

fn values(store: &Store, count: usize) -> Vec<Value<i64>> {
    (0..count).map(|n| store.value(&format!("value{n:02}")).unwrap()).collect()
}

#[test]
fn every_kind_is_loaded_stored_and_updated() {
    let s = slots();
    let dynamic = s.store.slot("b").unwrap();
    let group = s.store.group((&s.text, &s.a, dynamic, s.array.clone(), &s.bytes)).unwrap();
    let array: Vec<f64> = (0..20).map(f64::from).collect();
    group.store(("text", -5, Data::from(7u8), &array, b"by")).unwrap();
    let (text, a, b, loaded, bytes) = group.load().unwrap();
    assert_eq!(
        (&text[..], a, b, &loaded, &bytes[..]),
        ("text", -5, 7u8.into(), &array, &b"by"[..])
    );
    assert_eq!(group.versions(), [1; 5]);

    let old = group.update(|(text, a, _, array, bytes)| {
        text.push_str(", too");
        array[3] = 0.5;
        bytes.clear();
        std::mem::replace(a, 9)
    });
    assert_eq!(old.unwrap(), -5);
    assert_eq!((s.text.load(), s.a.load(), s.b.load()), ("text, too".into(), 9, 7));
    assert_eq!((s.array.get(3).unwrap(), s.bytes.load()), (0.5, vec![]));
    // What was not changed is part of it all the same.
    assert_eq!(group.load_versioned().unwrap().1, [2; 5]);
}

/// As many as there are, in whatever order they are given.
#[test]
fn slots_of_one_kind_are_as_many_as_there_are() {
    let store = Store::temporary().unwrap();
    for count in [0, 1, 2, 64, 65, 200] {
        let mut handles = values(&store, count);
        handles.reverse();
        let group = store.group(&handles[..]).unwrap();
        let new: Vec<i64> = (0..count as i64).collect();
        group.store(&new).unwrap();
        let mut contents = group.load().unwrap();
        assert_eq!(contents, new);
        group.update_into(&mut contents, |all| all.iter_mut().for_each(|one| *one *= 2)).unwrap();
        let doubled: Vec<i64> = new.iter().map(|n| 2 * n).collect();
        assert_eq!((&contents, &group.load().unwrap()), (&doubled, &doubled));
        assert_eq!(handles.iter().map(Value::load).collect::<Vec<_>>(), doubled);
        // What the caller keeps may have been of another group.
        let mut other = vec![1; 3];
        group.load_into(&mut other).unwrap();
        assert_eq!(other, doubled);
    }
    let pair = store.group([store.value::<f32>("x").unwrap(), store.value("y").unwrap()]).unwrap();
    pair.store(&[0.5, 1.5]).unwrap();
    assert_eq!(pair.load().unwrap(), [0.5, 1.5]);
    assert_eq!(pair.members()[1].load(), 1.5);
}

#[test]
fn a_group_that_cannot_be_is_refused() {
    let store = Store::temporary().unwrap();
    let (a, b) = (store.value::<i64>("a").unwrap(), store.value::<i64>("b").unwrap());
    let twice = store.group((&a, &b, &a)).unwrap_err();
    assert!(matches!(&twice, Error::Invalid { slot: Some(slot), .. } if slot == "a"), "{twice}");
    let other = Store::temporary().unwrap().value::<i64>("a").unwrap();
    assert!(matches!(store.group([&a, &other]), Err(Error::Invalid { .. })));
    store.buffer::<u8>("buffer", 8).unwrap();
    let buffer = store.slot("buffer").unwrap();
    assert!(matches!(store.group(&[buffer][..]), Err(Error::Invalid { .. })));
}

/// Nothing has changed then, and all goes on.
#[test]
fn a_store_that_fails_changes_nothing() {
    let s = slots();
    let group = s.store.group((&s.a, &s.text, &s.array)).unwrap();
    let new = vec![1.0; 20];
    group.store((1, "one", &new)).unwrap();
    let too_long = group.store((2, "far longer than twelve", &new));
    assert!(matches!(too_long, Err(Error::TooLong { .. })));
    assert!(matches!(group.store((2, "two", &new[1..])), Err(Error::Length { .. })));
    let resized = group.update(|(a, _, array)| {
        *a = 2;
        array.pop();
    });
    assert!(matches!(resized, Err(Error::Length { .. })));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        group.update(|(a, ..)| {
            *a = 2;
            panic!("meant");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(group.load().unwrap(), (1, "one".to_owned(), new));
    assert_eq!(group.versions(), [1; 3]);
    let handles = values(&s.store, 3);
    let three = s.store.group(&handles[..]).unwrap();
    assert!(matches!(three.store(&[1, 2]), Err(Error::Invalid { .. })));
    assert!(matches!(three.wait_for_change(&[0], None), Err(Error::Invalid { .. })));
    s.store.remove("text").unwrap();
    let removed = group.store((2, "two", &[2.0; 20])).unwrap_err();
    assert!(matches!(&removed, Error::Removed { slot, .. } if slot == "text"), "{removed}");
    assert_eq!(group.load().unwrap().1, "one");
}

#[test]
fn a_group_goes_on_under_the_guard_of_its_thread() {
    let s = slots();
    let group = s.store.group((&s.a, &s.array)).unwrap();
    let guard = s.array.lock().unwrap();
    group.update(|(a, array)| (*a, array[1]) = (3, 4.0)).unwrap();
    assert!(matches!(s.array.lock(), Err(Error::Deadlock { .. })), "the guard is gone");
    drop(guard);
    assert_eq!((s.a.load(), s.array.get(1).unwrap()), (3, 4.0));
    let inside = s.store.transaction(|tx| {
        tx.fetch_add(&s.a, 1)?;
        Ok::<_, Error>(group.update(|_| ()))
    });
    assert!(matches!(inside, Ok(Err(Error::Deadlock { .. }))));
}

/// Groups that have slots in common, in different orders, beside transactions: money moves, and
/// none is lost.
#[test]
fn all_slots_are_of_one_instant() {
    let folder = common::folder();
    let options = {
        let mut options = OpenOptions::new();
        options.create(true).sync_every(None);
        options
    };
    let store = options.open(common::store_in(&folder)).unwrap();
    let accounts = values(&store, 8);
    let log = store.array::<i64>("log", 300).unwrap();
    let stop = AtomicBool::new(false);
    let rounds = common::rounds(3_000, 300_000);
    thread::scope(|scope| {
        let mover = |from: usize, to: usize| {
            let (accounts, log, store) = (&accounts, &log, &store);
            move || {
                let group = store.group((&accounts[from], log, &accounts[to])).unwrap();
                let mut contents = group.load().unwrap();
                for _ in 0..rounds {
                    group
                        .update_into(&mut contents, |(from, log, to)| {
                            *from -= 1;
                            *to += 1;
                            log.iter_mut().for_each(|entry| *entry += 1);
                        })
                        .unwrap();
                }
            }
        };
        let movers = [scope.spawn(mover(0, 5)), scope.spawn(mover(5, 0)), scope.spawn(mover(7, 2))];
        scope.spawn(|| {
            let (all, log) = (store.group(&accounts[..]).unwrap(), store.group((&log,)).unwrap());
            let mut contents = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                all.load_into(&mut contents).unwrap();
                assert_eq!(contents.iter().sum::<i64>(), 0, "{contents:?}");
                let (entries,) = log.load().unwrap();
                assert!(entries.iter().all(|entry| *entry == entries[0]), "torn");
            }
        });
        for _ in 0..rounds {
            store
                .transaction(|tx| {
                    tx.fetch_add(&accounts[7], -1)?;
                    tx.fetch_add(&accounts[0], 1)
                })
                .unwrap();
        }
        movers.into_iter().for_each(|mover| mover.join().unwrap());
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(log.get(299).unwrap(), 3 * rounds as i64);
}

#[test]
fn a_waiter_for_a_group_sees_all_of_a_change() {
    let s = slots();
    let group = s.store.group((&s.a, &s.text)).unwrap();
    let (_, seen) = group.load_versioned().unwrap();
    let none = group.wait_for_change(&seen, Some(Duration::from_millis(1)));
    assert_eq!(none.unwrap(), None);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=100 {
                group.store((n, &n.to_string())).unwrap();
            }
        });
        let long = Some(Duration::from_secs(60));
        assert!(group.wait_for_change(&seen, long).unwrap().unwrap()[1] > seen[1]);
        let end = group.wait_until(
            |(a, text)| {
                assert!(*a == 0 || *text == a.to_string(), "half a change: {a}, {text}");
                *a == 100
            },
            long,
        );
        assert_eq!(end.unwrap(), Some((100, "100".to_owned())));
    });
    let never = group.wait_until(|(a, _)| *a < 0, Some(Duration::from_millis(1)));
    assert_eq!(never.unwrap(), None);
}

/// Once everything has been used.
#[test]
fn nothing_is_allocated_where_the_contents_are_kept() {
    let s = slots();
    s.store.pause_syncing();
    let many = values(&s.store, 64);
    let mixed = s.store.group((&s.a, &s.array, &s.text, &s.bytes)).unwrap();
    let many_at_once = s.store.group(&many[..]).unwrap();
    let (mut contents, mut all) = (mixed.load().unwrap(), many_at_once.load().unwrap());
    let new = vec![0.5; 20];
    let mut use_all = || {
        mixed.store((1, &new, "a text", b"bytes")).unwrap();
        mixed.load_into(&mut contents).unwrap();
        mixed.update_into(&mut contents, |(a, array, ..)| (*a, array[3]) = (2, 3.0)).unwrap();
        many_at_once.update_into(&mut all, |all| all[7] += 1).unwrap();
        many_at_once.load_into(&mut all).unwrap();
        many_at_once.store(&all).unwrap();
        s.array.update(|array| array[0] += 1.0).unwrap();
        let added = s.store.transaction(|tx| {
            many.iter().rev().try_for_each(|value| tx.fetch_add(value, 1).map(drop))?;
            tx.set(&s.array, 7, 1.0)?;
            tx.update(&s.array, |array| array[0] += 1.0)?;
            tx.store(&s.text, "twelve bytes")
        });
        added.unwrap();
    };
    use_all();
    use_all();
    let allocated = allocation_counter::measure(use_all);
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}
