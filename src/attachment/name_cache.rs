//! The lines of the directory on which names were found, so that reopening a name takes one look.
//! This is only a cache: on a miss, the caller looks into the index.
//!
//! The index in the file would work, but its hash is byte-wise, as the format requires, and the
//! index is large. This cache halves the time to look up 100,000 names.

use std::hash::Hasher;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::attachment::lazy_array::LazyArray;

/// Sets of lines, by the names' hashes. A line that finds its set full replaces another one.
#[derive(Debug)]
pub(crate) struct NameCache {
    chunks: LazyArray<[Set; CHUNK]>,
    /// The number of sets, a power of two, minus one.
    mask: u64,
}

/// Sets in a chunk, which is one page.
const CHUNK: usize = 128;

/// Each word is a tag and, in the lower half, a line; or 0. A set lies on one cache line.
#[derive(Debug)]
#[repr(align(32))]
struct Set([AtomicU64; WAYS]);

const WAYS: usize = 4;

/// A hash of a name; it is never stored in a file.
#[derive(Clone, Copy)]
pub(crate) struct Hash(u64);

impl Hash {
    #[inline]
    pub(crate) fn of(name: &str) -> Hash {
        let mut hasher = rustc_hash::FxHasher::default();
        hasher.write(name.as_bytes());
        Hash(hasher.finish())
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Distinguishes the names of one set. Never 0, which marks an empty word.
    #[inline]
    fn tag(self) -> u64 {
        self.0 >> 32 | 1
    }
}

impl NameCache {
    /// For a store with room for this many slots.
    pub(crate) fn new(slots: u64) -> NameCache {
        // Twice the room needed: then hardly any set overflows.
        let sets = (2 * slots / WAYS as u64).max(CHUNK as u64).next_power_of_two();
        NameCache { chunks: LazyArray::new(sets / CHUNK as u64), mask: sets - 1 }
    }

    /// The lines on which names of this hash were found. Their slots may be gone.
    #[inline]
    pub(crate) fn lines(&self, hash: Hash) -> impl Iterator<Item = u32> {
        let (chunk, at) = self.place(hash);
        let set = self.chunks.get(chunk).map(|chunk| &chunk[at].0);
        // Relaxed, here and below: a caller that gets a line here checks for itself whether it can
        // see that line's descriptor.
        let matches = |word: &AtomicU64| word.load(Relaxed) >> 32 == hash.tag();
        // A bit for each word and no branch: the processor would mispredict where the search ends,
        // which costs more than looking at all of them.
        let bits = |set: &[AtomicU64; WAYS]| {
            (0..WAYS).fold(0u32, |bits, way| bits | u32::from(matches(&set[way])) << way)
        };
        let mut matching = set.map_or(0, bits);
        std::iter::from_fn(move || {
            let word = set?.get(matching.trailing_zeros() as usize)?;
            matching &= matching - 1;
            Some(word.load(Relaxed) as u32)
        })
    }

    /// Notes that a name of this hash is on this line. This replaces an earlier note.
    pub(crate) fn note(&self, hash: Hash, line: u32) {
        let (chunk, at) = self.place(hash);
        let empty = || [const { Set([const { AtomicU64::new(0) }; WAYS]) }; CHUNK];
        let set = &self.chunks.get_or_make(chunk, empty)[at].0;
        // Relaxed: if two threads note at once, one note may be lost, or one may appear twice.
        let takes = |word: u64| word == 0 || word >> 32 == hash.tag();
        let way = set.iter().position(|word| takes(word.load(Relaxed)));
        let way = way.unwrap_or(line as usize % WAYS);
        set[way].store(hash.tag() << 32 | u64::from(line), Relaxed);
    }

    /// Chunk, and set within it.
    #[inline]
    fn place(&self, hash: Hash) -> (usize, usize) {
        let set = (hash.0 & self.mask) as usize;
        (set / CHUNK, set % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn nearly_all_are_found_again_even_in_a_full_store() {
        const SLOTS: u32 = 100_000;
        let names = NameCache::new(u64::from(SLOTS));
        let hash = |line: u32| Hash::of(&format!("group/{}/slot{line}", line % 100));
        (0..SLOTS).for_each(|line| names.note(hash(line), line));
        let found = |line: &u32| names.lines(hash(*line)).any(|found| found == *line);
        let found = (0..SLOTS).filter(found).count();
        assert!(found > 98 * SLOTS as usize / 100, "{found} of {SLOTS}");
        // Few others match as well; looking at those is wasted work.
        let all: usize = (0..SLOTS).map(|line| names.lines(hash(line)).count()).sum();
        assert!(all <= found + 10, "{all}, of which {found} are right");
        assert_eq!(names.lines(Hash::of("another")).count(), 0);
    }

    #[test]
    fn the_line_noted_last_takes_the_place_of_the_one_before() {
        let names = NameCache::new(1);
        let hash = Hash::of("x");
        for line in [5, 0, u32::MAX] {
            names.note(hash, line);
            assert_eq!(names.lines(hash).collect::<Vec<_>>(), [line]);
        }
    }

    /// Two names that collide in the cache of a small store are still two slots of the store.
    #[test]
    fn names_that_share_a_place_and_a_tag_are_told_apart() {
        let store = crate::OpenOptions::new().max_slots(8).open_temporary().unwrap();
        let names = NameCache::new(8);
        let mut seen = HashMap::new();
        let counterparts = (0..).find_map(|n| {
            let (name, hash) = (format!("{n}"), Hash::of(&format!("{n}")));
            let before = seen.insert((names.place(hash), hash.tag()), name.clone());
            before.map(|before| [before, name])
        });
        let counterparts = counterparts.unwrap();
        for (name, value) in counterparts.iter().zip(0u64..) {
            store.value::<u64>(name).unwrap().store(value).unwrap();
        }
        for _ in 0..3 {
            for (name, value) in counterparts.iter().zip(0u64..) {
                assert_eq!(store.value::<u64>(name).unwrap().load(), value, "{counterparts:?}");
            }
        }
    }
}
