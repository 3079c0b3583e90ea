//! `slotfile.Lock`: a slot's lock, for `with`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use send_wrapper::SendWrapper;
use slotfile::OwnedGuard;

use crate::blocking::patiently;
use crate::error::is_timeout;
use crate::slot::Slot;

/// A slot's lock, see `Slot.lock`. It belongs to the thread that took it.
///
/// >>> hits = slotfile.temporary().value("hits", int)
/// >>> lock = hits.lock(timeout=1.0)
/// >>> lock.acquire()
/// True
/// >>> lock.release()
#[pyclass(frozen, module = "slotfile")]
pub(crate) struct Lock {
    slot: Py<Slot>,
    timeout: Option<Duration>,
    held: OfThread<OwnedGuard>,
}

impl Lock {
    pub(crate) fn new(slot: Py<Slot>, timeout: Option<Duration>) -> Lock {
        Lock { slot, timeout, held: OfThread::none() }
    }

    fn take(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<()> {
        let slot = self.slot.get();
        slot.shared.check_open()?;
        let guard = patiently(py, timeout)
            .run(&slot.slot, |slot| slot.lock_owned().map(SendWrapper::new))?;
        self.held.set(guard)
    }

    fn let_go(&self) -> PyResult<()> {
        self.held.take("lock").map(drop)
    }
}

#[pymethods]
impl Lock {
    /// Takes the lock: True; False if it was not to be had in time. As
    /// `threading.Lock.acquire`: a `timeout` of -1 is that which the lock was made with.
    #[pyo3(signature = (blocking=true, timeout=-1.0), text_signature = "($self, blocking=True, timeout=-1.0)")]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        let timeout = match (blocking, timeout) {
            (false, _) => Some(Duration::ZERO),
            (true, -1.0) => self.timeout,
            (true, seconds) => crate::blocking::seconds(Some(seconds))?,
        };
        match self.take(py, timeout) {
            Ok(()) => Ok(true),
            Err(error) if is_timeout(py, &error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets go of it. RuntimeError unless this thread has taken it.
    fn release(&self) -> PyResult<()> {
        self.let_go()
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        slf.get().take(slf.py(), slf.get().timeout)?;
        Ok(slf.clone())
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.let_go()
    }
}

/// What belongs to the thread that made it, in an object that may come to any.
pub(crate) struct OfThread<T>(Mutex<Option<SendWrapper<T>>>);

impl<T> OfThread<T> {
    pub(crate) fn none() -> OfThread<T> {
        OfThread(Mutex::new(None))
    }

    pub(crate) fn set(&self, new: SendWrapper<T>) -> PyResult<()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            // Two threads use the same object; the other one's stays.
            return Err(PyRuntimeError::new_err("another thread has entered this very object"));
        }
        *held = Some(new);
        Ok(())
    }

    /// RuntimeError unless this thread has set it.
    pub(crate) fn take(&self, what: &str) -> PyResult<T> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.take() {
            Some(mine) if mine.valid() => Ok(mine.take()),
            Some(others) => {
                *held = Some(others);
                let text = format!("this {what} belongs to the thread that took it");
                Err(PyRuntimeError::new_err(text))
            }
            None => Err(PyRuntimeError::new_err(format!("this {what} is not held"))),
        }
    }
}

impl<T> Drop for OfThread<T> {
    fn drop(&mut self) {
        let held = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(others) = held
            && !others.valid()
        {
            // Not ours to let go: it ends with its thread.
            std::mem::forget(others);
        }
    }
}
