//! Describes what is at a path where a store should be.

use std::fs::{self, Metadata};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, link_to_nowhere};

/// The error that something with this name already exists, and what it is.
pub(crate) fn already_exists(path: &Path) -> Error {
    let is_file = fs::metadata(path).is_ok_and(|there| there.is_file());
    let found = match dangling_link(path) {
        Some(target) => Some(link_to_nowhere(&target)),
        None if is_file => None,
        None => fs::metadata(path).ok().map(|there| kind_of(&there).to_owned()),
    };
    Error::Exists { path: path.to_owned(), slot: None, found }
}

/// The target of a symbolic link, if it does not exist.
pub(crate) fn dangling_link(path: &Path) -> Option<PathBuf> {
    let target = fs::read_link(path).ok()?;
    let nowhere = !fs::exists(path).unwrap_or(true);
    nowhere.then_some(target)
}

/// An error if it is not a regular file.
pub(crate) fn check_kind(path: &Path, metadata: &Metadata) -> Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => {
            let why = format!("it is {}", kind_of(metadata));
            Err(Error::NotAStore { path: path.to_owned(), why })
        }
    }
}

fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_file() {
        "a file"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
