//! Guards and updates that own their handle behave like the borrowing ones.

use std::sync::Arc;
use std::time::Duration;

use crate::common;
use slotfile::{Error, Guard, Slot, Store};

const SHORT: Option<Duration> = Some(Duration::from_millis(20));

/// Whether another thread can take the lock.
fn is_free(store: &Store, name: &str) -> bool {
    let array = store.array::<u64>(name, 4).unwrap().with_lock_timeout(SHORT);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| match array.lock() {
            Ok(_) => true,
            Err(Error::LockTimeout { .. }) => false,
            Err(error) => panic!("{error}"),
        });
        other.join().unwrap()
    })
}

fn owned(store: &Store, name: &str) -> Guard<'static> {
    Arc::new(store.slot(name).unwrap()).lock_owned().unwrap()
}

#[test]
fn an_owned_guard_outlives_its_handle_and_lets_go_when_dropped() {
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("a", 4).unwrap();
    let guard = owned(&store, "a");
    assert!(!is_free(&store, "a"));
    array.set(0, 7).unwrap(); // the holder's own update goes through
    assert!(!is_free(&store, "a"), "the update must not have let go of it");
    assert!(matches!(array.lock(), Err(Error::Deadlock { .. })));
    drop(guard);
    assert!(is_free(&store, "a"));
    assert!(array.lock().is_ok());

    let value = store.value::<i32>("v").unwrap();
    let guard = owned(&store, "v");
    value.store(1).unwrap();
    let other = value.clone().with_lock_timeout(SHORT);
    let refused = std::thread::scope(|scope| scope.spawn(|| other.store(2)).join().unwrap());
    assert!(matches!(refused, Err(Error::LockTimeout { .. })));
    drop(guard);
    other.store(2).unwrap();
}

#[test]
fn a_begun_update_is_committed_whole_or_undone() {
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("a", 4).unwrap();
    array.store(&[1, 2, 3, 4]).unwrap();

    let update = array.begin_update().unwrap();
    assert_eq!(update.load(), [1, 2, 3, 4]);
    assert!(!is_free(&store, "a"));
    // A second one inside would be lost.
    assert!(matches!(array.set(0, 9), Err(Error::Deadlock { .. })));
    assert_eq!(array.load(), [1, 2, 3, 4]);
    update.commit(&[5, 6, 7, 8]).unwrap();
    assert_eq!(array.load(), [5, 6, 7, 8]);
    assert!(is_free(&store, "a"));

    let version = array.version();
    drop(array.begin_update().unwrap());
    assert_eq!((array.load(), array.version()), (vec![5, 6, 7, 8], version));
    assert!(is_free(&store, "a"));

    let update = array.begin_update().unwrap();
    assert!(matches!(update.commit(&[1]), Err(Error::Length { .. })));
    assert_eq!(array.load(), [5, 6, 7, 8]);
    assert!(is_free(&store, "a"), "a refused commit undoes the update");
}

#[test]
fn a_begun_update_goes_on_under_the_threads_own_guard() {
    let store = Store::temporary().unwrap();
    let array = store.array::<u64>("a", 4).unwrap();
    let guard = owned(&store, "a");
    let update = array.begin_update().unwrap();
    assert!(matches!(array.set(0, 9), Err(Error::Deadlock { .. })));
    update.commit(&[5; 4]).unwrap();
    array.set(0, 9).unwrap();
    drop(array.begin_update().unwrap());
    array.set(1, 9).unwrap();
    assert!(!is_free(&store, "a"));
    drop(guard);
    assert!(is_free(&store, "a"));
    assert_eq!(array.load(), [9, 9, 5, 5]);

    // The lock was released with the guard, so the update may no longer store.
    let guard = owned(&store, "a");
    let update = array.begin_update().unwrap();
    drop(guard);
    assert!(matches!(update.commit(&[0; 4]), Err(Error::Evicted { .. })));
    assert_eq!(array.load(), [9, 9, 5, 5]);
}

#[test]
fn row_12_owned_locks_are_inert_in_the_child_of_a_fork() {
    if !common::apart("row_12_owned_locks_are_inert_in_the_child_of_a_fork") {
        return;
    }
    let store = Store::temporary().unwrap();
    store.array::<u64>("a", 4).unwrap();
    let other = store.array::<u64>("b", 4).unwrap();
    let mut guard = Some(owned(&store, "a"));
    let mut update = Some(other.begin_update().unwrap());
    common::os::fork(|| {
        let committed = update.take().unwrap().commit(&[1; 4]);
        assert!(matches!(committed, Err(Error::Evicted { .. })));
        drop(guard.take());
    })
    .join();
    assert_eq!(other.load(), [0; 4]);
    assert!(!is_free(&store, "a"), "the child let go of its parent's lock");
    assert!(!is_free(&store, "b"), "the child let go of its parent's update");
    update.unwrap().commit(&[2; 4]).unwrap();
    drop(guard);
    assert_eq!(other.load(), [2; 4]);
    assert!(is_free(&store, "a"));
}

#[test]
fn an_element_is_replaced_or_left() {
    let store = Store::temporary().unwrap();
    let array = store.array::<u8>("a", 4).unwrap();
    array.set(1, 250).unwrap();
    assert_eq!(array.try_update_element(1, |x| x.checked_add(5)).unwrap(), Ok(250));
    let version = array.version();
    assert_eq!(array.try_update_element(1, |x| x.checked_add(1)).unwrap(), Err(255));
    assert_eq!((array.get(1).unwrap(), array.version()), (255, version));
    assert!(matches!(array.try_update_element(4, Some), Err(Error::Index { .. })));
}

#[test]
fn a_slot_made_of_a_typed_handle_is_the_same_slot() {
    let store = Store::temporary().unwrap();
    let slots: [Slot; 4] = [
        store.value::<u8>("v").unwrap().into(),
        store.array::<f32>("a", [2, 3]).unwrap().into(),
        store.text("t", 5).unwrap().into(),
        store.bytes("b", 6).unwrap().into(),
    ];
    for slot in slots {
        let opened = store.slot(slot.name()).unwrap();
        assert_eq!(slot.slot_type(), opened.slot_type());
        assert_eq!(slot.load(), opened.load());
        let slot = Arc::new(slot);
        let guard = slot.lock_owned().unwrap();
        assert!(matches!(opened.lock(), Err(Error::Deadlock { .. })));
        drop((slot, guard));
        drop(opened.with_lock_timeout(SHORT).lock().unwrap());
    }
}

#[test]
fn a_begun_transaction_is_committed_as_one_or_undone() {
    let store = Store::temporary().unwrap();
    let (a, b) = (store.array::<u64>("a", 4).unwrap(), store.array::<u64>("b", 4).unwrap());
    let named = [b.clone().into(), a.clone().into()];
    let mut tx = store.begin_transaction(&named).unwrap();
    assert!(!is_free(&store, "a") && !is_free(&store, "b"));
    tx.set(&a, 0, 5).unwrap();
    tx.set(&b, 1, 6).unwrap();
    assert_eq!((a.get(0).unwrap(), b.get(1).unwrap()), (0, 0));
    assert!(matches!(store.begin_transaction(&[]), Err(Error::Deadlock { .. })));
    tx.commit().unwrap();
    assert_eq!((a.get(0).unwrap(), b.get(1).unwrap()), (5, 6));

    let mut tx = store.begin_transaction(&named).unwrap();
    tx.set(&a, 0, 7).unwrap();
    drop(tx);
    assert_eq!(a.get(0).unwrap(), 5);
    assert!(is_free(&store, "a") && is_free(&store, "b"));

    // It waits for all of them, and releases those that it holds on timeout.
    let guard = owned(&store, "b");
    let impatient = store.clone().with_lock_timeout(SHORT);
    let refused = std::thread::scope(|scope| {
        let other = scope.spawn(|| impatient.begin_transaction(&named).map(drop));
        other.join().unwrap()
    });
    assert!(matches!(refused, Err(Error::LockTimeout { .. })));
    assert!(is_free(&store, "a"));
    drop(guard);

    let buffer = store.buffer::<u8>("buffer", 4).unwrap();
    assert!(matches!(store.begin_transaction(&[buffer.into()]), Err(Error::Invalid { .. })));
    let other = Store::temporary().unwrap().value::<u8>("x").unwrap();
    assert!(matches!(store.begin_transaction(&[other.into()]), Err(Error::Invalid { .. })));
    drop(store.begin_transaction(&[]).unwrap());
}
