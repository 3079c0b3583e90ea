//! Updates of values and arrays, and locks.

use std::path::Path;
use std::time::Instant;

use slotfile::Store;

use super::kill::{Plan, kill_beside_others, kill_everywhere};
use super::world::{World, array, claim, number, value, with_array};
use crate::common::state::{State, open};
use crate::common::trace::{Traced, mark};
use crate::common::{apart_to_trace, long};

#[test]
fn row_01_killed_at_any_instruction_of_a_scalar_update() {
    if !apart_to_trace("update::row_01_killed_at_any_instruction_of_a_scalar_update") {
        return;
    }
    let run = |path: &Path, round| {
        let store = open(path);
        let value = value(&store);
        mark();
        value.store(round).unwrap();
        mark();
    };
    kill_beside_others("scalar update", run, |old, round| {
        vec![old.clone(), old.with("value", number(round))]
    });
}

#[test]
fn row_01_killed_at_any_instruction_of_an_array_update() {
    if !apart_to_trace("update::row_01_killed_at_any_instruction_of_an_array_update") {
        return;
    }
    let whole = |path: &Path, round| {
        let store = open(path);
        claim(&store);
        let array = array(&store);
        mark();
        array.update(|a| a.fill(round)).unwrap();
        mark();
    };
    kill_beside_others("whole array", whole, |old, round| {
        vec![old.clone(), with_array(old, |a| a.fill(round))]
    });
    let range = |path: &Path, round| {
        let store = open(path);
        claim(&store);
        let array = array(&store);
        mark();
        array.update_range(7..16, |a| a.fill(round)).unwrap();
        mark();
    };
    kill_beside_others("range of an array", range, |old, round| {
        vec![old.clone(), with_array(old, |a| a[7..16].fill(round))]
    });
}

/// Also where the thread looks on which processor it runs. A replacement is one step, too.
#[test]
fn row_01_killed_at_any_instruction_of_a_counter() {
    if !apart_to_trace("update::row_01_killed_at_any_instruction_of_a_counter") {
        return;
    }
    let add = |path: &Path, round: u64| {
        let counter = open(path).counter("counter").unwrap();
        mark();
        counter.add(round as i64).unwrap();
        mark();
    };
    let replace = |path: &Path, round: u64| {
        let store = open(path);
        claim(&store);
        let counter = store.counter("counter").unwrap();
        mark();
        counter.store(-(round as i64)).unwrap();
        mark();
    };
    let before = |world: &World| {
        let counter = open(&world.path).counter("counter").unwrap();
        counter.add(5).unwrap();
        (world.state(), counter.load())
    };
    let then = |world: &mut World, found: &State, _: bool| world.next_process(found);
    let prepare = |world: &mut World| {
        let (old, sum) = before(world);
        vec![old.clone(), old.with("counter", sum + world.round as i64)]
    };
    let plan = Plan::beside_others("counter");
    kill_everywhere(plan, &mut World::new(), prepare, add, then);
    let prepare = |world: &mut World| {
        let (old, _) = before(world);
        vec![old.clone(), old.with("counter", -(world.round as i64))]
    };
    let plan = Plan::beside_others("replaced counter");
    kill_everywhere(plan, &mut World::new(), prepare, replace, then);
}

#[test]
fn row_01_killed_at_any_instruction_of_taking_and_leaving_a_lock() {
    if !apart_to_trace("update::row_01_killed_at_any_instruction_of_taking_and_leaving_a_lock") {
        return;
    }
    let run = |path: &Path, round| {
        let store = open(path);
        claim(&store);
        let array = array(&store);
        mark();
        let guard = array.lock().unwrap();
        array.set(1, round).unwrap();
        array.set(2, round).unwrap();
        drop(guard);
        mark();
    };
    kill_beside_others("lock, two updates, unlock", run, |old, round| {
        let first = with_array(old, |a| a[1] = round);
        let second = with_array(&first, |a| a[2] = round);
        vec![old.clone(), first, second]
    });
}

/// A reader is stopped inside its copy; meanwhile one writer commits, and a second one is
/// killed while it fills the very area that the reader copies. It is recovered, and the reader
/// continues: it must notice, although the last committed version is the same.
#[test]
fn row_01_a_reader_never_accepts_what_a_killed_writer_has_half_written() {
    if !apart_to_trace(
        "update::row_01_a_reader_never_accepts_what_a_killed_writer_has_half_written",
    ) {
        return;
    }
    let began = Instant::now();
    let world = World::new();
    let path = &world.path;
    let store = open(path);
    // So long that copying it takes hundreds of instructions: copies of 256 bytes take fewer than
    // there are between two points.
    const LONG: usize = 512;
    let long_array = |store: &Store| store.array::<u64>("long", LONG).unwrap();
    let shared = long_array(&store);
    let load = || {
        let store = Store::open_read_only(path).unwrap();
        let array = long_array(&store);
        let mut now = [0; LONG];
        array.load_into(&mut now);
        mark();
        array.load_into(&mut now);
        assert!(now.iter().all(|x| *x == now[0]), "torn: {now:?}");
        mark();
    };
    let fill = |with: u64| {
        let store = open(path);
        claim(&store);
        let array = long_array(&store);
        mark();
        array.update(|a| a.fill(with)).unwrap();
        mark();
    };
    let reading = Traced::start(load).step(u64::MAX);
    let filling = Traced::start(|| fill(2)).step(u64::MAX);
    let (read_stride, fill_stride) = if long() { (17, 131) } else { (131, 331) };
    let (mut points, mut round) = (0, 10);
    for read_at in (20..reading).step_by(read_stride) {
        for fill_at in (filling / 4..filling).step_by(fill_stride) {
            round += 2;
            let mut reader = Traced::start(load);
            reader.step(read_at);
            shared.update(|a| a.fill(round)).unwrap();
            let mut writer = Traced::start(|| fill(round + 1));
            writer.step(fill_at);
            writer.kill();
            drop(shared.lock().unwrap());
            reader.finish();
            points += 1;
        }
    }
    println!(
        "{points} pairs of points ({reading} x {filling} instructions); {:?}",
        began.elapsed()
    );
}
