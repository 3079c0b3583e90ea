//! Waits with the interpreter lock released, and handles signals (Ctrl-C) meanwhile.
//!
//! A wait is cut into slices of [`SLICE`]: the library waits for one, then signals are handled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use slotfile::{Array, Buffer, Element, Error, Slot, Store, Value};

use crate::convert::error::to_py;
use crate::runtime::thread_bound::Owned;

/// How long to wait between checks for signals.
const SLICE: Duration = Duration::from_millis(50);

/// A wait of at most `timeout` (`None`: forever), cut into slices.
pub(crate) struct Slices {
    begun: Instant,
    timeout: Option<Duration>,
}

/// A part of a wait.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) length: Duration,
    /// Whether the wait ends with it.
    pub(crate) is_last: bool,
}

impl Slices {
    pub(crate) fn new(timeout: Option<Duration>) -> Slices {
        Slices { begun: Instant::now(), timeout }
    }

    /// The slice that begins now.
    pub(crate) fn next(&self) -> Slice {
        match self.timeout.map(|timeout| timeout.saturating_sub(self.elapsed())) {
            Some(left) if left <= SLICE => Slice { length: left, is_last: true },
            _ => Slice { length: SLICE, is_last: false },
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// A handle whose lock timeout can be set.
pub(crate) trait LockTimeout: Clone + Send + Sync {
    /// A copy of the handle with this lock timeout.
    fn with_timeout(&self, timeout: Duration) -> Self;
}

macro_rules! lock_timeout {
    ($([$($generics:tt)*] $handle:ty;)*) => {$(
        impl<$($generics)*> LockTimeout for $handle {
            fn with_timeout(&self, timeout: Duration) -> Self {
                self.clone().with_lock_timeout(Some(timeout))
            }
        }
    )*};
}

lock_timeout! {
    [] Store;
    [T: Element] Value<T>;
    [T: Element] Array<T>;
    [T: Element] Buffer<T>;
    [] slotfile::Counter;
    [] slotfile::Text;
    [] slotfile::Bytes;
}

impl LockTimeout for Arc<Slot> {
    fn with_timeout(&self, timeout: Duration) -> Self {
        Arc::new(Slot::clone(self).with_lock_timeout(Some(timeout)))
    }
}

/// Runs calls that may have to wait for a lock, for at most `timeout` (`None`: forever).
pub(crate) fn waiting(py: Python<'_>, timeout: Option<Duration>) -> Waiting<'_> {
    Waiting { py, timeout }
}

pub(crate) struct Waiting<'py> {
    py: Python<'py>,
    timeout: Option<Duration>,
}

impl Waiting<'_> {
    /// Tries once with the interpreter lock held, with a handle that does not wait. If the
    /// slot's lock is not free, waits with the interpreter lock released, since the holder may
    /// be another thread of this interpreter.
    #[inline]
    pub(crate) fn run<H: LockTimeout, R: Send>(
        &self,
        handle: &H,
        call: impl Fn(&H) -> slotfile::Result<R> + Sync,
    ) -> PyResult<R> {
        match call(handle) {
            Ok(done) => Ok(done),
            Err(Error::LockTimeout { .. }) => self.detached(handle, call),
            Err(error) => Err(to_py(error)),
        }
    }

    /// The same for a result that belongs to this thread.
    #[inline]
    pub(crate) fn run_here<H: LockTimeout, R>(
        &self,
        handle: &H,
        call: impl Fn(&H) -> slotfile::Result<R> + Sync,
    ) -> PyResult<R> {
        match call(handle) {
            Ok(done) => Ok(done),
            Err(Error::LockTimeout { .. }) => {
                let done = self.detached(handle, |handle| call(handle).map(Owned::new))?;
                Ok(done.take().unwrap_or_else(|_| unreachable!("made by this thread")))
            }
            Err(error) => Err(to_py(error)),
        }
    }

    /// The same for a call that always takes long: releases the interpreter lock at once.
    #[cold]
    pub(crate) fn detached<H: LockTimeout, R: Send>(
        &self,
        handle: &H,
        call: impl Fn(&H) -> slotfile::Result<R> + Sync,
    ) -> PyResult<R> {
        let slices = Slices::new(self.timeout);
        loop {
            let slice = slices.next();
            let handle = handle.with_timeout(slice.length);
            let mut error = match self.py.detach(|| call(&handle)) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            match &mut error {
                Error::LockTimeout { waited, .. } | Error::KeepsChanging { waited, .. } => {
                    *waited = slices.elapsed();
                }
                _ => return Err(to_py(error)),
            }
            self.py.check_signals()?;
            if slice.is_last {
                return Err(to_py(error));
            }
        }
    }
}

/// Calls `wait` with how long it may wait, again and again until it returns something or the
/// time is over.
pub(crate) fn in_slices<R>(
    py: Python<'_>,
    timeout: Option<Duration>,
    mut wait: impl FnMut(Duration) -> PyResult<Option<R>>,
) -> PyResult<Option<R>> {
    let slices = Slices::new(timeout);
    loop {
        let slice = slices.next();
        if let Some(result) = wait(slice.length)? {
            return Ok(Some(result));
        }
        py.check_signals()?;
        if slice.is_last {
            return Ok(None);
        }
    }
}

/// A Python timeout in seconds; `None`: forever.
pub(crate) fn seconds(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    use pyo3::exceptions::PyValueError;
    let Some(seconds) = timeout else { return Ok(None) };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a time-out is a number of seconds, or None"));
    }
    // Too long for a `Duration` is forever; a negative one has already passed.
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok())
}
