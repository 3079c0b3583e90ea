//! The state that all handles of an open store share, and what is done to all stores at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use slotfile::{Elements, Error};

use crate::convert::copies::elements_of;
use crate::convert::error::{of_slot, to_py};
use crate::runtime::wait::{seconds, waiting};

/// A store as `slotfile.open` opened it.
pub(crate) struct Shared {
    /// Does not wait for locks; see [`waiting`]. `None` only while being dropped.
    store: Option<slotfile::Store>,
    pub(crate) options: Options,
    closed: AtomicBool,
}

/// How to open it again.
#[derive(Clone)]
pub(crate) struct Options {
    /// Absolute; `None` if the store is in memory.
    pub(crate) path: Option<PathBuf>,
    pub(crate) read_only: bool,
    pub(crate) define: bool,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) sync_every: Option<Duration>,
    pub(crate) any_file_system: bool,
}

impl Options {
    /// What [`Options::unpickled`] reads. TypeError for a store in memory.
    pub(crate) fn pickled<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(path) = &self.path else {
            return Err(PyTypeError::new_err(
                "a temporary store has no name, so another process cannot open it: only the \
                 children that this process forks have it",
            ));
        };
        let number = |duration: Option<Duration>| duration.map(|d| d.as_secs_f64());
        let (timeout, every) = (number(self.lock_timeout), number(self.sync_every));
        let flags = (self.read_only, self.define, self.any_file_system);
        Ok((path, flags, timeout, every).into_pyobject(py)?.into_any())
    }

    /// The options that [`Options::pickled`] has made of them.
    pub(crate) fn unpickled(options: &Bound<'_, PyAny>) -> PyResult<Options> {
        let (path, flags, timeout, every): (PathBuf, _, _, _) = options.extract()?;
        let (read_only, define, any_file_system) = flags;
        Ok(Options {
            path: Some(path),
            read_only,
            define,
            lock_timeout: seconds(timeout)?,
            sync_every: seconds(every)?,
            any_file_system,
        })
    }
}

/// All stores that are open, for [`leave_all`].
static OPEN: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

impl Shared {
    pub(crate) fn new(store: slotfile::Store, options: Options) -> Arc<Shared> {
        let store = Some(store.with_lock_timeout(Some(Duration::ZERO)));
        let shared = Arc::new(Shared { store, options, closed: AtomicBool::new(false) });
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| other.strong_count() > 0);
        open.push(Arc::downgrade(&shared));
        shared
    }

    /// ValueError if it is closed, as for closed files.
    #[inline]
    pub(crate) fn check_open(&self) -> PyResult<()> {
        // Relaxed: closing a store while other threads use it has no stronger guarantee.
        if self.closed.load(Ordering::Relaxed) { Err(self.is_closed()) } else { Ok(()) }
    }

    /// The error of an argument, with this file and the slot in front of its message.
    #[cold]
    pub(crate) fn named(&self, error: PyErr, slot: &str) -> PyErr {
        Python::attach(|py| of_slot(py, error, self.store().path(), slot))
    }

    #[cold]
    fn is_closed(&self) -> PyErr {
        PyValueError::new_err(format!("{}: the store is closed", self.path()))
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn path(&self) -> String {
        self.store().path().display().to_string()
    }

    pub(crate) fn store(&self) -> &slotfile::Store {
        self.store.as_ref().expect("there until dropped")
    }

    /// A copy of a slot's first content, for a call that may be repeated.
    pub(crate) fn copy_of(&self, content: &Elements, slot: &str) -> slotfile::Result<Elements> {
        elements_of(content.scalar_type(), content.as_bytes())
            .map_err(|none| none.of(self.store(), slot))
    }

    /// Closes it for all its handles, and syncs as the last handle's drop does.
    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.closed.swap(true, Ordering::Relaxed) {
            true => Ok(()),
            false => self.sync_to_leave(py),
        }
    }

    /// Syncs as the last handle's drop does.
    fn sync_to_leave(&self, py: Python<'_>) -> PyResult<()> {
        let Options { path, read_only, sync_every, .. } = &self.options;
        if path.is_none() || *read_only || sync_every.is_none() {
            return Ok(());
        }
        self.sync_by(py, |store| match store.sync() {
            Err(Error::Invalid { .. }) => Ok(()), // the store keeps no checkpoints
            result => result,
        })
    }

    pub(crate) fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.sync_by(py, slotfile::Store::sync)
    }

    /// Always with the interpreter lock released, since a sync waits for the disk.
    fn sync_by(
        &self,
        py: Python<'_>,
        sync: impl Fn(&slotfile::Store) -> slotfile::Result<()> + Sync,
    ) -> PyResult<()> {
        waiting(py, self.options.lock_timeout).detached(self.store(), sync)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Dropping the last handle leaves the store, which waits for a sync.
        let store = self.store.take();
        let timeout = self.options.lock_timeout;
        let closed = *self.closed.get_mut();
        let _ = Python::try_attach(|py| {
            let left = py.detach(move || match store {
                Some(store) if !closed => store.with_lock_timeout(timeout).close(),
                store => {
                    drop(store);
                    Ok(())
                }
            });
            match left {
                // The file of a store in use may be deleted on purpose.
                Ok(()) | Err(Error::Detached { .. }) => {}
                Err(error) => to_py(error).write_unraisable(py, None),
            }
        });
    }
}

/// Syncs all stores that are still open, since the interpreter may end without dropping them.
/// Does not close them: waiting threads would report that just before they end.
#[pyfunction]
pub(crate) fn leave_all(py: Python<'_>) {
    let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    for shared in open.iter().filter_map(Weak::upgrade) {
        if shared.closed.load(Ordering::Relaxed) {
            continue;
        }
        if let Err(error) = shared.sync_to_leave(py) {
            error.write_unraisable(py, None);
        }
    }
}

fn all_open() -> Vec<Arc<Shared>> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.iter().filter_map(Weak::upgrade).collect()
}

/// Ends all threads of this module before a fork, since CPython warns of a fork with threads.
#[pyfunction]
pub(crate) fn before_fork(py: Python<'_>) {
    let open = all_open();
    py.detach(|| open.iter().for_each(|shared| shared.store().pause_syncing()));
}

/// Starts them again in the parent: it may never write, but its children do.
#[pyfunction]
pub(crate) fn after_fork_in_parent(py: Python<'_>) {
    let open = all_open();
    py.detach(|| open.iter().for_each(|shared| shared.store().resume_syncing()));
}
