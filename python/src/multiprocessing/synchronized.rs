//! Wrappers that take a lock around every access to a shared ctypes object.

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyAttributeError, PyMemoryError};
use pyo3::ffi;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySlice};
use slotfile::RawBuffer;

use crate::convert::scalar::scalar_named;
use crate::multiprocessing::numbers::Numbers;
use crate::multiprocessing::rlock::RLock;
use crate::multiprocessing::shared_block::Block;

/// A wrapper that takes a lock around every access to a ctypes object. See
/// `multiprocessing.sharedctypes`.
#[pyclass(frozen, subclass, weakref, dict, module = "slotfile.multiprocessing.sharedctypes")]
pub(crate) struct SynchronizedBase {
    /// `None` only while it is being made: Python may collect garbage then, and traverses its memory,
    /// which is zeros.
    obj: Option<Py<PyAny>>,
    lock: Option<Py<PyAny>>,
    direct: Option<Direct>,
}

/// The fast path, without ctypes and the lock's methods, for an object of numbers in our memory
/// with a lock of ours.
struct Direct {
    lock: RawBuffer,
    numbers: Numbers,
}

impl Direct {
    fn new(obj: &Bound<'_, PyAny>, lock: &Bound<'_, PyAny>) -> PyResult<Option<Direct>> {
        let (Ok(lock), Ok(block)) = (lock.cast::<RLock>(), obj.getattr("_wrapper")) else {
            return Ok(None);
        };
        let Ok(block) = block.cast_into::<Block>() else { return Ok(None) };
        let of = sharedctypes(obj.py(), "_numbers", (obj,))?;
        let Some((of, len, address)) = of.extract::<Option<(String, usize, usize)>>()? else {
            return Ok(None);
        };
        let of = scalar_named(&of)?;
        if !block.get().contains(address, len * of.size()) || !address.is_multiple_of(of.size()) {
            return Ok(None);
        }
        let offset = address - block.get().raw().as_ptr().addr();
        // SAFETY: the block has this memory for as long as `lock` or the object lives, which
        // are kept beside this.
        let numbers = unsafe { Numbers::new(block.get().raw().as_ptr().add(offset), of, len) };
        Ok(Some(Direct { lock: lock.get().raw.clone(), numbers }))
    }

    /// `None` if the lock is not free at once.
    #[inline]
    fn load<'py>(&self, py: Python<'py>, position: usize) -> Option<Bound<'py, PyAny>> {
        let bits = self.lock.try_with(|| self.numbers.load(position))?;
        Some(self.numbers.to_py(py, bits))
    }

    /// `None` also if ctypes must handle the object.
    #[inline]
    fn store(&self, position: usize, object: &Bound<'_, PyAny>) -> Option<()> {
        let bits = self.numbers.to_bits(object)?;
        self.lock.try_with(|| self.numbers.store(position, bits))
    }
}

/// Calls a function of that module.
fn sharedctypes<'py>(
    py: Python<'py>,
    function: &str,
    arguments: impl pyo3::call::PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let function = py.import("slotfile.multiprocessing.sharedctypes")?.getattr(function)?;
    function.call1(arguments)
}

impl SynchronizedBase {
    fn new(
        obj: &Bound<'_, PyAny>,
        lock: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<SynchronizedBase> {
        let lock = match lock {
            Some(lock) => lock.clone(),
            None => sharedctypes(obj.py(), "_lock_of", (obj, ctx))?,
        };
        let direct = Direct::new(obj, &lock)?;
        Ok(SynchronizedBase { obj: Some(obj.clone().unbind()), lock: Some(lock.unbind()), direct })
    }

    /// Runs it through ctypes, under the lock.
    #[cold]
    fn locked<'py, R>(
        &self,
        py: Python<'py>,
        f: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
    ) -> PyResult<R> {
        let lock = self.lock().bind(py);
        lock.call_method0("acquire")?;
        let result = f(self.obj().bind(py));
        lock.call_method0("release")?;
        result
    }
}

impl SynchronizedBase {
    fn obj(&self) -> &Py<PyAny> {
        self.obj.as_ref().expect("it was made")
    }

    fn lock(&self) -> &Py<PyAny> {
        self.lock.as_ref().expect("it was made")
    }
}

#[pymethods]
impl SynchronizedBase {
    #[new]
    #[pyo3(signature = (obj, lock=None, ctx=None))]
    fn py_new(
        obj: &Bound<'_, PyAny>,
        lock: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<SynchronizedBase> {
        SynchronizedBase::new(obj, lock, ctx)
    }

    /// The ctypes object itself, without the lock: live memory.
    fn get_obj(&self, py: Python<'_>) -> Py<PyAny> {
        self.obj().clone_ref(py)
    }

    /// The lock, for longer sections: `with counter.get_lock(): counter.value += 1`.
    fn get_lock(&self, py: Python<'_>) -> Py<PyAny> {
        self.lock().clone_ref(py)
    }

    #[getter]
    fn _obj(&self, py: Python<'_>) -> Py<PyAny> {
        self.obj().clone_ref(py)
    }

    #[getter]
    fn _lock(&self, py: Python<'_>) -> Py<PyAny> {
        self.lock().clone_ref(py)
    }

    /// The lock's own.
    #[getter]
    fn acquire<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.lock().bind(py).getattr("acquire")
    }

    /// The lock's own.
    #[getter]
    fn release<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.lock().bind(py).getattr("release")
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.lock().bind(py).call_method0("__enter__")
    }

    #[pyo3(signature = (*exception))]
    fn __exit__<'py>(
        &self,
        py: Python<'py>,
        exception: &Bound<'py, pyo3::types::PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.lock().bind(py).call_method1("__exit__", exception)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        sharedctypes(slf.py(), "_reduce_synchronized", (slf,))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let obj = slf.get().obj().bind(slf.py()).str()?;
        Ok(format!("<{} wrapper for {obj}>", slf.get_type().name()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.obj)?;
        visit.call(&self.lock)
    }
}

/// A shared number or character. `x.value += 1` is two steps; `with x.get_lock():` makes it one.
///
/// >>> from slotfile.multiprocessing import Value
/// >>> counter = Value("i", 5)
/// >>> with counter.get_lock():
/// ...     counter.value += 1
/// >>> counter.value
/// 6
#[pyclass(frozen, subclass, extends = SynchronizedBase, module = "slotfile.multiprocessing.sharedctypes")]
pub(crate) struct Synchronized;

#[pymethods]
impl Synchronized {
    #[new]
    #[pyo3(signature = (obj, lock=None, ctx=None))]
    fn py_new(
        obj: &Bound<'_, PyAny>,
        lock: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Synchronized>> {
        let base = PyClassInitializer::from(SynchronizedBase::new(obj, lock, ctx)?);
        Ok(base.add_subclass(Synchronized))
    }

    /// What the object holds.
    #[getter]
    fn value<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, base) = (slf.py(), slf.as_super().get());
        match base.direct.as_ref().and_then(|direct| direct.load(py, 0)) {
            Some(value) => Ok(value),
            None => base.locked(py, |obj| obj.getattr("value")),
        }
    }

    #[setter]
    fn set_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, base) = (slf.py(), slf.as_super().get());
        match base.direct.as_ref().and_then(|direct| direct.store(0, value)) {
            Some(()) => Ok(()),
            None => base.locked(py, |obj| obj.setattr("value", value)),
        }
    }
}

/// A shared array.
///
/// >>> from slotfile.multiprocessing import Array
/// >>> squares = Array("i", [0, 1, 4, 9])
/// >>> squares[1:3], squares[-1], len(squares)
/// ([1, 4], 9, 4)
#[pyclass(frozen, subclass, sequence, extends = SynchronizedBase, module = "slotfile.multiprocessing.sharedctypes")]
pub(crate) struct SynchronizedArray;

#[pymethods]
impl SynchronizedArray {
    #[new]
    #[pyo3(signature = (obj, lock=None, ctx=None))]
    fn py_new(
        obj: &Bound<'_, PyAny>,
        lock: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<SynchronizedArray>> {
        let base = PyClassInitializer::from(SynchronizedBase::new(obj, lock, ctx)?);
        Ok(base.add_subclass(SynchronizedArray))
    }

    fn __len__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        let base = slf.as_super().get();
        match &base.direct {
            Some(direct) => Ok(direct.numbers.len()),
            None => base.obj().bind(slf.py()).len(),
        }
    }

    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, base) = (slf.py(), slf.as_super().get());
        if let Some(direct) = &base.direct {
            if let Some(position) = direct.numbers.position(index) {
                if let Some(element) = direct.load(py, position) {
                    return Ok(element);
                }
            } else if let Ok(slice) = index.cast_exact::<PySlice>()
                && let Some(list) = direct.load_slice(slice)?
            {
                return Ok(list.into_any());
            }
        }
        base.locked(py, |obj| obj.get_item(index))
    }

    fn __setitem__(
        slf: &Bound<'_, Self>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (py, base) = (slf.py(), slf.as_super().get());
        if let Some(direct) = &base.direct
            && let Some(position) = direct.numbers.position(index)
            && direct.store(position, value).is_some()
        {
            return Ok(());
        }
        base.locked(py, |obj| obj.set_item(index, value))
    }

    fn __getslice__<'py>(
        slf: &Bound<'py, Self>,
        start: &Bound<'py, PyAny>,
        stop: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SynchronizedArray::__getitem__(slf, &slice(start, stop)?)
    }

    fn __setslice__(
        slf: &Bound<'_, Self>,
        start: &Bound<'_, PyAny>,
        stop: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        SynchronizedArray::__setitem__(slf, &slice(start, stop)?, values)
    }

    fn __delitem__(&self, _index: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyAttributeError::new_err("__delitem__"))
    }
}

fn slice<'py>(start: &Bound<'py, PyAny>, stop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    start.py().get_type::<PySlice>().call1((start, stop))
}

impl Direct {
    /// The elements, all of one moment; `None` if the lock is not free at once.
    fn load_slice<'py>(&self, slice: &Bound<'py, PySlice>) -> PyResult<Option<Bound<'py, PyList>>> {
        let range = slice.indices(self.numbers.len().cast_signed())?;
        let positions =
            (0..range.slicelength).map(|i| (range.start + i.cast_signed() * range.step) as usize);
        let mut bits = Vec::new();
        if bits.try_reserve_exact(positions.len()).is_err() {
            return Err(PyMemoryError::new_err("there is no memory for these elements"));
        }
        let load = || bits.extend(positions.map(|position| self.numbers.load(position)));
        if self.lock.try_with(load).is_none() {
            return Ok(None);
        }
        let py = slice.py();
        // SAFETY: it is a new list, each of whose elements is set before anybody else sees it.
        unsafe {
            let list = ffi::PyList_New(bits.len().cast_signed());
            let list = Bound::from_owned_ptr_or_err(py, list)?.cast_into_unchecked::<PyList>();
            for (at, bits) in bits.into_iter().enumerate() {
                let element = self.numbers.to_py(py, bits).into_ptr();
                ffi::PyList_SetItem(list.as_ptr(), at.cast_signed(), element);
            }
            Ok(Some(list))
        }
    }
}

/// A shared array of characters: also a string, `value` up to the first NUL, `raw` in full.
///
/// >>> from slotfile.multiprocessing import Array
/// >>> name = Array("c", 8)
/// >>> name.value = b"robot"
/// >>> name.value, name[:3], name.raw
/// (b'robot', b'rob', b'robot\x00\x00\x00')
#[pyclass(frozen, subclass, extends = SynchronizedArray, module = "slotfile.multiprocessing.sharedctypes")]
pub(crate) struct SynchronizedString;

#[pymethods]
impl SynchronizedString {
    #[new]
    #[pyo3(signature = (obj, lock=None, ctx=None))]
    fn py_new(
        obj: &Bound<'_, PyAny>,
        lock: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<SynchronizedString>> {
        let base = PyClassInitializer::from(SynchronizedBase::new(obj, lock, ctx)?);
        Ok(base.add_subclass(SynchronizedArray).add_subclass(SynchronizedString))
    }

    /// The bytes up to the first NUL.
    #[getter]
    fn value<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.base().locked(slf.py(), |obj| obj.getattr("value"))
    }

    #[setter]
    fn set_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.base().locked(slf.py(), |obj| obj.setattr("value", value))
    }

    /// All bytes.
    #[getter]
    fn raw<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.base().locked(slf.py(), |obj| obj.getattr("raw"))
    }

    #[setter]
    fn set_raw(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.base().locked(slf.py(), |obj| obj.setattr("raw", value))
    }
}

/// Access to the base that all wrappers share.
trait Base {
    fn base(&self) -> &SynchronizedBase;
}

impl Base for Bound<'_, SynchronizedString> {
    fn base(&self) -> &SynchronizedBase {
        self.as_super().as_super().get()
    }
}
