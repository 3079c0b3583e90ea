//! Guards: a slot's lock for longer sections than one update; and updates that are begun by
//! one call and committed by another.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use crate::attach::Attachment;
use crate::error::Result;
use crate::handle::{Handle, ParkedUpdate, SlotMemory, UpdateLock};
use crate::protocol::{self, Areas, Held, Parked, Peers};
use crate::session::{SlotCell, SlotRegion};

/// A slot's lock, held until dropped. The holder's own updates go through; everybody
/// else's wait; reads never do. In the child of a fork it is inert.
///
/// `!Send`, as std's guards.
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
    // Dropped in this order: the mark first, then the lock.
    mark: Mark<'a>,
    held: AnyHeld<'a>,
    not_send: PhantomData<*const ()>,
}

enum AnyHeld<'a> {
    Scalar(Held<'a, SlotCell, Attachment>),
    Areas(Held<'a, SlotRegion, Attachment>),
}

/// Notes that this thread has a guard of the slot, for as long as it exists.
struct Mark<'a> {
    attachment: &'a Attachment,
    slot: u64,
    fork_generation: u64,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        // The child of a fork has a copy of this; a guard it has of this slot is its own.
        if self.attachment.fork_generation() == self.fork_generation {
            self.attachment.remove_guard(self.slot);
        }
    }
}

impl Guard<'_> {
    /// A descriptor that child processes inherit. While it is open in any process, all
    /// locks that this process holds in this store outlive it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if there are too many descriptors.
    pub fn inheritable(&self) -> Result<OwnedFd> {
        self.mark.attachment.inheritable()
    }

    /// Without its references, see `Handle::resume_guard`.
    pub(crate) fn park(self) -> ParkedGuard {
        let Guard { mark, held, .. } = self;
        let held = match held {
            AnyHeld::Scalar(held) => held.park(),
            AnyHeld::Areas(held) => held.park(),
        };
        let fork_generation = mark.fork_generation;
        std::mem::forget(mark);
        ParkedGuard { held, fork_generation }
    }
}

/// A [`Guard`] without its references.
#[derive(Debug)]
pub(crate) struct ParkedGuard {
    held: Parked,
    fork_generation: u64,
}

impl std::fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl<M: SlotMemory> Handle<M> {
    fn guard<'a>(
        &'a self,
        wrap: impl FnOnce(Held<'a, M, Attachment>) -> AnyHeld<'a>,
    ) -> Result<Guard<'a>> {
        let attachment = self.attachment();
        self.check_writable()?;
        let mut patience = self.patience();
        let held = protocol::lock(&self.memory, attachment, self.form, &mut patience)
            .map_err(|failure| self.explain(failure, &patience))?;
        let slot = self.place();
        attachment.add_guard(slot);
        let mark = Mark { attachment, slot, fork_generation: attachment.fork_generation() };
        Ok(Guard { mark, held: wrap(held), not_send: PhantomData })
    }

    /// A guard as it was before it was parked, of this very slot.
    fn resume<'a>(
        &'a self,
        parked: ParkedGuard,
        wrap: impl FnOnce(Held<'a, M, Attachment>) -> AnyHeld<'a>,
    ) -> Guard<'a> {
        let ParkedGuard { held, fork_generation } = parked;
        let attachment = self.attachment();
        let mark = Mark { attachment, slot: self.place(), fork_generation };
        let held = wrap(held.resume(&self.memory, attachment));
        Guard { mark, held, not_send: PhantomData }
    }
}

impl Handle<SlotCell> {
    pub(crate) fn lock(&self) -> Result<Guard<'_>> {
        self.guard(AnyHeld::Scalar)
    }

    pub(crate) fn resume_guard(&self, parked: ParkedGuard) -> Guard<'_> {
        self.resume(parked, AnyHeld::Scalar)
    }
}

impl Handle<SlotRegion> {
    pub(crate) fn lock(&self) -> Result<Guard<'_>> {
        self.guard(AnyHeld::Areas)
    }

    pub(crate) fn resume_guard(&self, parked: ParkedGuard) -> Guard<'_> {
        self.resume(parked, AnyHeld::Areas)
    }
}

/// The lock of one update of a slot with areas. Dropping it undoes the update.
#[derive(Debug)]
pub(crate) struct OwnedUpdate {
    handle: Handle<SlotRegion>,
    areas: Areas,
    /// `None` only while it is dropped.
    parked: Option<ParkedUpdate>,
    not_send: PhantomData<*const ()>,
}

impl Handle<SlotRegion> {
    pub(crate) fn begin_update(&self, areas: Areas) -> Result<OwnedUpdate> {
        let parked = Some(self.lock_for_update()?.park());
        Ok(OwnedUpdate { handle: self.clone(), areas, parked, not_send: PhantomData })
    }
}

impl OwnedUpdate {
    fn resume(&mut self) -> Option<UpdateLock<'_, SlotRegion>> {
        self.parked.take().map(|parked| self.handle.resume_update(parked))
    }

    /// The version whose area is current while the lock is held.
    pub(crate) fn version(&self) -> u64 {
        self.parked.as_ref().map_or(0, ParkedUpdate::version)
    }

    /// Replaces the bytes from `at` on, and lets go of the lock.
    pub(crate) fn commit(mut self, at: usize, data: &[u8]) -> Result<()> {
        let areas = self.areas;
        let handle = self.handle.clone();
        if let Some(lock) = self.resume() {
            handle.commit(lock, &areas, at, data)?;
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
        /// longer than one update. Reads go on; so do this thread's own updates.
        ///
        /// # Errors
        ///
        /// [`Error::LockTimeout`](crate::Error::LockTimeout), with the holder's process
        /// number; [`Error::Deadlock`](crate::Error::Deadlock) if this thread has it
        /// already; [`Error::Removed`](crate::Error::Removed),
        /// [`Error::ReadOnly`](crate::Error::ReadOnly),
        /// [`Error::TooManyProcesses`](crate::Error::TooManyProcesses).
        pub fn lock(&self) -> crate::error::Result<crate::guard::Guard<'_>> {
            self.handle.lock()
        }

        /// The same slot with another time-out for every wait for a lock than its store's;
        /// `None`: for ever.
        #[must_use]
        pub fn with_lock_timeout(mut self, timeout: Option<std::time::Duration>) -> Self {
            self.handle.set_lock_timeout(timeout);
            self
        }
    };
}
pub(crate) use lock_methods;
