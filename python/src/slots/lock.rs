//! `slotfile.Lock`: a slot's lock, for `with`.

use std::time::Duration;

use pyo3::prelude::*;
use slotfile::Guard;

use crate::convert::arguments::Flag;
use crate::convert::error::is_timeout;
use crate::runtime::thread_bound::ThreadBound;
use crate::runtime::wait::{self, waiting};
use crate::slots::slot::Slot;

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
    held: ThreadBound<Guard<'static>>,
}

impl Lock {
    pub(crate) fn new(slot: Py<Slot>, timeout: Option<Duration>) -> Lock {
        Lock { slot, timeout, held: ThreadBound::none() }
    }

    fn take(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<()> {
        let slot = self.slot.get();
        slot.shared.check_open()?;
        let guard = waiting(py, timeout).run_here(&slot.slot, |slot| slot.lock_owned())?;
        self.held.set(guard)
    }

    fn let_go(&self) -> PyResult<()> {
        self.held.take("lock").map(drop)
    }
}

#[pymethods]
impl Lock {
    /// Takes the lock. Returns True, or False on timeout, as `threading.Lock.acquire` does. A
    /// `timeout` of -1 means the one that the lock was made with.
    #[pyo3(signature = (blocking=Flag(true), timeout=-1.0), text_signature = "($self, blocking=True, timeout=-1.0)")]
    fn acquire(&self, py: Python<'_>, blocking: Flag, timeout: f64) -> PyResult<bool> {
        let timeout = match (blocking.0, timeout) {
            (false, _) => Some(Duration::ZERO),
            (true, -1.0) => self.timeout,
            (true, seconds) => wait::seconds(Some(seconds))?,
        };
        match self.take(py, timeout) {
            Ok(()) => Ok(true),
            Err(error) if is_timeout(py, &error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Releases the lock. RuntimeError unless this thread holds it.
    fn release(&self) -> PyResult<()> {
        self.let_go()
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        slf.get().take(slf.py(), slf.get().timeout)?;
        Ok(slf.clone())
    }

    fn __exit__(
        &self,
        _exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.let_go()
    }
}
