//! Makes the state survive a power cut: syncing, recovering, checking and copying a store.
//!
//! May use: `mutant`, `types`, `error`, `os`, `protocol`, `mapping`, `format`, `attachment`,
//! `directory`. Begin with `sync.rs`, then `commit.rs`; for opening after a restart, with
//! `recovery.rs`.

pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod consistent_copy;
pub(crate) mod copies;
pub(crate) mod copy_store;
pub(crate) mod identity;
pub(crate) mod recovery;
pub(crate) mod restore;
pub(crate) mod sync;
pub(crate) mod unit;
