//! What a fork has copied is not the child's; nor what was taken away from its holder's.

use std::sync::atomic::Ordering::Relaxed;

use super::loom_store::{BEGIN, Cells, Peer, Slot, Store};
use crate::protocol::{
    CONTROL, Change, FREE, Failure, Form, Held, Memory, Patience, Peers, Word, commit_all,
    load_scalar, lock, remove,
};

/// Locks the array, forks, and lets the child use its copy: it is refused, and nothing
/// has changed in the array's memory.
fn refused(use_copy: impl Fn(Held<'_, Slot, Peer>, &Store) -> Result<(), Failure>) {
    let store = Store::new(Cells::Packed, 2);
    let peer = store.peer(1);
    let areas = store.areas();
    let words = || -> Vec<u64> {
        let end = areas.first + areas.stride * areas.count as usize;
        (CONTROL..end).map(|word| store.y.load(word, Relaxed)).collect()
    };
    let held = lock(&*store.y, &peer, store.y.form, &mut Patience::new(None)).unwrap();
    let before = words();
    peer.fork();
    assert!(matches!(use_copy(held, &store), Err(Failure::Evicted)));
    assert_eq!(words(), before);
}

/// The parent may be in the middle of the same update: a word that its child stored into
/// the next area would be committed with it.
#[test]
fn the_child_of_a_fork_does_nothing_with_its_parents_lock() {
    loom::model(|| {
        refused(|held, store| held.commit(&store.areas(), 0, &[1; 8]).map(drop));
        refused(|held, store| {
            let change = Change::Area { areas: store.areas(), at: 0, data: &[1; 8] };
            commit_all(&store.peer(1), 1, vec![(held, change)])
        });
        refused(|held, store| remove(held, store.y.form));
        refused(|held, _| {
            drop(held);
            Err(Failure::Evicted)
        });
    });
}

/// The protocol takes no lock away from the living. Where it has happened all the same, all
/// of the transaction is undone, as a burial would.
#[test]
fn a_transaction_that_has_lost_a_lock_is_undone() {
    loom::model(|| {
        let store = Store::new(Cells::Packed, 2);
        let peer = store.peer(1);
        let patience = &mut Patience::new(None);
        let x = lock(&*store.x, &peer, Form::Scalar, patience).unwrap();
        let y = lock(&*store.y, &peer, store.y.form, patience).unwrap();
        let seen = store.y.control(Relaxed);
        let taken = seen.advanced(2).with_owner(FREE);
        store.y.swap_control(seen, taken, Relaxed).unwrap();
        let area = Change::Area { areas: store.areas(), at: 0, data: &[1; 8] };
        let changes = vec![(x, Change::Scalar(1)), (y, area)];
        assert!(matches!(commit_all(&peer, 1, changes), Err(Failure::Evicted)));
        assert_eq!(peer.word(1, Relaxed), Word::Idle);
        assert_eq!(store.y.control(Relaxed), taken);
        let x = store.x.control(Relaxed);
        assert_eq!((x.owner(), x.version(), x.in_transaction()), (FREE, BEGIN + 1, false));
        assert_eq!(load_scalar(&*store.x, &peer), 0);
    });
}
