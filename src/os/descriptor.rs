//! The descriptors of a store's file: whether a number still refers to the same file, and what
//! keeps the locks that were set through it.
//!
//! Here a **number** is what programs call a file descriptor (`fd`). A **description** is the open
//! file to which it refers ("open file description" in the kernel's pages); it holds the locks.
//!
//! A program may close descriptors that it does not know (`close_range`, a daemonizing helper), and
//! the next file it opens gets the number. So a description is identified by its file, and by a
//! read lock on a byte that nobody else locks: only the description that has that lock finds no
//! other lock in its way.
//!
//! A byte lock lasts as long as its description, and a mapping keeps that alive. An **anchor** is a
//! page of such a mapping, which cannot be accessed and which forked children do not get. So the
//! locks of a process last exactly until its address space ends, whatever it closes.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::{File, Metadata};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};
use std::os::unix::fs::MetadataExt;

use crate::mutant::planted;
use crate::os::sys::{self, ByteLock, Stat, check, uninterrupted};

/// Identifies a file among all that exist at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> FileId {
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl From<&Stat> for FileId {
    fn from(stat: &Stat) -> FileId {
        FileId { device: stat.device, inode: stat.inode }
    }
}

/// A number that is never open: calls with it fail with EBADF.
pub(crate) const NEVER: RawFd = RawFd::MAX;

/// Bytes of an anchor.
const ANCHOR: usize = 4096;

/// The file that the number refers to; `None` if it is not open.
pub(crate) fn file_id(fd: RawFd) -> Option<FileId> {
    sys::stat(fd).ok().map(|stat| FileId::from(&stat))
}

/// Whether the number refers to the open file description that holds the lock on this marker. False
/// if that cannot be determined.
pub(crate) fn is_ours(fd: RawFd, file: FileId, marker: u64) -> bool {
    if file_id(fd) != Some(file) {
        return false;
    }
    // SAFETY: it is used for one system call, which touches no memory of ours. The number was open
    // when `file_id` found its file; if the program closes it meanwhile, the call fails.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    sys::byte_is_locked(fd, marker)
        .is_ok_and(|by_another| !by_another || planted!(TheDescriptionIsNotLookedAt))
}

/// Locks a byte that nobody else locks; returns which.
pub(crate) fn set_marker(fd: RawFd) -> io::Result<u64> {
    // Beyond the bytes of the format, which begin at 2^62; 61 random bits.
    let marker = 3 << 61 | sys::random() >> 3;
    // SAFETY: it is used for one system call, which touches no memory of ours; it fails if the
    // number is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    match sys::set_byte_lock(fd, ByteLock::Read, marker)? {
        true => Ok(marker),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Maps an anchor of this description; returns its address. No fork may happen meanwhile: its
/// child would get the page before `MADV_DONTFORK` is set, and keep the locks.
pub(crate) fn anchor(fd: RawFd) -> io::Result<usize> {
    // SAFETY: a new mapping at an address that the kernel chooses; it allows no access.
    let at = unsafe {
        libc::mmap(std::ptr::null_mut(), ANCHOR, libc::PROT_NONE, libc::MAP_SHARED, fd, 0)
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let in_children =
        if planted!(ChildrenKeepTheAnchor) { libc::MADV_DOFORK } else { libc::MADV_DONTFORK };
    // SAFETY: the page was mapped above.
    if let Err(error) = check(unsafe { libc::madvise(at, ANCHOR, in_children) }) {
        release_anchor(at as usize);
        return Err(error);
    }
    Ok(at as usize)
}

/// Unmaps what [`anchor`] mapped; does nothing for 0.
pub(crate) fn release_anchor(at: usize) {
    if at != 0 {
        // SAFETY: `anchor` mapped this page, nothing refers to it, and it is unmapped once, as its
        // owner forgets it.
        unsafe { libc::munmap(at as *mut libc::c_void, ANCHOR) };
    }
}

/// The path in /proc at which the kernel shows the current name of an anchor's file.
pub(crate) fn anchored_file(at: usize) -> String {
    format!("/proc/self/map_files/{at:x}-{:x}", at + ANCHOR)
}

/// Opens the file of a number again, with a new description that has no locks. Opens it by its own
/// name in /proc, or by `path` if that fails and the same file is there. If no more descriptors may
/// be open, the old number is closed first. Allocates nothing.
pub(crate) fn open_again(
    fd: RawFd,
    file: FileId,
    writable: bool,
    path: Option<&CStr>,
) -> io::Result<RawFd> {
    let by_number = sys::proc_path(fd);
    let by_number = CStr::from_bytes_until_nul(&by_number).unwrap_or(c"");
    let mut error = match open(by_number, writable) {
        Ok(new) => return Ok(new),
        Err(error) => error,
    };
    if let Some(path) = path {
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            close(fd);
        }
        match open(path, writable) {
            Ok(new) if file_id(new) == Some(file) => return Ok(new),
            Ok(new) => close(new),
            Err(e) => error = e,
        }
    }
    Err(error)
}

fn open(path: &CStr, writable: bool) -> io::Result<RawFd> {
    let access = if writable { libc::O_RDWR } else { libc::O_RDONLY };
    let flags = access | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the path ends with NUL, and outlives the call.
    uninterrupted(|| unsafe { libc::open(path.as_ptr(), flags) })
}

/// Makes `to` refer to what `from` refers to, and closes `from`.
pub(crate) fn renumber(from: RawFd, to: RawFd) -> io::Result<()> {
    if from == to {
        return Ok(());
    }
    // SAFETY: dup3 touches no memory. `from` is open and the caller's own, and so is the descriptor
    // `to`, if it is open.
    let moved = uninterrupted(|| unsafe { libc::dup3(from, to, libc::O_CLOEXEC) });
    close(from);
    moved.map(|_| ())
}

/// Closes a number of the caller's own.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: it is the caller's own, and is not used again.
    unsafe { libc::close(fd) };
}

/// A number as a file that dropping does not close.
pub(crate) fn as_file(fd: RawFd) -> ManuallyDrop<File> {
    // SAFETY: it is not -1. It may refer to something else by the time it is used; its owner checks
    // that first.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}
