//! The disk, as syncing and recovery see it. In production it is the store's file. In the tests
//! (`tests/power/`) it is simulated, and loses, tears and reorders writes. Both run the same
//! functions.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use crate::mutant::planted;
use crate::os::sys;

/// A range of bytes in a file: offset and length.
pub(crate) type Range = (u64, u64);

/// Where a store's checkpoint is read and written. The provided methods work on a file; the
/// simulation has its own version of each.
pub(crate) trait Disk: std::fmt::Debug + Send + Sync {
    fn file(&self) -> &File;

    /// Length of the file in bytes.
    fn length(&self) -> io::Result<u64> {
        Ok(self.file().metadata()?.len())
    }

    /// Fills `out`. `UnexpectedEof` if the file ends before that.
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.file().read_exact_at(out, at)
    }

    /// Writes all of `data`, each page in one write.
    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        sys::write_at(self.file(), data, at)
    }

    /// Allocates blocks, and extends the file if it ends before the end of the range.
    fn allocate(&self, at: u64, len: u64) -> io::Result<()> {
        sys::allocate(self.file(), at, len)
    }

    /// Frees blocks: the range reads as zeros.
    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        sys::punch(self.file(), at, len)
    }

    /// Fills the range with zeros in blocks of its own, without reading what is there. Calls
    /// `progress` now and then if it takes long.
    fn zero(&self, at: u64, len: u64, progress: &mut dyn FnMut()) -> io::Result<()> {
        sys::zero(self.file(), at, len, progress)
    }

    /// Gives the data in the range blocks of its own if it shares them with a copy of the file.
    /// Holes stay holes. Calls `progress` now and then.
    fn unshare(&self, at: u64, len: u64, progress: &mut dyn FnMut()) -> io::Result<()> {
        sys::unshare_data(self.file(), at, len, progress)
    }

    /// Starts writing these ranges to the device, then waits until they are in its cache. The next
    /// flush makes them durable. Calls `progress` after each range.
    fn write_out(&self, ranges: &[Range], progress: &mut dyn FnMut()) -> io::Result<()> {
        sys::write_out(self.file(), ranges, progress)
    }

    /// Whether [`Disk::write_out`] of some ranges, then [`Disk::flush`] of another one, makes all
    /// of them durable.
    fn flushes_ranges(&self) -> bool {
        false
    }

    /// Makes this range durable, and all that was written out before, with the length and the
    /// extents of the file that are needed to read it.
    fn flush(&self, _range: Range) -> io::Result<()> {
        self.flush_all()
    }

    /// Cleans up after a write that failed. Makes the kernel write what it still has to. Then makes
    /// it forget the pages of these ranges that it considers clean, including those that it could
    /// not write. Also collects errors that are still to be reported.
    ///
    /// ext4 may fail to write a page whose blocks were never written before. If the page is written
    /// again with success, ext4 does not record that they are in use (`EXT4_IO_END_FAILED`). Until
    /// the page is forgotten, what is written there is lost when the file system is mounted again.
    fn forget(&self, ranges: &[Range]) {
        // Twice: the first may stop at an error before all is written. Only the pages, if possible:
        // the file system may have no room for its records of them.
        for _ in 0..2 {
            let _ = match self.flushes_ranges() {
                true => self.write_out(ranges, &mut || ()),
                false => self.flush_all(),
            };
        }
        for range in ranges {
            sys::forget_clean_pages(self.file(), *range);
        }
        let _ = ranges.first().map(|range| self.flush(*range));
    }

    /// Makes the whole file durable.
    fn flush_all(&self) -> io::Result<()> {
        self.file().sync_data()
    }
}

impl Disk for File {
    fn file(&self) -> &File {
        self
    }
}

/// Reads data that lies close behind the last read in larger pieces. One call for each small
/// segment of a large store would take longer than all the work on the segments. Only for data that
/// nobody writes meanwhile.
#[derive(Debug)]
pub(crate) struct ReadAhead<'a> {
    disk: &'a dyn Disk,
    /// The length of the first piece, and of each that is not close behind the one before.
    shortest: usize,
    /// The next pieces are twice as long as the one before, up to this length.
    longest: usize,
    last: Mutex<Piece>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Piece {
    start: u64,
    bytes: Vec<u8>,
}

impl Piece {
    /// The bytes of this range, if all of them are in the piece.
    fn get(&self, at: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl<'a> ReadAhead<'a> {
    pub(crate) fn new(disk: &'a dyn Disk) -> ReadAhead<'a> {
        ReadAhead { disk, shortest: 8 << 10, longest: 256 << 10, last: Mutex::default() }
    }

    /// For a reader of pieces of this length that skips what lies between them.
    pub(crate) fn of_pieces(disk: &'a dyn Disk, len: usize) -> ReadAhead<'a> {
        ReadAhead { disk, shortest: len, longest: len, last: Mutex::default() }
    }
}

impl Disk for ReadAhead<'_> {
    fn file(&self) -> &File {
        self.disk.file()
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let mut piece = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if piece.get(at, out.len()).is_none() {
            let (least, most) = (self.shortest, self.longest);
            let gap = at.checked_sub(piece.end());
            let is_near =
                gap.is_some_and(|gap| gap <= least as u64 && !planted!(NothingIsReadAhead));
            let Piece { start, bytes } = &mut *piece;
            let len = if is_near { (2 * bytes.len()).clamp(least, most) } else { least };
            bytes.resize(len, 0);
            *start = at;
            if self.disk.read(at, bytes).is_err() {
                bytes.clear(); // what was asked for may be readable all the same
            }
        }
        match piece.get(at, out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => self.disk.read(at, out)?,
        }
        Ok(())
    }
}

/// Whether a read error says that this part of the disk cannot be read, now or ever: an error of
/// the medium, or a wrong checksum of the file system.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    let codes = [libc::EIO, libc::EBADMSG, libc::EUCLEAN, libc::ENODATA];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Fills `out`. Tries once more if the disk cannot read it, as the error may be temporary.
pub(crate) fn read(disk: &dyn Disk, at: u64, out: &mut [u8]) -> io::Result<()> {
    match disk.read(at, out) {
        Err(e) if is_unreadable(&e) && !planted!(OneFailedReadRestores) => disk.read(at, out),
        result => result,
    }
}

/// Fills `out`; false if the file ends before that, or cannot be read there.
pub(crate) fn read_if_there(disk: &dyn Disk, at: u64, out: &mut [u8]) -> io::Result<bool> {
    match read(disk, at, out) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof || is_unreadable(&e) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use proptest::prelude::*;

    use super::*;

    /// A disk that counts reads.
    #[derive(Debug)]
    struct Counting(File, AtomicUsize);

    impl Disk for Counting {
        fn file(&self) -> &File {
            &self.0
        }

        fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
            self.1.fetch_add(1, Relaxed);
            self.0.read(at, out)
        }
    }

    fn counting(len: usize) -> (Counting, Vec<u8>) {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        (Counting(file, AtomicUsize::new(0)), bytes)
    }

    #[test]
    fn segments_that_follow_each_other_take_few_reads() {
        const SEGMENTS: usize = 500;
        let (disk, bytes) = counting(SEGMENTS * 8_192);
        let ahead = ReadAhead::new(&disk);
        let (mut head, mut data) = ([0; 64], [0; 4_032]);
        for at in (0..SEGMENTS).map(|segment| segment * 8_192) {
            ahead.read(at as u64, &mut head).unwrap();
            ahead.read(at as u64 + 64, &mut data).unwrap();
            assert!(head[..] == bytes[at..at + 64] && data[..] == bytes[at + 64..at + 4_096]);
        }
        let reads = disk.1.load(Relaxed);
        assert!(reads < SEGMENTS / 10, "{reads} reads of {SEGMENTS} segments");
    }

    proptest! {
        #[test]
        fn what_is_read_ahead_is_what_is_there(
            reads in proptest::collection::vec((0u64..100_000, 0usize..20_000), 1..40),
        ) {
            let (disk, bytes) = counting(90_000);
            let ahead = ReadAhead::new(&disk);
            for (at, len) in reads {
                let mut out = vec![0; len];
                let read = ahead.read(at, &mut out);
                let there = bytes.get(at as usize..at as usize + len);
                let expected = there.map(<[u8]>::to_vec);
                let kind = read.as_ref().err().map(io::Error::kind);
                match expected {
                    Some(expected) => prop_assert!(read.is_ok() && out == expected),
                    // An empty range may be anywhere.
                    None if len == 0 => prop_assert!(read.is_ok()),
                    None => prop_assert_eq!(kind, Some(io::ErrorKind::UnexpectedEof)),
                }
            }
        }
    }
}
