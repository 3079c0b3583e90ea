//! Whether a store may be on a file system.

use std::fs::File;
use std::path::Path;

use crate::durability::identity;
use crate::error::{Error, Result};
use crate::mutant::planted;
use crate::os::sys;

/// File system magic numbers, from linux/magic.h and statfs(2).
const UNSUITABLE: [(i64, &str); 12] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x7375_7245, "Coda"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];

/// Why a file system of this kind is not suitable; `None` if it is.
pub(crate) fn unsuitable(kind: i64) -> Option<String> {
    // Some systems sign-extend a 32-bit number whose highest bit is set.
    let name = UNSUITABLE.iter().find(|(known, _)| *known as u32 == kind as u32)?.1;
    Some(format!(
        "it is on {name}, where other machines or mounts may see other contents and locks; put it \
         on a local file system, or open it with any_file_system(true) (--any-file-system) if \
         you know that none does"
    ))
}

/// Whether btrfs writes each change of the file to another place; false if it cannot be asked.
pub(crate) fn is_moved_by_writes(file: &File) -> bool {
    let is_asked = match sys::file_system(file) {
        Ok(identity::BTRFS) => !planted!(WhatBtrfsDoesNotWriteInPlaceIsWritten),
        // Below it may be btrfs, which accepts this call but does not change a file with content.
        Ok(identity::OVERLAYFS) => sys::write_in_place(file).is_ok(),
        _ => false,
    };
    is_asked && sys::is_written_in_place(file).is_ok_and(|in_place| !in_place)
}

pub(crate) fn on_overlayfs(path: &Path) -> bool {
    File::open(path).and_then(|file| identity::on_overlayfs(&file)).unwrap_or(false)
}

/// Refuses a file system on which a store could not keep its promises.
pub(crate) fn check_file_system(path: &Path, file: &File, writable: bool) -> Result<()> {
    let kind = sys::file_system(file)
        .map_err(|e| Error::io(path, "cannot tell which file system it is on (fstatfs)", e))?;
    let unsupported = |what| Err(Error::Unsupported { path: path.to_owned(), what });
    if let Some(what) = unsuitable(kind) {
        return unsupported(what);
    }
    if writable && is_moved_by_writes(file) {
        let what = "btrfs does not write it in place, as it does not write any copy that `cp` \
                    makes, so on a full disk a process that changes it would be killed; make a \
                    new file with `slotfile copy`, or open it with any_file_system(true) \
                    (--any-file-system)";
        return unsupported(what.into());
    }
    // Opened read-only, a file stays that of the lower layer for ever, even after a writer has got
    // a copy of it in the upper one.
    let stale = kind == identity::OVERLAYFS
        && !writable
        && File::options().read(true).write(true).open(path).is_err();
    if stale {
        let what = "it is on overlayfs, and this process may not open it for writing, so it could \
                    read a stale copy; open it in its own file system, or allow this user to write";
        return unsupported(what.into());
    }
    Ok(())
}
