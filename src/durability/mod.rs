//! Makes the state survive a power cut: syncing, recovering, checking and copying a store.
//!
//! May use: `mutant`, `types`, `error`, `os`, `protocol`, `mapping`, `format`, `attachment`,
//! `directory`. Begin with `sync.rs`, the steps of a sync; for opening after a restart, with
//! `recovery.rs`.

pub(crate) mod check;
pub(crate) mod choose_record;
pub(crate) mod consistent_copy;
pub(crate) mod copied_slots;
pub(crate) mod copies;
pub(crate) mod copy_store;
pub(crate) mod flush;
pub(crate) mod group;
pub(crate) mod identity;
pub(crate) mod recovery;
pub(crate) mod restore;
pub(crate) mod segment;
pub(crate) mod segment_writer;
pub(crate) mod sync;
pub(crate) mod sync_notes;
pub(crate) mod sync_state;
pub(crate) mod syncer;
