//! Taking and releasing a slot's lock. What is stored under it: `update.rs`. What becomes of it if
//! its owner dies: `recover.rs`. Who gets it next: `queue.rs`.

use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::control::State;
use super::queue::{Waiting, publish};
use super::{
    Control, Deadline, FREE, Failure, LONGEST_SLEEP, Memory, Owner, Peers, REMOVED, planted,
};

/// What a lock is of: a slot, and the processes that share it.
pub(crate) trait Lockable {
    type Memory: Memory;
    type Peers: Peers;

    fn memory(&self) -> &Self::Memory;
    fn peers(&self) -> &Self::Peers;
}

impl<M: Memory, P: Peers> Lockable for (&M, &P) {
    type Memory = M;
    type Peers = P;

    #[inline]
    fn memory(&self) -> &M {
        self.0
    }

    #[inline]
    fn peers(&self) -> &P {
        self.1
    }
}

impl<L: Lockable> Lockable for &L {
    type Memory = L::Memory;
    type Peers = L::Peers;

    #[inline]
    fn memory(&self) -> &L::Memory {
        (*self).memory()
    }

    #[inline]
    fn peers(&self) -> &L::Peers {
        (*self).peers()
    }
}

/// Why a lock of this could not be taken, or was lost.
pub(crate) type FailureOf<L> = Failure<<<L as Lockable>::Peers as Peers>::Error>;

/// A slot's lock, held by this thread. Dropping it releases the lock and changes nothing.
#[derive(Debug)]
pub(crate) struct Held<L: Lockable> {
    on: L,
    pub(super) raw: RawLock,
}

/// A [`Held`] without the slot, for an owner that keeps the slot elsewhere. Dropping it does
/// nothing: the lock stays.
#[derive(Debug)]
pub(crate) struct RawLock {
    /// The control word while the lock is held, as if it were dirty, and without W and L. It
    /// identifies the lock, by version and owner: no other acquisition has both, since taking a lock away advances the version.
    control: Control,
    hold: Hold,
    fork_generation: u64,
    /// A lock belongs to its thread.
    not_send: PhantomData<*const ()>,
}

/// How a lock is held, and so what its end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Its end releases it.
    Own,
    /// A guard of this thread keeps it. Its end ends this update under the guard.
    UnderGuard(u64),
    /// It was committed, or is kept elsewhere: its end does nothing.
    Over,
}

/// Waits for the lock and takes it; recovers it if its owner is dead.
///
/// [`Failure::Deadlock`] if this thread already has it.
#[inline]
pub(crate) fn lock<L: Lockable + Copy>(
    on: L,
    deadline: &mut Deadline,
) -> Result<Held<L>, FailureOf<L>> {
    // Inlined instead of calling `try_lock`, which reads the control word before it finds our
    // entry: that costs an update of an array 29 instructions.
    if let Ok(me) = on.peers().me() {
        let seen = on.memory().control(Relaxed);
        if seen.is_free()
            && let Some(held) = take(on, seen, me, false)
        {
            return Ok(held);
        }
    }
    wait_for_lock(on, deadline).inspect_err(|_| on.peers().note_given_up())
}

/// This thread's number. Waits for an entry if all are taken, as lent ones are soon free.
fn wait_for_entry<P: Peers>(
    peers: &P,
    deadline: &mut Deadline,
) -> Result<Owner, Failure<P::Error>> {
    loop {
        match peers.me() {
            Err(error) if P::may_be_free_soon(&error) && !deadline.is_over() => {
                std::thread::sleep(LONGEST_SLEEP / 4);
            }
            result => return result.map_err(Failure::Peers),
        }
    }
}

#[cold]
fn wait_for_lock<L: Lockable + Copy>(
    on: L,
    deadline: &mut Deadline,
) -> Result<Held<L>, FailureOf<L>> {
    let (memory, peers) = (on.memory(), on.peers());
    let me = wait_for_entry(peers, deadline)?;
    let mut waiting = Waiting::new(memory);
    loop {
        let seen = memory.control(Relaxed);
        match seen.owner() {
            FREE if waiting.may_take(seen) => {
                if let Some(held) = take(on, seen, me, waiting.owes_wake_up(memory)) {
                    return Ok(held);
                }
                // Another thread was faster. That may happen many times.
                if deadline.is_over() && !planted!(NoTimeoutWhileLosing) {
                    return Err(waiting.give_up(memory));
                }
            }
            REMOVED => return Err(Failure::Removed),
            owner if owner == me => return Err(Failure::Deadlock),
            _ => waiting.wait(memory, peers, seen, deadline)?,
        }
    }
}

/// Takes the lock if it is free now.
#[inline]
pub(crate) fn try_lock<L: Lockable + Copy>(on: L) -> Option<Held<L>> {
    let seen = on.memory().control(Relaxed);
    if !seen.is_free() {
        on.peers().note_given_up();
        return None;
    }
    let me = on.peers().me().ok()?;
    let held = take(on, seen, me, false);
    if held.is_none() {
        on.peers().note_given_up();
    }
    held
}

/// `contended`: others may sleep until the lock is free, so L must be set.
#[inline]
pub(super) fn take<L: Lockable>(
    on: L,
    seen: Control,
    me: Owner,
    contended: bool,
) -> Option<Held<L>> {
    let mut now = seen.taken_by(me);
    let locked = now.with_waiters(false).with_state(State::Dirty);
    if contended && !planted!(TakeWithoutL) {
        now = now.with_lock_waiters(true);
    }
    // Acquire: sees what the last holder stored. A compare-exchange, never a plain store: it
    // continues the release sequence of the last commit.
    on.memory().swap_control(seen, now, Acquire).ok()?;
    on.peers().note_locked();
    Some(Held::new(on, locked, Hold::Own))
}

impl<L: Lockable> Held<L> {
    #[inline]
    fn new(on: L, control: Control, hold: Hold) -> Held<L> {
        let fork_generation = on.peers().fork_generation();
        Held { on, raw: RawLock { control, hold, fork_generation, not_send: PhantomData } }
    }

    /// The lock that this thread's guard keeps, for one update, which has this number.
    /// [`Failure::Evicted`] if it was taken away.
    pub(crate) fn under_guard(on: L, update: u64) -> Result<Held<L>, FailureOf<L>> {
        let control = on.memory().control(Relaxed).quiet();
        let held = Held::new(on, control, Hold::UnderGuard(update));
        if held.peers().is_me(control.owner()) { Ok(held) } else { Err(Failure::Evicted) }
    }

    /// The lock that this thread has taken and whose [`Held`] it has forgotten.
    pub(crate) fn taken(on: L) -> Held<L> {
        let control = on.memory().control(Relaxed).quiet();
        Held::new(on, control, Hold::Own)
    }

    #[inline]
    pub(crate) fn into_raw(mut self) -> RawLock {
        let hold = std::mem::replace(&mut self.raw.hold, Hold::Over);
        RawLock { hold, ..self.raw }
    }

    /// What it is the lock of.
    #[inline]
    pub(crate) fn on(&self) -> &L {
        &self.on
    }

    #[inline]
    pub(super) fn memory(&self) -> &L::Memory {
        self.on.memory()
    }

    #[inline]
    pub(super) fn peers(&self) -> &L::Peers {
        self.on.peers()
    }

    /// The control word while the lock is held, as if it were dirty, and without W and L.
    #[inline]
    pub(super) fn control(&self) -> Control {
        self.raw.control
    }

    /// The version that is current while the lock is held.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.raw.version()
    }

    pub(super) fn owner(&self) -> Owner {
        self.raw.owner()
    }

    /// Whether the lock ends with this: no guard keeps it.
    #[inline]
    pub(super) fn is_own(&self) -> bool {
        self.raw.is_own()
    }

    /// Adopts the current control word, if the lock is still this thread's: updates under this
    /// guard have advanced the version.
    pub(crate) fn follow_updates(&mut self) {
        let control = self.memory().control(Relaxed).quiet();
        if control.owner() == self.owner() {
            self.raw.control = control;
        }
    }

    /// Whether this thread still holds this same lock. It does not if its entry was given back
    /// first, as when a thread-local of an ending thread has kept this.
    pub(crate) fn is_held(&self) -> bool {
        self.may_store()
            && self.peers().is_me(self.owner())
            && self.raw.is_at(self.memory(), self.peers())
    }

    /// Whether something may be stored under it, see [`RawLock::may_store`].
    #[inline]
    pub(crate) fn may_store(&self) -> bool {
        self.raw.may_store(self.memory(), self.peers())
    }

    /// Whether the lock was taken by the parent, before this process was forked.
    #[inline]
    fn is_of_parent(&self) -> bool {
        self.raw.is_of_parent(self.peers())
    }

    /// From now on, dropping this does nothing: the lock was released by a commit, or stays.
    #[inline]
    pub(crate) fn disarm(&mut self) {
        self.raw.hold = Hold::Over;
    }

    /// Releases the lock, and wakes all that wait for it to change: the version advances.
    pub(super) fn release_to_all(&mut self) {
        if self.may_store() {
            // Release: the next holder, and those that wait, see all that was done under the lock.
            publish(self.memory(), self.peers(), self.control(), self.raw.committed(), None);
            self.disarm();
            self.peers().note_unlocked();
        }
    }

    fn release(&self) {
        let seen = self.memory().control(Relaxed);
        // Otherwise it was committed, or evicted and perhaps taken again, by this thread or by the
        // new owner of its entry.
        let is_this = match planted!(DropByOwner) {
            true => seen.owner() == self.owner(),
            false => seen.same(self.control()),
        };
        if is_this {
            let held = if planted!(DropByOwner) { seen.quiet() } else { self.control() };
            // Release: the next holder sees all that was done under the lock.
            publish(self.memory(), self.peers(), held, held.with_owner(FREE), None);
        }
    }
}

impl<L: Lockable> Drop for Held<L> {
    #[inline]
    fn drop(&mut self) {
        match self.raw.hold {
            Hold::Over => {}
            Hold::UnderGuard(update) => {
                self.peers().end_under_guard(self.memory().slot_id(), update);
            }
            Hold::Own => {
                if !self.is_of_parent() {
                    self.release();
                }
                // Only now: after releasing its last lock, a thread may give its entry back.
                self.peers().note_unlocked();
            }
        }
    }
}

impl RawLock {
    /// Turns it back into the lock, of the same slot.
    #[inline]
    pub(crate) fn resume<L: Lockable>(self, on: L) -> Held<L> {
        Held { on, raw: self }
    }

    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.control.version()
    }

    #[inline]
    pub(crate) fn owner(&self) -> Owner {
        self.control.owner()
    }

    #[inline]
    pub(super) fn is_own(&self) -> bool {
        self.hold == Hold::Own
    }

    /// Whether a guard keeps it.
    #[inline]
    pub(crate) fn is_under_guard(&self) -> bool {
        matches!(self.hold, Hold::UnderGuard(_))
    }

    /// Whether the control word is what it must be while the lock is held, and its guard, if it is
    /// under one, still exists. A guard taken again meanwhile does not know of this update.
    #[inline]
    pub(crate) fn is_at<M: Memory, P: Peers>(&self, memory: &M, peers: &P) -> bool {
        // Relaxed: if the lock is held, this thread has stored it.
        memory.control(Relaxed).same(self.control) && self.is_guarded(memory, peers)
    }

    /// Whether something may be stored under it. Not in the child of a fork: it has a copy of this,
    /// but not the lock. Nor once the guard that kept the lock is gone.
    #[inline]
    pub(super) fn may_store<M: Memory, P: Peers>(&self, memory: &M, peers: &P) -> bool {
        !self.is_of_parent(peers) && self.is_guarded(memory, peers)
    }

    #[inline]
    fn is_of_parent<P: Peers>(&self, peers: &P) -> bool {
        peers.fork_generation() != self.fork_generation
    }

    /// The control word while the lock is held, as if it were dirty, and without W and L.
    #[inline]
    pub(super) fn control(&self) -> Control {
        self.control
    }

    /// The control word after a commit. Under a guard, the lock stays.
    #[inline]
    pub(super) fn committed(&self) -> Control {
        let next = self.control.advanced(1);
        if self.is_own() { next.with_owner(FREE) } else { next }
    }

    /// Ends it after a commit, which has released the lock.
    #[inline]
    pub(crate) fn end_after_commit<P: Peers>(self, slot: u64, peers: &P) {
        match self.hold {
            Hold::Own => peers.note_unlocked(),
            Hold::UnderGuard(update) => peers.end_under_guard(slot, update),
            Hold::Over => {}
        }
    }

    #[inline]
    fn is_guarded<M: Memory, P: Peers>(&self, memory: &M, peers: &P) -> bool {
        match self.hold {
            Hold::UnderGuard(update) => peers.is_under_guard(memory.slot_id(), update),
            Hold::Own | Hold::Over => true,
        }
    }
}
