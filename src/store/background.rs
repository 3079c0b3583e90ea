//! The thread that syncs in the background, and how it is woken.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::attachment::attach::Attachment;
use crate::durability::sync_notes;
use crate::durability::syncer::{Synced, Syncer, When};
use crate::error::{Error, Result};
use crate::mutant::planted;
use crate::os::sys;
use crate::os::thread::{self, Thread};
use crate::protocol::{Deadline, Owner};

/// How long a background sync tries, whatever its period: meanwhile it keeps others from syncing,
/// and a thread that closes the store waits for it.
pub(crate) const LONGEST_SYNC: Duration = Duration::from_secs(5);
/// How long the holder of the sync lock may make no progress before it counts as stopped: ten
/// periods, within these limits.
const STUCK: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(10);
/// The same in a store of format 1.0, in which a sync does not show its progress.
const STUCK_UNSEEN: Duration = Duration::from_secs(60);
/// The thread looks at its period at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// The background thread of one process. The child of a fork has its own: a thread of its parent
/// may have held the parent's mutexes at that moment.
#[derive(Debug, Default)]
pub(super) struct Background {
    wakeup: Arc<Wakeup>,
    thread: Mutex<Option<Thread>>,
    /// When starting the thread last failed, since boot; 0: it did not fail.
    failed: AtomicU64,
}

/// What the thread works with. Not the session: the thread could be the last to drop it, and would
/// then leave the store after the caller of `close` has gone on or ended the process.
pub(super) struct Work {
    pub(super) attachment: Weak<Attachment>,
    pub(super) syncer: Arc<Syncer>,
    /// In nanoseconds. It may become shorter.
    pub(super) period: Arc<AtomicU64>,
}

impl Background {
    /// Starts the thread. An error is reported as a failed sync, once.
    pub(super) fn start(&self, attachment: &Attachment, work: Work) -> Result<(), CannotStart> {
        // Relaxed: a time.
        let failed_before = self.failed.load(Ordering::Relaxed) != 0;
        let wakeup = Arc::clone(&self.wakeup);
        // A caller that was told that there is no thread is not told again.
        let watched = Watched { told: failed_before, busy: None };
        match thread::spawn(c"slotfile sync", move || work.run(watched, &wakeup)) {
            Ok(thread) => {
                *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
                self.failed.store(0, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                let error = cannot_start(attachment, error);
                sync_notes::store_failure(attachment, &error);
                if !failed_before {
                    attachment.tell_of_failed_sync(Some(error));
                }
                self.failed.store(sys::since_boot().max(1), Ordering::Relaxed);
                Err(CannotStart)
            }
        }
    }

    /// Ends the thread; whether there was one.
    pub(super) fn end(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return false };
        self.wakeup.end();
        thread.join();
        true
    }

    /// Lets another thread be started after [`Background::end`].
    pub(super) fn reset(&self) {
        // Relaxed: the caller publishes it to the thread that starts the next one.
        self.wakeup.ended.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread, which reads its period again.
    pub(super) fn notify(&self) {
        self.wakeup.notify();
    }

    /// Whether starting the thread has failed, and no later attempt has succeeded.
    pub(super) fn has_failed(&self) -> bool {
        // Relaxed: a time.
        self.failed.load(Ordering::Relaxed) != 0
    }

    /// Whether starting the thread has failed less than `period` nanoseconds ago.
    pub(super) fn has_just_failed(&self, period: u64) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        failed != 0 && sys::since_boot().saturating_sub(failed) < period
    }
}

/// The thread could not be started. This has been reported.
pub(super) struct CannotStart;

/// The error that no thread can be started to sync in.
pub(super) fn cannot_start(attachment: &Attachment, error: std::io::Error) -> Error {
    let what =
        "cannot start a thread for background syncs; see `ulimit -u`, and pids.max of the cgroup";
    Error::io(&attachment.path, what, error)
}

impl Work {
    /// Syncs once in each period, until the thread is to end or the store has been left.
    fn run(self, mut watched: Watched, wakeup: &Wakeup) {
        // Relaxed: only a number.
        let period = || Duration::from_nanos(self.period.load(Ordering::Relaxed));
        while !wakeup.has_ended() {
            let Some(attachment) = self.attachment.upgrade() else { return };
            watched.sync(&self.syncer, &attachment, period());
            drop(attachment);
            wakeup.sleep(period);
        }
    }
}

/// Wakes the background thread, to end it or to have it read the period again.
#[derive(Debug, Default)]
struct Wakeup {
    mutex: Mutex<()>,
    condition: Condvar,
    ended: AtomicBool,
}

impl Wakeup {
    fn end(&self) {
        // Release: a thread that sees it also sees all that was done before.
        self.ended.store(true, Ordering::Release);
        self.notify();
    }

    fn notify(&self) {
        // Under the mutex, so that it cannot come between the thread's check and its sleep.
        let _guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        self.condition.notify_all();
    }

    fn has_ended(&self) -> bool {
        // Acquire: see `end`.
        self.ended.load(Ordering::Acquire)
    }

    /// Sleeps for a period, which may become shorter meanwhile, or until the thread is to end.
    fn sleep(&self, period: impl Fn() -> Duration) {
        let begun = Instant::now();
        let mut guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.has_ended() {
            let left = period().min(LONGEST_SLEEP).saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            let woken = self.condition.wait_timeout(guard, left);
            guard = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What the background thread has seen of its syncs.
#[derive(Debug, Default)]
struct Watched {
    /// A caller has been told that syncs fail.
    told: bool,
    /// Another process has the sync lock: its progress, and when that was first seen.
    busy: Option<((u64, u64, Owner), Instant)>,
}

impl Watched {
    fn sync(&mut self, syncer: &Syncer, attachment: &Attachment, period: Duration) {
        let mut deadline = Deadline::new(Some(LONGEST_SYNC));
        let when = When::IfDue(period.mul_f32(0.9));
        let error = match syncer.sync(attachment, &mut deadline, when) {
            Ok(Synced::Busy) => self.look_at_holder(attachment, period),
            Ok(synced) => {
                self.busy = None;
                if synced == Synced::Done && std::mem::take(&mut self.told) {
                    attachment.tell_of_failed_sync(None);
                }
                None
            }
            Err(error) => Some(error),
        };
        // Reported once, until a sync succeeds: a caller that goes on after that means to.
        let silent = planted!(FailuresInTheBackgroundAreNotReported);
        if error.is_some() && !std::mem::replace(&mut self.told, true) && !silent {
            attachment.tell_of_failed_sync(error);
        }
    }

    /// The error, if the holder of the sync lock has made no progress for long: it was stopped.
    fn look_at_holder(&mut self, attachment: &Attachment, period: Duration) -> Option<Error> {
        let progress = sync_notes::progress(attachment);
        match self.busy {
            Some((before, since)) if before == progress => {
                let limit = match attachment.header.minor {
                    0 => STUCK_UNSEEN,
                    _ => (10 * period).clamp(STUCK.start, STUCK.end),
                };
                let waited = since.elapsed();
                let is_stuck = waited > limit && !planted!(AStoppedSyncerIsNotNoticed);
                is_stuck.then(|| sync_notes::stuck(attachment, waited))
            }
            _ => {
                self.busy = Some((progress, Instant::now()));
                None
            }
        }
    }
}
