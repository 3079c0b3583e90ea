//! types

pub(crate) mod data;
pub(crate) mod define;
pub(crate) mod dtype;
pub(crate) mod glob;
