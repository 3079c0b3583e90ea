//! Every state that a scenario can reach: depth first, each state once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Instant;

use rustc_hash::FxHashSet;

use super::replay::{Site, Step, step};
use super::script::Op;
use super::sync::{Layout, SyncBug};
use super::world::{Status, THREADS, World};
use crate::protocol::mutant::{Mutant, plant};

/// A small program for up to four threads, each a process of its own, and what may happen to them.
#[derive(Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// K, the areas of Y.
    pub(super) areas: u64,
    /// The version that both slots begin with.
    pub(super) version: u64,
    pub(super) scripts: [&'static [Op]; THREADS],
    /// The entries that the threads begin with.
    pub(super) entries: [Option<u8>; THREADS],
    /// Which threads may be killed, at any moment.
    pub(super) mortal: &'static [usize],
    /// Which threads may be stopped for ever, at any moment of a recovery or a claim, or while they
    /// have a read lock.
    pub(super) stoppable: &'static [usize],
    /// Whether a thread that waits for a lock sleeps, instead of spinning until it is free.
    pub(super) sleepers: bool,
    /// Whether readers try for the lock after every loss, instead of never.
    pub(super) readers_lock: bool,
    /// Whether the store is of format 1.0, without L.
    pub(super) is_old: bool,
    /// Whether a thread that was overtaken once must get the lock next.
    pub(super) is_fair: bool,
    /// Where the slots are copied to, if changes are marked.
    pub(super) marks: Option<Layout>,
    pub(super) byte_bug: Option<ByteBug>,
    pub(super) sync_bug: Option<SyncBug>,
    /// To check the checker: whether logs are never cut, and whether results are collected.
    pub(super) remembers: bool,
    pub(super) notes_results: bool,
}

/// Bugs in the use of the byte locks, which are not the protocol's own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteBug {
    /// A recoverer locks the dead owner's byte exclusively: if stopped, it looks like a living
    /// owner.
    RecoverExclusively,
    /// A claimant locks the byte exclusively from before the recovery on.
    ClaimExclusively,
}

/// A bug to plant, wherever its code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    Protocol(Mutant),
    Bytes(ByteBug),
    Sync(SyncBug),
}

impl Scenario {
    /// Two areas, entries 0 and 1 for the first two threads, nobody dies.
    pub(super) const fn new(name: &'static str, scripts: [&'static [Op]; THREADS]) -> Scenario {
        Scenario {
            name,
            areas: 2,
            version: 1,
            scripts,
            entries: [Some(0), Some(1), None, None],
            mortal: &[],
            stoppable: &[],
            sleepers: false,
            readers_lock: false,
            is_old: false,
            is_fair: false,
            marks: None,
            byte_bug: None,
            sync_bug: None,
            remembers: false,
            notes_results: false,
        }
    }

    /// Explores the scenario with this bug planted.
    pub(super) fn explore_with(&self, bug: Bug) -> Result<Explored, String> {
        match bug {
            Bug::Protocol(mutant) => {
                plant(Some(mutant));
                let result = self.explore();
                plant(None);
                result
            }
            Bug::Bytes(bug) => Scenario { byte_bug: Some(bug), ..*self }.explore(),
            Bug::Sync(bug) => Scenario { sync_bug: Some(bug), ..*self }.explore(),
        }
    }

    /// Visits every state. An error says what went wrong, and by which steps.
    pub(super) fn explore(&self) -> Result<Explored, String> {
        let started = Instant::now();
        let mut explored = Explored::default();
        let mut seen = FxHashSet::default();
        let mut first = World::new(self.areas, self.version, self.entries);
        if let Some(layout) = self.marks {
            first = first.with_marks(layout, self.sync_bug);
        }
        for (thread, script) in first.threads.iter_mut().zip(self.scripts) {
            if script.is_empty() {
                thread.status = Status::Done;
            }
        }
        seen.insert(first.fingerprint());
        let mut stack = vec![(first, None)];
        while let Some((world, way)) = stack.pop() {
            let mut next = Vec::new();
            let mut stuck = true;
            for thread in self.running(&world) {
                match step(self, &world, thread) {
                    Step::Made(after, site, result) => {
                        stuck = false;
                        explored.steps += 1;
                        explored.results.extend(result.map(|result| (thread, result)));
                        next.push((after, What::Step(site)));
                    }
                    Step::Blocked => {}
                    Step::Red(why, site) => {
                        let last = site.map(|site| Way::on(&way, thread, What::Step(site)));
                        return Err(self.report(&why, &last.unwrap_or(way), seen.len()));
                    }
                }
                if self.mortal.contains(&thread) {
                    explored.deaths += 1;
                    let mut after = world.clone();
                    after.kill(thread);
                    next.push((after, What::Death));
                }
                // A thread that is stopped with a lock keeps others waiting, and rightly so.
                let has_lock = world.holder.contains(&Some(thread));
                let recovering = world.threads[thread].recovering && !has_lock;
                if (recovering || world.has_read_lock(thread)) && self.stoppable.contains(&thread) {
                    let mut after = world.clone();
                    after.stop(thread);
                    next.push((after, What::Stop));
                }
                for (after, what) in next.drain(..) {
                    if seen.insert(after.fingerprint()) {
                        stack.push((after, Way::on(&way, thread, what)));
                    }
                }
            }
            if stuck {
                explored.ends += 1;
                if self.running(&world).next().is_some() {
                    return Err(self.report("all living threads wait for ever", &way, seen.len()));
                }
            }
        }
        explored.states = seen.len();
        let Explored { states, steps, deaths, ends, .. } = explored;
        let took = started.elapsed();
        println!(
            "{}: {states} states, {steps} steps, {deaths} deaths, {ends} ends, {took:.1?}",
            self.name
        );
        Ok(explored)
    }

    fn running(&self, world: &World) -> impl Iterator<Item = usize> {
        let running = world.threads.each_ref().map(|t| t.status == Status::Running);
        (0..THREADS).filter(move |thread| running[*thread])
    }

    fn report(&self, why: &str, way: &Option<Rc<Way>>, states: usize) -> String {
        let mut report = format!("{}: after {states} states: {why}\n", self.name);
        let mut steps = Vec::new();
        let mut way = way.as_ref();
        while let Some(at) = way {
            steps.push(at);
            way = at.before.as_ref();
        }
        for step in steps.into_iter().rev() {
            let _ = match step.what {
                What::Step(Site { line, slot, word, .. }) => writeln!(
                    report,
                    "  thread {} {}:{} {} word {word}",
                    step.thread,
                    line.file().rsplit('/').next().unwrap_or_default(),
                    line.line(),
                    slot.map_or("peer".into(), |slot| format!("{slot:?}")),
                ),
                What::Death => writeln!(report, "  thread {} is killed", step.thread),
                What::Stop => writeln!(report, "  thread {} is stopped", step.thread),
            };
        }
        report
    }
}

/// The size of an exploration.
#[derive(Debug, Default)]
pub(super) struct Explored {
    pub(super) states: usize,
    pub(super) steps: usize,
    pub(super) deaths: usize,
    /// States in which no thread has anything left to do.
    pub(super) ends: usize,
    /// Every result that an operation of a thread can have; collected on request.
    pub(super) results: BTreeSet<(usize, String)>,
}

/// How a state was reached, last step first.
struct Way {
    thread: usize,
    what: What,
    before: Option<Rc<Way>>,
}

enum What {
    Step(Site),
    Death,
    Stop,
}

impl Way {
    fn on(before: &Option<Rc<Way>>, thread: usize, what: What) -> Option<Rc<Way>> {
        Some(Rc::new(Way { thread, what, before: before.clone() }))
    }
}
