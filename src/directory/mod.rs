//! Which slots exist: it finds them by name, defines new ones, and gives out the space of the file.
//!
//! May use: `mutant`, `types`, `error`, `os`, `protocol`, `mapping`, `format`, `attachment`.
//! Begin with `find.rs`, then `define.rs`.

pub(crate) mod allocator;
pub(crate) mod blocks;
mod define;
mod find;
mod found;
mod index;

pub(crate) use define::define;
pub(crate) use find::{find, find_again, find_listed};
pub(crate) use found::{Found, each_slot};
pub(crate) use index::{all_steps, fill_index, find_by_index};
