//! `slotfile.Value`: one number.

use std::sync::Arc;

use numpy::PyArrayDescr;
use pyo3::prelude::*;
use slotfile::{Define, ScalarType, Value as Typed};

use crate::convert::arguments::Addend;
use crate::convert::scalar::{Operation, Scalar, any_of, any_scalar, on_any, sum_overflows};
use crate::runtime::opened::Shared;
use crate::runtime::wait::waiting;
use crate::slots::slot::Slot;

any_scalar!(AnyValue(Typed));

/// A slot of one number, shared by all processes that open it.
///
/// Reads never wait. Updates are atomic among all processes; they wait only while another
/// thread or process holds the slot's `lock()`.
///
/// >>> store = slotfile.temporary()
/// >>> hits = store.value("hits", "uint64")
/// >>> hits.add(5)
/// 5
/// >>> hits.value
/// 5
/// >>> hits.compare_exchange(5, 6), hits.compare_exchange(5, 7)
/// (True, False)
/// >>> hits
/// <Value 'hits': uint64 = 6>
#[pyclass(frozen, extends = Slot, module = "slotfile")]
pub(crate) struct Value {
    any: AnyValue,
    shared: Arc<Shared>,
}

/// Runs an expression on the typed handle; its errors name the slot.
macro_rules! on {
    ($self:ident, $value:pat => $result:expr) => {{
        $self.shared.check_open()?;
        let result: PyResult<_> = on_any!(AnyValue, &$self.any, $value => $result);
        result.map_err(|error| $self.named(error))
    }};
}

impl Value {
    /// The error, with the names of file and slot.
    #[cold]
    fn named(&self, error: PyErr) -> PyErr {
        let name = on_any!(AnyValue, &self.any, value => value.name());
        self.shared.named(error, name)
    }

    /// Opens the value, or defines it.
    pub(crate) fn open<'py>(
        py: Python<'py>,
        shared: &Arc<Shared>,
        name: &str,
        scalar_type: ScalarType,
        initial: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Value>> {
        let any = any_of!(AnyValue, scalar_type, T => {
            let initial = initial.map(<T as Scalar>::from_py).transpose();
            let initial = initial.map_err(|error| shared.named(error, name))?;
            waiting(py, shared.options.lock_timeout).run(shared.store(), |store| {
                let define = Define::new();
                store.value_with(name, match initial {
                    Some(x) => define.initial(x),
                    None => define,
                })
            })?
        });
        let slot = on_any!(AnyValue, &any, value => value.clone().into());
        let base = PyClassInitializer::from(Slot::new(slot, shared));
        Bound::new(py, base.add_subclass(Value { any, shared: Arc::clone(shared) }))
    }

    fn update<T: Scalar, R: Send>(
        &self,
        py: Python<'_>,
        value: &Typed<T>,
        call: impl Fn(&Typed<T>) -> slotfile::Result<R> + Sync,
    ) -> PyResult<R> {
        waiting(py, self.shared.options.lock_timeout).run(value, call)
    }

    fn fetch<'py>(
        &self,
        operation: Operation,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        fn typed<'py, T: Scalar>(
            this: &Value,
            value: &Typed<T>,
            operation: Operation,
            n: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let py = n.py();
            operation.check::<T>(py)?;
            let n = T::from_py(n)?;
            let (Ok(old) | Err(old)) =
                this.update(py, value, |v| v.try_update(|x| x.apply(operation, n)))?;
            Ok(old.to_py(py))
        }
        on!(self, value => typed(self, value, operation, n))
    }
}

#[pymethods]
impl Value {
    /// The number. Reading it never waits. `x.value += 1` is two steps: use `add` for one step,
    /// or `with x.lock():` to make several steps one.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        on!(self, value => Ok(value.load().to_py(py)))
    }

    #[setter]
    fn set_value(&self, new: &Bound<'_, PyAny>) -> PyResult<()> {
        fn typed<T: Scalar>(
            this: &Value,
            value: &Typed<T>,
            new: &Bound<'_, PyAny>,
        ) -> PyResult<()> {
            let x = T::from_py(new)?;
            this.update(new.py(), value, |v| v.store(x))
        }
        on!(self, value => typed(self, value, new))
    }

    /// Adds to the number atomically; returns the new value. Raises OverflowError, and changes
    /// nothing, if the type cannot hold the sum.
    #[pyo3(signature = (n=Addend::One, /), text_signature = "($self, n=1, /)")]
    fn add<'py>(&self, py: Python<'py>, n: Addend<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        fn typed<'py, T: Scalar>(
            this: &Value,
            py: Python<'py>,
            value: &Typed<T>,
            n: Addend<'_, 'py>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let n = T::addend(n)?;
            match this.update(py, value, |v| v.try_update(|x| x.plus(n)))? {
                Ok(old) => Ok(old.plus(n).unwrap_or(old).to_py(py)),
                Err(there) => Err(sum_overflows(there)),
            }
        }
        on!(self, value => typed(self, py, value, n))
    }

    /// Adds, wrapping around on overflow; returns the old value.
    fn fetch_add<'py>(&self, n: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Add, n)
    }

    /// Subtracts, wrapping around on overflow; returns the old value.
    fn fetch_sub<'py>(&self, n: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Sub, n)
    }

    /// Replaces the number by `n` if that is less; returns the old value.
    fn fetch_min<'py>(&self, n: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Min, n)
    }

    /// Replaces the number by `n` if that is greater; returns the old value.
    fn fetch_max<'py>(&self, n: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Max, n)
    }

    /// Bitwise "and"; returns the old value.
    fn fetch_and<'py>(&self, n: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::And, n)
    }

    /// Bitwise "or"; returns the old value.
    fn fetch_or<'py>(&self, n: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Or, n)
    }

    /// Bitwise "exclusive or"; returns the old value.
    fn fetch_xor<'py>(&self, n: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Xor, n)
    }

    /// Replaces the number; returns the old value.
    fn swap<'py>(&self, new: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        fn typed<'py, T: Scalar>(
            this: &Value,
            value: &Typed<T>,
            new: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let x = T::from_py(new)?;
            Ok(this.update(new.py(), value, |v| v.swap(x))?.to_py(new.py()))
        }
        on!(self, value => typed(self, value, new))
    }

    /// Replaces the number by `new` if it is `expected`; returns whether it was replaced.
    /// (Compares bits: nan is equal to itself, and 0.0 is not -0.0.)
    fn compare_exchange(
        &self,
        expected: &Bound<'_, PyAny>,
        new: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        fn typed<T: Scalar>(
            this: &Value,
            value: &Typed<T>,
            expected: &Bound<'_, PyAny>,
            new: &Bound<'_, PyAny>,
        ) -> PyResult<bool> {
            let (expected, x) = (T::from_py(expected)?, T::from_py(new)?);
            Ok(this.update(new.py(), value, |v| v.compare_exchange(expected, x))?.is_ok())
        }
        on!(self, value => typed(self, value, expected, new))
    }

    /// The number, and its version.
    fn load_versioned<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, u64)> {
        on!(self, value => {
            let (x, version) = value.load_versioned();
            Ok((x.to_py(py), version))
        })
    }

    /// The numpy dtype of the number.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> Bound<'py, PyArrayDescr> {
        fn typed<'py, T: Scalar>(py: Python<'py>, _: &Typed<T>) -> Bound<'py, PyArrayDescr> {
            T::dtype(py)
        }
        on_any!(AnyValue, &self.any, value => typed(py, value))
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let what = this.dtype(slf.py()).to_string();
        slf.as_super()
            .get()
            .describe(slf.py(), "Value", &what, || Ok(this.value(slf.py())?.str()?.into_any()))
    }
}
