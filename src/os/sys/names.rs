//! Names of files, and files without one.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::mutant::planted;

use super::{check, uninterrupted};

/// A second descriptor of the same open file description, which children inherit.
pub(crate) fn inheritable(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD takes a number and touches no memory.
    let fd = uninterrupted(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, 3) })?;
    // SAFETY: the descriptor is new, open, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A nameless file in memory or, if a sandbox refuses the call, in the usual folder for files in
/// memory.
pub(crate) fn memory_file(name: &std::ffi::CStr) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // SAFETY: the name ends with NUL, and outlives the call.
    match check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) }) {
        // SAFETY: the descriptor is new, open, and nobody else's.
        Ok(fd) => Ok(unsafe { File::from_raw_fd(fd) }),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            let mut options = File::options();
            options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
            let file = options.open("/dev/shm").ok();
            file.filter(|_| !planted!(NoOtherWayWithoutMemfdCreate)).ok_or(e)
        }
        Err(error) => Err(error),
    }
}

/// Renames a file, unless the new name is taken.
pub(crate) fn rename_new(from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
    rename_with(from, to, libc::RENAME_NOREPLACE)
}

/// Gives a nameless file (`O_TMPFILE`) this name; fails if the name is taken.
pub(crate) fn link(file: &File, path: &std::ffi::CStr) -> io::Result<()> {
    let own = proc_path(file.as_raw_fd());
    // SAFETY: both paths end with NUL, and outlive the call.
    check(unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            own.as_ptr().cast(),
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    })?;
    Ok(())
}

/// Exchanges the names of two files, in one step.
pub(crate) fn exchange(one: &std::path::Path, other: &std::path::Path) -> io::Result<()> {
    rename_with(one, other, libc::RENAME_EXCHANGE)
}

fn rename_with(
    from: &std::path::Path,
    to: &std::path::Path,
    flags: libc::c_uint,
) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let name = |path: &std::path::Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (from, to, here) = (name(from)?, name(to)?, libc::AT_FDCWD);
    // SAFETY: both paths end with NUL, and outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_renameat2, here, from.as_ptr(), here, to.as_ptr(), flags)
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `/proc/self/fd/N`, NUL-terminated, without allocating.
pub(crate) fn proc_path(fd: RawFd) -> [u8; 32] {
    use std::io::Write;
    let mut path = [0; 32];
    // 14 bytes, at most 11 digits, and a NUL: it always fits.
    let _ = write!(&mut path[..31], "/proc/self/fd/{fd}");
    path
}
