//! The bytes of the file, as `docs/format.md` describes them: where everything lies, and what each
//! structure looks like. It has no policy and does not access shared memory.
//!
//! May use: `mutant`, `types`, `os`, `protocol`. Begin with `layout.rs`, then `descriptor.rs`.

pub(crate) mod checkpoint;
pub(crate) mod descriptor;
pub(crate) mod layout;
pub(crate) mod regions;
pub(crate) mod tiers;
