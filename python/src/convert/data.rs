//! The content of a slot whose type is known only at run time, between Rust and Python.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use slotfile::{Data, SlotType};

use crate::convert::copies::{bytes_data, py_bytes, py_string, string_of};
use crate::convert::ndarray::{array_of, filled_with};
use crate::convert::scalar::{Scalar, each_type};

/// The content of a slot of this type as a Python object.
pub(crate) fn to_py<'py>(
    py: Python<'py>,
    data: &Data,
    slot_type: &SlotType,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match (data, slot_type) {
        (Data::Scalar(scalar), _) => {
            each_type!(scalar.scalar_type(), T => scalar.get::<T>().unwrap_or_default().to_py(py))
        }
        (Data::Array(elements), SlotType::Array(of, shape) | SlotType::Buffer(of, shape)) => {
            each_type!(of, T => array_of::<T>(py, shape.dims(), elements)?.into_any())
        }
        (Data::Text(text), _) => py_string(py, text)?.into_any(),
        (Data::Bytes(bytes), _) => py_bytes(py, bytes)?.into_any(),
        _ => return Err(no_content(slot_type)),
    })
}

/// A Python object as the content of a slot of this type.
pub(crate) fn from_py(object: &Bound<'_, PyAny>, slot_type: &SlotType) -> PyResult<Data> {
    Ok(match slot_type {
        SlotType::Value(of) => each_type!(of, T => Data::from(<T as Scalar>::from_py(object)?)),
        SlotType::Array(of, shape) => {
            Data::Array(each_type!(of, T => filled_with::<T>(shape.dims(), object)?))
        }
        SlotType::Text(_) => Data::Text(string_of(object.cast::<PyString>()?.to_str()?)?),
        SlotType::Bytes(_) => match object.cast::<PyBytes>() {
            Ok(bytes) => bytes_data(bytes.as_bytes())?,
            Err(_) => Data::Bytes(object.extract()?),
        },
        other => return Err(no_content(other)),
    })
}

fn no_content(slot_type: &SlotType) -> PyErr {
    PyTypeError::new_err(format!("a {slot_type} cannot take part in transactions and snapshots"))
}
