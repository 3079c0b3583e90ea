//! Where an operation is killed, and what is checked then.

use std::path::Path;
use std::time::Instant;

use slotfile::Store;

use super::world::World;
use crate::common::long;
use crate::common::state::{State, open};
use crate::common::trace::Traced;

/// About how many instructions are run in all for one operation, in the normal form. A longer
/// operation is killed only at every nth.
const BUDGET: u64 = 50_000;

/// An operation of more instructions than these is killed at so many of them after each of
/// its system calls, up to which it runs at full speed; in the normal form at each third of them.
/// (Their number has no divisor in common with what else goes round and round here.)
const LONGEST: u64 = 12_000;
const AFTER_A_CALL: [u64; 13] = [0, 7, 17, 31, 53, 89, 139, 223, 359, 577, 929, 1_499, 2_411];

/// How an operation is killed.
pub(crate) struct Plan<'a> {
    what: &'a str,
    /// Another process has the store open.
    beside_others: bool,
    /// With how many others it shares the time of one operation.
    share: u64,
    /// After how many kills a new store is made.
    lasts: u64,
}

impl<'a> Plan<'a> {
    pub(crate) fn alone(what: &'a str) -> Plan<'a> {
        Plan { what, beside_others: false, share: 1, lasts: 60 }
    }

    pub(crate) fn beside_others(what: &'a str) -> Plan<'a> {
        Plan { beside_others: true, ..Plan::alone(what) }
    }

    pub(crate) fn share(self, share: u64) -> Plan<'a> {
        Plan { share, ..self }
    }

    pub(crate) fn lasts(self, kills: u64) -> Plan<'a> {
        Plan { lasts: kills, ..self }
    }
}

/// The places at which an operation is killed, one after the other.
struct Places {
    /// For a short operation: the number of instructions between two places.
    stride: Option<u64>,
    /// System calls, then instructions.
    now: (u64, u64),
    which: usize,
    /// From one of [`AFTER_A_CALL`] to the next.
    skip: usize,
}

impl Places {
    /// Measures the operation that the child is about to do; prints how long it is.
    fn of(plan: &Plan<'_>, mut child: Traced) -> Places {
        // A definition has 17,000.
        let longest = if long() { 20_000 } else { LONGEST };
        let all = child.step(longest);
        let stride = match (all < longest, long()) {
            (true, true) => Some(1),
            (true, false) => Some(stride_for(all, plan.share)),
            (false, _) => None,
        };
        match stride {
            Some(stride) => println!("{}: {all} instructions, one in {stride}", plan.what),
            None => {
                let calls = child.skip_calls(u64::MAX);
                println!("{}: over {all} instructions, and {calls} calls after these", plan.what);
            }
        }
        let skip = if long() || chosen_stride().is_some() { 1 } else { 3 };
        Places { stride, now: (0, 0), which: 0, skip }
    }

    /// Runs the child to the current place; true if the operation ended before.
    fn reach(&self, child: &mut Traced) -> bool {
        let (calls, instructions) = self.now;
        child.skip_calls(calls) < calls || child.step(instructions) < instructions
    }

    fn advance(&mut self) {
        if let Some(stride) = self.stride {
            self.now.1 += stride;
            return;
        }
        self.which += self.skip;
        if self.which >= AFTER_A_CALL.len() {
            self.which = 0;
            self.now.0 += 1;
        }
        self.now.1 = AFTER_A_CALL[self.which];
    }

    /// Whether nothing is left to try once an operation has ended.
    fn is_last(&self) -> bool {
        self.stride.is_some() || self.now.1 == 0
    }
}

/// Set by `tests/mutants.sh` for finer steps than in the normal form.
fn chosen_stride() -> Option<u64> {
    let stride = std::env::var("SLOTFILE_STRIDE").ok()?;
    Some(stride.parse().expect("SLOTFILE_STRIDE is a number"))
}

/// The step with which about [`BUDGET`] instructions are run in all; a prime, so that it does not
/// coincide with a loop.
fn stride_for(all: u64, share: u64) -> u64 {
    if let Some(stride) = chosen_stride() {
        return stride;
    }
    let least = (all * all / 2 / (BUDGET / share)).max(1);
    let is_prime = |n: u64| (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    (least..).find(|n| is_prime(*n)).unwrap()
}

/// Kills a process at each instruction of an operation, or at every so many.
///
/// `prepare` makes the store ready, and says in which states a reader may see it from then
/// on, in order; `operation` runs in the process, and marks where it begins and ends. `then`
/// is told, after each kill, which state it is, and whether the operation was over.
pub(crate) fn kill_everywhere(
    plan: Plan<'_>,
    world: &mut World,
    prepare: impl Fn(&mut World) -> Vec<State>,
    operation: impl Fn(&Path, u64),
    then: impl Fn(&mut World, &State, bool),
) {
    let Plan { what, beside_others, lasts, .. } = plan;
    let began = Instant::now();
    let (mut places, mut points, mut torn_off) = (None, 0, 0);
    loop {
        world.round += 1;
        world.age += 1;
        if world.age > lasts {
            world.renew();
        }
        let states = prepare(world);
        let (path, round) = (world.path.clone(), world.round);
        // It recovers nothing that `prepare` has left.
        let reader = beside_others.then(|| Store::open_read_only(&path).unwrap());
        let mut victim = Traced::start(|| operation(&path, round));
        let Some(places) = &mut places else {
            drop(reader);
            places = Some(Places::of(&plan, victim));
            world.renew();
            continue;
        };
        let over = places.reach(&mut victim);
        let at = format!("{what}, killed at {:?}", places.now);
        let seen = |store: &Store| {
            let now = State::of(store);
            let place = states.iter().position(|state| *state == now);
            place.unwrap_or_else(|| panic!("{at}: torn:\n{now:?}\nis none of\n{states:?}"))
        };
        // It is stopped now, perhaps inside an update; then it is dead.
        let paused = reader.as_ref().map(seen);
        victim.kill();
        let place = match &reader {
            Some(reader) => seen(reader),
            None => seen(&open(&path)),
        };
        assert_eq!(paused.unwrap_or(place), place, "{at}: its death changed it");
        assert!(!over || place + 1 == states.len(), "{at}: it was over");
        torn_off += u64::from(place + 1 < states.len());
        then(world, &states[place], over);
        drop(reader);
        points += 1;
        if over && places.is_last() {
            break;
        }
        places.advance();
    }
    world.check_from_scratch();
    let took = began.elapsed();
    println!("{what}: killed at {points} points, {torn_off} of them before its end; {took:?}");
}

/// The usual case: others are attached, and continue.
pub(crate) fn kill_beside_others(
    what: &str,
    operation: impl Fn(&Path, u64),
    states: impl Fn(&State, u64) -> Vec<State>,
) {
    let prepare = |world: &mut World| states(&world.state(), world.round);
    let then = |world: &mut World, found: &State, _| world.next_process(found);
    kill_everywhere(Plan::beside_others(what), &mut World::new(), prepare, operation, then);
}
