//! `slotfile.Watch`: waits for changes of all slots whose names match a pattern.

use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use pyo3::prelude::*;

use crate::convert::data;
use crate::convert::error::to_py;
use crate::runtime::opened::Shared;
use crate::runtime::wait::in_slices;

/// An iterator over the changes of all slots that match, see `Store.watch`.
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

    /// The next change, if it comes in time and no other thread waits for it. Never waits for
    /// the mutex: in the child of a fork, a mutex held by a thread of the parent stays locked.
    fn next(&self, slice: Duration) -> slotfile::Result<Option<slotfile::SlotChange>> {
        let mut watch = match self.watch.try_lock() {
            Ok(watch) => watch,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(slice.min(Duration::from_millis(1)));
                return Ok(None);
            }
        };
        watch.next(Some(slice))
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
            py.detach(|| self.next(slice)).map_err(to_py)
        })?;
        let Some(change) = change else { return Ok(None) };
        let content = data::to_py(py, &change.content, change.slot.slot_type())?;
        let class = py.import("slotfile._reports")?.getattr("SlotChange")?;
        let fields = (change.slot.name(), change.version, content, change.removed);
        class.call1(fields).map(Some)
    }
}
