//! `slotfile.Update`: an atomic read-modify-write of a whole array with numpy.

use numpy::PyArrayDyn;
use pyo3::prelude::*;
use slotfile::ArrayUpdate;

use crate::convert::error::to_py;
use crate::convert::ndarray::{elements, fresh};
use crate::convert::scalar::{Scalar, any_scalar, on_any};
use crate::runtime::thread_bound::ThreadBound;
use crate::runtime::wait::waiting;
use crate::slots::array::{AnyArray, Array};

any_scalar!(AnyUpdate(Begun));

/// An update in progress, and the copy that it works on.
pub(crate) struct Begun<T: Scalar> {
    update: ArrayUpdate<T>,
    copy: Py<PyArrayDyn<T>>,
}

impl<T: Scalar> Begun<T> {
    fn new(
        py: Python<'_>,
        array: &Array,
        typed: &slotfile::Array<T>,
    ) -> PyResult<(Begun<T>, Py<PyAny>)> {
        let timeout = array.shared.options.lock_timeout;
        let update = waiting(py, timeout).run_here(typed, |typed| typed.begin_update())?;
        let copy = fresh(py, typed.shape().dims(), |copy| {
            update.load_new(copy);
        })?;
        Ok((Begun { update, copy: copy.clone().unbind() }, copy.into_any().unbind()))
    }

    fn commit(self, py: Python<'_>) -> PyResult<()> {
        let copy = self.copy.bind(py);
        self.update.commit(elements(copy)?).map_err(to_py)
    }
}

impl AnyUpdate {
    pub(crate) fn begin(py: Python<'_>, array: &Array) -> PyResult<(AnyUpdate, Py<PyAny>)> {
        macro_rules! begin {
            ($($variant:ident)*) => {
                match &array.any {
                    $(AnyArray::$variant(typed) => {
                        let (begun, copy) = Begun::new(py, array, typed)?;
                        Ok((AnyUpdate::$variant(begun), copy))
                    })*
                }
            };
        }
        begin!(Bool I8 I16 I32 I64 U8 U16 U32 U64 F32 F64)
    }

    pub(crate) fn commit(self, py: Python<'_>) -> PyResult<()> {
        on_any!(AnyUpdate, self, begun => begun.commit(py))
    }
}

/// An update of an array, see `Array.update`.
#[pyclass(frozen, module = "slotfile")]
pub(crate) struct Update {
    array: Py<Array>,
    begun: ThreadBound<AnyUpdate>,
}

impl Update {
    pub(crate) fn new(array: Py<Array>) -> Update {
        Update { array, begun: ThreadBound::none() }
    }
}

#[pymethods]
impl Update {
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let array = self.array.get();
        array.shared.check_open()?;
        let (begun, copy) = AnyUpdate::begin(py, array)?;
        self.begun.set(begun)?;
        Ok(copy)
    }

    fn __exit__(
        &self,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let begun = self.begun.take("update")?;
        match exception.is_none() {
            true => begun.commit(exception.py()),
            false => Ok(()),
        }
    }
}
