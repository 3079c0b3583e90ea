//! Which file it is: its device and number, and how many names it has.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::mutant::planted;
use crate::os::sys::check;

/// What identifies a file, and how many names it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) links: u64,
}

/// Of an open file.
pub(crate) fn stat(fd: RawFd) -> io::Result<Stat> {
    stat_at(fd, c"", libc::AT_EMPTY_PATH)
}

/// Of the file at this path; follows links.
pub(crate) fn stat_path(path: &Path) -> io::Result<Stat> {
    stat_at(libc::AT_FDCWD, &CString::new(path.as_os_str().as_bytes())?, 0)
}

/// Does not ask for the file's times. From Linux 6.13 on, a file whose times were looked at gets
/// new ones with its very next write ("multigrain timestamps"); on ext4 without a journal, each
/// flush would write these, too.
fn stat_at(fd: RawFd, path: &CStr, flags: libc::c_int) -> io::Result<Stat> {
    let mut wanted = libc::STATX_INO | libc::STATX_NLINK;
    if planted!(TheTimesAreAskedFor) {
        wanted |= libc::STATX_CTIME;
    }
    let mut found = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the path ends with 0; statx fills the struct, which is on this stack.
    match check(unsafe { libc::statx(fd, path.as_ptr(), flags, wanted, found.as_mut_ptr()) }) {
        Ok(_) => {
            // SAFETY: the call succeeded, and so filled it.
            let found = unsafe { found.assume_init() };
            let device = libc::makedev(found.stx_dev_major, found.stx_dev_minor);
            Ok(Stat { device, inode: found.stx_ino, links: found.stx_nlink.into() })
        }
        // A kernel before 4.11, or a sandbox that does not know the call.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            fstat_at(fd, path, flags)
        }
        Err(e) => Err(e),
    }
}

fn fstat_at(fd: RawFd, path: &CStr, flags: libc::c_int) -> io::Result<Stat> {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path ends with 0; fstatat fills the struct, which is on this stack.
    check(unsafe { libc::fstatat(fd, path.as_ptr(), found.as_mut_ptr(), flags) })?;
    // SAFETY: the call succeeded, and so filled it.
    let found = unsafe { found.assume_init() };
    Ok(Stat { device: found.st_dev, inode: found.st_ino, links: found.st_nlink })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_is_what_the_standard_library_says() {
        for path in ["/", "/proc/self/exe", "/dev/null", "Cargo.toml"].map(Path::new) {
            let (file, std) = (File::open(path).unwrap(), std::fs::metadata(path).unwrap());
            let old = fstat_at(libc::AT_FDCWD, &CString::new(path.to_str().unwrap()).unwrap(), 0);
            for found in [stat(file.as_raw_fd()), stat_path(path), old] {
                let found = found.unwrap();
                assert_eq!(
                    (found.device, found.inode, found.links),
                    (std.dev(), std.ino(), std.nlink())
                );
            }
        }
        assert_eq!(stat(RawFd::MAX).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let absent = stat_path(Path::new("/absent")).unwrap_err();
        assert_eq!(absent.raw_os_error(), Some(libc::ENOENT));
    }
}
