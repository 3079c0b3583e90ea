//! `slotfile.Text` and `slotfile.Bytes`: a capacity and a current length.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use slotfile::Define;

use crate::convert::copies::{bytes_data, py_bytes, py_string, string_of};
use crate::convert::error::to_py;
use crate::runtime::opened::Shared;
use crate::runtime::wait::waiting;
use crate::slots::slot::Slot;

/// A slot of text, up to a capacity in bytes of UTF-8.
///
/// >>> name = slotfile.temporary().text("robot/name", 64)
/// >>> name.value = "Karel"
/// >>> name
/// <Text 'robot/name': text[64] = 'Karel'>
#[pyclass(frozen, extends = Slot, module = "slotfile")]
pub(crate) struct Text {
    text: slotfile::Text,
    shared: Arc<Shared>,
}

/// A slot of bytes, up to a capacity.
///
/// >>> blob = slotfile.temporary().bytes("blob", 4096)
/// >>> blob.value = b"abc"
/// >>> blob
/// <Bytes 'blob': bytes[4096] = b'abc'>
#[pyclass(frozen, extends = Slot, module = "slotfile")]
pub(crate) struct Bytes {
    bytes: slotfile::Bytes,
    shared: Arc<Shared>,
}

impl Text {
    /// Opens the text, or defines it.
    pub(crate) fn open<'py>(
        py: Python<'py>,
        shared: &Arc<Shared>,
        name: &str,
        capacity: usize,
        initial: Option<&str>,
        areas: usize,
    ) -> PyResult<Bound<'py, Text>> {
        let text = waiting(py, shared.options.lock_timeout).run(shared.store(), |store| {
            let define = Define::new().areas(areas);
            store.text_with(
                name,
                capacity,
                match initial {
                    Some(text) => {
                        define.initial(string_of(text).map_err(|none| none.of(store, name))?)
                    }
                    None => define,
                },
            )
        })?;
        let base = PyClassInitializer::from(Slot::new(text.clone().into(), shared));
        Bound::new(py, base.add_subclass(Text { text, shared: Arc::clone(shared) }))
    }
}

impl Bytes {
    /// Opens the bytes, or defines them.
    pub(crate) fn open<'py>(
        py: Python<'py>,
        shared: &Arc<Shared>,
        name: &str,
        capacity: usize,
        initial: Option<&[u8]>,
        areas: usize,
    ) -> PyResult<Bound<'py, Bytes>> {
        let bytes = waiting(py, shared.options.lock_timeout).run(shared.store(), |store| {
            let define = Define::new().areas(areas);
            store.bytes_with(
                name,
                capacity,
                match initial {
                    Some(bytes) => {
                        define.initial(bytes_data(bytes).map_err(|none| none.of(store, name))?)
                    }
                    None => define,
                },
            )
        })?;
        let base = PyClassInitializer::from(Slot::new(bytes.clone().into(), shared));
        Bound::new(py, base.add_subclass(Bytes { bytes, shared: Arc::clone(shared) }))
    }
}

#[pymethods]
impl Text {
    /// The text, as of one instant. Setting a text longer than the capacity is an error.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(self.load_versioned(py)?.0)
    }

    #[setter]
    fn set_value(&self, new: &Bound<'_, PyAny>) -> PyResult<()> {
        self.shared.check_open()?;
        let timeout = self.shared.options.lock_timeout;
        let content = new.cast::<PyString>();
        let content =
            content.map_err(|error| self.shared.named(error.into(), self.text.name()))?.to_str()?;
        waiting(new.py(), timeout).run(&self.text, |text| text.store(content))
    }

    /// The text, and its version.
    fn load_versioned<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyString>, u64)> {
        self.shared.check_open()?;
        let (text, version) = self.text.try_load_versioned().map_err(to_py)?;
        Ok((py_string(py, &text)?, version))
    }

    /// The maximum length in bytes of UTF-8.
    #[getter]
    fn capacity(&self) -> usize {
        self.text.capacity()
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let what = format!("text[{}]", this.capacity());
        let content = || Ok(this.value(py)?.repr()?.into_any());
        slf.as_super().get().describe(py, "Text", &what, content)
    }
}

#[pymethods]
impl Bytes {
    /// The bytes, as of one instant. Setting more than the capacity is an error.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(self.load_versioned(py)?.0)
    }

    #[setter]
    fn set_value(&self, new: &Bound<'_, PyAny>) -> PyResult<()> {
        self.shared.check_open()?;
        let timeout = self.shared.options.lock_timeout;
        let content = new.cast::<PyBytes>();
        let content =
            content.map_err(|error| self.shared.named(error.into(), self.bytes.name()))?.as_bytes();
        waiting(new.py(), timeout).run(&self.bytes, |bytes| bytes.store(content))
    }

    /// The bytes, and their version.
    fn load_versioned<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, u64)> {
        self.shared.check_open()?;
        let (bytes, version) = self.bytes.try_load_versioned().map_err(to_py)?;
        Ok((py_bytes(py, &bytes)?, version))
    }

    /// The maximum length in bytes.
    #[getter]
    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let what = format!("bytes[{}]", this.capacity());
        let content = || Ok(this.value(py)?.repr()?.into_any());
        slf.as_super().get().describe(py, "Bytes", &what, content)
    }
}
