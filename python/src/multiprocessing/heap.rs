//! Where shared objects without a name live: stores in memory, and what is free in them.
//!
//! Each process has a heap of its own, which the child of a fork begins anew: what a process
//! allocated it frees, never its children, and what it did not free is gone when it and those
//! who have it have ended. An object is a slot of a store in memory (an arena), so that it has
//! a lock that is settled when its holder dies.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use slotfile::{Data, Define, Error, OpenOptions, RawBuffer, ScalarType, SlotType};

use crate::convert::error::to_py;

/// Slots are of so many bytes times a power of two, and are used again.
const SMALLEST: usize = 64;
const CLASSES: usize = 15;
/// What is larger has an arena of its own, which goes when it is freed.
const LARGEST: usize = SMALLEST << (CLASSES - 1);
/// Slots of an arena that many objects share.
const SLOTS: u64 = 1 << 14;

/// What this process has allocated and freed.
pub(crate) struct Heap {
    arena: Mutex<Option<Py<Arena>>>,
    free: [Mutex<Vec<Piece>>; CLASSES],
    /// How many slots were ever defined: their names.
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

    /// Makes it as new, if nobody has its lock: a child may have it still.
    fn renew(&self) -> bool {
        if self.raw.acquire(Some(Duration::ZERO)).is_err() {
            return false;
        }
        self.raw.clear();
        self.raw.release()
    }
}

static HEAP: AtomicPtr<Heap> = AtomicPtr::new(std::ptr::null_mut());

/// The child of a fork has a heap of its own: another thread may have been at its parent's, and
/// what that has freed meanwhile is not free for the child.
#[pyfunction]
pub(crate) fn forked() {
    // Release: nothing is handed over; as `of_this_process` acquires it.
    HEAP.store(std::ptr::null_mut(), Release);
}

impl Heap {
    /// Never freed: objects refer to it for as long as there are any.
    pub(crate) fn of_this_process() -> &'static Heap {
        // Acquire: who finds the pointer finds the heap.
        let mut heap = HEAP.load(Acquire);
        if heap.is_null() {
            let new = Box::into_raw(Box::new(Heap {
                arena: Mutex::new(None),
                free: [const { Mutex::new(Vec::new()) }; CLASSES],
                defined: AtomicU64::new(0),
            }));
            // Release: as above. Where another thread was faster, one empty heap is lost.
            heap = match HEAP.compare_exchange(heap, new, AcqRel, Acquire) {
                Ok(_) => new,
                Err(other) => other,
            };
        }
        // SAFETY: it came from a box that nobody ever drops.
        unsafe { &*heap }
    }

    /// Memory of at least so many bytes, all zero.
    pub(crate) fn take(&self, py: Python<'_>, size: usize) -> PyResult<Piece> {
        if size > LARGEST {
            let arena = Bound::new(py, Arena::new(py, 1, size as u64)?)?;
            return self.define(py, &arena, size)?.map_err(to_py);
        }
        let size = size.next_power_of_two().max(SMALLEST);
        let free = &self.free[class(size)];
        let mut in_use = Vec::new();
        let renewed = loop {
            // The mutex is let go of at once: an interpreter may run other code in between.
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
        // The one before is dropped below, when the mutex is free again.
        let _before = lock(&self.arena).replace(arena.clone().unbind());
        self.define(py, &arena, size)?.map_err(to_py)
    }

    fn define(
        &self,
        py: Python<'_>,
        arena: &Bound<'_, Arena>,
        size: usize,
    ) -> PyResult<slotfile::Result<Piece>> {
        // Relaxed: a number is all it is.
        let name = self.defined.fetch_add(1, Relaxed).to_string();
        let store = &arena.get().store;
        let slot_type = SlotType::Buffer(ScalarType::U8, size.into());
        let defined = py.detach(|| store.define(&name, &slot_type, Define::<Data>::new()));
        Ok(defined.map(|slot| Piece {
            raw: slot.raw_buffer().expect("it was defined as a buffer"),
            arena: arena.clone().unbind(),
        }))
    }

    /// Frees it, where it was allocated by this very process.
    pub(crate) fn give_back(&self, piece: Piece) {
        // Who has dropped the object cannot let go of its lock any more.
        while piece.raw.release() {}
        let of_this_process = std::ptr::eq(self, HEAP.load(Acquire));
        if of_this_process && piece.raw.len() <= LARGEST {
            lock(&self.free[class(piece.raw.len())]).push(piece);
        }
    }
}

/// Which sizes are kept together: those of one power of two.
fn class(size: usize) -> usize {
    (size / SMALLEST).trailing_zeros() as usize
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store in memory, from which objects have their slots.
#[pyclass(frozen, weakref, module = "slotfile._native")]
pub(crate) struct Arena {
    store: slotfile::Store,
    handed_over: OnceLock<OwnedFd>,
}

impl Arena {
    fn new(py: Python<'_>, slots: u64, bytes: u64) -> PyResult<Arena> {
        /// What a store needs beside its slots, at most.
        const REST: u64 = 64 << 20;
        let create = || OpenOptions::new().max_slots(slots).max_size(bytes + REST).open_temporary();
        let store = py.detach(create).map_err(to_py)?;
        Ok(Arena { store, handed_over: OnceLock::new() })
    }

    /// What another process has allocated here.
    pub(crate) fn open(&self, name: &str) -> PyResult<RawBuffer> {
        let slot = self.store.slot(name).map_err(to_py)?;
        slot.raw_buffer().ok_or_else(|| {
            pyo3::exceptions::PyTypeError::new_err(format!("slot {name:?} is no buffer"))
        })
    }
}

#[pymethods]
impl Arena {
    /// The arena whose descriptor this process was given.
    #[staticmethod]
    fn at(py: Python<'_>, fd: i32) -> PyResult<Arena> {
        let open = || OpenOptions::new().define(false).open(format!("/proc/self/fd/{fd}"));
        let store = py.detach(open).map_err(to_py)?;
        Ok(Arena { store, handed_over: OnceLock::new() })
    }

    /// A descriptor to give to a process that is started. Not the store's own: its locks
    /// would last as long as the other process has it.
    fn fileno(&self) -> PyResult<i32> {
        if let Some(fd) = self.handed_over.get() {
            return Ok(fd.as_raw_fd());
        }
        let path = format!("/proc/self/fd/{}", self.store.as_fd().as_raw_fd());
        let fd = std::fs::File::options().read(true).write(true).open(path)?;
        Ok(self.handed_over.get_or_init(|| fd.into()).as_raw_fd())
    }
}
