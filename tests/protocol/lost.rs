//! Locks that are lost although their holder lives, which the protocol never causes; and threads
//! that others always outpace.

use std::cell::Cell;
use std::sync::atomic::Ordering::{self, Relaxed};
use std::time::Duration;

use super::Failure;
use super::loom_store::{BEGIN, Cells, Store, WIDTH};
use crate::protocol::{
    self as shipping, Change, Control, Deadline, FREE, Form, Held, Memory, NoMarks, Peers,
    Replacement, Segments, Sleepers, TxnState, commit_all, load_scalar, lock, read_bytes,
};

/// All of the transaction is undone, as by a recovery; under a guard of X if `guarded`.
fn a_transaction_loses_y(guarded: bool) {
    loom::model(move || {
        let store = Store::new(Cells::Packed, 2);
        let peer = store.peer(1);
        let deadline = &mut Deadline::new(None);
        let (on_x, on_y) = ((&*store.x, &peer), (&*store.y, &peer));
        let mut x = lock(on_x, deadline).unwrap();
        let y = lock(on_y, deadline).unwrap();
        let seen = store.y.control(Relaxed);
        let taken = seen.advanced(2).with_owner(FREE).with_transaction(false);
        store.y.swap_control(seen, taken, Relaxed).unwrap();
        let mut guard = None;
        if guarded {
            let nested = Held::under_guard((&*store.x, &peer), 1).unwrap();
            guard = Some(std::mem::replace(&mut x, nested));
        }
        let area = Change::Area(Replacement { areas: &store.areas(), at: 0, data: &[1; 8] });
        let changes = [(x, Change::Scalar(1)), (y, area)];
        assert!(matches!(commit_all(&peer, 1, &changes[..]), Err(Failure::Evicted)));
        assert_eq!(peer.txn_word(1, Relaxed), TxnState::Idle);
        assert_eq!(store.y.control(Relaxed), taken);
        let expected = |owner| (owner, BEGIN + 1, false);
        let is = |control: Control| (control.owner(), control.version(), control.in_transaction());
        if let Some(mut guard) = guard {
            assert_eq!(is(store.x.control(Relaxed)), expected(1));
            guard.follow_updates();
        }
        assert_eq!(is(store.x.control(Relaxed)), expected(FREE));
        assert_eq!(load_scalar(&*store.x, &peer), 0);
    });
}

#[test]
fn a_transaction_that_lost_a_lock_is_undone() {
    a_transaction_loses_y(false);
}

#[test]
pub(super) fn an_undone_transaction_leaves_the_guard() {
    a_transaction_loses_y(true);
}

/// Nothing is stored under a lock that was taken away, nor under another's.
#[test]
fn no_update_stores_under_a_guard_that_was_taken_away() {
    loom::model(|| {
        let store = Store::new(Cells::Packed, 2);
        let peer = store.peer(1);
        let deadline = &mut Deadline::new(None);
        let guard = lock((&*store.y, &peer), deadline).unwrap();
        let seen = store.y.control(Relaxed);
        for owner in [FREE, 2] {
            let taken = store.y.control(Relaxed).advanced(2).with_owner(owner);
            store.y.swap_control(store.y.control(Relaxed), taken, Relaxed).unwrap();
            assert!(matches!(Held::under_guard((&*store.y, &peer), 1), Err(Failure::Evicted)));
        }
        // If the same thread takes it anew, it is another lock.
        let anew = store.y.control(Relaxed).advanced(2).with_owner(1);
        store.y.swap_control(store.y.control(Relaxed), anew, Relaxed).unwrap();
        assert!(!seen.same(anew));
        assert!(!guard.is_held());
        drop(guard);
        assert_eq!(store.y.control(Relaxed), anew);
    });
}

#[test]
pub(super) fn a_reader_without_an_entry_reads_what_changes_while_it_copies() {
    loom::model(|| {
        let store = Store::new(Cells::Packed, 2);
        store.y.outpaces_readers.store(true, Relaxed);
        let mut out = [1; 8 * WIDTH];
        let version = read_bytes(&*store.y, &store.peer(FREE), &store.areas(), 0, &mut out[..]);
        assert_eq!((version, out), (store.y.control(Relaxed).version(), [0; 8 * WIDTH]));
    });
}

/// A lock that is free at every look, and taken at every try.
struct AlwaysTaken {
    tries: Cell<u64>,
}

impl Memory for AlwaysTaken {
    type Marks = NoMarks;

    fn form(&self) -> Form {
        Form::Lock
    }

    fn slot_id(&self) -> u64 {
        0
    }

    fn marks(&self) -> Option<(&NoMarks, Segments)> {
        None
    }

    fn control(&self, _: Ordering) -> Control {
        Control::default()
    }

    fn swap_control(&self, old: Control, _: Control, _: Ordering) -> Result<(), Control> {
        self.tries.set(self.tries.get() + 1);
        assert!(self.tries.get() < 1_000_000, "it never gives up");
        Err(old.with_owner(2))
    }

    fn load(&self, _: usize, _: Ordering) -> u64 {
        unreachable!("the lock is never taken")
    }

    fn store(&self, _: usize, _: u64, _: Ordering) {}

    fn swap_cell(
        &self,
        old: shipping::Cell,
        _: shipping::Cell,
        _: Ordering,
    ) -> Result<(), shipping::Cell> {
        Err(old)
    }

    fn fence(&self, _: Ordering) {}

    fn read(&self, _: usize, _: usize, _: &mut [u8]) {}

    fn write(&self, _: usize, _: usize, _: &[u8]) {}

    fn copy(&self, _: usize, _: usize, _: usize) {}

    fn relax(&self) {}

    fn spin(&self, _: Control) -> bool {
        true
    }

    fn sleep(&self, _: Control, _: Sleepers, _: Duration) -> bool {
        true
    }

    fn wake(&self, _: Sleepers, _: bool) -> bool {
        false
    }

    fn advance_event_count(&self) {}

    fn has_lock_bit(&self) -> bool {
        true
    }
}

#[test]
pub(super) fn a_thread_that_is_always_late_gives_up() {
    loom::model(|| {
        let peer = Store::new(Cells::Packed, 2).peer(1);
        let memory = AlwaysTaken { tries: Cell::new(0) };
        for timeout in [Duration::ZERO, Duration::from_millis(1)] {
            let deadline = &mut Deadline::new(Some(timeout));
            let result = lock((&memory, &peer), deadline);
            assert!(matches!(result, Err(Failure::Timeout(_))));
        }
    });
}
