//! The mapping of the file, reserved once beyond its end, and bounds-checked access
//! to parts of it. The mapping never moves and never shrinks; a growing file makes
//! more of it usable.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};

use crate::copy::{self, Atomic, WORD};
use crate::fork::StoreFile;
use crate::futex;
use crate::protocol::{CONTROL, Cell, Control, Memory};
use crate::sys;

/// How long a waiter spins before it sleeps: about what a sleep and a wake-up cost.
pub(crate) const SPIN: Duration = Duration::from_micros(50);

/// A store's file, mapped.
#[derive(Debug)]
pub(crate) struct Map {
    raw: MmapRaw,
    file: StoreFile,
    /// How long the file is known to be, at least.
    known: AtomicU64,
}

/// Why a part of the file cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmapped {
    /// The file ends before.
    BeyondFile { have: u64 },
    /// The file is long enough, but so many addresses could not be reserved.
    BeyondReservation { reserved: u64 },
}

impl Map {
    /// Maps the file and reserves addresses for `most` bytes of it, or for half as
    /// many, and so on, where there are not so many to be had; never for less than
    /// what the file has.
    ///
    /// The file is mapped through an open file description of its own. A mapping keeps
    /// its description open, in the children of forks too, and byte locks last as long as
    /// theirs: a child would keep the locks of a parent that was killed. (Without /proc
    /// there is none to be had; forks then keep them, see `sys::reopen`.)
    pub(crate) fn new(file: StoreFile, writable: bool, most: u64) -> io::Result<Map> {
        let len = file.metadata()?.len();
        let mut reserve = most.max(len);
        let apart = sys::open_again(&file, writable);
        let mapped = apart.as_ref().unwrap_or(&file);
        loop {
            match map(mapped, writable, reserve) {
                Ok(raw) => return Ok(Map { raw, file, known: AtomicU64::new(len) }),
                Err(_) if reserve > len => reserve = (reserve / 2).max(len),
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn file(&self) -> &StoreFile {
        &self.file
    }

    /// Makes what this process has written to these bytes of the file, and all that was
    /// written out before, survive a power cut, with the size and the extents of the file that
    /// are needed to read it. Nothing else of the file is written out: what is mapped may be much.
    pub(crate) fn flush(&self, offset: u64, len: u64) -> io::Result<()> {
        if offset + len > self.raw.len() as u64 {
            return self.file.sync_data();
        }
        // `msync` is to the kernel an `fdatasync` of this range (mm/msync.c).
        loop {
            match self.raw.flush_range(offset as usize, len as usize) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => return result,
            }
        }
    }

    /// The bytes from `offset`, a multiple of 8; `len` is rounded up to whole words.
    pub(crate) fn region(self: &Arc<Self>, offset: u64, len: u64) -> Result<Region, Unmapped> {
        assert!(offset.is_multiple_of(WORD as u64), "a region starts on a word");
        let len = len.next_multiple_of(WORD as u64);
        let Some(end) = offset.checked_add(len) else {
            return Err(Unmapped::BeyondFile { have: self.known.load(Ordering::Relaxed) });
        };
        // Relaxed: a file only grows; who sees an old length asks the kernel.
        if end > self.known.load(Ordering::Relaxed) {
            let have = self.file.metadata().map_or(0, |m| m.len());
            self.known.fetch_max(have, Ordering::Relaxed);
            if end > have {
                return Err(Unmapped::BeyondFile { have });
            }
        }
        let reserved = self.raw.len() as u64;
        if end > reserved {
            return Err(Unmapped::BeyondReservation { reserved });
        }
        Ok(Region { map: Arc::clone(self), start: offset as usize, words: len as usize / WORD })
    }
}

fn map(file: &File, writable: bool, len: u64) -> io::Result<MmapRaw> {
    let len = usize::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    let mut options = MmapOptions::new();
    options.len(len);
    if writable { options.map_raw(file) } else { options.map_raw_read_only(file) }
}

/// A part of the mapping, in words; keeps the mapping alive.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    map: Arc<Map>,
    start: usize,
    words: usize,
}

impl Region {
    /// All its words. Atomics, since other processes write them at any time.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `region` has checked that start and length lie within the mapping and
        // the file, and `map` keeps it mapped. A word is aligned, since the mapping
        // starts on a page and `start` is a multiple of 8. Everything that touches
        // these bytes does so by atomics of this size (cells: see cell.rs). On a
        // read-only mapping only loads are done: the handles refuse all else.
        unsafe {
            let start = self.map.raw.as_ptr().add(self.start);
            std::slice::from_raw_parts(start.cast::<AtomicU64>(), self.words)
        }
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        (self.words * WORD) as u64
    }

    /// All its bytes as atomics of another size: a buffer's elements.
    #[inline]
    pub(crate) fn atomics<A: Atomic>(&self) -> &[A] {
        // SAFETY: start and length lie within the mapping and the file, and `map` keeps it
        // mapped, as in `words`. `A` is aligned, as its size divides a word's, and any bytes
        // are a value of it. A buffer's type, which every handle checks, says of which size
        // its elements are; all code of this crate touches them by atomics of that size,
        // once the slot is published. What users do through `as_ptr` is theirs to answer for.
        unsafe {
            let start = self.map.raw.as_ptr().add(self.start);
            std::slice::from_raw_parts(start.cast::<A>(), self.words * WORD / size_of::<A>())
        }
    }

    /// Where it begins in this process's memory.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.map.raw.as_mut_ptr().wrapping_add(self.start)
    }

    /// The 16 bytes at its start, for a cell.
    #[inline]
    pub(crate) fn cell_ptr(&self) -> *mut u128 {
        assert!(self.words >= 2 && self.start.is_multiple_of(16), "a cell is 16 aligned bytes");
        self.as_mut_ptr().cast()
    }

    fn futex(&self) -> *const AtomicU32 {
        // The low half of the control word comes first: little-endian.
        (&raw const self.words()[CONTROL]).cast()
    }

    /// What to sleep on while the control word is `seen`. It is to be used while this lives.
    pub(crate) fn futex_word(&self, seen: Control) -> futex::Word {
        futex::Word { at: self.futex(), expected: seen.futex_word() }
    }

    /// A part of it, from word `from` on.
    pub(crate) fn part(&self, from: usize, words: usize) -> Region {
        assert!(from + words <= self.words, "a part lies within the whole");
        Region { map: Arc::clone(&self.map), start: self.start + from * WORD, words }
    }
}

impl AsRef<Region> for Region {
    fn as_ref(&self) -> &Region {
        self
    }
}

impl Memory for Region {
    #[inline]
    fn load(&self, word: usize, order: Ordering) -> u64 {
        self.words()[word].load(order)
    }

    #[inline]
    fn store(&self, word: usize, value: u64, order: Ordering) {
        self.words()[word].store(value, order);
    }

    #[inline]
    fn control(&self, order: Ordering) -> Control {
        Control::from_bits(self.load(CONTROL, order))
    }

    #[inline]
    fn swap_control(&self, old: Control, new: Control, order: Ordering) -> Result<(), Control> {
        self.words()[CONTROL]
            .compare_exchange(old.bits(), new.bits(), order, Ordering::Relaxed)
            .map(|_| ())
            .map_err(Control::from_bits)
    }

    fn swap_cell(&self, _: Cell, _: Cell, _: Ordering) -> Result<(), Cell> {
        unreachable!("only a scalar has a cell")
    }

    #[inline]
    fn fence(&self, order: Ordering) {
        std::sync::atomic::fence(order);
    }

    #[inline]
    fn read(&self, word: usize, skip: usize, out: &mut [u8]) {
        copy::read(&self.words()[word..], skip, out);
    }

    #[inline]
    fn write(&self, word: usize, skip: usize, data: &[u8]) {
        copy::write(&self.words()[word..], skip, data);
    }

    #[inline]
    fn copy(&self, from: usize, to: usize, count: usize) {
        let words = self.words();
        copy::copy(&words[from..from + count], &words[to..to + count]);
    }

    #[inline]
    fn relax(&self) {
        std::hint::spin_loop();
    }

    fn spin(&self, seen: Control) -> bool {
        spin(|| self.control(Ordering::Relaxed).same(seen))
    }

    fn wait(&self, seen: Control, limit: Duration) {
        futex::wait(self.futex(), seen.futex_word(), limit);
    }

    fn wake(&self) {
        futex::wake_all(self.futex());
    }
}

/// Spins while `same`, for a short while; whether it ended before the time did.
pub(crate) fn spin(same: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            if !same() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}
