//! The mapping of the file, and bounds-checked access to parts of it. The mapping never
//! moves and never shrinks; a growing file makes more of it usable.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::mapping::address_space::Reserved;
use crate::mapping::copy::{self, Atomic, WORD};
use crate::os::bus_error::Noted;
use crate::os::disk::{Disk, Range};
use crate::os::futex;
use crate::os::store_file::StoreFile;
use crate::os::sys;
use crate::protocol::{self, CONTROL, Control, Sleepers};

/// A store's file, mapped.
#[derive(Debug)]
pub(crate) struct Map {
    raw: Reserved,
    noted: Noted,
    /// How much of it there will ever be.
    most: u64,
    file: StoreFile,
    /// How long the file is known to be, at least.
    known: AtomicU64,
    /// Where the store's bell is; a store of format 1.0 has none.
    bell: Option<u64>,
}

/// Why a part of the file cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmapped {
    /// The file ends before.
    BeyondFile { have: u64 },
    /// The file is long enough, but so many addresses could not be reserved.
    BeyondReservation { reserved: u64 },
    /// Nobody can tell, by this error number.
    Unknown(i32),
}

impl Map {
    /// Maps the file, which may grow to `most` bytes, see [`Reserved::new`].
    ///
    /// The file is mapped through an open file description of its own. A mapping keeps
    /// its description open, in the children of forks too, and byte locks last as long as
    /// theirs: a child would keep the locks of a parent that was killed.
    pub(crate) fn new(file: StoreFile, writable: bool, most: u64) -> io::Result<Map> {
        let len = file.metadata()?.len();
        let raw = Reserved::new(&file.open_apart()?, writable, len, most)?;
        let noted = Noted::new(raw.as_mut_ptr().addr(), raw.len(), &file);
        Ok(Map { raw, noted, most, file, known: AtomicU64::new(len), bell: None })
    }

    /// It is of a store that has a bell, in the word at this offset, or none.
    pub(crate) fn set_bell(&mut self, offset: Option<u64>) {
        self.bell = offset.filter(|at| self.part(*at, WORD as u64).is_ok());
    }

    /// The store's bell: see [`protocol::Bell`].
    pub(crate) fn bell(&self) -> Option<&AtomicU32> {
        let word = self.raw.as_mut_ptr().wrapping_add(self.bell? as usize).cast::<AtomicU32>();
        // SAFETY: `set_bell` has checked that it lies within mapping and file, and `part` that it
        // is aligned; it is mapped as long as `self` lives. All that changes it are atomics of
        // this size, of which only a writable mapping has callers.
        Some(unsafe { &*word })
    }

    pub(crate) fn file(&self) -> &StoreFile {
        &self.file
    }

    /// The bytes from `offset`, a multiple of 8; `len` is rounded up to whole words.
    pub(crate) fn region(self: &Arc<Self>, offset: u64, len: u64) -> Result<Region, Unmapped> {
        Region::of(Arc::clone(self), offset, len)
    }

    /// Has the processor fetch what stands there, if anything does, while it does other things
    /// (x86-64; others fetch it when it is read).
    #[inline]
    pub(crate) fn fetch(&self, offset: u64) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.raw.as_mut_ptr().wrapping_add(offset as usize);
            // SAFETY: a hint, which reads and writes nothing, and faults at no address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = offset;
    }

    /// Where the words of this part begin, and how many they are.
    #[inline]
    fn part(&self, offset: u64, len: u64) -> Result<(*mut u8, usize), Unmapped> {
        assert!(offset.is_multiple_of(WORD as u64), "a region starts on a word");
        // Rounded up; a length so great that it cannot be ends nowhere in the file.
        let words = len.div_ceil(WORD as u64);
        let end = offset.saturating_add(words.saturating_mul(WORD as u64));
        // Relaxed: a file only grows; who sees an old length asks the kernel.
        if end > self.known.load(Ordering::Relaxed) {
            self.look_at_length(end)?;
        }
        if end > self.raw.len() {
            if !self.raw.grow(end, self.most) {
                return Err(Unmapped::BeyondReservation { reserved: self.raw.len() });
            }
            self.noted.has_grown(self.raw.len());
        }
        Ok((self.raw.as_mut_ptr().wrapping_add(offset as usize), words as usize))
    }

    #[cold]
    fn look_at_length(&self, end: u64) -> Result<(), Unmapped> {
        let length = self.file.metadata().map(|m| m.len());
        let have = length.map_err(|e| Unmapped::Unknown(e.raw_os_error().unwrap_or(libc::EIO)))?;
        self.known.fetch_max(have, Ordering::Relaxed);
        if end > have { Err(Unmapped::BeyondFile { have }) } else { Ok(()) }
    }
}

/// File systems on which a flush of a range commits what was written out before, as their
/// sources say and as `tests/power/run.sh` has seen (numbers from linux/magic.h). On any other
/// one the whole file is flushed: on overlayfs both calls see the upper file's pages nowhere; on
/// btrfs the extents of what was written out may be noted later; of others nobody knows.
const FLUSHES_RANGES: [i64; 2] = [
    0xef53,      // ext4
    0x5846_5342, // xfs
];

impl Disk for Map {
    fn file(&self) -> &File {
        &self.file
    }

    fn allocate(&self, at: u64, len: u64) -> io::Result<()> {
        sys::allocate(self.file.own(), at, len)
    }

    fn flushes_ranges(&self) -> bool {
        sys::file_system(&self.file).is_ok_and(|kind| FLUSHES_RANGES.contains(&kind))
    }

    /// Nothing else of the file is written out: what is mapped may be much.
    fn flush(&self, (offset, len): Range) -> io::Result<()> {
        if offset + len > self.raw.len() {
            return self.flush_all();
        }
        // `msync` is to the kernel an `fdatasync` of this range (mm/msync.c).
        match self.raw.flush_range(offset, len) {
            // A sandbox without the call.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                self.flush_all()
            }
            result => result,
        }
    }
}

/// What a mapping lives at least as long as.
///
/// # Safety
///
/// While a value of this type exists and is not changed, the mapping that it has returned
/// stays mapped, and it and its clones go on to return that one.
pub(crate) unsafe trait KeepsMapped: Clone {
    fn map(&self) -> &Map;
}

// SAFETY: it is one of those that keep the map, as its clones are, which has its memory mapped
// until it is dropped.
unsafe impl KeepsMapped for Arc<Map> {
    #[inline]
    fn map(&self) -> &Map {
        self
    }
}

// SAFETY: what is borrowed is neither dropped nor replaced; for the rest as above.
unsafe impl KeepsMapped for &Map {
    #[inline]
    fn map(&self) -> &Map {
        self
    }
}

// SAFETY: while it exists nobody can change or drop what it shares, and nothing in there
// changes `map` behind a reference; for the rest as above.
unsafe impl<T> KeepsMapped for Arc<WithMap<T>> {
    #[inline]
    fn map(&self) -> &Map {
        &self.map
    }
}

/// Something with the mapping that it uses: who shares it needs no more to have both.
#[derive(Debug)]
pub(crate) struct WithMap<T> {
    // Dropped in this order.
    value: T,
    map: Arc<Map>,
}

impl<T> WithMap<T> {
    pub(crate) fn new(value: T, map: Arc<Map>) -> WithMap<T> {
        WithMap { value, map }
    }
}

impl<T> std::ops::Deref for WithMap<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A part of the mapping, in words; has beside it what keeps it mapped.
#[derive(Clone, Debug)]
pub(crate) struct Region<K: KeepsMapped = Arc<Map>> {
    /// So many words from here on lie within the mapping of `keeper`, which never changes.
    start: *mut u8,
    words: usize,
    keeper: K,
}

// SAFETY: `start` is an address in memory that all processes share; all that is done through it
// may be done by any thread. Whether `keeper` may go to another one, `K` says.
unsafe impl<K: KeepsMapped + Send> Send for Region<K> {}
// SAFETY: as above.
unsafe impl<K: KeepsMapped + Sync> Sync for Region<K> {}

impl<K: KeepsMapped> Region<K> {
    /// The bytes from `offset`, a multiple of 8; `len` is rounded up to whole words.
    #[inline]
    pub(crate) fn of(keeper: K, offset: u64, len: u64) -> Result<Region<K>, Unmapped> {
        let (start, words) = keeper.map().part(offset, len)?;
        Ok(Region { start, words, keeper })
    }

    /// The same part, kept by another of those who keep this mapping.
    #[inline]
    pub(crate) fn kept_by<L: KeepsMapped>(&self, keeper: L) -> Region<L> {
        assert!(std::ptr::eq(self.keeper.map(), keeper.map()), "it is of another mapping");
        Region { start: self.start, words: self.words, keeper }
    }

    /// The same part, borrowed.
    #[inline]
    pub(crate) fn by_ref(&self) -> Region<&Map> {
        Region { start: self.start, words: self.words, keeper: self.keeper.map() }
    }

    #[inline]
    pub(crate) fn keeper(&self) -> &K {
        &self.keeper
    }

    /// Where in the file it is.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        (self.start.addr() - self.keeper.map().raw.as_mut_ptr().addr()) as u64
    }

    /// How many bytes it has.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        (self.words * WORD) as u64
    }

    /// All its words. Atomics, since other processes write them at any time.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `Map::part` has checked that start and length lie within the mapping and
        // the file, and `keeper` keeps it mapped. A word is aligned, since the mapping
        // starts on a page and the offset is a multiple of 8. Everything that touches
        // these bytes does so by atomics of this size (cells: see cell.rs). On a
        // read-only mapping only loads are done: the handles refuse all else.
        unsafe { std::slice::from_raw_parts(self.start.cast::<AtomicU64>(), self.words) }
    }

    /// All its bytes as atomics of another size: a buffer's elements.
    #[inline]
    pub(crate) fn atomics<A: Atomic>(&self) -> &[A] {
        // SAFETY: start and length lie within the mapping and the file, and `keeper` keeps it
        // mapped, as in `words`. `A` is aligned, as its size divides a word's, and any bytes
        // are a value of it. A buffer's type, which every handle checks, says of which size
        // its elements are; all code of this crate touches them by atomics of that size,
        // once the slot is published. What users do through `as_ptr` is theirs to answer for.
        unsafe {
            std::slice::from_raw_parts(self.start.cast::<A>(), self.words * WORD / size_of::<A>())
        }
    }

    #[inline]
    pub(crate) fn load(&self, word: usize, order: Ordering) -> u64 {
        self.words()[word].load(order)
    }

    #[inline]
    pub(crate) fn store(&self, word: usize, value: u64, order: Ordering) {
        self.words()[word].store(value, order);
    }

    /// Fills `out` from `skip` bytes after `word`, relaxed.
    #[inline]
    pub(crate) fn read(&self, word: usize, skip: usize, out: &mut [u8]) {
        copy::read(&self.words()[word..], skip, out);
    }

    /// Stores `data` from `skip` bytes after `word`, relaxed; keeps the bytes beside it.
    #[inline]
    pub(crate) fn write(&self, word: usize, skip: usize, data: &[u8]) {
        copy::write(&self.words()[word..], skip, data);
    }

    /// Where it begins in this process's memory.
    #[inline]
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.start
    }

    /// Whether it can begin with a cell.
    #[inline]
    pub(crate) fn holds_cell(&self) -> bool {
        self.words >= 2 && self.start.addr().is_multiple_of(16)
    }

    /// The half of the control word that waiters sleep on.
    pub(crate) fn futex(&self) -> *const AtomicU32 {
        // The low half of the control word comes first: little-endian.
        (&raw const self.words()[CONTROL]).cast()
    }

    /// What to sleep on while the control word is `seen`. It is to be used while this lives.
    pub(crate) fn futex_word(&self, seen: Control) -> futex::Word {
        futex::Word { at: self.futex(), expected: seen.futex_word() }
    }

    /// Tells it from all others that this process has.
    pub(crate) fn place(&self) -> usize {
        self.start.addr()
    }

    /// Tells the bell of its store from those of others.
    pub(crate) fn bell_address(&self) -> usize {
        self.keeper.map().bell().map_or(0, |bell| std::ptr::from_ref(bell).addr())
    }

    /// A part of it, from word `from` on.
    pub(crate) fn part(&self, from: usize, words: usize) -> Region<K> {
        let fits = from.checked_add(words).is_some_and(|end| end <= self.words);
        assert!(fits, "a part lies within the whole");
        let start = self.start.wrapping_add(from * WORD);
        Region { start, words, keeper: self.keeper.clone() }
    }
}

impl<T> Region<Arc<WithMap<T>>> {
    /// The same part, which keeps the mapping alone.
    pub(crate) fn of_map(&self) -> Region {
        self.kept_by(Arc::clone(&self.keeper.map))
    }
}

impl protocol::Bell for AtomicU32 {
    fn load(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }

    fn swap(&self, old: u32, new: u32, order: Ordering) -> Result<(), u32> {
        self.compare_exchange(old, new, order, Ordering::Relaxed).map(|_| ())
    }

    fn wake(&self) {
        futex::wake(self, Sleepers::CHANGE.bits(), i32::MAX);
    }
}
