//! `slotfile.Watch`: waiting for all slots whose names match a pattern.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use crate::blocking::in_slices;
use crate::data;
use crate::error::to_py;
use crate::shared::Shared;

/// The changes of all slots that match, one after the other, see `Store.watch`.
#[pyclass(frozen, module = "slotfile")]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    watch: Mutex<slotfile::Watch>,
    timeout: Option<Duration>,
}

impl Watch {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        watch: slotfile::Watch,
        timeout: Option<Duration>,
    ) -> Watch {
        Watch { shared: Arc::clone(shared), watch: Mutex::new(watch), timeout }
    }
}

#[pymethods]
impl Watch {
    fn __iter__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let change = in_slices(py, self.timeout, |slice| {
            self.shared.check_open()?;
            let next =
                || self.watch.lock().unwrap_or_else(PoisonError::into_inner).next(Some(slice));
            py.detach(next).map_err(to_py)
        })?;
        let Some(change) = change else { return Ok(None) };
        let content = data::to_py(py, &change.content, change.slot.slot_type())?;
        let class = py.import("slotfile._reports")?.getattr("Change")?;
        class.call1((change.slot.name(), change.version, content)).map(Some)
    }
}
