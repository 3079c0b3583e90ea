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
//! - [`Counter`]: a number that many processes add to without pause, at full speed
//! - [`Slot`]: any of them, with its type known only at run time; for tools
//! - [`Store::list`]: all of them in turn, in constant memory
//! - [`Store::transaction`]: several slots updated at once, or not at all
//! - [`Store::snapshot`]: several slots as they were at one instant
//! - [`Group`]: both, for a fixed set of slots; allocates nothing
//! - [`Guard`]: a slot's lock, for longer sections
//! - [`Value::wait_until`], [`Value::wait_for_change`], [`Store::wait_any`]: sleep until others
//!   change a slot; [`Watch`]: all slots whose names match. With the feature `tokio` each has an
//!   `async` form that takes no thread
//! - [`Error`]: one type, which names the file, the slot and the remedy
//!
//! # What it promises
//!
//! - **Readers never wait and never see a torn value**, even beside a writer that was
//!   stopped or killed in the middle. Only a [`Buffer`] as a whole may be torn.
//! - **`kill -9` at any instruction** loses nothing that was committed, leaves nothing
//!   half-done, and holds no lock for longer than 50 ms. (A process that cannot see the killed
//!   one in its `/proc` waits until the kernel has freed its memory and written its core dump.)
//! - **Types are checked**: a slot opened as another type, length or shape is an error
//!   that says what was asked for and what is there.
//! - **A power cut** returns the last sync, never a mix, and never silently an older state.
//! - **A full disk is an error** when a slot is defined, never a signal later (with one
//!   exception, on btrfs: `docs/design.md`, P6).
//!
//! # What it is not
//!
//! A cache with eviction, a database with queries, a network service, or a place for
//! secrets shared with hostile writers. A process that may write the file can spoil its
//! content or truncate it, but it can never make this library read or write outside
//! the mapping. The library needs Linux on x86-64 or aarch64, and a local file system.
//!
//! # What lasts
//!
//! Killed processes lose nothing. A restart of the machine, or a power cut, returns the last
//! sync: all slots as they were at one instant. [`Store::sync`] runs one. By default one also runs
//! every second while something changes, and when the last process leaves.
//! [`Store::recovery`] says what opening found.
//!
//! # Memory ordering
//!
//! Every load acquires, every update is acquire-release: a thread that sees a slot's new content
//! also sees all that its writer did before. There are no `Ordering` arguments.

mod attachment;
mod directory;
mod durability;
mod error;
mod format;
mod mapping;
mod mutant;
mod os;
#[cfg(test)]
#[path = "../tests/power/simulated/mod.rs"]
mod power;
mod protocol;
mod slots;
mod store;
mod transactions;
mod types;
mod waiting;

pub use durability::check::{Check, Problem};
pub use durability::recovery::Recovery;
pub use error::{Error, Result};
pub use os::bus_error::BusError;
pub use slots::array::{Array, ArrayIndex, ArrayUpdate};
pub use slots::buffer::Buffer;
pub use slots::counter::Counter;
pub use slots::guard::Guard;
pub use slots::list::{List, ListedSlot};
pub use slots::raw::RawBuffer;
pub use slots::slot::Slot;
pub use slots::text::{Bytes, Text};
pub use slots::value::Value;
pub use slots::wait::Awaitable;
pub use store::info::{FailedSync, Info, SyncPoint};
pub use store::store::{OpenOptions, Store, exit_on_bus_error};
pub use transactions::group::Group;
pub use transactions::members::Members;
pub use transactions::snapshot::Snapshot;
pub use transactions::transaction::Transaction;
pub use transactions::transactional::{Ranged, Transactional};
pub use types::attached_process::{AttachedProcess, ProcessState};
pub use types::data::Data;
pub use types::define::{Define, Initial};
pub use types::detached::Detached;
pub use types::element::{Bits, Element, Number};
pub use types::elements::Elements;
pub use types::scalar::{ParseScalarError, Scalar};
pub use types::scalar_type::ScalarType;
pub use types::shape::Shape;
pub use types::slot_type::{ParseTypeError, SlotType};
pub use waiting::watch::{SlotChange, Watch};

/// The examples of the pages, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/guide.md")]
struct Pages;
