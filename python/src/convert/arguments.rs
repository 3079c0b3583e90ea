//! Arguments of methods, where pyo3 would take None for "left out", refuse an integer as a bool, or
//! not tell the range.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

use crate::convert::error::invalid;

/// The argument of `acquire`: a bool, or any integer, as the standard library takes it.
pub(crate) struct Flag(pub(crate) bool);

impl<'py> FromPyObject<'_, 'py> for Flag {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Flag> {
        object.extract::<bool>().or_else(|_| Ok(object.extract::<i64>()? != 0)).map(Flag)
    }
}

/// The argument of `add`: 1 if it was left out. None is not left out.
pub(crate) enum Addend<'a, 'py> {
    One,
    Given(Borrowed<'a, 'py, PyAny>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Addend<'a, 'py> {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Addend<'a, 'py>> {
        Ok(Addend::Given(object))
    }
}

/// An argument that is an integer, whose range the library checks.
pub(crate) enum Integer<'a, 'py> {
    LeftOut(u64),
    Given(Borrowed<'a, 'py, PyAny>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Integer<'a, 'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Integer<'a, 'py>> {
        Ok(Integer::Given(object))
    }
}

impl Integer<'_, '_> {
    /// Invalid, with the range, if the library could not even be given it; TypeError if it is not an
    /// integer.
    pub(crate) fn of(&self, name: &str, range: &str) -> PyResult<u64> {
        let object = match self {
            Integer::LeftOut(given) => return Ok(*given),
            Integer::Given(object) => object,
        };
        let given = object.extract();
        given.map_err(|error: PyErr| match error.is_instance_of::<PyOverflowError>(object.py()) {
            true => invalid(format!("{name}={}: it must be an integer from {range}", **object)),
            false => error,
        })
    }
}
