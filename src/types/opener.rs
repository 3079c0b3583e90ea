//! A process that has a store open, to show to people.

use std::fmt;

/// A process that has a store open, or holds a lock of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct AttachedProcess {
    /// Its number, in its own PID namespace.
    pub pid: u32,
    /// The name of its program.
    pub command: String,
    /// Whether `pid` still stands for it, here.
    pub state: ProcessState,
}

/// What can be told of a process by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ProcessState {
    /// It runs, and its number means the same here: verified with `/proc`.
    Running,
    /// It was killed, or has crashed, and runs no more: the kernel takes its memory apart, and
    /// writes its core dump before, if it is to have one. Its locks are free when that is done.
    Dying,
    /// It has ended, and still counts as there: a process that it started has its locks.
    Ended,
    /// It lives in another PID namespace, as that of a container: here, its number is
    /// nobody's, or another process's.
    Elsewhere,
    /// It could not be told: there is no `/proc`, or a store of format 1.0 keeps too little.
    Unknown,
}

impl fmt::Display for ProcessState {
    /// One word: `running`, `dying`, `ended`, `elsewhere`, `unknown`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProcessState::Running => "running",
            ProcessState::Dying => "dying",
            ProcessState::Ended => "ended",
            ProcessState::Elsewhere => "elsewhere",
            ProcessState::Unknown => "unknown",
        })
    }
}

impl fmt::Display for AttachedProcess {
    /// `pid 12 ("name")`, and what is to be known about that number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttachedProcess { pid, command, state } = self;
        write!(f, "pid {pid} ({command:?})")?;
        match state {
            ProcessState::Running => Ok(()),
            ProcessState::Dying => write!(f, ", which is dying"),
            ProcessState::Ended => write!(f, ", which has ended"),
            ProcessState::Elsewhere => write!(f, " in another PID namespace"),
            ProcessState::Unknown => write!(f, ", by its own account"),
        }
    }
}
