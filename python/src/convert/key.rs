//! What an index names: an element, a block of adjacent elements, or anything else that numpy
//! understands.

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PySlice, PyTuple};

/// The row-major position of the elements that a key names.
#[derive(Debug)]
pub(crate) enum Key {
    Element(usize),
    Block {
        start: usize,
        shape: Vec<usize>,
    },
    /// Left to numpy.
    Other,
}

impl Key {
    pub(crate) fn of(key: &Bound<'_, PyAny>, dims: &[usize]) -> PyResult<Key> {
        if let [len] = dims
            && key.is_exact_instance_of::<PyInt>()
        {
            return Ok(Key::Element(position(key, 0, *len)?));
        }
        if key.is(key.py().Ellipsis()) {
            return Ok(Key::Block { start: 0, shape: dims.to_vec() });
        }
        if let Ok(slice) = key.cast::<PySlice>() {
            let range = slice.indices(isize::try_from(dims[0])?)?;
            if range.step != 1 {
                return Ok(Key::Other);
            }
            let row: usize = dims[1..].iter().product();
            let mut shape = dims.to_vec();
            shape[0] = range.slicelength;
            return Ok(Key::Block { start: range.start as usize * row, shape });
        }
        if let Ok(tuple) = key.cast::<PyTuple>() {
            let mut at = 0;
            if tuple.len() > dims.len() || !tuple.iter().all(|index| is_integer(&index)) {
                return Ok(Key::Other);
            }
            for (axis, index) in tuple.iter().enumerate() {
                at = at * dims[axis] + position(&index, axis, dims[axis])?;
            }
            return Ok(Key::from(at, &dims[tuple.len()..]));
        }
        if is_integer(key) {
            return Ok(Key::from(position(key, 0, dims[0])?, &dims[1..]));
        }
        Ok(Key::Other)
    }

    /// The `at`th of adjacent blocks with these dimensions each.
    fn from(at: usize, inner: &[usize]) -> Key {
        if inner.is_empty() {
            return Key::Element(at);
        }
        Key::Block { start: at * inner.iter().product::<usize>(), shape: inner.to_vec() }
    }

    /// The position of one element; IndexError or TypeError if the key names anything else.
    pub(crate) fn element(key: &Bound<'_, PyAny>, dims: &[usize]) -> PyResult<usize> {
        match Key::of(key, dims)? {
            Key::Element(position) => Ok(position),
            _ => {
                let text =
                    format!("{} does not name one element of an array of {dims:?}", key.repr()?);
                Err(PyIndexError::new_err(text))
            }
        }
    }
}

/// Whether numpy takes it as an index: a bool is a mask.
fn is_integer(key: &Bound<'_, PyAny>) -> bool {
    key.is_instance_of::<PyInt>() && !key.is_instance_of::<PyBool>()
        // numpy's integers.
        || key.get_type().hasattr("__index__").unwrap_or(false)
            && !key.is_instance_of::<PyBool>()
            && !key.hasattr("__len__").unwrap_or(true)
}

fn position(index: &Bound<'_, PyAny>, axis: usize, len: usize) -> PyResult<usize> {
    let outside = || {
        PyIndexError::new_err(format!(
            "index {index} is out of bounds for axis {axis} with size {len}"
        ))
    };
    let at: isize = index.extract().map_err(|_| outside())?;
    let at = if at < 0 { at.checked_add_unsigned(len) } else { Some(at) };
    at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < len).ok_or_else(outside)
}
