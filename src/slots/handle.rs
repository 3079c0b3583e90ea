//! What all handles share: a slot's memory, its descriptor, its store.

use std::time::Duration;

use crate::attachment::attach::{Attachment, Failure};
use crate::attachment::descriptor_cache::Entry;
use crate::attachment::descriptors;
use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Deadline, Held, Lockable};
use crate::store::session::{Session, SharedSession};
use crate::types::elements::NoMemory;
use crate::types::slot_type::SlotType;

/// One slot's memory. It keeps the session, which keeps all else, so a handle has a single
/// reference count.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) memory: SlotMemory<SharedSession>,
    /// The descriptor's first line in the directory.
    pub(crate) line: u32,
    pub(super) lock_timeout: Option<Duration>,
}

impl Handle {
    #[inline]
    pub(crate) fn session(&self) -> &Session {
        self.memory.region().keeper()
    }

    #[inline]
    pub(crate) fn attachment(&self) -> &Attachment {
        self.session().attachment()
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        descriptors::kept(self.attachment(), self.line)
    }

    fn entry(&self) -> Entry<'_> {
        self.attachment().descriptor_cache.get(self.line).expect("what is known stays so")
    }

    /// The slot's type; an error if the descriptor was damaged since it was checked.
    pub(crate) fn slot_type(&self) -> Result<SlotType> {
        descriptors::slot_type(self.attachment(), self.entry())
    }

    /// Bytes of the slot's content.
    pub(crate) fn content_len(&self) -> usize {
        self.entry().content_len() as usize
    }

    pub(crate) fn name(&self) -> &str {
        &self.descriptor().name
    }

    /// The slot's offset in the file, which identifies it within its store.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.memory.region().offset()
    }

    /// See [`Session::begin_write`].
    #[inline]
    pub(crate) fn begin_write(&self) -> Result<()> {
        self.session().begin_write()
    }

    /// An error unless raw memory may be stored to.
    #[inline]
    pub(crate) fn check_usable(&self) -> Result<()> {
        self.begin_write()?;
        match self.is_removed() {
            true => Err(self.removed()),
            false => Ok(()),
        }
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::new(self.lock_timeout)
    }

    pub(crate) fn set_lock_timeout(&mut self, timeout: Option<Duration>) {
        self.lock_timeout = timeout;
    }

    pub(crate) fn lock_error(&self, failure: Failure, deadline: &Deadline) -> Error {
        self.attachment().lock_error(self.name(), failure, deadline)
    }

    #[cold]
    pub(crate) fn no_memory(&self, none: NoMemory) -> Error {
        let (path, slot) = (self.attachment().path.clone(), self.name().to_owned());
        Error::OutOfMemory { path, slot, need: none.need }
    }

    /// The slot's effective version, see [`protocol`].
    pub(crate) fn version(&self) -> u64 {
        protocol::effective_version(&self.memory, self.attachment())
    }

    #[inline]
    pub(crate) fn is_removed(&self) -> bool {
        self.memory.is_removed()
    }

    /// Whether this thread has the slot locked through a guard, outside of an update.
    pub(crate) fn is_guarded(&self) -> bool {
        self.attachment().is_guarded(self.offset())
    }

    /// Locks the slot for one update: waits for the lock, or continues under this thread's own
    /// guard.
    #[inline]
    pub(crate) fn lock_for_update(&self) -> Result<Held<&Handle>> {
        self.begin_write()?;
        let mut deadline = self.deadline();
        protocol::lock_for_update(self, &mut deadline)
            .map_err(|failure| self.lock_error(failure, &deadline))
    }

    /// Replaces `data.len()` bytes from byte `at` of the content, under its lock.
    #[inline]
    pub(crate) fn commit(&self, lock: Held<&Handle>, at: usize, data: &[u8]) -> Result<u64> {
        lock.commit(self.memory.areas(), at, data).map_err(|failure| self.not_committed(failure))
    }

    /// An error if nothing may be stored under this lock any more.
    pub(crate) fn check_lock(&self, lock: &Held<&Handle>) -> Result<()> {
        match lock.may_store() {
            true => Ok(()),
            false => Err(self.not_committed(Failure::Evicted)),
        }
    }

    /// Increases the version of a buffer, whose content is not committed, under the lock.
    pub(crate) fn notify(&self, lock: Held<&Handle>) -> Result<u64> {
        lock.notify().map_err(|failure| self.not_committed(failure))
    }

    #[cold]
    pub(crate) fn not_committed(&self, failure: Failure) -> Error {
        self.lock_error(failure, &self.deadline())
    }

    /// The error for a slot that was removed.
    #[cold]
    pub(crate) fn removed(&self) -> Error {
        self.lock_error(Failure::Removed, &self.deadline())
    }

    pub(crate) fn remove(&self) -> Result<()> {
        let mut deadline = self.deadline();
        protocol::lock(self, &mut deadline)
            .and_then(Held::remove)
            .map_err(|failure| self.lock_error(failure, &deadline))
    }
}

impl Lockable for Handle {
    type Memory = SlotMemory<SharedSession>;
    type Peers = Attachment;

    #[inline]
    fn memory(&self) -> &SlotMemory<SharedSession> {
        &self.memory
    }

    #[inline]
    fn peers(&self) -> &Attachment {
        self.attachment()
    }
}

/// The methods that every kind of handle has.
macro_rules! common_methods {
    () => {
        /// The slot's name.
        pub fn name(&self) -> &str {
            self.handle.name()
        }

        /// A counter that grows with every update of the slot, modulo 2^47. (It also grows
        /// when the lock of a dead process is recovered.)
        pub fn version(&self) -> u64 {
            self.handle.version()
        }

        /// Whether the slot was removed. `load` still returns its last value.
        pub fn is_removed(&self) -> bool {
            self.handle.is_removed()
        }

        /// Waits until the slot's version differs from `seen`, for at most `timeout` (`None`:
        /// for ever). Returns the new version, or `None` on time-out.
        ///
        /// `seen` is the last version that the caller knows, from an earlier call or from
        /// `load_versioned`. So no change is missed: if one came before the call, it returns
        /// at once. Of several changes only the last may be seen. Spins for a moment, then
        /// sleeps until a change in any process wakes it. On a store opened read-only it polls,
        /// at first every millisecond, in the end every 50 ms.
        ///
        /// # Errors
        ///
        /// [`Error::Removed`](crate::Error::Removed) if the slot is, or becomes, removed;
        /// [`Error::Deadlock`](crate::Error::Deadlock) if this thread's own lock
        /// keeps others from changing the slot;
        /// [`Error::Detached`](crate::Error::Detached) if the store's file was deleted, moved or
        /// replaced, so that others' changes go to another file. This is checked after each second
        /// without a change.
        pub fn wait_for_change(
            &self,
            seen: u64,
            timeout: Option<std::time::Duration>,
        ) -> crate::error::Result<Option<u64>> {
            self.handle.wait_for_change(seen, timeout)
        }
    };
}
pub(crate) use common_methods;
