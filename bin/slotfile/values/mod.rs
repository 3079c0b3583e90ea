//! The contents of slots as the command line reads and writes them: words, standard input, JSON,
//! elements of arrays, sums, comparisons. Begin with `value.rs`.

pub(crate) mod addition;
pub(crate) mod compare;
pub(crate) mod index;
pub(crate) mod input;
pub(crate) mod json;
pub(crate) mod value;
