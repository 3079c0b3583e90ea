//! A process that has a store open, to show to people.

use std::fmt;

/// A process that has a store open, or holds one of its locks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct AttachedProcess {
    /// Its process ID, in its own PID namespace.
    pub pid: u32,
    /// The name of its program.
    pub command: String,
    /// Whether `pid` still identifies the process here.
    pub state: ProcessState,
}

/// What its process ID tells about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ProcessState {
    /// It is running, and its process ID means the same here: verified with `/proc`.
    Running,
    /// It was killed or has crashed, and no longer runs. The kernel writes its core dump, if any,
    /// and frees its memory; then its locks are free.
    Dying,
    /// It has ended, but still counts as attached: a process that it started holds its locks.
    Ended,
    /// It lives in another PID namespace, such as a container's. Here, its process ID belongs to
    /// nobody or to another process.
    Elsewhere,
    /// Its state is unknown: there is no `/proc`, or the store has format 1.0, which records too
    /// little.
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
    /// `pid 12 ("name")`, and what is known about that process ID.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttachedProcess { pid, command, state } = self;
        write!(f, "pid {pid} ({command:?})")?;
        match state {
            ProcessState::Running => Ok(()),
            ProcessState::Dying => write!(f, ", which is dying"),
            ProcessState::Ended => write!(f, ", which has ended"),
            ProcessState::Elsewhere => write!(f, " in another PID namespace"),
            ProcessState::Unknown => write!(f, ", which cannot be verified"),
        }
    }
}
