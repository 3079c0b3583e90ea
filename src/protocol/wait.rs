//! Waiting until the first of several slots changes.
//!
//! A waiter looks at the version. If it is still the one it knows, it sets W and sleeps on the
//! control word, each only if that is still the word it looked at. So a change either comes before
//! the look, or finds W and wakes: none is missed. A wake-up that is lost because its process died
//! costs the longest sleep. Writers pay nothing while W is not set.
//!
//! **The event count.** A thread that waits for several slots sleeps on one word of the store.
//! A thread that clears a W advances that word after it has changed the slot.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use super::array::look;
use super::{Control, Deadline, Failure, Memory, Peers, REMOVED, planted};

/// Something that a thread can wait for: a slot.
pub(crate) trait Await {
    type Error;

    /// The control word, and the version that counts at that moment.
    fn look(&self) -> Result<(Control, u64), Failure<Self::Error>>;
    /// Sets W if the control word is still `seen`; returns the control word to sleep on.
    fn announce(&self, seen: Control) -> Result<Option<Control>, Failure<Self::Error>>;
}

/// What a waiter does between its looks.
pub(crate) trait Pause {
    /// Before a look at all the slots: sets the event count's bit, if it will sleep on that.
    fn listen(&mut self);
    /// Whether to look again without announcing: while spinning or, if nobody can be asked for a
    /// wake-up, after a short sleep of at most `limit`. `crowded`: others wait for one of the
    /// slots.
    fn again(&mut self, crowded: bool, limit: Duration) -> bool;
    /// Sleeps until the event count advances or, for a single slot, while its control word is
    /// `seen`. At most `limit`.
    fn sleep(&mut self, seen: &[Control], limit: Duration);
}

/// The store's word for threads that wait for several slots. Its lowest bit says that somebody
/// listens; the others count how often it was advanced.
pub(crate) trait EventCount {
    /// Relaxed.
    #[track_caller]
    fn load(&self) -> u32;
    /// Replaces it if it is `old`, else returns its current value (relaxed).
    #[track_caller]
    fn swap(&self, old: u32, new: u32, order: std::sync::atomic::Ordering) -> Result<(), u32>;
    /// Wakes all that sleep on it.
    fn wake(&self);
}

/// Sets the bit of a listener; returns the value that the event count has until it advances.
pub(crate) fn listen(event_count: &impl EventCount) -> u32 {
    let mut seen = event_count.load();
    loop {
        let heard = seen | 1;
        // Acquire: a thread that comes after an advance sees what changed before it. So it swaps
        // even if the bit is already set.
        match event_count.swap(seen, heard, Acquire) {
            Ok(()) => return heard,
            Err(now) => seen = now,
        }
    }
}

/// Announces that a slot has changed for which somebody may wait.
pub(crate) fn advance(event_count: &impl EventCount) {
    let mut seen = event_count.load();
    loop {
        // Release: a thread that listens from now on sees what has changed.
        match event_count.swap(seen, seen.wrapping_add(2) & !1, Release) {
            Ok(()) if seen & 1 == 1 => return event_count.wake(),
            Ok(()) => return,
            Err(now) => seen = now,
        }
    }
}

/// Waits until one of these has a version other than the one given with it. Returns the positions
/// of those that have; none when the time is over. An error comes with the position that it
/// concerns.
pub(crate) fn wait_any<A: Await + ?Sized>(
    awaited: &[(&A, u64)],
    deadline: &mut Deadline,
    pause: &mut impl Pause,
) -> Result<Vec<usize>, (usize, Failure<A::Error>)> {
    let mut seen = Vec::with_capacity(awaited.len());
    let mut changed = Vec::new();
    'look: loop {
        seen.clear();
        pause.listen();
        for (at, (one, known)) in awaited.iter().enumerate() {
            let (control, version) = one.look().map_err(|failure| (at, failure))?;
            if version != *known {
                changed.push(at);
            }
            seen.push(control);
        }
        if !changed.is_empty() {
            return Ok(changed);
        }
        let Some(limit) = deadline.left() else {
            return Ok(changed);
        };
        if pause.again(seen.iter().any(|seen| seen.has_waiters()), limit) {
            continue;
        }
        for (at, ((one, _), seen)) in awaited.iter().zip(&mut seen).enumerate() {
            match one.announce(*seen).map_err(|failure| (at, failure))? {
                Some(announced) => *seen = announced,
                None => continue 'look,
            }
        }
        pause.sleep(&seen, limit);
    }
}

/// [`Await::look`] for a slot.
pub(crate) fn look_to_wait<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
) -> Result<(Control, u64), Failure<P::Error>> {
    let (control, version) = look(memory, peers);
    if control.owner() == REMOVED {
        return Err(Failure::Removed);
    }
    Ok((control, version))
}

/// [`Await::announce`] for a slot. [`Failure::Deadlock`] if this thread itself has it locked, so
/// that nobody else could change it.
pub(crate) fn announce<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    seen: Control,
) -> Result<Option<Control>, Failure<P::Error>> {
    if peers.is_me(seen.owner()) {
        return Err(Failure::Deadlock);
    }
    if planted!(SleepWithoutW) {
        return Ok(Some(seen));
    }
    let seen = if planted!(AnnounceUnseen) { memory.control(Relaxed) } else { seen };
    let waiting = seen.with_waiters(true);
    // Relaxed: W orders nothing; whoever clears it wakes.
    let set = seen == waiting || memory.swap_control(seen, waiting, Relaxed).is_ok();
    Ok(set.then_some(waiting))
}
