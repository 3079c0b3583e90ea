//! Killed at any instruction: one operation is run one instruction at a time, and its
//! process killed after each (of a long operation: after every so many; after each with
//! `SLOTFILE_LONG=1`). Whatever it was at, the update in flight is whole or absent, no lock
//! is left, and everything goes on. The same for whoever puts in order what it has left.
//!
//! `tests/mutants.sh` plants bugs in the library and shows that this turns red.

mod kill;
mod world;

mod attach;
mod define;
mod recoverer;
mod sync;
mod transaction;
mod update;
