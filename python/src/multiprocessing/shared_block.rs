//! Memory for shared ctypes objects: a slot of a named store, or a piece of this process's heap.

use std::ffi::c_int;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use slotfile::{Data, Define, Error, RawBuffer, Shape, SlotType};

use crate::convert::copies::elements_of;
use crate::convert::error::to_py;
use crate::convert::scalar::scalar_named;
use crate::multiprocessing::heap::{Arena, Heap, Piece};
use crate::multiprocessing::rlock::RLock;
use crate::runtime::wait::waiting;
use crate::store::Store;

/// Memory of a shared ctypes object, and its lock. Exports a writable buffer that keeps it alive.
#[pyclass(frozen, weakref, module = "slotfile._native")]
pub(crate) struct Block {
    raw: RawBuffer,
    len: usize,
    origin: Origin,
}

enum Origin {
    /// A piece of the heap of this process, which made the object; returned there when dropped.
    Heap(Option<Piece>, &'static Heap),
    /// A piece of the heap of the process that started this one.
    Inherited(Py<Arena>, String),
    /// A slot of its own.
    Store(Py<Store>, SlotType),
}

impl Block {
    pub(crate) fn raw(&self) -> &RawBuffer {
        &self.raw
    }

    /// Whether these addresses lie in the memory.
    pub(crate) fn contains(&self, address: usize, len: usize) -> bool {
        let start = self.raw.as_ptr().addr();
        start <= address && address - start <= self.len && len <= self.len - (address - start)
    }
}

/// Unnamed memory, all zero, for this process and its children.
#[pyfunction]
pub(crate) fn allocate(py: Python<'_>, size: usize) -> PyResult<Block> {
    let heap = Heap::of_this_process();
    let piece = heap.take(py, size)?;
    Ok(Block { raw: piece.raw().clone(), len: size, origin: Origin::Heap(Some(piece), heap) })
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Origin::Heap(piece, heap) = &mut self.origin
            && let Some(piece) = piece.take()
        {
            heap.give_back(piece);
        }
    }
}

#[pymethods]
impl Block {
    /// Opens the buffer of this name and type, or defines it with this content.
    #[staticmethod]
    fn named(
        store: &Bound<'_, Store>,
        name: &str,
        element: &str,
        shape: Vec<usize>,
        initial: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<Block> {
        let element = scalar_named(element)?;
        let shape = Shape::new(&shape).ok_or_else(|| {
            PyValueError::new_err(format!("slot {name:?}: no slot has the shape {shape:?}"))
        })?;
        let slot_type = SlotType::Buffer(element, shape);
        let initial = initial.map(|bytes| bytes.as_bytes());
        if initial.is_some_and(|bytes| !bytes.len().is_multiple_of(element.size())) {
            let text = format!("slot {name:?}: its first content is not whole");
            return Err(PyTypeError::new_err(text));
        }
        let shared = &store.get().shared;
        shared.check_open()?;
        if shared.options.read_only {
            let path = shared.store().path().to_owned();
            return Err(to_py(Error::ReadOnly { path })); // the exported buffer is writable
        }
        let slot =
            waiting(store.py(), shared.options.lock_timeout).run(shared.store(), |store| {
                let define = Define::<Data>::new();
                let define = match initial {
                    Some(bytes) => {
                        let content = elements_of(element, bytes);
                        define.initial(content.map_err(|none| none.of(store, name))?)
                    }
                    None => define,
                };
                store.define(name, &slot_type, define)
            })?;
        let raw = slot.raw_buffer().expect("it was opened as a buffer");
        let len = slot.size();
        Ok(Block { raw, len, origin: Origin::Store(store.clone().unbind(), slot_type) })
    }

    /// A block that was allocated by the process that started this one.
    #[staticmethod]
    fn inherited(arena: &Bound<'_, Arena>, name: String, size: usize) -> PyResult<Block> {
        let raw = arena.get().open(&name)?;
        Ok(Block { raw, len: size, origin: Origin::Inherited(arena.clone().unbind(), name) })
    }

    /// Its slot's name, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        match &self.origin {
            Origin::Store(..) => Some(self.raw.name()),
            _ => None,
        }
    }

    /// The lock that goes with it.
    #[getter]
    fn lock(slf: &Bound<'_, Self>) -> RLock {
        RLock::of(slf)
    }

    /// As in the standard library's blocks.
    fn create_memoryview<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        PyMemoryView::from(slf.as_any())
    }

    /// # Safety
    ///
    /// `view` comes from the interpreter.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let (start, len) = (this.raw.as_ptr(), this.len.cast_signed());
        // SAFETY: fills the interpreter's view, and refers in it to this object, which keeps
        // the memory mapped. Accesses through it are Python's, as for any shared memory.
        match unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.cast(), len, 0, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (py, this) = (slf.py(), slf.get());
        let ours = py.import("slotfile.multiprocessing.sharedctypes")?;
        let (arena, name) = match &this.origin {
            Origin::Heap(piece, _) => {
                let piece = piece.as_ref().expect("there until dropped");
                (piece.arena(), this.raw.name())
            }
            Origin::Inherited(arena, name) => (arena, &**name),
            Origin::Store(store, slot_type) => {
                let SlotType::Buffer(element, shape) = slot_type else {
                    unreachable!("it was defined so")
                };
                let args = (store.bind(py), this.raw.name(), element.name(), shape.dims());
                return Ok((ours.getattr("_rebuild_named")?, args.into_pyobject(py)?.into_any()));
            }
        };
        let context = py.import("multiprocessing.context")?;
        context.call_method1("assert_spawning", (slf,))?;
        let args = (arena.bind(py), name, this.len);
        Ok((ours.getattr("_rebuild_inherited")?, args.into_pyobject(py)?.into_any()))
    }
}
