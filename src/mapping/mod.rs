//! mapping

pub(crate) mod address_space;
pub(crate) mod cell;
pub(crate) mod copy;
pub(crate) mod crowd;
pub(crate) mod element;
pub(crate) mod map;
pub(crate) mod slot_memory;
