//! Guards: a slot's lock for longer sections than one update. Also updates that one call begins
//! and another commits.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use crate::attachment::attach::{Attachment, Number};
use crate::error::Result;
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Held, RawLock};
use crate::slots::handle::{Handle, RawUpdate, UpdateLock};
use crate::store::session::SharedSession;

/// A slot's lock, held until dropped. The holder can update the slot; everybody else's updates
/// wait; reads never wait. In the child of a fork it is inert.
///
/// `!Send`, like std's guards.
///
/// ```
/// let store = slotfile::Store::temporary()?;
/// let (a, b) = (store.value::<i64>("a")?, store.value::<i64>("b")?);
/// let guard = a.lock()?;
/// if a.load() == 0 {
///     b.store(1)?;
///     a.store(2)?; // the holder's own update
/// }
/// drop(guard);
/// # Ok::<(), slotfile::Error>(())
/// ```
#[must_use = "the lock is let go as soon as the guard is dropped"]
pub struct Guard<'a> {
    /// `None` after `into_raw`.
    held: Option<Held<'a, SlotMemory<SharedSession>, Attachment>>,
    attachment: &'a Attachment,
    slot: u64,
    number: Number,
    not_send: PhantomData<*const ()>,
}

impl Guard<'_> {
    /// Returns a descriptor that child processes inherit. While any process has it open, all
    /// locks that this process holds in this store stay held, even after this process has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if there are too many descriptors.
    pub fn inheritable(&self) -> Result<OwnedFd> {
        self.attachment.inheritable()
    }

    /// The guard without its references, see [`Handle::resume_guard`].
    pub(crate) fn into_raw(mut self) -> Option<RawGuard> {
        let held = self.held.take()?.into_raw();
        Some(RawGuard { held, number: self.number })
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        match self.attachment.remove_guard(self.slot, self.number) {
            Some(0) => held.follow_updates(),
            // This thread also holds it without a guard.
            Some(_) => std::mem::forget(held),
            // Of a fork's parent, or of a thread whose entry is gone or lost: only this very lock
            // is released.
            None => {}
        }
    }
}

/// A [`Guard`] without its references.
#[derive(Debug)]
pub(crate) struct RawGuard {
    held: RawLock,
    number: Number,
}

impl std::fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn lock(&self) -> Result<Guard<'_>> {
        let attachment = self.attachment();
        self.begin_write()?;
        let mut deadline = self.deadline();
        let held = protocol::lock(&self.memory, attachment, self.memory.form(), &mut deadline)
            .map_err(|failure| self.explain(failure, &deadline))?;
        let number = attachment.add_guard(self.place());
        Ok(self.guard(held, number))
    }

    /// The guard of this slot that `raw` came from.
    pub(crate) fn resume_guard(&self, raw: RawGuard) -> Guard<'_> {
        let RawGuard { held, number } = raw;
        self.guard(held.resume(&self.memory, self.attachment()), number)
    }

    fn guard<'a>(
        &'a self,
        held: Held<'a, SlotMemory<SharedSession>, Attachment>,
        number: Number,
    ) -> Guard<'a> {
        let (attachment, slot) = (self.attachment(), self.place());
        Guard { held: Some(held), attachment, slot, number, not_send: PhantomData }
    }
}

/// The lock of one update of a slot with areas. Dropping it undoes the update.
#[derive(Debug)]
pub(crate) struct OwnedUpdate {
    handle: Handle,
    /// `None` only while it is dropped.
    raw: Option<RawUpdate>,
    not_send: PhantomData<*const ()>,
}

impl Handle {
    pub(crate) fn begin_array_update(&self) -> Result<OwnedUpdate> {
        let raw = Some(self.lock_for_update()?.into_raw());
        Ok(OwnedUpdate { handle: self.clone(), raw, not_send: PhantomData })
    }
}

impl OwnedUpdate {
    fn resume(&mut self) -> Option<UpdateLock<'_>> {
        self.raw.take().map(|raw| self.handle.resume_update(raw))
    }

    /// The version of the current area, while the lock is held.
    pub(crate) fn version(&self) -> u64 {
        self.raw.as_ref().map_or(0, RawUpdate::version)
    }

    /// Replaces the bytes from `at` on, and releases the lock.
    pub(crate) fn commit(mut self, at: usize, data: &[u8]) -> Result<()> {
        let handle = self.handle.clone();
        if let Some(raw) = self.raw.take() {
            handle.commit(handle.resume_held_update(raw)?, at, data)?;
        }
        Ok(())
    }
}

impl Drop for OwnedUpdate {
    fn drop(&mut self) {
        drop(self.resume());
    }
}

/// The methods of every kind of handle that has a lock.
macro_rules! lock_methods {
    () => {
        /// Waits for the slot's lock and holds it until the guard is dropped, for sections
        /// longer than one update. Meanwhile others can read, and this thread can also update.
        ///
        /// # Errors
        ///
        /// [`Error::LockTimeout`](crate::Error::LockTimeout), with the holder's process
        /// id; [`Error::Deadlock`](crate::Error::Deadlock) if this thread already has
        /// the lock; [`Error::Removed`](crate::Error::Removed),
        /// [`Error::ReadOnly`](crate::Error::ReadOnly),
        /// [`Error::TooManyProcesses`](crate::Error::TooManyProcesses).
        pub fn lock(&self) -> crate::error::Result<crate::slots::guard::Guard<'_>> {
            self.handle.lock()
        }

        /// The same slot with its own lock time-out, in place of its store's; `None`: waits for
        /// ever.
        #[must_use]
        pub fn with_lock_timeout(mut self, timeout: Option<std::time::Duration>) -> Self {
            self.handle.set_lock_timeout(timeout);
            self
        }
    };
}
pub(crate) use lock_methods;
