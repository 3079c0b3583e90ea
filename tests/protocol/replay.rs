//! One step of one virtual thread: the code that ships, run up to its next access.
//!
//! Running code cannot be stopped and copied. So its state is kept in another form: **the log** of
//! what its accesses have returned since the operation began. The code is deterministic, so the log
//! determines its state. To make one step of a thread, its operation is run again from the
//! beginning:
//!
//! 1. as long as the log lasts, accesses return what it says;
//! 2. the next access is done on a copy of the world, and added to the log: this is the step;
//! 3. at the access after that, the operation is abandoned, by unwinding.
//!
//! If the operation returns instead, the thread goes on to the next one of its script.
//!
//! Four things keep the number of states small, without losing any behaviour:
//!
//! - **A loop that starts over forgets.** A loop of the protocol keeps nothing from a lost round
//!   but the count of losses. So when it is back at its first access, the log is cut to what it was
//!   there. Readers announce this by [`shipping::Memory::relax`]; the loops of `lock` and
//!   `update_scalar` by looking at the control word again ([`Run::looping`]). (The count of losses
//!   decides when a reader tries for the lock: here never, or, with `LOSSES` = 0, after every
//!   loss.)
//! - **A thread that has a lock forgets how it got it** ([`Run::locking`]); a thread that waits for
//!   one forgets the lock's first state.
//! - **A snapshot keeps what it has last read of each slot.** So when it begins to read again, the
//!   log is cut to that and to the last check, as if all had been read in its first round
//!   ([`Run::has_read`]). Which slots it has read again since is not forgotten: with a bug it may
//!   matter.
//! - **What a thread's own lock protects is private.** No other thread stores there, so a load of
//!   it is done together with the access before.

use std::cell::{Cell, RefCell};
use std::iter;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::explore::Scenario;
use super::model::{Memory, SWAPPED};
use super::script::{Op, Outcome};
use super::world::{SLOTS, Slot, Status, World};
use crate::protocol::{self as shipping, CONTROL, FREE, Held, Owner, VALUE};

/// The place in the code that made an access, and what it accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) line: &'static Location<'static>,
    pub(super) slot: Option<Slot>,
    pub(super) word: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Looks at the control word.
    Look,
    /// Loads what this thread's own lock protects.
    Private,
    Other,
}

/// The outcome of a step.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum Step {
    /// The world after the step, its access, and, on request, what the operation has returned.
    Made(World, Site, Option<String>),
    /// The thread waits for something that only other threads can do.
    Blocked,
    /// Something has happened that must never happen.
    Red(String, Option<Site>),
}

/// The outcome of an access.
pub(super) enum Access {
    Returns(u64),
    Blocked,
    Red(String),
}
use Access::{Blocked, Red, Returns};

/// Why an operation was abandoned.
enum End {
    NextAccess,
    Blocked,
    Red(String),
}

/// An owner number that no thread has.
const NOBODY: Owner = 1000;

/// Parts of a log, one for each slot.
type Parts = [Range<usize>; SLOTS.len()];

/// One operation of one thread, while it is run again.
pub(super) struct Run<'s> {
    pub(super) scenario: &'s Scenario,
    pub(super) thread: usize,
    pub(super) world: RefCell<World>,
    log: RefCell<Vec<u64>>,
    /// How much of the log has been replayed.
    at: Cell<usize>,
    /// The step, once it has been made.
    made: Cell<Option<Site>>,
    /// The sites of the log's accesses.
    sites: RefCell<Vec<Site>>,
    /// Where in the log a loop begins whose rounds begin with a look at the control word.
    begin: Cell<Option<usize>>,
    /// Whether each of its rounds begins with a look at the event count, not at a slot.
    pub(super) rounds_begin_with_event_count: Cell<bool>,
    /// Whether it has slept for the lock in this loop.
    pub(super) has_slept: Cell<bool>,
    /// Where in the log a loop has last begun a new round.
    relaxed: Cell<Option<usize>>,
    /// In a snapshot: where in the log it last read each slot, and the slot read last. Its next
    /// round begins with these, never at the beginning.
    snapshot: RefCell<Option<(Parts, Slot)>>,
    /// The number of recoveries that it is in the middle of.
    pub(super) recoveries: Cell<u32>,
    /// Whether it claims an entry: a claim waits for the entry, a recovery does not.
    pub(super) claiming: Cell<bool>,
    end: RefCell<Option<End>>,
}

/// Makes one step of this thread, in this world.
pub(super) fn step(scenario: &Scenario, world: &World, thread: usize) -> Step {
    let state = &world.threads[thread];
    let op = &scenario.scripts[thread][state.op];
    let run = Run {
        scenario,
        thread,
        world: RefCell::new(world.clone()),
        log: RefCell::new(state.log.as_ref().clone()),
        at: Cell::new(0),
        made: Cell::new(None),
        sites: RefCell::default(),
        begin: Cell::new(None),
        rounds_begin_with_event_count: Cell::new(false),
        has_slept: Cell::new(false),
        relaxed: Cell::new(None),
        snapshot: RefCell::default(),
        recoveries: Cell::new(0),
        claiming: Cell::new(false),
        end: RefCell::new(None),
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        if scenario.readers_lock { op.perform::<0>(&run) } else { op.perform::<8>(&run) }
    }));
    let made = run.made.get();
    let mut world = run.world.into_inner();
    let mut returned = None;
    match (result, run.end.into_inner()) {
        (Ok(outcome), None) => {
            if let Err(why) = op.check(&outcome, &world, thread, scenario.version) {
                return Step::Red(why, made);
            }
            returned = scenario.notes_results.then(|| format!("{op:?}: {outcome:?}"));
            let state = &mut world.threads[thread];
            state.log = Rc::default();
            if let Outcome::Found(view) = outcome {
                // The same operation again; its cut began with its first look.
                state.view = view;
                return after(world, made, returned);
            }
            state.op += 1;
            state.since = None;
            state.recovering = false;
            state.overtaken = None;
            state.has_slept = false;
            if state.op == scenario.scripts[thread].len() {
                state.status = Status::Done;
            }
        }
        (Err(_), Some(End::NextAccess)) => {
            let state = &mut world.threads[thread];
            state.log = Rc::new(run.log.into_inner());
            state.recovering = run.recoveries.get() > 0;
        }
        (Err(_), Some(End::Blocked)) => return Step::Blocked,
        (Err(_), Some(End::Red(why))) => return Step::Red(why, made),
        (Err(_), None) => return Step::Red("the protocol panicked".into(), made),
        (Ok(_), Some(_)) => return Step::Red("the end of an operation was lost".into(), made),
    }
    after(world, made, returned)
}

fn after(mut world: World, made: Option<Site>, returned: Option<String>) -> Step {
    world.forget_the_past();
    match world.check() {
        Ok(()) => Step::Made(world, made.expect("every operation has an access"), returned),
        Err(why) => Step::Red(why, made),
    }
}

impl Run<'_> {
    pub(super) fn memory<const LOSSES: u32>(&self, slot: Slot) -> Memory<'_, LOSSES> {
        Memory::new(self, slot)
    }

    pub(super) fn form(&self, slot: Slot) -> shipping::Form {
        self.world.borrow().form(slot)
    }

    fn op(&self) -> &Op {
        &self.scenario.scripts[self.thread][self.world.borrow().threads[self.thread].op]
    }

    pub(super) fn owner(&self) -> Owner {
        let entry = self.world.borrow().threads[self.thread].entry;
        Owner::from(entry.expect("a script claims an entry before it uses it")) + 1
    }

    /// Runs `f`, which updates one scalar, or waits for a change.
    pub(super) fn looping<R>(&self, f: impl FnOnce() -> R) -> R {
        self.begin.set(Some(self.at.get()));
        self.has_slept.set(false);
        let result = f();
        self.begin.set(None);
        result
    }

    /// Runs `f`, which takes one lock. How it got the lock is forgotten, as if it had been free at
    /// the first look.
    pub(super) fn locking<L: shipping::Lockable, E>(
        &self,
        f: impl FnOnce() -> Result<Held<L>, E>,
    ) -> Result<Held<L>, E> {
        let begin = self.at.get();
        let held = self.looping(f)?;
        if self.made.get().is_some() && !self.scenario.remembers {
            let free = held.control().with_owner(FREE).bits();
            let (mut log, mut sites) = (self.log.borrow_mut(), self.sites.borrow_mut());
            let (look, swap) = (sites[begin], *sites.last().expect("it has the lock"));
            log.splice(begin.., [free, SWAPPED]);
            sites.splice(begin.., [look, swap]);
            self.at.set(log.len());
            self.world.borrow_mut().threads[self.thread].has_slept = false;
        }
        Ok(held)
    }

    /// Whether the thread had slept for this lock when its log was cut.
    pub(super) fn has_slept_before(&self) -> bool {
        let slept = self.world.borrow().threads[self.thread].has_slept;
        self.has_slept.set(slept && self.begin.get().is_some());
        self.has_slept.get()
    }

    /// Notes that a snapshot has read all of this slot.
    pub(super) fn has_read(&self, slot: Slot) {
        let sites = self.sites.borrow();
        // The slot is read by a loop of its own, whose rounds all begin at the same place.
        let first = sites.iter().find(|site| site.slot == Some(slot)).expect("it was read");
        let begin = sites.iter().rposition(|site| site == first).expect("it is there");
        let mut snapshot = self.snapshot.borrow_mut();
        let (parts, last) = snapshot.get_or_insert((Parts::default(), slot));
        parts[slot as usize] = begin..self.at.get();
        *last = slot;
    }

    /// Notes that a reader has lost a round.
    pub(super) fn begins_next_round(&self) {
        self.relaxed.set(Some(self.at.get()));
    }

    pub(super) fn claim(&self, f: impl FnOnce() -> bool) -> bool {
        self.claiming.set(true);
        let claimed = f();
        self.claiming.set(false);
        claimed
    }

    /// From now on this entry is this thread's.
    pub(super) fn entry_is(&self, entry: u8) {
        self.world.borrow_mut().threads[self.thread].entry = Some(entry);
    }

    /// Gives this thread's entry back, as a process that leaves does.
    #[track_caller]
    pub(super) fn let_go_of_entry(&self) {
        self.access(None, 0, Kind::Other, |world| {
            let entry = world.threads[self.thread].entry.take().expect("it has one");
            world.entries[entry as usize].writer = 0;
            Returns(0)
        });
    }

    /// Unlocks the entry's byte, but goes on to act under the entry.
    #[track_caller]
    pub(super) fn let_go_of_byte(&self) {
        self.access(None, 0, Kind::Other, |world| {
            let entry = world.threads[self.thread].entry.expect("it has one");
            world.entries[entry as usize].writer = 0;
            Returns(0)
        });
    }

    /// Every access of the world goes through here: it is replayed, or made as the step, or
    /// abandoned.
    #[track_caller]
    pub(super) fn access(
        &self,
        slot: Option<Slot>,
        word: usize,
        kind: Kind,
        f: impl FnOnce(&mut World) -> Access,
    ) -> u64 {
        if self.end.borrow().is_some() {
            return 0; // abandoned: a destructor, whose accesses no longer matter
        }
        let site = Site { line: Location::caller(), slot, word, kind };
        let at = self.at.get();
        if let Some(logged) = self.log.borrow().get(at) {
            self.sites.borrow_mut().push(site);
            self.at.set(at + 1);
            return *logged;
        }
        if self.made.get().is_some() && kind != Kind::Private {
            self.forget(at, site);
            self.abandon(End::NextAccess);
        }
        let mut world = self.world.borrow_mut();
        let reads = self.scenario.scripts[self.thread][world.threads[self.thread].op].reads();
        if reads && world.threads[self.thread].since.is_none() {
            world.threads[self.thread].since = Some(world.history.len() - 1);
        }
        let access = f(&mut world);
        drop(world);
        match access {
            Returns(value) => {
                self.made.set(self.made.get().or(Some(site)));
                self.log.borrow_mut().push(value);
                self.sites.borrow_mut().push(site);
                self.at.set(at + 1);
                value
            }
            Blocked => self.abandon(End::Blocked),
            Red(why) => {
                self.made.set(self.made.get().or(Some(site)));
                self.abandon(End::Red(why))
            }
        }
    }

    /// Cuts the log, before this access is added to its end.
    fn forget(&self, at: usize, site: Site) {
        let snapshot = self.snapshot.borrow();
        // A snapshot that tries for locks also keeps those.
        if self.scenario.remembers || snapshot.is_some() && self.scenario.readers_lock {
            return;
        }
        let mut log = self.log.borrow_mut();
        if let Some(begin) = self.begins_to_wait(at, site) {
            // It knows only that the lock was not free at first, and whether it has slept.
            let has_value =
                self.sites.borrow().get(begin + 1).is_some_and(|site| site.word == VALUE);
            log.truncate(begin);
            log.push(shipping::Control::default().with_owner(NOBODY).bits());
            log.extend(has_value.then_some(0));
            self.world.borrow_mut().threads[self.thread].has_slept = self.has_slept.get();
            return;
        }
        if let Some(before) = self.been_here(at, site) {
            return log.truncate(before);
        }
        let Some((parts, last)) = snapshot.as_ref() else { return };
        let (sites, end) = (self.sites.borrow(), parts[*last as usize].end);
        if end == at && (*last == Slot::Y || site.slot == Some(Slot::X)) {
            // It begins to check: what it returns must be of an instant after this.
            let world = &mut *self.world.borrow_mut();
            world.threads[self.thread].since = Some(world.history.len() - 1);
        }
        let has_looked_back = sites[end..].iter().any(|site| site.slot == Some(Slot::Y));
        let first = sites.iter().find(|earlier| earlier.slot == site.slot);
        let reads = site.kind == Kind::Look && first == Some(&site);
        if has_looked_back && reads && self.relaxed.get() != Some(at) {
            // The next round. It has what it read last of each slot, and this check.
            let kept = parts.iter().cloned().chain(iter::once(end..at));
            *log = kept.flat_map(|part| log[part].to_vec()).collect();
        }
    }

    /// If the thread waits for a lock, and begins a round with this access: where its first look
    /// was. It needs to know only that this look was in vain.
    fn begins_to_wait(&self, at: usize, site: Site) -> Option<usize> {
        let begin = self.begin.get().filter(|begin| *begin < at)?;
        // A thread that passes the lock on also looks, but begins no round.
        let passes_on = site.line.file().ends_with("queue.rs");
        let looks = site.kind == Kind::Look && self.recoveries.get() == 0 && !passes_on;
        let is_another = self.sites.borrow()[begin] != site;
        (looks && is_another && !self.op().waits_for_change()).then_some(begin)
    }

    /// If a loop begins its next round with this access: where it began the last one.
    fn been_here(&self, at: usize, site: Site) -> Option<usize> {
        let sites = self.sites.borrow();
        if self.relaxed.get() == Some(at) {
            // The outermost loop of a reader begins with its very first access; an
            // inner one with the last that was like this.
            let before = sites.iter().rposition(|earlier| *earlier == site);
            let outermost = sites[0] == site && self.snapshot.borrow().is_none();
            return if outermost { Some(0) } else { before };
        }
        // Outside of recoveries, these loops look at the control word only where a round begins.
        let begin = self.begin.get()?;
        let listens = self.rounds_begin_with_event_count.get();
        let begins = site.slot.is_none() == listens;
        let look = site.kind == Kind::Look && self.recoveries.get() == 0 && begins;
        sites.iter().rposition(|earlier| *earlier == site).filter(|at| look && *at >= begin)
    }

    fn abandon(&self, end: End) -> ! {
        *self.end.borrow_mut() = Some(end);
        resume_unwind(Box::new(()))
    }

    pub(super) fn kind_of(&self, slot: Slot, word: usize) -> Kind {
        let locked = self.world.borrow().holder[slot as usize] == Some(self.thread);
        if locked && word != CONTROL { Kind::Private } else { Kind::Other }
    }
}
