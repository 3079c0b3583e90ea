//! The stores that this process has open. Opening one twice shares one attachment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::mutant::planted;
use crate::os::descriptor::FileId;
use crate::os::fork::{NoFork, PerProcess};
use crate::os::sys;
use crate::store::background::LONGEST_SYNC;
use crate::store::session::{SharedSession, WeakSession};

/// What two openers must have in common to share an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) file: FileId,
    /// A writer cannot share a read-only attachment.
    pub(crate) writable: bool,
}

type Registry = Mutex<BTreeMap<Key, WeakSession>>;

fn registry() -> &'static Registry {
    static REGISTRY: PerProcess<Registry> = PerProcess::at_load(Mutex::new(BTreeMap::new()));
    REGISTRY.get(|parents| {
        // If another thread of the parent held it, a store may be attached twice, which works too.
        let known = parents.try_lock().map(|known| known.clone());
        Mutex::new(known.unwrap_or_default())
    })
}

/// The session of this key, if this process has it open.
pub(crate) fn find(key: Key) -> Option<SharedSession> {
    let mut known = lock();
    known.retain(|_, session| session.strong_count() > 0);
    known.get(&key).and_then(Weak::upgrade)
}

/// From now on, other openers in this process share this session.
pub(crate) fn insert(key: Key, session: &SharedSession) {
    lock().insert(key, Arc::downgrade(session));
}

/// Undoes [`insert`].
pub(crate) fn remove(key: Key) {
    lock().remove(&key);
}

/// Locks the registry. Keep it only briefly: a thread that opens any store waits for it.
fn lock() -> MutexGuard<'static, BTreeMap<Key, WeakSession>> {
    registry().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves all stores that are still open when this process ends: those in statics, leaked, or held
/// by anything else that `exit` does not drop.
pub(crate) fn leave_at_exit() {
    static ASKED_FOR: AtomicBool = AtomicBool::new(false);
    // A fork in the middle would leave its child without the handler.
    let _no_fork = NoFork::begin();
    // Relaxed: under `NoFork`. If no handler can be set, they are synced only in the background.
    if !ASKED_FOR.swap(true, Ordering::Relaxed) && !planted!(NothingIsLeftAtExit) {
        drop(sys::at_exit(leave_all));
    }
}

extern "C" fn leave_all() {
    let left = std::panic::catch_unwind(|| {
        // The wait is bounded: another thread may have ended while it held the lock.
        let open = (0..1000).find_map(|_| {
            let open = registry().try_lock().ok();
            if open.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            open.map(|open| open.values().filter_map(Weak::upgrade).collect::<Vec<_>>())
        });
        // Nobody is left to receive an error: it is noted in the live header.
        for session in open.into_iter().flatten() {
            let _ = session.leave_at_exit(Some(LONGEST_SYNC));
        }
    });
    // A panic has been printed, and this process ends in any case.
    drop(left);
}

/// Stops sharing a session while its file is replaced: other openers in this process open the file
/// themselves, and wait for the open lock. `None`: others share it already.
pub(crate) fn withhold(session: &SharedSession) -> Option<Withheld<'_>> {
    let mut known = lock();
    if Arc::strong_count(session) > 1 {
        return None;
    }
    let is_it = |other: &WeakSession| std::ptr::eq(other.as_ptr(), Arc::as_ptr(session));
    known.retain(|_, other| planted!(AStoreThatIsBeingReplacedIsShared) || !is_it(other));
    Some(Withheld { session })
}

/// A session that is not shared. Dropping this shares it again.
pub(crate) struct Withheld<'a> {
    session: &'a SharedSession,
}

impl Drop for Withheld<'_> {
    fn drop(&mut self) {
        let attachment = self.session.attachment();
        let Ok(metadata) = attachment.map.file().metadata() else { return };
        let key = Key { file: FileId::of(&metadata), writable: attachment.writable };
        let mut known = lock();
        // If another thread has opened it meanwhile, that session stays shared.
        if known.get(&key).is_none_or(|other| other.strong_count() == 0) {
            known.insert(key, Arc::downgrade(self.session));
        }
    }
}
