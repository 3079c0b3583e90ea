//! Several slots at once: updated together, or read as of one instant.
//!
//! May use: `mutant`, `types`, `error`, `os`, `protocol`, `mapping`, `attachment`, `store`,
//! `slots`. Begin with `transaction.rs`.

pub(crate) mod group;
pub(crate) mod members;
pub(crate) mod participant;
pub(crate) mod participants;
pub(crate) mod snapshot;
pub(crate) mod transaction;
pub(crate) mod transactional;
