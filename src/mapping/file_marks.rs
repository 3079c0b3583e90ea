//! The segment marks of a store: see [`protocol::Marks`].

use std::sync::atomic::Ordering;

use crate::mapping::map::Map;
use crate::protocol::{Marks, Segments};

/// How many bytes of a slot are in a segment at most: this is its binary logarithm. (What the format
/// says; here it spares the paths of updates a look at the mapping.)
pub(crate) const BYTES_LOG: u32 = 16;

/// Where the segment marks are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarksPlace {
    /// The offset of the first word.
    pub(crate) marks: u64,
    /// How many words there are: a power of two.
    pub(crate) words: usize,
    /// The offset of the word that says which of them a sync is clearing.
    pub(crate) cleaning: u64,
}

impl Map {
    /// The marks, if the store has any.
    #[inline]
    pub(crate) fn marks(&self) -> Option<&Map> {
        self.marks.is_some().then_some(self)
    }

    /// The segments of a slot with this much content, as the marks count them. `first` is what the
    /// slot has of its first segment: the number + 1; 0: it has no marks. It comes from the file, and
    /// may be anything.
    #[inline]
    pub(super) fn segments(&self, first: u64, len: usize) -> Option<Segments> {
        let place = self.marks.as_ref()?;
        let first = first.checked_sub(1)? as usize & (64 * place.words - 1);
        let count = (len + (1 << BYTES_LOG) - 1) >> BYTES_LOG;
        Some(Segments { first, count, each: (count > 1).then_some(BYTES_LOG) })
    }

    #[inline]
    fn place(&self) -> &MarksPlace {
        self.marks.as_ref().expect("only a store with marks is asked for them")
    }

    #[inline]
    fn mark_word(&self, word: usize) -> &std::sync::atomic::AtomicU64 {
        let place = self.place();
        self.word_of_marks(place.marks + 8 * (word & (place.words - 1)) as u64)
    }
}

impl Marks for Map {
    fn words(&self) -> usize {
        self.place().words
    }

    #[inline]
    fn load(&self, word: usize, order: Ordering) -> u64 {
        self.mark_word(word).load(order)
    }

    fn set(&self, word: usize, bits: u64, order: Ordering) {
        if bits != 0 {
            self.mark_word(word).fetch_or(bits, order);
        }
    }

    fn clear(&self, word: usize, bits: u64, order: Ordering) {
        self.mark_word(word).fetch_and(!bits, order);
    }

    fn cleaning(&self, order: Ordering) -> u64 {
        self.word_of_marks(self.place().cleaning).load(order)
    }

    fn set_cleaning(&self, cleaning: u64, order: Ordering) {
        self.word_of_marks(self.place().cleaning).store(cleaning, order);
    }

    fn fence(&self, order: Ordering) {
        std::sync::atomic::fence(order);
    }
}
