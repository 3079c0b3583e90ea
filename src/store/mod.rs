//! The [`Store`](crate::Store): how it is created, opened, maintained and left.
//!
//! May use: `mutant`, `types`, `error`, `os`, `protocol`, `mapping`, `format`, `attachment`,
//! `directory`, `durability`. Begin with `store.rs`, then `open.rs`.

pub(crate) mod background;
pub(crate) mod create;
pub(crate) mod file;
pub(crate) mod file_system;
pub(crate) mod info;
pub(crate) mod maintain;
pub(crate) mod open;
pub(crate) mod registry;
pub(crate) mod restore_to_read;
pub(crate) mod session;
#[expect(clippy::module_inception, reason = "the type that gives the crate its face")]
pub(crate) mod store;
#[cfg(feature = "tokio")]
pub(crate) mod sync_tasks;
