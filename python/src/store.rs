//! `slotfile.Store`, and opening one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList, PyTuple};
use slotfile::{Error, OpenOptions, Recovery, ScalarType, Shape, SlotType, SyncPoint};

use crate::convert::arguments::Integer;
use crate::convert::error::{invalid, to_py};
use crate::convert::scalar::scalar_named;
use crate::runtime::opened::{Options, Shared};
use crate::runtime::wait::{Slices, seconds, waiting};
use crate::slots::array::Array;
use crate::slots::buffer::Buffer;
use crate::slots::counter::Counter;
use crate::slots::slot::Slot;
use crate::slots::text::{Bytes, Text};
use crate::slots::value::Value;
use crate::transaction::{self, Transaction};
use crate::watch::Watch;

/// An open store: one file of named, typed slots, shared by any number of processes. Made
/// by `slotfile.open` and `slotfile.temporary`.
///
/// It is a mapping of names to slots. The end of a `with` block closes it: then its handles
/// raise ValueError, while views of its buffers stay valid.
///
/// >>> with slotfile.open("state.slots") as store:
/// ...     hits = store.value("hits", "uint64")
/// ...     hits.add()
/// ...     "hits" in store, list(store), store["hits"]
/// 1
/// (True, ['hits'], <Value 'hits': uint64 = 1>)
#[pyclass(frozen, weakref, module = "slotfile")]
pub(crate) struct Store {
    pub(crate) shared: Arc<Shared>,
}

/// Opens a store.
///
/// `mode` is "a": open the store, or create it; "r+": open it, and never define new slots;
/// "r": open it read-only; "x": create it, and fail if it exists.
///
/// `lock_timeout` is the maximum wait for a lock, in seconds (None: forever). `sync_every` is
/// the interval of the background sync, in seconds, while something changes (None: never, nor
/// on closing). `any_file_system` opens a store also on a file system where other machines or mounts
/// may see other contents and locks, as on NFS. Handles that are pickled keep these three. The other
/// options apply when the store is created.
///
/// >>> store = slotfile.open("state.slots")
/// >>> store.recovery.what
/// 'created'
#[pyfunction]
#[pyo3(signature = (
    path, mode="a", *, lock_timeout=Some(5.0), sync_every=Some(1.0),
    max_slots=Integer::LeftOut(65_536), max_size=Integer::LeftOut(16 << 30),
    permissions=Integer::LeftOut(0o600), checkpoint=true, any_file_system=false
), text_signature = "(path, mode='a', *, lock_timeout=5.0, sync_every=1.0, max_slots=65536, max_size=17179869184, permissions=0o600, checkpoint=True, any_file_system=False)")]
#[expect(clippy::too_many_arguments, reason = "named, in Python")]
pub(crate) fn open(
    py: Python<'_>,
    path: &Bound<'_, PyAny>,
    mode: &str,
    lock_timeout: Option<f64>,
    sync_every: Option<f64>,
    max_slots: Integer<'_, '_>,
    max_size: Integer<'_, '_>,
    permissions: Integer<'_, '_>,
    checkpoint: bool,
    any_file_system: bool,
) -> PyResult<Store> {
    let permissions = permissions.of("permissions", "0o600 to 0o777")?;
    let permissions = u32::try_from(permissions).unwrap_or(u32::MAX);
    let mut creation = OpenOptions::new();
    creation
        .max_slots(max_slots.of("max_slots", "1 to 268435456")?)
        .max_size(max_size.of("max_size", "1 to 35184372088832")?)
        .mode(permissions)
        .checkpoint(checkpoint)
        .create(mode == "a")
        .create_new(mode == "x");
    if !matches!(mode, "a" | "r+" | "r" | "x") {
        let text = format!("mode {mode:?}: it must be \"a\", \"r+\", \"r\" or \"x\"");
        return Err(PyValueError::new_err(text));
    }
    let options = Options {
        path: Some(std::path::absolute(path_of(path)?)?),
        read_only: mode == "r",
        define: matches!(mode, "a" | "x"),
        lock_timeout: setting("lock_timeout", lock_timeout)?,
        sync_every: setting("sync_every", sync_every)?,
        any_file_system,
    };
    Store::open(py, creation, options)
}

/// Unpickles a store.
#[pyfunction]
pub(crate) fn reopen(py: Python<'_>, options: &Bound<'_, PyAny>) -> PyResult<Store> {
    Store::reopen(py, Options::unpickled(options)?)
}

/// Unpickles the handle of a slot.
#[pyfunction]
pub(crate) fn reopen_slot<'py>(
    py: Python<'py>,
    options: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    Store::reopen(py, Options::unpickled(options)?)?.slot(py, name)
}

/// An unnamed store in memory, for tests. It is gone with its last handle in this process and
/// the children it forks.
///
/// >>> slotfile.temporary().value("x", float, initial=0.5)
/// <Value 'x': float64 = 0.5>
#[pyfunction]
pub(crate) fn temporary(py: Python<'_>) -> PyResult<Store> {
    let store = py.detach(slotfile::Store::temporary).map_err(to_py)?;
    let options = Options {
        path: None,
        read_only: false,
        define: true,
        lock_timeout: Some(Duration::from_secs(5)),
        sync_every: None,
        any_file_system: false,
    };
    Ok(Store { shared: Shared::new(store, options) })
}

impl Store {
    fn open(py: Python<'_>, mut open: OpenOptions, options: Options) -> PyResult<Store> {
        open.read_only(options.read_only)
            .define(options.define)
            .sync_every(options.sync_every)
            .any_file_system(options.any_file_system);
        let path = options.path.as_ref().expect("a store with a path");
        let slices = Slices::new(options.lock_timeout);
        loop {
            let slice = slices.next();
            open.lock_timeout(Some(slice.length));
            match py.detach(|| open.open(path)) {
                Ok(store) => return Ok(Store { shared: Shared::new(store, options) }),
                Err(Error::LockTimeout { .. }) if !slice.is_last => py.check_signals()?,
                Err(error) => return Err(to_py(error)),
            }
        }
    }

    pub(crate) fn reopen(py: Python<'_>, options: Options) -> PyResult<Store> {
        Store::open(py, OpenOptions::new(), options)
    }

    /// The slot of this name, of whatever kind.
    pub(crate) fn slot<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.shared.check_open()?;
        let slot = self.shared.store().slot(name).map_err(to_py)?;
        let (shared, areas) = (&self.shared, slot.areas());
        Ok(match slot.slot_type() {
            SlotType::Value(of) => Value::open(py, shared, name, *of, None)?.into_any(),
            SlotType::Array(of, shape) => {
                Array::open(py, shared, name, (*of, *shape), None, areas)?.into_any()
            }
            SlotType::Buffer(of, shape) => {
                Buffer::open(py, shared, name, (*of, *shape), None)?.into_any()
            }
            SlotType::Counter => Counter::open(py, shared, name, None)?.into_any(),
            SlotType::Text(capacity) => {
                Text::open(py, shared, name, *capacity, None, areas)?.into_any()
            }
            SlotType::Bytes(capacity) => {
                Bytes::open(py, shared, name, *capacity, None, areas)?.into_any()
            }
            other => {
                let text = format!("slot {name:?} is {other}, which this version cannot open");
                return Err(PyTypeError::new_err(text));
            }
        })
    }

    fn names(&self) -> PyResult<Vec<String>> {
        self.shared.check_open()?;
        let slots = self.shared.store().list("*").map_err(to_py)?;
        slots.map(|slot| slot.map(|slot| slot.name().to_owned()).map_err(to_py)).collect()
    }
}

#[pymethods]
impl Store {
    /// Opens the number of this name, or defines it as `initial`, or zero.
    ///
    /// `dtype` is a numpy dtype or its name ("uint64"), a Python type (int, float, bool), a
    /// ctypes type, or a type code of the `array` module. Raises TypeMismatch if the slot exists
    /// with another type.
    #[pyo3(signature = (name, dtype, initial=None))]
    fn value<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        dtype: &Bound<'py, PyAny>,
        initial: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Value>> {
        self.shared.check_open()?;
        Value::open(py, &self.shared, name, scalar_type(dtype)?, initial)
    }

    /// Opens the array of this name, or defines it with the content `initial`, or all zero.
    /// `shape` is a length, or one to four dimensions.
    ///
    /// With 4 or 8 `areas` instead of two, a large array is read faster beside a writer that
    /// never pauses.
    #[pyo3(signature = (name, dtype, shape, initial=None, *, areas=Integer::LeftOut(2)), text_signature = "($self, name, dtype, shape, initial=None, *, areas=2)")]
    fn array<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        dtype: &Bound<'py, PyAny>,
        shape: &Bound<'py, PyAny>,
        initial: Option<&Bound<'py, PyAny>>,
        areas: Integer<'_, '_>,
    ) -> PyResult<Bound<'py, Array>> {
        self.shared.check_open()?;
        let of = (scalar_type(dtype)?, dimensions(shape)?);
        let areas = areas.of(&of_slot(name, "areas"), "2 to 8")? as usize;
        Array::open(py, &self.shared, name, of, initial, areas)
    }

    /// Opens the buffer of this name, or defines it: raw memory for views without a copy.
    #[pyo3(signature = (name, dtype, shape, initial=None))]
    fn buffer<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        dtype: &Bound<'py, PyAny>,
        shape: &Bound<'py, PyAny>,
        initial: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Buffer>> {
        self.shared.check_open()?;
        let of = (scalar_type(dtype)?, dimensions(shape)?);
        Buffer::open(py, &self.shared, name, of, initial)
    }

    /// Opens the counter of this name, or defines it as `initial`: an integer of 64 bits, to which
    /// many processes add without getting in each other's way.
    #[pyo3(signature = (name, initial=None))]
    fn counter<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        initial: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Counter>> {
        self.shared.check_open()?;
        Counter::open(py, &self.shared, name, initial)
    }

    /// Opens the text of this name, or defines it for at most `capacity` bytes of UTF-8.
    #[pyo3(signature = (name, capacity, initial=None, *, areas=Integer::LeftOut(2)), text_signature = "($self, name, capacity, initial=None, *, areas=2)")]
    fn text<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        capacity: Integer<'_, '_>,
        initial: Option<&str>,
        areas: Integer<'_, '_>,
    ) -> PyResult<Bound<'py, Text>> {
        self.shared.check_open()?;
        let capacity = capacity.of(&of_slot(name, "capacity"), "1 to 34359738352")? as usize;
        let areas = areas.of(&of_slot(name, "areas"), "2 to 8")? as usize;
        Text::open(py, &self.shared, name, capacity, initial, areas)
    }

    /// Opens the bytes of this name, or defines them for at most `capacity` bytes.
    #[pyo3(signature = (name, capacity, initial=None, *, areas=Integer::LeftOut(2)), text_signature = "($self, name, capacity, initial=None, *, areas=2)")]
    fn bytes<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        capacity: Integer<'_, '_>,
        initial: Option<&[u8]>,
        areas: Integer<'_, '_>,
    ) -> PyResult<Bound<'py, Bytes>> {
        self.shared.check_open()?;
        let capacity = capacity.of(&of_slot(name, "capacity"), "1 to 34359738352")? as usize;
        let areas = areas.of(&of_slot(name, "areas"), "2 to 8")? as usize;
        Bytes::open(py, &self.shared, name, capacity, initial, areas)
    }

    fn __getitem__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.slot(py, name)
    }

    fn __contains__(&self, name: &str) -> PyResult<bool> {
        self.shared.check_open()?;
        match self.shared.store().slot(name) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. } | Error::BadName { .. }) => Ok(false),
            Err(error) => Err(to_py(error)),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyList::new(py, self.names()?)?.try_iter()?.into_any())
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.names()?.len())
    }

    /// TypeError: a slot is not replaced, but its content is.
    fn __setitem__(&self, name: &str, _content: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyTypeError::new_err(format!(
            "{}: slot {name:?}: a store cannot be assigned to; set the content of a slot, as in \
             `store[{name:?}].value = 5`, `store[{name:?}][:] = 5` or `store.value({name:?}, int, \
             initial=5)`",
            self.shared.path()
        )))
    }

    /// Removes the slot: its name is free at once. Old handles can still read the last content;
    /// their updates raise Removed.
    fn __delitem__(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.shared.check_open()?;
        waiting(py, self.shared.options.lock_timeout)
            .run(self.shared.store(), |store| store.remove(name))
    }

    /// The name of a slot that is most like this one, or None: to suggest it to a person who has
    /// mistyped it. Looks at all names, about a microsecond each.
    ///
    /// >>> store = slotfile.temporary()
    /// >>> _ = store.value("temperature", float)
    /// >>> store.closest_name("temprature")
    /// 'temperature'
    fn closest_name(&self, py: Python<'_>, name: &str) -> PyResult<Option<String>> {
        self.shared.check_open()?;
        Ok(py.detach(|| self.shared.store().closest_name(name, usize::MAX)))
    }

    /// The names of all slots, in the order of their definition.
    fn keys(&self) -> PyResult<Vec<String>> {
        self.names()
    }

    /// An atomic update of these slots: all of it happens, or nothing.
    ///
    /// The `with` block reads and stores contents with `tx[slot]`, or changes an array with
    /// `tx.update(array)`. All changes happen at one instant, at the end of the block; an
    /// exception or a kill undoes them. The block runs once: the slots are locked from its
    /// beginning, in an order that excludes deadlocks. Reads never wait.
    ///
    /// >>> store = slotfile.temporary()
    /// >>> a, b = store.value("a", int, initial=20), store.value("b", int)
    /// >>> with store.transaction(a, b) as tx:
    /// ...     tx[a] -= 5
    /// ...     tx[b] += 5
    /// >>> store.snapshot(a, b)
    /// (15, 5)
    #[pyo3(signature = (*slots))]
    fn transaction(&self, slots: Vec<Py<Slot>>) -> PyResult<Transaction> {
        self.shared.check_open()?;
        Ok(Transaction::new(&self.shared, slots))
    }

    /// The contents of these slots at one instant. Never waits.
    #[pyo3(signature = (*slots))]
    fn snapshot<'py>(
        &self,
        py: Python<'py>,
        slots: Vec<Py<Slot>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.shared.check_open()?;
        transaction::snapshot(py, &self.shared, &slots)
    }

    /// Iterates over the changes, from now on, of all slots whose names match, including slots
    /// defined later. Of several changes of one slot, only the last may be seen. It ends after
    /// `timeout` seconds without a change (None: never).
    ///
    /// In a pattern, `*` matches any characters, `?` any one, `[...]` one of a set. With
    /// `present`, it begins with the current content of each slot.
    ///
    /// >>> store = slotfile.temporary()
    /// >>> watch = store.watch("arm/*", timeout=0.5)
    /// >>> x = store.value("arm/x", float, initial=1.5)
    /// >>> next(watch)
    /// SlotChange(name='arm/x', version=0, content=1.5, removed=False)
    #[pyo3(signature = (pattern="*", *, timeout=None, present=false))]
    fn watch(&self, pattern: &str, timeout: Option<f64>, present: bool) -> PyResult<Watch> {
        self.shared.check_open()?;
        let watch = self.shared.store().watch(pattern).map_err(to_py)?;
        let watch = if present { watch.with_present() } else { watch };
        Ok(Watch::new(&self.shared, watch, seconds(timeout)?))
    }

    /// Makes all changes until now survive a power cut. (By default, a sync happens every
    /// second while something changes.)
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.check_open()?;
        self.shared.sync(py)
    }

    /// What this process found and did when it first opened the store.
    #[getter]
    fn recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (what, epoch, newer_dropped) = match self.shared.store().recovery() {
            Recovery::Created => ("created", None, false),
            Recovery::Joined => ("joined", None, false),
            Recovery::Resumed => ("resumed", None, false),
            Recovery::Restored { epoch, newer_dropped } => ("restored", Some(epoch), newer_dropped),
            Recovery::Frozen { epoch, newer_dropped } => ("frozen", Some(epoch), newer_dropped),
            Recovery::Emptied => ("emptied", None, false),
            _ => ("unknown", None, false),
        };
        report(py, "Recovery", (what, epoch, newer_dropped))
    }

    /// What the store is, and how full it is.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.shared.check_open()?;
        let info = py.detach(|| self.shared.store().info()).map_err(to_py)?;
        let point = |point: Option<SyncPoint>| {
            let Some(SyncPoint { epoch, at, .. }) = point else { return Ok(None) };
            let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            report(py, "event", (epoch, seconds)).map(Some)
        };
        let open_by = info.open_by.into_iter();
        let open_by: Vec<_> = open_by
            .map(|o| report(py, "AttachedProcess", (o.pid, o.command, o.state.to_string())))
            .collect::<PyResult<_>>()?;
        let fields = PyDict::new(py);
        fields.set_item("path", self.shared.path())?;
        fields.set_item("format", info.format)?;
        fields.set_item("size", info.size)?;
        fields.set_item("allocated", info.allocated)?;
        fields.set_item("max_size", info.max_size)?;
        fields.set_item("free", info.free)?;
        fields.set_item("slots", info.slots)?;
        fields.set_item("definitions_left", info.definitions_left)?;
        fields.set_item("max_slots", info.max_slots)?;
        fields.set_item("last_sync", point(info.last_sync)?)?;
        fields.set_item("last_recovery", point(info.last_recovery)?)?;
        fields.set_item("unsynced", info.unsynced)?;
        fields.set_item("open_by", open_by)?;
        fields.set_item("failed_sync", info.failed_sync.map(|failed| failed.to_string()))?;
        fields.set_item("detached", info.detached.map(|how| how.to_string()))?;
        let class = py.import("slotfile._reports")?.getattr("Info")?;
        class.call((), Some(&fields))
    }

    /// Whether the path no longer leads to the open file, which was deleted, moved or replaced.
    /// A process that opens the path then does not see what is stored here. `info().detached`
    /// says more; `sync` raises Detached.
    fn is_detached(&self) -> PyResult<bool> {
        self.shared.check_open()?;
        Ok(self.shared.store().is_detached())
    }

    /// Verifies everything that can be verified.
    ///
    /// >>> slotfile.temporary().check().ok
    /// True
    fn check<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.shared.check_open()?;
        let timeout = self.shared.options.lock_timeout;
        let check = waiting(py, timeout).detached(self.shared.store(), |store| store.check())?;
        let problems = check.problems.into_iter();
        let problems: Vec<_> =
            problems.map(|p| report(py, "Problem", (p.slot, p.what))).collect::<PyResult<_>>()?;
        report(py, "Check", (problems, check.unverified))
    }

    /// Writes a consistent copy of the store to `path`, while others use the store.
    fn copy_to(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        self.shared.check_open()?;
        let path = path_of(path)?;
        let timeout = self.shared.options.lock_timeout;
        waiting(py, timeout).detached(self.shared.store(), |store| store.copy_to(&path))
    }

    /// The path of the store; None if it is in memory.
    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.shared.options.path.clone()
    }

    /// Whether the store is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.shared.closed()
    }

    /// Syncs and closes the store. Its handles raise ValueError from now on. The file stays
    /// open until the last handle and the last view are gone.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.close(py)
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        slf.get().shared.check_open()?;
        Ok(slf.clone())
    }

    fn __exit__(
        &self,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(exception.py())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.shared.check_open()?;
        let reopen = py.import("slotfile._native")?.getattr("reopen")?;
        (reopen, (self.shared.options.pickled(py)?,)).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { ", closed" } else { "" };
        match &self.shared.options.path {
            Some(path) => format!("<Store {:?}{closed}>", path.display()),
            None => format!("<Store in memory{closed}>"),
        }
    }
}

/// An instance of a class of `slotfile._reports` with these fields.
fn report<'py>(
    py: Python<'py>,
    class: &str,
    fields: impl pyo3::call::PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = py.import("slotfile._reports")?.getattr(class)?;
    class.call1(fields)
}

/// The type of a slot's elements, in any of its spellings.
fn scalar_type(dtype: &Bound<'_, PyAny>) -> PyResult<ScalarType> {
    let scalar_type = dtype.py().import("slotfile._dtype")?.getattr("scalar_type")?;
    scalar_named(scalar_type.call1((dtype,))?.extract()?)
}

/// The name of an argument that is of this slot.
fn of_slot(slot: &str, argument: &str) -> String {
    format!("slot {slot:?}: {argument}")
}

/// A path as Python takes it: str, bytes or os.PathLike.
fn path_of(path: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let os = path.py().import("os")?;
    let decoded = os.call_method1("fsdecode", (path,))?;
    let path: PathBuf = decoded.extract()?;
    let why = match path.as_os_str().as_encoded_bytes() {
        b"" => "the path is empty; it must name a file",
        bytes if bytes.contains(&0) => "embedded null byte",
        _ => return Ok(path),
    };
    Err(invalid(format!("path {}: {why}", decoded.repr()?)))
}

/// A setting in seconds. Refuses -1, which could mean forever or no time at all.
fn setting(name: &str, setting: Option<f64>) -> PyResult<Option<Duration>> {
    match setting {
        Some(setting) if setting.is_nan() || setting < 0.0 => Err(PyValueError::new_err(format!(
            "{name}={setting}: it must be a number of seconds of at least 0, or None"
        ))),
        setting => seconds(setting),
    }
}

/// A length, or one to four dimensions.
fn dimensions(shape: &Bound<'_, PyAny>) -> PyResult<Shape> {
    let dims = shape.extract().map(|len| vec![len]).or_else(|_| shape.extract::<Vec<usize>>());
    if let Some(shape) = dims.ok().and_then(|dims| Shape::new(&dims)) {
        return Ok(shape);
    }
    let dims = shape.extract().unwrap_or_else(|_| vec![shape.clone()]);
    let is_one =
        |dim: &Bound<'_, PyAny>| dim.is_instance_of::<PyInt>() && dim.ge(1).unwrap_or(false);
    let why = match (1..=Shape::MAX_DIMS).contains(&dims.len()) && dims.iter().all(is_one) {
        true => "it is too large: a slot holds at most 32 GiB".into(),
        false => format!(
            "an array has one to {} dimensions, each an integer of at least 1",
            Shape::MAX_DIMS
        ),
    };
    Err(PyValueError::new_err(format!("shape {}: {why}", shape.repr()?)))
}
