//! Numpy arrays that this module makes, and their elements.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use numpy::npyffi::{self, NpyTypes, PY_ARRAY_API, npy_intp};
use numpy::{PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use slotfile::{Elements, ScalarType};

use crate::convert::copies::{NoMemory, elements_of};
use crate::convert::scalar::Scalar;

/// A new numpy array of this shape, filled by `fill`; MemoryError if there is no memory for it.
pub(crate) fn fresh<'py, T: Scalar>(
    py: Python<'py>,
    shape: &[usize],
    fill: impl FnOnce(&mut [MaybeUninit<T>]),
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    // No dimension is larger than a slot.
    let mut dims: Vec<npy_intp> = shape.iter().map(|dim| dim.cast_signed()).collect();
    let (dims, rank) = (dims.as_mut_ptr(), dims.len() as c_int);
    let dtype = T::dtype(py).into_dtype_ptr();
    // SAFETY: numpy takes `dtype` over and reads `rank` dimensions. What it returns is C-contiguous
    // and of this type, and nothing else refers to it yet. What `fill` leaves out holds arbitrary
    // bytes, which are read only by `elements`.
    unsafe {
        let class = npyffi::get_type_object(py, NpyTypes::PyArray_Type);
        let (no_strides, no_data, no_object) = (null_mut(), null_mut(), null_mut());
        let array = PY_ARRAY_API
            .PyArray_NewFromDescr(py, class, dtype, rank, dims, no_strides, no_data, 0, no_object);
        let array = Bound::from_owned_ptr_or_err(py, array)?.cast_into_unchecked::<PyArrayDyn<T>>();
        fill(std::slice::from_raw_parts_mut(array.data().cast(), array.len()));
        Ok(array)
    }
}

/// A new numpy array of this shape with these elements, which are of this type and as many.
pub(crate) fn array_of<'py, T: Scalar>(
    py: Python<'py>,
    shape: &[usize],
    elements: &Elements,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    fresh(py, shape, |copy: &mut [MaybeUninit<T>]| {
        assert!(elements.scalar_type() == T::TYPE && elements.len() == copy.len());
        let bytes = elements.as_bytes();
        // SAFETY: it has as many bytes, any of which are a number. Those of a bool are 0 or 1.
        unsafe {
            let start = copy.as_mut_ptr().cast::<u8>();
            match T::TYPE {
                ScalarType::Bool => {
                    (0..bytes.len()).for_each(|at| start.add(at).write(u8::from(bytes[at] != 0)))
                }
                _ => start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()),
            }
        }
    })
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

/// Runs `f` on elements of this shape with this content, converted and broadcast as numpy does. `f`
/// must not release the interpreter lock: if nothing is to be converted, these are the content's
/// own.
pub(crate) fn with_elements<T: Scalar, R>(
    shape: &[usize],
    content: &Bound<'_, PyAny>,
    f: impl FnOnce(&[T]) -> R,
) -> PyResult<R> {
    if let Some(elements) = own_elements(shape, content) {
        return Ok(f(elements));
    }
    let array = fresh(content.py(), shape, |_| {})?;
    array.set_item(content.py().Ellipsis(), content)?;
    Ok(f(elements(&array)?))
}

/// The elements of a numpy array of this type and shape, if they lie in memory as in a slot.
fn own_elements<'a, T: Scalar>(shape: &[usize], content: &'a Bound<'_, PyAny>) -> Option<&'a [T]> {
    let array = content.cast::<PyArrayDyn<T>>().ok()?;
    let (start, len) = (array.data(), array.len());
    if array.shape() != shape || !array.is_c_contiguous() || !start.is_aligned() {
        return None;
    }
    // SAFETY: it has this many elements, see `elements`, and as many bytes if it is of bools. Those
    // may be arbitrary, but are read as bools only if they are.
    unsafe {
        if T::TYPE == ScalarType::Bool
            && std::slice::from_raw_parts(start.cast::<u8>(), len).iter().any(|byte| *byte > 1)
        {
            return None;
        }
        Some(std::slice::from_raw_parts(start, len))
    }
}

/// Elements of this shape with this content, as by [`with_elements`].
pub(crate) fn filled_with<T: Scalar>(
    shape: &[usize],
    content: &Bound<'_, PyAny>,
) -> PyResult<Elements> {
    Ok(with_elements(shape, content, copied::<T>)??)
}

fn copied<T: Scalar>(elements: &[T]) -> Result<Elements, NoMemory> {
    // SAFETY: these are their bytes.
    let bytes = unsafe {
        std::slice::from_raw_parts(elements.as_ptr().cast::<u8>(), size_of_val(elements))
    };
    elements_of(T::TYPE, bytes)
}
