//! The promises of slotfile, as users see them: values, arrays, texts, buffers, transactions and
//! waiting, with threads and processes side by side.

#[path = "../common/mod.rs"]
mod common;

mod arrays_like_vec;
#[cfg(feature = "tokio")]
mod asynchronous;
mod bank;
mod buffers;
mod counters;
mod define_and_remove;
mod doc_and_unit;
mod groups;
mod linearizable;
mod lists;
mod memory;
mod never_torn;
mod nothing_is_lost;
mod owned_locks;
mod raw_buffers;
mod reference_model;
mod transactions;
mod transactions_beside_others;
mod values_like_std;
mod waiting;
