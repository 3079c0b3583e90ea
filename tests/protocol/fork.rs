//! The child of a fork has no part in its parent's locks.

use std::sync::atomic::Ordering::Relaxed;

use super::Failure;
use super::loom_store::{Cells, Peer, Slot, Store};
use crate::protocol::{CONTROL, Change, Deadline, Held, Memory, Replacement, commit_all, lock};

/// Locks the array, forks, and lets the child use its copy of the lock. The child must be refused,
/// and nothing may change in the array's memory.
fn refused(use_copy: impl Fn(Held<(&Slot, &Peer)>, &Store, &Peer) -> Result<(), Failure>) {
    let store = Store::new(Cells::Packed, 2);
    let peer = store.peer(1);
    let areas = store.areas();
    let words = || -> Vec<u64> {
        let end = areas.first + areas.stride * areas.count as usize;
        (CONTROL..end).map(|word| store.y.load(word, Relaxed)).collect()
    };
    let held = lock((&*store.y, &peer), &mut Deadline::new(None)).unwrap();
    let before = words();
    peer.fork();
    assert!(matches!(use_copy(held, &store, &peer), Err(Failure::Evicted)));
    assert_eq!(words(), before);
}

/// The parent may be in the middle of the same update: it would commit whatever its child stored
/// into the next area.
#[test]
fn the_child_of_a_fork_stores_nothing_under_its_parents_lock() {
    loom::model(|| {
        refused(|held, store, _| held.commit(&store.areas(), 0, &[1; 8]).map(drop));
        refused(|held, store, peer| {
            let change = Change::Area(Replacement { areas: &store.areas(), at: 0, data: &[1; 8] });
            commit_all(peer, 1, &[(held, change)][..])
        });
        refused(|held, _, _| held.remove());
        refused(|held, _, _| {
            drop(held);
            Err(Failure::Evicted)
        });
    });
}
