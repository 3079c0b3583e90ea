//! Defining and removing slots.

use std::path::Path;

use slotfile::{Define, Elements, Scalar, ScalarType, Store};

use super::kill::{Plan, kill_beside_others, kill_everywhere};
use super::world::{World, claim, numbers};
use crate::common::apart_to_trace;
use crate::common::state::{State, open};
use crate::common::trace::mark;

#[test]
fn row_01_killed_at_any_instruction_of_define() {
    if !apart_to_trace("define::row_01_killed_at_any_instruction_of_define") {
        return;
    }
    // A new name each time, or a completed definition would be the last. The first definition of a
    // process looks through all slots: more instructions than can be stepped through.
    let run = |path: &Path, round| {
        let store = open(path);
        claim(&store);
        store.value::<u8>(&format!("first{round}")).unwrap();
        let data = [u64::from_le_bytes([round as u8; 8]); 3];
        mark();
        let define = Define::new().initial(data);
        store.array_with::<u64>(&format!("new{round}"), 3, define).unwrap();
        mark();
    };
    kill_beside_others("define", run, |old, round| {
        let content = Elements::from_bytes(ScalarType::U64, vec![round as u8; 24]).unwrap();
        let first = old.with(&format!("first{round}"), Scalar::U8(0));
        vec![old.clone(), first.clone(), first.with(&format!("new{round}"), content)]
    });
}

/// A definition that needs blocks that the file does not have yet.
#[test]
fn row_01_killed_at_any_instruction_of_growing() {
    if !apart_to_trace("define::row_01_killed_at_any_instruction_of_growing") {
        return;
    }
    const GROWN: usize = 20_000;
    let run = |path: &Path, _| {
        let store = open(path);
        claim(&store);
        mark();
        store.array::<u64>("new", GROWN).unwrap();
        mark();
    };
    kill_beside_others("define that grows the file", run, |old, _| {
        vec![old.clone(), old.with("new", numbers(&vec![0; GROWN]))]
    });
}

/// A definition whose lines reach into a further tier of the directory.
#[test]
fn row_01_killed_at_any_instruction_of_defining_into_a_further_tier() {
    if !apart_to_trace("define::row_01_killed_at_any_instruction_of_defining_into_a_further_tier") {
        return;
    }
    const TIER: usize = 512;
    let with_lines = |store: &Store, name: &str, lines: usize| {
        let doc = "d".repeat(128 * lines - 88 - name.len());
        drop(store.value_with::<u8>(name, Define::new().doc(doc)).unwrap());
    };
    let prepare = |world: &mut World| {
        world.renew();
        let store = open(&world.path);
        let mut lines = store.slots().unwrap().len();
        while lines < TIER - 2 {
            let next = (TIER - 2 - lines).min(32);
            with_lines(&store, &format!("filler {lines}"), next);
            lines += next;
        }
        let old = State::of(&store);
        let first = old.with("first", Scalar::U8(0));
        vec![old, first.clone(), first.with("new", Scalar::U8(0))]
    };
    let run = |path: &Path, _| {
        let store = open(path);
        claim(&store);
        with_lines(&store, "first", 1);
        mark();
        with_lines(&store, "new", 2);
        mark();
    };
    let then = |world: &mut World, found: &State, _| {
        let store = open(&world.path);
        if !found.0.contains_key("new") {
            with_lines(&store, "new", 2);
        }
        with_lines(&store, "newer", 32);
        let check = store.check().unwrap();
        assert!(check.is_ok(), "{:?}", check.problems);
        let now = State::of(&store).without("newer");
        assert_eq!(now, found.with("new", Scalar::U8(0)));
    };
    let plan = Plan::beside_others("define into a further tier").share(4);
    kill_everywhere(plan, &mut World::new(), prepare, run, then);
}

#[test]
fn row_01_killed_at_any_instruction_of_remove() {
    if !apart_to_trace("define::row_01_killed_at_any_instruction_of_remove") {
        return;
    }
    let prepare = |world: &mut World| {
        open(&world.path).array::<u64>("new", 5).unwrap().store(&[7; 5]).unwrap();
        let old = world.state();
        vec![old.clone(), old.without("new")]
    };
    let run = |path: &Path, _| {
        let store = open(path);
        claim(&store);
        mark();
        store.remove("new").unwrap();
        mark();
    };
    let then = |world: &mut World, found: &State, _| world.next_process(found);
    kill_everywhere(Plan::beside_others("remove"), &mut World::new(), prepare, run, then);
}
