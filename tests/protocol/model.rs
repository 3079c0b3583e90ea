//! Memory and peers for the code that ships, under the exhaustive checker: every access is a step
//! in a [`World`], and the steps that commit or recover are noted in its history.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Failure;
use super::NoEntry;
use super::explore::ByteBug;
use super::replay::{
    Access::{self, Blocked, Red, Returns},
    Kind, Run,
};
use super::words;
use super::world::{SLOTS, Slot, World};
use crate::protocol::{
    self as shipping, CONTROL, Control, FREE, Owner, REMOVED, Segments, Sleepers, TxnState, VALUE,
};

/// What the log has for a compare-exchange that succeeded. No control word has this value.
pub(super) const SWAPPED: u64 = u64::MAX;

/// One slot, as one thread sees it.
pub(super) struct Memory<'r, const LOSSES: u32> {
    run: &'r Run<'r>,
    slot: Slot,
}

impl<'r, const LOSSES: u32> Memory<'r, LOSSES> {
    pub(super) fn new(run: &'r Run<'r>, slot: Slot) -> Self {
        Memory { run, slot }
    }

    #[track_caller]
    fn access(&self, word: usize, f: impl FnOnce(&mut World) -> Access) -> u64 {
        self.run.access(Some(self.slot), word, Kind::Other, f)
    }

    /// Applies a compare-exchange of the control word that succeeds, and notes what it means.
    fn swapped(&self, world: &mut World, old: Control, new: Control) -> Result<(), String> {
        let (slot, me) = (self.slot, self.run.thread);
        let holder = world.holder[slot as usize];
        let locked = old.owner() != FREE && old.owner() != REMOVED && !old.is_read_lock();
        if locked && holder != Some(me) && !new.same(old) {
            let holder = holder.ok_or("a lock without a holder")?;
            if world.has_entry(holder) {
                return Err(format!("thread {me} steals the lock of {slot:?} from {holder}"));
            }
        }
        if new.owner() == REMOVED && new.version() == old.version() {
            return Err(format!("{slot:?} was removed, but its version is the same"));
        }
        if old.owner() == FREE && !old.is_free() {
            // Only a thread that has slept may take a lock that was handed over.
            let takes = new.owner() != FREE || new.version() != old.version();
            if takes && !self.run.has_slept.get() {
                return Err(format!("thread {me} takes a lock that was handed over to another"));
            }
        }
        if old.owner() == FREE && (new.owner() != FREE || new.version() != old.version()) {
            world.threads[me].overtaken = None;
            for thread in &mut world.threads {
                thread.overtaken = thread.overtaken.map(|times| times + 1);
                if thread.overtaken > Some(1) {
                    return Err(
                        "a thread that waits for the lock is overtaken again and again".into()
                    );
                }
            }
        }
        if new.owner() == FREE || new.owner() == REMOVED {
            world.holder[slot as usize] = None;
        } else if old.owner() == FREE && !new.is_read_lock() {
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
            // A recovery or a removal: a new version of the same content.
            world.commit(|next| next.versions[slot as usize] = new.version());
        }
        Ok(())
    }
}

impl<'r, const LOSSES: u32> shipping::Memory for Memory<'r, LOSSES> {
    type Marks = Run<'r>;

    const LOSSES_BEFORE_LOCK: u32 = LOSSES;
    const READING_TIME: Duration = Duration::ZERO;
    const PIECE: usize = 1;
    const PAUSES_AFTER_LOSS: u32 = 0;

    fn form(&self) -> shipping::Form {
        self.run.form(self.slot)
    }

    fn slot_id(&self) -> u64 {
        self.slot as u64
    }

    fn marks(&self) -> Option<(&Run<'r>, Segments)> {
        self.run.scenario.marks.map(|layout| (self.run, layout.of(self.slot)))
    }

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

    /// The access has the caller's site, so that a loop that begins anew is recognized by it.
    #[track_caller]
    fn cell(&self) -> shipping::Cell {
        let control = self.control(Ordering::Acquire);
        shipping::Cell { control, value: self.load(VALUE, Ordering::Acquire) }
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
        // The value belongs to the same access, but has an item of its own in the log.
        let value = |world: &mut World| Returns(world.load(self.slot, VALUE));
        let value = self.run.access(Some(self.slot), VALUE, Kind::Private, value);
        Err(shipping::Cell { value, control: Control::from_bits(now) })
    }

    /// All accesses are in one order, so there is nothing to do.
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
        self.run.begins_next_round();
    }

    /// With sleepers, does not spin. Otherwise spins until there is something to do, to have fewer
    /// states.
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

    fn sleep(&self, seen: Control, who: Sleepers, _: Duration) -> bool {
        self.run.sleep(WaitsOn::Slot(self.slot, seen), who)
    }

    fn wake(&self, who: Sleepers, all: bool) -> bool {
        self.access(CONTROL, |world| {
            let most = if all { usize::MAX } else { 1 };
            let mut woken = 0;
            for thread in &mut world.threads {
                let sleeps = thread.asleep & 1 << self.slot as u8 != 0;
                if sleeps && thread.asleep_for & who.bits() != 0 && woken < most {
                    (thread.asleep, thread.asleep_for) = (0, 0);
                    woken += 1;
                }
            }
            Returns(u64::from(woken > 0))
        }) != 0
    }

    fn advance_event_count(&self) {
        shipping::advance(self.run);
    }

    fn has_lock_bit(&self) -> bool {
        !self.run.scenario.is_old
    }

    fn has_slept(&self) -> bool {
        self.run.has_slept_before()
    }
}

impl<const LOSSES: u32> shipping::Await for Memory<'_, LOSSES> {
    type Error = NoEntry;

    fn look(&self) -> Result<(Control, u64), Failure> {
        shipping::look_to_wait(self, self.run)
    }

    fn announce(&self, seen: Control) -> Result<Option<Control>, Failure> {
        shipping::announce(self, self.run, seen)
    }
}

/// One thread, waiting for these slots.
pub(super) struct Waiter<'r> {
    pub(super) run: &'r Run<'r>,
    pub(super) slots: &'r [Slot],
    /// What the event count was last.
    pub(super) heard: u32,
}

impl shipping::Pause for Waiter<'_> {
    fn listen(&mut self) {
        if self.slots.len() > 1 {
            self.heard = shipping::listen(self.run);
        }
    }

    /// Never spins: that would only hide what happens.
    fn again(&mut self, _: bool, _: Duration) -> bool {
        false
    }

    fn sleep(&mut self, seen: &[Control], _: Duration) {
        match self.slots {
            [slot] => self.run.sleep(WaitsOn::Slot(*slot, seen[0]), Sleepers::CHANGE),
            _ => self.run.sleep(WaitsOn::EventCount(self.heard), Sleepers::CHANGE),
        };
    }
}

impl shipping::EventCount for Run<'_> {
    /// Each round of a thread that listens begins with this.
    fn load(&self) -> u32 {
        self.rounds_begin_with_event_count.set(true);
        self.access(None, EVENT_COUNT, Kind::Look, |world| Returns(u64::from(world.event_count)))
            as u32
    }

    fn swap(&self, old: u32, new: u32, _: Ordering) -> Result<(), u32> {
        let now = self.access(None, EVENT_COUNT, Kind::Other, |world| {
            if world.event_count != old {
                return Returns(u64::from(world.event_count));
            }
            world.event_count = new;
            Returns(SWAPPED)
        });
        if now == SWAPPED { Ok(()) } else { Err(now as u32) }
    }

    fn wake(&self) {
        self.access(None, EVENT_COUNT, Kind::Other, |world| {
            for thread in world.threads.iter_mut().filter(|thread| thread.asleep == ON_EVENT_COUNT)
            {
                (thread.asleep, thread.asleep_for) = (0, 0);
            }
            Returns(0)
        });
    }
}

/// In place of a word's number.
const EVENT_COUNT: usize = 100;
/// In place of the slots that a thread sleeps on.
const ON_EVENT_COUNT: u8 = 1 << 7;

/// What to sleep on.
#[derive(Clone, Copy)]
enum WaitsOn {
    Slot(Slot, Control),
    EventCount(u32),
}

impl Run<'_> {
    /// Time-outs are only for what dead or stopped threads leave. While there are none, a sleeper
    /// must be woken.
    fn sleep(&self, waits_on: WaitsOn, who: Sleepers) -> bool {
        let me = self.thread;
        let first = match waits_on {
            WaitsOn::Slot(slot, _) => Some(slot),
            WaitsOn::EventCount(_) => None,
        };
        let sleeps = self.access(first, CONTROL, Kind::Other, |world| {
            let sleeps = match waits_on {
                WaitsOn::Slot(slot, seen) => world.control(slot).futex_word() == seen.futex_word(),
                WaitsOn::EventCount(heard) => world.event_count == heard,
            };
            if sleeps {
                let thread = &mut world.threads[me];
                thread.asleep = match waits_on {
                    WaitsOn::Slot(slot, _) => 1 << slot as u8,
                    WaitsOn::EventCount(_) => ON_EVENT_COUNT,
                };
                thread.asleep_for = who.bits();
                if self.scenario.is_fair && who.bits() & Sleepers::OVERTAKEN.bits() != 0 {
                    thread.overtaken = thread.overtaken.or(Some(0));
                }
            }
            Returns(u64::from(sleeps))
        });
        let was_woken = sleeps == 0
            || self.access(first, CONTROL, Kind::Other, |world| {
                let was_woken = world.threads[me].asleep == 0;
                if !was_woken && !world.is_anyone_gone() {
                    return Blocked;
                }
                world.threads[me].asleep = 0;
                world.threads[me].asleep_for = 0;
                Returns(u64::from(was_woken))
            }) != 0;
        if who != Sleepers::CHANGE {
            self.has_slept.set(true);
        }
        was_woken
    }

    fn seems_alive(&self, world: &World, entry: Owner) -> bool {
        // A read lock has 8,192 more.
        let entry = &world.entries[entry as usize % 8192];
        let shared = entry.sharers & !(1 << self.thread) != 0;
        let exclusive_recovery = self.scenario.byte_bug == Some(ByteBug::RecoverExclusively);
        entry.writer != 0 || (exclusive_recovery && shared)
    }
}

impl shipping::Peers for Run<'_> {
    type Error = NoEntry;

    fn me(&self) -> Result<Owner, NoEntry> {
        match self.world.borrow().threads[self.thread].entry {
            Some(entry) => Ok(Owner::from(entry) + 1),
            None => Err(NoEntry),
        }
    }

    fn may_be_free_soon(_: &NoEntry) -> bool {
        false
    }

    fn is_me(&self, owner: Owner) -> bool {
        let entry = self.world.borrow().threads[self.thread].entry;
        entry.is_some_and(|entry| Owner::from(entry) + 1 == owner)
    }

    fn txn_word(&self, owner: Owner, _: Ordering) -> TxnState {
        let word = self.access(None, owner as usize, Kind::Other, |world| {
            Returns(u64::from(world.entries[owner as usize - 1].word))
        });
        [TxnState::Free, TxnState::Idle, TxnState::Committed][word as usize]
    }

    fn set_txn_word(&self, owner: Owner, word: TxnState, _: Ordering) {
        self.access(None, owner as usize, Kind::Other, |world| {
            world.entries[owner as usize - 1].word = word as u8;
            if word == TxnState::Committed {
                // A transaction commits all its slots at once.
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
        // Every thread of the checker is a process of its own, so nobody has the mutex.
        self.recoveries.set(self.recoveries.get() + 1);
        let result = f();
        self.recoveries.set(self.recoveries.get() - 1);
        result
    }

    fn share(&self, owner: Owner) -> bool {
        self.access(None, owner as usize, Kind::Other, |world| {
            let seems_alive = self.seems_alive(world, owner - 1);
            let claiming = self.claiming.get();
            let entry = &mut world.entries[(owner as usize - 1) % 8192];
            let claim_exclusively = self.scenario.byte_bug == Some(ByteBug::ClaimExclusively);
            if claiming && (seems_alive || claim_exclusively && entry.sharers != 0) {
                // In the library it is refused, and takes the next entry. Here it waits, as the
                // scenario is about an entry that is used again.
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

    fn note_locked(&self) {}

    fn note_unlocked(&self) {}

    fn begin_under_guard(&self, _: u64) -> Option<u64> {
        None
    }

    fn is_under_guard(&self, _: u64, _: u64) -> bool {
        true
    }

    fn end_under_guard(&self, _: u64, _: u64) {}

    /// Always, so that every lock that can be handed over is.
    fn is_handover_due(&self) -> bool {
        true
    }
}
