//! The interpreter around a call: its lock let go of while waiting, values bound to their thread,
//! the stores that this process has opened. Uses `convert`.

pub(crate) mod gil;
pub(crate) mod opened;
pub(crate) mod thread_bound;
