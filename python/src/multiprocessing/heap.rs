//! The heap of unnamed shared objects: stores in memory (arenas), and their free slots.
//!
//! Each process has its own heap; the child of a fork begins a new one. Only the process that
//! allocated an object frees it, never its children. What it did not free is gone when it and
//! all processes that have the object have ended. An object is a slot of an arena, so that its
//! lock is recovered when the holder dies.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use slotfile::{Data, Define, Error, OpenOptions, RawBuffer, ScalarType, SlotType};

use crate::convert::error::to_py;

/// Slots have this many bytes times a power of two, and are reused.
const SMALLEST: usize = 64;
const CLASSES: usize = 15;
/// A larger object has an arena of its own, dropped when the object is freed.
const LARGEST: usize = SMALLEST << (CLASSES - 1);
/// What a slot can hold.
const MOST: usize = 8 * u32::MAX as usize;
/// Slots of an arena that objects share.
const SLOTS: u64 = 1 << 14;

/// What this process has allocated and freed.
pub(crate) struct Heap {
    arena: Mutex<Option<Py<Arena>>>,
    free: [Mutex<Vec<Piece>>; CLASSES],
    /// How many slots were ever defined; the next one's name.
    defined: AtomicU64,
}

/// A slot of an arena.
pub(crate) struct Piece {
    raw: RawBuffer,
    arena: Py<Arena>,
}

impl Piece {
    pub(crate) fn raw(&self) -> &RawBuffer {
        &self.raw
    }

    pub(crate) fn arena(&self) -> &Py<Arena> {
        &self.arena
    }

    /// Makes it as new, unless its lock is held: a child may still hold it.
    fn renew(&self) -> bool {
        if self.raw.acquire(Some(Duration::ZERO)).is_err() {
            return false;
        }
        self.raw.clear();
        self.raw.release()
    }
}

static HEAP: AtomicPtr<Heap> = AtomicPtr::new(std::ptr::null_mut());

/// Gives the child of a fork a heap of its own. Another thread may have been using the parent's,
/// and what the parent frees from now on is not free for the child.
#[pyfunction]
pub(crate) fn forked() {
    // Release: a null pointer publishes nothing; it pairs with the acquire in `of_this_process`.
    HEAP.store(std::ptr::null_mut(), Release);
}

impl Heap {
    /// Never freed, since objects refer to it as long as they live.
    pub(crate) fn of_this_process() -> &'static Heap {
        // Acquire: a thread that sees the pointer sees the heap.
        let mut heap = HEAP.load(Acquire);
        if heap.is_null() {
            let new = Box::into_raw(Box::new(Heap {
                arena: Mutex::new(None),
                free: [const { Mutex::new(Vec::new()) }; CLASSES],
                defined: AtomicU64::new(0),
            }));
            // Release: publishes the heap. If another thread was faster, one empty heap leaks.
            heap = match HEAP.compare_exchange(heap, new, AcqRel, Acquire) {
                Ok(_) => new,
                Err(other) => other,
            };
        }
        // SAFETY: it came from a box that is never dropped.
        unsafe { &*heap }
    }

    /// Memory of at least this many bytes, all zero.
    pub(crate) fn take(&self, py: Python<'_>, size: usize) -> PyResult<Piece> {
        if size > LARGEST {
            // As the standard library, which gets it from the system.
            if size > MOST {
                let text = format!("an object of {size} bytes is too large: it has at most 32 GiB");
                return Err(PyOSError::new_err((libc::ENOMEM, text)));
            }
            let arena = Bound::new(py, Arena::new(py, 1, size as u64)?)?;
            return self.define(py, &arena, size)?.map_err(to_py);
        }
        let size = size.next_power_of_two().max(SMALLEST);
        let free = &self.free[class(size)];
        let mut in_use = Vec::new();
        let renewed = loop {
            // The mutex is released at once: the interpreter may run other code in between.
            let Some(piece) = lock(free).pop() else { break None };
            if piece.renew() {
                break Some(piece);
            }
            in_use.push(piece);
        };
        lock(free).append(&mut in_use);
        match renewed {
            Some(piece) => Ok(piece),
            None => self.define_in_shared(py, size),
        }
    }

    fn define_in_shared(&self, py: Python<'_>, size: usize) -> PyResult<Piece> {
        let known = lock(&self.arena).as_ref().map(|arena| arena.clone_ref(py));
        if let Some(arena) = known {
            match self.define(py, arena.bind(py), size)? {
                Err(Error::Full { .. }) => {}
                result => return result.map_err(to_py),
            }
        }
        let arena = Bound::new(py, Arena::new(py, SLOTS, SLOTS * LARGEST as u64)?)?;
        // The previous arena is dropped below, when the mutex is free again.
        let _before = lock(&self.arena).replace(arena.clone().unbind());
        self.define(py, &arena, size)?.map_err(to_py)
    }

    fn define(
        &self,
        py: Python<'_>,
        arena: &Bound<'_, Arena>,
        size: usize,
    ) -> PyResult<slotfile::Result<Piece>> {
        // Relaxed: only the number matters.
        let name = self.defined.fetch_add(1, Relaxed).to_string();
        let store = &arena.get().store;
        let slot_type = SlotType::Buffer(ScalarType::U8, size.into());
        let defined = py.detach(|| store.define(&name, &slot_type, Define::<Data>::new()));
        Ok(defined.map(|slot| Piece {
            raw: slot.raw_buffer().expect("it was defined as a buffer"),
            arena: arena.clone().unbind(),
        }))
    }

    /// Frees it if this process allocated it.
    pub(crate) fn give_back(&self, piece: Piece) {
        // After the object is dropped, its lock can no longer be released.
        while piece.raw.release() {}
        let of_this_process = std::ptr::eq(self, HEAP.load(Acquire));
        if of_this_process && piece.raw.len() <= LARGEST {
            lock(&self.free[class(piece.raw.len())]).push(piece);
        }
    }
}

/// The size class: a power of two.
fn class(size: usize) -> usize {
    (size / SMALLEST).trailing_zeros() as usize
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store in memory whose slots are objects.
#[pyclass(frozen, weakref, module = "slotfile._native")]
pub(crate) struct Arena {
    store: slotfile::Store,
    handed_over: OnceLock<OwnedFd>,
}

impl Arena {
    fn new(py: Python<'_>, slots: u64, bytes: u64) -> PyResult<Arena> {
        /// The most that a store needs beside its slots.
        const REST: u64 = 64 << 20;
        let create = || OpenOptions::new().max_slots(slots).max_size(bytes + REST).open_temporary();
        let store = py.detach(create).map_err(to_py)?;
        Ok(Arena { store, handed_over: OnceLock::new() })
    }

    /// A slot that another process allocated here.
    pub(crate) fn open(&self, name: &str) -> PyResult<RawBuffer> {
        let slot = self.store.slot(name).map_err(to_py)?;
        slot.raw_buffer().ok_or_else(|| {
            pyo3::exceptions::PyTypeError::new_err(format!("slot {name:?} is not a buffer"))
        })
    }
}

#[pymethods]
impl Arena {
    /// Opens the arena whose descriptor this process inherited.
    #[staticmethod]
    fn at(py: Python<'_>, fd: i32) -> PyResult<Arena> {
        let open = || OpenOptions::new().define(false).open(format!("/proc/self/fd/{fd}"));
        let store = py.detach(open).map_err(to_py)?;
        Ok(Arena { store, handed_over: OnceLock::new() })
    }

    /// A descriptor for a child process. It is not the store's own, whose locks would last as
    /// long as the child has it.
    fn fileno(&self) -> PyResult<i32> {
        if let Some(fd) = self.handed_over.get() {
            return Ok(fd.as_raw_fd());
        }
        let path = format!("/proc/self/fd/{}", self.store.as_fd().as_raw_fd());
        let fd = std::fs::File::options().read(true).write(true).open(path)?;
        Ok(self.handed_over.get_or_init(|| fd.into()).as_raw_fd())
    }
}
