//! The stores that this process has open: opening one twice shares one attachment.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fork::PerProcess;
use crate::session::{SharedSession, WeakSession};

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

/// Those that are open, until this is dropped.
pub(crate) fn lock() -> MutexGuard<'static, BTreeMap<Key, WeakSession>> {
    registry().lock().unwrap_or_else(PoisonError::into_inner)
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
