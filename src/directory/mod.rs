//! Which slots exist: it finds descriptors by name and allocates the space of the file.
//!
//! May use: `types`, `error`, `os`, `protocol`, `mapping`, `format`, `attachment`. Begin with
//! `directory.rs`.

pub(crate) mod allocator;
#[expect(clippy::module_inception, reason = "the directory itself")]
pub(crate) mod directory;
