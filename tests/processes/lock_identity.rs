//! A guard stands for one acquisition: not for another lock that the same thread, or the next
//! holder of its entry, has on the same slot by now.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::common;
use crate::common::raw::{self, Raw};
use crate::common::{Child, os};
use slotfile::{
    Array, ArrayUpdate, Define, Error, Guard, OpenOptions, SlotType, Store, Transaction, Value,
};

fn open(path: &std::path::Path) -> Store {
    OpenOptions::new().create(true).lock_timeout(SHORT).sync_every(None).open(path).unwrap()
}

const SHORT: Option<Duration> = Some(Duration::from_millis(200));

fn is_evicted<R: std::fmt::Debug>(result: Result<R, Error>) {
    assert!(matches!(result, Err(Error::Evicted { .. })), "{result:?}");
}

fn is_deadlock<R: std::fmt::Debug>(result: Result<R, Error>) {
    assert!(matches!(result, Err(Error::Deadlock { .. })), "{result:?}");
}

fn elsewhere<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(f).join().unwrap())
}

/// An update or a transaction that was begun under a guard.
enum Begun {
    Update(ArrayUpdate<u64>),
    Transaction(Transaction),
}

impl Begun {
    fn all(store: &Store, array: &Array<u64>) -> [Begun; 2] {
        let update = {
            let _guard = array.lock().unwrap();
            Begun::Update(array.begin_update().unwrap())
        };
        let _guard = array.lock().unwrap();
        let mut transaction = store.begin_transaction(&[array.clone().into()]).unwrap();
        transaction.store(array, &[666; 4]).unwrap();
        [update, Begun::Transaction(transaction)]
    }

    fn commit(self) -> Result<(), Error> {
        match self {
            Begun::Update(update) => update.commit(&[666; 4]),
            Begun::Transaction(transaction) => transaction.commit(),
        }
    }
}

/// The guard is gone and another one of the same slot exists, in the same version or a later one,
/// free or with an update of its own: the old update has no lock, and must not store.
#[test]
fn an_update_whose_guard_is_gone_changes_nothing_under_the_next_one() {
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("a", 4).unwrap();
    array.store(&[1; 4]).unwrap();
    for updates_between in 0..3 {
        for busy in [false, true] {
            for begun in Begun::all(&store, &array) {
                for _ in 0..updates_between {
                    array.store(&[2; 4]).unwrap();
                }
                let before = array.load_versioned();
                let guard = array.lock().unwrap();
                let update = busy.then(|| array.begin_update().unwrap());
                is_evicted(begun.commit());
                assert_eq!(array.load_versioned(), before);
                // And it takes nothing from the update that has the lock.
                if let Some(update) = update {
                    is_deadlock(array.set(0, 9));
                    update.commit(&[3; 4]).unwrap();
                    assert_eq!(array.load(), [3; 4]);
                }
                drop(guard);
                assert!(elsewhere(|| array.lock().is_ok()));
            }
        }
    }
}

#[test]
fn guards_are_dropped_in_any_order() {
    let store = Store::temporary().unwrap();
    let arrays = ["a", "b", "c"].map(|name| store.array::<u64>(name, 4).unwrap());
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut guards: [Option<Guard<'_>>; 3] =
            arrays.each_ref().map(|array| Some(array.lock().unwrap()));
        for (place, at) in order.into_iter().enumerate() {
            arrays[at].set(0, 1).unwrap();
            drop(guards[at].take());
            for (i, array) in arrays.iter().enumerate() {
                let array = array.clone().with_lock_timeout(Some(Duration::ZERO));
                let is_free = elsewhere(|| array.lock().is_ok());
                assert_eq!(is_free, order[..=place].contains(&i), "{i} of {order:?}");
            }
        }
    }
}

#[test]
fn a_guard_dropped_inside_its_own_update_undoes_it() {
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("a", 4).unwrap();
    let mut guard = Some(array.lock().unwrap());
    is_evicted(array.update(|elements| {
        elements[0] = 666;
        drop(guard.take());
    }));
    // Dropped and taken again.
    guard = Some(array.lock().unwrap());
    is_evicted(array.update(|elements| {
        elements[0] = 666;
        drop(guard.take());
        guard = Some(array.lock().unwrap());
    }));
    assert_eq!(array.load(), [0; 4]);
    array.set(0, 1).unwrap();
    drop(guard);
    assert!(elsewhere(|| array.lock().is_ok()));

    // For a value, whose update is one step, it does not matter.
    let value = store.value::<u64>("v").unwrap();
    let mut guard = Some(value.lock().unwrap());
    value.update(|x| (drop(guard.take()), x + 1).1).unwrap();
    guard = Some(value.lock().unwrap());
    value
        .update(|x| {
            drop(guard.take());
            guard = Some(value.lock().unwrap());
            x + 1
        })
        .unwrap();
    assert_eq!(value.load(), 2);
    drop(guard);
    assert!(elsewhere(|| value.lock().is_ok()));
}

#[test]
fn a_panic_under_a_guard_leaves_the_guard() {
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("a", 4).unwrap();
    let guard = array.lock().unwrap();
    let panics = |f: &dyn Fn()| {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        assert!(result.is_err());
    };
    panics(&|| drop(array.update(|_| -> () { std::panic::resume_unwind(Box::new(())) })));
    panics(&|| {
        let _ = store.transaction(|tx| -> Result<(), Error> {
            tx.set(&array, 0, 666)?;
            std::panic::resume_unwind(Box::new(()))
        });
    });
    let other = array.clone().with_lock_timeout(Some(Duration::ZERO));
    assert!(elsewhere(|| other.lock().is_err()), "the guard has it still");
    array.set(0, 1).unwrap();
    store.transaction(|tx| tx.set(&array, 1, 1)).unwrap();
    drop(guard);
    assert_eq!(array.load(), [1, 1, 0, 0]);
    assert!(elsewhere(|| array.lock().is_ok()));
}

#[test]
fn transactions_on_two_stores_go_inside_each_other() {
    let (one, two) = (Store::temporary().unwrap(), Store::temporary().unwrap());
    // The same places in both files.
    let (a, b) = (one.array::<u64>("a", 4).unwrap(), two.array::<u64>("a", 4).unwrap());
    let guard = b.lock().unwrap();
    let inner = one
        .transaction(|outer| {
            outer.set(&a, 0, 1)?;
            let inner = two.transaction(|inner| inner.set(&b, 0, 2));
            is_deadlock(one.transaction(|_| Ok::<(), Error>(())));
            Ok::<_, Error>(inner)
        })
        .unwrap();
    inner.unwrap();
    drop(guard);
    assert_eq!((a.get(0).unwrap(), b.get(0).unwrap()), (1, 2));
    assert!(elsewhere(|| a.lock().is_ok() && b.lock().is_ok()));
}

/// A buffer's lock that was taken twice, in two ways, is released twice.
#[test]
fn a_guard_and_a_raw_lock_of_one_buffer_do_not_take_each_others_lock() {
    let store = Store::temporary().unwrap();
    let buffer_type = "buffer:u64[4]".parse::<SlotType>().unwrap();
    let raw = store.define("b", &buffer_type, Define::new()).unwrap().raw_buffer().unwrap();
    let buffer = store.buffer::<u64>("b", 4).unwrap();
    let is_locked = || elsewhere(|| !raw.try_acquire().is_ok_and(|taken| taken && raw.release()));

    let guard = buffer.lock().unwrap();
    raw.acquire(SHORT).unwrap();
    assert_eq!(raw.depth(), 2);
    drop(guard);
    assert!(is_locked(), "it is taken once more");
    assert!(raw.release());
    assert!(!is_locked());

    let guard = buffer.lock().unwrap();
    raw.acquire(SHORT).unwrap();
    assert!(raw.release());
    assert!(!raw.release(), "the rest is the guard's");
    assert!(is_locked());
    buffer.notify().unwrap();
    drop(guard);
    assert!(!is_locked());
}

/// A transaction that has lost a slot to others has given up its changes: none may be committed,
/// whatever its caller does with the error.
#[test]
fn a_conflict_that_is_swallowed_commits_nothing() {
    let store = Store::temporary().unwrap();
    let (c, a) = (store.value::<i64>("c").unwrap(), store.value::<i64>("a").unwrap());
    a.store(100).unwrap();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let conflict = |result: Result<i64, Error>| {
        assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
    };
    std::thread::scope(|scope| {
        // Dropped as soon as this fails, or the other thread would wait forever.
        let done = done;
        let held = &c;
        scope.spawn(move || {
            let guard = held.lock().unwrap();
            begun.send(()).unwrap();
            let _ = is_done.recv();
            drop(guard);
        });
        has_begun.recv().unwrap();
        let mut tx = store.begin_transaction(&[a.clone().into()]).unwrap();
        tx.fetch_add(&a, -50).unwrap();
        conflict(tx.fetch_add(&c, 50));
        conflict(tx.fetch_add(&a, 50));
        let result = tx.commit();
        assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
        assert_eq!((a.load(), c.load()), (100, 0));
        // With a closure, it is repeated as often as needed.
        let mut runs = 0;
        store
            .transaction(|tx| {
                runs += 1;
                tx.fetch_add(&a, -50)?;
                if tx.fetch_add(&c, 50).is_err() {
                    let _ = done.send(());
                }
                Ok::<(), Error>(())
            })
            .unwrap();
        assert!(runs > 1);
    });
    assert_eq!((a.load(), c.load()), (50, 50));
}

thread_local! {
    static KEPT: RefCell<Option<Box<dyn std::any::Any>>> = const { RefCell::new(None) };
}

/// Runs `f` at the end of a new thread, after slotfile's thread-locals are dropped, since this
/// one is made first.
fn at_the_end_of_a_thread(prepare: impl FnOnce() -> Box<dyn FnOnce()> + Send) {
    struct Last(Option<Box<dyn FnOnce()>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.take().unwrap()();
        }
    }
    elsewhere(|| {
        KEPT.with(|_| ());
        KEPT.set(None);
        KEPT.with(|kept| {
            let last = Last(Some(prepare()));
            *kept.borrow_mut() = Some(Box::new(last));
        });
    });
}

/// The number of ways in which a thread can end with an array's lock.
const WAYS: [&str; 9] = [
    "guard leaked",
    "owned guard leaked",
    "update leaked",
    "update under a guard leaked",
    "transaction leaked",
    "owned guard kept",
    "update kept",
    "update under a guard kept",
    "transaction kept",
];

fn end_with_a_lock(way: &str, store: Store, a: Array<u64>) {
    KEPT.with(|_| ()); // destroyed after slotfile's
    let owned = || -> Guard<'static> { Arc::new(store.slot("a").unwrap()).lock_owned().unwrap() };
    let begin = || {
        let mut transaction = store.begin_transaction(&[a.clone().into()]).unwrap();
        transaction.set(&a, 0, 666).unwrap();
        transaction
    };
    let kept: Box<dyn std::any::Any> = match way {
        "guard leaked" => return std::mem::forget(a.lock().unwrap()),
        "owned guard leaked" => return std::mem::forget(owned()),
        "update leaked" => return std::mem::forget(a.begin_update().unwrap()),
        "update under a guard leaked" => {
            std::mem::forget(a.lock().unwrap());
            return std::mem::forget(a.begin_update().unwrap());
        }
        "transaction leaked" => return std::mem::forget(begin()),
        "owned guard kept" => Box::new(owned()),
        "update kept" => Box::new(a.begin_update().unwrap()),
        "update under a guard kept" => Box::new((owned(), a.begin_update().unwrap())),
        "transaction kept" => Box::new(begin()),
        way => panic!("{way}?"),
    };
    KEPT.set(Some(kept));
}

/// The lock is recovered for the next one: a thread of this process that gets the entry, one that
/// does not, and another process.
#[test]
fn a_lock_that_outlives_its_thread_locks_nobody_out() {
    const NAME: &str = "a_lock_that_outlives_its_thread_locks_nobody_out";
    if common::role().is_some() {
        open(&common::path()).array::<u64>("a", 4).unwrap().set(3, common::number()).unwrap();
        return;
    }
    let folder = common::folder_in_memory();
    let path = common::store_in(&folder);
    let store = open(&path);
    for (n, way) in (1..).zip(WAYS) {
        println!("{way}");
        let a = store.array::<u64>("a", 4).unwrap();
        let (s, b) = (store.clone(), a.clone());
        elsewhere(move || end_with_a_lock(way, s, b));
        std::thread::scope(|scope| {
            let (done, is_done) = std::sync::mpsc::channel::<()>();
            let (tried, has_tried) = std::sync::mpsc::channel();
            let a = &a;
            // It lives on, with its predecessor's entry.
            scope.spawn(move || {
                tried.send(a.set(0, n)).unwrap();
                let _ = is_done.recv();
            });
            has_tried.recv().unwrap().unwrap();
            elsewhere(|| a.set(1, n)).unwrap();
            a.set(2, n).unwrap();
            Child::spawn_with(NAME, "other", &path, n).join();
            drop(done);
        });
        assert_eq!(a.load(), [n; 4], "{way}");
        assert!(store.check().unwrap().is_ok(), "{way}");
    }
}

/// The next thread with its entry need not search all slots for locks that were left.
#[test]
fn a_thread_that_ends_without_a_lock_leaves_its_entry_free() {
    let folder = common::folder_in_memory();
    let path = common::store_in(&folder);
    let store = open(&path);
    let (array, v) = (store.array::<u64>("a", 4).unwrap(), store.value::<u64>("v").unwrap());
    let raw = Raw::open(&path);
    // The first two: this thread's own, and the one that the others use in turn.
    let words = || [0, 1].map(|entry| raw.word(raw::TABLE + entry * raw::TABLE_ENTRY));
    assert_eq!(words(), [1, 0]);
    elsewhere(|| {
        array.set(0, 1).unwrap();
        drop((array.lock().unwrap(), v.lock().unwrap()));
        store.transaction(|tx| tx.set(&array, 1, 1)).unwrap();
        drop(array.begin_update().unwrap());
        assert_eq!(words(), [1, 1]);
    });
    assert_eq!(words(), [1, 0]);
}

/// A process that ends by `exit` inside of an update, with the lock.
#[test]
fn a_process_that_exits_inside_an_update_locks_nobody_out() {
    const NAME: &str = "a_process_that_exits_inside_an_update_locks_nobody_out";
    if let Some(role) = common::role() {
        let store = open(&common::path());
        let a = store.array::<u64>("a", 4).unwrap();
        match role.as_str() {
            "exits" => a.update(|_| std::process::exit(0)).unwrap(),
            _ => {
                a.set(0, 1).unwrap();
                // It has the entry of the first one, and must not be taken for the holder.
                elsewhere(|| a.set(1, 1).unwrap());
            }
        }
        return;
    }
    let folder = common::folder_in_memory();
    let path = common::store_in(&folder);
    // It has no entry of its own.
    let store = open(&path);
    elsewhere(|| store.array::<u64>("a", 4).unwrap());
    Child::spawn(NAME, "exits", &path).join();
    Child::spawn(NAME, "next", &path).join();
    assert_eq!(store.array::<u64>("a", 4).unwrap().load(), [1, 1, 0, 0]);
}

/// Like a leaked guard of std, it stays locked for its own thread, which gets an error.
#[test]
fn a_leaked_lock_is_its_own_threads_deadlock() {
    let store = OpenOptions::new().lock_timeout(SHORT).open_temporary().unwrap();
    let a = store.array::<u64>("a", 4).unwrap();
    std::mem::forget(a.begin_update().unwrap());
    is_deadlock(a.set(0, 1));
    is_deadlock(a.lock());
    is_deadlock(store.transaction(|tx| tx.set(&a, 0, 1)));
    let timed_out = elsewhere(|| a.set(0, 1));
    assert!(matches!(timed_out, Err(Error::LockTimeout { .. })), "{timed_out:?}");
    assert_eq!(a.load(), [0; 4]);
}

/// A commit after the thread's entry was returned changes nothing.
#[test]
fn what_a_thread_local_commits_too_late_is_refused() {
    let store = OpenOptions::new().lock_timeout(SHORT).open_temporary().unwrap();
    let a = store.array::<u64>("a", 4).unwrap();
    for under_guard in [false, true] {
        let (s, b) = (store.clone(), a.clone());
        at_the_end_of_a_thread(move || {
            let guard = under_guard.then(|| Arc::new(s.slot("a").unwrap()).lock_owned().unwrap());
            let update = b.begin_update().unwrap();
            Box::new(move || {
                is_evicted(update.commit(&[666; 4]));
                drop(guard);
            })
        });
        let (s, b) = (store.clone(), a.clone());
        at_the_end_of_a_thread(move || {
            let mut transaction = s.begin_transaction(&[b.clone().into()]).unwrap();
            transaction.store(&b, &[666; 4]).unwrap();
            Box::new(move || is_evicted(transaction.commit()))
        });
        assert_eq!(a.load(), [0; 4]);
    }
    a.store(&[1; 4]).unwrap();
}

/// The destructor of a thread-local may use the store: values work, and operations that need an
/// entry of the process table fail with the reason.
#[test]
fn a_thread_locals_destructor_updates_values() {
    let store = Store::temporary().unwrap();
    let (v, w) = (store.value::<u64>("v").unwrap(), store.value::<u64>("w").unwrap());
    let a = store.array::<u64>("a", 4).unwrap();
    let (s, v1, w1, a1) = (store.clone(), v.clone(), w.clone(), a.clone());
    at_the_end_of_a_thread(move || {
        a1.store(&[1; 4]).unwrap();
        v1.update(|x| x + 1).unwrap();
        Box::new(move || {
            v1.fetch_add(1).unwrap();
            v1.update(|x| x + 1).unwrap();
            nested(&v1, &w1);
            assert_eq!(a1.load(), [1; 4]);
            s.snapshot(|snapshot| snapshot.load(&v1)).unwrap();
            for refused in [a1.store(&[2; 4]), s.transaction(|tx| tx.set(&a1, 0, 2))] {
                assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
            }
        })
    });
    assert_eq!((v.load(), w.load(), a.load()), (4, 2, vec![1; 4]));
    nested(&v, &w);
    assert_eq!((v.load(), w.load()), (5, 4));
}

/// Nested updates of values: that of another value works, that of the same one is refused.
fn nested(v: &Value<u64>, w: &Value<u64>) {
    let inner = || {
        w.update(|y| {
            is_deadlock(v.fetch_add(1));
            is_deadlock(w.update(|y| y));
            y + 1
        })
    };
    v.update(|x| {
        inner().unwrap();
        inner().unwrap();
        is_deadlock(v.fetch_add(1));
        x + 1
    })
    .unwrap();
}

/// A guard's holder waits for a transaction's slot, and the transaction for the guarded slot: the
/// transaction releases its locks.
#[test]
fn a_transaction_does_not_wait_in_a_circle_with_a_guard() {
    for timeout in [Some(Duration::from_secs(60)), None] {
        let store = OpenOptions::new().lock_timeout(timeout).open_temporary().unwrap();
        let (a, b) = (store.value::<u64>("a").unwrap(), store.value::<u64>("b").unwrap());
        let barrier = std::sync::Barrier::new(2);
        let both = |before_b: &dyn Fn()| {
            store.transaction(|tx| {
                tx.fetch_add(&a, 1)?;
                before_b();
                tx.fetch_add(&b, 1)?;
                Ok::<(), Error>(())
            })
        };
        common::within(Duration::from_secs(30), "both", || {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let guard = b.lock().unwrap();
                    barrier.wait();
                    both(&|| ()).unwrap();
                    a.fetch_add(1).unwrap(); // nor does any other update wait forever
                    drop(guard);
                });
                let first = std::cell::Cell::new(true);
                both(&|| {
                    if first.replace(false) {
                        barrier.wait();
                    }
                })
                .unwrap();
            });
        });
        assert_eq!((a.load(), b.load()), (3, 2));
    }
}

/// The same if the slots are named beforehand.
#[test]
fn a_begun_transaction_does_not_wait_in_a_circle_with_a_guard() {
    let store = OpenOptions::new().lock_timeout(None).open_temporary().unwrap();
    let (a, b) = (store.value::<u64>("a").unwrap(), store.value::<u64>("b").unwrap());
    std::thread::scope(|scope| {
        let guard = b.lock().unwrap();
        let other = scope.spawn(|| {
            let mut tx = store.begin_transaction(&[a.clone().into(), b.clone().into()]).unwrap();
            tx.fetch_add(&a, 1).unwrap();
            tx.fetch_add(&b, 1).unwrap();
            tx.commit().unwrap();
        });
        common::within(Duration::from_secs(30), "ten updates of what it has locked", || {
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(5));
                a.fetch_add(1).unwrap();
            }
        });
        drop(guard);
        other.join().unwrap();
    });
    assert_eq!((a.load(), b.load()), (11, 1));
}

/// The child has copies of its parent's guard and update. Dropping them does not affect the
/// child's own.
#[test]
fn row_12_a_childs_copies_are_told_from_its_own() {
    if !common::apart("row_12_a_childs_copies_are_told_from_its_own") {
        return;
    }
    let folder = common::folder_in_memory();
    let path = common::store_in(&folder);
    let store = OpenOptions::new().create(true).sync_every(None).open(&path).unwrap();
    let a = store.array::<u64>("a", 4).unwrap();
    let (guard, update) = (a.lock().unwrap(), a.begin_update().unwrap());
    let child = os::fork_and_go_on();
    match child {
        None => {
            // Waits until the parent has released it.
            let own = a.clone().with_lock_timeout(Some(Duration::from_secs(60)));
            let own_guard = own.lock().unwrap();
            let own_update = own.begin_update().unwrap();
            is_evicted(update.commit(&[666; 4]));
            is_deadlock(own.set(0, 666));
            drop(guard);
            is_deadlock(own.set(0, 666));
            own_update.commit(&[2; 4]).unwrap();
            own.set(0, 3).unwrap();
            drop(own_guard);
            os::exit_at_once(0);
        }
        Some(child) => {
            update.commit(&[1; 4]).unwrap();
            drop(guard);
            child.join();
            assert_eq!(a.load(), [3, 2, 2, 2]);
        }
    }
}
