//! [`OwnedGuard`]: a slot's lock for code that cannot borrow the slot.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::Result;
use crate::slots::guard::RawGuard;
use crate::slots::slot::Slot;

/// A [`Guard`](crate::Guard) that shares its slot's handle instead of borrowing it, for bindings to
/// other languages. From [`Slot::lock_owned`].
#[derive(Debug)]
#[must_use = "the lock is let go as soon as the guard is dropped"]
pub struct OwnedGuard {
    slot: Arc<Slot>,
    /// `None` only while it is dropped.
    raw: Option<RawGuard>,
    /// A lock belongs to its thread.
    not_send: PhantomData<*const ()>,
}

impl Slot {
    /// As [`lock`](Slot::lock), with a guard that shares the handle.
    ///
    /// # Errors
    ///
    /// As [`lock`](Slot::lock).
    ///
    /// ```
    /// use std::sync::Arc;
    /// let store = slotfile::Store::temporary()?;
    /// let hits = store.value::<u64>("hits")?;
    /// let guard = Arc::new(store.slot("hits")?).lock_owned()?;
    /// hits.fetch_add(1)?; // the holder's own update
    /// drop(guard);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn lock_owned(self: &Arc<Slot>) -> Result<OwnedGuard> {
        let raw = self.lock()?.into_raw();
        Ok(OwnedGuard { slot: Arc::clone(self), raw, not_send: PhantomData })
    }
}

impl Drop for OwnedGuard {
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            drop(self.slot.resume_guard(raw));
        }
    }
}
