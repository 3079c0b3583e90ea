//! `slotfile.Counter`: a number that many processes add to at once.

use std::sync::Arc;

use pyo3::prelude::*;
use slotfile::{Counter as Typed, Define};

use crate::convert::arguments::Addend;
use crate::convert::error::to_py;
use crate::convert::scalar::Scalar;
use crate::runtime::opened::Shared;
use crate::runtime::wait::waiting;
use crate::slots::slot::Slot;

/// A slot of one integer of 64 bits, to which many processes add without pause.
///
/// It has a part for each processor, so that no add waits for another; reading it adds up the
/// parts. Each add is counted once. An add returns nothing, takes no part in transactions, and
/// wakes nobody: where that matters, use a `Value`.
///
/// >>> store = slotfile.temporary()
/// >>> requests = store.counter("requests")
/// >>> requests.add()
/// >>> requests.add(5)
/// >>> requests.value
/// 6
/// >>> requests.swap(0)
/// 6
/// >>> requests
/// <Counter 'requests': counter = 0>
#[pyclass(frozen, extends = Slot, module = "slotfile")]
pub(crate) struct Counter {
    counter: Typed,
    shared: Arc<Shared>,
}

impl Counter {
    /// Opens the counter, or defines it.
    pub(crate) fn open<'py>(
        py: Python<'py>,
        shared: &Arc<Shared>,
        name: &str,
        initial: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Counter>> {
        let initial = initial.map(<i64 as Scalar>::from_py).transpose();
        let initial = initial.map_err(|error| shared.named(error, name))?;
        let counter = waiting(py, shared.options.lock_timeout).run(shared.store(), |store| {
            let define = Define::new();
            store.counter_with(
                name,
                match initial {
                    Some(x) => define.initial(x),
                    None => define,
                },
            )
        })?;
        let base = PyClassInitializer::from(Slot::new(counter.clone().into(), shared));
        Bound::new(py, base.add_subclass(Counter { counter, shared: Arc::clone(shared) }))
    }

    /// The number that an argument is; its errors name the slot.
    fn number(&self, argument: &Bound<'_, PyAny>) -> PyResult<i64> {
        <i64 as Scalar>::from_py(argument)
            .map_err(|error| self.shared.named(error, self.counter.name()))
    }
}

#[pymethods]
impl Counter {
    /// The number: the sum of all that was added. To set it loses no add that comes meanwhile.
    #[getter]
    fn value(&self) -> PyResult<i64> {
        self.shared.check_open()?;
        Ok(self.counter.load())
    }

    #[setter]
    fn set_value(&self, new: &Bound<'_, PyAny>) -> PyResult<()> {
        self.swap(new).map(drop)
    }

    /// Adds to the number, wrapping around on overflow. Never waits.
    #[pyo3(signature = (n=Addend::One, /), text_signature = "($self, n=1, /)")]
    fn add(&self, n: Addend<'_, '_>) -> PyResult<()> {
        self.shared.check_open()?;
        let n = match n {
            Addend::One => 1,
            Addend::Given(n) => self.number(&n)?,
        };
        self.counter.add(n).map_err(to_py)
    }

    /// Replaces the number; returns the old one. Each add that comes meanwhile is either in what
    /// this returns, or stays.
    fn swap(&self, new: &Bound<'_, PyAny>) -> PyResult<i64> {
        self.shared.check_open()?;
        let (py, new) = (new.py(), self.number(new)?);
        waiting(py, self.shared.options.lock_timeout).run(&self.counter, |c| c.swap(new))
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let content = || Ok(slf.get().value()?.into_pyobject(slf.py())?.str()?.into_any());
        slf.as_super().get().describe(slf.py(), "Counter", "counter", content)
    }
}
