//! Locks that keep writers waiting while somebody reads.
//!
//! A reader that has lost to writers again and again takes such a lock, so that they hold off for a
//! moment. It protects nothing: its holder checks the version after copying, as all readers do, and
//! stores nothing. So a waiter takes it away after a while, whoever the holder is: a stopped or
//! dead reader delays nobody for long.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::queue::{Waiting, publish};
use super::recover::try_share;
use super::{Control, Deadline, FREE, Form, Memory, Peers, planted};

/// A reader's lock. Dropping it releases it.
pub(crate) struct ReadLock<'a, M: Memory, P: Peers> {
    memory: &'a M,
    peers: &'a P,
    control: Control,
}

impl<M: Memory, P: Peers> ReadLock<'_, M, P> {
    /// Whether the lock has not been taken away.
    pub(super) fn is_held(&self) -> bool {
        self.memory.control(Relaxed).same(self.control)
    }
}

/// Takes the lock to read if it is free now; `None` also if this thread may not lock.
pub(super) fn try_read_lock<'a, M: Memory, P: Peers>(
    memory: &'a M,
    peers: &'a P,
) -> Option<ReadLock<'a, M, P>> {
    let seen = memory.control(Relaxed);
    // A slot that keeps changing is dirty.
    if !seen.is_free_and_dirty() {
        return None;
    }
    let control = seen.with_reader(peers.me().ok()?).with_transaction(false);
    // Relaxed: it orders nothing. Whether a copy is whole is decided by the version.
    if memory.swap_control(seen, control, Relaxed).is_err() {
        peers.note_given_up();
        return None;
    }
    Some(ReadLock { memory, peers, control })
}

/// Like [`try_read_lock`], but tries for about as long as copying this many words takes, to meet a
/// moment in which a writer that never pauses has released the lock.
#[cold]
pub(super) fn lock_to_read<'a, M: Memory, P: Peers>(
    memory: &'a M,
    peers: &'a P,
    words: usize,
) -> Option<ReadLock<'a, M, P>> {
    for _ in 0..words / WORDS_PER_PAUSE {
        if let Some(lock) = try_read_lock(memory, peers) {
            return Some(lock);
        }
        memory.relax();
    }
    let lock = try_read_lock(memory, peers);
    if lock.is_none() {
        peers.note_given_up(); // its caller has asked for a number
    }
    lock
}

/// Words copied beside a writer in the time of one pause. (64 KiB: 6 µs on the machine of
/// docs/performance.md, where a writer that never pauses releases the lock every 6 µs, for 50 ns.
/// With a single try the slowest of 1,000 reads took twice as long.)
const WORDS_PER_PAUSE: usize = 20;

impl<M: Memory, P: Peers> Drop for ReadLock<'_, M, P> {
    fn drop(&mut self) {
        // Wakes the waiters. If the control word has changed, the lock was taken away.
        let old = self.control.quiet();
        publish(self.memory, self.peers, old, old.with_owner(FREE), None);
        // Last of all: a thread that has only read may give its entry back.
        self.peers.note_given_up();
    }
}

/// Waits until the control word is no longer `seen`, in which a reader has the lock. Takes the lock
/// away if the reader is dead, has had it for long enough to copy everything, or no time is left to
/// wait. May return early.
pub(super) fn wait_for_reader<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    seen: Control,
    deadline: &mut Deadline,
    waiting: &mut Waiting,
) {
    let limit = reading_time(memory);
    if !limit.is_zero() && memory.spin(seen) {
        return;
    }
    let sleep = deadline.next_sleep().zip(deadline.left_for_reader(seen, limit));
    let Some((sleep, left)) = sleep.filter(|_| !try_share(peers, seen.reader())) else {
        // Relaxed would do: nothing was stored under it.
        let seen = seen.quiet();
        publish(memory, peers, seen, seen.with_owner(FREE), None);
        return;
    };
    waiting.sleep(memory, seen, sleep.min(left));
}

/// How long a reader may keep writers waiting: the time of a full copy at 400 MB/s, a tenth of the
/// speed of an idle machine.
fn reading_time<M: Memory>(memory: &M) -> Duration {
    match memory.form() {
        Form::Areas(areas) if !M::READING_TIME.is_zero() => {
            M::READING_TIME + Duration::from_nanos(20 * areas.words as u64)
        }
        _ => M::READING_TIME,
    }
}

impl Deadline {
    /// How much longer the reader in this control word may keep the lock; `None` if it has had it
    /// for `limit` since it was first seen.
    fn left_for_reader(&mut self, seen: Control, limit: Duration) -> Option<Duration> {
        if limit.is_zero() {
            return None;
        }
        let since = match self.reader {
            Some((reader, since)) if reader.same(seen) => since,
            _ => self.reader.insert((seen, std::time::Instant::now())).1,
        };
        let left = limit.checked_sub(since.elapsed()).filter(|left| !left.is_zero());
        left.or(planted!(AStoppedReaderIsWaitedFor).then_some(limit))
    }
}
