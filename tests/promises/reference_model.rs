//! Any sequence of operations, against a plain map as the reference: after each, the store holds
//! what the map holds, and `check` finds nothing. Also if a process is killed in an operation.
//! `SLOTFILE_SEED` runs one seed alone.

use std::time::Duration;

use crate::common;
use crate::common::model::{self, Model, Op, Slots, Source};
use crate::common::{Child, number, path, role, rounds, store_in};
use slotfile::{Data, Define, Store};

impl Source for fastrand::Rng {
    fn below(&mut self, n: usize) -> usize {
        self.usize(0..n)
    }
}

/// A place where a flush costs nothing: no power is cut here.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| common::folder())
}

/// Runs `f` with each seed; a failure says which it was.
fn with_seeds(count: usize, f: impl Fn(u64)) {
    let one = std::env::var("SLOTFILE_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = one.map_or(0..count as u64, |seed| seed..seed + 1);
    for seed in seeds {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(seed)));
        if let Err(panic) = result {
            eprintln!("with SLOTFILE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn any_sequence_of_operations_is_as_a_map_says() {
    with_seeds(rounds(30, 1_000), |seed| {
        let folder = folder();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut model = Model::new(&store_in(&folder));
        for _ in 0..random.usize(20..100) {
            let op = model::some_op(&mut random, &model.now, true);
            model.apply(&op);
        }
    });
}

/// The number of completed operations. It is a slot like any other, so that a restart takes it
/// back together with them.
const DONE: &str = "done";

fn count(slots: &Slots) -> u64 {
    match &slots[DONE].data {
        Data::Scalar(slotfile::Scalar::U64(done)) => *done,
        other => panic!("{other:?}"),
    }
}

/// The operation that a child does next, which only depends on the slots.
fn next_op(random: &mut fastrand::Rng, slots: &Slots) -> Op {
    let mut others = slots.clone();
    others.remove(DONE);
    model::some_op(random, &others, false)
}

/// The child: operations until it is killed, each counted when it is done.
fn work() {
    let store = model::open(&path());
    let mut random = fastrand::Rng::with_seed(number());
    let mut slots = model::contents(&store);
    let mut left = store.info().unwrap().definitions_left;
    let done = store.value::<u64>(DONE).unwrap();
    loop {
        let op = next_op(&mut random, &slots);
        model::apply_to_map(&op, &mut slots, &mut left);
        model::apply_to_store(&op, &store);
        done.fetch_add(1).unwrap();
    }
}

/// The same operations in a map: the possible states after the child was killed, and those that
/// a restart may return to.
fn follow(seed: u64, model: &mut Model, before: &Slots, mut left: u64, store: &Store) {
    let (mut random, mut slots) = (fastrand::Rng::with_seed(seed), before.clone());
    let first = count(before);
    let there = model::contents(store);
    let last = count(&there);
    // Without versions: a process that was killed leaves some unused.
    let forget = |slots: &mut Slots| slots.values_mut().for_each(|slot| slot.version = None);
    let set_done = |slots: &mut Slots, done: u64| {
        slots.get_mut(DONE).unwrap().data = done.into();
    };
    for done in first..=last {
        set_done(&mut slots, done);
        let op = next_op(&mut random, &slots);
        let here = slots.clone();
        model::apply_to_map(&op, &mut slots, &mut left);
        if let Op::Sync = op {
            let mut synced = here.clone();
            forget(&mut synced);
            if done < last {
                model.synced.clear();
            }
            model.synced.push(synced);
        }
        if done == last {
            // The last operation may have been done, or not.
            let mut expected = [here, slots.clone()];
            expected.iter_mut().for_each(forget);
            let found = expected.iter().find(|e| model::is_as_expected(&there, e));
            let Some(_) = found else { panic!("{op:?}: {there:?}\nis none of\n{expected:?}") };
        }
    }
    model.now = there;
}

#[test]
fn whoever_is_killed_leaves_what_a_map_says() {
    const NAME: &str = "whoever_is_killed_leaves_what_a_map_says";
    if role().is_some() {
        return work();
    }
    with_seeds(rounds(6, 200), |seed| {
        let folder = folder();
        let path = store_in(&folder);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut model = Model::new(&path);
        let done = slotfile::SlotType::Value(slotfile::ScalarType::U64);
        for _ in 0..8 {
            // A restart has returned to before it was defined.
            model.store().define(DONE, &done, Define::new()).unwrap();
            model.now = model::contents(model.store());
            let before = model.now.clone();
            let left = model.store().info().unwrap().definitions_left;
            // Kept open here meanwhile, or not.
            let stays = random.bool();
            if !stays {
                model.close();
            }
            let child_seed = random.u64(..);
            let child = Child::spawn_with(NAME, "work", &path, child_seed);
            std::thread::sleep(Duration::from_micros(random.u64(3_000..25_000)));
            child.kill();
            drop(child);
            if !stays {
                model.reopen();
            }
            let store = model::open(&path);
            follow(child_seed, &mut model, &before, left, &store);
            drop(store);
            model.compare();
            match random.u32(0..4) {
                0 => model.apply(&Op::Restart),
                1 => model.apply(&Op::Copy),
                2 => model.apply(&Op::Sync),
                _ => {}
            }
            // The child may have used up most of the definitions.
            if model.store().info().unwrap().definitions_left < 24 {
                model.apply(&Op::Compact);
            }
        }
    });
}
