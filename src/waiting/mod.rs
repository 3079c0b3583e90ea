//! Waiting for all slots whose names match a pattern, and waiting in `async` tasks.
//!
//! May use: `mutant`, `types`, `error`, `os`, `protocol`, `mapping`, `format`, `attachment`,
//! `directory`, `store`, `slots`. Begin with `watch.rs`.

#[cfg(feature = "tokio")]
pub(crate) mod async_wait;
#[cfg(feature = "tokio")]
pub(crate) mod reactor;
pub(crate) mod watch;
