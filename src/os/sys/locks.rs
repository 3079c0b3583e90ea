//! Locks of a file: of single bytes, and of the whole file.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::uninterrupted;

/// The kinds of lock that a process can have on a byte of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteLock {
    Read,
    Write,
    None,
}

fn flock(kind: ByteLock, byte: u64) -> libc::flock {
    let kind = match kind {
        ByteLock::Read => libc::F_RDLCK,
        ByteLock::Write => libc::F_WRLCK,
        ByteLock::None => libc::F_UNLCK,
    };
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte.cast_signed(),
        l_len: 1,
        // Open-file-description locks require 0 here.
        l_pid: 0,
    }
}

/// Sets this open file description's lock on one byte, in one step, without waiting. False if
/// another lock is in the way; then the old lock stays.
pub(crate) fn set_byte_lock(fd: BorrowedFd<'_>, kind: ByteLock, byte: u64) -> io::Result<bool> {
    let lock = flock(kind, byte);
    // SAFETY: F_OFD_SETLK reads a `flock`, which is on this stack.
    let result = uninterrupted(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &lock) });
    match result {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether another open file description holds any lock on this byte.
pub(crate) fn byte_is_locked(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    let mut lock = flock(ByteLock::Write, byte);
    // SAFETY: F_OFD_GETLK reads and fills a `flock`, which is on this stack.
    uninterrupted(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) })?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Takes the lock of the whole file (the open lock) if it is free, without waiting.
pub(crate) fn try_lock_file(file: &File) -> io::Result<bool> {
    loop {
        match fs2::FileExt::try_lock_exclusive(file) {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if e.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
                return Ok(false);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Releases the lock of the whole file.
pub(crate) fn unlock_file(file: &File) -> io::Result<()> {
    loop {
        match fs2::FileExt::unlock(file) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::sys::inheritable;
    use std::os::fd::AsFd;

    #[test]
    fn byte_locks_belong_to_the_open_file_description() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let open = || {
            File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap()
        };
        let (a, b) = (open(), open());
        assert!(set_byte_lock(a.as_fd(), ByteLock::Write, 1 << 62).unwrap());
        assert!(!set_byte_lock(b.as_fd(), ByteLock::Read, 1 << 62).unwrap());
        assert!(byte_is_locked(b.as_fd(), 1 << 62).unwrap());
        assert!(!byte_is_locked(a.as_fd(), 1 << 62).unwrap(), "its own lock is no obstacle");
        let copy = inheritable(a.as_fd()).unwrap();
        drop(a);
        assert!(byte_is_locked(b.as_fd(), 1 << 62).unwrap(), "a copy keeps it");
        drop(copy);
        assert!(!byte_is_locked(b.as_fd(), 1 << 62).unwrap());
    }
}
