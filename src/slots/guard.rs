//! [`Guard`]: a slot's lock for longer sections than one update.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::attachment::attach::{Attachment, Number};
use crate::error::Result;
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Held, Lockable};
use crate::slots::handle::Handle;
use crate::slots::slot::Slot;
use crate::store::session::SharedSession;

/// A slot's lock, held until dropped. The holder can update the slot; everybody else's updates
/// wait; reads never wait. In the child of a fork it is inert.
///
/// It borrows its slot, or shares it, see [`Slot::lock_owned`]. `!Send`, like std's guards.
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
    held: Held<Of<'a>>,
    /// Its number in the thread's notes.
    number: Number,
}

/// The slot that a guard is of.
enum Of<'a> {
    Borrowed(&'a Handle),
    Shared(Arc<Slot>),
}

impl Of<'_> {
    fn handle(&self) -> &Handle {
        match self {
            Of::Borrowed(handle) => handle,
            Of::Shared(slot) => &slot.handle,
        }
    }
}

impl Lockable for Of<'_> {
    type Memory = SlotMemory<SharedSession>;
    type Peers = Attachment;

    fn memory(&self) -> &SlotMemory<SharedSession> {
        &self.handle().memory
    }

    fn peers(&self) -> &Attachment {
        self.handle().attachment()
    }
}

impl Handle {
    pub(crate) fn lock(&self) -> Result<Guard<'_>> {
        self.lock_as(Of::Borrowed(self))
    }

    /// `of`: this handle's slot.
    fn lock_as<'a>(&self, of: Of<'a>) -> Result<Guard<'a>> {
        self.begin_write()?;
        let mut deadline = self.deadline();
        let held = protocol::lock(self, &mut deadline)
            .map_err(|failure| self.lock_error(failure, &deadline))?;
        let number = self.attachment().add_guard(self.offset());
        Ok(Guard { held: held.into_raw().resume(of), number })
    }
}

impl Slot {
    /// As [`lock`](Slot::lock), with a guard that shares the slot instead of borrowing it, for
    /// bindings to other languages.
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
    pub fn lock_owned(self: &Arc<Slot>) -> Result<Guard<'static>> {
        self.handle.lock_as(Of::Shared(Arc::clone(self)))
    }
}

impl Guard<'_> {
    /// Returns a descriptor that child processes inherit. While any process has it open, all
    /// locks that this process holds in this store stay held, even after this process has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if there are too many descriptors.
    pub fn inheritable(&self) -> Result<OwnedFd> {
        self.held.on().peers().inheritable()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let handle = self.held.on().handle();
        match handle.attachment().remove_guard(handle.offset(), self.number) {
            Some(0) => self.held.follow_updates(),
            // This thread also holds it without a guard.
            Some(_) => self.held.disarm(),
            // Of a fork's parent, or of a thread whose entry is gone or lost: only this very lock
            // is released.
            None => {}
        }
    }
}

impl std::fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
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
