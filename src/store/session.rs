//! An open store as a whole: the attachment, when to sync in the background, and leaving.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::attachment::attach::{Attachment, thread_is_ending};
use crate::durability::recovery::Recovery;
use crate::durability::sync_notes;
use crate::durability::syncer::{Syncer, When};
use crate::error::{Error, Result};
use crate::mapping::element::ElementRegion;
use crate::mapping::map::WithMap;
use crate::mutant::planted;
use crate::os::fork::{self, PerProcess};
use crate::os::location::Location;
use crate::protocol::Deadline;
use crate::store::background::{Background, CannotStart, LONGEST_SYNC, Work, cannot_start};
#[cfg(feature = "tokio")]
use crate::store::sync_tasks::{Place, SyncTasks};
use crate::types::detached::Detached;

/// What all handles of one store share in this process. Dropping the last one leaves the store,
/// which syncs it.
#[derive(Debug)]
pub(crate) struct Session {
    attachment: Arc<Attachment>,
    pub(crate) recovery: Recovery,
    pub(crate) syncer: Arc<Syncer>,
    /// The shortest period that any opener asked for, in nanoseconds; also [`ONLY_WHEN_LEFT`], or
    /// [`NEVER`] if no opener asked for one.
    period: Arc<AtomicU64>,
    /// The fork generation in which [`Session::start`] last had nothing more to do: the thread
    /// runs, or none is wanted. [`NEVER`]: it has to look again. So a forked child looks at its
    /// first write.
    started_in: AtomicU64,
    /// The last [`Session::pause`] ended the thread.
    is_paused: AtomicBool,
    background: PerProcess<Background>,
    #[cfg(feature = "tokio")]
    pub(super) tasks: SyncTasks,
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

/// Syncs. Then, if nobody else is attached, syncs again what others have changed since: this time,
/// nobody can come in between. (A sync that fails is noted. To wait for another process in vain is no
/// failed sync: that process may be about to sync all.)
fn sync_to_leave(
    syncer: &Syncer,
    attachment: &Attachment,
    timeout: Option<Duration>,
) -> Result<()> {
    syncer.wait_for_own();
    let mut deadline = Deadline::new(timeout);
    let synced = syncer.sync(attachment, &mut deadline, When::Now);
    if let Err(error) = &synced
        && planted!(LeavingInVainIsAFailedSync)
    {
        sync_notes::store_failure(attachment, error);
    }
    synced?;
    attachment.if_alone(|| syncer.sync(attachment, &mut deadline, When::Now).map(|_| ()))
}

/// Runs `sync` here, or in another thread if this one is ending: an ending thread can no longer
/// have an entry of the process table. (`exit`, too, drops its thread's locals before all else.)
fn in_a_lasting_thread(
    attachment: &Attachment,
    sync: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    if !thread_is_ending() || planted!(AThreadThatEndsSyncsByItself) {
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

impl Session {
    pub(crate) fn new(attachment: Arc<Attachment>, recovery: Recovery) -> SharedSession {
        let map = Arc::clone(&attachment.map);
        let session = Session {
            attachment,
            recovery,
            syncer: Arc::new(Syncer::new()),
            period: Arc::new(AtomicU64::new(NEVER)),
            started_in: AtomicU64::new(NEVER),
            is_paused: AtomicBool::new(false),
            background: PerProcess::new(Background::default()),
            #[cfg(feature = "tokio")]
            tasks: SyncTasks::new(),
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
        if let Some(known) =
            locations.iter().find(|known| ***known == location || planted!(OnlyTheFirstPathCounts))
        {
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
        self.syncer.sync(&self.attachment, deadline, When::Now)?;
        self.attachment.tell_of_failed_sync(None);
        Ok(())
    }

    /// Has one thread of this process sync for a task, which waits for the sync lock at most so long.
    #[cfg(feature = "tokio")]
    pub(crate) fn sync_for_task(&self, timeout: Option<Duration>) -> Result<Place> {
        self.tasks.enter(&self.attachment, &self.syncer, timeout)
    }

    /// Leaves the sync to a later process.
    pub(crate) fn leave_unsynced(&self) {
        self.period.store(NEVER, Ordering::Relaxed);
    }

    /// Syncs what has changed, and ends the background thread until the next write.
    pub(crate) fn pause(&self) {
        #[cfg(feature = "tokio")]
        self.tasks.end_if_idle();
        let background = self.background();
        let ended = background.end();
        // Relaxed, here and below: the thread that forks does both.
        self.is_paused.store(ended, Ordering::Relaxed);
        if !ended && !background.has_failed() {
            return; // there is no thread, and none is wanted
        }
        // Bounded: if another process is syncing, that sync will do.
        let when = When::IfDue(Duration::ZERO);
        let mut deadline = Deadline::new(Some(LONGEST_SYNC));
        if let Err(error) = self.syncer.sync(&self.attachment, &mut deadline, when) {
            self.attachment.tell_of_failed_sync(Some(error));
        }
        background.reset();
        // Release: the thread that starts the next one sees what `reset` has done.
        self.started_in.store(NEVER, Ordering::Release);
    }

    /// Starts the background thread again, if the last [`Session::pause`] has ended it.
    pub(crate) fn resume(&self) {
        if self.is_paused.swap(false, Ordering::Relaxed) {
            self.keep_syncing();
        }
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
        let least = if planted!(APeriodMayBeZero) { Duration::ZERO } else { SHORTEST_PERIOD };
        let nanos = u64::try_from(period.max(least).as_nanos()).unwrap_or(ONLY_WHEN_LEFT);
        let nanos = nanos.min(ONLY_WHEN_LEFT);
        // Relaxed: the thread sees it when it next wakes.
        let before = self.period.fetch_min(nanos, Ordering::Relaxed);
        if before >= ONLY_WHEN_LEFT {
            // Until now, no thread was wanted.
            self.started_in.store(NEVER, Ordering::Relaxed);
        } else if before > nanos {
            self.background().notify();
        }
        self.keep_syncing();
    }

    /// Starts this process's background thread if it should have one and has none. A forked child
    /// has none until it first writes.
    #[inline]
    pub(crate) fn keep_syncing(&self) {
        // Relaxed: the first thread to change it starts the background thread.
        if self.started_in.load(Ordering::Relaxed) != fork::generation() {
            self.start();
        }
    }

    #[cold]
    fn start(&self) {
        let (now, background) = (fork::generation(), self.background());
        // Relaxed: a time. One failed attempt in a period is enough: it costs more than a write.
        let period = self.period.load(Ordering::Relaxed);
        if background.has_just_failed(period) {
            return;
        }
        // Relaxed: of two threads that come here at once, one finds the old number.
        if self.started_in.swap(now, Ordering::Relaxed) == now || period >= ONLY_WHEN_LEFT {
            return;
        }
        let work = Work {
            attachment: Arc::downgrade(&self.attachment),
            syncer: Arc::clone(&self.syncer),
            period: Arc::clone(&self.period),
        };
        if let Err(CannotStart) = background.start(&self.attachment, work) {
            // A later write tries again.
            self.started_in.store(NEVER, Ordering::Relaxed);
        }
    }

    /// Whether this session is to sync when it is left.
    fn is_to_sync(&self) -> bool {
        let is_asked = self.period.load(Ordering::Relaxed) != NEVER;
        is_asked && self.can_sync() && !planted!(LeavingDoesNotSync)
    }

    /// Ends the background thread, and syncs if this session should. What is written later is
    /// synced when the session is dropped.
    pub(crate) fn leave(&self, timeout: Option<Duration>) -> Result<()> {
        self.background().end();
        #[cfg(feature = "tokio")]
        self.tasks.end_thread();
        if !self.is_to_sync() {
            return Ok(());
        }
        let (syncer, attachment) = (&self.syncer, &self.attachment);
        in_a_lasting_thread(attachment, || sync_to_leave(syncer, attachment, timeout))
    }

    /// Syncs if this session should, while other handles of this process go on.
    pub(crate) fn sync_if_it_is_to(&self, timeout: Option<Duration>) -> Result<()> {
        if !self.is_to_sync() {
            return Ok(());
        }
        self.syncer.wait_for_own();
        self.sync(&mut Deadline::new(timeout))
    }

    /// As [`Session::leave`], when the process ends. The copy in a forked child is left to the
    /// parent until the child writes. If nobody else has the store open any more, the child syncs.
    pub(crate) fn leave_at_exit(&self, timeout: Option<Duration>) -> Result<()> {
        let is_ours = self.started_in.load(Ordering::Relaxed) == fork::generation();
        if is_ours || self.background().has_failed() {
            return self.leave(timeout);
        }
        if !self.is_to_sync() {
            return Ok(());
        }
        let (syncer, attachment) = (&self.syncer, &self.attachment);
        in_a_lasting_thread(attachment, || {
            let mut deadline = Deadline::new(timeout);
            attachment.if_alone(|| syncer.sync(attachment, &mut deadline, When::Now).map(|_| ()))
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nobody is left to receive an error: it is noted in the live header.
        let _ = self.leave(Some(LONGEST_SYNC));
    }
}
