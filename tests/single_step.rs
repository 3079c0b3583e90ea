//! Killed at any instruction: one operation is run one instruction at a time, and its
//! process killed after each (of a long operation: after every so many; after each with
//! `SLOTFILE_LONG=1`). Whatever it was at, the update in flight is whole or absent, no lock
//! is left, and everything goes on. The same for whoever puts in order what it has left.
//!
//! `tests/mutants.sh` plants bugs in the library and shows that this turns red.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::trace::{Traced, mark};
use common::{apart, long, within};
use slotfile::{Array, Data, Elements, OpenOptions, Scalar, ScalarType, Store, Value};

/// Elements of the small array, and of the one with units and pages of its own.
const WORDS: usize = 24;
const LARGE: usize = 1_200;

/// About how many instructions are run in all for one operation, in the normal form: what
/// is longer is killed after every so many.
const BUDGET: u64 = 150_000;

/// An operation of more instructions than these is killed at so many of them after each of
/// its system calls, up to which it runs at full speed. (Their number has no divisor in
/// common with what else goes round and round here.)
const LONGEST: u64 = 10_000;
const AFTER_A_CALL: [u64; 13] = [0, 7, 17, 31, 53, 89, 139, 223, 359, 577, 929, 1_499, 2_411];

/// The places at which an operation is killed, one after the other.
struct Places {
    /// Of a short one: so many instructions from one to the next.
    stride: Option<u64>,
    /// System calls, then instructions.
    now: (u64, u64),
    which: usize,
}

impl Places {
    /// Measures an operation, which the child is about to do; says how long it is.
    fn of(what: &str, mut child: Traced, share: u64) -> Places {
        let all = child.step(LONGEST);
        let stride = match (all < LONGEST, long()) {
            (true, true) => Some(1),
            (true, false) => Some(stride_for(all, share)),
            (false, _) => None,
        };
        match stride {
            Some(stride) => println!("{what}: {all} instructions, one in {stride}"),
            None => {
                let calls = child.skip_calls(u64::MAX);
                println!("{what}: over {all} instructions, and {calls} calls after these");
            }
        }
        Places { stride, now: (0, 0), which: 0 }
    }

    /// Has the child run to the current place; true if it was over before.
    fn reach(&self, child: &mut Traced) -> bool {
        let (calls, instructions) = self.now;
        child.skip_calls(calls) < calls || child.step(instructions) < instructions
    }

    fn advance(&mut self) {
        if let Some(stride) = self.stride {
            self.now.1 += stride;
            return;
        }
        self.which += 1;
        self.now.0 += u64::from(self.which >= AFTER_A_CALL.len());
        self.which %= AFTER_A_CALL.len();
        self.now.1 = AFTER_A_CALL[self.which];
    }

    /// Whether a child that was over leaves nothing further to try.
    fn is_last(&self) -> bool {
        self.stride.is_some() || self.now.1 == 0
    }
}

/// All that a store holds, by name.
#[derive(Clone, PartialEq, Default)]
struct State(BTreeMap<String, Data>);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, data) in &self.0 {
            match data {
                Data::Array(elements) => {
                    let bytes = elements.as_bytes();
                    let lows: Vec<u8> = bytes.iter().step_by(8).take(WORDS).copied().collect();
                    let crc = crc32fast::hash(bytes);
                    write!(f, "{name}: lowest bytes {lows:?}, crc {crc:#x}; ")?;
                }
                other => write!(f, "{name}: {other:?}; ")?,
            }
        }
        Ok(())
    }
}

fn state(store: &Store) -> State {
    State(store.slots().unwrap().iter().map(|s| (s.name().to_owned(), s.load())).collect())
}

fn number(n: u64) -> Data {
    Scalar::from(n).into()
}

fn numbers(n: &[u64]) -> Data {
    let bytes = n.iter().flat_map(|n| n.to_le_bytes()).collect();
    Elements::from_bytes(ScalarType::U64, bytes).unwrap().into()
}

/// The same state but for the small array.
fn with_array(state: &State, change: impl FnOnce(&mut [u64])) -> State {
    let Some(Data::Array(elements)) = state.0.get("array") else { panic!("no array") };
    let bytes = elements.as_bytes();
    let mut now: Vec<u64> =
        bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
    change(&mut now);
    with(state, "array", numbers(&now))
}

fn with(state: &State, name: &str, content: Data) -> State {
    let mut state = state.clone();
    state.0.insert(name.to_owned(), content);
    state
}

/// As every process here opens the store: syncs are only made when told, and a lock that is
/// not to be had is an error soon.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).max_slots(2_000).max_size(256 << 20).sync_every(None);
    options.lock_timeout(Some(Duration::from_secs(3)));
    options
}

fn open(path: &Path) -> Store {
    options().open(path).unwrap()
}

fn array(store: &Store) -> Array<u64> {
    store.array("array", WORDS).unwrap()
}

fn value(store: &Store) -> Value<u64> {
    store.value("value").unwrap()
}

/// Takes an entry of the process table for this thread, so that what follows need not.
fn claim(store: &Store) {
    drop(value(store).lock().unwrap());
}

/// Makes the store one of an earlier boot, as a restart of the machine does. Nobody has it
/// open.
fn restart(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x55; 64], 64 * 1024).unwrap();
}

/// A store that goes through one killed process after the other.
struct World {
    /// Removed with this.
    _folder: tempfile::TempDir,
    path: PathBuf,
    /// As of the last sync that was acknowledged.
    synced: State,
    /// Kills so far, and since the store was new.
    round: u64,
    age: u64,
}

impl World {
    fn new() -> World {
        // In memory: what a disk does is not the matter here.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = common::store_in(&folder);
        let mut world = World { _folder: folder, path, synced: State::default(), round: 0, age: 0 };
        world.renew();
        world
    }

    /// Begins with a new store.
    fn renew(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let store = open(&self.path);
        value(&store).store(1).unwrap();
        array(&store).update(|a| a.fill(1)).unwrap();
        store.array::<u64>("large", LARGE).unwrap().update(|a| a.fill(1)).unwrap();
        store.text("text", 40).unwrap().store("at first").unwrap();
        store.sync().unwrap();
        (self.synced, self.age) = (state(&store), 0);
    }

    /// What stands in the way of a next process: nothing. It finds what a reader saw, gets
    /// every lock, makes its own updates, defines and removes.
    fn next_process(&mut self, found: &State) {
        let (path, round) = (&self.path, self.round);
        let store = within(Duration::from_secs(5), "opening", || open(path));
        within(Duration::from_secs(5), "taking all locks", || {
            assert_eq!(state(&store), *found, "the next process finds another state");
            for slot in store.slots().unwrap() {
                drop(slot.lock().unwrap());
            }
            assert_eq!(state(&store), *found, "burying has changed it");
            // Ranges that differ from the victim's: what it has half written must not show.
            let from = (5 * round) as usize % (WORDS - 2);
            let changed = with_array(found, |a| a[from..from + 3].fill(1_000_000 + round));
            array(&store).update_range(from..from + 3, |a| a.fill(1_000_000 + round)).unwrap();
            assert_eq!(state(&store), changed, "the next update brings something back");
            array(&store).update_range(0..1, |a| a[0] = round).unwrap();
            let changed = with_array(&changed, |a| a[0] = round);
            assert_eq!(state(&store), changed, "the one after it brings something back");
            value(&store).store(2_000_000 + round).unwrap();
            let changed = with(&changed, "value", number(2_000_000 + round));
            // The victim's name, if it has one in this operation, is free for the next.
            if store.slot("new").is_ok() {
                store.remove("new").unwrap();
            }
            let new = store.array::<u64>("new", 3).unwrap();
            assert_eq!(new.load(), [0; 3], "a new slot is zero");
            new.store(&[round; 3]).unwrap();
            let mut changed = with(&changed, "new", numbers(&[round; 3]));
            assert_eq!(state(&store), changed, "the new slot lies upon another");
            store.remove("new").unwrap();
            changed.0.remove("new");
            assert_eq!(state(&store), changed);
        });
        if round % 8 == 0 {
            drop(store);
            self.check_from_scratch();
        }
    }

    fn check_from_scratch(&self) {
        let store = open(&self.path);
        let check = store.check().unwrap();
        assert!(check.is_ok(), "{:?}", check.problems);
    }

    /// Whoever comes after a restart finds an acknowledged sync, or the one in flight.
    fn restart_to_one_of(&mut self, states: &[&State]) {
        restart(&self.path);
        let store = open(&self.path);
        let now = state(&store);
        let place = states.iter().position(|s| **s == now);
        assert!(place.is_some(), "after a restart: {now:?}\nis none of\n{states:?}");
        self.synced = now;
    }
}

/// Kills a process at each instruction of an operation, or at every so many.
///
/// `operation` runs in the process, and marks where it begins and ends; `states` are those
/// that a reader may see, in order, the first as it is before. `then` is told, after each
/// kill, which of them it is, and whether the operation was over.
fn kill_everywhere(
    what: &str,
    world: &mut World,
    with_reader: bool,
    before: impl Fn(&mut World),
    operation: impl Fn(&Path, u64),
    states: impl Fn(&State, u64) -> Vec<State>,
    then: impl Fn(&mut World, &State, &[State], bool),
) {
    let began = Instant::now();
    let (mut places, mut points, mut torn_off) = (None, 0, 0);
    loop {
        world.round += 1;
        world.age += 1;
        if world.age > 60 {
            world.renew();
        }
        before(world);
        let (path, round) = (world.path.clone(), world.round);
        let states = states(&state(&open(&path)), round);
        let reader = with_reader.then(|| Store::open_read_only(&path).unwrap());
        let mut victim = Traced::start(|| operation(&path, round));
        let Some(places) = &mut places else {
            drop(reader);
            places = Some(Places::of(what, victim, 1));
            world.renew();
            continue;
        };
        let over = places.reach(&mut victim);
        let at = format!("{:?}", places.now);
        let seen = |reader: &Store| {
            let now = state(reader);
            let place = states.iter().position(|s| *s == now);
            place.unwrap_or_else(|| panic!("{what}, killed at {at}: torn:\n{now:?}\n{states:?}"))
        };
        // It stands still now, perhaps inside an update; then it is dead.
        let paused = reader.as_ref().map(seen);
        victim.kill();
        let store;
        let place = match &reader {
            Some(reader) => {
                let place = seen(reader);
                assert_eq!(Some(place), paused, "{what}, killed at {at}: its death changed it");
                place
            }
            None => {
                store = open(&path);
                seen(&store)
            }
        };
        if over {
            assert_eq!(place, states.len() - 1, "{what}: it was over");
        }
        torn_off += u64::from(place + 1 < states.len());
        let found = states[place].clone();
        then(world, &found, &states, over);
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

/// So that about [`BUDGET`] instructions are run in all; a prime, which falls in step with
/// no loop.
fn stride_for(all: u64, share: u64) -> u64 {
    if let Ok(stride) = std::env::var("SLOTFILE_STRIDE") {
        return stride.parse().expect("SLOTFILE_STRIDE is a number");
    }
    let least = (all * all / 2 / (BUDGET / share)).max(1);
    let is_prime = |n: u64| (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    (least..).find(|n| is_prime(*n)).unwrap()
}

/// The usual case: others are attached, and go on.
fn kill_beside_others(
    what: &str,
    operation: impl Fn(&Path, u64),
    states: impl Fn(&State, u64) -> Vec<State>,
) {
    let mut world = World::new();
    kill_everywhere(
        what,
        &mut world,
        true,
        |_| (),
        operation,
        states,
        |world, found, _, _| {
            world.next_process(found);
        },
    );
}

#[test]
fn row_01_killed_at_any_instruction_of_a_scalar_update() {
    if !apart("row_01_killed_at_any_instruction_of_a_scalar_update") {
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
        vec![old.clone(), with(old, "value", number(round))]
    });
}

#[test]
fn row_01_killed_at_any_instruction_of_an_array_update() {
    if !apart("row_01_killed_at_any_instruction_of_an_array_update") {
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

#[test]
fn row_01_killed_at_any_instruction_of_taking_and_leaving_a_lock() {
    if !apart("row_01_killed_at_any_instruction_of_taking_and_leaving_a_lock") {
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

#[test]
fn row_01_killed_at_any_instruction_of_define() {
    if !apart("row_01_killed_at_any_instruction_of_define") {
        return;
    }
    let run = |path: &Path, round| {
        let store = open(path);
        claim(&store);
        let data = [u64::from_le_bytes([round as u8; 8]); 3];
        mark();
        let define = slotfile::Define::new().initial(data);
        store.array_with::<u64>("new", 3, define).unwrap();
        mark();
    };
    kill_beside_others("define", run, |old, round| {
        let content = Elements::from_bytes(ScalarType::U64, vec![round as u8; 24]).unwrap();
        vec![old.clone(), with(old, "new", content.into())]
    });
}

/// A definition that needs blocks which the file does not have yet.
#[test]
fn row_01_killed_at_any_instruction_of_growing() {
    if !apart("row_01_killed_at_any_instruction_of_growing") {
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
        vec![old.clone(), with(old, "new", numbers(&vec![0; GROWN]))]
    });
}

#[test]
fn row_01_killed_at_any_instruction_of_remove() {
    if !apart("row_01_killed_at_any_instruction_of_remove") {
        return;
    }
    let mut world = World::new();
    let before = |world: &mut World| {
        open(&world.path).array::<u64>("new", 5).unwrap().store(&[7; 5]).unwrap();
    };
    let run = |path: &Path, _| {
        let store = open(path);
        claim(&store);
        mark();
        store.remove("new").unwrap();
        mark();
    };
    let states = |old: &State, _| {
        let mut without = old.clone();
        without.0.remove("new");
        vec![old.clone(), without]
    };
    kill_everywhere("remove", &mut world, true, before, run, states, |world, found, _, _| {
        world.next_process(found);
    });
}

/// A thread's first step that needs a lock takes an entry of the process table.
#[test]
fn row_01_killed_at_any_instruction_of_claiming_an_entry() {
    if !apart("row_01_killed_at_any_instruction_of_claiming_an_entry") {
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

#[test]
fn row_01_killed_at_any_instruction_of_attach() {
    if !apart("row_01_killed_at_any_instruction_of_attach") {
        return;
    }
    let run = |path: &Path, _| {
        mark();
        let store = open(path);
        mark();
        drop(store);
    };
    let same = |old: &State, _| vec![old.clone()];
    kill_beside_others("attach beside others", run, same);
    let mut world = World::new();
    let then = |world: &mut World, found: &State, _: &[State], _| world.next_process(found);
    kill_everywhere("attach alone", &mut world, false, |_| (), run, same, then);
}

#[test]
fn row_01_killed_at_any_instruction_of_detach() {
    if !apart("row_01_killed_at_any_instruction_of_detach") {
        return;
    }
    let run = |path: &Path, round| {
        // A period that is never over: only leaving syncs.
        let store = options().sync_every(Some(Duration::from_secs(3_000))).open(path).unwrap();
        claim(&store);
        value(&store).store(round).unwrap();
        store.sync().unwrap();
        array(&store).update(|a| a.fill(round)).unwrap();
        // Its thread sleeps by now, and is not the last to leave.
        std::thread::sleep(Duration::from_millis(3));
        mark();
        drop(store);
        mark();
    };
    let states = |old: &State, round| {
        let synced = with(old, "value", number(round));
        vec![with_array(&synced, |a| a.fill(round))]
    };
    let then = |world: &mut World, found: &State, _: &[State], over: bool| {
        if world.round.is_multiple_of(2) {
            return world.next_process(found);
        }
        // What the victim itself had synced: all but the array, of which only it knows.
        restart(&world.path);
        let now = state(&open(&world.path));
        let without_array = |state: &State| {
            let mut state = state.clone();
            state.0.remove("array").unwrap();
            state
        };
        assert_eq!(without_array(&now), without_array(found), "what was synced is lost");
        let whole = now.0["array"] == found.0["array"];
        assert!(
            whole || now.0["array"] == world.synced.0["array"],
            "no state that ever was: {now:?}"
        );
        assert!(whole || !over, "whoever has left has synced");
        world.synced = now;
    };
    // The array as it is synced before the victim comes.
    let before = |world: &mut World| {
        let store = open(&world.path);
        array(&store).update(|a| a.fill(0)).unwrap();
        store.sync().unwrap();
        world.synced = state(&store);
    };
    let mut world = World::new();
    kill_everywhere("leave, the last", &mut world, false, before, run, states, then);
}

/// Killed in a sync: a restart returns the last one that was acknowledged, or this one, all
/// slots of the same; and the syncs after it are as good as ever.
#[test]
fn row_04_killed_at_any_instruction_of_sync() {
    if !apart("row_04_killed_at_any_instruction_of_sync") {
        return;
    }
    let before = |world: &mut World| {
        let round = world.round;
        let store = open(&world.path);
        value(&store).store(round).unwrap();
        array(&store).update_range(3..9, |a| a.fill(round)).unwrap();
        store.array::<u64>("large", LARGE).unwrap().set(round as usize % LARGE, round).unwrap();
        if round.is_multiple_of(4) {
            store.value::<u64>(&format!("more {round}")).unwrap();
        }
    };
    let run = |path: &Path, _| {
        let store = open(path);
        claim(&store);
        mark();
        store.sync().unwrap();
        mark();
    };
    let same = |old: &State, _| vec![old.clone()];
    let then = |world: &mut World, found: &State, _: &[State], over: bool| {
        let synced = world.synced.clone();
        if over {
            return world.restart_to_one_of(&[found]);
        }
        match world.round % 3 {
            0 => world.restart_to_one_of(&[&synced, found]),
            1 => {
                // The next one is not the killed one's heir: it writes all of it again.
                let store = open(&world.path);
                value(&store).store(0).unwrap();
                store.sync().unwrap();
                let good = state(&store);
                drop(store);
                world.restart_to_one_of(&[&good]);
            }
            _ => {
                // A reader has it open: the next process joins, and finds the lock held.
                world.next_process(found);
                let store = open(&world.path);
                store.sync().unwrap();
                world.synced = state(&store);
            }
        }
    };
    for with_reader in [false, true] {
        let mut world = World::new();
        let what = if with_reader { "sync beside others" } else { "sync alone" };
        // After a restart nobody may have it open, so that is for those without a reader.
        if with_reader {
            let then = |world: &mut World, found: &State, _: &[State], _| {
                world.next_process(found);
                let store = open(&world.path);
                store.sync().unwrap();
                world.synced = state(&store);
            };
            kill_everywhere(what, &mut world, true, before, run, same, then);
            let synced = world.synced.clone();
            world.restart_to_one_of(&[&synced]);
        } else {
            kill_everywhere(what, &mut world, false, before, run, same, then);
        }
    }
}

/// Killed while it restores after a restart: the next opener restores again.
#[test]
fn row_04_killed_at_any_instruction_of_restoring() {
    if !apart("row_04_killed_at_any_instruction_of_restoring") {
        return;
    }
    let began = Instant::now();
    let mut world = World::new();
    let (mut places, mut points) = (None, 0);
    loop {
        world.round += 1;
        if world.round.is_multiple_of(10) {
            world.renew(); // or there is ever more to restore
        }
        let store = open(&world.path);
        value(&store).store(world.round).unwrap();
        if points % 2 == 0 {
            store.sync().unwrap();
            world.synced = state(&store);
        }
        array(&store).update(|a| a.fill(world.round)).unwrap();
        store.value::<u64>(&format!("later {}", world.round)).unwrap();
        drop(store);
        restart(&world.path);
        let path = world.path.clone();
        let mut victim = Traced::start(|| {
            mark();
            let store = open(&path);
            mark();
            drop(store);
        });
        let Some(places) = &mut places else {
            places = Some(Places::of("restore", victim, 1));
            continue;
        };
        let over = places.reach(&mut victim);
        victim.kill();
        assert_eq!(state(&open(&path)), world.synced, "killed at {:?}", places.now);
        let synced = world.synced.clone();
        world.next_process(&synced);
        points += 1;
        if over && places.is_last() {
            break;
        }
        places.advance();
    }
    world.check_from_scratch();
    println!("restore: killed at {points} points; {:?}", began.elapsed());
}

/// First a writer is killed inside its update, then whoever buries it, at each instruction:
/// the third finds what the second has left, and what readers have seen.
#[test]
fn row_02_killed_at_any_instruction_of_a_burial() {
    if !apart("row_02_killed_at_any_instruction_of_a_burial") {
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
    for (what, with_reader) in [("burial", true), ("settling at opening", false)] {
        // Where a writer dies: of many places some are before it has the lock, or after.
        let length = {
            let world = World::new();
            Traced::start(|| writer(&world.path, 1)).step(u64::MAX)
        };
        for part in [2, 3, 4] {
            let dies_at = length * part / 6;
            let mut world = World::new();
            let before = |world: &mut World| {
                let (path, round) = (world.path.clone(), world.round);
                let mut victim = Traced::start(|| writer(&path, 3_000_000 + round));
                victim.step(dies_at);
            };
            let run = |path: &Path, round: u64| {
                if with_reader {
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
            let states = |old: &State, round| match with_reader {
                true => vec![old.clone(), with_array(old, |a| a[5..12].fill(round))],
                false => vec![old.clone()],
            };
            let then = |world: &mut World, found: &State, _: &[State], _| world.next_process(found);
            let what = format!("{what} of a writer dead at {dies_at} of {length}");
            bury_everywhere(&what, &mut world, with_reader, before, run, states, then);
        }
    }
}

/// As [`kill_everywhere`], but nobody opens the store for writing between `before` and the
/// operation, as that would settle what `before` has left.
fn bury_everywhere(
    what: &str,
    world: &mut World,
    with_reader: bool,
    before: impl Fn(&mut World),
    operation: impl Fn(&Path, u64),
    states: impl Fn(&State, u64) -> Vec<State>,
    then: impl Fn(&mut World, &State, &[State], bool),
) {
    let began = Instant::now();
    let (mut places, mut points) = (None, 0);
    loop {
        world.round += 1;
        let (path, round) = (world.path.clone(), world.round);
        let reader = Store::open_read_only(&path).unwrap();
        before(world);
        let states = states(&state(&reader), round);
        let reader = with_reader.then_some(reader);
        let mut victim = Traced::start(|| operation(&path, round));
        let Some(places) = &mut places else {
            drop(reader);
            // Three deaths share the time of one operation.
            places = Some(Places::of(what, victim, 3));
            world.renew();
            continue;
        };
        let over = places.reach(&mut victim);
        let at = format!("{:?}", places.now);
        let paused = reader.as_ref().map(state);
        victim.kill();
        let (now, place);
        if let Some(reader) = &reader {
            now = state(reader);
            assert_eq!(Some(&now), paused.as_ref(), "{what}, killed at {at}");
            place = states.iter().position(|s| *s == now);
        } else {
            now = state(&open(&path));
            place = states.iter().position(|s| *s == now);
        }
        let place = place.unwrap_or_else(|| panic!("{what}, killed at {at}: {now:?}\n{states:?}"));
        assert!(!over || place + 1 == states.len(), "{what}: it was over");
        then(world, &now, &states, over);
        points += 1;
        if over && places.is_last() {
            break;
        }
        places.advance();
    }
    world.check_from_scratch();
    println!("{what}: killed at {points} points; {:?}", began.elapsed());
}

/// A reader is stopped inside its copy; meanwhile one writer commits, and a second one is
/// killed while it fills the very area that the reader copies. It is buried, and the reader
/// goes on: it must notice, though the version that was committed last is the same.
#[test]
fn row_01_a_reader_never_accepts_what_a_killed_writer_has_half_written() {
    if !apart("row_01_a_reader_never_accepts_what_a_killed_writer_has_half_written") {
        return;
    }
    let began = Instant::now();
    let world = World::new();
    let path = &world.path;
    let store = open(path);
    let shared = array(&store);
    let load = || {
        let store = Store::open_read_only(path).unwrap();
        let array = array(&store);
        let mut now = [0; WORDS];
        array.load_into(&mut now);
        mark();
        array.load_into(&mut now);
        assert!(now.iter().all(|x| *x == now[0]), "torn: {now:?}");
        mark();
    };
    let fill = |with: u64| {
        let store = open(path);
        claim(&store);
        let array = array(&store);
        mark();
        array.update(|a| a.fill(with)).unwrap();
        mark();
    };
    let reading = Traced::start(load).step(u64::MAX);
    let filling = Traced::start(|| fill(2)).step(u64::MAX);
    let (read_stride, fill_stride) = if long() { (1, 1) } else { (17, 131) };
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
