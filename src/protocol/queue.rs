//! Waiting for a lock, and who gets it next.
//!
//! **One is woken.** A waiter sets L in the control word and sleeps. A thread that releases a lock
//! with L clears L and wakes one waiter. That one sets L again, when it takes the lock or before it
//! sleeps again, as others may still be asleep. Between the two, L is clear although some sleep,
//! but one thread is awake that has to set it. If it dies, the others wake after the longest sleep.
//! Those that wait for a change (`wait.rs`) have their own bit, W, and a lock that is taken and
//! released does not wake them.
//!
//! **The overtaken waiter gets it next.** A released lock is free for everybody, and a running
//! thread is faster than one that has to be woken. That is good for throughput, but the slowest
//! waiter could wait forever. So a waiter that was woken and overtaken sleeps as such. Once in a
//! millisecond (a handover interval) a lock is handed over to such a waiter: with L set and no
//! owner, only threads that have slept may take it.

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use super::control::State;
use super::marks::{Bytes, mark_several, prepare};
use super::read_lock::wait_for_reader;
use super::recover::recover_dead_owner;
use super::{Control, Deadline, FREE, Failure, Memory, Peers, REMOVED, Sleepers, planted};

/// A thread that waits for a lock.
pub(super) struct Waiting {
    /// If true, it may have been woken, and others may sleep although L is clear.
    has_slept: bool,
}

impl Waiting {
    #[cfg_attr(not(test), expect(unused_variables, reason = "for the exhaustive checker"))]
    pub(super) fn new<M: Memory>(memory: &M) -> Waiting {
        #[cfg(not(test))]
        let has_slept = false;
        #[cfg(test)]
        let has_slept = memory.has_slept();
        Waiting { has_slept }
    }

    /// Whether this thread may take the lock, which has no owner.
    pub(super) fn may_take(&self, seen: Control) -> bool {
        seen.is_free() || self.has_slept
    }

    /// Waits until the control word is no longer `seen`, in which another thread has the lock or is
    /// about to get it. Recovers the lock of a dead owner. May return early.
    pub(super) fn wait<M: Memory, P: Peers>(
        &mut self,
        memory: &M,
        peers: &P,
        seen: Control,
        deadline: &mut Deadline,
    ) -> Result<(), Failure<P::Error>> {
        if seen.is_read_lock() && !planted!(ReadersAreWaitedFor) {
            wait_for_reader(memory, peers, seen, deadline, self);
            return Ok(());
        }
        if deadline.is_over() {
            return Err(self.give_up(memory));
        }
        let waiting = announced(memory, seen);
        // If others wait, they have checked whether the owner is alive, and spinning would only
        // slow the owner down.
        let first = seen != waiting && !self.has_slept;
        let owner = seen.owner();
        if owner != FREE && first && (memory.spin(seen) || recover_dead_owner(memory, peers, owner))
        {
            return Ok(());
        }
        let Some(left) = deadline.left() else {
            return Err(self.give_up(memory));
        };
        let limit = left.min(memory.longest_sleep());
        if !self.sleep(memory, seen, limit) && owner != FREE {
            recover_dead_owner(memory, peers, owner);
        }
        Ok(())
    }

    /// Sleeps while the control word is `seen`, apart from L, at most `limit`; true if it ended
    /// before that.
    pub(super) fn sleep<M: Memory>(&mut self, memory: &M, seen: Control, limit: Duration) -> bool {
        let waiting = announced(memory, seen);
        // Relaxed: L orders nothing; whoever clears it wakes.
        if seen != waiting && memory.swap_control(seen, waiting, Relaxed).is_err() {
            return true;
        }
        let who = match (memory.has_lock_bit(), self.has_slept) {
            (true, false) => Sleepers::LOCK,
            (true, true) => Sleepers::LOCK.and(Sleepers::OVERTAKEN),
            // There is only W, which also wakes those that wait for a change.
            (false, _) => Sleepers::LOCK.and(Sleepers::CHANGE),
        };
        self.has_slept = true;
        memory.sleep(waiting, who, limit)
    }

    /// Stops waiting. If this thread was woken, it has to wake another.
    #[cold]
    pub(super) fn give_up<M: Memory, E>(&self, memory: &M) -> Failure<E> {
        if self.owes_wake_up(memory) && !planted!(GiveUpSilently) {
            pass_on_wake_up(memory);
        }
        Failure::Timeout(memory.control(Relaxed).owner())
    }

    /// Whether others may sleep until the lock is free although L is clear. (Never where there is
    /// no L: then all are woken.)
    pub(super) fn owes_wake_up<M: Memory>(&self, memory: &M) -> bool {
        self.has_slept && memory.has_lock_bit()
    }
}

/// Sets L, so that the holder wakes a waiter; if there is no holder, wakes one.
pub(super) fn pass_on_wake_up<M: Memory>(memory: &M) {
    let mut seen = memory.control(Relaxed);
    loop {
        let is_free = seen.owner() == FREE;
        if seen.owner() == REMOVED || !is_free && seen.has_lock_waiters() {
            return;
        }
        // A lock that was handed over becomes free for all.
        let new = seen.with_lock_waiters(!is_free);
        // Relaxed: L orders nothing. (A compare-exchange continues the release sequence.)
        match memory.swap_control(seen, new, Relaxed) {
            Ok(()) if is_free => return wake_one(memory),
            Ok(()) => return,
            Err(now) => seen = now,
        }
    }
}

/// The control word with the bit that announces a waiter for the lock.
pub(super) fn announced<M: Memory>(memory: &M, seen: Control) -> Control {
    if memory.has_lock_bit() { seen.with_lock_waiters(true) } else { seen.with_waiters(true) }
}

/// Replaces the control word `old` by `new`, and wakes the waiters concerned. Both are quiet. The
/// control word may have W and L, and any state; what is changed has to be marked before a new
/// version. `changed`: `None` if that has been done, or if the version stays. False if anything
/// else has changed.
#[inline]
pub(super) fn publish<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    old: Control,
    new: Control,
    changed: Option<Bytes>,
) -> bool {
    if let Some(changed) = changed {
        mark_several(memory, changed);
    }
    // Release: a thread that acquires `new` sees whatever it announces.
    match memory.swap_control(old, new, Release) {
        Ok(()) => true,
        Err(now) => now.same(old) && publish_beside_others(memory, peers, now, new, changed),
    }
}

#[cold]
fn publish_beside_others<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    mut seen: Control,
    new: Control,
    changed: Option<Bytes>,
) -> bool {
    loop {
        if new.version() != seen.version() && !planted!(CommitKeepsState) {
            match prepare(memory, seen, changed) {
                Ok(prepared) => seen = prepared,
                Err(now) if now.same(seen) => {
                    seen = now;
                    continue;
                }
                Err(_) => return false,
            }
        }
        let next = keep_bits(memory, peers, seen, new);
        if planted!(EventCountedEarly) {
            memory.advance_event_count();
        }
        // Release: as above.
        match memory.swap_control(seen, next, Release) {
            Ok(()) => {
                wake(memory, seen, next);
                return true;
            }
            Err(now) if now.same(seen) => seen = now,
            Err(_) => return false,
        }
    }
}

/// `new`, with those of W, L and the state that it keeps from `seen`, which it replaces. W and the
/// state stay if the version stays, as nobody is to be woken then; L if the lock stays or is handed
/// over.
#[cold]
pub(super) fn keep_bits<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    seen: Control,
    new: Control,
) -> Control {
    if new.owner() == REMOVED {
        return new;
    }
    let stays = new.version() == seen.version();
    let w = memory.has_lock_bit() && stays && seen.has_waiters();
    let ends = new.owner() == FREE;
    let hands_over = || !planted!(NoHandOver) && peers.is_handover_due();
    let l = seen.has_lock_waiters() && (!ends && !planted!(GuardClearsL) || ends && hands_over());
    let w = w && !planted!(LockClearsW);
    let state = if stays || planted!(CommitKeepsState) { seen.state() } else { State::Dirty };
    new.with_waiters(w).with_lock_waiters(l).with_state(state)
}

/// Wakes the waiters concerned by the change of the control word from `before` to `after`.
#[inline]
pub(super) fn wake<M: Memory>(memory: &M, before: Control, after: Control) {
    if before.may_have_waiters() {
        wake_waiters(memory, before, after);
    }
}

#[cold]
fn wake_waiters<M: Memory>(memory: &M, before: Control, after: Control) {
    if planted!(ClearWithoutWake) {
        return;
    }
    let changed = !planted!(LockClearsW) || before.version() != after.version();
    if before.has_waiters() && !after.has_waiters() && changed {
        memory.wake(Sleepers::CHANGE, true);
        if !planted!(EventCountedEarly) {
            memory.advance_event_count();
        }
    }
    if before.has_lock_waiters() && after.owner() == REMOVED {
        memory.wake(Sleepers::LOCK, true);
    } else if before.has_lock_waiters() && after.owner() == FREE {
        if !after.has_lock_waiters() {
            wake_one(memory);
        } else if !memory.wake(Sleepers::OVERTAKEN, false) {
            pass_on_wake_up(memory); // nobody was overtaken
        }
    }
}

/// Wakes one waiter for the lock, which is free.
pub(super) fn wake_one<M: Memory>(memory: &M) {
    let who = if planted!(WakeAnyone) { Sleepers::ANY } else { Sleepers::LOCK };
    memory.wake(who, false);
}
