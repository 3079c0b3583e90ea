//! A process that recovers a killed one, and is killed at it.

use std::path::Path;

use super::kill::{Plan, kill_everywhere};
use super::world::{World, array, claim, with_array};
use crate::common::apart_to_trace;
use crate::common::state::{State, open};
use crate::common::trace::{Traced, mark};

/// First a writer is killed inside its update, then the process that recovers it, at each
/// instruction. A third finds what the second has left, and what readers have seen.
#[test]
fn row_02_killed_at_any_instruction_of_a_burial() {
    if !apart_to_trace("recoverer::row_02_killed_at_any_instruction_of_a_burial") {
        return;
    }
    let writer = |path: &Path, round| {
        let store = open(path);
        claim(&store);
        let array = array(&store);
        mark();
        array.update(|a| a.fill(round)).unwrap();
        mark();
    };
    // Where the writer dies: many places, some before it has the lock or after.
    let length = {
        let world = World::new();
        Traced::start(|| writer(&world.path, 1)).step(u64::MAX)
    };
    for (what, beside_others) in [("recovery", true), ("settling at opening", false)] {
        for part in [2, 3, 4] {
            let dies_at = length * part / 6;
            let prepare = |world: &mut World| {
                let round = world.round;
                Traced::start(|| writer(&world.path, 3_000_000 + round)).step(dies_at);
                let old = world.state();
                let new = beside_others.then(|| with_array(&old, |a| a[5..12].fill(round)));
                [old].into_iter().chain(new).collect()
            };
            let run = |path: &Path, round: u64| {
                if beside_others {
                    let store = open(path);
                    claim(&store);
                    let array = array(&store);
                    mark();
                    array.update_range(5..12, |a| a.fill(round)).unwrap();
                    mark();
                } else {
                    mark();
                    let store = open(path);
                    mark();
                    drop(store);
                }
            };
            let what = format!("{what} of a writer dead at {dies_at} of {length}");
            let plan = match beside_others {
                true => Plan::beside_others(&what),
                false => Plan::alone(&what),
            };
            let then = |world: &mut World, found: &State, _| world.next_process(found);
            // Three deaths share the time of one operation.
            kill_everywhere(plan.share(3), &mut World::new(), prepare, run, then);
        }
    }
}
