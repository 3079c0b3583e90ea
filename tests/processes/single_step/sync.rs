//! Syncs, and the restore after a restart.

use std::path::Path;

use super::kill::{Plan, kill_everywhere};
use super::world::{LARGE, World, array, claim, value};
use crate::common::apart_to_trace;
use crate::common::state::{State, open, restart};
use crate::common::trace::mark;

/// Killed in a sync: a restart returns the last acknowledged sync, or this one, with all slots of
/// the same; and later syncs work.
#[test]
fn row_04_killed_at_any_instruction_of_sync() {
    if !apart_to_trace("sync::row_04_killed_at_any_instruction_of_sync") {
        return;
    }
    let prepare = |world: &mut World| {
        let round = world.round;
        let store = open(&world.path);
        value(&store).store(round).unwrap();
        array(&store).update_range(3..9, |a| a.fill(round)).unwrap();
        store.array::<u64>("large", LARGE).unwrap().set(round as usize % LARGE, round).unwrap();
        if round.is_multiple_of(4) {
            store.value::<u64>(&format!("more {round}")).unwrap();
        }
        vec![State::of(&store)]
    };
    let run = |path: &Path, _| {
        let store = open(path);
        claim(&store);
        mark();
        store.sync().unwrap();
        mark();
    };
    let next_process_syncs = |world: &mut World, found: &State| {
        world.next_process(found);
        let store = open(&world.path);
        store.sync().unwrap();
        world.synced = State::of(&store);
    };
    let then = |world: &mut World, found: &State, over: bool| {
        let synced = world.synced.clone();
        match world.round % 3 {
            _ if over => world.restart_to_one_of(&[found]),
            0 => world.restart_to_one_of(&[&synced, found]),
            1 => {
                // The next sync does not build on the killed one: it writes all of it again.
                let store = open(&world.path);
                value(&store).store(0).unwrap();
                store.sync().unwrap();
                let good = State::of(&store);
                drop(store);
                world.restart_to_one_of(&[&good]);
            }
            _ => next_process_syncs(world, found),
        }
    };
    kill_everywhere(Plan::alone("sync alone"), &mut World::new(), prepare, run, then);
    // A reader has it open, so the next process joins, and finds the lock held. After a restart
    // no process may have it open.
    let mut world = World::new();
    let then = |world: &mut World, found: &State, _| next_process_syncs(world, found);
    kill_everywhere(Plan::beside_others("sync beside others"), &mut world, prepare, run, then);
    let synced = world.synced.clone();
    world.restart_to_one_of(&[&synced]);
}

/// Killed while it restores after a restart: the next opener restores again.
#[test]
fn row_04_killed_at_any_instruction_of_restoring() {
    if !apart_to_trace("sync::row_04_killed_at_any_instruction_of_restoring") {
        return;
    }
    let prepare = |world: &mut World| {
        let store = open(&world.path);
        value(&store).store(world.round).unwrap();
        if world.round.is_multiple_of(2) {
            store.sync().unwrap();
            world.synced = State::of(&store);
        }
        array(&store).update(|a| a.fill(world.round)).unwrap();
        store.value::<u64>(&format!("later {}", world.round)).unwrap();
        drop(store);
        restart(&world.path);
        vec![world.synced.clone()]
    };
    let run = |path: &Path, _| {
        mark();
        let store = open(path);
        mark();
        drop(store);
    };
    let then = |world: &mut World, found: &State, _| world.next_process(found);
    // Otherwise there is ever more to restore.
    let plan = Plan::alone("restore").lasts(10);
    kill_everywhere(plan, &mut World::new(), prepare, run, then);
}
