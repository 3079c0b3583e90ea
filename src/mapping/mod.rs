//! The shared memory: the mapping of the file, bounds-checked access to it, race-free copies, and
//! the cell. Other processes write it at any time, so nothing here makes a plain reference to its
//! bytes.
//!
//! May use: `mutant`, `types`, `os`, `protocol`. Begin with `map.rs`, then `cell.rs`.

pub(crate) mod address_space;
pub(crate) mod cell;
pub(crate) mod copy;
pub(crate) mod crowd;
pub(crate) mod element;
pub(crate) mod file_marks;
pub(crate) mod map;
pub(crate) mod new_memory;
pub(crate) mod slot_memory;
mod vectors;
