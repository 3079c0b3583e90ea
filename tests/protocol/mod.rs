//! The tests of the protocol. They run the functions that ship, against memories
//! and peers of their own, in two ways:
//!
//! - [`exhaustive`]: every interleaving of small programs, one shared access at a
//!   time, with a death at every step. Here memory is sequentially consistent, so it
//!   judges what the protocol does, not the orderings.
//! - [`orderings`]: the same functions under loom, where a relaxed load may return old values. It
//!   judges the orderings: each is taken away in turn, and a scenario must fail without it.
//!
//! Both are worth something only if they find bugs: every bug of `src/protocol/mutant.rs` is
//! planted, and must turn a scenario red.
//!
//! Programs with too many interleavings for a normal run are marked `#[ignore]`; CI runs them, as
//! does `-- --ignored`. Planted bugs are looked for in these programs in every run, since a bug is
//! found long before all interleavings have run. `SLOTFILE_LONG=1` runs even longer programs, and
//! explores deeper.

use super::{Deadline, Memory, Peers, update_locked, update_scalar};

mod exhaustive;
mod explore;
mod fork;
mod group;
mod loom_group;
mod loom_marks;
mod loom_scenarios;
mod loom_store;
mod lost;
mod model;
mod orderings;
mod replay;
mod scenarios;
mod script;
mod sync;
mod synced;
mod weaken;
mod words;
mod world;

/// A thread of the models that has no entry cannot lock.
#[derive(Debug)]
struct NoEntry;

type Failure = super::Failure<NoEntry>;

/// Updates a scalar, as a handle does.
fn update<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    deadline: &mut Deadline,
    guarded: bool,
    mut f: impl FnMut(u64) -> Option<u64>,
) -> Result<Result<u64, u64>, super::Failure<P::Error>> {
    match update_scalar(memory, &mut f) {
        Some(result) => Ok(result),
        None => update_locked(memory, peers, deadline, || guarded, f),
    }
}

/// Whether to run the long forms.
fn long() -> bool {
    std::env::var_os("SLOTFILE_LONG").is_some_and(|long| long == "1")
}
