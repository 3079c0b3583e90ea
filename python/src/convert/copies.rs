//! Copies that are MemoryError where there is no memory for them: between Rust and Python, and in
//! Rust.

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use slotfile::{Data, Elements, Error, ScalarType, Store};

/// There is not enough memory for this many bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoMemory {
    need: usize,
}

impl NoMemory {
    /// The library's error of this slot.
    pub(crate) fn of(self, store: &Store, slot: &str) -> Error {
        let (path, slot) = (store.path().to_owned(), slot.to_owned());
        Error::OutOfMemory { path, slot, need: self.need }
    }
}

impl From<NoMemory> for PyErr {
    fn from(none: NoMemory) -> PyErr {
        PyMemoryError::new_err(format!("there is no memory for {} bytes", none.need))
    }
}

pub(crate) fn vec_of<T: Copy>(elements: &[T]) -> Result<Vec<T>, NoMemory> {
    let mut copy = Vec::new();
    let need = size_of_val(elements);
    copy.try_reserve_exact(elements.len()).map_err(|_| NoMemory { need })?;
    copy.extend_from_slice(elements);
    Ok(copy)
}

pub(crate) fn string_of(text: &str) -> Result<String, NoMemory> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| NoMemory { need: text.len() })?;
    copy.push_str(text);
    Ok(copy)
}

pub(crate) fn bytes_data(bytes: &[u8]) -> Result<Data, NoMemory> {
    Ok(Data::Bytes(vec_of(bytes)?))
}

/// Elements of this type with these bytes, which are whole.
pub(crate) fn elements_of(of: ScalarType, bytes: &[u8]) -> Result<Elements, NoMemory> {
    Ok(Elements::from_bytes(of, vec_of(bytes)?).expect("the bytes of whole elements"))
}

pub(crate) fn py_string<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    PyString::from_bytes(py, text.as_bytes())
}

pub(crate) fn py_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.len(), |copy| {
        copy.copy_from_slice(bytes);
        Ok(())
    })
}
