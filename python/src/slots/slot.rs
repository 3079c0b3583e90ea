//! `slotfile.Slot`: the base class of all handles.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use slotfile::Awaitable;

use crate::convert::error::{invalid, to_py};
use crate::runtime::opened::Shared;
use crate::runtime::wait::{in_slices, seconds};
use crate::slots::lock::Lock;

/// A slot of any kind: the base class of `Value`, `Array`, `Buffer`, `Counter`, `Text` and
/// `Bytes`.
#[pyclass(frozen, subclass, weakref, module = "slotfile")]
pub(crate) struct Slot {
    pub(crate) slot: Arc<slotfile::Slot>,
    pub(crate) shared: Arc<Shared>,
}

impl Slot {
    pub(crate) fn new(slot: slotfile::Slot, shared: &Arc<Shared>) -> Slot {
        Slot { slot: Arc::new(slot), shared: Arc::clone(shared) }
    }

    /// A `repr` with type and content.
    pub(crate) fn describe<'py>(
        &self,
        py: Python<'py>,
        class: &str,
        what: &str,
        content: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = PyString::new(py, self.slot.name()).repr()?;
        if self.shared.closed() {
            return Ok(format!("<{class} {name}: {what}, closed>").into_pyobject(py)?.into_any());
        }
        let removed = if self.slot.is_removed() { ", removed" } else { "" };
        // Joined by Python, as there may be no memory for a large content.
        let parts = (format!("<{class} {name}: {what} = "), content()?, format!("{removed}>"));
        PyString::new(py, "").call_method1("join", (parts,))
    }
}

#[pymethods]
impl Slot {
    /// The slot's name.
    #[getter]
    fn name(&self) -> &str {
        self.slot.name()
    }

    /// The slot's type, as `slotfile ls` shows it and `slotfile define` takes it.
    ///
    /// >>> slotfile.temporary().array("image", "uint8", (480, 640)).type
    /// 'u8[480,640]'
    #[getter]
    fn r#type(&self) -> String {
        self.slot.slot_type().to_string()
    }

    /// A counter that grows with every update of the slot, modulo 2**47.
    #[getter]
    fn version(&self) -> PyResult<u64> {
        self.shared.check_open()?;
        Ok(self.slot.version())
    }

    /// Whether the slot was removed. Its last content can still be read.
    #[getter]
    fn is_removed(&self) -> PyResult<bool> {
        self.shared.check_open()?;
        Ok(self.slot.is_removed())
    }

    /// The slot's lock, for a `with` block. Meanwhile, updates by others wait, the holder's own
    /// go through, and reads never wait. If the holder is killed, the others continue.
    ///
    /// `timeout` is in seconds, None for forever. The default is the store's `lock_timeout`.
    ///
    /// To use it without `with`, keep the `Lock` object, as in `lock = hits.lock(); lock.acquire()`:
    /// the lock is released when that object is gone.
    ///
    /// >>> store = slotfile.temporary()
    /// >>> hits = store.value("hits", int)
    /// >>> with hits.lock():
    /// ...     if hits.value < 10:
    /// ...         hits.value += 1
    /// >>> hits.value
    /// 1
    #[pyo3(signature = (timeout=Timeout::OfStore))]
    fn lock(slf: &Bound<'_, Self>, timeout: Timeout) -> PyResult<Lock> {
        let this = slf.get();
        this.shared.check_open()?;
        let timeout = match timeout {
            Timeout::OfStore => this.shared.options.lock_timeout,
            Timeout::Seconds(timeout) => seconds(timeout)?,
        };
        Ok(Lock::new(slf.clone().unbind(), timeout))
    }

    /// Waits until the slot's version differs from `seen` (default: the current version).
    /// Returns the new version, or None after `timeout` seconds. Pass the version from an
    /// earlier call or from `load_versioned` as `seen`, so that no change is missed; of several
    /// changes, only the last may be seen. Other threads run meanwhile; Ctrl-C ends the wait.
    ///
    /// >>> hits = slotfile.temporary().value("hits", int)
    /// >>> _, seen = hits.load_versioned()
    /// >>> hits.add(1)
    /// 1
    /// >>> hits.wait_for_change(seen) == hits.version
    /// True
    #[pyo3(signature = (seen=None, timeout=None))]
    fn wait_for_change(
        &self,
        py: Python<'_>,
        seen: Option<u64>,
        timeout: Option<f64>,
    ) -> PyResult<Option<u64>> {
        let seen = seen.unwrap_or_else(|| self.slot.version());
        in_slices(py, seconds(timeout)?, |slice| {
            self.shared.check_open()?;
            py.detach(|| self.slot.wait_for_change(seen, Some(slice))).map_err(to_py)
        })
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.shared.check_open()?;
        let reopen = py.import("slotfile._native")?.getattr("reopen_slot")?;
        (reopen, (self.shared.options.pickled(py)?, self.slot.name())).into_pyobject(py)
    }
}

/// Waits until the version of one of these slots differs from the one it is listed with.
/// Returns the positions of all that differ; none on timeout.
#[pyfunction]
#[pyo3(signature = (slots, timeout=None))]
pub(crate) fn wait_any(
    py: Python<'_>,
    slots: Vec<(Bound<'_, Slot>, u64)>,
    timeout: Option<f64>,
) -> PyResult<Vec<usize>> {
    let Some((first, _)) = slots.first() else {
        return Err(invalid("there is no slot to wait for; give at least one".into()));
    };
    let store = first.get().shared.store();
    let awaited: Vec<(&dyn Awaitable, u64)> =
        slots.iter().map(|(slot, seen)| (&*slot.get().slot as &dyn Awaitable, *seen)).collect();
    let changed = in_slices(py, seconds(timeout)?, |slice| {
        slots.iter().try_for_each(|(slot, _)| slot.get().shared.check_open())?;
        let changed = py.detach(|| store.wait_any(&awaited, Some(slice))).map_err(to_py)?;
        Ok((!changed.is_empty()).then_some(changed))
    })?;
    Ok(changed.unwrap_or_default())
}

/// A `timeout` argument: absent, None, or seconds.
pub(crate) enum Timeout {
    OfStore,
    Seconds(Option<f64>),
}

impl<'py> FromPyObject<'_, 'py> for Timeout {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Timeout> {
        Ok(Timeout::Seconds(object.extract()?))
    }
}
