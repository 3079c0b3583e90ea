//! The Python package `slotfile`: its native module, `slotfile._native`.
//!
//! The public names are in `slotfile/__init__.py`, their types in `slotfile/_native.pyi`.

mod convert;
mod multiprocessing;
mod runtime;
mod slots;
mod store;
mod transaction;
mod watch;

use pyo3::prelude::*;

/// The module is sound without the interpreter lock: every class is immutable, except for state
/// under a mutex of its own.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::multiprocessing::heap::{Arena, forked};
    #[pymodule_export]
    use super::multiprocessing::rlock::RLock;
    #[pymodule_export]
    use super::multiprocessing::shared_block::{Block, allocate};
    #[pymodule_export]
    use super::multiprocessing::synchronized::{
        Synchronized, SynchronizedArray, SynchronizedBase, SynchronizedString,
    };
    #[pymodule_export]
    use super::runtime::opened::{after_fork_in_parent, before_fork, leave_all};
    #[pymodule_export]
    use super::slots::array::Array;
    #[pymodule_export]
    use super::slots::buffer::Buffer;
    #[pymodule_export]
    use super::slots::counter::Counter;
    #[pymodule_export]
    use super::slots::lock::Lock;
    #[pymodule_export]
    use super::slots::slot::{Slot, wait_any};
    #[pymodule_export]
    use super::slots::text::{Bytes, Text};
    #[pymodule_export]
    use super::slots::update::Update;
    #[pymodule_export]
    use super::slots::value::Value;
    #[pymodule_export]
    use super::store::{Store, open, reopen, reopen_slot, temporary};
    #[pymodule_export]
    use super::transaction::Transaction;
    #[pymodule_export]
    use super::watch::Watch;
}
