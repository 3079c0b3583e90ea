//! What has become of the file of an open store.

use std::fmt;

/// How the file of an open store has become one that its path does not lead to. What is stored
/// in it is not found by those who open that path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detached {
    /// It has no name any more.
    Deleted,
    /// It has another name, if any, and its path leads to nothing.
    Moved,
    /// Its path leads to another file.
    Replaced,
    /// It was left behind by a compaction, which makes the store anew in a new file: this one is
    /// kept by a mount of the file alone.
    Compacted,
}

impl fmt::Display for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Detached::Deleted => "deleted: the file that is open has no name any more",
            Detached::Moved => "moved: the path leads to nothing",
            Detached::Replaced => {
                "replaced: the path leads to another file than the one that is open"
            }
            Detached::Compacted => "compacted: the store goes on in a new file, without this one",
        })
    }
}
