//! waiting

#[cfg(feature = "tokio")]
pub(crate) mod async_wait;
#[cfg(feature = "tokio")]
pub(crate) mod reactor;
pub(crate) mod watch;
