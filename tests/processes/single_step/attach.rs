//! Joining a store, taking an entry of its process table, and leaving it.

use std::path::Path;
use std::time::Duration;

use super::kill::{Plan, kill_beside_others, kill_everywhere};
use super::world::{World, array, claim, number, value, with_array};
use crate::common::apart_to_trace;
use crate::common::state::{State, open, options, restart};
use crate::common::trace::mark;

/// A thread's first step that needs a lock takes an entry of the process table.
#[test]
fn row_01_killed_at_any_instruction_of_claiming_an_entry() {
    if !apart_to_trace("attach::row_01_killed_at_any_instruction_of_claiming_an_entry") {
        return;
    }
    let run = |path: &Path, round| {
        let store = open(path);
        let array = array(&store);
        mark();
        array.set(3, round).unwrap();
        mark();
    };
    kill_beside_others("first update, with a claim", run, |old, round| {
        vec![old.clone(), with_array(old, |a| a[3] = round)]
    });
}

/// The first page of the table has 64 entries: the next one needs another page.
#[test]
fn row_01_killed_at_any_instruction_of_claiming_an_entry_of_a_new_page() {
    if !apart_to_trace(
        "attach::row_01_killed_at_any_instruction_of_claiming_an_entry_of_a_new_page",
    ) {
        return;
    }
    let run = |path: &Path, round| {
        let store = open(path);
        let array = array(&store);
        let value = value(&store);
        let locked = std::sync::Barrier::new(65);
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    drop(value.lock().unwrap());
                    locked.wait();
                    std::thread::sleep(Duration::from_secs(3_000));
                });
            }
            locked.wait();
            mark();
            array.set(3, round).unwrap();
            mark();
            std::process::exit(0);
        });
    };
    let prepare = |world: &mut World| {
        world.renew();
        let old = world.state();
        vec![old.clone(), with_array(&old, |a| a[3] = world.round)]
    };
    let then = |world: &mut World, found: &State, _| world.next_process(found);
    let plan = Plan::beside_others("first update, with a claim of a new page").share(4);
    kill_everywhere(plan, &mut World::new(), prepare, run, then);
}

#[test]
fn row_01_killed_at_any_instruction_of_attach() {
    if !apart_to_trace("attach::row_01_killed_at_any_instruction_of_attach") {
        return;
    }
    let run = |path: &Path, _| {
        mark();
        let store = open(path);
        mark();
        drop(store);
    };
    kill_beside_others("attach beside others", run, |old, _| vec![old.clone()]);
    let prepare = |world: &mut World| vec![world.state()];
    let then = |world: &mut World, found: &State, _| world.next_process(found);
    kill_everywhere(Plan::alone("attach alone"), &mut World::new(), prepare, run, then);
}

#[test]
fn row_01_killed_at_any_instruction_of_detach() {
    if !apart_to_trace("attach::row_01_killed_at_any_instruction_of_detach") {
        return;
    }
    let run = |path: &Path, round| {
        // A period without end, so that only leaving syncs.
        let store = options().sync_every(Some(Duration::from_secs(3_000))).open(path).unwrap();
        claim(&store);
        value(&store).store(round).unwrap();
        store.sync().unwrap();
        array(&store).update(|a| a.fill(round)).unwrap();
        // Its thread sleeps by now, and does not leave last.
        std::thread::sleep(Duration::from_millis(3));
        mark();
        drop(store);
        mark();
    };
    // The array as synced before the victim; then as the victim changes it.
    let prepare = |world: &mut World| {
        let store = open(&world.path);
        array(&store).update(|a| a.fill(0)).unwrap();
        store.sync().unwrap();
        world.synced = State::of(&store);
        let synced = world.synced.with("value", number(world.round));
        vec![with_array(&synced, |a| a.fill(world.round))]
    };
    let then = |world: &mut World, found: &State, over: bool| {
        if world.round.is_multiple_of(2) {
            return world.next_process(found);
        }
        // What the victim itself had synced: all but the array, known only to it.
        restart(&world.path);
        let now = State::of(&open(&world.path));
        assert_eq!(now.without("array"), found.without("array"), "what was synced is lost");
        let whole = now.0["array"] == found.0["array"];
        assert!(
            whole || now.0["array"] == world.synced.0["array"],
            "no state that ever was: {now:?}"
        );
        assert!(whole || !over, "whoever has left has synced");
        world.synced = now;
    };
    kill_everywhere(Plan::alone("leave, the last"), &mut World::new(), prepare, run, then);
}
