//! What surrounds a call: waiting with the interpreter lock released, values bound to their thread,
//! the stores that this process has opened. Uses `convert`. Begin with `wait.rs`.

pub(crate) mod opened;
pub(crate) mod thread_bound;
pub(crate) mod wait;
