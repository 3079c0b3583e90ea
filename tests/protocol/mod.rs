//! The tests of the protocol. They run the functions that ship, against memories
//! and peers of their own, in two ways:
//!
//! - [`exhaustive`]: every interleaving of small programs, one shared access at a
//!   time, with a death at every step. Here memory is sequentially consistent, so it
//!   judges what the protocol does, not the orderings.
//! - [`orderings`]: the same functions under loom, where a relaxed load may return
//!   old values. It judges the orderings: each is taken away in turn, and must be missed.
//!
//! Both are only worth something while they find bugs: every bug of
//! `src/protocol/mutant.rs` is planted and must turn a scenario red.
//!
//! `SLOTFILE_LONG=1` runs longer programs and explores deeper.

#![allow(clippy::result_large_err, reason = "errors are rare here, and their size is the crate's")]

mod exhaustive;
mod explore;
mod fork;
mod loom_scenarios;
mod loom_store;
mod lost;
mod model;
mod orderings;
mod replay;
mod scenarios;
mod script;
mod words;
mod world;

/// Whether there is time for the long forms.
fn long() -> bool {
    std::env::var_os("SLOTFILE_LONG").is_some_and(|long| long == "1")
}
