//! What has happened to the file of an open store.

use std::fmt;

/// Why the path of an open store no longer leads to its file. What is stored in that file cannot be
/// found through the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detached {
    /// It no longer has a name.
    Deleted,
    /// It has another name, if any, and its path leads to nothing.
    Moved,
    /// Its path leads to another file.
    Replaced,
    /// It was left behind by a compaction, which writes the store to a new file. This one still
    /// exists because it is mounted by itself.
    Compacted,
}

impl fmt::Display for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Detached::Deleted => "deleted: the open file no longer has a name",
            Detached::Moved => "moved: the path leads to nothing",
            Detached::Replaced => "replaced: the path leads to a file other than the open one",
            Detached::Compacted => "compacted: the store is now in a new file, not in this one",
        })
    }
}
