//! directory

pub(crate) mod allocator;
pub(crate) mod directory;
