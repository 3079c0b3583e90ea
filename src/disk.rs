//! The disk, as syncing and recovery see it. In what ships it is the store's file; in their
//! tests (`tests/power/`) a simulated one, which loses, tears and reorders what was written.
//! Both run the same functions.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::sys;

/// Bytes of a file, from an offset on: an offset and a length.
pub(crate) type Range = (u64, u64);

/// Where a store's checkpoint is read and written. Whatever is provided here is what a file
/// does; the simulation has its own of each.
pub(crate) trait Disk: std::fmt::Debug + Send + Sync {
    fn file(&self) -> &File;

    /// Bytes of the file.
    fn length(&self) -> io::Result<u64> {
        Ok(self.file().metadata()?.len())
    }

    /// Fills `out`. `UnexpectedEof` if the file ends before.
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.file().read_exact_at(out, at)
    }

    /// Writes all of it; each page at once.
    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        sys::write_at(self.file(), data, at)
    }

    /// Allocates blocks, and makes the file longer if it ends before.
    fn allocate(&self, at: u64, len: u64) -> io::Result<()> {
        sys::allocate(self.file(), at, len)
    }

    /// Gives blocks back: the range reads as zeros.
    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        sys::punch(self.file(), at, len)
    }

    /// Makes the range zeros in blocks of its own, without reading what is there. Calls `progress`
    /// now and then, if it takes long.
    fn zero(&self, at: u64, len: u64, progress: &mut dyn FnMut()) -> io::Result<()> {
        sys::zero(self.file(), at, len, progress)
    }

    /// Gives what stands in the range blocks of its own, where it shares them with a copy of
    /// the file. Holes stay holes. Calls `progress` now and then.
    fn unshare(&self, at: u64, len: u64, progress: &mut dyn FnMut()) -> io::Result<()> {
        sys::unshare_data(self.file(), at, len, progress)
    }

    /// Starts writing these ranges to the device, then waits until they are there: in its cache,
    /// from where the next flush makes them lasting. Calls `progress` after each.
    fn write_out(&self, ranges: &[Range], progress: &mut dyn FnMut()) -> io::Result<()> {
        sys::write_out(self.file(), ranges, progress)
    }

    /// Whether [`Disk::write_out`] of some ranges, then [`Disk::flush`] of another one, makes
    /// all of them lasting.
    fn flushes_ranges(&self) -> bool {
        false
    }

    /// Makes this range lasting, and all that was written out before, with the length and the
    /// extents of the file that are needed to read it.
    fn flush(&self, _range: Range) -> io::Result<()> {
        self.flush_all()
    }

    /// Makes the whole file lasting.
    fn flush_all(&self) -> io::Result<()> {
        self.file().sync_data()
    }
}

impl Disk for File {
    fn file(&self) -> &File {
        self
    }
}

/// Whether an error of reading says that this place of the disk cannot be read, now or ever:
/// an error of the medium, a checksum of the file system that is wrong.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    let codes = [libc::EIO, libc::EBADMSG, libc::EUCLEAN, libc::ENODATA];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Fills `out`; false if the file ends before, or cannot be read there.
pub(crate) fn read_if_there(disk: &dyn Disk, at: u64, out: &mut [u8]) -> io::Result<bool> {
    match disk.read(at, out) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof || is_unreadable(&e) => Ok(false),
        Err(error) => Err(error),
    }
}
