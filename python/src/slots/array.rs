//! `slotfile.Array`: numbers of one type, in one to four dimensions.

use std::sync::Arc;

use numpy::{PyArrayDescr, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use slotfile::{Array as Typed, Define, Error, ScalarType, Shape};

use crate::convert::arguments::Addend;
use crate::convert::copies::vec_of;
use crate::convert::error::to_py;
use crate::convert::key::Key;
use crate::convert::ndarray::{filled_with, fresh, with_elements};
use crate::convert::scalar::{Operation, Scalar, any_of, any_scalar, on_any, sum_overflows};
use crate::runtime::opened::Shared;
use crate::runtime::wait::waiting;
use crate::slots::slot::Slot;
use crate::slots::update::{AnyUpdate, Update};

any_scalar!(AnyArray(Typed));

/// An array of numbers, shared by all processes that open it.
///
/// A read returns a copy as of one instant, never torn, and never waits. A write, of an
/// element, a slice or the whole array, happens at one instant, or not at all.
///
/// >>> store = slotfile.temporary()
/// >>> pose = store.array("pose", float, 6)
/// >>> pose[:] = range(6)
/// >>> pose.add(0, 0.5)
/// 0.5
/// >>> pose[2:4]
/// array([2., 3.])
/// >>> with pose.update() as p:
/// ...     p *= 2
/// >>> pose.load()
/// array([ 1.,  2.,  4.,  6.,  8., 10.])
#[pyclass(frozen, extends = Slot, module = "slotfile")]
pub(crate) struct Array {
    pub(crate) any: AnyArray,
    pub(crate) shared: Arc<Shared>,
    shape: Shape,
}

/// Runs an expression on the typed handle; its errors name the slot.
macro_rules! on {
    ($self:ident, $array:pat => $result:expr) => {{
        $self.shared.check_open()?;
        let result: PyResult<_> = on_any!(AnyArray, &$self.any, $array => $result);
        result.map_err(|error| $self.named(error))
    }};
}

/// Arrays of at least this many bytes are copied with the interpreter lock released.
const LARGE: usize = 256 << 10;

impl Array {
    /// The error, with the names of file and slot.
    #[cold]
    fn named(&self, error: PyErr) -> PyErr {
        let name = on_any!(AnyArray, &self.any, array => array.name());
        self.shared.named(error, name)
    }

    /// The position of one element.
    fn position(&self, index: &Bound<'_, PyAny>) -> PyResult<usize> {
        Key::element(index, self.dims()).map_err(|error| self.named(error))
    }

    /// The elements that this names.
    fn key(&self, key: &Bound<'_, PyAny>) -> PyResult<Key> {
        Key::of(key, self.dims()).map_err(|error| self.named(error))
    }

    /// Opens the array, or defines it.
    pub(crate) fn open<'py>(
        py: Python<'py>,
        shared: &Arc<Shared>,
        name: &str,
        (scalar_type, shape): (ScalarType, Shape),
        initial: Option<&Bound<'py, PyAny>>,
        areas: usize,
    ) -> PyResult<Bound<'py, Array>> {
        let any = any_of!(AnyArray, scalar_type, T => {
            let initial = initial.map(|i| filled_with::<T>(shape.dims(), i)).transpose();
            let initial = initial.map_err(|error| shared.named(error, name))?;
            waiting(py, shared.options.lock_timeout).run(shared.store(), |store| {
                let define = Define::<T>::new().areas(areas);
                store.array_with(name, shape, match &initial {
                    Some(elements) => define.initial(shared.copy_of(elements, name)?),
                    None => define,
                })
            })?
        });
        let slot = on_any!(AnyArray, &any, array => array.clone().into());
        let base = PyClassInitializer::from(Slot::new(slot, shared));
        Bound::new(py, base.add_subclass(Array { any, shared: Arc::clone(shared), shape }))
    }

    fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    fn write<T: Scalar, R: Send>(
        &self,
        py: Python<'_>,
        array: &Typed<T>,
        call: impl Fn(&Typed<T>) -> slotfile::Result<R> + Sync,
    ) -> PyResult<R> {
        waiting(py, self.shared.options.lock_timeout).run(array, call)
    }

    /// Replaces the elements from `start` on by a block of this shape.
    fn replace<T: Scalar>(
        &self,
        array: &Typed<T>,
        (start, shape): (usize, &[usize]),
        content: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let store = |array: &Typed<T>, new: &[T]| array.store_range(start..start + new.len(), new);
        let copy = with_elements(shape, content, |new: &[T]| match store(array, new) {
            // A wait releases the interpreter lock, and then others may change `content`.
            Err(Error::LockTimeout { .. }) => Ok(Some(vec_of(new)?)),
            done => done.map(|()| None).map_err(to_py),
        })??;
        let Some(copy) = copy else { return Ok(()) };
        waiting(content.py(), self.shared.options.lock_timeout)
            .detached(array, |array| store(array, &copy))
    }

    fn fetch<'py>(
        &self,
        operation: Operation,
        index: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        fn typed<'py, T: Scalar>(
            this: &Array,
            array: &Typed<T>,
            operation: Operation,
            position: usize,
            n: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let py = n.py();
            operation.check::<T>(py)?;
            let n = T::from_py(n)?;
            let (Ok(old) | Err(old)) = this.write(py, array, |array| {
                array.try_update_element(position, |x| x.apply(operation, n))
            })?;
            Ok(old.to_py(py))
        }
        let position = self.position(index)?;
        on!(self, array => typed(self, array, operation, position, n))
    }
}

/// A short form of an array's content.
pub(crate) fn shown<'py>(content: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = content.py();
    let options = pyo3::types::PyDict::new(py);
    options.set_item("threshold", 20)?;
    options.set_item("separator", ", ")?;
    let shown = py.import("numpy")?.getattr("array2string")?;
    shown.call((content,), Some(&options))
}

#[pymethods]
impl Array {
    /// A copy of the whole array, as of one instant. With `out`, a numpy array of this type
    /// and shape, copies into that and returns it.
    #[pyo3(signature = (*, out=None))]
    fn load<'py>(
        &self,
        py: Python<'py>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match out {
            None => Ok(self.load_versioned(py)?.0),
            Some(out) => {
                on!(self, array => load_into(array, out))?;
                Ok(out.clone())
            }
        }
    }

    /// A copy of the whole array, and its version.
    fn load_versioned<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, u64)> {
        on!(self, array => load_block(py, array, 0, self.dims()))
    }

    /// Replaces all elements atomically, as `array[...] = content` does.
    fn store(&self, content: &Bound<'_, PyAny>) -> PyResult<()> {
        on!(self, array => self.replace(array, (0, self.dims()), content))
    }

    /// A read-modify-write of the whole array. The `with` block works on a copy, a numpy
    /// array, which replaces the content atomically at the end of the block. An exception or
    /// a kill undoes it. Meanwhile, updates by others wait; reads never do.
    ///
    /// >>> a = slotfile.temporary().array("a", int, 3)
    /// >>> with a.update() as copy:
    /// ...     copy += [1, 2, 3]
    /// >>> a[:]
    /// array([1, 2, 3])
    fn update(slf: &Bound<'_, Self>) -> PyResult<Update> {
        slf.get().shared.check_open()?;
        Ok(Update::new(slf.clone().unbind()))
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
            this: &Array,
            py: Python<'py>,
            array: &Typed<T>,
            position: usize,
            n: Addend<'_, 'py>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let n = T::addend(n)?;
            let added =
                this.write(py, array, |array| array.try_update_element(position, |x| x.plus(n)))?;
            match added {
                Ok(old) => Ok(old.plus(n).unwrap_or(old).to_py(py)),
                Err(there) => Err(sum_overflows(there)),
            }
        }
        let position = self.position(index)?;
        on!(self, array => typed(self, index.py(), array, position, n))
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
            this: &Array,
            array: &Typed<T>,
            position: usize,
            new: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let x = T::from_py(new)?;
            Ok(this.write(new.py(), array, |array| array.swap(position, x))?.to_py(new.py()))
        }
        let position = self.position(index)?;
        on!(self, array => typed(self, array, position, new))
    }

    /// Replaces one element by `new` if it is `expected`; returns whether it was replaced.
    fn compare_exchange(
        &self,
        index: &Bound<'_, PyAny>,
        expected: &Bound<'_, PyAny>,
        new: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        fn typed<T: Scalar>(
            this: &Array,
            array: &Typed<T>,
            position: usize,
            (expected, new): (&Bound<'_, PyAny>, &Bound<'_, PyAny>),
        ) -> PyResult<bool> {
            let (expected, x) = (T::from_py(expected)?, T::from_py(new)?);
            let exchange = |array: &Typed<T>| array.compare_exchange(position, expected, x);
            Ok(this.write(new.py(), array, exchange)?.is_ok())
        }
        let position = self.position(index)?;
        on!(self, array => typed(self, array, position, (expected, new)))
    }

    /// The dimensions.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.dims())
    }

    /// The number of dimensions.
    #[getter]
    fn ndim(&self) -> usize {
        self.dims().len()
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
        on_any!(AnyArray, &self.any, array => typed(py, array))
    }

    fn __len__(&self) -> usize {
        self.dims()[0]
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.key(key)? {
            Key::Element(position) => on!(self, array => match array.get(position) {
                Ok(element) => Ok(element.to_py(py)),
                Err(error) => Err(to_py(error)),
            }),
            Key::Block { start, shape } => {
                on!(self, array => Ok(load_block(py, array, start, &shape)?.0))
            }
            Key::Other => {
                let copy = self.load_versioned(py)?.0;
                copy.get_item(key).map_err(|error| self.named(error))
            }
        }
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, new: &Bound<'_, PyAny>) -> PyResult<()> {
        fn element<T: Scalar>(
            this: &Array,
            array: &Typed<T>,
            position: usize,
            new: &Bound<'_, PyAny>,
        ) -> PyResult<()> {
            let x = T::from_py(new)?;
            this.write(new.py(), array, |array| array.set(position, x))
        }
        let py = new.py();
        match self.key(key)? {
            Key::Element(position) => on!(self, array => element(self, array, position, new)),
            Key::Block { start, shape } => {
                on!(self, array => self.replace(array, (start, &shape), new))
            }
            Key::Other => {
                // Before the lock is taken, since the conversion may run any Python code.
                let as_array = py.import("numpy")?.getattr("asarray")?;
                let new = as_array.call1((new, self.dtype(py)));
                let new = new.map_err(|error| self.named(error))?;
                self.shared.check_open()?;
                let (update, copy) = AnyUpdate::begin(py, self)?;
                copy.bind(py).set_item(key, new).map_err(|error| self.named(error))?;
                update.commit(py)
            }
        }
    }

    /// Iterates over the elements, or the rows, of a copy as of one instant.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let copy = self.load_versioned(py)?.0;
        let items = match self.ndim() {
            1 => copy.call_method0("tolist")?,
            _ => copy,
        };
        Ok(items.try_iter()?.into_any())
    }

    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            return Err(PyValueError::new_err(
                "an array is read by copying it; a buffer has a view without a copy",
            ));
        }
        let content = self.load_versioned(py)?.0;
        match dtype {
            None => Ok(content),
            Some(dtype) => content.call_method1("astype", (dtype,)),
        }
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let what = format!("{}[{}]", this.dtype(py), this.shape);
        slf.as_super().get().describe(py, "Array", &what, || shown(&this.load_versioned(py)?.0))
    }
}

/// A copy of the elements from `start` on, as a numpy array of this shape, and its version.
fn load_block<'py, T: Scalar>(
    py: Python<'py>,
    array: &Typed<T>,
    start: usize,
    shape: &[usize],
) -> PyResult<(Bound<'py, PyAny>, u64)> {
    let mut version = Ok(0);
    let copy = fresh(py, shape, |copy| {
        let (is_large, range) = (size_of_val(copy) >= LARGE, start..start + copy.len());
        let load = || Ok(array.load_range_new(range, copy)?.1);
        version = if is_large { py.detach(load) } else { load() };
    })?;
    Ok((copy.into_any(), version.map_err(to_py)?))
}

/// Copies the array into the caller's numpy array.
fn load_into<T: Scalar>(array: &Typed<T>, out: &Bound<'_, PyAny>) -> PyResult<()> {
    let fits = out
        .cast::<PyArrayDyn<T>>()
        .ok()
        .filter(|out| out.shape() == array.shape().dims() && out.is_c_contiguous());
    let Some(out) = fits else {
        let text = format!(
            "`out` must be a C-contiguous numpy array of {}[{}]",
            T::dtype(out.py()),
            array.shape()
        );
        return Err(PyTypeError::new_err(text));
    };
    let mut out = out.try_readwrite().map_err(|error| PyValueError::new_err(error.to_string()))?;
    array.load_into(out.as_slice_mut()?);
    Ok(())
}
