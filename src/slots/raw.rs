//! [`RawBuffer`]: a buffer as bindings to other languages need it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::attachment::attach::Failure;
use crate::error::Result;
use crate::protocol::{self, Deadline, FREE, Held, Memory};
use crate::slots::handle::Handle;
use crate::slots::slot::Slot;
use crate::store::session::SlotElements;

/// A buffer's memory and its lock, without types and guards: for bindings to other
/// languages, which have their own.
///
/// The lock is the slot's, the one that [`Buffer::lock`](crate::Buffer::lock) takes. Here it is
/// recursive, and released by a call. It still belongs to its thread, and is free when the thread
/// ends. In the child of a fork it is not held.
///
/// ```
/// use slotfile::{Define, SlotType, Store};
/// let store = Store::temporary()?;
/// let slot = store.define("frame", &"buffer:u8[64]".parse::<SlotType>().unwrap(), Define::new())?;
/// let raw = slot.raw_buffer().expect("it is a buffer");
/// raw.acquire(None)?;
/// assert!(raw.try_acquire()?); // again
/// assert_eq!(raw.depth(), 2);
/// assert!(raw.release() && raw.release());
/// assert!(!raw.release()); // it was not held
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RawBuffer {
    handle: Handle,
    elements: SlotElements,
    len: usize,
}

impl Slot {
    /// The memory and the lock, if this is a buffer.
    pub fn raw_buffer(&self) -> Option<RawBuffer> {
        let elements = self.buffer_elements()?.clone();
        Some(RawBuffer { handle: self.handle.clone(), elements, len: self.size() })
    }
}

impl RawBuffer {
    /// The first byte, see [`Buffer::as_ptr`](crate::Buffer::as_ptr).
    pub fn as_ptr(&self) -> *mut u8 {
        // This process must also sync what is stored through the pointer.
        self.handle.session().keep_syncing();
        self.elements.as_mut_ptr()
    }

    /// How many bytes there are.
    #[allow(clippy::len_without_is_empty, reason = "a buffer is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The slot's name.
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// Sets all bytes to zero.
    pub fn clear(&self) {
        self.elements.clear();
    }

    /// Whether anybody has the lock at this moment.
    pub fn is_locked(&self) -> bool {
        self.handle.memory.control(Relaxed).owner() != FREE
    }

    fn slot(&self) -> u64 {
        self.handle.offset()
    }

    /// How many times this thread has taken the lock.
    pub fn depth(&self) -> usize {
        self.handle.attachment().lock_depth(self.slot())
    }

    /// Takes the lock, again if this thread already has it; false if another thread has it. Never
    /// waits, and does not check whether the holder is alive.
    ///
    /// # Errors
    ///
    /// [`Error::Removed`](crate::Error::Removed), [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub fn try_acquire(&self) -> Result<bool> {
        self.handle.begin_write()?;
        if let Some(held) = protocol::try_lock(&self.handle) {
            self.keep(held);
            return Ok(true);
        }
        if self.handle.is_removed() {
            return Err(self.handle.removed());
        }
        Ok(self.handle.attachment().reenter(self.slot()))
    }

    /// Takes the lock, again if this thread already has it. Waits for at most `timeout`; `None`:
    /// for ever.
    ///
    /// # Errors
    ///
    /// [`Error::LockTimeout`](crate::Error::LockTimeout),
    /// [`Error::Removed`](crate::Error::Removed), [`Error::ReadOnly`](crate::Error::ReadOnly),
    /// [`Error::TooManyProcesses`](crate::Error::TooManyProcesses).
    pub fn acquire(&self, timeout: Option<Duration>) -> Result<()> {
        self.handle.begin_write()?;
        let mut deadline = Deadline::new(timeout);
        match protocol::lock(&self.handle, &mut deadline) {
            Ok(held) => self.keep(held),
            Err(Failure::Deadlock) if self.handle.attachment().reenter(self.slot()) => {}
            Err(failure) => return Err(self.handle.lock_error(failure, &deadline)),
        }
        Ok(())
    }

    /// From now on only the thread's note records that the lock is held.
    fn keep(&self, mut held: Held<&Handle>) {
        held.disarm();
        self.handle.attachment().enter(self.slot());
    }

    /// Releases the lock once; false if this thread has not taken it here. (A
    /// [`Guard`](crate::Guard) of the same buffer still keeps it.)
    pub fn release(&self) -> bool {
        match self.handle.attachment().leave(self.slot()) {
            None => return false,
            Some(0) => drop(Held::taken(&self.handle)),
            Some(_) => {}
        }
        true
    }

    /// Runs `f` under the lock, if the lock is free at this moment or already this thread's. `f`
    /// must not use the slot.
    #[inline]
    pub fn try_with<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        self.handle.session().keep_syncing();
        let attachment = self.handle.attachment();
        attachment.check_writable().ok()?;
        if let Some(_held) = protocol::try_lock(&self.handle) {
            return Some(f());
        }
        (attachment.lock_depth(self.slot()) > 0).then(f)
    }
}
