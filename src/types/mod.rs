//! Plain values of the public interface: what a slot can hold and how it is defined. No memory,
//! files or system calls.
//!
//! May use: nothing. Begin with `dtype.rs`: the scalar types, shapes and slot types.

pub(crate) mod bool_bytes;
pub(crate) mod data;
pub(crate) mod define;
pub(crate) mod detached;
pub(crate) mod dtype;
pub(crate) mod glob;
pub(crate) mod opener;
