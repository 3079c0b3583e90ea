//! Group commit: one sync for all that wait for one.
//!
//! Syncs are numbered. A caller takes a **ticket**: the number of the last sync that has begun.
//! Every later sync looks at the slots after the caller's updates, so it makes them durable,
//! whoever does it. A caller waits until such a sync has ended, or until the sync lock is free:
//! then it **leads**, that is, it does the next sync itself, for all that wait.
//!
//! The caller updates, then loads the number; the leader stores the number, then looks. A fence on
//! each side makes sure that at least one of them sees the other: either the ticket is the new
//! number, or the leader's look sees the update.
//!
//! **Who is told what.** Success comes only from a sync that was acknowledged and has a greater
//! number than the ticket. A sync that has failed because of the file tells its error to all that
//! have joined it. One that has failed because of its process alone tells nobody, and the next in
//! line leads. So does one whose leader dies: its lock is recovered, like any other.

use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

use super::lock::take;
use super::recover::recover_dead_owner;
use super::wait::announce;
use super::{
    Deadline, FREE, Failure, FailureOf, Held, LONGEST_SLEEP, Lockable, Memory, Peers, REMOVED,
    Sleepers, planted, try_lock,
};

/// The numbers that all share that sync a store.
pub(crate) trait Numbers {
    #[track_caller]
    fn load(&self, number: Number, order: Ordering) -> u64;
    #[track_caller]
    fn store(&self, number: Number, value: u64, order: Ordering);
    #[track_caller]
    fn fence(&self, order: Ordering);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// The number of the last sync that has begun.
    Begun,
    /// That of the last one that was acknowledged.
    Done,
    /// That of the last one that failed because of the file, times 65,536, plus the system's number
    /// for the error.
    Failed,
}

/// The number of the last sync that had begun when a caller came. Any later one syncs all that the
/// caller has stored before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(super) u64);

/// What a caller is told of a sync that another thread has led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// All that the caller had stored before it came is durable.
    Done,
    /// The sync failed because of the file; the system's number for the error.
    Failed(u16),
}

/// How a caller's wait has ended.
#[derive(Debug)]
pub(crate) enum Joined<L: Lockable> {
    Told(Told),
    /// It is its turn to sync.
    Leads(Lead<L>),
}

/// The sync lock, held by the thread that syncs for all. Dropping it wakes all that wait.
#[derive(Debug)]
pub(crate) struct Lead<L: Lockable>(Held<L>);

/// Takes a ticket. To be called after all that is to be synced was stored.
pub(crate) fn ticket(numbers: &impl Numbers) -> Ticket {
    // SeqCst, with the one in `Lead::sync`: if this does not load the number of that sync, the sync
    // sees all that this thread has stored.
    numbers.fence(SeqCst);
    Ticket(numbers.load(Number::Begun, Relaxed))
}

/// What became of the first sync after the ticket that has ended and concerns its holder.
pub(crate) fn told(numbers: &impl Numbers, Ticket(ticket): Ticket) -> Option<Told> {
    // Acquire: whoever is told sees that the sync was acknowledged.
    let done = numbers.load(Number::Done, Acquire);
    // Relaxed: it tells only of itself.
    let failed = numbers.load(Number::Failed, Relaxed);
    // No sync has ended that has not begun: damaged numbers tell nobody anything.
    let begun = numbers.load(Number::Begun, Relaxed);
    let concerns = |number: u64| ticket < number && number <= begun;
    if concerns(done) || planted!(JoinsInFlight) && 0 < ticket && ticket == done {
        Some(Told::Done)
    } else if concerns(failed >> 16) {
        Some(Told::Failed(failed as u16))
    } else {
        None
    }
}

/// Waits until a sync tells the holder of this ticket how it ended, or until it is the holder's
/// turn to lead. If the leader is dead, its lock is recovered.
pub(crate) fn join<L: Lockable + Copy>(
    on: L,
    numbers: &impl Numbers,
    ticket: Ticket,
    deadline: &mut Deadline,
) -> Result<Joined<L>, FailureOf<L>> {
    let joined = wait(on, numbers, ticket, deadline);
    if !matches!(joined, Ok(Joined::Leads(_))) {
        on.peers().note_given_up();
    }
    joined
}

fn wait<L: Lockable + Copy>(
    on: L,
    numbers: &impl Numbers,
    ticket: Ticket,
    deadline: &mut Deadline,
) -> Result<Joined<L>, FailureOf<L>> {
    let (memory, peers) = (on.memory(), on.peers());
    let mut has_slept = false;
    loop {
        // Acquire: whoever sees that another sync has begun sees how those before it have ended,
        // and does not sleep until its end.
        let seen = memory.control(Acquire);
        if let Some(told) = told(numbers, ticket) {
            return Ok(Joined::Told(told));
        }
        let owner = seen.owner();
        if owner == REMOVED {
            return Err(Failure::Removed);
        }
        // A lock that was handed over is only for threads that have slept.
        if owner == FREE && (seen.is_free() || has_slept) {
            match peers.me() {
                Ok(me) => {
                    // No sync has ended since the look: the end of each advances the version.
                    if let Some(held) = take(on, seen, me, false) {
                        return Ok(Joined::Leads(Lead(held)));
                    }
                }
                Err(error) if !L::Peers::may_be_free_soon(&error) => {
                    return Err(Failure::Peers(error));
                }
                Err(error) if deadline.is_over() => return Err(Failure::Peers(error)),
                Err(_) => std::thread::sleep(LONGEST_SLEEP / 4),
            }
            if deadline.is_over() {
                return Err(Failure::Timeout(memory.control(Relaxed).owner()));
            }
            continue;
        }
        let Some(left) = deadline.left() else {
            // The dead are not waited for, not even at the end.
            if owner != FREE && recover_dead_owner(memory, peers, owner) {
                continue;
            }
            return Err(Failure::Timeout(owner));
        };
        // No spinning: a flush takes longer than a sleep and a wake-up.
        let Some(waiting) = announce(memory, peers, seen)? else { continue };
        let woken = memory.sleep(waiting, Sleepers::CHANGE, left.min(memory.longest_sleep()));
        has_slept = true;
        // To ask for the owner takes system calls, so it is asked for only if nobody woke us.
        if !woken && owner != FREE && memory.control(Relaxed).owner() == owner {
            recover_dead_owner(memory, peers, owner);
        }
    }
}

/// Leads, if the sync lock is free now, without having been asked for it.
pub(crate) fn try_lead<L: Lockable + Copy>(on: L) -> Option<Lead<L>> {
    try_lock(on).map(Lead)
}

impl<L: Lockable> Lead<L> {
    /// Syncs for all that have a ticket by now. `sync` looks at the slots, and returns once all is
    /// durable and acknowledged. `errno`: the system's number for an error, if it is one of the
    /// file, which concerns all; `None` for one of this process alone.
    pub(crate) fn sync<T, E>(
        &self,
        numbers: &impl Numbers,
        sync: impl FnOnce() -> Result<T, E>,
        errno: impl FnOnce(&E) -> Option<u16>,
    ) -> Result<T, E> {
        // Relaxed: only the holder of the sync lock stores it.
        let number = numbers.load(Number::Begun, Relaxed).wrapping_add(1);
        let begin = || {
            numbers.store(Number::Begun, number, Relaxed);
            // SeqCst: see `ticket`.
            numbers.fence(SeqCst);
        };
        if !planted!(NumberAfterLook) {
            begin();
        }
        if planted!(DoneBeforeFlush) {
            numbers.store(Number::Done, number, Release);
        }
        let synced = sync();
        if planted!(NumberAfterLook) {
            begin();
        }
        match &synced {
            // Release: see `told`.
            Ok(_) => numbers.store(Number::Done, number, Release),
            Err(_) if planted!(FailureCountsAsDone) => {
                numbers.store(Number::Done, number, Release);
            }
            Err(error) => {
                if let Some(errno) = errno(error).filter(|_| !planted!(FailureUntold)) {
                    // Relaxed: see `told`.
                    numbers.store(Number::Failed, number << 16 | u64::from(errno), Relaxed);
                }
            }
        }
        synced
    }
}

impl<L: Lockable> Drop for Lead<L> {
    fn drop(&mut self) {
        if !planted!(LeaderWakesNobody) {
            self.0.release_to_all();
        }
    }
}
