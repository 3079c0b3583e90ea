//! Makes the state survive a power cut: which process syncs, and what it remembers from one sync to
//! the next.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::attachment::attach::Attachment;
use crate::directory::directory;
use crate::durability::commit::{self, Tracked};
use crate::error::{Error, Result};
use crate::format::layout::live;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::os::fork::PerProcess;
use crate::os::sys;
use crate::os::time::seconds_since_1970;
use crate::protocol::{self, Deadline, FREE, Form, Held, Memory, Owner, Peers};

/// Syncs one store for this process.
#[derive(Debug)]
pub(crate) struct Syncer {
    /// `None`: nothing is known, or no longer.
    tracked: PerProcess<Mutex<Option<Tracked>>>,
    /// Whether the last sync of this process failed.
    failed: AtomicBool,
}

/// Whether a sync may wait for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Wait,
    /// Does nothing if another sync is in progress, or began within this time.
    SkipIfWithin(Duration),
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
        Syncer { tracked: PerProcess::new(Mutex::default()), failed: AtomicBool::new(false) }
    }

    /// How many slots have changed since the last sync.
    pub(crate) fn count_unsynced(attachment: &Attachment) -> Result<u64> {
        Tracked::load(attachment)?.count_unsynced(attachment)
    }

    /// Syncs the store. If that fails, the live header says so until a sync succeeds.
    pub(crate) fn sync(
        &self,
        attachment: &Attachment,
        deadline: &mut Deadline,
        turn: Turn,
    ) -> Result<Synced> {
        attachment.check_writable()?;
        if !attachment.header.has_checkpoint() {
            let what = "it was created without checkpoints, so it cannot be synced".into();
            return Err(Error::Invalid { path: attachment.path.clone(), slot: None, what });
        }
        // All writes go through our own file description, or one that is opened anew.
        attachment.map.file().own();
        let result = self.take_turn(attachment, deadline, turn);
        match &result {
            Ok(Synced::Done) => note_failure(attachment, None),
            Ok(Synced::Recently | Synced::Busy) => {}
            // The caller that waited in vain is told. The lock's holder may be about to sync all of
            // it.
            Err(Error::LockTimeout { .. }) => {}
            Err(error) => note_failure(attachment, Some(errno(error))),
        }
        result
    }

    fn take_turn(
        &self,
        attachment: &Attachment,
        deadline: &mut Deadline,
        turn: Turn,
    ) -> Result<Synced> {
        let tracked = self.tracked.get(|_| Mutex::default());
        let lock = attachment.lock(live::SYNC_LOCK);
        let (mut tracked, held) = match turn {
            Turn::Wait => {
                // The lock first, as it supports a time-out. A thread that has the mutex without
                // the lock does not wait for the lock.
                let held = protocol::lock(&lock, attachment, Form::Lock, deadline)
                    .map_err(|f| directory::explain(attachment, "the sync lock", f, deadline))?;
                (tracked.lock().unwrap_or_else(PoisonError::into_inner), held)
            }
            Turn::SkipIfWithin(period) => {
                let Ok(tracked) = tracked.try_lock() else { return Ok(Synced::Recently) };
                // If nothing has changed, nothing is written, not even the lock: each write to the
                // file goes to the disk in time.
                let known = tracked.as_ref().filter(|known| known.is_of(attachment));
                // If that cannot be told, the sync says why.
                let is_idle = |known: &Tracked| matches!(known.has_changed(attachment), Ok(false));
                if was_within(attachment, period) {
                    return Ok(Synced::Recently);
                }
                if known.is_some_and(is_idle) {
                    return Ok(Synced::Done);
                }
                // A process that cannot lock at all is told why.
                attachment.me()?;
                let free = protocol::try_lock(&lock, attachment);
                let Some(held) = free.or_else(|| lock_of_the_dead(&lock, attachment)) else {
                    return Ok(Synced::Busy);
                };
                if was_within(attachment, period) {
                    return Ok(Synced::Recently);
                }
                (tracked, held)
            }
        };
        attachment.set_syncing(true);
        // Relaxed: a thread that syncs has the lock of `tracked`. Not every store notes a failure.
        let failed = self.failed.load(Relaxed) || failure(attachment).is_some();
        let ready = match failed && !planted!(WritesAgainWhatFailed) {
            true => commit::forget(attachment),
            false => Ok(()),
        };
        let synced = ready.and_then(|()| write(&mut tracked, attachment, deadline));
        self.failed.store(synced.is_err(), Relaxed);
        attachment.set_syncing(false);
        drop(held);
        synced.map(|()| Synced::Done)
    }
}

/// Writes what has changed, under the sync lock.
fn write(
    tracked: &mut Option<Tracked>,
    attachment: &Attachment,
    deadline: &mut Deadline,
) -> Result<()> {
    // Remembered again only if all has gone well: after an error, what was written is not what the
    // record says.
    let known = tracked.take().filter(|known| known.is_of(attachment));
    let mut known = known.map_or_else(|| Tracked::load(attachment), Ok)?;
    let synced = known.sync(attachment, deadline);
    if planted!(RemembersAFailedSync) && synced.is_err() {
        *tracked = Some(known);
        return synced;
    }
    synced?;
    // Not flushed, and after the acknowledgement: if the mark is there, so is the record. Under the
    // lock: an older sync's mark must not follow a newer one's.
    let marked = known.write_mark(attachment);
    *tracked = Some(known);
    marked
}

/// The lock, if its holder is dead.
fn lock_of_the_dead<'a>(
    lock: &'a SlotMemory,
    attachment: &'a Attachment,
) -> Option<Held<'a, SlotMemory, Attachment>> {
    let owner = holder(attachment);
    let recovered =
        owner != FREE && protocol::recover_dead_owner(lock, attachment, Form::Lock, owner);
    recovered.then(|| protocol::try_lock(lock, attachment)).flatten()
}

/// Whether a sync that found something to write began within this time.
fn was_within(attachment: &Attachment, period: Duration) -> bool {
    // Relaxed: a time; a process that syncs too early only does needless work.
    let last = attachment.live.load(live::LAST_SYNC, Relaxed);
    // A time in the future comes from another boot, or from a container with a clock of its own.
    let since = sys::since_boot().checked_sub(last).map(Duration::from_nanos);
    since.is_some_and(|since| since < period)
}

/// The system's number for an error, or for the closest one.
fn errno(error: &Error) -> i32 {
    match error {
        Error::Io { source, .. }
        | Error::NoSpace { source, .. }
        | Error::PermissionDenied { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        Error::LockTimeout { .. } | Error::KeepsChanging { .. } => libc::ETIMEDOUT,
        Error::TooManyProcesses { .. } => libc::EUSERS,
        Error::AddressSpace { .. } | Error::OutOfMemory { .. } => libc::ENOMEM,
        Error::Corrupt { .. } | Error::Truncated { .. } => libc::EUCLEAN,
        _ => libc::EIO,
    }
}

/// Notes for all readers that a sync has failed with this error number. `None`: a sync has
/// succeeded, so none counts as failed.
fn note_failure(attachment: &Attachment, errno: Option<i32>) {
    // Relaxed: for display.
    let word = |number: usize| attachment.live.load(live::FAILED_SYNC + number, Relaxed);
    if attachment.header.minor == 0 || errno.is_none() && word(0) == 0 {
        return; // nothing is written where nothing changes
    }
    let when = if errno.is_some() { seconds_since_1970() } else { 0 };
    attachment.live.store(live::FAILED_SYNC, errno.unwrap_or(0).unsigned_abs().into(), Relaxed);
    attachment.live.store(live::FAILED_SYNC + 1, when, Relaxed);
}

/// Notes an error that no caller is left to receive.
pub(crate) fn note_unheard(attachment: &Attachment, error: &Error) {
    note_failure(attachment, Some(errno(error)));
}

/// The last failed sync: the system's error number, and when. `None`: a sync has succeeded since,
/// or none has failed.
pub(crate) fn failure(attachment: &Attachment) -> Option<(i32, u64)> {
    if attachment.header.minor == 0 {
        return None;
    }
    // Relaxed: for display. In a damaged file the words may be anything.
    let errno = attachment.live.load(live::FAILED_SYNC, Relaxed);
    let when = attachment.live.load(live::FAILED_SYNC + 1, Relaxed);
    (errno != 0).then(|| (i32::try_from(errno).unwrap_or(libc::EIO), when))
}

/// Values that change as long as the holder of the sync lock makes progress.
pub(crate) fn progress(attachment: &Attachment) -> (u64, u64, Owner) {
    // Relaxed: only a change means anything.
    let word = |number: usize| attachment.live.load(number, Relaxed);
    let steps = if attachment.header.minor == 0 { 0 } else { word(live::SYNC_PROGRESS) };
    (steps, word(live::ACKED), holder(attachment))
}

fn holder(attachment: &Attachment) -> Owner {
    attachment.lock(live::SYNC_LOCK).control(Relaxed).owner()
}

/// The error of waiting in vain for the holder of the sync lock.
pub(crate) fn stuck(attachment: &Attachment, waited: Duration) -> Error {
    let error = Error::LockTimeout {
        path: attachment.path.clone(),
        slot: "the sync lock".to_owned(),
        holder: attachment.holder(holder(attachment)),
        waited,
    };
    note_failure(attachment, Some(errno(&error)));
    error
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::Store;

    /// One thread waits for the sync lock without a limit. Another thread of the same process waits
    /// only for a moment.
    #[test]
    fn a_sync_with_a_time_out_does_not_wait_behind_one_without() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().join("state.slots")).unwrap();
        store.pause_syncing();
        let attachment = store.attachment();
        let lock = attachment.lock(live::SYNC_LOCK);
        let held = protocol::lock(&lock, attachment, Form::Lock, &mut Deadline::new(None));
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
