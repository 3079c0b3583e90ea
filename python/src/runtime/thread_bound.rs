//! A value that belongs to one thread, in an object that any thread may reach.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

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
            number.set(NEXT.fetch_add(1, Relaxed));
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
pub(crate) struct ThreadBound<T> {
    /// The thread that has set the value; [`NONE`]: there is none; [`IN_USE`]: that thread uses it.
    thread: AtomicU64,
    value: UnsafeCell<MaybeUninit<T>>,
}

const NONE: u64 = 0;
const IN_USE: u64 = u64::MAX;

// SAFETY: only the thread that has set the value reaches it, and drops it.
unsafe impl<T> Send for ThreadBound<T> {}
// SAFETY: as above. Two threads cannot both set it.
unsafe impl<T> Sync for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    pub(crate) fn none() -> ThreadBound<T> {
        ThreadBound { thread: AtomicU64::new(NONE), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    #[inline]
    pub(crate) fn set(&self, new: T) -> PyResult<()> {
        // Acquire: the thread that has taken the last value has read it before.
        if self.thread.compare_exchange(NONE, this_thread(), Acquire, Relaxed).is_err() {
            // The value in use stays; `new` is dropped.
            return Err(PyRuntimeError::new_err("this object is already in use"));
        }
        // SAFETY: from now on this is the thread that has set it, and there is no value yet.
        unsafe { (*self.value.get()).write(new) };
        Ok(())
    }

    /// RuntimeError unless this thread has set it.
    #[inline]
    pub(crate) fn take(&self, what: &str) -> PyResult<T> {
        self.check_is_mine(what)?;
        // SAFETY: this thread has set it, so no other thread reaches it. It is not read again.
        let value = unsafe { (*self.value.get()).assume_init_read() };
        // Release: see `set`.
        self.thread.store(NONE, Release);
        Ok(value)
    }

    /// RuntimeError unless this thread has set it.
    pub(crate) fn with<R>(&self, what: &str, f: impl FnOnce(&mut T) -> PyResult<R>) -> PyResult<R> {
        struct InUse<'a>(&'a AtomicU64);
        impl Drop for InUse<'_> {
            fn drop(&mut self) {
                self.0.store(this_thread(), Relaxed);
            }
        }
        self.check_is_mine(what)?;
        // Relaxed, also above: only this thread stores there while there is a value.
        self.thread.store(IN_USE, Relaxed);
        let _in_use = InUse(&self.thread);
        // SAFETY: this thread has set it, and `f` cannot get it a second time: it is in use.
        f(unsafe { (*self.value.get()).assume_init_mut() })
    }

    #[inline]
    fn check_is_mine(&self, what: &str) -> PyResult<()> {
        // Relaxed: if it is this thread's number, this thread has stored it.
        let thread = self.thread.load(Relaxed);
        if thread == this_thread() { Ok(()) } else { Err(is_not(what, thread)) }
    }
}

impl<T> Drop for ThreadBound<T> {
    fn drop(&mut self) {
        // Another thread's is leaked: a lock ends with its thread.
        if *self.thread.get_mut() == this_thread() {
            // SAFETY: this thread has set it, and it is dropped once, here.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}

#[cold]
fn is_not(what: &str, thread: u64) -> PyErr {
    let why = match thread {
        NONE => "is not held",
        IN_USE => "is in use",
        _ => "belongs to the thread that took it",
    };
    PyRuntimeError::new_err(format!("this {what} {why}"))
}
