//! slots

pub(crate) mod array;
pub(crate) mod buffer;
pub(crate) mod guard;
pub(crate) mod handle;
pub(crate) mod owned_guard;
pub(crate) mod raw;
pub(crate) mod slot;
pub(crate) mod text;
pub(crate) mod value;
pub(crate) mod wait;
