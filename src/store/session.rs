//! An open store as a whole: the attachment, the background syncs, and leaving.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::attachment::attach::{Attachment, thread_is_ending};
use crate::durability::recovery::Recovery;
use crate::durability::sync_notes;
use crate::durability::syncer::{Synced, Syncer, Turn};
use crate::error::{Error, Result};
use crate::mapping::element::ElementRegion;
use crate::mapping::map::WithMap;
use crate::os::fork::{self, PerProcess};
use crate::os::location::Location;
use crate::os::sys;
use crate::os::thread::{self, Thread};
use crate::protocol::{Deadline, Owner};
use crate::types::detached::Detached;

/// What all handles of one store share in this process. Dropping the last one leaves the store,
/// which syncs it.
#[derive(Debug)]
pub(crate) struct Session {
    attachment: Arc<Attachment>,
    pub(crate) recovery: Recovery,
    syncer: Arc<Syncer>,
    /// The shortest period that any opener asked for, in nanoseconds; `NEVER` if none did.
    period: Arc<AtomicU64>,
    /// The fork generation of the process whose background thread runs: a child has none at first.
    generation: AtomicU64,
    background: PerProcess<Background>,
    /// The paths by which this process has opened it.
    locations: PerProcess<Mutex<Vec<Arc<Location>>>>,
}

/// A session and the mapping: all that a store or a handle has to keep.
pub(crate) type SharedSession = Arc<WithMap<Session>>;
pub(crate) type WeakSession = Weak<WithMap<Session>>;
/// The elements of a buffer, which its handle keeps.
pub(crate) type SlotElements = ElementRegion<SharedSession>;

const NEVER: u64 = u64::MAX;
/// Syncs only when the store is left, not in the background.
const ONLY_WHEN_LEFT: u64 = NEVER - 1;
/// The shortest period of background syncs. (A look at 65,536 slots takes a quarter of it.)
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);
/// How long a background sync tries, whatever its period: meanwhile it keeps others from syncing,
/// and a thread that closes the store waits for it.
pub(crate) const LONGEST_SYNC: Duration = Duration::from_secs(5);
/// How long the holder of the sync lock may make no progress before it counts as stopped: ten
/// periods, within these limits.
const STUCK: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(10);
/// The same in a store of format 1.0, in which a sync does not show its progress.
const STUCK_UNSEEN: Duration = Duration::from_secs(60);

/// The background thread of one process, and how it is woken. The child of a fork has its
/// own: a thread of its parent may have held the parent's mutexes at that moment.
#[derive(Debug, Default)]
struct Background {
    bell: Arc<Bell>,
    thread: Mutex<Option<Thread>>,
    /// When starting the thread last failed, since boot; 0: it did not fail.
    failed: AtomicU64,
}

/// Wakes the background thread, to end it or to have it read the period again.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<()>,
    ring: Condvar,
    ended: AtomicBool,
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
        let turn = Turn::SkipIfWithin(period.mul_f32(0.9));
        let error = match syncer.sync(attachment, &mut deadline, turn) {
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
        if error.is_some() && !std::mem::replace(&mut self.told, true) {
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
                (waited > limit).then(|| sync_notes::stuck(attachment, waited))
            }
            _ => {
                self.busy = Some((progress, Instant::now()));
                None
            }
        }
    }
}

/// Syncs. Then, if nobody else is attached, syncs again what others have changed since: this time,
/// nobody can come in between.
fn sync_to_leave(
    syncer: &Syncer,
    attachment: &Attachment,
    timeout: Option<Duration>,
) -> Result<()> {
    let mut deadline = Deadline::new(timeout);
    let synced = syncer.sync(attachment, &mut deadline, Turn::Wait);
    synced.inspect_err(|error| sync_notes::store_failure(attachment, error))?;
    attachment.if_alone(|| syncer.sync(attachment, &mut deadline, Turn::Wait).map(|_| ()))
}

/// Runs `sync` here, or in another thread if this one is ending: an ending thread can no longer
/// have an entry of the process table. (`exit`, too, drops its thread's locals before all else.)
fn in_a_lasting_thread(
    attachment: &Attachment,
    sync: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    if !thread_is_ending() {
        return sync();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, sync).map_err(|e| {
            let error = cannot_start(attachment, e);
            sync_notes::store_failure(attachment, &error);
            error
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn cannot_start(attachment: &Attachment, error: std::io::Error) -> Error {
    let what = "cannot start a thread to sync in; see `ulimit -u`, and pids.max of the cgroup";
    Error::io(&attachment.path, what, error)
}

impl Session {
    pub(crate) fn new(attachment: Arc<Attachment>, recovery: Recovery) -> SharedSession {
        let map = Arc::clone(&attachment.map);
        let session = Session {
            attachment,
            recovery,
            syncer: Arc::new(Syncer::new()),
            period: Arc::new(AtomicU64::new(NEVER)),
            generation: AtomicU64::new(NEVER),
            background: PerProcess::new(Background::default()),
            locations: PerProcess::new(Mutex::default()),
        };
        Arc::new(WithMap::new(session, map))
    }

    #[inline]
    pub(crate) fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Every write begins here: an error if the store may not be written, or if a background sync
    /// has failed. The background syncs what this write changes.
    #[inline]
    pub(crate) fn begin_write(&self) -> Result<()> {
        self.keep_syncing();
        self.attachment.check_takes_writes()
    }

    /// Notes a path by which it was opened.
    pub(crate) fn note_location(&self, location: Location) -> Arc<Location> {
        let mut locations = self.locations();
        if let Some(known) = locations.iter().find(|known| ***known == location) {
            return Arc::clone(known);
        }
        locations.push(Arc::new(location));
        Arc::clone(&locations[locations.len() - 1])
    }

    pub(crate) fn locations(&self) -> MutexGuard<'_, Vec<Arc<Location>>> {
        let locations = self.locations.get(|parents| {
            // If another thread of the parent held the lock, the child does not know the paths.
            Mutex::new(parents.try_lock().map(|known| known.clone()).unwrap_or_default())
        });
        locations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why none of these paths leads to its file any more; `None` if one does, or may.
    pub(crate) fn detached(&self) -> Option<Detached> {
        if self.attachment.is_superseded() {
            return Some(Detached::Compacted);
        }
        let locations = self.locations().clone();
        let file = self.attachment.map.file();
        let each = locations.iter().map(|location| location.detached(file));
        each.collect::<Option<Vec<_>>>()?.first().copied()
    }

    /// An error if it is detached.
    pub(crate) fn check_attached(&self) -> Result<()> {
        let Some(how) = self.detached() else { return Ok(()) };
        Err(Error::Detached { path: self.attachment.path.clone(), how })
    }

    fn background(&self) -> &Background {
        self.background.get(|_| Background::default())
    }

    /// Syncs now. On error, the last sync stays as it was.
    pub(crate) fn sync(&self, deadline: &mut Deadline) -> Result<()> {
        self.syncer.sync(&self.attachment, deadline, Turn::Wait)?;
        self.attachment.tell_of_failed_sync(None);
        Ok(())
    }

    /// Leaves the sync to a later process.
    pub(crate) fn leave_unsynced(&self) {
        self.period.store(NEVER, Ordering::Relaxed);
    }

    /// Syncs what has changed, and ends the background thread until the next write.
    pub(crate) fn pause(&self) {
        let Background { bell, thread, .. } = self.background();
        let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread {
            Some(thread) => {
                bell.end();
                thread.join();
            }
            None if self.lacks_thread() => {}
            None => return,
        }
        // Bounded: if another process is syncing, that sync will do.
        let turn = Turn::SkipIfWithin(Duration::ZERO);
        let mut deadline = Deadline::new(Some(LONGEST_SYNC));
        if let Err(error) = self.syncer.sync(&self.attachment, &mut deadline, turn) {
            self.attachment.tell_of_failed_sync(Some(error));
        }
        bell.reset();
        // Release: the thread that starts the next one sees the bell as it was left.
        self.generation.store(NEVER, Ordering::Release);
    }

    fn can_sync(&self) -> bool {
        self.attachment.writable && self.attachment.header.has_checkpoint()
    }

    /// Has the store synced at least this often in the background, and when it is left.
    pub(crate) fn sync_every(&self, period: Option<Duration>) {
        let Some(period) = period else { return };
        if !self.can_sync() {
            return;
        }
        let nanos = u64::try_from(period.max(SHORTEST_PERIOD).as_nanos()).unwrap_or(ONLY_WHEN_LEFT);
        let nanos = nanos.min(ONLY_WHEN_LEFT);
        // Relaxed: the thread sees it when it next wakes.
        let before = self.period.fetch_min(nanos, Ordering::Relaxed);
        if before >= ONLY_WHEN_LEFT {
            // Until now, no thread was wanted.
            self.generation.store(NEVER, Ordering::Relaxed);
        } else if before > nanos {
            self.background().bell.ring.notify_all();
        }
        self.keep_syncing();
    }

    /// Starts this process's background thread if it should have one and has none. A forked child
    /// has none until it first writes.
    #[inline]
    pub(crate) fn keep_syncing(&self) {
        // Relaxed: the first thread to change it starts the background thread.
        if self.generation.load(Ordering::Relaxed) != fork::generation() {
            self.start();
        }
    }

    /// Whether this process could not start a thread that it should have.
    fn lacks_thread(&self) -> bool {
        // Relaxed: a time.
        self.background().failed.load(Ordering::Relaxed) != 0
    }

    #[cold]
    fn start(&self) {
        let (now, background) = (fork::generation(), self.background());
        // Relaxed: times. One failed attempt in a period is enough: it costs more than a write.
        let period = self.period.load(Ordering::Relaxed);
        let failed = background.failed.load(Ordering::Relaxed);
        if failed != 0 && sys::since_boot().saturating_sub(failed) < period {
            return;
        }
        if self.generation.swap(now, Ordering::Relaxed) == now || period >= ONLY_WHEN_LEFT {
            return;
        }
        // Not the session: the thread could be the last to drop it, and would then leave the store
        // after the caller of `close` has gone on or ended the process.
        let (weak, syncer) = (Arc::downgrade(&self.attachment), Arc::clone(&self.syncer));
        let (shared_period, bell) = (Arc::clone(&self.period), Arc::clone(&background.bell));
        let run = move || {
            // A caller that was told that there is no thread is not told again.
            let mut watched = Watched { told: failed != 0, busy: None };
            // Acquire: as in `wait`.
            while !bell.ended.load(Ordering::Acquire) {
                let Some(attachment) = weak.upgrade() else { return };
                let period = Duration::from_nanos(shared_period.load(Ordering::Relaxed));
                watched.sync(&syncer, &attachment, period);
                drop(attachment);
                bell.wait(period);
            }
        };
        match thread::spawn(c"slotfile sync", run) {
            Ok(thread) => {
                let mut ours = background.thread.lock().unwrap_or_else(PoisonError::into_inner);
                *ours = Some(thread);
                background.failed.store(0, Ordering::Relaxed);
            }
            Err(error) => {
                // Reported as a failed sync; a later write tries again.
                let error = cannot_start(&self.attachment, error);
                sync_notes::store_failure(&self.attachment, &error);
                if failed == 0 {
                    self.attachment.tell_of_failed_sync(Some(error));
                }
                background.failed.store(sys::since_boot().max(1), Ordering::Relaxed);
                self.generation.store(NEVER, Ordering::Relaxed);
            }
        }
    }
}

impl Bell {
    fn end(&self) {
        // Release: a thread that sees it also sees all that was done before.
        self.ended.store(true, Ordering::Release);
        // Under the mutex, so that it cannot ring between the thread's check and its sleep.
        let _rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        self.ring.notify_all();
    }

    /// For the next thread.
    fn reset(&self) {
        // Relaxed: the thread that starts next sees it.
        self.ended.store(false, Ordering::Relaxed);
    }

    fn wait(&self, limit: Duration) {
        let until = Instant::now() + limit.min(Duration::from_secs(3600));
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.ended.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            rung = self.ring.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Session {
    fn syncs(&self) -> bool {
        self.period.load(Ordering::Relaxed) != NEVER && self.can_sync()
    }

    /// Ends the background thread, and syncs if this session should. What is written later is
    /// synced when the session is dropped.
    pub(crate) fn leave(&self, timeout: Option<Duration>) -> Result<()> {
        let Background { bell, thread, .. } = self.background();
        let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            bell.end();
            thread.join();
        }
        if !self.syncs() {
            return Ok(());
        }
        let (syncer, attachment) = (&self.syncer, &self.attachment);
        in_a_lasting_thread(attachment, || sync_to_leave(syncer, attachment, timeout))
    }

    /// Syncs if this session should, while other handles of this process go on.
    pub(crate) fn sync_if_it_is_to(&self, deadline: &mut Deadline) -> Result<()> {
        if self.syncs() { self.sync(deadline) } else { Ok(()) }
    }

    /// As [`Session::leave`], when the process ends. The copy in a forked child is left to the
    /// parent until the child writes. If nobody else has the store open any more, the child syncs.
    pub(crate) fn leave_at_exit(&self, timeout: Option<Duration>) -> Result<()> {
        let is_ours = self.generation.load(Ordering::Relaxed) == fork::generation();
        if is_ours || self.lacks_thread() {
            return self.leave(timeout);
        }
        if !self.syncs() {
            return Ok(());
        }
        let (syncer, attachment) = (&self.syncer, &self.attachment);
        in_a_lasting_thread(attachment, || {
            let mut deadline = Deadline::new(timeout);
            attachment.if_alone(|| syncer.sync(attachment, &mut deadline, Turn::Wait).map(|_| ()))
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nobody is left to receive an error: it is noted in the live header.
        let _ = self.leave(Some(LONGEST_SYNC));
    }
}
