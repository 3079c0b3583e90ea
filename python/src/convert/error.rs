//! The library's errors as Python's exceptions.

use std::error::Error as _;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use pyo3::exceptions::{PyIndexError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use slotfile::Error;

mod exceptions {
    use pyo3::import_exception;

    import_exception!(slotfile._errors, Damaged);
    import_exception!(slotfile._errors, Deadlock);
    import_exception!(slotfile._errors, Detached);
    import_exception!(slotfile._errors, Error);
    import_exception!(slotfile._errors, Evicted);
    import_exception!(slotfile._errors, Exists);
    import_exception!(slotfile._errors, FileNotFound);
    import_exception!(slotfile._errors, Full);
    import_exception!(slotfile._errors, Invalid);
    import_exception!(slotfile._errors, IsADirectory);
    import_exception!(slotfile._errors, LockTimeout);
    import_exception!(slotfile._errors, NotFound);
    import_exception!(slotfile._errors, NotPermitted);
    import_exception!(slotfile._errors, NotSynced);
    import_exception!(slotfile._errors, OutOfBounds);
    import_exception!(slotfile._errors, OutOfMemory);
    import_exception!(slotfile._errors, ReadOnly);
    import_exception!(slotfile._errors, Removed);
    import_exception!(slotfile._errors, SystemFailure);
    import_exception!(slotfile._errors, TypeMismatch);
}

/// The exception of an error; `docs/errors.md` has the table.
#[cold]
pub(crate) fn to_py(error: Error) -> PyErr {
    use exceptions as py;
    let text = error.to_string();
    let code = errno(&error);
    match error {
        Error::NotFound { slot: None, path, .. } => {
            py::FileNotFound::new_err(os(Some(libc::ENOENT), text, path))
        }
        Error::NotFound { .. } => py::NotFound::new_err(text),
        Error::Exists { path, .. } => py::Exists::new_err(os(Some(libc::EEXIST), text, path)),
        Error::Type { .. } => py::TypeMismatch::new_err(text),
        Error::BadName { .. }
        | Error::Invalid { .. }
        | Error::TooLong { .. }
        | Error::Length { .. } => py::Invalid::new_err(text),
        Error::Index { .. } => py::OutOfBounds::new_err(text),
        Error::LockTimeout { path, .. }
        | Error::InUse { path, .. }
        | Error::KeepsChanging { path, .. } => py::LockTimeout::new_err(os(None, text, path)),
        Error::NotSynced { path, .. } => py::NotSynced::new_err(os(code, text, path)),
        Error::Detached { .. } => py::Detached::new_err(text),
        Error::Deadlock { .. } => py::Deadlock::new_err(text),
        Error::Removed { .. } => py::Removed::new_err(text),
        Error::Evicted { .. } => py::Evicted::new_err(text),
        Error::ReadOnly { path } => py::ReadOnly::new_err(os(None, text, path)),
        Error::PermissionDenied { path, .. } => py::NotPermitted::new_err(os(code, text, path)),
        Error::NoSpace { path, .. }
        | Error::Full { path, .. }
        | Error::AddressSpace { path, .. }
        | Error::TooManyProcesses { path, .. } => py::Full::new_err(os(code, text, path)),
        Error::OutOfMemory { .. } => py::OutOfMemory::new_err(text),
        Error::NotAStore { path, .. } if path.is_dir() => {
            py::IsADirectory::new_err(os(Some(libc::EISDIR), text, path))
        }
        Error::NotAStore { .. }
        | Error::Version { .. }
        | Error::Corrupt { .. }
        | Error::Truncated { .. } => py::Damaged::new_err(text),
        Error::Io { path, .. } | Error::Unsupported { path, .. } => {
            py::SystemFailure::new_err(os(code, text, path))
        }
        _ => py::Error::new_err(text),
    }
}

/// The exception of an argument that is not valid.
pub(crate) fn invalid(text: String) -> PyErr {
    exceptions::Invalid::new_err(text)
}

/// The number of the system's error that has caused this one.
fn errno(error: &Error) -> Option<i32> {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error()).next()
}

/// The arguments of an OSError.
fn os(errno: Option<i32>, text: String, path: PathBuf) -> (Option<i32>, String, OsString) {
    (errno, text, path.into_os_string())
}

/// The same exception, with file and slot in front of its message, if it is one of those that
/// Python and numpy raise for an argument.
#[cold]
pub(crate) fn of_slot(py: Python<'_>, error: PyErr, path: &Path, slot: &str) -> PyErr {
    let kind = error.get_type(py);
    let is_plain = kind.is(py.get_type::<PyTypeError>())
        || kind.is(py.get_type::<PyValueError>())
        || kind.is(py.get_type::<PyOverflowError>())
        || kind.is(py.get_type::<PyIndexError>());
    if is_plain {
        let text = format!("{}: slot {slot:?}: {}", path.display(), error.value(py));
        // It keeps its traceback. If this fails, the message is the one that it was.
        let _ = error.value(py).setattr("args", (text,));
    }
    error
}

/// Whether it is the exception of a lock timeout.
pub(crate) fn is_timeout(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<exceptions::LockTimeout>(py)
}
