//! store

pub(crate) mod info;
pub(crate) mod maintain;
pub(crate) mod open;
pub(crate) mod registry;
pub(crate) mod session;
pub(crate) mod store;
