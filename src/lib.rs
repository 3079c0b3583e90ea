//! Shared state that lasts: named, typed **slots** in one memory-mapped file, read and
//! updated by any number of processes at memory speed.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("state.slots");
//! use slotfile::Store;
//!
//! let store = Store::open_or_create(&path)?;
//! let hits = store.value::<u64>("hits")?; // opens the slot, or defines it (zero)
//! hits.fetch_add(1)?; // lock-free, and atomic among all processes
//!
//! let pose = store.array::<f64>("pose", 6)?;
//! pose.update(|p| p[0] += 0.1)?; // all or nothing, for readers and for kill -9
//! let now: Vec<f64> = pose.load(); // never torn, never waits
//! # assert_eq!(now[0], 0.1);
//! # Ok::<(), slotfile::Error>(())
//! ```
//!
//! - [`Store`]: opening, creating, [`OpenOptions`]
//! - [`Value`]: one scalar, with the operations of std's atomics
//! - [`Array`]: many scalars, in up to four dimensions; whole, in ranges, by element
//! - [`Text`] and [`Bytes`]: a capacity and a current length
//! - [`Buffer`]: raw memory of many scalars, each an atomic, for zero-copy views
//! - [`Slot`]: any of them, by its type at run time: what tools use
//! - [`Store::transaction`]: several slots updated at once, or not at all
//! - [`Store::snapshot`]: several slots as they were at one instant
//! - [`Guard`]: a slot's lock, for longer sections
//! - [`Value::wait_until`], [`Value::wait_for_change`], [`Store::wait_any`]: asleep until others
//!   change a slot; [`Watch`]: all whose names match. With the feature `tokio` each of them has
//!   an `async` form that takes no thread
//! - [`Error`]: one type, which names the file, the slot and the remedy
//!
//! # What it promises
//!
//! - **Readers never wait and never see a torn value**, even beside a writer that was
//!   stopped or killed in the middle.
//! - **`kill -9` at any instruction** loses nothing that was committed, leaves nothing
//!   half-done, and no lock for longer than 50 ms (for those who cannot see it in their
//!   `/proc`: when the kernel has taken its memory apart, and written its core dump).
//! - **Types are checked**: a slot opened as another type, length or shape is an error
//!   that says what was asked and what is there.
//! - **A power cut** returns the last sync, never a mix, never an older state in silence.
//! - **A full disk is an error** when a slot is defined, never a signal later.
//!
//! # What it is not
//!
//! A cache with eviction, a database with queries, a network service, or a place for
//! secrets shared with hostile writers: a process that may write the file can spoil its
//! content or truncate it, though it can never make this library read or write outside
//! of the mapping. It needs Linux on x86-64 or aarch64, and a local file system.
//!
//! # What lasts
//!
//! Killed processes lose nothing. A restart of the machine, or a power cut, returns the last
//! sync ([`Store::sync`]; by default one runs every second while something changes, and when
//! the last process leaves): all slots as they were at one instant.
//! [`Store::recovery`] says what opening found.
//!
//! # Memory ordering
//!
//! Every load acquires, every update is acquire-release: who sees a slot's new content
//! sees all that its writer did before. There are no `Ordering` arguments.

mod array;
mod attach;
mod buffer;
mod bus_error;
mod cell;
mod check;
mod checkpoint;
mod chunks;
mod clock;
mod commit;
mod content;
mod copies;
mod copy;
mod crowd;
mod cut;
mod data;
mod define;
mod descriptor;
mod directory;
mod disk;
mod dtype;
mod duplicate;
mod element;
mod error;
mod file_kind;
mod folder;
mod fork;
mod futex;
mod glob;
mod guard;
mod handle;
mod identity;
mod info;
mod known;
mod layout;
mod location;
mod maintain;
mod map;
mod memory;
mod mutant;
mod names;
mod open;
mod owned;
mod part;
#[cfg(test)]
#[path = "../tests/power/simulated/mod.rs"]
mod power;
mod process;
mod protocol;
mod raw;
#[cfg(feature = "tokio")]
mod reactor;
mod recovery;
mod registry;
mod reserved;
mod restore;
mod session;
mod slot;
mod snapshot;
mod space;
mod store;
mod store_file;
mod survey;
mod sync;
mod sys;
#[cfg(feature = "tokio")]
mod tasks;
mod text;
mod thread;
mod transaction;
mod unit;
mod value;
mod wait;
mod watch;

pub use array::{Array, ArrayIndex, ArrayUpdate};
pub use buffer::Buffer;
pub use bus_error::BusError;
pub use check::{Check, Problem};
pub use content::{Ranged, Transactional};
pub use data::{Data, Elements, ParseScalarError, Scalar};
pub use define::{Define, Initial};
pub use dtype::{Bits, Element, Number, ParseTypeError, ScalarType, Shape, SlotType};
pub use error::{Error, Result};
pub use guard::Guard;
pub use info::{Event, FailedSync, Info};
pub use location::Detached;
pub use owned::OwnedGuard;
pub use process::{Opener, ProcessState};
pub use raw::RawBuffer;
pub use recovery::Recovery;
pub use slot::Slot;
pub use snapshot::Snapshot;
pub use store::{OpenOptions, Store, exit_on_bus_error};
pub use text::{Bytes, Text};
pub use transaction::Transaction;
pub use value::Value;
pub use wait::Awaitable;
pub use watch::{Change, Watch};

/// The README's examples, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
