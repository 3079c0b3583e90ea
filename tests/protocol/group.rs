//! Every interleaving of threads that update and sync as a group, with a death at every step, and
//! with flushes that fail.
//!
//! As in `replay.rs`, the code that ships is run again for each step, up to its next access. Here the
//! world is another one: two slots, what a power cut would leave of them, the sync lock, and the
//! numbers of group commit. The cut is a look at one slot after the other.
//!
//! What must hold: whoever is told of success finds in the checkpoint all that was stored before its
//! call. Whoever has joined a sync that failed is told of that, and does not wait once more. Nobody
//! waits for ever.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::NoEntry;
use crate::protocol::{
    self as shipping, Control, Deadline, Form, Joined, Number, Owner, Sleepers, Told, TxnState,
};

const THREADS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Adds 1 to this slot.
    Update(usize),
    Sync,
}
use Op::{Sync, Update};

struct Scenario {
    name: &'static str,
    scripts: [&'static [Op]; THREADS],
    /// How many threads may be killed, and how many flushes may fail.
    deaths: u8,
    failures: u8,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "two syncs of each of two",
        scripts: [&[Sync, Update(0), Sync], &[Sync, Update(1), Sync], &[]],
        deaths: 1,
        failures: 1,
    },
    Scenario {
        name: "an update before each of two syncs, two failures",
        scripts: [&[Update(0), Sync], &[Update(1), Sync, Sync], &[]],
        deaths: 1,
        failures: 2,
    },
    Scenario {
        name: "updates beside two syncs of each of two",
        scripts: [&[Update(0), Update(1)], &[Sync, Sync], &[Sync]],
        deaths: 0,
        failures: 0,
    },
    Scenario {
        name: "three that sync",
        scripts: [&[Update(0), Sync], &[Sync], &[Sync]],
        deaths: 0,
        failures: 0,
    },
];

/// A million states and more.
const MANY: [Scenario; 2] = [
    Scenario {
        name: "three that commit together",
        scripts: [&[Update(0), Sync], &[Update(1), Sync], &[Sync]],
        deaths: 1,
        failures: 1,
    },
    Scenario {
        name: "two leaders die",
        scripts: [&[Update(0), Sync], &[Sync], &[Sync]],
        deaths: 2,
        failures: 1,
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Status {
    Running,
    Done,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Thread {
    status: Status,
    op: usize,
    /// What its accesses have returned since the operation began.
    log: Vec<u64>,
    asleep: bool,
    /// What the slots were when the operation began.
    needs: [u8; 2],
    /// Whether the sync that it leads has failed.
    has_failed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    slots: [u8; 2],
    /// What a power cut would leave.
    saved: [u8; 2],
    numbers: [u64; 3],
    lock: u64,
    threads: [Thread; THREADS],
    deaths: u8,
    failures: u8,
    /// The number of the last sync that has failed, and whose leader has told of it.
    failed: u64,
}

enum Access {
    Returns(u64),
    Blocked,
}
use Access::{Blocked, Returns};

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NextAccess,
    Blocked,
}

/// One operation of one thread, while it is run again.
struct Run {
    thread: usize,
    world: RefCell<World>,
    log: RefCell<Vec<u64>>,
    /// How much of the log has been replayed.
    at: Cell<usize>,
    made: Cell<Option<&'static Location<'static>>>,
    /// Where in the log a wait begins its rounds.
    round: Cell<Option<usize>>,
    /// Whether a flush fails in this step, and whether there was one.
    fails: bool,
    has_flushed: Cell<bool>,
    end: Cell<Option<End>>,
}

enum Step {
    Made(World, &'static Location<'static>, bool),
    Blocked,
    Red(String),
}

fn step(scenario: &Scenario, world: &World, thread: usize, fails: bool) -> Step {
    let state = &world.threads[thread];
    let op = scenario.scripts[thread][state.op];
    let run = Run {
        thread,
        world: RefCell::new(world.clone()),
        log: RefCell::new(state.log.clone()),
        at: Cell::new(0),
        made: Cell::new(None),
        round: Cell::new(None),
        fails,
        has_flushed: Cell::new(false),
        end: Cell::new(None),
    };
    let result = catch_unwind(AssertUnwindSafe(|| run.perform(op)));
    let (made, has_flushed) = (run.made.get(), run.has_flushed.get());
    let mut world = run.world.into_inner();
    let state = &mut world.threads[thread];
    match (result, run.end.get()) {
        (Ok(Ok(())), None) => {
            state.op += 1;
            (state.log, state.has_failed) = (Vec::new(), false);
            if state.op == scenario.scripts[thread].len() {
                state.status = Status::Done;
            }
        }
        (Ok(Err(wrong)), None) => return Step::Red(format!("thread {thread} {wrong}")),
        (Err(_), Some(End::NextAccess)) => state.log = run.log.into_inner(),
        (Err(_), Some(End::Blocked)) => return Step::Blocked,
        _ => return Step::Red("the protocol panicked".into()),
    }
    Step::Made(world, made.expect("every operation has an access"), has_flushed)
}

impl Run {
    fn perform(&self, op: Op) -> Result<(), String> {
        if let Update(slot) = op {
            self.access(|world| {
                world.slots[slot] += 1;
                Returns(0)
            });
            return Ok(());
        }
        let ticket = shipping::ticket(self);
        match shipping::join((self, self), self, ticket, &mut Deadline::new(None)) {
            Ok(Joined::Told(Told::Done)) => self.check_saved(),
            Ok(Joined::Told(Told::Failed(5))) => Ok(()),
            Ok(Joined::Leads(lead)) => {
                let failed = self.world.borrow().failed;
                if self.made.get().is_some() && failed > ticket.0 {
                    std::mem::forget(lead); // no access any more
                    return Err(format!("waited for sync {failed}, which failed, in vain"));
                }
                let synced = lead.sync(self, || self.make_checkpoint(), |()| Some(5));
                drop(lead);
                synced.map_or(Ok(()), |()| self.check_saved())
            }
            Ok(Joined::Told(told)) => Err(format!("was told {told:?}")),
            Err(failure) => Err(format!("failed: {failure:?}")),
        }
    }

    fn check_saved(&self) -> Result<(), String> {
        let world = self.world.borrow();
        let needs = world.threads[self.thread].needs;
        if (0..2).all(|slot| world.saved[slot] >= needs[slot]) {
            return Ok(());
        }
        Err(format!("was told of success, {needs:?} was stored, but {:?} is saved", world.saved))
    }

    fn make_checkpoint(&self) -> Result<(), ()> {
        let seen = [0, 1].map(|slot| self.access(|world| Returns(world.slots[slot].into())));
        let flushed = self.access(|world| {
            self.has_flushed.set(true);
            world.threads[self.thread].has_failed = self.fails;
            world.failures -= u8::from(self.fails);
            if !self.fails {
                world.saved = seen.map(|seen| seen as u8);
            }
            Returns(u64::from(!self.fails))
        });
        if flushed == 0 { Err(()) } else { Ok(()) }
    }

    /// Every access of the world: replayed, or made as the step, or abandoned.
    #[track_caller]
    fn access(&self, f: impl FnOnce(&mut World) -> Access) -> u64 {
        let at = self.at.get();
        if let Some(logged) = self.log.borrow().get(at) {
            self.at.set(at + 1);
            return *logged;
        }
        if self.end.get().is_some() {
            return 0; // abandoned: a destructor, whose accesses no longer matter
        }
        if self.made.get().is_some() {
            self.abandon(End::NextAccess);
        }
        let mut world = self.world.borrow_mut();
        if at == 0 {
            world.threads[self.thread].needs = world.slots;
        }
        let access = f(&mut world);
        drop(world);
        let Returns(value) = access else { self.abandon(End::Blocked) };
        self.made.set(Some(Location::caller()));
        self.log.borrow_mut().push(value);
        self.at.set(at + 1);
        value
    }

    /// A load; also whether nobody else stores there now. Then it is done together with the access
    /// before.
    #[track_caller]
    fn load_with(&self, f: impl Fn(&World) -> (u64, bool)) -> u64 {
        let is_private = f(&self.world.borrow()).1 && self.at.get() == self.log.borrow().len();
        let made = self.made.get().filter(|_| is_private && self.end.get().is_none());
        self.made.set(self.made.get().filter(|_| made.is_none()));
        let value = self.access(|world| Returns(f(world).0));
        self.made.set(made.or(self.made.get()));
        value
    }

    fn abandon(&self, end: End) -> ! {
        self.end.set(Some(end));
        resume_unwind(Box::new(()))
    }

    /// A wait remembers nothing of the rounds before.
    fn begins_round(&self) {
        let (at, mut log) = (self.at.get(), self.log.borrow_mut());
        match self.round.get() {
            None => self.round.set(Some(at)),
            Some(begin) if at == log.len() && self.made.get().is_some() => log.truncate(begin),
            Some(_) => {}
        }
    }
}

fn place(number: Number) -> usize {
    match number {
        Number::Begun => 0,
        Number::Done => 1,
        Number::Failed => 2,
    }
}

impl shipping::Numbers for Run {
    fn load(&self, number: Number, _: Ordering) -> u64 {
        self.load_with(|world| {
            let leads = Control::from_bits(world.lock).owner() == self.thread as Owner + 1;
            (world.numbers[place(number)], leads)
        })
    }

    fn store(&self, number: Number, value: u64, _: Ordering) {
        self.access(|world| {
            world.numbers[place(number)] = value;
            Returns(0)
        });
    }

    /// All accesses are in one order. `loom_group.rs` has the fences.
    fn fence(&self, _: Ordering) {}
}

/// What the log has for a compare-exchange that succeeded.
const SWAPPED: u64 = u64::MAX;

/// The sync lock.
impl shipping::Memory for Run {
    type Marks = shipping::NoMarks;

    fn marks(&self) -> Option<(&shipping::NoMarks, shipping::Segments)> {
        None
    }

    fn form(&self) -> Form {
        Form::Lock
    }

    fn slot_id(&self) -> u64 {
        0
    }

    fn control(&self, order: Ordering) -> Control {
        // Recoveries look at it, too.
        if order == Ordering::Acquire && Location::caller().file().ends_with("group_commit.rs") {
            self.begins_round();
        }
        Control::from_bits(self.access(|world| Returns(world.lock)))
    }

    fn swap_control(&self, old: Control, new: Control, _: Ordering) -> Result<(), Control> {
        let now = self.access(|world| {
            if world.lock != old.bits() {
                return Returns(world.lock);
            }
            world.lock = new.bits();
            let me = &mut world.threads[self.thread];
            if std::mem::take(&mut me.has_failed) {
                world.failed = world.numbers[0];
            }
            Returns(SWAPPED)
        });
        if now == SWAPPED { Ok(()) } else { Err(Control::from_bits(now)) }
    }

    fn sleep(&self, seen: Control, _: Sleepers, _: Duration) -> bool {
        let me = self.thread;
        let sleeps = self.access(|world| {
            let same = Control::from_bits(world.lock).futex_word() == seen.futex_word();
            world.threads[me].asleep = same;
            Returns(u64::from(same))
        });
        // Time passes only for what the dead leave. While nobody is dead, a sleeper must be woken.
        sleeps == 0
            || self.access(|world| {
                let is_anyone_dead = world.threads.iter().any(|t| t.status == Status::Dead);
                if world.threads[me].asleep && !is_anyone_dead {
                    return Blocked;
                }
                Returns(u64::from(!std::mem::take(&mut world.threads[me].asleep)))
            }) != 0
    }

    fn wake(&self, _: Sleepers, _: bool) -> bool {
        self.access(|world| {
            world.threads.iter_mut().for_each(|thread| thread.asleep = false);
            Returns(0)
        }) != 0
    }

    fn fence(&self, _: Ordering) {}

    fn relax(&self) {}

    fn advance_event_count(&self) {}

    fn has_lock_bit(&self) -> bool {
        true
    }

    fn load(&self, _: usize, _: Ordering) -> u64 {
        unreachable!("a lock has no content")
    }

    fn store(&self, _: usize, _: u64, _: Ordering) {
        unreachable!("a lock has no content")
    }

    fn swap_cell(
        &self,
        _: shipping::Cell,
        _: shipping::Cell,
        _: Ordering,
    ) -> Result<(), shipping::Cell> {
        unreachable!("a lock has no content")
    }

    fn read(&self, _: usize, _: usize, _: &mut [u8]) {
        unreachable!("a lock has no content")
    }

    fn write(&self, _: usize, _: usize, _: &[u8]) {
        unreachable!("a lock has no content")
    }

    fn copy(&self, _: usize, _: usize, _: usize) {
        unreachable!("a lock has no content")
    }

    fn spin(&self, _: Control) -> bool {
        false
    }
}

impl shipping::Peers for Run {
    type Error = NoEntry;

    fn me(&self) -> Result<Owner, NoEntry> {
        Ok(self.thread as Owner + 1)
    }

    fn may_be_free_soon(_: &NoEntry) -> bool {
        false
    }

    fn is_me(&self, owner: Owner) -> bool {
        usize::from(owner) == self.thread + 1
    }

    fn txn_word(&self, _: Owner, _: Ordering) -> TxnState {
        TxnState::Idle
    }

    fn set_txn_word(&self, _: Owner, _: TxnState, _: Ordering) {}

    fn one_at_a_time<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    fn share(&self, owner: Owner) -> bool {
        let is_dead =
            |world: &mut World| world.threads[usize::from(owner) - 1].status == Status::Dead;
        self.access(|world| Returns(u64::from(is_dead(world)))) != 0
    }

    fn unshare(&self, _: Owner) {}

    fn promote(&self, _: Owner) -> bool {
        false
    }

    fn fork_generation(&self) -> u64 {
        0
    }

    fn note_locked(&self) {}

    fn note_unlocked(&self) {}

    fn begin_under_guard(&self, _: u64) -> Option<u64> {
        None
    }

    fn is_under_guard(&self, _: u64, _: u64) -> bool {
        true
    }

    fn end_under_guard(&self, _: u64, _: u64) {}

    fn is_handover_due(&self) -> bool {
        false
    }
}

impl Scenario {
    /// Visits every state; returns their number. An error says what went wrong, and by which steps.
    fn explore(&self) -> Result<usize, String> {
        let thread = |script: &&[Op]| Thread {
            status: if script.is_empty() { Status::Done } else { Status::Running },
            op: 0,
            log: Vec::new(),
            asleep: false,
            needs: [0; 2],
            has_failed: false,
        };
        let first = World {
            slots: [0; 2],
            saved: [0; 2],
            numbers: [0; 3],
            lock: 0,
            threads: self.scripts.each_ref().map(thread),
            deaths: self.deaths,
            failures: self.failures,
            failed: 0,
        };
        let mut seen = FxHashSet::default();
        let mut ways: Vec<(usize, String)> = vec![(0, String::new())];
        seen.insert(first.clone());
        let mut stack = vec![(first, 0)];
        while let Some((world, way)) = stack.pop() {
            let running = |thread: &usize| world.threads[*thread].status == Status::Running;
            let mut stuck = true;
            for thread in (0..THREADS).filter(running) {
                let mut next = Vec::new();
                for fails in [false, true] {
                    match step(self, &world, thread, fails) {
                        Step::Made(after, at, has_flushed) => {
                            stuck = false;
                            next.push((after, format!("{thread} {at}")));
                            if !has_flushed || world.failures == 0 {
                                break;
                            }
                        }
                        Step::Blocked => break,
                        Step::Red(wrong) => return Err(self.report(&wrong, &ways, way)),
                    }
                }
                if world.deaths > 0 {
                    let mut after = world.clone();
                    after.deaths -= 1;
                    let dead = &mut after.threads[thread];
                    (dead.status, dead.log, dead.asleep) = (Status::Dead, Vec::new(), false);
                    (dead.needs, dead.has_failed) = ([0; 2], false);
                    next.push((after, format!("{thread} is killed")));
                }
                for (after, what) in next {
                    if seen.insert(after.clone()) {
                        ways.push((way, what));
                        stack.push((after, ways.len() - 1));
                    }
                }
            }
            if stuck && (0..THREADS).any(|thread| running(&thread)) {
                return Err(self.report("all living threads wait for ever", &ways, way));
            }
        }
        Ok(seen.len())
    }

    fn report(&self, wrong: &str, ways: &[(usize, String)], mut at: usize) -> String {
        let mut steps = Vec::new();
        while at != 0 {
            steps.push(format!("  thread {}", ways[at].1));
            at = ways[at].0;
        }
        steps.reverse();
        format!("{}: {wrong}\n{}", self.name, steps.join("\n"))
    }
}

#[test]
pub(super) fn every_caller_of_a_sync_is_told_what_became_of_it() {
    green(&SCENARIOS);
}

#[test]
#[ignore = "many interleavings: CI runs it"]
fn every_one_of_three_callers_is_told_what_became_of_its_sync() {
    green(&MANY);
}

fn green(scenarios: &[Scenario]) {
    for scenario in scenarios {
        let states = scenario.explore().unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{}: {states} states", scenario.name);
        assert!(states > 1000, "{states} states");
    }
}
