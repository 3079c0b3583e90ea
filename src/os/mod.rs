//! What the kernel offers: files and their names, byte locks, forks, futexes, processes.
//!
//! May use: `mutant`, `types`, `error`. Begin with `store_file.rs`: a store's open file, checked
//! before each use.

pub(crate) mod bus_error;
pub(crate) mod descriptor;
pub(crate) mod disk;
pub(crate) mod file_kind;
pub(crate) mod folder;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod location;
pub(crate) mod process;
pub(crate) mod store_file;
pub(crate) mod sys;
pub(crate) mod thread;
pub(crate) mod time;
