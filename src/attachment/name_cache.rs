//! The lines of the directory on which names were found, so that reopening a name takes one look.
//! This is only a cache: on a miss, the caller looks into the index.
//!
//! The index in the file would work, but its hash is byte-wise, as the format requires, and a store
//! of few slots has a large one. This cache grows with the names that are found.

use std::hash::Hasher;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::attachment::lazy_array::LazyArray;

/// Sets of lines, by the names' hashes. A line that finds its set full goes into the set beside it,
/// or replaces another line.
#[derive(Debug)]
pub(crate) struct NameCache {
    chunks: LazyArray<Chunk>,
    /// The number of sets in use, a power of two, minus one.
    mask: AtomicU64,
    /// The same for all sets.
    most: u64,
    /// How many lines have been noted.
    noted: AtomicU64,
}

type Chunk = [Pair; CHUNK / 2];

/// Sets in a chunk, which is one page.
const CHUNK: usize = 128;

/// Two sets, on one cache line. Each word is a tag and, in the lower half, a line; or 0.
#[derive(Debug)]
#[repr(align(64))]
struct Pair([AtomicU64; 2 * WAYS]);

/// Words of a set.
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

    /// Distinguishes the names of one set, and tells which set. Never 0, which marks an empty word.
    #[inline]
    fn tag(self) -> u64 {
        self.0 >> 32 | 1
    }
}

/// The set for this tag.
#[inline]
fn set_of(tag: u64, mask: u64) -> usize {
    (tag >> 1 & mask) as usize
}

/// The words of a pair, those of this set first.
fn words_of(set: usize) -> impl Iterator<Item = usize> {
    (0..2 * WAYS).map(move |word| word ^ (set % 2 * WAYS))
}

fn empty() -> Chunk {
    [const { Pair([const { AtomicU64::new(0) }; 2 * WAYS]) }; CHUNK / 2]
}

impl NameCache {
    /// For a store with room for this many slots.
    pub(crate) fn new(slots: u64) -> NameCache {
        // Twice the room needed: then hardly any set overflows.
        let sets = (2 * slots / WAYS as u64).max(CHUNK as u64).next_power_of_two();
        NameCache {
            chunks: LazyArray::new(sets / CHUNK as u64),
            mask: AtomicU64::new(CHUNK as u64 - 1),
            most: sets - 1,
            noted: AtomicU64::new(0),
        }
    }

    /// The lines on which names of this hash were found, by their set. Their slots may be gone.
    #[inline]
    pub(crate) fn lines(&self, hash: Hash) -> impl Iterator<Item = u32> {
        self.lines_in(hash, 0)
    }

    /// The same by the set beside it, which holds what found no room.
    pub(crate) fn other_lines(&self, hash: Hash) -> impl Iterator<Item = u32> {
        self.lines_in(hash, 1)
    }

    #[inline(always)]
    fn lines_in(&self, hash: Hash, beside: usize) -> impl Iterator<Item = u32> {
        // Relaxed, here and below: a caller that gets a line here checks for itself whether it can
        // see that line's descriptor. A thread that misses one finds it by the index.
        let at = set_of(hash.tag(), self.mask.load(Relaxed)) ^ beside;
        let set = self.chunks.get(at / CHUNK).map(|chunk| {
            let (sets, _) = chunk[at % CHUNK / 2].0.as_chunks::<WAYS>();
            &sets[at % 2]
        });
        // A bit for each word and no branch: the processor would mispredict where the search ends,
        // which costs more than looking at all of them.
        let mut matching = set.map_or(0, |set| {
            let matches = |way: usize| set[way].load(Relaxed) >> 32 == hash.tag();
            (0..WAYS).fold(0, |bits, way| bits | u32::from(matches(way)) << way)
        });
        std::iter::from_fn(move || {
            let word = set?.get(matching.trailing_zeros() as usize)?;
            matching &= matching.wrapping_sub(1);
            Some(word.load(Relaxed) as u32)
        })
    }

    /// Notes that a name of this hash is on this line. This replaces an earlier note.
    pub(crate) fn note(&self, hash: Hash, line: u32) {
        // Relaxed: if two threads note at once, one note may be lost, or one may appear twice.
        let (tag, mask) = (hash.tag(), self.mask.load(Relaxed));
        let at = set_of(tag, mask);
        let pair = &self.chunks.get_or_make(at / CHUNK, empty)[at % CHUNK / 2].0;
        // A word that has moved to another pair may stay behind.
        let is_free = |word: u64| word == 0 || set_of(word >> 32, mask) / 2 != at / 2;
        let takes = |word: u64| is_free(word) || word >> 32 == tag;
        let place = match words_of(at).find(|place| takes(pair[*place].load(Relaxed))) {
            Some(place) => place,
            None if self.is_full(mask) => {
                self.grow(mask);
                return self.note(hash, line);
            }
            None => at % 2 * WAYS + line as usize % WAYS,
        };
        if is_free(pair[place].load(Relaxed)) {
            self.noted.fetch_add(1, Relaxed);
        }
        pair[place].store(tag << 32 | u64::from(line), Relaxed);
    }

    /// Whether to use more sets: they hold 5/2 lines on average. (Then one of 60 finds no room.)
    fn is_full(&self, mask: u64) -> bool {
        mask < self.most && 2 * self.noted.load(Relaxed) > 5 * (mask + 1)
    }

    /// Uses twice as many sets. Half of the words of each pair belong to one of the new pairs. Takes
    /// no lock: threads that grow it at once do the same.
    fn grow(&self, mask: u64) {
        let (sets, next) = (mask as usize + 1, 2 * mask + 1);
        for number in 0..sets / CHUNK {
            let Some(from) = self.chunks.get(number) else { continue };
            let to = empty();
            for (from, to) in from.iter().zip(&to) {
                let words = from.0.iter().map(|word| word.load(Relaxed));
                // What was left behind by the time before belongs to neither.
                let home = |word: u64| set_of(word >> 32, next);
                let moves = |word: &u64| {
                    *word != 0 && home(*word) / CHUNK == (number * CHUNK + sets) / CHUNK
                };
                for word in words.filter(moves) {
                    let is_empty = |place: &usize| to.0[*place].load(Relaxed) == 0;
                    if let Some(place) = words_of(home(word)).find(is_empty) {
                        to.0[place].store(word, Relaxed);
                    }
                }
            }
            self.chunks.get_or_make(number + sets / CHUNK, || to);
        }
        // If another thread was first, the mask stays as it is.
        let _ = self.mask.compare_exchange(mask, next, Relaxed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn all_lines(names: &NameCache, hash: Hash) -> impl Iterator<Item = u32> {
        names.lines(hash).chain(names.other_lines(hash))
    }

    #[test]
    fn nearly_all_are_found_again_even_in_a_full_store() {
        const SLOTS: u32 = 100_000;
        let names = NameCache::new(u64::from(SLOTS));
        let hash = |line: u32| Hash::of(&format!("group/{}/slot{line}", line % 100));
        // The second time, those that had to make room while the cache grew.
        for line in (0..SLOTS).chain(0..SLOTS) {
            if all_lines(&names, hash(line)).all(|found| found != line) {
                names.note(hash(line), line);
            }
        }
        let found = |line: &u32| all_lines(&names, hash(*line)).any(|found| found == *line);
        let found = (0..SLOTS).filter(found).count();
        assert!(found > 98 * SLOTS as usize / 100, "{found} of {SLOTS}");
        // Few others match as well; looking at those is wasted work.
        let all: usize = (0..SLOTS).map(|line| all_lines(&names, hash(line)).count()).sum();
        assert!(all <= found + 10, "{all}, of which {found} are right");
        assert_eq!(all_lines(&names, Hash::of("another")).count(), 0);
    }

    #[test]
    fn the_line_noted_last_takes_the_place_of_the_one_before() {
        let names = NameCache::new(1);
        let hash = Hash::of("x");
        for line in [5, 0, u32::MAX] {
            names.note(hash, line);
            assert_eq!(all_lines(&names, hash).collect::<Vec<_>>(), [line]);
        }
    }

    /// Two names that collide in the cache of a small store are still two slots of the store.
    #[test]
    fn names_that_share_a_place_and_a_tag_are_told_apart() {
        let store = crate::OpenOptions::new().max_slots(8).open_temporary().unwrap();
        let mut seen = HashMap::new();
        let counterparts = (0..).find_map(|n| {
            let (name, hash) = (format!("{n}"), Hash::of(&format!("{n}")));
            let before = seen.insert(hash.tag(), name.clone());
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
