//! What `slotfile.multiprocessing` is made of: memory, numbers and locks as the standard library's
//! module has them. Uses `store.rs`, `runtime` and `convert`. Begin with `shared_block.rs`.

pub(crate) mod heap;
pub(crate) mod numbers;
pub(crate) mod rlock;
pub(crate) mod shared_block;
pub(crate) mod synchronized;
