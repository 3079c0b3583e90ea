//! format

pub(crate) mod checkpoint;
pub(crate) mod layout;
