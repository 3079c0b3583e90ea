//! Transactions of three slots, one of each kind.

use std::path::Path;

use slotfile::{Data, Error, Store};

use super::kill::{Plan, kill_beside_others, kill_everywhere};
use super::world::{World, array, claim, number, value, with_array};
use crate::common::apart_to_trace;
use crate::common::state::{State, open};
use crate::common::trace::{Traced, mark};

fn text_of(round: u64) -> String {
    format!("of round {round}")
}

/// Changes a scalar, a range of an array, and a text.
fn transaction(path: &Path, round: u64) {
    let store = open(path);
    claim(&store);
    let (value, array, text) = (value(&store), array(&store), store.text("text", 40).unwrap());
    let content = text_of(round);
    mark();
    store
        .transaction(|tx| {
            tx.store(&value, round)?;
            tx.update_range(&array, 7..16, |a| a.fill(round))?;
            tx.store(&text, &content)?;
            Ok::<_, Error>(())
        })
        .unwrap();
    mark();
}

fn done(old: &State, round: u64) -> State {
    let new = old.with("value", number(round)).with("text", Data::from(text_of(round)));
    with_array(&new, |a| a[7..16].fill(round))
}

#[test]
fn row_01_killed_at_any_instruction_of_a_transaction_of_three_slots() {
    if !apart_to_trace(
        "transaction::row_01_killed_at_any_instruction_of_a_transaction_of_three_slots",
    ) {
        return;
    }
    kill_beside_others("transaction of three slots", transaction, |old, round| {
        vec![old.clone(), done(old, round)]
    });
}

/// A process that dies in a transaction leaves all of it or nothing, even if the process that
/// recovers it is killed, too.
#[test]
fn row_02_killed_at_any_instruction_of_burying_a_transaction() {
    if !apart_to_trace("transaction::row_02_killed_at_any_instruction_of_burying_a_transaction") {
        return;
    }
    let length = {
        let world = World::new();
        Traced::start(|| transaction(&world.path, 1)).step(u64::MAX)
    };
    let recover = |path: &Path, _| {
        let store: Store = open(path);
        claim(&store);
        let (array, text) = (array(&store), store.text("text", 40).unwrap());
        mark();
        drop(text.lock().unwrap());
        drop(array.lock().unwrap());
        mark();
    };
    // Its last part is the commit; some places are before the commit point, some after.
    for part in [80, 84, 87] {
        let dies_at = length * part / 100;
        let prepare = |world: &mut World| {
            let (old, round) = (world.state(), 3_000_000 + world.round);
            Traced::start(|| transaction(&world.path, round)).step(dies_at);
            let now = world.state();
            let whole = now == old || now == done(&old, round);
            assert!(whole, "dead at {dies_at} of {length}: {now:?}\n{old:?}");
            vec![now]
        };
        let what = format!("recovery of a transaction dead at {dies_at} of {length}");
        let then = |world: &mut World, found: &State, _| world.next_process(found);
        let plan = Plan::beside_others(&what).share(6);
        kill_everywhere(plan, &mut World::new(), prepare, recover, then);
    }
}
