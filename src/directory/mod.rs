//! Which slots there are: from names to descriptors, and where the space of the file is given
//! out.
//!
//! May use: `types`, `error`, `os`, `protocol`, `mapping`, `format`, `attachment`. Begin with
//! `directory.rs`.

pub(crate) mod allocator;
#[expect(clippy::module_inception, reason = "the directory itself")]
pub(crate) mod directory;
