//! Between Python and Rust: errors, numbers, numpy arrays, contents, keys,
//! copies. Uses none of the other
//! folders.

pub(crate) mod arguments;
pub(crate) mod copies;
pub(crate) mod data;
pub(crate) mod error;
pub(crate) mod key;
pub(crate) mod ndarray;
pub(crate) mod scalar;
