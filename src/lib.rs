//! Shared state that lasts.
mod copy;
mod data;
mod dtype;
mod error;
mod protocol;
pub use data::*;
pub use dtype::*;
pub use error::*;
