//! Shared state that lasts.
mod copy;
mod dtype;
mod error;
mod protocol;
pub use dtype::*;
pub use error::*;
