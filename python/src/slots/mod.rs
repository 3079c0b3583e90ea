//! The classes of slots, and their locks. Uses `runtime` and `convert`. Begin with `slot.rs`.

pub(crate) mod array;
pub(crate) mod buffer;
pub(crate) mod counter;
pub(crate) mod lock;
pub(crate) mod slot;
pub(crate) mod text;
pub(crate) mod update;
pub(crate) mod value;
