//! The handles: one type for each kind of slot, and the guards of its lock.
//!
//! May use: `mutant`, `types`, `error`, `os`, `protocol`, `mapping`, `format`, `attachment`,
//! `directory`, `store`. Begin with `handle.rs`, which all handles share; then `value.rs`.

pub(crate) mod array;
pub(crate) mod buffer;
mod closest_name;
pub(crate) mod counter;
pub(crate) mod fetch;
pub(crate) mod guard;
pub(crate) mod handle;
pub(crate) mod list;
pub(crate) mod open_slot;
pub(crate) mod raw;
pub(crate) mod slot;
mod slot_load;
pub(crate) mod text;
pub(crate) mod value;
pub(crate) mod value_update;
pub(crate) mod wait;
