//! `RLock`: the lock of a shared object, like `multiprocessing.RLock`.

use std::time::Duration;

use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use slotfile::{Error, RawBuffer};

use crate::convert::arguments::Flag;
use crate::convert::error::to_py;
use crate::multiprocessing::shared_block::Block;
use crate::runtime::wait::{in_slices, seconds};

/// The lock of a shared object: like `multiprocessing.RLock`, but free as soon as the holding
/// process or thread has ended.
///
/// >>> from slotfile.multiprocessing import Value
/// >>> lock = Value("i", 0).get_lock()
/// >>> lock.acquire(), lock.acquire(timeout=1.0)  # again: it is recursive
/// (True, True)
/// >>> lock.release(); lock.release()
#[pyclass(frozen, weakref, module = "slotfile.multiprocessing.synchronize")]
pub(crate) struct RLock {
    block: Py<Block>,
    pub(crate) raw: RawBuffer,
}

impl RLock {
    /// The lock of a piece of memory, which it keeps alive.
    pub(crate) fn of(block: &Bound<'_, Block>) -> RLock {
        RLock { raw: block.get().raw().clone(), block: block.clone().unbind() }
    }

    /// Whether it was acquired in time; `None` waits forever.
    #[inline]
    pub(crate) fn take(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool> {
        match self.raw.try_acquire() {
            Ok(true) => Ok(true),
            Ok(false) => self.wait(py, timeout),
            Err(error) => Err(to_py(error)),
        }
    }

    /// Waits for it with the interpreter lock released, and handles signals.
    #[cold]
    fn wait(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool> {
        let acquired =
            in_slices(py, timeout, |slice| match py.detach(|| self.raw.acquire(Some(slice))) {
                Ok(()) => Ok(Some(())),
                Err(Error::LockTimeout { .. }) => Ok(None),
                Err(error) => Err(to_py(error)),
            })?;
        Ok(acquired.is_some())
    }

    #[inline]
    pub(crate) fn let_go(&self) -> PyResult<()> {
        if self.raw.release() {
            return Ok(());
        }
        let text = "attempt to release recursive lock not owned by thread";
        Err(PyAssertionError::new_err(text))
    }
}

#[pymethods]
impl RLock {
    /// Takes the lock. Returns True, or False if it is not free at once (`block=False`) or
    /// within `timeout` seconds (None: forever). The holding thread can take it again.
    #[pyo3(signature = (block=Flag(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(&self, py: Python<'_>, block: Flag, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = if block.0 { seconds(timeout)? } else { Some(Duration::ZERO) };
        self.take(py, timeout)
    }

    /// Releases it once. AssertionError unless this thread holds it.
    fn release(&self) -> PyResult<()> {
        self.let_go()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.take(py, None)
    }

    #[pyo3(signature = (_type=None, _value=None, _traceback=None, /))]
    fn __exit__(
        &self,
        _type: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.let_go()
    }

    /// Used by `multiprocessing.Condition`, which asks its lock's semaphore.
    #[getter]
    fn _semlock<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    fn _is_mine(&self) -> bool {
        self.raw.depth() > 0
    }

    fn _count(&self) -> usize {
        self.raw.depth()
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, Block>,))> {
        let py = slf.py();
        let rebuild =
            py.import("slotfile.multiprocessing.sharedctypes")?.getattr("_rebuild_lock")?;
        Ok((rebuild, (slf.get().block.bind(py).clone(),)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let process = || {
            let module = py.import("multiprocessing")?;
            module.call_method0("current_process")
        };
        let (owner, count) = match self.raw.depth() {
            0 if self.raw.is_locked() => ("SomeOtherProcess".to_owned(), "nonzero".to_owned()),
            0 => ("None".to_owned(), "0".to_owned()),
            depth => (process()?.getattr("name")?.to_string(), depth.to_string()),
        };
        Ok(format!("<RLock({owner}, {count})>"))
    }
}
