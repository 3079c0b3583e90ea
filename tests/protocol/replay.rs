//! One step of one virtual thread: the shipping code, run up to its next access.
//!
//! The code cannot be stopped half-way and copied, so its state is kept in another
//! form: **the log** of what its accesses have returned since the operation began. The
//! code is deterministic, so the log is its state. To make one step of a thread, its
//! operation is run again from the beginning:
//!
//! 1. as long as there is a log, accesses return what it says;
//! 2. the next access is done, on a copy of the world, and added to the log: the step;
//! 3. at the access after that, the operation is abandoned, by unwinding.
//!
//! If the operation returns instead, the thread goes on to the next one of its script.
//!
//! Two things keep the number of states small, without losing any behaviour:
//!
//! - **Who starts over forgets**: a loop of the protocol keeps nothing from a lost round
//!   but the count of losses. So when it is back at its first access, the log is cut to
//!   what it was there. Readers say so by [`shipping::Memory::relax`]; the loops of `lock`
//!   and `update_scalar` by looking at the control word again ([`Run::locking`]). (The count of losses decides when a
//!   reader tries for the lock: here never, or, with `LOSSES` = 0, after every loss.)
//! - **What is under one's own lock is private**: nobody else stores there, so a load
//!   of it is done together with the access before.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::explore::{ByteBug, Scenario};
use super::words;
use super::world::{SLOTS, Slot, Status, World};
use crate::error::Error;
use crate::protocol::{self as shipping, CONTROL, Control, FREE, Owner, REMOVED, VALUE, Word};

/// Where the code made an access, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) line: &'static Location<'static>,
    pub(super) slot: Option<Slot>,
    pub(super) word: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Looks at the control word.
    Look,
    /// Loads what is under this thread's own lock.
    Private,
    Other,
}

/// What became of a step.
pub(super) enum Step {
    /// The world after it, and the access that it was.
    Made(World, Site),
    /// The thread waits for something that only others can do.
    Blocked,
    /// What must never happen has happened.
    Red(String, Option<Site>),
}

/// What an access came to.
enum Access {
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

/// How the log notes a compare-exchange that has succeeded: no control word is like this.
const SWAPPED: u64 = u64::MAX;

/// One operation of one thread, being run again.
pub(super) struct Run<'s> {
    scenario: &'s Scenario,
    pub(super) thread: usize,
    world: RefCell<World>,
    log: RefCell<Vec<u64>>,
    /// How much of the log has been replayed.
    at: Cell<usize>,
    /// The step, once it is made.
    made: Cell<Option<Site>>,
    /// The sites of the log's accesses.
    sites: RefCell<Vec<Site>>,
    /// Where in the log the call of `lock` began that is being run.
    lock: Cell<Option<usize>>,
    /// Where in the log a loop has last begun a new round.
    relaxed: Cell<Option<usize>>,
    burials: Cell<u32>,
    /// A claim waits for the entry; a burial does not.
    claiming: Cell<bool>,
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
        lock: Cell::new(None),
        relaxed: Cell::new(None),
        burials: Cell::new(0),
        claiming: Cell::new(false),
        end: RefCell::new(None),
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        if scenario.readers_lock { op.perform::<0>(&run) } else { op.perform::<8>(&run) }
    }));
    let made = run.made.get();
    let mut world = run.world.into_inner();
    match (result, run.end.into_inner()) {
        (Ok(outcome), None) => {
            if let Err(why) = op.check(&outcome, &world, thread) {
                return Step::Red(why, made);
            }
            let state = &mut world.threads[thread];
            state.op += 1;
            state.log = Rc::default();
            state.since = None;
            state.burying = false;
            if state.op == scenario.scripts[thread].len() {
                state.status = Status::Done;
            }
        }
        (Err(_), Some(End::NextAccess)) => {
            let state = &mut world.threads[thread];
            state.log = Rc::new(run.log.into_inner());
            state.burying = run.burials.get() > 0;
        }
        (Err(_), Some(End::Blocked)) => return Step::Blocked,
        (Err(_), Some(End::Red(why))) => return Step::Red(why, made),
        (Err(_), None) => return Step::Red("the protocol panicked".into(), made),
        (Ok(_), Some(_)) => return Step::Red("the end of an operation was lost".into(), made),
    }
    world.forget_the_past();
    match world.check() {
        Ok(()) => Step::Made(world, made.expect("every operation has an access")),
        Err(why) => Step::Red(why, made),
    }
}

impl Run<'_> {
    pub(super) fn memory<const LOSSES: u32>(&self, slot: Slot) -> Memory<'_, LOSSES> {
        Memory { run: self, slot }
    }

    pub(super) fn form(&self, slot: Slot) -> shipping::Form {
        self.world.borrow().form(slot)
    }

    pub(super) fn owner(&self) -> Owner {
        let entry = self.world.borrow().threads[self.thread].entry;
        Owner::from(entry.expect("a script claims an entry before it uses it")) + 1
    }

    /// Runs `f`, which takes one lock, or updates one scalar.
    pub(super) fn locking<R>(&self, f: impl FnOnce() -> R) -> R {
        self.lock.set(Some(self.at.get()));
        let result = f();
        self.lock.set(None);
        result
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

    /// Lets go of this thread's entry, as a process does that leaves.
    #[track_caller]
    pub(super) fn let_go_of_entry(&self) {
        self.access(None, 0, Kind::Other, |world| {
            let entry = world.threads[self.thread].entry.take().expect("it has one");
            world.entries[entry as usize].writer = 0;
            Returns(0)
        });
    }

    /// The one way to the world: replays, or makes the step, or abandons.
    #[track_caller]
    fn access(
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
            if let Some(before) = self.been_here(at, site) {
                self.log.borrow_mut().truncate(before);
            }
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

    /// If a loop begins its next round with this access: where it began the last one.
    fn been_here(&self, at: usize, site: Site) -> Option<usize> {
        let sites = self.sites.borrow();
        if self.relaxed.get() == Some(at) {
            // The outermost loop of a reader begins with its very first access; an
            // inner one with the last that was like this.
            let before = sites.iter().rposition(|earlier| *earlier == site);
            return if sites[0] == site { Some(0) } else { before };
        }
        // Outside of burials, `lock` and `update_scalar` look at the control word only
        // where a round begins.
        let lock = self.lock.get()?;
        let look = site.kind == Kind::Look && self.burials.get() == 0;
        sites.iter().rposition(|earlier| *earlier == site).filter(|at| look && *at >= lock)
    }

    fn abandon(&self, end: End) -> ! {
        *self.end.borrow_mut() = Some(end);
        resume_unwind(Box::new(()))
    }

    fn kind_of(&self, slot: Slot, word: usize) -> Kind {
        let locked = self.world.borrow().holder[slot as usize] == Some(self.thread);
        if locked && word != CONTROL { Kind::Private } else { Kind::Other }
    }
}

/// One slot, as one thread sees it.
pub(super) struct Memory<'r, const LOSSES: u32> {
    run: &'r Run<'r>,
    slot: Slot,
}

impl<const LOSSES: u32> Memory<'_, LOSSES> {
    #[track_caller]
    fn access(&self, word: usize, f: impl FnOnce(&mut World) -> Access) -> u64 {
        self.run.access(Some(self.slot), word, Kind::Other, f)
    }

    /// What a compare-exchange of the control word does to the world, once it is known
    /// to succeed: above all, what it means.
    fn swapped(&self, world: &mut World, old: Control, new: Control) -> Result<(), String> {
        let (slot, me) = (self.slot, self.run.thread);
        let holder = world.holder[slot as usize];
        let locked = old.owner() != FREE && old.owner() != REMOVED;
        if locked && holder != Some(me) && !new.same(old) {
            let holder = holder.ok_or("a lock without a holder")?;
            if world.is_alive(holder) {
                return Err(format!("thread {me} steals the lock of {slot:?} from {holder}"));
            }
        }
        if new.owner() == FREE || new.owner() == REMOVED {
            world.holder[slot as usize] = None;
        } else if old.owner() == FREE {
            world.holder[slot as usize] = Some(me);
        }
        world.store(slot, CONTROL, new.bits());
        if new.version() == old.version() {
            return Ok(());
        }
        let mine = holder == Some(me) && !old.in_transaction() && new.owner() != REMOVED;
        let scalar = slot == Slot::X && old.owner() == FREE;
        if mine || scalar {
            // The commit of an update.
            let op = &self.run.scenario.scripts[me][world.threads[me].op];
            world.commit(|next| {
                op.change(slot, next);
                next.versions[slot as usize] = new.version();
            });
        } else if world.now().versions[slot as usize] != new.version() {
            // A burial, or a removal: nothing new, under a new version.
            world.commit(|next| next.versions[slot as usize] = new.version());
        }
        Ok(())
    }
}

impl<const LOSSES: u32> shipping::Memory for Memory<'_, LOSSES> {
    const LOSSES_BEFORE_LOCK: u32 = LOSSES;

    fn load(&self, word: usize, _: Ordering) -> u64 {
        let kind = self.run.kind_of(self.slot, word);
        let load = |world: &mut World| Returns(world.load(self.slot, word));
        self.run.access(Some(self.slot), word, kind, load)
    }

    fn store(&self, word: usize, value: u64, _: Ordering) {
        self.access(word, |world| {
            world.store(self.slot, word, value);
            Returns(0)
        });
    }

    fn control(&self, _: Ordering) -> Control {
        let look = |world: &mut World| Returns(world.load(self.slot, CONTROL));
        Control::from_bits(self.run.access(Some(self.slot), CONTROL, Kind::Look, look))
    }

    fn swap_control(&self, old: Control, new: Control, _: Ordering) -> Result<(), Control> {
        let now = self.access(CONTROL, |world| {
            let now = world.control(self.slot);
            if now != old {
                return Returns(now.bits());
            }
            self.swapped(world, old, new).map_or_else(Red, |()| Returns(SWAPPED))
        });
        if now == SWAPPED { Ok(()) } else { Err(Control::from_bits(now)) }
    }

    fn swap_cell(
        &self,
        old: shipping::Cell,
        new: shipping::Cell,
        _: Ordering,
    ) -> Result<(), shipping::Cell> {
        let now = self.access(CONTROL, |world| {
            let now = world.control(self.slot);
            if (now, world.load(self.slot, VALUE)) != (old.control, old.value) {
                return Returns(now.bits());
            }
            world.store(self.slot, VALUE, new.value);
            self.swapped(world, old.control, new.control).map_or_else(Red, |()| Returns(SWAPPED))
        });
        if now == SWAPPED {
            return Ok(());
        }
        // The value belongs to the same access; the log has a line of its own for it.
        let value = |world: &mut World| Returns(world.load(self.slot, VALUE));
        let value = self.run.access(Some(self.slot), VALUE, Kind::Private, value);
        Err(shipping::Cell { value, control: Control::from_bits(now) })
    }

    /// Nothing to do where all accesses are in one order.
    fn fence(&self, _: Ordering) {}

    fn read(&self, word: usize, skip: usize, out: &mut [u8]) {
        words::read(word, skip, out, |word| self.load(word, Ordering::Relaxed));
    }

    fn write(&self, word: usize, skip: usize, data: &[u8]) {
        let load = |word| self.load(word, Ordering::Relaxed);
        words::write(word, skip, data, load, |word, v| self.store(word, v, Ordering::Relaxed));
    }

    fn copy(&self, from: usize, to: usize, count: usize) {
        let load = |word| self.load(word, Ordering::Relaxed);
        words::copy(from, to, count, load, |word, v| self.store(word, v, Ordering::Relaxed));
    }

    fn relax(&self) {
        self.run.relaxed.set(Some(self.run.at.get()));
    }

    /// Either not at all; or, to have fewer states, until there is something to do.
    fn spin(&self, seen: Control) -> bool {
        if self.run.scenario.sleepers {
            return false;
        }
        self.access(CONTROL, |world| {
            if world.control(self.slot) != seen {
                Returns(1)
            } else if self.run.seems_alive(world, seen.owner() - 1) {
                Blocked
            } else {
                Returns(0)
            }
        }) != 0
    }

    /// Time-outs are for what the dead and the stopped leave: while there are none,
    /// whoever sleeps must be woken.
    fn wait(&self, seen: Control, _: Duration) {
        let me = self.run.thread;
        let sleeps = self.access(CONTROL, |world| {
            let sleeps = world.control(self.slot).futex_word() == seen.futex_word();
            world.threads[me].asleep = sleeps.then_some(self.slot);
            Returns(u64::from(sleeps))
        });
        if sleeps != 0 {
            self.access(CONTROL, |world| {
                if world.threads[me].asleep.is_some() && !world.is_anyone_gone() {
                    return Blocked;
                }
                world.threads[me].asleep = None;
                Returns(0)
            });
        }
    }

    fn wake(&self) {
        self.access(CONTROL, |world| {
            for thread in &mut world.threads {
                if thread.asleep == Some(self.slot) {
                    thread.asleep = None;
                }
            }
            Returns(0)
        });
    }
}

impl Run<'_> {
    fn seems_alive(&self, world: &World, entry: Owner) -> bool {
        let entry = &world.entries[entry as usize];
        let shared = entry.sharers & !(1 << self.thread) != 0;
        let exclusive_burial = self.scenario.byte_bug == Some(ByteBug::BuryExclusively);
        entry.writer != 0 || (exclusive_burial && shared)
    }
}

impl shipping::Peers for Run<'_> {
    fn me(&self) -> Result<Owner, Error> {
        match self.world.borrow().threads[self.thread].entry {
            Some(entry) => Ok(Owner::from(entry) + 1),
            None => Err(Error::ReadOnly { path: "a thread without an entry".into() }),
        }
    }

    fn is_me(&self, owner: Owner) -> bool {
        let entry = self.world.borrow().threads[self.thread].entry;
        entry.is_some_and(|entry| Owner::from(entry) + 1 == owner)
    }

    fn word(&self, owner: Owner, _: Ordering) -> Word {
        let word = self.access(None, owner as usize, Kind::Other, |world| {
            Returns(u64::from(world.entries[owner as usize - 1].word))
        });
        [Word::Free, Word::Idle, Word::Committed][word as usize]
    }

    fn set_word(&self, owner: Owner, word: Word, _: Ordering) {
        self.access(None, owner as usize, Kind::Other, |world| {
            world.entries[owner as usize - 1].word = word as u8;
            if word == Word::Committed {
                // The commit of a transaction: of all its slots, at once.
                let op = &self.scenario.scripts[self.thread][world.threads[self.thread].op];
                let next = SLOTS.map(|slot| world.control(slot).advanced(1).version());
                world.commit(|instant| {
                    for slot in SLOTS.into_iter().filter(|slot| op.writes(*slot)) {
                        op.change(slot, instant);
                        instant.versions[slot as usize] = next[slot as usize];
                    }
                });
            }
            Returns(0)
        });
    }

    fn one_at_a_time<R>(&self, f: impl FnOnce() -> R) -> R {
        // Every thread of the checker is a process of its own: nobody to wait for.
        self.burials.set(self.burials.get() + 1);
        let result = f();
        self.burials.set(self.burials.get() - 1);
        result
    }

    fn share(&self, owner: Owner) -> bool {
        self.access(None, owner as usize, Kind::Other, |world| {
            let seems_alive = self.seems_alive(world, owner - 1);
            let claiming = self.claiming.get();
            let entry = &mut world.entries[owner as usize - 1];
            let claim_exclusively = self.scenario.byte_bug == Some(ByteBug::ClaimExclusively);
            if claiming && (seems_alive || claim_exclusively && entry.sharers != 0) {
                // In truth refused, and the next entry taken. Here it waits, because
                // what is to be seen is the entry used again.
                Blocked
            } else if seems_alive {
                Returns(0)
            } else {
                if claiming && claim_exclusively {
                    entry.writer = self.thread as u8 + 1;
                } else {
                    entry.sharers |= 1 << self.thread;
                }
                Returns(1)
            }
        }) != 0
    }

    fn unshare(&self, owner: Owner) {
        self.access(None, owner as usize, Kind::Other, |world| {
            world.entries[owner as usize - 1].sharers &= !(1 << self.thread);
            Returns(0)
        });
    }

    fn promote(&self, owner: Owner) -> bool {
        self.access(None, owner as usize, Kind::Other, |world| {
            let entry = &mut world.entries[owner as usize - 1];
            if entry.sharers & !(1 << self.thread) != 0 {
                return Returns(0);
            }
            entry.sharers = 0;
            entry.writer = self.thread as u8 + 1;
            Returns(1)
        }) != 0
    }

    fn fork_generation(&self) -> u64 {
        0
    }
}
