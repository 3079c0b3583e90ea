//! A value that belongs to one thread, in an object that any thread may reach.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// A number for each thread of this process. (`std::thread::current` costs more.)
#[inline]
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            // Relaxed: only the number matters.
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// A value that only the thread that made it uses and drops.
pub(crate) struct Owned<T> {
    thread: u64,
    value: std::mem::ManuallyDrop<T>,
}

// SAFETY: only the thread that made the value reaches it, and drops it.
unsafe impl<T> Send for Owned<T> {}

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Owned<T> {
        Owned { thread: this_thread(), value: std::mem::ManuallyDrop::new(value) }
    }

    fn get(&mut self) -> Option<&mut T> {
        (self.thread == this_thread()).then(|| &mut *self.value)
    }

    pub(crate) fn take(mut self) -> Result<T, Owned<T>> {
        if self.thread != this_thread() {
            return Err(self);
        }
        // SAFETY: `self` is forgotten, so that it is not taken or dropped again.
        let value = unsafe { std::mem::ManuallyDrop::take(&mut self.value) };
        std::mem::forget(self);
        Ok(value)
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // Another thread's is leaked: a lock ends with its thread.
        if self.thread == this_thread() {
            // SAFETY: it is dropped once, here.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// An optional value that one thread sets, uses and takes back.
pub(crate) struct ThreadBound<T>(Mutex<Option<Owned<T>>>);

impl<T> ThreadBound<T> {
    pub(crate) fn none() -> ThreadBound<T> {
        ThreadBound(Mutex::new(None))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Owned<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, new: T) -> PyResult<()> {
        let mut held = self.lock();
        if held.is_some() {
            // The value in use stays; `new` is dropped.
            return Err(PyRuntimeError::new_err("this object is already in use"));
        }
        *held = Some(Owned::new(new));
        Ok(())
    }

    /// RuntimeError unless this thread has set it.
    pub(crate) fn take(&self, what: &str) -> PyResult<T> {
        let mut held = self.lock();
        let Some(mine) = held.take() else { return Err(is_not(what, "is not held")) };
        mine.take().map_err(|others| {
            *held = Some(others);
            is_not(what, "belongs to the thread that took it")
        })
    }

    /// RuntimeError unless this thread has set it.
    pub(crate) fn with<R>(&self, what: &str, f: impl FnOnce(&mut T) -> PyResult<R>) -> PyResult<R> {
        let mut held = self.lock();
        let Some(held) = held.as_mut() else { return Err(is_not(what, "is not held")) };
        match held.get() {
            Some(mine) => f(mine),
            None => Err(is_not(what, "belongs to the thread that took it")),
        }
    }
}

#[cold]
fn is_not(what: &str, why: &str) -> PyErr {
    PyRuntimeError::new_err(format!("this {what} {why}"))
}
