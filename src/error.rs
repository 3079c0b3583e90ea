//! The one error type. Every message names the file, the slot, what was
//! expected and what was found, and what to do about it.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::os::location::Detached;
use crate::os::process::{Opener, ProcessState};
use crate::types::dtype::{Shape, SlotType};

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
        holder: Option<Opener>,
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
        by: Vec<Opener>,
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

    /// The same error, of this slot.
    pub(crate) fn of_slot(mut self, name: &str) -> Error {
        if let Error::Corrupt { slot, .. } = &mut self {
            *slot = Some(name.to_owned());
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Error::*;
        match self {
            Io { path, doing, source } => write!(f, "{}: {doing}: {source}", path.display()),
            PermissionDenied { path, source, .. } if source.raw_os_error() == Some(libc::EROFS) => {
                write!(f, "{}: the file system is mounted read-only", path.display())
            }
            PermissionDenied { path, doing, .. } => write!(
                f,
                "{}: {doing}: not allowed; check the owner and mode of the file and its folder",
                path.display()
            ),
            ReadOnly { path } => write!(
                f,
                "{}: the store was opened read-only; open it for writing to change it",
                path.display()
            ),
            NotFound { path, slot: None, link: Some(link), .. } => {
                write!(f, "{}: it is {}", path.display(), link_to_nowhere(link))
            }
            NotFound { path, slot: None, .. } => write!(
                f,
                "{}: no such file; create the store first, with `slotfile create {}`",
                path.display(),
                shell_word(path)
            ),
            NotFound { path, slot: Some(slot), closest, .. } => {
                write!(f, "{}: no slot {slot:?}", path.display())?;
                match closest {
                    Some(name) => write!(f, "; did you mean {name:?}?"),
                    None => write!(f, "; `slotfile ls {}` lists those there are", shell_word(path)),
                }
            }
            Exists { path, slot: Some(slot), .. } => {
                write!(f, "{}: slot {slot:?} is there already", path.display())
            }
            Exists { path, slot: None, found: Some(found) } => {
                write!(f, "{}: it is {found}; choose another name", path.display())
            }
            Exists { path, slot: None, found: None } => write!(
                f,
                "{}: the file is there already; open it, or choose another name",
                path.display()
            ),
            NotAStore { path, why } => write!(f, "{}: not a store: {why}", path.display()),
            Version { path, found, supported } => {
                let remedy = match found.0 {
                    0 => "that format was never released: make the store anew",
                    _ => "use a slotfile as new as the one that wrote it",
                };
                let (path, (major, minor)) = (path.display(), found);
                let (our_major, our_minor) = supported;
                write!(
                    f,
                    "{path}: format {major}.{minor}, but this build reads {our_major}.{our_minor}; \
                     {remedy}"
                )
            }
            Corrupt { path, slot: None, what } => {
                write!(f, "{}: damaged: {what}; restore it from a copy", path.display())
            }
            Corrupt { path, slot: Some(slot), what } => write!(
                f,
                "{}: slot {slot:?} is damaged: {what}; restore the file from a copy",
                path.display()
            ),
            Truncated { path, have, need } => write!(
                f,
                "{}: truncated: it has {have} bytes and should have at least {need}; restore it \
                 from a copy",
                path.display()
            ),
            NoSpace { path, need, source } => write!(
                f,
                "{}: no room for {need} more bytes ({source}); free some space and try again, \
                 nothing was changed",
                path.display()
            ),
            Full { path, limit, size, removed: 0 } => write!(
                f,
                "{}: full: {limit} is {size}; copy what you need into a store created with more",
                path.display()
            ),
            Full { path, limit, size, removed } => write!(
                f,
                "{}: full: {limit} is {size}, and {removed} removed slots still count; give back \
                 their part with `slotfile compact {}`",
                path.display(),
                shell_word(path)
            ),
            AddressSpace { path, need, reserved } => write!(
                f,
                "{}: the file has grown to {need} bytes, and this process can map only {reserved}: \
                 a limit on its addresses is reached, or other things have those behind the \
                 mapping; raise the limit (ulimit -v), or close the store and open it again",
                path.display()
            ),
            TooManyProcesses { path, size } => write!(
                f,
                "{}: all {size} entries of the process table are taken by threads that have locks, \
                 or wait for them; try again when they are done",
                path.display()
            ),
            LockTimeout { path, slot, holder, waited } => {
                write!(f, "{}: {slot:?} is locked; gave up after {waited:?}; ", path.display())?;
                let Some(holder) = holder else {
                    return write!(f, "its holder is not known: wait for it");
                };
                write!(f, "its holder is {holder}: ")?;
                match holder.state {
                    ProcessState::Running if holder.pid == std::process::id() => {
                        write!(f, "wait for this process's other thread")
                    }
                    // Only of one that was seen alive: another process may have the number.
                    ProcessState::Running => write!(f, "wait for it, or end it"),
                    ProcessState::Dying => write!(
                        f,
                        "wait until the kernel has taken its memory apart, and written its core \
                         dump if it is to have one"
                    ),
                    ProcessState::Ended => write!(f, "a process that it started has the lock"),
                    _ => write!(f, "wait for it"),
                }
            }
            NotSynced { path, source } => write!(
                f,
                "{}: not done, as the last sync in the background failed, and what has changed since \
                 the one before would not survive a power cut; see to that, and do it again: {source}",
                path.display()
            ),
            Detached { path, how } => write!(
                f,
                "{}: {how}; what is stored in it is not found by its path: open the path anew, and \
                 copy (copy_to) what only this one has",
                path.display()
            ),
            InUse { path, by, waited } => {
                let path = path.display();
                if by.iter().any(|opener| opener.pid == std::process::id()) {
                    return write!(
                        f,
                        "{path}: this program has another handle of it; drop all of them"
                    );
                }
                write!(f, "{path}: it is open elsewhere")?;
                for (at, opener) in by.iter().enumerate() {
                    write!(f, "{} {opener}", if at == 0 { ":" } else { "," })?;
                }
                if by.is_empty() {
                    write!(f, ": who has it open cannot be seen from here")?;
                }
                write!(
                    f,
                    "; close it there, or wait longer (lock_timeout, --lock-timeout); gave up after {waited:.1?}"
                )
            }
            KeepsChanging { path, what, waited } => write!(
                f,
                "{}: {what} kept changing for {waited:.1?}, so that nothing could be copied as of \
                 one instant; give it more time (lock_timeout, --lock-timeout), or pause what \
                 changes it",
                path.display()
            ),
            Deadlock { path, slot: Some(slot) } => write!(
                f,
                "{}: slot {slot:?} is locked by this very thread, which would wait for itself; \
                 do it inside the update or transaction, through what that was given, or after it",
                path.display()
            ),
            Deadlock { path, slot: None } => write!(
                f,
                "{}: a transaction inside of another one of this thread; do all of it in one, or \
                 one after the other",
                path.display()
            ),
            Conflict { path, slot } => write!(
                f,
                "{}: slot {slot:?} was changed or locked by others meanwhile; pass this error on \
                 with `?`, and the closure is run again (or begin the transaction anew)",
                path.display()
            ),
            Removed { path, slot } => write!(
                f,
                "{}: slot {slot:?} was removed; define it again, or open the new one",
                path.display()
            ),
            Evicted { path, slot } => write!(
                f,
                "{}: slot {slot:?}: the lock was lost before the update was committed (its guard \
                 was dropped, its thread has ended, it was taken before a fork, or its process \
                 taken for dead); nothing was changed, do it again",
                path.display()
            ),
            Type { path, slot, asked, found } => write!(
                f,
                "{}: slot {slot:?} is {found}, not {asked}; open it as {found}, or `slotfile rm \
                 {} {}` and define it anew",
                path.display(),
                shell_word(path),
                shell_word(slot)
            ),
            TooLong { path, slot, capacity, length } => write!(
                f,
                "{}: slot {slot:?} holds at most {capacity} bytes, not {length}; shorten it, or \
                 define a larger slot",
                path.display()
            ),
            Length { path, slot, expected, found } => write!(
                f,
                "{}: slot {slot:?}: {expected} elements expected, {found} given",
                path.display()
            ),
            Index { path, slot, index, shape } => write!(
                f,
                "{}: slot {slot:?}: index {index} is outside of its shape [{shape}]",
                path.display()
            ),
            OutOfRange { path, slot, what } => {
                write!(f, "{}: slot {slot:?}: {what}", path.display())
            }
            BadName { path, name, why } => write!(
                f,
                "{}: {name:?} cannot name a slot: {why}; a name is 1 to 255 bytes of UTF-8 \
                 without control characters",
                path.display()
            ),
            Invalid { path, slot: None, what } => write!(f, "{}: {what}", path.display()),
            Invalid { path, slot: Some(slot), what } => {
                write!(f, "{}: slot {slot:?}: {what}", path.display())
            }
            Unsupported { path, what } => write!(f, "{}: not supported: {what}", path.display()),
        }
    }
}

/// What a symbolic link is whose target is not there.
pub(crate) fn link_to_nowhere(target: &Path) -> String {
    format!("a symbolic link to {target:?}, which does not exist")
}

/// A word that a shell reads as it is: what is to be typed.
fn shell_word(word: &(impl AsRef<OsStr> + ?Sized)) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,@%=:".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
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
