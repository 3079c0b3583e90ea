//! The crate's one error type. The messages are in `message.rs`.
//!
//! May use: `types`. Begin with [`Error`].

mod message;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::types::attached_process::AttachedProcess;
use crate::types::data::ContentError;
use crate::types::detached::Detached;
use crate::types::shape::Shape;
use crate::types::slot_type::SlotType;

pub(crate) use message::link_to_nowhere;

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done. A call that failed has changed nothing, unless its
/// documentation says otherwise.
///
/// ```
/// use slotfile::{Error, Store};
/// let store = Store::temporary()?;
/// store.value::<u64>("hits")?;
/// let error = store.value::<i64>("hits").unwrap_err();
/// assert!(matches!(error, Error::Type { .. }));
/// assert!(error.to_string().contains("slot \"hits\" is u64"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system returned an error.
    Io {
        /// The store.
        path: PathBuf,
        /// What was being done, as in "cannot map the file".
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file's mode or owner, or the file system, forbids it.
    PermissionDenied {
        /// The store.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The store was opened read-only.
    ReadOnly {
        /// The store.
        path: PathBuf,
    },
    /// The file does not exist, or the slot does not.
    NotFound {
        /// The store.
        path: PathBuf,
        /// The slot that was asked for; `None`: the file itself does not exist.
        slot: Option<String>,
        /// The target of the path, if the path is a symbolic link whose target does not exist.
        link: Option<PathBuf>,
        /// The folder in which the file was to be created, if that does not exist.
        folder: Option<PathBuf>,
    },
    /// The file or the slot already exists.
    Exists {
        /// The store.
        path: PathBuf,
        /// The slot; `None`: the file itself.
        slot: Option<String>,
        /// What is there instead of a file, such as a folder.
        found: Option<String>,
    },
    /// The file is not a store, or the path is not a file.
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is, or what is wrong with it.
        why: String,
    },
    /// A store of another format version.
    Version {
        /// The store.
        path: PathBuf,
        /// Its format, major and minor.
        found: (u32, u32),
        /// The newest format that this build reads.
        supported: (u32, u32),
    },
    /// Bytes of the file are not valid.
    Corrupt {
        /// The store.
        path: PathBuf,
        /// The slot concerned, if any.
        slot: Option<String>,
        /// What was expected and what was found.
        what: String,
    },
    /// The file is shorter than its header says.
    Truncated {
        /// The store.
        path: PathBuf,
        /// Bytes it has.
        have: u64,
        /// Bytes it should have.
        need: u64,
    },
    /// The file system has no room for the blocks that are needed.
    NoSpace {
        /// The store.
        path: PathBuf,
        /// Bytes that were to be allocated.
        need: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// A limit set when the store was created has been reached.
    Full {
        /// The store.
        path: PathBuf,
        /// The limit: `max_slots`, `max_size`, or `lines` of the directory, of which a long doc takes
        /// many.
        limit: &'static str,
        /// Its value.
        size: u64,
        /// Removed slots. They count until the store is [compacted](crate::Store::compact).
        removed: u64,
    },
    /// This process does not have enough address space for the file, which has grown.
    AddressSpace {
        /// The store.
        path: PathBuf,
        /// Bytes of the file that need to be mapped.
        need: u64,
        /// Bytes that are mapped.
        reserved: u64,
    },
    /// There is not enough memory for the content of a slot; for example, a damaged file claims a
    /// slot larger than all memory.
    OutOfMemory {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
        /// Bytes that were needed.
        need: usize,
    },
    /// Every entry of the process table is held by a living thread.
    TooManyProcesses {
        /// The store.
        path: PathBuf,
        /// Entries in the table.
        size: usize,
    },
    /// A lock could not be acquired in time. Its holder still has it.
    LockTimeout {
        /// The store.
        path: PathBuf,
        /// The slot, or which lock of the store.
        slot: String,
        /// The process that holds it, if known.
        holder: Option<AttachedProcess>,
        /// How long the call waited.
        waited: Duration,
    },
    /// A sync in the background has failed since the last call that could report it. The call that
    /// returns this has changed nothing. What was committed before is still there, but what has
    /// changed since the last sync would not survive a power cut.
    NotSynced {
        /// The store.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// The file was deleted, moved or replaced while it was open. What was stored and synced in it
    /// cannot be found through the path.
    Detached {
        /// The store.
        path: PathBuf,
        /// What has happened to the file.
        how: Detached,
    },
    /// Other processes have the store open, and the call needs it closed.
    InUse {
        /// The store.
        path: PathBuf,
        /// The processes that are known.
        by: Vec<AttachedProcess>,
        /// How long the call waited.
        waited: Duration,
    },
    /// What a sync or a copy was to copy as of one instant kept changing. Nothing is lost: the last
    /// sync still stands.
    KeepsChanging {
        /// The store.
        path: PathBuf,
        /// What changed, as in `slot "hits"`.
        what: String,
        /// How long the call tried.
        waited: Duration,
    },
    /// The call would wait forever for a lock that this thread holds, or it would begin a
    /// transaction inside another one of this thread on the same store.
    Deadlock {
        /// The store.
        path: PathBuf,
        /// The slot; `None`: a transaction inside another.
        slot: Option<String>,
    },
    /// Others have changed or locked the slot meanwhile. The closure of
    /// [`Store::transaction`](crate::Store::transaction) or
    /// [`Store::snapshot`](crate::Store::snapshot) returns this error and is run again. A
    /// transaction without a closure is over: begin a new one.
    Conflict {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
    },
    /// The slot was removed.
    Removed {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
    },
    /// The lock was lost before the update could be committed. Its guard was dropped, its thread
    /// has ended, this process is a forked copy of the one that took it, or others took this
    /// process for dead.
    Evicted {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
    },
    /// The slot has another type or shape.
    Type {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
        /// What was asked for.
        asked: Box<SlotType>,
        /// What is there.
        found: Box<SlotType>,
    },
    /// The text or bytes are longer than the slot's capacity.
    TooLong {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
        /// Bytes the slot can hold.
        capacity: usize,
        /// Bytes that were to be stored.
        length: usize,
    },
    /// The number of elements is not that of the slot, or of the range of it.
    Length {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
        /// Elements in the slot or range.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// An index or range outside the array.
    Index {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
        /// The index, as written.
        index: String,
        /// The array's shape.
        shape: Shape,
    },
    /// Not a valid slot name.
    BadName {
        /// The store.
        path: PathBuf,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A definition or option that is not valid.
    Invalid {
        /// The store.
        path: PathBuf,
        /// The slot, if the definition is of a slot.
        slot: Option<String>,
        /// What is wrong with it.
        what: String,
    },
    /// This machine or file system lacks what a store needs.
    Unsupported {
        /// The store.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
}

thread_local! {
    /// Why the last attempt to reopen a store's file failed. Beside the errors, as a `StoreFile` is
    /// used as a `File`: its caller gets only the EBADF of a number that is not open.
    static LOST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Notes why a store's file could not be reopened after its descriptor was lost.
pub(crate) fn note_lost_file(why: &io::Error) {
    let _ = LOST.try_with(|lost| *lost.borrow_mut() = why.to_string());
}

/// What EBADF means for a store's file.
fn lost_file() -> String {
    let why = LOST.try_with(|lost| lost.borrow().clone()).unwrap_or_default();
    format!(
        "its descriptor is not open: this program has closed it, or is the child of a fork and may \
         not open the file itself; reopening the file failed ({why}); do not close the descriptors \
         of open stores, give this user access to the file, or open the store again"
    )
}

impl Error {
    /// The limit of [`Error::Full`] that is the directory's.
    pub(crate) const LINES: &'static str = "lines";

    /// An error of the operating system, as the variant that callers can act on.
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Error {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOENT) => Error::NotFound { path, slot: None, link: None, folder: None },
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
                Error::PermissionDenied { path, doing, source }
            }
            Some(libc::EBADF) => {
                let source = io::Error::other(lost_file());
                Error::Io { path, doing, source }
            }
            _ => Error::Io { path, doing, source },
        }
    }

    /// [`Error::Corrupt`] of the store itself, not of one slot.
    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), slot: None, what: what.into() }
    }

    /// Why this data cannot be the content of the slot.
    pub(crate) fn content_error(
        why: ContentError,
        path: &Path,
        slot: &str,
        found: &SlotType,
    ) -> Error {
        let (path, slot) = (path.to_owned(), slot.to_owned());
        match why {
            ContentError::Type { asked } => {
                Error::Type { path, slot, asked: asked.into(), found: found.clone().into() }
            }
            ContentError::Length { expected, found } => {
                Error::Length { path, slot, expected, found }
            }
            ContentError::TooLong { capacity, length } => {
                Error::TooLong { path, slot, capacity, length }
            }
            ContentError::Memory(none) => Error::OutOfMemory { path, slot, need: none.need },
        }
    }

    /// The same error of this store once more, for another caller, which has waited this long.
    #[cfg(feature = "tokio")]
    pub(crate) fn again(&self, path: &Path, waited: Duration) -> Error {
        let again = |source: &io::Error| match source.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(source.kind(), source.to_string()),
        };
        let path = path.to_owned();
        match self {
            Error::Io { doing, source, .. } => Error::Io { path, doing, source: again(source) },
            Error::PermissionDenied { doing, source, .. } => {
                Error::PermissionDenied { path, doing, source: again(source) }
            }
            Error::NoSpace { need, source, .. } => {
                Error::NoSpace { path, need: *need, source: again(source) }
            }
            Error::Corrupt { slot, what, .. } => {
                Error::Corrupt { path, slot: slot.clone(), what: what.clone() }
            }
            Error::Truncated { have, need, .. } => {
                Error::Truncated { path, have: *have, need: *need }
            }
            Error::AddressSpace { need, reserved, .. } => {
                Error::AddressSpace { path, need: *need, reserved: *reserved }
            }
            Error::OutOfMemory { slot, need, .. } => {
                Error::OutOfMemory { path, slot: slot.clone(), need: *need }
            }
            Error::TooManyProcesses { size, .. } => Error::TooManyProcesses { path, size: *size },
            Error::LockTimeout { slot, holder, .. } => {
                Error::LockTimeout { path, slot: slot.clone(), holder: holder.clone(), waited }
            }
            Error::KeepsChanging { what, waited, .. } => {
                Error::KeepsChanging { path, what: what.clone(), waited: *waited }
            }
            Error::Invalid { slot, what, .. } => {
                Error::Invalid { path, slot: slot.clone(), what: what.clone() }
            }
            // No sync ends in another one.
            other => {
                let source = io::Error::other(other.to_string());
                Error::Io { path, doing: "cannot sync", source }
            }
        }
    }

    /// The same error; if it is [`Error::Corrupt`], with the name of the slot concerned.
    pub(crate) fn of_slot(mut self, name: &str) -> Error {
        if let Error::Corrupt { slot, .. } = &mut self {
            *slot = Some(name.to_owned());
        }
        self
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. }
            | Error::NoSpace { source, .. }
            | Error::PermissionDenied { source, .. } => Some(source),
            Error::NotSynced { source, .. } => Some(source),
            _ => None,
        }
    }
}
