//! Where an open store's file is, and whether it is still there.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::mutant::planted;
use crate::os::descriptor::FileId;
use crate::os::sys;
use crate::types::detached::Detached;

/// How often a waiter checks whether its path still leads to the file.
pub(crate) const LOOK_FOR_FILE: Duration = Duration::from_secs(1);

/// The path by which a store was opened, in a form that does not depend on the working folder.
#[derive(Debug, PartialEq)]
pub(crate) struct Location {
    path: PathBuf,
    /// The root folder at which it begins.
    root: Option<FileId>,
}

fn root() -> Option<FileId> {
    sys::stat_path(Path::new("/")).ok().map(|root| FileId::from(&root))
}

impl Location {
    /// The current location of a path; `None` if it cannot be determined.
    pub(crate) fn of(path: &Path) -> Option<Location> {
        let relative = planted!(APathIsRelative);
        let mut path = if relative { path.into() } else { std::path::absolute(path).ok()? };
        // The path of an open descriptor leads to another file as soon as that is closed.
        if path.starts_with("/proc") || path.starts_with("/dev/fd") {
            path = fs::canonicalize(path).ok()?;
        }
        Some(Location { path, root: root() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How the path no longer leads to this open file; `None` if it does, or if that cannot be
    /// determined.
    pub(crate) fn detached(&self, file: &File) -> Option<Detached> {
        let open = sys::stat(file.as_raw_fd()).ok()?;
        let deleted = (open.links == 0).then_some(Detached::Deleted);
        if self.root.is_none() || root() != self.root {
            return deleted; // in another root, the path means another file
        }
        match sys::stat_path(&self.path) {
            Ok(there) if FileId::from(&there) == FileId::from(&open) => deleted,
            Ok(_) if planted!(AReplacedFileIsNotNoticed) => None,
            Ok(_) => Some(Detached::Replaced),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                deleted.or(Some(Detached::Moved))
            }
            Err(_) => deleted,
        }
    }

    /// The file's own path, without links, if it leads to this open file.
    pub(crate) fn resolve(&self, file: &File) -> io::Result<Result<PathBuf, Detached>> {
        if let Some(how) = self.detached(file) {
            return Ok(Err(how));
        }
        let follow = !planted!(LinksAreNotFollowed);
        let path = if follow { fs::canonicalize(&self.path)? } else { self.path.clone() };
        match FileId::of(&fs::symlink_metadata(&path)?) == FileId::of(&file.metadata()?) {
            true => Ok(Ok(path)),
            false => Ok(Err(Detached::Replaced)),
        }
    }
}
