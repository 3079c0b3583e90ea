//! Numpy arrays that this module makes, and their elements.

use numpy::{PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use slotfile::ScalarType;

use crate::convert::scalar::Scalar;

/// A new numpy array of this shape, filled by `fill`.
pub(crate) fn fresh<'py, T: Scalar>(
    py: Python<'py>,
    shape: &[usize],
    fill: impl FnOnce(&mut [T]),
) -> Bound<'py, PyArrayDyn<T>> {
    let len = shape.iter().product::<usize>();
    // SAFETY: it is C-contiguous, and nothing else refers to it yet. numpy allocated its
    // memory, which holds arbitrary bytes: any bytes are a number, and those of bools are
    // zeroed before they are read.
    unsafe {
        let array = PyArrayDyn::<T>::new(py, shape, false);
        if T::TYPE == ScalarType::Bool {
            array.data().write_bytes(0, len);
        }
        fill(std::slice::from_raw_parts_mut(array.data(), len));
        array
    }
}

/// The elements of an array made by [`fresh`], to which Python code may now refer.
pub(crate) fn elements<'a, T: Scalar>(array: &'a Bound<'_, PyArrayDyn<T>>) -> PyResult<&'a [T]> {
    // That code may have set its `dtype` or `strides`.
    if !array.dtype().is_equiv_to(&T::dtype(array.py())) || !array.is_c_contiguous() {
        return Err(PyValueError::new_err("the array's layout was changed meanwhile"));
    }
    // SAFETY: it is contiguous and of this type, so it has this many bytes. Those of bools may
    // be arbitrary, written through another view: they are made bools before they are read as
    // such. Another thread could change it meanwhile only without the interpreter lock, as
    // numpy may: then it is torn, as for numpy.
    unsafe {
        if T::TYPE == ScalarType::Bool {
            let bytes = std::slice::from_raw_parts_mut(array.data().cast::<u8>(), array.len());
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
        Ok(std::slice::from_raw_parts(array.data(), array.len()))
    }
}

/// Elements of this shape with this content, converted and broadcast as numpy does.
pub(crate) fn filled_with<T: Scalar>(
    py: Python<'_>,
    shape: &[usize],
    content: &Bound<'_, PyAny>,
) -> PyResult<Vec<T>> {
    let array = PyArrayDyn::<T>::zeros(py, shape, false);
    array.set_item(py.Ellipsis(), content)?;
    Ok(elements(&array)?.to_vec())
}
