//! `slotfile.Buffer`: an array in raw memory, with live views of it.

use std::ffi::{CStr, c_int, c_void};
use std::sync::Arc;

use numpy::PyArrayDescr;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyTuple};
use slotfile::{Buffer as Typed, Define, ScalarType, Shape};

use crate::convert::arguments::Addend;
use crate::convert::error::to_py;
use crate::convert::key::Key;
use crate::convert::ndarray::filled_with;
use crate::convert::scalar::{Operation, Scalar, any_of, any_scalar, on_any, sum_overflows};
use crate::runtime::opened::Shared;
use crate::runtime::wait::waiting;
use crate::slots::slot::Slot;

any_scalar!(AnyBuffer(Typed));

/// A slot of raw memory, for views without a copy, and for elements that many processes
/// update at the same time.
///
/// Loading, storing and adding to one element are atomic. A view of the whole,
/// `numpy.asarray(frame)` or `frame.buf`, is the live memory itself: changes by others show
/// up in it at any time, its elements may be of different moments, and operations on it
/// (`view += 1`) are not atomic. For content that must be consistent, use an `Array`.
///
/// >>> import numpy as np
/// >>> store = slotfile.temporary()
/// >>> frame = store.buffer("frame", "uint8", (480, 640))
/// >>> view = np.asarray(frame)
/// >>> view[1, 2] = 255
/// >>> frame[1, 2]
/// 255
/// >>> frame.notify()  # the frame is complete: wakes those who wait for a change
/// >>> frame.version
/// 1
#[pyclass(frozen, extends = Slot, module = "slotfile")]
pub(crate) struct Buffer {
    any: AnyBuffer,
    shared: Arc<Shared>,
    shape: Shape,
    /// Shape and strides in Python's units; exported views point to them as long as they live.
    dims: Vec<ffi::Py_ssize_t>,
    strides: Vec<ffi::Py_ssize_t>,
}

/// Runs an expression on the typed handle; its errors name the slot.
macro_rules! on {
    ($self:ident, $buffer:pat => $result:expr) => {{
        $self.shared.check_open()?;
        let result: PyResult<_> = on_any!(AnyBuffer, &$self.any, $buffer => $result);
        result.map_err(|error| $self.named(error))
    }};
}

/// Replaces an element by `f` of it, atomically, or leaves it; returns the old value.
fn replace<T: Scalar>(
    buffer: &Typed<T>,
    position: usize,
    f: impl Fn(T) -> Option<T>,
) -> PyResult<Result<T, T>> {
    let mut now = buffer.get(position).map_err(to_py)?;
    loop {
        let Some(new) = f(now) else { return Ok(Err(now)) };
        match buffer.compare_exchange(position, now, new).map_err(to_py)? {
            Ok(old) => return Ok(Ok(old)),
            Err(there) => now = there,
        }
    }
}

impl Buffer {
    /// The error, with the names of file and slot.
    #[cold]
    fn named(&self, error: PyErr) -> PyErr {
        let name = on_any!(AnyBuffer, &self.any, buffer => buffer.name());
        self.shared.named(error, name)
    }

    /// The position of one element.
    fn position(&self, index: &Bound<'_, PyAny>) -> PyResult<usize> {
        Key::element(index, self.shape.dims()).map_err(|error| self.named(error))
    }

    /// The elements that this names.
    fn key(&self, key: &Bound<'_, PyAny>) -> PyResult<Key> {
        Key::of(key, self.shape.dims()).map_err(|error| self.named(error))
    }

    /// Opens the buffer, or defines it.
    pub(crate) fn open<'py>(
        py: Python<'py>,
        shared: &Arc<Shared>,
        name: &str,
        (scalar_type, shape): (ScalarType, Shape),
        initial: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Buffer>> {
        let any = any_of!(AnyBuffer, scalar_type, T => {
            let initial = initial.map(|i| filled_with::<T>(shape.dims(), i)).transpose();
            let initial = initial.map_err(|error| shared.named(error, name))?;
            waiting(py, shared.options.lock_timeout).run(shared.store(), |store| {
                let define = Define::<T>::new();
                store.buffer_with(name, shape, match &initial {
                    Some(elements) => define.initial(shared.copy_of(elements, name)?),
                    None => define,
                })
            })?
        });
        let slot = on_any!(AnyBuffer, &any, buffer => buffer.clone().into());
        let dims: Vec<_> = shape.dims().iter().map(|dim| *dim as ffi::Py_ssize_t).collect();
        let mut stride = scalar_type.size() as ffi::Py_ssize_t;
        let mut strides = dims.clone();
        for (stride_here, dim) in strides.iter_mut().zip(&dims).rev() {
            *stride_here = stride;
            stride *= dim;
        }
        let base = PyClassInitializer::from(Slot::new(slot, shared));
        let buffer = Buffer { any, shared: Arc::clone(shared), shape, dims, strides };
        Bound::new(py, base.add_subclass(buffer))
    }

    fn address(&self) -> *mut c_void {
        on_any!(AnyBuffer, &self.any, buffer => buffer.as_ptr().cast())
    }

    fn fetch<'py>(
        &self,
        operation: Operation,
        index: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        fn typed<'py, T: Scalar>(
            buffer: &Typed<T>,
            operation: Operation,
            position: usize,
            n: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyAny>> {
            operation.check::<T>(n.py())?;
            let with = T::from_py(n)?;
            let (Ok(old) | Err(old)) = replace(buffer, position, |x| x.apply(operation, with))?;
            Ok(old.to_py(n.py()))
        }
        let position = self.position(index)?;
        on!(self, buffer => typed(buffer, operation, position, n))
    }
}

/// The live memory as a numpy array.
fn view<'py>(slf: &Bound<'py, Buffer>) -> PyResult<Bound<'py, PyAny>> {
    let as_array = slf.py().import("numpy")?.getattr("asarray")?;
    as_array.call1((slf,))
}

#[pymethods]
impl Buffer {
    /// A copy of the whole, not of one instant if others store meanwhile: see the class.
    fn load<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let view = view(slf)?;
        view.call_method0("copy")
    }

    /// The same, and the version before the copy.
    fn load_versioned<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, u64)> {
        let this = slf.get();
        let version = on!(this, buffer => Ok(buffer.version()))?;
        Ok((Self::load(slf)?, version))
    }

    /// Says that the content is complete: increments the version, and wakes the waiting threads.
    fn notify(&self, py: Python<'_>) -> PyResult<()> {
        let timeout = self.shared.options.lock_timeout;
        on!(self, buffer => waiting(py, timeout).run(buffer, |buffer| buffer.notify()))
    }

    /// Adds to one element atomically; returns the new value. Raises OverflowError, and
    /// changes nothing, if the type cannot hold the sum.
    #[pyo3(signature = (index, n=Addend::One, /), text_signature = "($self, index, n=1, /)")]
    fn add<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        n: Addend<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        fn typed<'py, T: Scalar>(
            py: Python<'py>,
            buffer: &Typed<T>,
            position: usize,
            n: Addend<'_, 'py>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let n = T::addend(n)?;
            match replace(buffer, position, |x| x.plus(n))? {
                Ok(old) => Ok(old.plus(n).unwrap_or(old).to_py(py)),
                Err(there) => Err(sum_overflows(there)),
            }
        }
        let position = self.position(index)?;
        on!(self, buffer => typed(index.py(), buffer, position, n))
    }

    /// Adds to one element, wrapping around on overflow; returns the old value.
    fn fetch_add<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Add, index, n)
    }

    /// Subtracts from one element, wrapping around on overflow; returns the old value.
    fn fetch_sub<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Sub, index, n)
    }

    /// Replaces one element by `n` if that is less; returns the old value.
    fn fetch_min<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Min, index, n)
    }

    /// Replaces one element by `n` if that is greater; returns the old value.
    fn fetch_max<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Max, index, n)
    }

    /// Bitwise "and" of one element; returns the old value.
    fn fetch_and<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::And, index, n)
    }

    /// Bitwise "or" of one element; returns the old value.
    fn fetch_or<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Or, index, n)
    }

    /// Bitwise "exclusive or" of one element; returns the old value.
    fn fetch_xor<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.fetch(Operation::Xor, index, n)
    }

    /// Replaces one element; returns the old value.
    fn swap<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        new: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        fn typed<'py, T: Scalar>(
            buffer: &Typed<T>,
            position: usize,
            new: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let old = buffer.swap(position, T::from_py(new)?).map_err(to_py)?;
            Ok(old.to_py(new.py()))
        }
        let position = self.position(index)?;
        on!(self, buffer => typed(buffer, position, new))
    }

    /// Replaces one element by `new` if it is `expected`; returns whether it was replaced.
    fn compare_exchange(
        &self,
        index: &Bound<'_, PyAny>,
        expected: &Bound<'_, PyAny>,
        new: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        fn typed<T: Scalar>(
            buffer: &Typed<T>,
            position: usize,
            (expected, new): (&Bound<'_, PyAny>, &Bound<'_, PyAny>),
        ) -> PyResult<bool> {
            let (expected, new) = (T::from_py(expected)?, T::from_py(new)?);
            let exchanged = buffer.compare_exchange(position, expected, new);
            Ok(exchanged.map_err(to_py)?.is_ok())
        }
        let position = self.position(index)?;
        on!(self, buffer => typed(buffer, position, (expected, new)))
    }

    /// The dimensions.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.shape.dims())
    }

    /// The number of dimensions.
    #[getter]
    fn ndim(&self) -> usize {
        self.dims.len()
    }

    /// The number of elements.
    #[getter]
    fn size(&self) -> usize {
        self.shape.len()
    }

    /// The numpy dtype of the elements.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> Bound<'py, PyArrayDescr> {
        fn typed<'py, T: Scalar>(py: Python<'py>, _: &Typed<T>) -> Bound<'py, PyArrayDescr> {
            T::dtype(py)
        }
        on_any!(AnyBuffer, &self.any, buffer => typed(py, buffer))
    }

    /// The live memory as a memoryview. It stays valid after the store is closed.
    #[getter]
    fn buf<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        PyMemoryView::from(slf)
    }

    #[getter]
    fn __array_interface__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let (this, py) = (slf.get(), slf.py());
        this.shared.check_open()?;
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("shape", this.shape(py)?)?;
        interface.set_item("typestr", this.dtype(py).getattr("str")?)?;
        interface.set_item("data", (this.address() as usize, this.shared.options.read_only))?;
        Ok(interface)
    }

    fn __len__(&self) -> usize {
        self.shape.dims()[0]
    }

    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        match this.key(key)? {
            Key::Element(position) => on!(this, buffer => match buffer.get(position) {
                Ok(element) => Ok(element.to_py(slf.py())),
                Err(error) => Err(to_py(error)),
            }),
            _ => {
                let view = view(slf)?;
                view.get_item(key).map_err(|error| this.named(error))
            }
        }
    }

    fn __setitem__(
        slf: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        new: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        fn element<T: Scalar>(
            buffer: &Typed<T>,
            position: usize,
            new: &Bound<'_, PyAny>,
        ) -> PyResult<()> {
            buffer.set(position, T::from_py(new)?).map_err(to_py)
        }
        let this = slf.get();
        match this.key(key)? {
            Key::Element(position) => on!(this, buffer => element(buffer, position, new)),
            _ => {
                let view = view(slf)?;
                view.set_item(key, new).map_err(|error| this.named(error))
            }
        }
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let view = view(slf)?;
        let items = match slf.get().ndim() {
            1 => view.call_method0("tolist")?,
            _ => view,
        };
        Ok(items.try_iter()?.into_any())
    }

    /// # Safety
    ///
    /// Called by the interpreter, with a view to fill.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        out: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        this.shared.check_open()?;
        let read_only = this.shared.options.read_only;
        if read_only && flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("the store was opened read-only"));
        }
        let given = |asked: c_int| flags & asked == asked;
        let (format, size) = on_any!(AnyBuffer, &this.any, buffer => format_of(buffer));
        // SAFETY: the view is the interpreter's, to be filled. What it points to lives as long
        // as `obj`, which it holds: the handle keeps the mapping, and `obj` owns the rest.
        unsafe {
            (*out).buf = this.address();
            (*out).len = (this.shape.len() * size) as ffi::Py_ssize_t;
            (*out).itemsize = size as ffi::Py_ssize_t;
            (*out).readonly = c_int::from(read_only);
            (*out).format = match given(ffi::PyBUF_FORMAT) {
                true => format.as_ptr().cast_mut(),
                false => std::ptr::null_mut(),
            };
            (*out).ndim = this.dims.len() as c_int;
            (*out).shape = match given(ffi::PyBUF_ND) {
                true => this.dims.as_ptr().cast_mut(),
                false => std::ptr::null_mut(),
            };
            (*out).strides = match given(ffi::PyBUF_STRIDES) {
                true => this.strides.as_ptr().cast_mut(),
                false => std::ptr::null_mut(),
            };
            (*out).suboffsets = std::ptr::null_mut();
            (*out).internal = std::ptr::null_mut();
            (*out).obj = slf.clone().into_any().into_ptr();
        }
        Ok(())
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let what = format!("{}[{}]", this.dtype(py), this.shape);
        let content = || crate::slots::array::shown(&view(slf)?);
        slf.as_super().get().describe(py, "Buffer", &what, content)
    }
}

/// The buffer protocol's format of an element, and its size.
fn format_of<T: Scalar>(_: &Typed<T>) -> (&'static CStr, usize) {
    let format = match T::TYPE {
        ScalarType::Bool => c"?",
        ScalarType::I8 => c"b",
        ScalarType::I16 => c"h",
        ScalarType::I32 => c"i",
        ScalarType::I64 => c"q",
        ScalarType::U8 => c"B",
        ScalarType::U16 => c"H",
        ScalarType::U32 => c"I",
        ScalarType::U64 => c"Q",
        ScalarType::F32 => c"f",
        ScalarType::F64 => c"d",
    };
    (format, size_of::<T>())
}
