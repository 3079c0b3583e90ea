//! transactions

pub(crate) mod participant;
pub(crate) mod snapshot;
pub(crate) mod transaction;
pub(crate) mod transactional;
