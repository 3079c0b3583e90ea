//! The Python package `slotfile`: its native module, `slotfile._native`.
//!
//! What people see is in `slotfile/__init__.py`, and typed in `slotfile/_native.pyi`.

mod array;
mod block;
mod blocking;
mod buffer;
mod data;
mod error;
mod heap;
mod key;
mod lock;
mod numbers;
mod of_thread;
mod rlock;
mod scalar;
mod shared;
mod slot;
mod store;
mod synchronized;
mod text;
mod transaction;
mod update;
mod value;
mod watch;

use pyo3::prelude::*;

/// The interpreter lock is not what keeps this module sound: every class is immutable but for
/// what stands under a mutex of its own.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::array::Array;
    #[pymodule_export]
    use super::block::{Block, allocate};
    #[pymodule_export]
    use super::buffer::Buffer;
    #[pymodule_export]
    use super::heap::{Arena, forked};
    #[pymodule_export]
    use super::lock::Lock;
    #[pymodule_export]
    use super::rlock::RLock;
    #[pymodule_export]
    use super::shared::{before_fork, leave_all};
    #[pymodule_export]
    use super::slot::{Slot, reopen_slot, wait_any};
    #[pymodule_export]
    use super::store::{Store, open, reopen, temporary};
    #[pymodule_export]
    use super::synchronized::{
        Synchronized, SynchronizedArray, SynchronizedBase, SynchronizedString,
    };
    #[pymodule_export]
    use super::text::{Bytes, Text};
    #[pymodule_export]
    use super::transaction::Transaction;
    #[pymodule_export]
    use super::update::Update;
    #[pymodule_export]
    use super::value::Value;
    #[pymodule_export]
    use super::watch::Watch;
}
