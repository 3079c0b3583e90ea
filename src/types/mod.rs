//! Plain values of the public interface: what a slot can hold and how it is defined. No memory,
//! files or system calls.
//!
//! May use: nothing. Begin with `slot_type.rs`, then `element.rs`.

pub(crate) mod attached_process;
pub(crate) mod bool_bytes;
pub(crate) mod data;
pub(crate) mod define;
pub(crate) mod detached;
pub(crate) mod element;
pub(crate) mod elements;
pub(crate) mod glob;
pub(crate) mod scalar;
pub(crate) mod scalar_type;
pub(crate) mod scratch;
pub(crate) mod shape;
pub(crate) mod slot_type;
