//! The buffer interface for bindings to other languages: a lock that its thread can take again,
//! and that is released without a guard.

use std::time::Duration;

use crate::common;
use crate::common::{os, until};
use slotfile::{Data, Define, Error, RawBuffer, SlotType, Store};

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
const LONG: Option<Duration> = Some(Duration::from_secs(30));

fn raw(store: &Store) -> RawBuffer {
    let buffer = "buffer:u8[100]".parse::<SlotType>().unwrap();
    store.define("raw", &buffer, Define::<Data>::new()).unwrap().raw_buffer().unwrap()
}

/// The lock's state as another thread sees it.
fn elsewhere<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(f).join().unwrap())
}

fn is_free(raw: &RawBuffer) -> bool {
    elsewhere(|| raw.try_acquire().unwrap() && raw.release())
}

#[test]
fn only_buffers_are_raw() {
    let store = Store::temporary().unwrap();
    store.value::<u8>("value").unwrap();
    store.array::<u8>("array", 3).unwrap();
    assert!(store.slot("value").unwrap().raw_buffer().is_none());
    assert!(store.slot("array").unwrap().raw_buffer().is_none());
    let buffer = store.buffer::<u16>("raw", [3, 4]).unwrap();
    let raw = store.slot("raw").unwrap().raw_buffer().unwrap();
    assert_eq!((raw.name(), raw.len()), ("raw", 24));
    assert_eq!(raw.as_ptr(), buffer.as_ptr().cast());
    buffer.store(&[7; 12]).unwrap();
    raw.clear();
    assert_eq!(buffer.load(), [0; 12]);
}

#[test]
fn a_thread_takes_it_again_and_lets_go_as_often() {
    let store = Store::temporary().unwrap();
    let (raw, again) = (raw(&store), raw(&store));
    assert!(!raw.is_locked() && !raw.release());
    raw.acquire(None).unwrap();
    assert!(again.try_acquire().unwrap(), "through whichever handle");
    again.acquire(AT_ONCE).unwrap();
    assert_eq!((raw.depth(), again.depth()), (3, 3));
    for depth in [2, 1] {
        assert!(raw.release());
        assert_eq!(raw.depth(), depth);
        assert!(raw.is_locked() && !is_free(&raw));
    }
    assert!(again.release());
    assert!(!raw.is_locked() && is_free(&raw));
    assert_eq!(raw.depth(), 0);
    assert!(!raw.release());
}

#[test]
fn it_keeps_out_all_others() {
    let store = Store::temporary().unwrap();
    let raw = raw(&store);
    let buffer = store.buffer::<u8>("raw", 100).unwrap();
    raw.acquire(None).unwrap();
    elsewhere(|| {
        assert!(!raw.try_acquire().unwrap());
        assert!(matches!(raw.acquire(AT_ONCE), Err(Error::LockTimeout { .. })));
        assert_eq!(raw.try_with(|| ()), None);
        assert!(!raw.release(), "it is not this thread's");
        assert_eq!(raw.depth(), 0);
    });
    assert_eq!(raw.try_with(|| 5), Some(5));
    assert_eq!(raw.depth(), 1);
    // The slot's own lock, and the holder's own calls.
    assert!(matches!(buffer.lock(), Err(Error::Deadlock { .. })));
    buffer.notify().unwrap();
    assert!(raw.is_locked());
    assert!(raw.release());
    assert_eq!(raw.try_with(|| 5), Some(5));
    assert!(!raw.is_locked());

    let guard = buffer.lock().unwrap();
    assert!(raw.try_acquire().unwrap() && raw.release());
    assert!(raw.is_locked(), "the guard's stays");
    drop(guard);
    assert!(!raw.is_locked());

    store.remove("raw").unwrap();
    assert!(matches!(raw.try_acquire(), Err(Error::Removed { .. })));
    assert!(matches!(raw.acquire(AT_ONCE), Err(Error::Removed { .. })));
    assert_eq!(raw.try_with(|| ()), None);
}

#[test]
fn it_ends_with_its_thread() {
    let store = Store::temporary().unwrap();
    let raw = raw(&store);
    elsewhere(|| raw.acquire(None).unwrap());
    raw.acquire(LONG).unwrap();
    assert_eq!(raw.depth(), 1);
    assert!(raw.release());
}

#[test]
fn row_11_a_child_has_not_got_it_and_gets_it_when_the_parent_is_killed() {
    if !common::apart("row_11_a_child_has_not_got_it_and_gets_it_when_the_parent_is_killed") {
        return;
    }
    let folder = common::folder();
    let store = Store::create(common::store_in(&folder)).unwrap();
    let raw = raw(&store);
    let ready = store.value::<u64>("ready").unwrap();
    let parent = os::fork(|| {
        raw.acquire(None).unwrap();
        let _child = os::fork_and_go_on();
        if raw.depth() == 1 {
            ready.fetch_add(1).unwrap(); // the holder
            loop {
                std::thread::park();
            }
        }
        assert!(!raw.release() && !raw.try_acquire().unwrap());
        ready.fetch_add(1).unwrap();
        raw.acquire(LONG).unwrap();
        ready.fetch_add(1).unwrap();
        os::exit_at_once(0);
    });
    until("both are there", || ready.load() == 2);
    assert!(!raw.try_acquire().unwrap());
    parent.kill();
    until("the child has it", || ready.load() == 3);
    parent.reap();
    // The child has ended without releasing it.
    raw.acquire(LONG).unwrap();
    assert!(raw.release());
}
