//! Waiting for locks with the interpreter lock released, and Ctrl-C seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use slotfile::{Array, Buffer, Element, Error, Slot, Store, Value};

use crate::convert::error::to_py;
use crate::runtime::thread_bound::Owned;

/// How long to wait until signals are looked at.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// What waits for locks only as long as it is told to.
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

/// The handle stays what it was: a slot of its own is made for each wait.
impl Patient for Arc<Slot> {
    fn patient(&self, timeout: Duration) -> Self {
        Arc::new(Slot::clone(self).with_lock_timeout(Some(timeout)))
    }
}

/// For calls that may have to wait for a lock, this long at most.
pub(crate) fn patiently(py: Python<'_>, timeout: Option<Duration>) -> Waiting<'_> {
    Waiting { py, timeout }
}

pub(crate) struct Waiting<'py> {
    py: Python<'py>,
    timeout: Option<Duration>,
}

impl Waiting<'_> {
    /// Tries it once with the interpreter lock held, by a handle that does not wait. Where
    /// the lock is not free, waits for it without: its holder may be another thread of this
    /// very interpreter.
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

    /// The same for what belongs to this thread.
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

    /// The same for what always takes long.
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

/// Waits by `wait`, which is given how long at most, until it has something.
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

/// A time-out in seconds, as Python's; `None`: for ever.
pub(crate) fn seconds(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    use pyo3::exceptions::PyValueError;
    let Some(seconds) = timeout else { return Ok(None) };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a time-out is a number of seconds, or None"));
    }
    // One that is too long to be told is for ever; a negative one is over.
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok())
}
