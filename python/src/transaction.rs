//! `slotfile.Transaction`: several slots updated at once, or not at all.

use std::sync::Arc;

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::convert::data;
use crate::convert::error::to_py;
use crate::runtime::opened::Shared;
use crate::runtime::thread_bound::ThreadBound;
use crate::runtime::wait::waiting;
use crate::slots::slot::Slot;

/// An atomic update of several slots, see `Store.transaction`.
#[pyclass(frozen, module = "slotfile")]
pub(crate) struct Transaction {
    shared: Arc<Shared>,
    slots: Vec<Py<Slot>>,
    begun: ThreadBound<slotfile::Transaction>,
}

impl Transaction {
    pub(crate) fn new(shared: &Arc<Shared>, slots: Vec<Py<Slot>>) -> Transaction {
        Transaction { shared: Arc::clone(shared), slots, begun: ThreadBound::none() }
    }

    /// KeyError unless the slot was named when the transaction began.
    fn check_named(&self, slot: &Slot) -> PyResult<()> {
        if self.slots.iter().any(|named| named.get().slot.name() == slot.slot.name()) {
            return Ok(());
        }
        Err(PyKeyError::new_err(format!(
            "slot {:?} is not part of this transaction: name it when you begin it",
            slot.slot.name()
        )))
    }
}

#[pymethods]
impl Transaction {
    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let (this, py) = (slf.get(), slf.py());
        this.shared.check_open()?;
        let slots: Vec<_> =
            this.slots.iter().map(|slot| slotfile::Slot::clone(&slot.get().slot)).collect();
        let begun = waiting(py, this.shared.options.lock_timeout)
            .run_here(this.shared.store(), |store| store.begin_transaction(&slots))?;
        this.begun.set(begun)?;
        Ok(slf.clone())
    }

    fn __exit__(
        &self,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let begun = self.begun.take("transaction")?;
        match exception.is_none() {
            true => begun.commit().map_err(to_py),
            false => Ok(()),
        }
    }

    /// The content as this transaction sees it, including what it has stored itself.
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        slot: &Bound<'py, Slot>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let slot = slot.get();
        self.check_named(slot)?;
        let content = self.begun.with("transaction", |tx| tx.load(&*slot.slot).map_err(to_py))?;
        data::to_py(py, &content, slot.slot.slot_type())
    }

    /// Stores it at the end of the transaction.
    fn __setitem__(&self, slot: &Bound<'_, Slot>, new: &Bound<'_, PyAny>) -> PyResult<()> {
        let slot = slot.get();
        self.check_named(slot)?;
        let new = data::from_py(new, slot.slot.slot_type());
        let new = new.map_err(|error| self.shared.named(error, slot.slot.name()))?;
        self.begun.with("transaction", |tx| tx.store(&*slot.slot, new).map_err(to_py))
    }
}

/// The contents of these slots at one instant.
pub(crate) fn snapshot<'py>(
    py: Python<'py>,
    shared: &Shared,
    slots: &[Py<Slot>],
) -> PyResult<Bound<'py, PyTuple>> {
    let slots: Vec<_> = slots.iter().map(|slot| slotfile::Slot::clone(&slot.get().slot)).collect();
    let contents = py.detach(|| shared.store().snapshot_of(&slots)).map_err(to_py)?;
    let contents: Vec<_> = contents
        .iter()
        .zip(&slots)
        .map(|((content, _), slot)| data::to_py(py, content, slot.slot_type()))
        .collect::<PyResult<_>>()?;
    PyTuple::new(py, contents)
}
