//! A handle works after a fork; a lock does not cross it; and a child neither releases nor keeps
//! its parent's locks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common;
use crate::common::{Child, folder, os, role, rounds, store_in, until, within};
use slotfile::{Error, OpenOptions, Store};

#[test]
fn a_child_of_a_fork_updates_through_its_parents_handles() {
    if !common::apart("a_child_of_a_fork_updates_through_its_parents_handles") {
        return;
    }
    let folder = folder();
    for store in [Store::create(store_in(&folder)).unwrap(), Store::temporary().unwrap()] {
        let value = store.value::<u64>("value").unwrap();
        let array = store.array::<u64>("array", 5).unwrap();
        let text = store.text("text", 20).unwrap();
        // The parent takes locks before, so that its entry of the process table is copied.
        array.fetch_add(0, 1).unwrap();
        let child = || {
            os::fork(|| {
                for _ in 0..1000 {
                    value.fetch_add(1).unwrap();
                    array.update(|a| a.iter_mut().for_each(|x| *x += 1)).unwrap();
                }
                text.store("from the child").unwrap();
                store.value::<i8>("defined by the child").unwrap().store(-3).unwrap();
            })
        };
        let children = [child(), child()];
        for _ in 0..1000 {
            value.fetch_add(1).unwrap();
            array.update(|a| a.iter_mut().for_each(|x| *x += 1)).unwrap();
        }
        children.into_iter().for_each(os::Forked::join);
        assert_eq!(value.load(), 3000);
        assert_eq!(array.load(), [3001, 3000, 3000, 3000, 3000]);
        assert_eq!(text.load(), "from the child");
        assert_eq!(store.value::<i8>("defined by the child").unwrap().load(), -3);
    }
}

#[test]
fn grandchildren_too() {
    if !common::apart("grandchildren_too") {
        return;
    }
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("array", 3).unwrap();
    array.fetch_add(0, 1).unwrap();
    os::fork(|| {
        array.fetch_add(0, 1).unwrap();
        let inner = os::fork(|| {
            array.fetch_add(0, 1).unwrap();
            os::fork(|| _ = array.fetch_add(0, 1).unwrap()).join();
        });
        array.fetch_add(0, 1).unwrap();
        inner.join();
    })
    .join();
    assert_eq!(array.get(0).unwrap(), 5);
}

/// The mapping, too, keeps an open file description alive, and a forked child inherits it: the
/// parent's locks must not depend on that.
#[test]
fn row_11_a_killed_parents_locks_are_freed_while_its_child_lives() {
    const NAME: &str = "row_11_a_killed_parents_locks_are_freed_while_its_child_lives";
    if role().is_some() {
        let store = Store::open(common::path()).unwrap();
        let array = store.array::<u64>("array", 4).unwrap();
        let _guard = array.lock().unwrap();
        let _child = os::fork(|| {
            store.value::<u64>("child's pid").unwrap().store(std::process::id().into()).unwrap();
            // Killed below; it ends by itself if the test has failed.
            std::thread::sleep(Duration::from_secs(20));
        });
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let array = store.array::<u64>("array", 4).unwrap();
    let childs_pid = store.value::<u64>("child's pid").unwrap();
    let parent = Child::spawn(NAME, "parent", &path);
    until("the grandchild is there", || childs_pid.load() != 0);
    let grandchild = u32::try_from(childs_pid.load()).unwrap();
    parent.kill();
    drop(parent);
    // The promise is 50 ms; the rest is for a loaded machine.
    let taken = within(Duration::from_secs(1), "taking the lock", || array.set(0, 7));
    os::signal(grandchild, libc::SIGKILL);
    taken.unwrap();
    assert_eq!(array.load(), [7, 0, 0, 0]);
}

#[test]
fn row_12_a_childs_end_leaves_its_parents_locks_alone() {
    if !common::apart("row_12_a_childs_end_leaves_its_parents_locks_alone") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let array = store.array::<u64>("array", 4).unwrap();
    let guard = array.lock().unwrap();
    // Both ways to end: with all destructors, the guard's too, and with none.
    let (handles, held) = ((store.clone(), array.clone()), std::cell::Cell::new(Some(guard)));
    os::fork(|| {
        drop(held.take());
        drop(handles);
    })
    .join();
    let handles_of_another = (store.clone(), array.clone());
    os::fork(|| {
        std::mem::forget(handles_of_another);
        os::exit_at_once(0)
    })
    .join();
    // To an unrelated process, the lock is held.
    os::fork(|| {
        let hasty = OpenOptions::new().lock_timeout(Some(Duration::from_millis(100))).clone();
        let array = hasty.open(&path).unwrap().array::<u64>("array", 4).unwrap();
        let parent = Some(std::os::unix::process::parent_id());
        match array.set(0, 1) {
            Err(Error::LockTimeout { holder, .. }) => {
                assert_eq!(holder.map(|holder| holder.pid), parent);
            }
            other => panic!("{other:?}"),
        }
    })
    .join();
    let guard = held.take();
    assert!(guard.is_some());
    array.set(0, 2).unwrap();
    drop(guard);
    assert_eq!(array.load(), [2, 0, 0, 0]);
}

#[test]
fn a_guard_that_crossed_a_fork_is_inert() {
    if !common::apart("a_guard_that_crossed_a_fork_is_inert") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    Store::create(&path).unwrap();
    let hasty = OpenOptions::new().lock_timeout(Some(Duration::from_millis(50))).clone();
    let store = hasty.open(&path).unwrap();
    let array = store.array::<u64>("array", 4).unwrap();
    let value = store.value::<u64>("value").unwrap();
    let (array_guard, value_guard) = (array.lock().unwrap(), value.lock().unwrap());
    os::fork(|| {
        // To the child, they are another process's locks.
        assert!(matches!(array.set(0, 1), Err(Error::LockTimeout { .. })));
        assert!(matches!(value.store(1), Err(Error::LockTimeout { .. })));
    })
    .join();
    array.set(0, 2).unwrap();
    value.store(2).unwrap();
    drop((array_guard, value_guard));
    assert_eq!((array.get(0).unwrap(), value.load()), (2, 2));
}

/// The child's copy of its parent's guard must not affect the child's own lock.
#[test]
fn dropping_a_guard_that_crossed_a_fork_leaves_the_childs_own_guard() {
    if !common::apart("dropping_a_guard_that_crossed_a_fork_leaves_the_childs_own_guard") {
        return;
    }
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("array", 4).unwrap();
    let parents = std::cell::Cell::new(Some(array.lock().unwrap()));
    let child = os::fork(|| {
        let own = array.lock().unwrap(); // waits until the parent has released it
        drop(parents.take());
        array.set(0, 1).unwrap(); // goes through: this thread holds the lock
        drop(own);
        array.set(1, 1).unwrap();
    });
    std::thread::sleep(Duration::from_millis(20));
    drop(parents.take());
    child.join();
    assert_eq!(array.load(), [1, 1, 0, 0]);
}

#[test]
fn an_update_that_was_under_way_at_a_fork_is_the_parents_alone() {
    if !common::apart("an_update_that_was_under_way_at_a_fork_is_the_parents_alone") {
        return;
    }
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("array", 4).unwrap();
    let mut forked = None;
    let this = std::process::id();
    let outcome = array.update(|a| {
        // The child returns from here, too, with its copy of the update.
        let child = os::fork_and_go_on();
        a.fill(if child.is_some() { 1 } else { 9 });
        forked = child;
    });
    if std::process::id() != this {
        let refused = matches!(outcome, Err(Error::Evicted { .. }));
        os::exit_at_once(i32::from(!refused));
    }
    outcome.unwrap();
    forked.unwrap().join();
    assert_eq!(array.load(), [1; 4]);
    array.set(0, 5).unwrap();
}

/// The same for a value, whose update takes no lock, but continues under a guard.
#[test]
fn a_values_update_that_was_under_way_at_a_fork_waits_for_the_parents_guard() {
    if !common::apart("a_values_update_that_was_under_way_at_a_fork_waits_for_the_parents_guard") {
        return;
    }
    let store = Store::temporary().unwrap();
    let value = store.value::<u64>("value").unwrap();
    let guard = value.lock().unwrap();
    let mut forked = None;
    let this = std::process::id();
    let _ = value.update(|x| {
        if forked.is_none() && std::process::id() == this {
            forked = os::fork_and_go_on();
            if forked.is_some() {
                // Time for the child to do what is forbidden.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        2 * x + 1
    });
    if std::process::id() != this {
        os::exit_at_once(0);
    }
    assert_eq!(value.load(), 1, "nobody but the guard's holder has updated it");
    drop(guard);
    forked.unwrap().join();
    assert_eq!(value.load(), 3);
}

#[test]
fn a_fork_while_other_threads_hold_locks_leaves_a_working_child() {
    if !common::apart("a_fork_while_other_threads_hold_locks_leaves_a_working_child") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let other = folder.path().join("another.slots");
    let arrays: Vec<_> =
        (0..3).map(|i| store.array::<u64>(&format!("a{i}"), 100).unwrap()).collect();
    let total = store.value::<u64>("total").unwrap();
    let quiet = store.array::<u64>("quiet", 3).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _finally = common::Finally(&done);
        // Updates, openings, claims of entries and recoveries, each under its own mutex, so that
        // forks find them in all states.
        for array in &arrays {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    array.update(|a| a.iter_mut().for_each(|x| *x += 1)).unwrap();
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(Store::open_or_create(&other).unwrap());
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::scope(|s| _ = s.spawn(|| quiet.fetch_add(1, 1).unwrap()));
            }
        });
        for round in 0..rounds(150, 2000) as u64 {
            os::fork(|| {
                quiet.fetch_add(0, 1).unwrap();
                total.fetch_add(1).unwrap();
                for array in &arrays {
                    // Perhaps held by a thread of the parent, which lives and continues.
                    array.update(|a| assert!(a.iter().all(|x| *x == a[0]))).unwrap();
                    let now = array.load();
                    assert!(now.iter().all(|x| *x == now[0]));
                }
                drop(Store::open_or_create(&other).unwrap());
            })
            .join();
            assert_eq!(total.load(), round + 1);
        }
    });
    assert_eq!(quiet.get(0).unwrap(), total.load());
}

/// A forked child that never touched the store still counts as attached: no process may take the
/// store for abandoned and recover it under the child.
#[test]
fn a_forked_child_keeps_the_store_attached_when_its_parent_leaves() {
    const NAME: &str = "a_forked_child_keeps_the_store_attached_when_its_parent_leaves";
    if role().is_some() {
        let store = Store::open(common::path()).unwrap();
        let array = store.array::<u64>("array", 4).unwrap();
        let steps = store.value::<u64>("steps").unwrap();
        // Not joined, since the parent leaves first. The child ends on its own.
        std::mem::forget(os::fork(|| {
            steps.store(1).unwrap();
            until("the other one has looked", || steps.load() == 2);
            let _guard = array.lock().unwrap();
            steps.store(3).unwrap();
            until("the other one has looked again", || steps.load() == 4);
            array.set(0, 9).unwrap();
            steps.store(5).unwrap();
        }));
        until("the child is there", || steps.load() == 1);
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    store.array::<u64>("array", 4).unwrap();
    store.value::<u64>("steps").unwrap();
    drop(store);
    Child::spawn(NAME, "parent", &path).join();
    // The child has taken no lock: only the common byte shows it.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    assert!(os::byte_is_locked(&file, 1 << 62), "the child does not count");
    let hasty = OpenOptions::new().lock_timeout(Some(Duration::from_millis(50))).clone();
    let store = hasty.open(&path).unwrap();
    let array = store.array::<u64>("array", 4).unwrap();
    let steps = store.value::<u64>("steps").unwrap();
    steps.store(2).unwrap();
    until("the child has the lock", || steps.load() == 3);
    assert!(matches!(array.set(0, 1), Err(Error::LockTimeout { .. })));
    steps.store(4).unwrap();
    until("the child has updated", || steps.load() == 5);
    assert_eq!(array.get(0).unwrap(), 9);
}

/// A program that becomes a daemon forks just after opening its store, while the store's thread
/// begins or ends.
#[test]
fn a_fork_beside_our_threads_leaves_a_child_that_has_threads() {
    if !common::apart("a_fork_beside_our_threads_leaves_a_child_that_has_threads") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    drop(Store::create(&path).unwrap());
    for round in 0..rounds(150, 2_000) as u32 {
        let daemon = os::fork(|| {
            let store = Store::open(&path).unwrap();
            store.value::<u64>("value").unwrap().fetch_add(1).unwrap();
            let begin = Instant::now();
            while begin.elapsed() < round % 50 * Duration::from_micros(4) {
                std::hint::spin_loop();
            }
            let store = (round % 2 == 0).then_some(store);
            let child = os::fork(|| std::thread::spawn(|| ()).join().unwrap());
            child.join();
            drop(store);
        });
        daemon.join();
    }
}
