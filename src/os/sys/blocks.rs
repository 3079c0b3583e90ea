//! A file's blocks on the disk: allocating, copying, freeing, zeroing, writing out, sharing.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::mutant::planted;

use super::{check, file_size_limit, uninterrupted};

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
        Err(_) if planted!(BlocksThatCannotBeAllocatedCountAsAllocated) => 0,
        // A sandbox refuses the call, though the file itself may be written.
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        result => result?,
    };
    Ok(())
}

/// Copies `from` to the empty file `to`, without the holes. Replaces each page that the disk cannot
/// read by bytes that are never valid.
pub(crate) fn copy_data(from: &File, to: &File) -> io::Result<()> {
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
                Err(e)
                    if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
                        && !planted!(NoOtherWayWithoutSyncFileRange) =>
                {
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
    file.write_all_at(data, offset)
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
        let mut last = found == 0 || planted!(OnlyTheFirstExtentsAreLookedAt);
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
        file.read_exact_at(page, at)?;
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
        let hole = seek(file, from, libc::SEEK_HOLE)?.filter(|_| !planted!(HolesAreUnshared));
        let to = hole.unwrap_or(end).min(end).min(from + PART);
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
