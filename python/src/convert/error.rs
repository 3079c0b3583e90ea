//! The library's errors as Python's exceptions.

use std::error::Error as _;

use pyo3::PyErr;
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
    // The `errno` of the OSError.
    let code = error.source().and_then(|e| e.downcast_ref::<std::io::Error>()?.raw_os_error());
    match error {
        Error::NotFound { slot: None, .. } => py::FileNotFound::new_err(text),
        Error::NotFound { .. } => py::NotFound::new_err(text),
        Error::Exists { .. } => py::Exists::new_err(text),
        Error::Type { .. } => py::TypeMismatch::new_err(text),
        Error::BadName { .. }
        | Error::Invalid { .. }
        | Error::TooLong { .. }
        | Error::Length { .. } => py::Invalid::new_err(text),
        Error::Index { .. } => py::OutOfBounds::new_err(text),
        Error::LockTimeout { .. } | Error::InUse { .. } | Error::KeepsChanging { .. } => {
            py::LockTimeout::new_err(text)
        }
        Error::NotSynced { .. } => py::NotSynced::new_err(text),
        Error::Detached { .. } => py::Detached::new_err(text),
        Error::Deadlock { .. } => py::Deadlock::new_err(text),
        Error::Removed { .. } => py::Removed::new_err(text),
        Error::Evicted { .. } => py::Evicted::new_err(text),
        Error::ReadOnly { .. } => py::ReadOnly::new_err(text),
        Error::PermissionDenied { .. } => py::NotPermitted::new_err(text),
        Error::Full { .. } | Error::AddressSpace { .. } | Error::TooManyProcesses { .. } => {
            py::Full::new_err(text)
        }
        Error::OutOfMemory { .. } => py::OutOfMemory::new_err(text),
        Error::NoSpace { .. } => match code {
            Some(code) => py::Full::new_err((code, text)),
            None => py::Full::new_err(text),
        },
        Error::NotAStore { .. }
        | Error::Version { .. }
        | Error::Corrupt { .. }
        | Error::Truncated { .. } => py::Damaged::new_err(text),
        Error::Io { .. } => match code {
            Some(code) => py::SystemFailure::new_err((code, text)),
            None => py::SystemFailure::new_err(text),
        },
        Error::Unsupported { .. } => py::SystemFailure::new_err(text),
        _ => py::Error::new_err(text),
    }
}

/// Whether it is the exception of a lock timeout.
pub(crate) fn is_timeout(py: pyo3::Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<exceptions::LockTimeout>(py)
}
