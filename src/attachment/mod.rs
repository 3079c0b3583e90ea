//! attachment

pub(crate) mod attach;
pub(crate) mod descriptor_cache;
pub(crate) mod lazy_array;
pub(crate) mod name_cache;
pub(crate) mod survey;
