//! durability

pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod consistent_copy;
pub(crate) mod copies;
pub(crate) mod copy_store;
pub(crate) mod identity;
pub(crate) mod recovery;
pub(crate) mod restore;
pub(crate) mod sync;
pub(crate) mod unit;
