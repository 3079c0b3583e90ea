//! Which process syncs, and when. One at a time does, under the sync lock.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::attachment::attach::Attachment;
use crate::durability::flush;
use crate::durability::sync;
use crate::durability::sync_notes;
use crate::durability::sync_state::SyncState;
use crate::error::{Error, Result};
use crate::format::layout::live;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::os::fork::PerProcess;
use crate::protocol::{self, Deadline, FREE, Held, Peers};

/// Syncs one store for this process.
#[derive(Debug)]
pub(crate) struct Syncer {
    /// What is remembered from the last sync. `None`: nothing, or no longer.
    state: PerProcess<Mutex<Option<SyncState>>>,
    /// Whether the last sync of this process failed.
    failed: AtomicBool,
}

/// When to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In any case, after a sync that is in progress.
    AfterOthers,
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

impl Syncer {
    pub(crate) fn new() -> Syncer {
        Syncer { state: PerProcess::new(Mutex::default()), failed: AtomicBool::new(false) }
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
        attachment.check_writable()?;
        if !attachment.header.has_checkpoint() {
            let what = "it was created without checkpoints, so it cannot be synced".into();
            return Err(Error::Invalid { path: attachment.path.clone(), slot: None, what });
        }
        // All writes go through our own file description, or one that is opened anew.
        attachment.map.file().own();
        let result = match when {
            When::AfterOthers => self.sync_after_others(attachment, deadline),
            When::IfDue(period) => self.sync_if_due(attachment, deadline, period),
        };
        match &result {
            Ok(Synced::Done) => sync_notes::clear_failure(attachment),
            Ok(Synced::Recently | Synced::Busy) => {}
            // The caller that waited in vain is told. The lock's holder may be about to sync all of
            // it.
            Err(Error::LockTimeout { .. }) => {}
            Err(_) if planted!(AFailedSyncIsNotNoted) => {}
            Err(error) => sync_notes::store_failure(attachment, error),
        }
        result
    }

    fn state(&self) -> &Mutex<Option<SyncState>> {
        self.state.get(|_| Mutex::default())
    }

    /// Waits for the sync lock.
    fn sync_after_others(
        &self,
        attachment: &Attachment,
        deadline: &mut Deadline,
    ) -> Result<Synced> {
        let lock = attachment.lock(live::SYNC_LOCK);
        // The lock first, as it supports a time-out. A thread that has the mutex without the lock
        // does not wait for the lock.
        let held = protocol::lock((&lock, attachment), deadline)
            .map_err(|f| attachment.lock_error("the sync lock", f, deadline))?;
        let mut state = self.state().lock().unwrap_or_else(PoisonError::into_inner);
        self.sync_with_lock(held, &mut state, attachment, deadline)
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
        // goes to the disk in time. If that cannot be told, the sync says why.
        let last = state.as_ref().filter(|last| last.is_of(attachment));
        let last = last.filter(|_| !planted!(AnIdleSyncWrites));
        if last.is_some_and(|last| matches!(last.has_changed(attachment), Ok(false))) {
            return Ok(Synced::Done);
        }
        // A process that cannot lock at all is told why.
        attachment.me()?;
        let lock = attachment.lock(live::SYNC_LOCK);
        let free = protocol::try_lock((&lock, attachment));
        let Some(held) = free.or_else(|| lock_of_the_dead(&lock, attachment)) else {
            return Ok(Synced::Busy);
        };
        // Another process may have synced meanwhile.
        if sync_notes::was_within(attachment, period) {
            return Ok(Synced::Recently);
        }
        self.sync_with_lock(held, &mut state, attachment, deadline)
    }

    fn sync_with_lock(
        &self,
        held: Held<(&SlotMemory, &Attachment)>,
        state: &mut Option<SyncState>,
        attachment: &Attachment,
        deadline: &Deadline,
    ) -> Result<Synced> {
        attachment.set_syncing(true);
        // Relaxed: a thread that syncs has the lock of `state`. Not every store notes a failure.
        let failed = self.failed.load(Relaxed) || sync_notes::failure(attachment).is_some();
        let ready = match failed && !planted!(WritesAgainWhatFailed) {
            true => flush::forget(attachment),
            false => Ok(()),
        };
        let synced = ready.and_then(|()| sync::sync(state, attachment, deadline));
        self.failed.store(synced.is_err(), Relaxed);
        attachment.set_syncing(false);
        drop(held);
        synced.map(|()| Synced::Done)
    }
}

/// The lock, if its holder is dead.
fn lock_of_the_dead<'a>(
    lock: &'a SlotMemory,
    attachment: &'a Attachment,
) -> Option<Held<(&'a SlotMemory, &'a Attachment)>> {
    let owner = sync_notes::holder(attachment);
    if planted!(TheLockOfTheDeadStays) {
        return None;
    }
    let recovered = owner != FREE && protocol::recover_dead_owner(lock, attachment, owner);
    recovered.then(|| protocol::try_lock((lock, attachment))).flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::Store;
    use crate::protocol::Memory;

    /// One thread waits for the sync lock without a limit. Another thread of the same process waits
    /// only for a moment.
    #[test]
    fn a_sync_with_a_time_out_does_not_wait_behind_one_without() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().join("state.slots")).unwrap();
        store.pause_syncing();
        let attachment = store.attachment();
        let lock = attachment.lock(live::SYNC_LOCK);
        let held = protocol::lock((&lock, attachment), &mut Deadline::new(None));
        let held = held.unwrap();
        std::thread::scope(|scope| {
            let (patient, brief) = (store.clone().with_lock_timeout(None), store.clone());
            let brief = brief.with_lock_timeout(Some(Duration::from_millis(50)));
            scope.spawn(move || patient.sync().unwrap());
            while !lock.control(Relaxed).has_lock_waiters() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let (done, is_done) = mpsc::channel();
            scope.spawn(move || done.send(brief.sync()).unwrap());
            let result = is_done.recv_timeout(Duration::from_secs(5));
            drop(held);
            assert!(matches!(result, Ok(Err(Error::LockTimeout { .. }))), "{result:?}");
        });
    }
}
