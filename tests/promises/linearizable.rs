//! Small histories of three processes, each checked for linearizability: there must be an order
//! of all operations, consistent with their times, in which the reference returns the same
//! results. (Every order is tried, since histories are short.)

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common;
use crate::common::os::nanoseconds;
use crate::common::{Child, folder, role, rounds, store_in};
use slotfile::{Array, Data, Error, Scalar, Slot, Store, Value};

const PROCESSES: u64 = 3;
/// Operations of each process in one history.
const OPERATIONS: usize = 4;

/// The operations, on two values and one element of an array.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Load(usize),
    Store(usize, u64),
    Add(usize, u64),
    /// Moves an amount from one slot to another, in a transaction.
    Move(usize, usize, u64),
    Snapshot,
    SnapshotOf,
}

type State = [u64; 3];

impl Op {
    fn random() -> Op {
        let slot = || fastrand::usize(..3);
        let n = fastrand::u64(1..1_000_000);
        match fastrand::u8(..8) {
            0 => Op::Load(slot()),
            1 => Op::Store(slot(), n),
            2 => Op::Add(slot(), n),
            3..=5 => {
                let from = slot();
                Op::Move(from, (from + fastrand::usize(1..3)) % 3, n)
            }
            6 => Op::Snapshot,
            _ => Op::SnapshotOf,
        }
    }

    /// The reference: does the operation to the state, and returns its result.
    fn apply(self, state: &mut State) -> State {
        let before = *state;
        match self {
            Op::Load(slot) => [before[slot], 0, 0],
            Op::Store(slot, n) => {
                state[slot] = n;
                [0; 3]
            }
            Op::Add(slot, n) => {
                state[slot] = before[slot].wrapping_add(n);
                [before[slot], 0, 0]
            }
            Op::Move(from, to, n) => {
                state[from] = before[from].wrapping_sub(n);
                state[to] = before[to].wrapping_add(n);
                [before[from], before[to], 0]
            }
            Op::Snapshot | Op::SnapshotOf => before,
        }
    }
}

/// The slots.
struct Slots {
    store: Store,
    values: [Value<u64>; 2],
    array: Array<u64>,
    all: [Slot; 3],
    /// The current history, and how many processes are ready for it, and have ended it.
    round: Value<u64>,
    ready: Value<u64>,
    ended: Value<u64>,
}

impl Slots {
    fn open(path: &Path) -> Slots {
        let store = Store::open_or_create(path).unwrap();
        Slots {
            values: ["x", "y"].map(|name| store.value(name).unwrap()),
            array: store.array("z", 3).unwrap(),
            all: ["x", "y", "z"].map(|name| store.slot(name).unwrap()),
            round: store.value("round").unwrap(),
            ready: store.value("ready").unwrap(),
            ended: store.value("ended").unwrap(),
            store,
        }
    }

    fn perform(&self, op: Op) -> Result<State, Error> {
        let state = match op {
            Op::Load(2) => [self.array.get(1)?, 0, 0],
            Op::Load(slot) => [self.values[slot].load(), 0, 0],
            Op::Store(2, n) => {
                self.array.set(1, n)?;
                [0; 3]
            }
            Op::Store(slot, n) => {
                self.values[slot].store(n)?;
                [0; 3]
            }
            Op::Add(2, n) => [self.array.fetch_add(1, n)?, 0, 0],
            Op::Add(slot, n) => [self.values[slot].fetch_add(n)?, 0, 0],
            Op::Move(from, to, n) => self.store.transaction(|tx| {
                let mut change = |slot: usize, n: u64| match slot {
                    2 => tx.update_element(&self.array, 1, |x| x.wrapping_add(n)),
                    _ => tx.fetch_add(&self.values[slot], n),
                };
                let first = change(from, n.wrapping_neg())?;
                let_others_run();
                Ok::<_, Error>([first, change(to, n)?, 0])
            })?,
            Op::Snapshot => self.store.snapshot(|s| {
                let first = s.load(&self.values[0])?;
                let_others_run();
                let second = s.load(&self.values[1])?;
                let_others_run();
                Ok([first, second, s.get(&self.array, 1)?])
            })?,
            Op::SnapshotOf => {
                let mut all = self.store.snapshot_of(&self.all)?.into_iter().map(|(data, _)| data);
                std::array::from_fn(|_| match all.next() {
                    Some(Data::Scalar(Scalar::U64(x))) => x,
                    Some(Data::Array(elements)) => elements.to_vec().unwrap()[1],
                    other => panic!("{other:?}"),
                })
            }
        };
        Ok(state)
    }
}

/// An operation that was done, with times on the clock that all processes share.
#[derive(Clone, Copy, Debug)]
struct Event {
    op: Op,
    returned: State,
    began: u64,
    ended: u64,
}

/// Whether there is such an order.
fn is_linearizable(events: &[Event], first: State) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![(0u32, first)];
    while let Some((done, state)) = open.pop() {
        if done.count_ones() as usize == events.len() {
            return true;
        }
        let left = || (0..events.len()).filter(|i| done >> i & 1 == 0);
        let first_end = left().map(|i| events[i].ended).min().expect("some are left");
        // An operation that began after another had ended comes after it.
        for i in left().filter(|i| events[*i].began <= first_end) {
            let mut next = state;
            if events[i].op.apply(&mut next) == events[i].returned
                && seen.insert((done | 1 << i, next))
            {
                open.push((done | 1 << i, next));
            }
        }
    }
    false
}

#[test]
fn the_checker_knows_right_from_wrong() {
    let event = |op, returned, began, ended| Event { op, returned, began, ended };
    let transfer = event(Op::Move(0, 1, 5), [10, 0, 0], 1, 4);
    let snapshot = |seen, began, ended| event(Op::Snapshot, seen, began, ended);
    let check = |events: &[Event]| is_linearizable(events, [10, 0, 0]);
    assert!(check(&[transfer, snapshot([10, 0, 0], 2, 3), snapshot([5, 5, 0], 5, 6)]));
    assert!(check(&[transfer, snapshot([5, 5, 0], 2, 3), snapshot([5, 5, 0], 5, 6)]));
    assert!(!check(&[transfer, snapshot([5, 0, 0], 2, 3)]), "half of it");
    assert!(!check(&[transfer, snapshot([10, 0, 0], 5, 6)]), "after its end");
    assert!(!check(&[transfer, snapshot([5, 5, 0], 2, 3), snapshot([10, 0, 0], 4, 6)]), "back");
    let add = |old, began, ended| event(Op::Add(2, 1), [old, 0, 0], began, ended);
    assert!(check(&[add(1, 1, 9), add(0, 2, 8)]));
    assert!(!check(&[add(0, 1, 9), add(0, 2, 8)]), "one is lost");
}

#[test]
fn small_histories_of_three_processes_are_linearizable() {
    const NAME: &str = "small_histories_of_three_processes_are_linearizable";
    let count = rounds(3_000, 200_000) as u64;
    if role().is_some() {
        let slots = Slots::open(&common::path());
        let me = common::number();
        fastrand::seed(me);
        let mut log = String::new();
        for round in 1..=count {
            let ops: [Op; OPERATIONS] = std::array::from_fn(|_| Op::random());
            slots.ready.fetch_add(1).unwrap();
            yield_until(|| slots.round.load() >= round);
            let events = ops.map(|op| {
                let began = nanoseconds();
                let returned = slots.perform(op).unwrap();
                Event { op, returned, began, ended: nanoseconds() }
            });
            slots.ended.fetch_add(1).unwrap();
            for Event { op, returned: [a, b, c], began, ended } in events {
                let (kind, x, y, n) = match op {
                    Op::Load(slot) => (0, slot, 0, 0),
                    Op::Store(slot, n) => (1, slot, 0, n),
                    Op::Add(slot, n) => (2, slot, 0, n),
                    Op::Move(from, to, n) => (3, from, to, n),
                    Op::Snapshot => (4, 0, 0, 0),
                    Op::SnapshotOf => (5, 0, 0, 0),
                };
                writeln!(log, "{round} {kind} {x} {y} {n} {a} {b} {c} {began} {ended}").unwrap();
            }
        }
        std::fs::write(common::path().with_extension(me.to_string()), log).unwrap();
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let slots = Slots::open(&path);
    let processes: Vec<Child> =
        (0..PROCESSES).map(|n| Child::spawn_with(NAME, "process", &path, n)).collect();
    // The state at each history's beginning: between two of them nothing changes.
    let mut firsts = Vec::new();
    for round in 1..=count {
        yield_until(|| slots.ready.load() == PROCESSES * round);
        firsts.push(slots.perform(Op::Snapshot).unwrap());
        slots.round.store(round).unwrap();
        yield_until(|| slots.ended.load() == PROCESSES * round);
    }
    processes.into_iter().for_each(Child::join);
    let mut histories = vec![Vec::new(); count as usize];
    for n in 0..PROCESSES {
        for line in std::fs::read_to_string(path.with_extension(n.to_string())).unwrap().lines() {
            let w: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
            let (x, y) = (w[2] as usize, w[3] as usize);
            let op = match w[1] {
                0 => Op::Load(x),
                1 => Op::Store(x, w[4]),
                2 => Op::Add(x, w[4]),
                3 => Op::Move(x, y, w[4]),
                4 => Op::Snapshot,
                _ => Op::SnapshotOf,
            };
            let returned = [w[5], w[6], w[7]];
            histories[w[0] as usize - 1].push(Event { op, returned, began: w[8], ended: w[9] });
        }
    }
    let mut side_by_side = 0;
    for (history, first) in histories.iter().zip(firsts) {
        assert_eq!(history.len(), PROCESSES as usize * OPERATIONS);
        assert!(
            is_linearizable(history, first),
            "from {first:?} there is no order of {history:#?}"
        );
        let overlap = |a: &Event, b: &Event| a.began < b.ended && b.began < a.ended;
        let pairs = history.iter().map(|a| history.iter().filter(|b| overlap(a, b)).count() - 1);
        side_by_side += pairs.sum::<usize>() / 2;
    }
    println!("{count} histories, {side_by_side} pairs of operations side by side");
    assert!(side_by_side as u64 > count / 100, "hardly anything was at the same time");
}

/// In the middle of an operation, on a machine with fewer processors than processes.
fn let_others_run() {
    if fastrand::bool() {
        std::thread::yield_now();
    }
}

/// Waits without sleeping, so that all begin at once; but not forever, if one of them is gone.
fn yield_until(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        std::thread::yield_now();
        assert!(start.elapsed() < Duration::from_secs(60), "another process is missing");
    }
}
