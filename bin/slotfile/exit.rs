//! How a run ends: its exit code, and the one line that says why.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::path::Path;

use slotfile::Error;

/// The exit code of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    pub(crate) const DONE: Exit = Exit(0);
    /// The run did what it was asked to, and the answer is no.
    pub(crate) const NO: Exit = Exit(1);
    pub(crate) const USAGE: Exit = Exit(2);
    pub(crate) const DAMAGED: Exit = Exit(3);
    pub(crate) const BUSY: Exit = Exit(4);
    pub(crate) const TYPE: Exit = Exit(5);
    pub(crate) const FULL: Exit = Exit(6);
    pub(crate) const IO: Exit = Exit(7);
    pub(crate) const ABSENT: Exit = Exit(8);

    // `lock` leaves the low numbers to the command that it runs, as env(1) and timeout(1) do.
    pub(crate) const LOCK_TIMEOUT: Exit = Exit(124);
    pub(crate) const LOCK_FAILED: Exit = Exit(125);
    pub(crate) const NOT_EXECUTABLE: Exit = Exit(126);
    pub(crate) const NO_COMMAND: Exit = Exit(127);

    /// Whether it is one of those that only `lock` has.
    pub(crate) fn is_of_lock(self) -> bool {
        self.0 >= Exit::LOCK_TIMEOUT.0
    }

    /// This code, once its answer was printed; the same if the reader has closed the pipe.
    pub(crate) fn printed(self, written: io::Result<()>) -> Result<Exit, Failure> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(self),
            written => Ok(written.map(|()| self)?),
        }
    }
}

/// The exit code of each of the library's errors. `docs/errors.md` has the same table.
impl From<&Error> for Exit {
    fn from(error: &Error) -> Exit {
        use Error::*;
        match error {
            Exists { .. } => Exit::NO,
            BadName { .. } | Invalid { .. } | TooLong { .. } | Length { .. } | Index { .. } => {
                Exit::USAGE
            }
            NotAStore { .. } | Version { .. } | Corrupt { .. } | Truncated { .. } => Exit::DAMAGED,
            LockTimeout { .. }
            | InUse { .. }
            | KeepsChanging { .. }
            | TooManyProcesses { .. }
            | Deadlock { .. }
            | Conflict { .. } => Exit::BUSY,
            Type { .. } => Exit::TYPE,
            NoSpace { .. } | Full { .. } | AddressSpace { .. } | OutOfMemory { .. } => Exit::FULL,
            NotFound { .. } | Removed { .. } | Detached { .. } => Exit::ABSENT,
            NotSynced { source, .. } => Exit::from(&**source),
            // `Evicted` comes only to forked copies, and to updates that outlive their guard or
            // thread. The command line has neither.
            _ => Exit::IO,
        }
    }
}

/// Why a run failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// One line for people; empty where the exit code says it all.
    pub(crate) message: String,
    pub(crate) cause: Cause,
}

/// What a message ends with depends on this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There are too few or too many words: ends with the verb's usage.
    Words,
    /// Standard output could not be written: ends with what was changed all the same.
    Output,
    /// No slot has this name: ends with one that it may stand for.
    NoSlot(String),
    Other,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Display) -> Failure {
        Failure { exit, message: message.to_string(), cause: Cause::Other }
    }

    /// The words of the command line are too few or too many.
    pub(crate) fn of_words(message: impl Display) -> Failure {
        Failure { cause: Cause::Words, ..Failure::new(Exit::USAGE, message) }
    }

    /// A failure of one slot, with file and slot in front as in the library's messages.
    pub(crate) fn of_slot(exit: Exit, file: &Path, slot: &str, what: impl Display) -> Failure {
        Failure::new(exit, format!("{}: slot {slot:?}: {what}", file.display()))
    }

    /// The same failure, with the number of the input's line in front.
    pub(crate) fn at_line(self, number: usize) -> Failure {
        Failure { message: format!("line {number}: {}", self.message), ..self }
    }

    /// A failure that the exit code alone explains.
    pub(crate) fn silent(exit: Exit) -> Failure {
        Failure::new(exit, "")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let failure = Failure::new(Exit::from(&error), &error);
        match error {
            Error::NotFound { slot: Some(name), .. } => {
                Failure { cause: Cause::NoSlot(name), ..failure }
            }
            Error::LockTimeout { path, slot, .. } if locked_above(&path, &slot) => {
                let message = format!(
                    "{}; this runs under `slotfile lock` of this very slot, so it would wait for \
                     itself: lock another slot than the one that is changed",
                    failure.message
                );
                Failure { message, ..failure }
            }
            _ => failure,
        }
    }
}

/// Tells a command that `slotfile lock` runs which slot is locked for it.
pub(crate) const LOCKED: &str = "SLOTFILE_LOCKED";

/// The value of [`LOCKED`] for this slot.
pub(crate) fn locked(file: &Path, slot: &str) -> OsString {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let mut locked = OsString::from(slot);
    locked.push("\n");
    locked.push(file);
    locked
}

/// Whether a `slotfile lock` that runs this process holds that slot.
fn locked_above(file: &Path, slot: &str) -> bool {
    std::env::var_os(LOCKED).is_some_and(|above| above == locked(file, slot))
}

/// Only for writes to standard output: other I/O errors name the operation that failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            // The reader has seen enough: `slotfile ls F | head -1`.
            io::ErrorKind::BrokenPipe => Failure::silent(Exit::DONE),
            _ => Failure {
                cause: Cause::Output,
                ..Failure::new(Exit::IO, format!("standard output: {error}"))
            },
        }
    }
}
