//! This process's share of an open store: the mapping, its entries of the process table, and its
//! caches of descriptors and names.
//!
//! May use: `mutant`, `types`, `error`, `os`, `protocol`, `mapping`, `format`. Begin with
//! `attach/mod.rs`.

pub(crate) mod attach;
pub(crate) mod descriptor_cache;
pub(crate) mod descriptors;
pub(crate) mod lazy_array;
pub(crate) mod name_cache;
pub(crate) mod segments;
pub(crate) mod survey;
pub(crate) mod tiers;
