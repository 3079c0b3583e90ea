//! Which thread syncs, and when. One at a time does, under the sync lock, for all that wait.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use crate::attachment::attach::{Attachment, Failure};
use crate::durability::flush;
use crate::durability::group::{self, OwnWords, Words};
use crate::durability::sync;
use crate::durability::sync_notes;
use crate::durability::sync_state::SyncState;
use crate::error::{Error, Result};
use crate::format::layout::live;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::os::fork::PerProcess;
#[cfg(feature = "tokio")]
use crate::protocol::Told;
use crate::protocol::{self, Deadline, FREE, Joined, Peers, Ticket};

/// Syncs one store for this process.
#[derive(Debug)]
pub(crate) struct Syncer {
    /// What is remembered from the last sync. `None`: nothing, or no longer. Its lock is taken
    /// behind the sync lock; a background pass also takes it to look, without the sync lock.
    state: PerProcess<Mutex<Option<SyncState>>>,
    /// The words of group commit, where the file has none.
    words: PerProcess<OwnWords>,
    /// Whether the last sync of this process failed.
    failed: AtomicBool,
}

/// When to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In any case: all that is stored by now.
    Now,
    /// Not if another sync is in progress, or began within this time.
    IfDue(Duration),
}

/// The outcome of a sync that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    /// All that was committed before is synced.
    Done,
    /// A sync began recently, or another thread of this process is syncing: nothing was done.
    Recently,
    /// Another process has the lock: nothing was done.
    Busy,
}

/// Why a call for tasks has not ended in a sync.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) enum NotSynced {
    /// The sync that it has led failed.
    Led(Error),
    /// It does not have the sync lock, or not yet.
    Waited(Failure),
}

type Lead<'a> = protocol::Lead<(&'a SlotMemory, &'a Attachment)>;

impl Syncer {
    pub(crate) fn new() -> Syncer {
        Syncer {
            state: PerProcess::new(Mutex::default()),
            words: PerProcess::new(zeros()),
            failed: AtomicBool::new(false),
        }
    }

    /// How many slots have changed since the last sync.
    pub(crate) fn count_unsynced(attachment: &Attachment) -> Result<u64> {
        SyncState::load(attachment)?.count_unsynced(attachment)
    }

    /// Syncs the store. If that fails, the live header says so until a sync succeeds.
    pub(crate) fn sync(
        &self,
        attachment: &Attachment,
        deadline: &mut Deadline,
        when: When,
    ) -> Result<Synced> {
        check_syncable(attachment)?;
        match when {
            When::Now => self.sync_in_a_group(attachment, deadline),
            When::IfDue(period) => self.sync_if_due(attachment, deadline, period),
        }
    }

    /// Waits, without a limit, for a sync of this process that is in progress. It waits for the disk
    /// alone, as one that begins now would.
    pub(crate) fn wait_for_own(&self) {
        if !planted!(LeavingDoesNotWaitForItself) {
            drop(self.state().lock());
        }
    }

    fn state(&self) -> &Mutex<Option<SyncState>> {
        self.state.get(|_| Mutex::default())
    }

    fn words<'a>(&'a self, attachment: &'a Attachment) -> Words<'a> {
        Words::of(attachment, self.words.get(|_| zeros()))
    }

    /// Waits for a sync of another thread or process that began after this call, or syncs for all
    /// that wait.
    fn sync_in_a_group(&self, attachment: &Attachment, deadline: &mut Deadline) -> Result<Synced> {
        let ticket = self.call(attachment);
        let lock = attachment.lock(live::SYNC_LOCK);
        match self.join(&lock, attachment, ticket, deadline) {
            Ok(Joined::Told(told)) => group::as_result(attachment, told).map(|()| Synced::Done),
            Ok(Joined::Leads(lead)) => self.lead_a_group(&lead, attachment, deadline),
            Err(failure) => {
                let error = attachment.lock_error("the sync lock", failure, deadline);
                note_failure(attachment, &error);
                Err(error)
            }
        }
    }

    /// Counts a caller, and takes its ticket. To be called after all that is to be synced was
    /// stored.
    fn call(&self, attachment: &Attachment) -> Ticket {
        let words = self.words(attachment);
        let ticket = protocol::ticket(&words);
        words.count_call();
        ticket
    }

    fn join<'a>(
        &self,
        lock: &'a SlotMemory,
        attachment: &'a Attachment,
        ticket: Ticket,
        deadline: &mut Deadline,
    ) -> Result<Joined<(&'a SlotMemory, &'a Attachment)>, Failure> {
        protocol::join((lock, attachment), &self.words(attachment), ticket, deadline)
    }

    fn lead_a_group(
        &self,
        lead: &Lead<'_>,
        attachment: &Attachment,
        deadline: &mut Deadline,
    ) -> Result<Synced> {
        self.words(attachment).gather();
        let mut state = self.wait_for_state(attachment, deadline)?;
        self.lead(lead, &mut state, attachment, deadline)
    }

    /// What is remembered from the last sync, for the holder of the sync lock. At most a background
    /// pass of this process is looking at it.
    fn wait_for_state(
        &self,
        attachment: &Attachment,
        deadline: &mut Deadline,
    ) -> Result<MutexGuard<'_, Option<SyncState>>> {
        loop {
            match self.state().try_lock() {
                Ok(state) => return Ok(state),
                Err(TryLockError::Poisoned(state)) => return Ok(state.into_inner()),
                Err(TryLockError::WouldBlock) if deadline.is_over() => {
                    let timeout = protocol::Failure::Timeout(sync_notes::holder(attachment));
                    return Err(attachment.lock_error("the sync lock", timeout, deadline));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Waits for nobody.
    fn sync_if_due(
        &self,
        attachment: &Attachment,
        deadline: &Deadline,
        period: Duration,
    ) -> Result<Synced> {
        let Ok(mut state) = self.state().try_lock() else { return Ok(Synced::Recently) };
        if sync_notes::was_within(attachment, period) {
            return Ok(Synced::Recently);
        }
        // If nothing has changed, nothing is written, not even the lock: each write to the file
        // goes to the disk in time. If that cannot be told, the sync says why. A failure that is
        // noted is cleared under the lock only: it may be of a sync that has just ended.
        let last = state.as_mut().filter(|last| last.is_of(attachment));
        let last = last.filter(|_| !planted!(AnIdleSyncWrites));
        let last = last.filter(|_| sync_notes::failure(attachment).is_none());
        if last.is_some_and(|last| matches!(last.has_changed(attachment), Ok(false))) {
            return Ok(Synced::Done);
        }
        // A process that cannot lock at all is told why.
        attachment.me().inspect_err(|error| note_failure(attachment, error))?;
        let lock = attachment.lock(live::SYNC_LOCK);
        let free = protocol::try_lead((&lock, attachment));
        let Some(lead) = free.or_else(|| lock_of_the_dead(&lock, attachment)) else {
            return Ok(Synced::Busy);
        };
        // Another process may have synced meanwhile.
        if sync_notes::was_within(attachment, period) {
            return Ok(Synced::Recently);
        }
        self.lead(&lead, &mut state, attachment, deadline)
    }

    /// Takes a ticket for a task, see [`Syncer::call`]; an error if the store cannot be synced.
    #[cfg(feature = "tokio")]
    pub(crate) fn call_for_task(&self, attachment: &Attachment) -> Result<Ticket> {
        check_syncable(attachment).map(|()| self.call(attachment))
    }

    /// What the task with this ticket is told by now.
    #[cfg(feature = "tokio")]
    pub(crate) fn told(&self, attachment: &Attachment, ticket: Ticket) -> Option<Told> {
        protocol::told(&self.words(attachment), ticket)
    }

    /// Waits, for tasks, until the one with this ticket is told something, or syncs for all that
    /// wait. Slots may keep changing for as long as `timeout` while it syncs.
    #[cfg(feature = "tokio")]
    pub(crate) fn sync_for_tasks(
        &self,
        attachment: &Attachment,
        ticket: Ticket,
        wait: &mut Deadline,
        timeout: Option<Duration>,
    ) -> Result<(), NotSynced> {
        let lock = attachment.lock(live::SYNC_LOCK);
        match self.join(&lock, attachment, ticket, wait) {
            Ok(Joined::Told(_)) => Ok(()),
            Ok(Joined::Leads(lead)) => {
                let synced = self.lead_a_group(&lead, attachment, &mut Deadline::new(timeout));
                synced.map(drop).map_err(NotSynced::Led)
            }
            Err(failure) => Err(NotSynced::Waited(failure)),
        }
    }

    /// Syncs for all that wait, and notes in the live header whether that failed.
    fn lead(
        &self,
        lead: &Lead<'_>,
        state: &mut Option<SyncState>,
        attachment: &Attachment,
        deadline: &Deadline,
    ) -> Result<Synced> {
        attachment.set_syncing(true);
        // All writes go through our own file description, or one that is opened anew.
        attachment.map.file().own();
        // Relaxed: a thread that syncs has the lock of `state`. Not every store notes a failure.
        let failed = self.failed.load(Relaxed) || sync_notes::failure(attachment).is_some();
        let words = self.words(attachment);
        let sync = || {
            let served = words.begin();
            if failed && !planted!(WritesAgainWhatFailed) {
                flush::forget(attachment)?;
            }
            let synced = sync::sync(state, attachment, deadline, failed)?;
            words.end(served, synced.flush);
            Ok(synced)
        };
        let synced = lead.sync(&words, sync, group::errno_of_file);
        let synced = synced.and_then(|synced| {
            sync::clean(state, attachment);
            sync::write_mark(attachment, synced)
        });
        self.failed.store(synced.is_err(), Relaxed);
        match &synced {
            Ok(()) => sync_notes::clear_failure(attachment),
            Err(error) => note_failure(attachment, error),
        }
        attachment.set_syncing(false);
        synced.map(|()| Synced::Done)
    }
}

fn check_syncable(attachment: &Attachment) -> Result<()> {
    attachment.check_writable()?;
    if attachment.header.has_checkpoint() {
        return Ok(());
    }
    let what = "it was created without checkpoints, so it cannot be synced".into();
    Err(Error::Invalid { path: attachment.path.clone(), slot: None, what })
}

/// How soon to look again whether the state is free.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

fn zeros() -> OwnWords {
    [const { AtomicU64::new(0) }; live::UNGATHERED + 1]
}

pub(crate) fn note_failure(attachment: &Attachment, error: &Error) {
    match error {
        // The caller that waited in vain is told. The lock's holder may be about to sync all of it.
        Error::LockTimeout { .. } => {}
        _ if planted!(AFailedSyncIsNotNoted) => {}
        error => sync_notes::store_failure(attachment, error),
    }
}

/// The lead, if the one that has it is dead.
fn lock_of_the_dead<'a>(lock: &'a SlotMemory, attachment: &'a Attachment) -> Option<Lead<'a>> {
    let owner = sync_notes::holder(attachment);
    if planted!(TheLockOfTheDeadStays) {
        return None;
    }
    let recovered = owner != FREE && protocol::recover_dead_owner(lock, attachment, owner);
    recovered.then(|| protocol::try_lead((lock, attachment))).flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::Store;
    use crate::protocol::Memory;

    /// Lets three threads join a sync of this thread, which ends with this error. Returns what they
    /// are told.
    fn join_a_sync_that_fails(with: impl FnOnce(&Attachment) -> Error) -> Vec<Result<()>> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().join("state.slots")).unwrap();
        store.pause_syncing();
        let attachment = store.attachment();
        let lock = attachment.lock(live::SYNC_LOCK);
        let lead = protocol::try_lead((&lock, attachment)).unwrap();
        let own = zeros();
        let words = Words::of(attachment, &own);
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..3).map(|_| scope.spawn(|| store.sync())).collect();
            while attachment.live.load(live::SYNC_CALLS, Relaxed) < 3 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let fail = || Err::<(), _>(with(attachment));
            lead.sync(&words, fail, group::errno_of_file).unwrap_err();
            drop(lead);
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        })
    }

    fn io_error(attachment: &Attachment, errno: i32) -> Error {
        attachment.no_space(4096, std::io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn row_21_an_error_of_the_file_is_told_to_all_that_share_the_sync() {
        let told = join_a_sync_that_fails(|a| io_error(a, libc::EIO));
        let is_it = |error: &Error| matches!(error, Error::Io { source, .. } if source.raw_os_error() == Some(libc::EIO));
        assert!(told.iter().all(|told| told.as_ref().is_err_and(is_it)), "{told:?}");
        let told = join_a_sync_that_fails(|a| io_error(a, libc::ENOSPC));
        let is_it = |error: &Error| matches!(error, Error::NoSpace { .. });
        assert!(told.iter().all(|told| told.as_ref().is_err_and(is_it)), "{told:?}");
        let told = join_a_sync_that_fails(|a| Error::corrupt(&a.path, "a bit has flipped"));
        let is_it = |error: &Error| error.to_string().contains("`slotfile check` says where");
        assert!(told.iter().all(|told| told.as_ref().is_err_and(is_it)), "{told:?}");
    }

    #[test]
    fn row_21_an_error_of_one_process_is_told_to_nobody_else() {
        for errno in [libc::EFBIG, libc::ENOMEM, libc::EMFILE] {
            let told = join_a_sync_that_fails(|a| io_error(a, errno));
            assert!(told.iter().all(Result::is_ok), "{told:?}");
        }
        let changing = |a: &Attachment| Error::KeepsChanging {
            path: a.path.clone(),
            what: "slot \"mad\"".into(),
            waited: Duration::ZERO,
        };
        let told = join_a_sync_that_fails(changing);
        assert!(told.iter().all(Result::is_ok), "{told:?}");
    }

    /// The numbers and hints of group commit may be anything in a damaged file.
    #[test]
    fn damaged_numbers_keep_nobody_from_syncing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.slots");
        let store = Store::create(&path).unwrap();
        store.pause_syncing();
        let value = store.value::<u64>("value").unwrap();
        let words = [36, 37, 38, 39, 50, 51, 54, 55];
        for (round, word) in words.into_iter().enumerate() {
            for bits in [u64::MAX, 1 << 47, 1 << 63, 0] {
                store.attachment().live.store(word, bits, Relaxed);
                value.fetch_add(1).unwrap();
                store.sync().unwrap();
                assert_eq!(store.info().unwrap().unsynced, Some(0), "word {word}, {bits:x}");
            }
            assert!(store.check().unwrap().is_ok(), "{round}");
        }
        drop((value, store));
        // The next to open it alone sets them to zero.
        let store = crate::OpenOptions::new().sync_every(None).open(&path).unwrap();
        let live = &store.attachment().live;
        assert!(words.iter().all(|word| live.load(*word, Relaxed) == 0));
    }

    /// One thread waits for the sync lock without a limit. Another thread of the same process waits
    /// only for a moment.
    #[test]
    fn a_sync_with_a_time_out_does_not_wait_behind_one_without() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().join("state.slots")).unwrap();
        store.pause_syncing();
        let attachment = store.attachment();
        let lock = attachment.lock(live::SYNC_LOCK);
        let held = protocol::try_lead((&lock, attachment)).unwrap();
        std::thread::scope(|scope| {
            let (patient, brief) = (store.clone().with_lock_timeout(None), store.clone());
            let brief = brief.with_lock_timeout(Some(Duration::from_millis(50)));
            scope.spawn(move || patient.sync().unwrap());
            while !lock.control(Relaxed).has_waiters() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let (done, is_done) = mpsc::channel();
            scope.spawn(move || done.send(brief.sync()).unwrap());
            let result = is_done.recv_timeout(Duration::from_secs(5));
            drop(held);
            assert!(matches!(result, Ok(Err(Error::LockTimeout { .. }))), "{result:?}");
        });
    }
    /// The disk is slower than the lock time-out, and the background thread waits for it.
    #[test]
    fn leaving_waits_for_a_sync_of_its_own_process() {
        let folder = tempfile::tempdir().unwrap();
        let timeout = Duration::from_millis(50);
        for others in [0, 1] {
            let mut options = crate::OpenOptions::new();
            options.create(true).sync_every(Some(Duration::from_secs(3600)));
            let store = options.lock_timeout(Some(timeout)).open(folder.path().join("s")).unwrap();
            store.value::<u64>("value").unwrap().fetch_add(1).unwrap();
            let others: Vec<Store> = (0..others).map(|_| store.clone()).collect();
            let session = crate::store::session::SharedSession::clone(&store.session);
            let (held, is_held) = mpsc::channel();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let state = session.syncer.state().lock();
                    let attachment = session.attachment();
                    let lock = attachment.lock(live::SYNC_LOCK);
                    let lead = protocol::try_lead((&lock, attachment)).unwrap();
                    held.send(()).unwrap();
                    std::thread::sleep(4 * timeout);
                    drop((lead, state));
                });
                is_held.recv().unwrap();
                store.close().unwrap();
            });
            drop(others);
        }
    }
}
