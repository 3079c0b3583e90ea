//! The content of a slot whose type is known only at run time, between Rust and Python.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use slotfile::{Data, Elements, SlotType};

use crate::convert::ndarray::{fresh, with_elements};
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
            each_type!(of, T => {
                let all = elements.to_vec::<T>().unwrap_or_default();
                fresh(py, shape.dims(), |copy| {
                    for (copy, element) in copy.iter_mut().zip(all) {
                        copy.write(element);
                    }
                })
                .into_any()
            })
        }
        (Data::Text(text), _) => PyString::new(py, text).into_any(),
        (Data::Bytes(bytes), _) => PyBytes::new(py, bytes).into_any(),
        _ => return Err(no_content(slot_type)),
    })
}

/// A Python object as the content of a slot of this type.
pub(crate) fn from_py(object: &Bound<'_, PyAny>, slot_type: &SlotType) -> PyResult<Data> {
    Ok(match slot_type {
        SlotType::Value(of) => each_type!(of, T => Data::from(<T as Scalar>::from_py(object)?)),
        SlotType::Array(of, shape) => each_type!(of, T => {
            with_elements::<T, _>(shape.dims(), object, |all| Data::Array(Elements::from(all)))?
        }),
        SlotType::Text(_) => Data::Text(object.extract()?),
        SlotType::Bytes(_) => Data::Bytes(object.extract()?),
        other => return Err(no_content(other)),
    })
}

fn no_content(slot_type: &SlotType) -> PyErr {
    PyTypeError::new_err(format!("a {slot_type} cannot take part in transactions and snapshots"))
}
