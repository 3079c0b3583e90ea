//! An open store as a whole: the attachment, its syncs in the background, and leaving.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::attach::Attachment;
use crate::cell::CellRegion;
use crate::element::ElementRegion;
use crate::error::Result;
use crate::fork::{self, PerProcess};
use crate::layout::FLAG_NO_CHECKPOINT;
use crate::map::{Region, WithMap};
use crate::protocol::Patience;
use crate::recovery::Recovery;
use crate::sync::{Syncer, Turn};

/// What all handles of one store share in this process. Whoever drops the last one leaves
/// the store, which syncs.
#[derive(Debug)]
pub(crate) struct Session {
    attachment: Arc<Attachment>,
    pub(crate) recovery: Recovery,
    syncer: Arc<Syncer>,
    /// The shortest period that any opener asked for, in nanoseconds; `NEVER` if none did.
    period: Arc<AtomicU64>,
    /// The process whose background thread runs: after a fork, the child has none.
    generation: AtomicU64,
    background: PerProcess<Background>,
}

/// A session, and the mapping: all that a store or a handle has to keep.
pub(crate) type SharedSession = Arc<WithMap<Session>>;
pub(crate) type WeakSession = Weak<WithMap<Session>>;
/// The memory of a slot, which a handle keeps.
pub(crate) type SlotRegion = Region<SharedSession>;
/// The same of a scalar.
pub(crate) type SlotCell = CellRegion<SharedSession>;
/// The same of a buffer's elements.
pub(crate) type SlotElements = ElementRegion<SharedSession>;

const NEVER: u64 = u64::MAX;
/// The shortest period of background syncs. (A look at 65,536 slots takes a quarter of it.)
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);
/// How long a background sync tries, at least: it keeps others from syncing meanwhile.
const LONGEST_SYNC: Duration = Duration::from_secs(5);

/// The background thread of one process, and how it is woken. The child of a fork has its
/// own: a thread of its parent may have held the parent's mutexes at that moment.
#[derive(Debug, Default)]
struct Background {
    bell: Arc<Bell>,
    /// Never dropped with the rest: a parent's is not the child's to let go.
    thread: Mutex<Option<ManuallyDrop<JoinHandle<()>>>>,
}

/// Wakes the background thread, to end or to look at the period again.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<()>,
    ring: Condvar,
    ended: AtomicBool,
    /// The thread has come as far as to look at `ended`.
    begun: AtomicBool,
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
        };
        Arc::new(WithMap::new(session, map))
    }

    #[inline]
    pub(crate) fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// An error unless the store may be written. All that writes comes through here.
    #[inline]
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.keep_syncing();
        self.attachment.check_writable()
    }

    fn background(&self) -> &Background {
        self.background.get(|_| Background::default())
    }

    /// Syncs now. An error leaves the last sync as it was.
    pub(crate) fn sync(&self, patience: &mut Patience) -> Result<()> {
        self.syncer.sync(&self.attachment, patience, Turn::Wait)
    }

    /// Leaves the sync to a later process.
    pub(crate) fn leave_unsynced(&self) {
        self.period.store(NEVER, Ordering::Relaxed);
    }

    /// Syncs what has changed, and ends the background thread until the next write.
    pub(crate) fn pause(&self) {
        let Background { bell, thread } = self.background();
        let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        bell.end();
        if !bell.has_begun() {
            return;
        }
        let _ = ManuallyDrop::into_inner(thread).join();
        // Not for long: where another process syncs, that one does it.
        let turn = Turn::SkipIfWithin(Duration::ZERO);
        let _ = self.syncer.sync(&self.attachment, &mut Patience::new(Some(LONGEST_SYNC)), turn);
        bell.reset();
        // Release: who starts the next thread sees the bell as it was left.
        self.generation.store(NEVER, Ordering::Release);
    }

    fn can_sync(&self) -> bool {
        self.attachment.writable && self.attachment.header.flags & FLAG_NO_CHECKPOINT == 0
    }

    /// Has the store synced in the background at least this often, and when it is left.
    pub(crate) fn sync_every(&self, period: Option<Duration>) {
        let Some(period) = period else { return };
        if !self.can_sync() {
            return;
        }
        let nanos = u64::try_from(period.max(SHORTEST_PERIOD).as_nanos()).unwrap_or(NEVER - 1);
        // Relaxed: the thread sees it when it next wakes.
        let before = self.period.fetch_min(nanos.min(NEVER - 1), Ordering::Relaxed);
        if before == NEVER {
            // Until now, there was no thread to be.
            self.generation.store(NEVER, Ordering::Relaxed);
        } else if before > nanos {
            self.background().bell.ring.notify_all();
        }
        self.keep_syncing();
    }

    /// Starts this process's background thread, if it is to have one and has none: the
    /// children of forks have none until they first write.
    #[inline]
    fn keep_syncing(&self) {
        // Relaxed: whoever is the first to change it starts the thread.
        if self.generation.load(Ordering::Relaxed) != fork::generation() {
            self.start();
        }
    }

    #[cold]
    fn start(&self) {
        let now = fork::generation();
        if self.generation.swap(now, Ordering::Relaxed) == now
            || self.period.load(Ordering::Relaxed) == NEVER
        {
            return;
        }
        // Not the session: the thread could be the last to drop it, and leave the store
        // after whoever closed it has gone on, or ended the process. Nor the attachment, for
        // as long as the thread has not begun, see `drop`.
        let (weak, syncer) = (Arc::downgrade(&self.attachment), Arc::clone(&self.syncer));
        let background = self.background();
        let (shared_period, bell) = (Arc::clone(&self.period), Arc::clone(&background.bell));
        let run = move || {
            // SeqCst, as in `drop`: one of the two sees what the other has stored.
            bell.begun.store(true, Ordering::SeqCst);
            while !bell.ended.load(Ordering::SeqCst) {
                let Some(attachment) = weak.upgrade() else { return };
                let period = Duration::from_nanos(shared_period.load(Ordering::Relaxed));
                // An error is not lost: the next sync writes all of it again, and `sync`
                // and `check` report it.
                let turn = Turn::SkipIfWithin(period.mul_f32(0.9));
                let mut patience = Patience::new(Some(period.max(LONGEST_SYNC)));
                let _ = syncer.sync(&attachment, &mut patience, turn);
                drop(attachment);
                bell.wait(period);
            }
        };
        let thread = std::thread::Builder::new().name("slotfile sync".into()).spawn(run);
        match thread {
            Ok(thread) => {
                let mut ours = background.thread.lock().unwrap_or_else(PoisonError::into_inner);
                *ours = Some(ManuallyDrop::new(thread));
            }
            // No thread was to be had: the next write tries again.
            Err(_) => self.generation.store(NEVER, Ordering::Relaxed),
        }
    }
}

impl Bell {
    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        // Under the mutex, so that it does not ring between a look and a sleep.
        let _rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        self.ring.notify_all();
    }

    /// For the next thread.
    fn reset(&self) {
        self.begun.store(false, Ordering::SeqCst);
        self.ended.store(false, Ordering::SeqCst);
    }

    /// Whether the thread runs, so that it can be waited for. After a fork it may never: std
    /// has a lock that every new thread takes, and a thread of the parent may have held it.
    fn has_begun(&self) -> bool {
        let until = Instant::now() + Duration::from_millis(200);
        loop {
            if self.begun.load(Ordering::SeqCst) || fork::generation() == 0 {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
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

impl Drop for Session {
    fn drop(&mut self) {
        let Background { bell, thread } = self.background();
        let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            bell.end();
            if bell.has_begun() {
                let _ = ManuallyDrop::into_inner(thread).join();
            }
        }
        if self.period.load(Ordering::Relaxed) == NEVER || !self.can_sync() {
            return;
        }
        // Nobody is left to tell of an error; the checkpoint stays what it was.
        let mut patience = Patience::new(Some(Duration::from_secs(5)));
        let _ = self.syncer.sync(&self.attachment, &mut patience, Turn::Wait);
        // The last to leave syncs what others have changed since: nobody can come in between.
        let _ = self
            .attachment
            .if_alone(|| self.syncer.sync(&self.attachment, &mut patience, Turn::Wait));
    }
}
