//! The mapping of the file, and bounds-checked access to parts of it. The mapping never moves and
//! never shrinks; as the file grows, more of it becomes usable.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::mapping::address_space::Reserved;
use crate::mapping::copy::{self, Atomic, WORD};
use crate::mapping::file_marks::MarksPlace;
use crate::mutant::planted;
use crate::os::bus_error::NotedMapping;
use crate::os::disk::{Disk, Range};
use crate::os::futex;
use crate::os::store_file::StoreFile;
use crate::os::sys;
use crate::protocol::{self, CONTROL, Control, Sleepers};

/// A store's file, mapped.
#[derive(Debug)]
pub(crate) struct Map {
    /// Distinguishes it from all others of this process, past ones too.
    id: u64,
    raw: Reserved,
    noted: NotedMapping,
    /// The length that the file will never exceed.
    most: u64,
    file: StoreFile,
    /// A lower bound of the file's length.
    known: AtomicU64,
    /// The offset of the store's event count; a store of format 1.0 has none.
    event_count: Option<u64>,
    /// Where the store's segment marks are, if it has any.
    pub(super) marks: Option<MarksPlace>,
}

/// Why a part of the file is not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmapped {
    /// The file ends before that part.
    BeyondFile { have: u64 },
    /// The file is long enough, but not enough addresses could be reserved.
    BeyondReservation { reserved: u64 },
    /// Unknown: asking the kernel failed with this error number.
    Unknown(i32),
}

impl Map {
    /// Maps the file, which may grow to `most` bytes, see [`Reserved::new`].
    ///
    /// The file is mapped through an open file description of its own, on which no locks are set. A
    /// mapping keeps its description open, also in forked children. Byte locks last as long as
    /// their description: otherwise a child would keep the locks of a parent that was killed.
    pub(crate) fn new(file: StoreFile, writable: bool, most: u64) -> io::Result<Map> {
        let len = file.metadata()?.len();
        let raw = Reserved::new(&file.open_apart()?, writable, len, most)?;
        let noted = NotedMapping::new(raw.as_mut_ptr().addr(), raw.len(), &file);
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        // Relaxed: it is only a number.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let known = AtomicU64::new(len);
        Ok(Map { id, raw, noted, most, file, known, event_count: None, marks: None })
    }

    /// Sets where the store's segment marks are, if it has any.
    pub(crate) fn set_marks(&mut self, place: Option<MarksPlace>) {
        let is_there = |at: u64, words: u64| self.locate(at, 8 * words).is_ok();
        self.marks = place.filter(|place| {
            is_there(place.marks, place.words as u64) && is_there(place.cleaning, 1)
        });
    }

    /// A word of the marks, or [`MarksPlace::cleaning`].
    #[inline]
    pub(super) fn word_of_marks(&self, offset: u64) -> &AtomicU64 {
        let word = self.raw.as_mut_ptr().wrapping_add(offset as usize).cast::<AtomicU64>();
        // SAFETY: `set_marks` has checked that it is within mapping and file, and `locate` that it
        // is aligned; it is mapped as long as `self` lives. Only atomics of this size change it, and
        // their callers have a writable mapping.
        unsafe { &*word }
    }

    /// Sets the offset of the store's event count, if it has one.
    pub(crate) fn set_event_count(&mut self, offset: Option<u64>) {
        self.event_count = offset.filter(|at| self.locate(*at, WORD as u64).is_ok());
    }

    /// The store's event count: see [`protocol::EventCount`].
    pub(crate) fn event_count(&self) -> Option<&AtomicU32> {
        let word =
            self.raw.as_mut_ptr().wrapping_add(self.event_count? as usize).cast::<AtomicU32>();
        // SAFETY: `set_event_count` has checked that it is within mapping and file, and `locate`
        // that it is aligned; it is mapped as long as `self` lives. Only atomics of this size
        // change it, and their callers have a writable mapping.
        Some(unsafe { &*word })
    }

    pub(crate) fn file(&self) -> &StoreFile {
        &self.file
    }

    /// The bytes from `offset`, a multiple of 8; `len` is rounded up to whole words.
    pub(crate) fn region(self: &Arc<Self>, offset: u64, len: u64) -> Result<Region, Unmapped> {
        Region::of(Arc::clone(self), offset, len)
    }

    /// Makes the processor fetch this part of the file into its cache, if it exists, in the
    /// background (x86-64; other processors fetch it when it is read).
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

    /// The address of the first word of this part, and the number of words.
    #[inline]
    fn locate(&self, offset: u64, len: u64) -> Result<(*mut u8, usize), Unmapped> {
        assert!(offset.is_multiple_of(WORD as u64), "a region starts on a word");
        // Rounded up; an impossibly great length ends beyond the file.
        let words = len.div_ceil(WORD as u64);
        let end = offset.saturating_add(words.saturating_mul(WORD as u64));
        // Relaxed: a file only grows; a thread that sees an old length asks the kernel.
        if end > self.known.load(Ordering::Relaxed) {
            self.look_at_length(end)?;
        }
        if end > self.raw.len() {
            if !self.raw.grow(end, self.most) {
                return Err(Unmapped::BeyondReservation { reserved: self.raw.len() });
            }
            self.noted.note_growth(self.raw.len());
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

/// File systems on which flushing a range also commits what was written out before, according to
/// their sources and to what `tests/power/run.sh` has seen (numbers from linux/magic.h). On all
/// others the whole file is flushed. On overlayfs neither call finds the upper file's pages; on
/// btrfs the extents of what was written out may be recorded later; others are unknown.
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

    /// Writes out nothing else of the file: the mapping may be large.
    fn flush(&self, (offset, len): Range) -> io::Result<()> {
        if offset + len > self.raw.len() {
            return self.flush_all();
        }
        // To the kernel, `msync` is an `fdatasync` of this range (mm/msync.c).
        match self.raw.flush_range(offset, len) {
            // A sandbox without the call.
            Err(e)
                if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
                    && !planted!(NoOtherWayWithoutMsync) =>
            {
                self.flush_all()
            }
            result => result,
        }
    }
}

/// Something that keeps a mapping alive.
///
/// # Safety
///
/// While a value of this type exists unchanged, the mapping that it has returned stays mapped, and
/// the value and its clones keep returning the same mapping.
pub(crate) unsafe trait KeepsMapped: Clone {
    fn map(&self) -> &Map;
}

// SAFETY: it is one of the references that keep the map alive, and so are its clones; the map's
// memory stays mapped until the map is dropped.
unsafe impl KeepsMapped for Arc<Map> {
    #[inline]
    fn map(&self) -> &Map {
        self
    }
}

// SAFETY: a borrowed map is neither dropped nor replaced; otherwise as above.
unsafe impl KeepsMapped for &Map {
    #[inline]
    fn map(&self) -> &Map {
        self
    }
}

// SAFETY: while it exists nobody can change or drop what it shares, and nothing in it changes `map`
// behind a reference; otherwise as above.
unsafe impl<T> KeepsMapped for Arc<WithMap<T>> {
    #[inline]
    fn map(&self) -> &Map {
        &self.map
    }
}

/// A value with the mapping that it uses, so that one shared pointer keeps both.
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

/// A part of the mapping, in words, with what keeps it mapped.
#[derive(Clone, Debug)]
pub(crate) struct Region<K: KeepsMapped = Arc<Map>> {
    /// From here on, `words` words are within the mapping of `keeper`, which never changes.
    start: *mut u8,
    words: usize,
    keeper: K,
}

/// A [`Region`] without what keeps it mapped: see [`Region::to_raw`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRegion {
    start: *mut u8,
    words: usize,
    map: u64,
}

// SAFETY: `start` is an address in memory that all processes share; whatever is done through it,
// any thread may do. `K` decides whether `keeper` may go to another thread.
unsafe impl<K: KeepsMapped + Send> Send for Region<K> {}
// SAFETY: as above.
unsafe impl<K: KeepsMapped + Sync> Sync for Region<K> {}

impl<K: KeepsMapped> Region<K> {
    /// The bytes from `offset`, a multiple of 8; `len` is rounded up to whole words.
    #[inline]
    pub(crate) fn of(keeper: K, offset: u64, len: u64) -> Result<Region<K>, Unmapped> {
        let (start, words) = keeper.map().locate(offset, len)?;
        Ok(Region { start, words, keeper })
    }

    /// The same part, kept mapped by another keeper of this mapping.
    #[inline]
    pub(crate) fn kept_by<L: KeepsMapped>(&self, keeper: L) -> Region<L> {
        assert!(std::ptr::eq(self.keeper.map(), keeper.map()), "it is of another mapping");
        Region { start: self.start, words: self.words, keeper }
    }

    /// The same region, without its keeper, for an owner that has the keeper elsewhere.
    #[inline]
    pub(crate) fn to_raw(&self) -> RawRegion {
        RawRegion { start: self.start, words: self.words, map: self.keeper.map().id }
    }

    /// The region that [`to_raw`](Region::to_raw) was taken of.
    #[inline]
    pub(crate) fn from_raw(raw: &RawRegion, keeper: K) -> Region<K> {
        // It is the same mapping, which never shrinks.
        assert!(raw.map == keeper.map().id, "it is of another mapping");
        Region { start: raw.start, words: raw.words, keeper }
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

    /// Its offset in the file.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        (self.start.addr() - self.keeper.map().raw.as_mut_ptr().addr()) as u64
    }

    /// Its length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        (self.words * WORD) as u64
    }

    /// All its words. They are atomics, since other processes write them at any time.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `Map::locate` has checked that start and length are within the mapping and the
        // file, and `keeper` keeps it mapped. A word is aligned, since the mapping starts on a page
        // and the offset is a multiple of 8. Everything accesses these bytes by atomics of this
        // size (cells: see cell.rs). A read-only mapping is only read: the handles refuse all else.
        unsafe { std::slice::from_raw_parts(self.start.cast::<AtomicU64>(), self.words) }
    }

    /// All its bytes as atomics of another size: a buffer's elements.
    #[inline]
    pub(crate) fn atomics<A: Atomic>(&self) -> &[A] {
        // SAFETY: start and length are within the mapping and the file, and `keeper` keeps it
        // mapped, as in `words`. `A` is aligned, as its size divides a word's, and any bytes are a
        // valid `A`. A buffer's type, which every handle checks, gives the size of its elements;
        // once the slot is published, all code of this crate accesses them by atomics of that size.
        // What users do through `as_ptr` is their responsibility.
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

    /// Its address in this process.
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

    /// What to sleep on while the control word is `seen`. Use it only while this value lives.
    pub(crate) fn futex_word(&self, seen: Control) -> futex::Word {
        futex::Word { at: self.futex(), expected: seen.futex_word() }
    }

    /// Identifies it among all regions of this process.
    pub(crate) fn address(&self) -> usize {
        self.start.addr()
    }

    /// Identifies the event count of its store; 0: it has none.
    pub(crate) fn event_count_address(&self) -> usize {
        self.keeper.map().event_count().map_or(0, |word| std::ptr::from_ref(word).addr())
    }

    /// The part of it that begins at word `from`.
    pub(crate) fn subregion(&self, from: usize, words: usize) -> Region<K> {
        let fits = from.checked_add(words).is_some_and(|end| end <= self.words);
        assert!(fits, "a subregion lies within its region");
        let start = self.start.wrapping_add(from * WORD);
        Region { start, words, keeper: self.keeper.clone() }
    }
}

impl<T> Region<Arc<WithMap<T>>> {
    /// The same part, which keeps only the mapping alive.
    pub(crate) fn of_map(&self) -> Region {
        self.kept_by(Arc::clone(&self.keeper.map))
    }
}

impl protocol::EventCount for AtomicU32 {
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
