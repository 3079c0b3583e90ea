//! Where an open store's file is to be found, and whether it still is.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::types::detached::Detached;

/// How often who waits for changes looks whether the file is still what its path leads to.
pub(crate) const LOOK_FOR_FILE: Duration = Duration::from_secs(1);

/// The path by which a store was opened, so that it means the same wherever this process is.
#[derive(Debug, PartialEq)]
pub(crate) struct Location {
    path: PathBuf,
    /// The root folder that it begins at.
    root: Option<(u64, u64)>,
}

/// What tells a file from all others that there are at the same time.
pub(crate) fn id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn root() -> Option<(u64, u64)> {
    fs::metadata("/").ok().map(|root| id(&root))
}

impl Location {
    /// That of a path, as of now. `None`: it cannot be told.
    pub(crate) fn of(path: &Path) -> Option<Location> {
        let mut path = std::path::absolute(path).ok()?;
        // The path of an open descriptor is another file's as soon as that is closed.
        if path.starts_with("/proc") || path.starts_with("/dev/fd") {
            path = fs::canonicalize(path).ok()?;
        }
        Some(Location { path, root: root() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path no longer leads to this open file. `None` also where it cannot be told.
    pub(crate) fn detached(&self, file: &File) -> Option<Detached> {
        let open = file.metadata().ok()?;
        let deleted = (open.nlink() == 0).then_some(Detached::Deleted);
        if self.root.is_none() || root() != self.root {
            return deleted; // in another root, the path is another one
        }
        match fs::metadata(&self.path) {
            Ok(there) if id(&there) == id(&open) => deleted,
            Ok(_) => Some(Detached::Replaced),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                deleted.or(Some(Detached::Moved))
            }
            Err(_) => deleted,
        }
    }

    /// The file's own name, without links, which leads to this open file.
    pub(crate) fn resolve(&self, file: &File) -> io::Result<Result<PathBuf, Detached>> {
        if let Some(how) = self.detached(file) {
            return Ok(Err(how));
        }
        let path = fs::canonicalize(&self.path)?;
        match id(&fs::symlink_metadata(&path)?) == id(&file.metadata()?) {
            true => Ok(Ok(path)),
            false => Ok(Err(Detached::Replaced)),
        }
    }
}
