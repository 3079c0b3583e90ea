//! All calls of the C library, behind safe functions. Each may be called in the child of a fork
//! unless its comment says that it allocates.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Repeats a call while signals interrupt it.
pub(crate) fn uninterrupted(mut call: impl FnMut() -> libc::c_int) -> io::Result<libc::c_int> {
    loop {
        match check(call()) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            result => return result,
        }
    }
}

/// Allocates the blocks of this range, and extends the file if it ends before the range's end.
///
/// If the file would become longer than `RLIMIT_FSIZE`, the system call would raise SIGXFSZ; this
/// returns the error `EFBIG` instead.
pub(crate) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let too_large = || io::Error::from_raw_os_error(libc::EFBIG);
    let end = offset.checked_add(len).ok_or_else(too_large)?;
    if end > file_size_limit() && end > file.metadata()?.len() {
        return Err(too_large());
    }
    let offset = libc::off_t::try_from(offset).map_err(|_| too_large())?;
    let len = libc::off_t::try_from(len).map_err(|_| too_large())?;
    // SAFETY: fallocate touches no memory of ours; the descriptor is open while `file` is.
    match uninterrupted(|| unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, len) }) {
        // A sandbox refuses the call, though the file itself may be written.
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        result => result?,
    };
    Ok(())
}

/// The longest that a file of this process may be.
pub(crate) fn file_size_limit() -> u64 {
    soft_limit(libc::RLIMIT_FSIZE)
}

/// How much address space this process may use.
pub(crate) fn address_limit() -> u64 {
    soft_limit(libc::RLIMIT_AS)
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit fills the struct, which is on this stack.
    match check(unsafe { libc::getrlimit(resource, &mut limit) }) {
        Ok(_) => limit.rlim_cur,
        Err(_) => u64::MAX,
    }
}

/// Copies `from` to the empty file `to`, without the holes. Replaces each page that the disk cannot
/// read by bytes that are never valid.
pub(crate) fn copy_data(from: &File, to: &File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let len = from.metadata()?.len();
    if len > file_size_limit() {
        return Err(io::Error::from_raw_os_error(libc::EFBIG)); // the call would raise SIGXFSZ
    }
    to.set_len(len)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let Some(start) = seek(from, at, libc::SEEK_DATA)? else { break };
        let end = seek(from, start, libc::SEEK_HOLE)?.unwrap_or(len);
        at = start;
        while at < end {
            let part = &mut buffer[..(end - at).min(1 << 20) as usize];
            match from.read_exact_at(part, at) {
                Err(e) if e.raw_os_error() == Some(libc::EIO) => read_pages(from, part, at)?,
                result => result?,
            }
            write_at(to, part, at)?;
            at += part.len() as u64;
        }
    }
    Ok(())
}

/// Reads page by page. Replaces a page that cannot be read by bytes that are neither zeros, which
/// may mean something, nor valid under any CRC.
fn read_pages(from: &File, out: &mut [u8], at: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    for (page, out) in out.chunks_mut(4096).enumerate() {
        match from.read_exact_at(out, at + 4096 * page as u64) {
            Err(e) if e.raw_os_error() == Some(libc::EIO) => out.fill(0xff),
            result => result?,
        }
    }
    Ok(())
}

/// Where the first data, or hole, at or after `from` begins; `None` if there is none.
fn seek(file: &File, from: u64, what: libc::c_int) -> io::Result<Option<u64>> {
    // SAFETY: lseek touches no memory of ours. (It moves the descriptor's position, which nothing
    // here uses.)
    let found = unsafe { libc::lseek(file.as_raw_fd(), from.cast_signed(), what) };
    match u64::try_from(found) {
        Ok(found) => Ok(Some(found)),
        Err(_) => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            e => Err(e),
        },
    }
}

/// Frees the blocks of this range, which then reads as zeros. The file keeps its length.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (offset, len) = (offset.cast_signed(), len.cast_signed());
    // SAFETY: fallocate touches no memory of ours; the descriptor is open while `file` is.
    uninterrupted(|| unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) })?;
    Ok(())
}

/// Starts writing these ranges to the device, then waits until they are in its cache; the next
/// flush makes them durable. Calls `progress` after each range.
pub(crate) fn write_out(
    file: &File,
    ranges: &[(u64, u64)],
    progress: &mut dyn FnMut(),
) -> io::Result<()> {
    let start = libc::SYNC_FILE_RANGE_WRITE;
    let finish = libc::SYNC_FILE_RANGE_WAIT_BEFORE | start | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    for flags in [start, finish] {
        for (offset, len) in ranges {
            let (offset, len) = (offset.cast_signed(), len.cast_signed());
            // SAFETY: sync_file_range touches no memory of ours.
            let result = uninterrupted(|| unsafe {
                libc::sync_file_range(file.as_raw_fd(), offset, len, flags)
            });
            match result {
                // A sandbox without the call: the whole file instead.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    return file.sync_data();
                }
                result => result?,
            };
            progress();
        }
    }
    Ok(())
}

/// Makes the kernel forget the clean pages of this range; the next read goes to the disk.
pub(crate) fn forget_clean_pages(file: &File, (offset, len): (u64, u64)) {
    let (offset, len, dont_need) = (offset as i64, len as i64, libc::POSIX_FADV_DONTNEED);
    // SAFETY: posix_fadvise touches no memory of ours. If it is refused, nothing is lost.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, dont_need) };
}

/// Fills this range with zeros in blocks of its own, without reading what is there: afterwards a
/// block that could not be read is usable again. If the file system cannot do that, writes zeros,
/// and calls `progress` after each page.
pub(crate) fn zero(
    file: &File,
    offset: u64,
    len: u64,
    progress: &mut dyn FnMut(),
) -> io::Result<()> {
    let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    let (at, count) = (offset.cast_signed(), len.cast_signed());
    // SAFETY: fallocate touches no memory of ours; the descriptor is open while `file` is.
    match uninterrupted(|| unsafe { libc::fallocate(file.as_raw_fd(), mode, at, count) }) {
        Ok(_) => return Ok(()),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => {}
        Err(error) => return Err(error),
    }
    // Page by page: a longer write makes the kernel keep longer pieces of the file together, and
    // write back a whole piece when one byte of it changes.
    for at in (offset..offset + len).step_by(4096) {
        write_at(file, &[0; 4096][..(offset + len - at).min(4096) as usize], at)?;
        progress();
    }
    Ok(())
}

/// Writes all of `data`. Beyond `RLIMIT_FSIZE`, the system call would raise SIGXFSZ; this returns
/// the error `EFBIG` instead.
pub(crate) fn write_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    if offset + data.len() as u64 > file_size_limit() {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

/// The type of the file system of a file, as statfs(2) numbers them.
pub(crate) fn file_system(file: &File) -> io::Result<i64> {
    Ok(statfs(file)?.f_type)
}

/// The ID of the file system of a file or, on btrfs, of the subvolume.
pub(crate) fn file_system_id(file: &File) -> io::Result<u64> {
    let id = statfs(file)?.f_fsid;
    // SAFETY: it is two 32-bit numbers, which the library gives no names; any bits are a valid u64.
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, u64>(id) })
}

fn statfs(file: &File) -> io::Result<libc::statfs> {
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: fstatfs fills the struct, which is on this stack.
    uninterrupted(|| unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, and so filled it.
    Ok(unsafe { found.assume_init() })
}

/// The directory of this file's file system below /sys/fs, such as `ext4/sda1`. Since Linux 6.9,
/// and not for every type.
pub(crate) fn name_in_sysfs(file: &File) -> io::Result<String> {
    const FS_IOC_GETFSSYSFSPATH: libc::c_ulong = 0x8081_1501; // linux/fs.h
    // A length, then the name.
    let mut found = [0u8; 129];
    // SAFETY: the call fills the 129 bytes, which are on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFSSYSFSPATH as _, &mut found) })?;
    let name = found[1..].get(..found[0].into()).unwrap_or_default();
    let name = std::str::from_utf8(name).unwrap_or_default().trim_end_matches('\0');
    if name.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(name.to_owned()) }
}

/// The UUID of the btrfs file system of this file.
pub(crate) fn btrfs_uuid(file: &File) -> io::Result<String> {
    const BTRFS_IOC_FS_INFO: libc::c_ulong = 0x8400_941f; // linux/btrfs.h
    let mut found = [0u64; 128];
    // SAFETY: the call fills the 1,024 bytes, which are on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BTRFS_IOC_FS_INFO as _, &mut found) })?;
    // It comes after two words.
    let bytes = [found[2].to_le_bytes(), found[3].to_le_bytes()].concat();
    let hex = |part: std::ops::Range<usize>| -> String {
        bytes[part].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    Ok([hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-"))
}

/// The number that distinguishes an inode from earlier ones with the same inode number.
pub(crate) fn inode_generation(file: &File) -> io::Result<u32> {
    const FS_IOC_GETVERSION: libc::c_ulong =
        0x7601 | 2 << 30 | (size_of::<libc::c_long>() as libc::c_ulong) << 16; // linux/fs.h
    // The kernel fills an `int`, although the number of the call says `long`.
    let mut found: libc::c_long = 0;
    // SAFETY: the call fills the number, which is on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETVERSION as _, &mut found) })?;
    Ok(found as u32)
}

/// Commands of fcntl(2), and the write hint that means that nothing is known.
const F_GET_RW_HINT: libc::c_int = 1035;
const F_SET_RW_HINT: libc::c_int = 1036;
const RWH_WRITE_LIFE_NONE: u64 = 1;

/// Marks the inode in memory. The mark is the hint for the lifetime of written data, with the value
/// that changes nothing. The kernel keeps it as long as the inode is in memory, and writes it
/// nowhere. Only the owner may set it (Linux 4.13).
pub(crate) fn mark(file: &File) -> io::Result<()> {
    let hint = RWH_WRITE_LIFE_NONE;
    // SAFETY: the call reads the number, which is on this stack.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_SET_RW_HINT, &hint) })?;
    Ok(())
}

/// Whether the inode in memory has the mark.
pub(crate) fn is_marked(file: &File) -> bool {
    let mut hint = 0u64;
    // SAFETY: the call fills the number, which is on this stack.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), F_GET_RW_HINT, &mut hint) };
    result == 0 && hint == RWH_WRITE_LIFE_NONE
}

const FS_NOCOW_FL: libc::c_int = 0x0080_0000; // linux/fs.h

/// Asks btrfs to write this empty file in place. If it wrote each change elsewhere, what
/// `fallocate` promises would be lost.
pub(crate) fn write_in_place(file: &File) -> io::Result<()> {
    let flags = attributes(file)? | FS_NOCOW_FL;
    // SAFETY: the call reads the number, which is on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &flags) })?;
    Ok(())
}

/// Whether btrfs writes this file in place.
pub(crate) fn is_written_in_place(file: &File) -> io::Result<bool> {
    Ok(attributes(file)? & FS_NOCOW_FL != 0)
}

fn attributes(file: &File) -> io::Result<libc::c_int> {
    let mut flags: libc::c_int = 0;
    // SAFETY: the call fills the number, which is on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &mut flags) })?;
    Ok(flags)
}

/// Where the file shares blocks with another one, as far as the file system says: offsets and
/// lengths.
pub(crate) fn shared_ranges(file: &File) -> io::Result<Vec<(u64, u64)>> {
    // linux/fiemap.h: a header of four words, then extents of seven.
    const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
    const FIEMAP_EXTENT_LAST: u64 = 1;
    const FIEMAP_EXTENT_SHARED: u64 = 0x2000;
    const EXTENTS: usize = 64;
    let (mut shared, mut at) = (Vec::new(), 0);
    loop {
        let mut map = [0u64; 4 + 7 * EXTENTS];
        (map[0], map[1], map[3]) = (at, u64::MAX - at, EXTENTS as u64);
        // SAFETY: the call fills the header, and at most as many extents as the header has room
        // for; all of it is on this stack.
        check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as _, &mut map) })?;
        let found = (map[2] >> 32) as usize; // after 32 bits of flags
        let mut last = found == 0;
        for extent in map[4..].chunks(7).take(found) {
            let (start, len, flags) = (extent[0], extent[2], extent[5] & 0xffff_ffff);
            if flags & FIEMAP_EXTENT_SHARED != 0 {
                shared.push((start, len));
            }
            at = start + len;
            last |= flags & FIEMAP_EXTENT_LAST != 0;
        }
        if last {
            return Ok(shared);
        }
    }
}

/// Gives a range blocks of its own by writing its content again. Nobody else may be writing to it.
pub(crate) fn write_again(file: &File, offset: u64, len: u64) -> io::Result<()> {
    // Page by page, as in `zero`.
    let mut page = [0; 4096];
    for at in (offset..offset + len).step_by(4096) {
        let page = &mut page[..(offset + len - at).min(4096) as usize];
        std::os::unix::fs::FileExt::read_exact_at(file, page, at)?;
        write_at(file, page, at)?;
    }
    Ok(())
}

/// Gives a file blocks of its own where it shares them with a copy, as xfs and btrfs make them.
/// Otherwise the first write to each would have to find room. Holes stay holes, which the system
/// call by itself would allocate (xfs).
pub(crate) fn unshare_data(
    file: &File,
    offset: u64,
    len: u64,
    progress: &mut dyn FnMut(),
) -> io::Result<()> {
    /// Bytes per call, each of which may take long.
    const PART: u64 = 16 << 20;
    let end = offset + len;
    let mut at = offset;
    while let Some(from) = seek(file, at, libc::SEEK_DATA)?.filter(|from| *from < end) {
        let to = seek(file, from, libc::SEEK_HOLE)?.unwrap_or(end).min(end).min(from + PART);
        let (start, count) = (from.cast_signed(), (to - from).cast_signed());
        let mode = libc::FALLOC_FL_UNSHARE_RANGE;
        // SAFETY: fallocate touches no memory of ours; the descriptor is open while `file` is.
        match uninterrupted(|| unsafe { libc::fallocate(file.as_raw_fd(), mode, start, count) }) {
            Ok(_) => progress(),
            // Most file systems share no blocks, and do not have this call.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => break,
            // What cannot be read stays shared: a later write there fails if there is no room.
            Err(e) if e.raw_os_error() == Some(libc::EIO) => progress(),
            Err(error) => return Err(error),
        }
        at = to;
    }
    Ok(())
}

/// Nanoseconds since boot, sleep included.
pub(crate) fn since_boot() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime fills the struct, which is on this stack.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// A number that nobody can guess. Allocates nothing.
pub(crate) fn random() -> u64 {
    let mut number = [0_u8; 8];
    // SAFETY: getrandom fills the bytes, which are on this stack.
    let filled = unsafe { libc::getrandom(number.as_mut_ptr().cast(), number.len(), 0) };
    if filled == 8 {
        return u64::from_le_bytes(number);
    }
    // A sandbox refuses the call: made from the time and the process ID.
    let seed = since_boot() ^ u64::from(std::process::id()) << 40;
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

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

/// A second descriptor of the same open file description, which children inherit.
pub(crate) fn inheritable(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD takes a number and touches no memory.
    let fd = uninterrupted(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, 3) })?;
    // SAFETY: the descriptor is new, open, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A nameless file in memory or, if a sandbox refuses the call, in the usual folder for files in
/// memory. Allocates.
pub(crate) fn memory_file(name: &std::ffi::CStr) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // SAFETY: the name ends with NUL, and outlives the call.
    match check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) }) {
        // SAFETY: the descriptor is new, open, and nobody else's.
        Ok(fd) => Ok(unsafe { File::from_raw_fd(fd) }),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            let mut options = File::options();
            options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
            options.open("/dev/shm").or(Err(e))
        }
        Err(error) => Err(error),
    }
}

/// Renames a file, unless the new name is taken. Allocates.
pub(crate) fn rename_new(from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
    rename_with(from, to, libc::RENAME_NOREPLACE)
}

/// Gives a nameless file (`O_TMPFILE`) this name; fails if the name is taken. Allocates.
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

/// Exchanges the names of two files, in one step. Allocates.
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

/// Registers a function that runs when this process ends by `exit`, or returns from `main`.
pub(crate) fn at_exit(f: extern "C" fn()) -> io::Result<()> {
    // SAFETY: the function is part of this program, and exists as long as it runs (or, in a library
    // that is unloaded, is called and forgotten then).
    if unsafe { libc::atexit(f) } == 0 { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
}

/// Registers functions that run around every fork of this process: before it, after it in the
/// parent, and after it in the child.
pub(crate) fn at_fork(
    before: extern "C" fn(),
    in_parent: extern "C" fn(),
    in_child: extern "C" fn(),
) -> io::Result<()> {
    // SAFETY: the handlers are functions of this program, and exist as long as it runs.
    let error = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
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
