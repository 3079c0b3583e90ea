//! Transactions and snapshots within one process: all or nothing, what a closure may do, and what
//! is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crate::common;
use crate::common::kinds::{Slots, slots};
use slotfile::{Data, Define, Elements, Error, OpenOptions, Scalar, Store};

/// Names, contents and versions.
fn state(store: &Store) -> Vec<(String, Data, u64)> {
    let all = store.slots().unwrap();
    let contents = store.snapshot_of(&all).unwrap();
    let named = all.iter().zip(contents);
    named.map(|(slot, (data, version))| (slot.name().to_owned(), data, version)).collect()
}

#[derive(Debug)]
enum Refused {
    No,
    Store(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Store(error)
    }
}

#[test]
fn every_kind_takes_part_and_reads_its_own_writes() {
    let s = slots();
    s.store
        .transaction(|tx| {
            assert_eq!(tx.load(&s.a)?, 0);
            tx.store(&s.a, -5)?;
            assert_eq!(tx.load(&s.a)?, -5);
            assert_eq!(tx.fetch_add(&s.a, 7)?, -5);
            tx.update(&s.b, |b| *b = 255)?;
            assert_eq!(tx.fetch_add(&s.b, 3)?, 255);
            tx.set(&s.array, [1, 2], 1.5)?;
            assert_eq!(tx.get(&s.array, 7)?, 1.5);
            tx.set(&s.array, 3, 2.5)?;
            tx.store_range(&s.array, 10..12, &[8.0, 9.0])?;
            assert_eq!(tx.load_range(&s.array, 6..12)?, [0.0, 1.5, 0.0, 0.0, 8.0, 9.0]);
            assert_eq!(tx.update_element(&s.array, 11, |x| x * 2.0)?, 9.0);
            let mut whole = vec![0.0; 20];
            (whole[3], whole[7], whole[10], whole[11]) = (2.5, 1.5, 8.0, 18.0);
            assert_eq!(tx.load(&s.array)?, whole);
            tx.update_range(&s.array, 18.., |end| end.fill(4.0))?;
            tx.store(&s.text, "a long one")?;
            tx.store(&s.text, "short")?;
            tx.update(&s.text, |text| text.push('!'))?;
            assert_eq!(tx.load(&s.text)?, "short!");
            tx.store(&s.bytes, &[1, 2, 3])?;
            tx.update(&s.bytes, |bytes| bytes.truncate(2))?;
            assert_eq!(tx.load(&s.bytes)?, [1, 2]);
            // Nothing of it is visible outside.
            assert_eq!((s.a.load(), s.array.get(7)?, s.text.load()), (0, 0.0, String::new()));
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!((s.a.load(), s.b.load(), s.text.load()), (2, 2, "short!".into()));
    let mut whole = [0.0; 20];
    (whole[3], whole[7], whole[10], whole[11], whole[18], whole[19]) =
        (2.5, 1.5, 8.0, 18.0, 4.0, 4.0);
    assert_eq!((s.array.load(), s.bytes.load()), (whole.to_vec(), vec![1, 2]));
    assert!(state(&s.store).iter().all(|(_, _, version)| *version == 1), "one version each");
}

#[test]
fn slots_of_types_known_at_run_time_take_part() {
    let s = slots();
    let [a, array, text, bytes] = ["a", "array", "text", "bytes"].map(|n| s.store.slot(n).unwrap());
    s.store
        .transaction(|tx| {
            tx.store(&a, Data::from(5i64))?;
            tx.fetch_add(&s.a, 1)?; // the same slot, by another handle
            assert_eq!(tx.load(&a)?, Data::from(6i64));
            tx.update_range(&a, .., |x| x.set(0, Scalar::I64(7)))?;
            tx.store_range(&array, 1..3, &Elements::from([1.0, 2.0]))?;
            assert_eq!(tx.load_range(&array, 0..3)?, Elements::from([0.0, 1.0, 2.0]));
            tx.update(&array, |data| {
                let Data::Array(elements) = data else { panic!("an array") };
                elements.set(19, Scalar::F64(9.0));
            })?;
            tx.store(&text, Data::from("hello"))?;
            tx.store(&bytes, Data::from(vec![9u8]))?;
            for content_error in [
                tx.store(&a, Data::from(5u8)),
                tx.store(&array, Data::from([1.0])),
                tx.update(&text, |t| *t = Data::from("far too long a text")),
                tx.store_range(&array, 0..1, &Elements::from([1u8])),
                tx.load_range(&text, ..).map(drop),
                tx.load_range(&array, 5..21).map(drop),
            ] {
                content_error.unwrap_err();
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!((s.a.load(), s.text.load(), s.bytes.load()), (7, "hello".into(), vec![9]));
    assert_eq!(
        (s.array.load_range(0..3).unwrap(), s.array.get(19).unwrap()),
        (vec![0., 1., 2.], 9.0)
    );
}

#[test]
fn an_error_undoes_all() {
    let s = slots();
    s.a.store(1).unwrap();
    let before = state(&s.store);
    let change = |tx: &mut slotfile::Transaction| -> Result<(), Refused> {
        tx.store(&s.a, 5)?;
        tx.update(&s.array, |a| a.fill(1.0))?;
        tx.store(&s.text, "changed")?;
        Ok(())
    };
    let refused = s.store.transaction(|tx| {
        change(tx)?;
        Err::<(), _>(Refused::No)
    });
    assert!(matches!(refused, Err(Refused::No)));
    assert_eq!(state(&s.store), before);
    // A text that is too long, with the error passed on.
    let long = s.store.transaction(|tx| {
        change(tx)?;
        tx.store(&s.text, "much too long for it")?;
        Ok::<_, Refused>(())
    });
    let Err(Refused::Store(Error::TooLong { slot, capacity: 12, length: 20, .. })) = long else {
        panic!("{long:?}")
    };
    assert_eq!(slot, "text");
    assert_eq!(state(&s.store), before);
    // No lock is left, for this thread or for others.
    free(&s);
}

/// Another thread can take every lock at once.
fn free(s: &Slots) {
    thread::scope(|scope| {
        let locked = scope.spawn(|| {
            for slot in s.store.slots().unwrap() {
                drop(slot.lock().unwrap());
            }
        });
        locked.join().unwrap();
    });
}

#[test]
fn row_09_a_panic_inside_a_transaction_undoes_it() {
    let s = slots();
    let before = state(&s.store);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        s.store.transaction(|tx| {
            tx.store(&s.a, 5)?;
            tx.set(&s.array, 0, 1.0)?;
            if tx.load(&s.a)? == 5 {
                panic!("on purpose");
            }
            Ok::<_, Error>(())
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(state(&s.store), before);
    free(&s);
    // In a closure of a method, too; and the next transaction works.
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        s.store.transaction(|tx| tx.update(&s.text, |_| panic!("on purpose")))
    }));
    let _: Box<dyn std::any::Any + Send> = panicked.unwrap_err();
    free(&s);
    s.store.transaction(|tx| tx.store(&s.a, 6)).unwrap();
    assert_eq!(s.a.load(), 6);
}

/// A refused operation is an error at once, and the transaction can continue.
#[track_caller]
fn is_deadlock<R: std::fmt::Debug>(result: Result<R, Error>, slot: Option<&str>) {
    match result {
        Err(Error::Deadlock { slot: found, .. }) if found.as_deref() == slot => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_transaction_has_locked_is_refused_to_its_own_thread() {
    let s = slots();
    s.store
        .transaction(|tx| {
            tx.fetch_add(&s.a, 1)?;
            tx.load(&s.array)?;
            is_deadlock(s.a.store(5), Some("a"));
            is_deadlock(s.a.fetch_add(5), Some("a"));
            is_deadlock(s.a.lock(), Some("a"));
            is_deadlock(s.array.set(0, 1.0), Some("array"));
            is_deadlock(s.array.lock(), Some("array"));
            is_deadlock(s.store.remove("array"), Some("array"));
            is_deadlock(s.store.transaction(|tx| tx.load(&s.b)), None);
            // Reads and other slots work as before.
            assert_eq!((s.a.load(), s.array.load()[0]), (0, 0.0));
            assert_eq!(s.store.snapshot(|snap| snap.load(&s.a))?, 0);
            s.b.store(9)?;
            tx.fetch_add(&s.a, 1)
        })
        .unwrap();
    assert_eq!((s.a.load(), s.b.load()), (2, 9));
    let nested = s.store.transaction(|_| s.store.transaction(|_| Ok::<_, Error>(())));
    assert!(nested.unwrap_err().to_string().contains("inside another"));
    s.store.transaction(|_| Ok::<_, Error>(())).unwrap();
}

/// Inside an update of a slot, a transaction of that slot would wait for itself, or the update
/// would start over forever.
#[test]
fn a_transaction_inside_an_update_of_its_slot_is_refused() {
    let s = slots();
    s.a.update(|a| {
        is_deadlock(s.store.transaction(|tx| tx.store(&s.a, 7)), Some("a"));
        a + 1
    })
    .unwrap();
    s.array
        .update(|_| {
            is_deadlock(s.store.transaction(|tx| tx.set(&s.array, 0, 7.0)), Some("array"));
            s.store.transaction(|tx| tx.store(&s.b, 3)).unwrap(); // another one is fine
        })
        .unwrap();
    assert_eq!((s.a.load(), s.b.load(), s.array.get(0).unwrap()), (1, 3, 0.0));
}

/// The holder's own updates go through, in a transaction as well.
#[test]
fn a_transaction_goes_on_under_its_threads_own_guards() {
    let s = slots();
    let guards = (s.a.lock().unwrap(), s.array.lock().unwrap());
    for n in 1..=3 {
        s.store
            .transaction(|tx| {
                tx.fetch_add(&s.b, 1)?;
                tx.fetch_add(&s.a, 1)?;
                // The guard's holder has no other updates of it until this is done.
                is_deadlock(s.a.fetch_add(1), Some("a"));
                tx.set(&s.array, 1, n as f64)
            })
            .unwrap();
        assert_eq!((s.a.load(), s.b.load(), s.array.get(1).unwrap()), (n, n as u8, n as f64));
        s.a.fetch_add(0).unwrap(); // its own updates go through again
        let others =
            thread::scope(|scope| scope.spawn(|| s.store.slot("a").unwrap().version()).join());
        assert_eq!(others.unwrap(), 2 * n as u64);
    }
    let refused = s.store.transaction(|tx| {
        tx.store(&s.a, 100)?;
        Err::<(), _>(Refused::No)
    });
    assert!(matches!(refused, Err(Refused::No)));
    assert_eq!(s.a.load(), 3);
    // The guards still hold.
    thread::scope(|scope| {
        let waits = scope.spawn(|| s.a.fetch_add(1).unwrap());
        thread::sleep(Duration::from_millis(30));
        assert!(!waits.is_finished());
        drop(guards);
        waits.join().unwrap();
    });
    assert_eq!(s.a.load(), 4);
}

#[test]
fn a_guard_dropped_inside_a_transaction_of_its_slot_undoes_it() {
    let s = slots();
    let mut guard = Some(s.a.lock().unwrap());
    let dropped = s.store.transaction(|tx| {
        tx.store(&s.b, 1)?;
        tx.store(&s.a, 1)?;
        guard = None;
        Ok::<_, Error>(())
    });
    assert!(matches!(dropped, Err(Error::Evicted { slot, .. }) if slot == "a"));
    assert_eq!((s.a.load(), s.b.load()), (0, 0));
    free(&s);
}

#[test]
fn slots_of_another_store_are_refused() {
    let (s, other) = (slots(), slots());
    let refused = s.store.transaction(|tx| {
        tx.store(&s.a, 1)?;
        tx.store(&other.b, 1)
    });
    let Err(error @ Error::Invalid { .. }) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("slot \"b\": it is a slot of another store"), "{error}");
    assert_eq!((s.a.load(), other.b.load()), (0, 0));
    let refused = s.store.snapshot(|snap| snap.load(&other.b));
    assert!(matches!(refused, Err(Error::Invalid { .. })));
    let both = [s.store.slot("a").unwrap(), other.store.slot("a").unwrap()];
    assert!(matches!(s.store.snapshot_of(&both), Err(Error::Invalid { .. })));
    // One inside of the other, on two stores, is fine.
    s.store
        .transaction(|tx| {
            tx.store(&s.a, 1)?;
            other.store.transaction(|inner| inner.store(&other.a, 2))
        })
        .unwrap();
    assert_eq!((s.a.load(), other.a.load()), (1, 2));
}

/// The child's copy of the transaction is inert; its own transactions work.
#[test]
fn the_child_of_a_fork_inside_a_transaction_has_no_part_in_it() {
    if !common::apart("the_child_of_a_fork_inside_a_transaction_has_no_part_in_it") {
        return;
    }
    let s = slots();
    let (mut child, mut as_told) = (None, true);
    let result = s.store.transaction(|tx| {
        tx.store(&s.a, 5)?;
        child = common::os::fork_and_go_on();
        if child.is_none() {
            as_told &= matches!(tx.load(&s.a), Err(Error::Evicted { .. }));
            as_told &= matches!(tx.store(&s.text, "x"), Err(Error::Evicted { .. }));
            as_told &= s.store.transaction(|tx| tx.store(&s.b, 7)).is_ok();
        }
        Ok::<_, Error>(())
    });
    let Some(child) = child else {
        as_told &= matches!(result, Err(Error::Evicted { .. }));
        common::os::exit_at_once(i32::from(!as_told));
    };
    result.unwrap();
    child.join();
    assert_eq!((s.a.load(), s.b.load(), s.text.load()), (5, 7, String::new()));
    free(&s);
}

/// (A typed one does not compile: see `Transactional`.)
#[test]
fn buffers_are_refused() {
    let s = slots();
    s.store.buffer::<u8>("buffer", 8).unwrap();
    let buffer = s.store.slot("buffer").unwrap();
    s.store
        .transaction(|tx| {
            tx.store(&s.a, 1)?;
            for refused in [
                tx.load(&buffer).map(drop),
                tx.store(&buffer, Data::from([1u8; 8])),
                tx.update(&buffer, |_| ()),
                tx.load_range(&buffer, ..).map(drop),
                tx.store_range(&buffer, 0..1, &Elements::from([1u8])),
                s.store.snapshot(|snap| snap.load(&buffer)).map(drop),
                s.store.snapshot_of(std::slice::from_ref(&buffer)).map(drop),
            ] {
                let Err(error @ Error::Invalid { .. }) = refused else { panic!("{refused:?}") };
                assert!(
                    error.to_string().contains("\"buffer\": a buffer is raw memory"),
                    "{error}"
                );
            }
            tx.fetch_add(&s.a, 1)
        })
        .unwrap();
    assert_eq!((s.a.load(), buffer.load()), (2, Data::from([0u8; 8])));
}

#[test]
fn removed_slots_are_refused_but_still_read() {
    let s = slots();
    s.a.store(5).unwrap();
    s.store.remove("a").unwrap();
    s.store.remove("array").unwrap();
    for _ in 0..2 {
        let removed = s.store.transaction(|tx| {
            tx.store(&s.text, "x")?; // above the first, below the second, or the other way
            tx.load(&s.array)?;
            tx.store(&s.a, 1)
        });
        assert!(matches!(removed, Err(Error::Removed { slot, .. }) if slot == "array"));
        let removed = s.store.transaction(|tx| {
            tx.store(&s.text, "x")?;
            tx.store(&s.a, 1)
        });
        assert!(matches!(removed, Err(Error::Removed { slot, .. }) if slot == "a"));
    }
    assert_eq!(s.store.snapshot(|snap| snap.load(&s.a)).unwrap(), 5);
    assert_eq!(s.text.load(), "");
    free(&s);
}

#[test]
fn a_store_opened_read_only_has_snapshots_and_no_transactions() {
    let folder = common::folder();
    let path = common::store_in(&folder);
    let store = Store::create(&path).unwrap();
    store.value::<i32>("a").unwrap().store(5).unwrap();
    let reader = Store::open_read_only(&path).unwrap();
    let a = reader.value::<i32>("a").unwrap();
    assert_eq!(reader.snapshot(|s| s.load(&a)).unwrap(), 5);
    assert_eq!(reader.snapshot_of(&reader.slots().unwrap()).unwrap(), [(Data::from(5i32), 1)]);
    let mut ran = false;
    let refused = reader.transaction(|tx| {
        ran = true;
        tx.load(&a)
    });
    assert!(matches!(refused, Err(Error::ReadOnly { .. })) && !ran);
}

/// One of half a million elements changes. That costs no more than a few words.
#[test]
fn one_element_of_a_large_array_costs_the_element() {
    let store = Store::temporary().unwrap();
    let large =
        store.array_with("large", 1 << 19, Define::new().initial(vec![1u64; 1 << 19])).unwrap();
    let x = store.value::<u64>("x").unwrap();
    large.set(0, 2).unwrap();
    large.set(0, 2).unwrap(); // now no area is entirely stale
    let of_one = |rounds: u32| {
        let start = std::time::Instant::now();
        for n in 0..rounds {
            store
                .transaction(|tx| {
                    tx.set(&large, 1 + n as usize % 1000, 5)?;
                    tx.fetch_add(&x, 1)
                })
                .unwrap();
        }
        start.elapsed() / rounds
    };
    of_one(10);
    let one = of_one(2_000);
    let start = std::time::Instant::now();
    for _ in 0..5 {
        store.transaction(|tx| tx.update(&large, |all| all[0] += 1)).unwrap();
    }
    let whole = start.elapsed() / 5;
    assert!(one * 20 < whole, "one element {one:?}, the whole {whole:?}");
}

/// Backwards, forwards and both ways: what lies between is kept.
#[test]
fn changes_of_one_array_in_any_order() {
    let s = slots();
    s.array.update(|a| a.iter_mut().enumerate().for_each(|(i, x)| *x = i as f64)).unwrap();
    let mut expected = s.array.load();
    fastrand::seed(7);
    for _ in 0..common::rounds(300, 10_000) {
        s.store
            .transaction(|tx| {
                for _ in 0..fastrand::usize(1..6) {
                    let from = fastrand::usize(0..20);
                    let range = from..fastrand::usize(from..=20);
                    let new: Vec<f64> = range.clone().map(|_| fastrand::f64()).collect();
                    tx.store_range(&s.array, range.clone(), &new)?;
                    expected[range].copy_from_slice(&new);
                    let from = fastrand::usize(0..20);
                    let range = from..fastrand::usize(from..=20);
                    assert_eq!(tx.load_range(&s.array, range.clone())?, expected[range]);
                }
                Ok::<_, Error>(())
            })
            .unwrap();
        assert_eq!(s.array.load(), expected);
    }
}

/// Twelve of 64 slots are locked at any time, each by a guard for longer than a transaction waits
/// at first while it has locks.
#[test]
fn a_transaction_gets_its_locks_beside_guards_that_are_held_long() {
    const SLOTS: usize = 64;
    let mut options = OpenOptions::new();
    let store = options.lock_timeout(Some(Duration::from_secs(20))).open_temporary().unwrap();
    let value = |i| store.value::<u64>(&format!("number {i}")).unwrap();
    let values: Vec<_> = (0..SLOTS).map(value).collect();
    let group = store.group(values.clone()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..12 {
            let (values, done) = (&values, &done);
            scope.spawn(move || {
                for at in (thread * SLOTS / 12..).step_by(SLOTS / 12) {
                    let guard = values[at % SLOTS].lock().unwrap();
                    thread::sleep(Duration::from_millis(50));
                    drop(guard);
                    if done.load(Relaxed) {
                        break;
                    }
                }
            });
        }
        let _end = OnDrop(&done);
        for _ in 0..3 {
            group.update(|numbers| numbers.iter_mut().for_each(|number| *number += 1)).unwrap();
            store
                .transaction(|t| values.iter().try_for_each(|v| t.fetch_add(v, 1).map(drop)))
                .unwrap();
        }
    });
    assert!(values.iter().all(|value| value.load() == 6));
}

/// Sets it also when a test fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
