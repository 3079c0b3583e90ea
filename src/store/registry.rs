//! The stores that this process has open: opening one twice shares one attachment.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::os::fork::{PerProcess, Quiet};
use crate::os::sys;
use crate::store::session::{LONGEST_SYNC, SharedSession, WeakSession};

/// Which file, and how it is open: a read-only attachment has no use for writers.
pub(crate) type Key = (u64, u64, bool);
type Registry = Mutex<BTreeMap<Key, WeakSession>>;

fn registry() -> &'static Registry {
    static REGISTRY: PerProcess<Registry> = PerProcess::at_load(Mutex::new(BTreeMap::new()));
    REGISTRY.get(|parents| {
        // Where another thread of the parent was at it, a store may be attached twice,
        // which works as well.
        let known = parents.try_lock().map(|known| known.clone());
        Mutex::new(known.unwrap_or_default())
    })
}

/// The one of this key, if this process has it open.
pub(crate) fn find(key: Key) -> Option<SharedSession> {
    let mut known = lock();
    known.retain(|_, session| session.strong_count() > 0);
    known.get(&key).and_then(Weak::upgrade)
}

/// From now on, other openers of this process are given this one.
pub(crate) fn insert(key: Key, session: &SharedSession) {
    lock().insert(key, Arc::downgrade(session));
}

/// They are not any more.
pub(crate) fn remove(key: Key) {
    lock().remove(&key);
}

/// Those that are open, until this is dropped. Not for long: whatever store a thread of this
/// process opens, it waits for this.
fn lock() -> MutexGuard<'static, BTreeMap<Key, WeakSession>> {
    registry().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has all stores that are still open when this process ends left then: those in statics, in
/// what was leaked, and in whatever else `exit` does not drop.
pub(crate) fn leave_at_exit() {
    static ASKED_FOR: AtomicBool = AtomicBool::new(false);
    // A fork in the middle would leave its child without.
    let _quiet = Quiet::begin();
    // Relaxed: under `Quiet`. Where it cannot be had, they are synced in the background only.
    if !ASKED_FOR.swap(true, Ordering::Relaxed) {
        drop(sys::at_exit(leave_all));
    }
}

extern "C" fn leave_all() {
    let left = std::panic::catch_unwind(|| {
        // Not waited for without end: another thread may be in the middle of it for ever.
        let open = (0..1000).find_map(|_| {
            let open = registry().try_lock().ok();
            if open.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            open.map(|open| open.values().filter_map(Weak::upgrade).collect::<Vec<_>>())
        });
        // Nobody is left to tell of an error: the live header does.
        for session in open.into_iter().flatten() {
            let _ = session.leave_at_exit(Some(LONGEST_SYNC));
        }
    });
    // A panic has been shown; this process ends in any case.
    drop(left);
}

/// Takes a session from those that other openers of this process are given, for as long as it
/// is to be replaced: they open the file themselves, and wait for the open lock. `None`: others
/// have it already.
pub(crate) fn withhold(session: &SharedSession) -> Option<Withheld<'_>> {
    let mut known = lock();
    if Arc::strong_count(session) > 1 {
        return None;
    }
    known.retain(|_, other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(session)));
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
        let key = (metadata.dev(), metadata.ino(), attachment.writable);
        let mut known = lock();
        // Where another thread has opened it meanwhile, that session is shared.
        if known.get(&key).is_none_or(|other| other.strong_count() == 0) {
            known.insert(key, Arc::downgrade(self.session));
        }
    }
}
