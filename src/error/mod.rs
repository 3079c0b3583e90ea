//! The one error type. What each variant says to a user is in `message.rs`.
//!
//! May use: `types`. Begin with [`Error`].

mod message;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::types::data::ContentError;
use crate::types::detached::Detached;
use crate::types::dtype::{Shape, SlotType};
use crate::types::opener::AttachedProcess;

pub(crate) use message::link_to_nowhere;

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done. Nothing was changed by a call that failed,
/// unless its documentation says otherwise.
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
    /// The operating system said no.
    Io {
        /// The store.
        path: PathBuf,
        /// What was being done, as in "cannot map the file".
        doing: &'static str,
        /// What it said.
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
    /// There is no such file, or no such slot in it.
    NotFound {
        /// The store.
        path: PathBuf,
        /// The slot that was asked for; `None`: the file itself is not there.
        slot: Option<String>,
        /// The slot with the most similar name, if one comes close.
        closest: Option<String>,
        /// Where the path, a symbolic link, leads, if it is that which is not there.
        link: Option<PathBuf>,
    },
    /// The file is there already, or the slot.
    Exists {
        /// The store.
        path: PathBuf,
        /// The slot; `None`: the file itself.
        slot: Option<String>,
        /// What is there in place of the file, where that is not a file: a folder, say.
        found: Option<String>,
    },
    /// The file is no store, or no file at all.
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
    /// Bytes of the file are not what they must be.
    Corrupt {
        /// The store.
        path: PathBuf,
        /// The slot it concerns, if it concerns one.
        slot: Option<String>,
        /// What was expected and what was found.
        what: String,
    },
    /// The file is shorter than its own header says.
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
    /// A limit that was set when the store was created has been reached.
    Full {
        /// The store.
        path: PathBuf,
        /// Which one: `max_slots` or `max_size`.
        limit: &'static str,
        /// How much of it there is.
        size: u64,
        /// Removed slots, which count until the store is
        /// [compacted](crate::Store::compact).
        removed: u64,
    },
    /// This process has not enough addresses for what the file has grown to.
    AddressSpace {
        /// The store.
        path: PathBuf,
        /// Bytes of the file that would have to be mapped.
        need: u64,
        /// Bytes that are mapped.
        reserved: u64,
    },
    /// There is not enough memory for the content of a slot, as for one of a damaged file that
    /// claims to be larger than all there is.
    OutOfMemory {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
        /// Bytes that were to be had.
        need: usize,
    },
    /// Every entry of the process table is held by a living thread.
    TooManyProcesses {
        /// The store.
        path: PathBuf,
        /// Entries in the table.
        size: usize,
    },
    /// A lock was not to be had in time. It was not taken away from its holder.
    LockTimeout {
        /// The store.
        path: PathBuf,
        /// The slot, or which lock of the store.
        slot: String,
        /// The process that holds it, if that could be told.
        holder: Option<AttachedProcess>,
        /// How long was waited.
        waited: Duration,
    },
    /// A sync in the background has failed since the last call that could tell. That call, which
    /// returns this, has changed nothing; what was committed before is there, but what has changed
    /// since the last sync would not survive a power cut.
    NotSynced {
        /// The store.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// The file was deleted, moved or replaced while it was open: what was stored, and synced, is
    /// not found by those who open the path.
    Detached {
        /// The store.
        path: PathBuf,
        /// What has become of its file.
        how: Detached,
    },
    /// Others have the store open, and it would have to be nobody's.
    InUse {
        /// The store.
        path: PathBuf,
        /// Those who are known.
        by: Vec<AttachedProcess>,
        /// How long was waited.
        waited: Duration,
    },
    /// What was to be copied as of one instant, by a sync or a copy of the store, changed again
    /// and again. Nothing is lost: the last sync is what it was.
    KeepsChanging {
        /// The store.
        path: PathBuf,
        /// What changed, as in `slot "hits"`.
        what: String,
        /// How long was tried.
        waited: Duration,
    },
    /// This thread holds the slot's lock in a way that the call would wait for for ever; or it
    /// begins a transaction inside of another one on the same store.
    Deadlock {
        /// The store.
        path: PathBuf,
        /// The slot; `None`: it is about a transaction inside of another.
        slot: Option<String>,
    },
    /// Others have changed or locked the slot meanwhile, so the closure of
    /// [`Store::transaction`](crate::Store::transaction) or
    /// [`Store::snapshot`](crate::Store::snapshot) is about to run again, which passes it on.
    /// A transaction without a closure is lost with it, and to be begun anew.
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
    /// The lock was lost before the update could be committed: its guard was dropped, or its
    /// thread has ended; this is a forked copy of the process that took it; or others took this
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
    /// A text or bytes longer than the slot's capacity.
    TooLong {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
        /// Bytes it can hold.
        capacity: usize,
        /// Bytes that were to be stored.
        length: usize,
    },
    /// Another number of elements than the slot, or the range of it, has.
    Length {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
        /// Elements there.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// An index or range outside of the array.
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
    /// A number that the slot's type cannot hold.
    OutOfRange {
        /// The store.
        path: PathBuf,
        /// The slot.
        slot: String,
        /// What is wrong with which value, and the range.
        what: String,
    },
    /// A name that no slot can have.
    BadName {
        /// The store.
        path: PathBuf,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A definition or an option that no store can have.
    Invalid {
        /// The store.
        path: PathBuf,
        /// The slot, if it is one's definition.
        slot: Option<String>,
        /// What is wrong with it.
        what: String,
    },
    /// This machine or file system lacks what a store needs.
    Unsupported {
        /// The store.
        path: PathBuf,
        /// What is lacking.
        what: String,
    },
}

thread_local! {
    /// Why a store's file could last not be opened anew.
    static LOST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Notes why a store's file, whose descriptor is lost, could not be opened anew.
pub(crate) fn note_lost_file(why: &io::Error) {
    let _ = LOST.try_with(|lost| *lost.borrow_mut() = why.to_string());
}

/// What EBADF means of a store's file.
fn lost_file() -> String {
    let why = LOST.try_with(|lost| lost.borrow().clone()).unwrap_or_default();
    format!(
        "its descriptor is not open: this program has closed it, or is the child of a fork that \
         may not open the file itself; and the file could not be opened anew ({why}); leave the \
         descriptors of open stores alone, give this user access to the file, or open the store \
         again"
    )
}

impl Error {
    /// An error of the operating system, sorted into the variant that callers can act on.
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Error {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOENT) => Error::NotFound { path, slot: None, closest: None, link: None },
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

    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), slot: None, what: what.into() }
    }

    /// Why this data is no content of a slot.
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
        }
    }

    /// The same error, of this slot.
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
