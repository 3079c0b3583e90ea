//! Waits for locks with the interpreter lock released, and handles Ctrl-C meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use slotfile::{Array, Buffer, Element, Error, Slot, Store, Value};

use crate::convert::error::to_py;
use crate::runtime::thread_bound::Owned;

/// How long to wait between checks for signals.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// A handle whose lock timeout can be set.
pub(crate) trait Patient: Clone + Send + Sync {
    fn patient(&self, timeout: Duration) -> Self;
}

macro_rules! patient {
    ($([$($generics:tt)*] $handle:ty),*) => {$(
        impl<$($generics)*> Patient for $handle {
            fn patient(&self, timeout: Duration) -> Self {
                self.clone().with_lock_timeout(Some(timeout))
            }
        }
    )*};
}

patient!([] Store, [T: Element] Value<T>, [T: Element] Array<T>, [T: Element] Buffer<T>, [] slotfile::Text, [] slotfile::Bytes);

/// The handle itself is not changed: each wait makes its own copy of it.
impl Patient for Arc<Slot> {
    fn patient(&self, timeout: Duration) -> Self {
        Arc::new(Slot::clone(self).with_lock_timeout(Some(timeout)))
    }
}

/// Runs calls that may have to wait for a lock, with a timeout.
pub(crate) fn patiently(py: Python<'_>, timeout: Option<Duration>) -> Waiting<'_> {
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
    pub(crate) fn run<H: Patient, R: Send>(
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
    pub(crate) fn run_here<H: Patient, R>(
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
    pub(crate) fn detached<H: Patient, R: Send>(
        &self,
        handle: &H,
        call: impl Fn(&H) -> slotfile::Result<R> + Sync,
    ) -> PyResult<R> {
        let begun = Instant::now();
        loop {
            let left = self.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            let slice = handle.patient(left.map_or(SLICE, |left| left.min(SLICE)));
            let mut error = match self.py.detach(|| call(&slice)) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            match &mut error {
                Error::LockTimeout { waited, .. } | Error::KeepsChanging { waited, .. } => {
                    *waited = begun.elapsed();
                }
                _ => return Err(to_py(error)),
            }
            self.py.check_signals()?;
            if left.is_some_and(|left| left <= SLICE) {
                return Err(to_py(error));
            }
        }
    }
}

/// Calls `wait` with how long it may wait, again and again until it returns something.
pub(crate) fn in_slices<R>(
    py: Python<'_>,
    timeout: Option<Duration>,
    mut wait: impl FnMut(Duration) -> PyResult<Option<R>>,
) -> PyResult<Option<R>> {
    let begun = Instant::now();
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        if let Some(result) = wait(left.map_or(SLICE, |left| left.min(SLICE)))? {
            return Ok(Some(result));
        }
        py.check_signals()?;
        if left.is_some_and(|left| left <= SLICE) {
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
