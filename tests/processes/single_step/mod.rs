//! Kills at any instruction: an operation is run one instruction at a time, and its process killed
//! after each (in a long operation after every nth, or after each with `SLOTFILE_LONG=1`). Each
//! time, the update in flight is whole or absent, no lock is left, and the others continue. The
//! same for the process that recovers it.
//!
//! `tests/mutants.sh` plants bugs in the library and shows that these tests fail.

mod kill;
mod world;

mod attach;
mod define;
mod recoverer;
mod sync;
mod transaction;
mod update;
