//! What has changed since the last sync: marks, and two bits of each control word.
//!
//! A slot is **clean** while it is what its copy in the checkpoint says. Then an update has to mark
//! the slot's segment, so that the next sync looks at it. It does so before it commits, in two
//! steps: it makes the slot **touched**, then sees the mark or sets it. The update makes the slot
//! **dirty**, and as long as it is dirty, updates cost nothing more. Marks are cleared, and slots
//! made clean, by a sync alone, after its acknowledgement (`clean.rs`).
//!
//! Four rules:
//!
//! 1. A slot's version moves only from dirty; or from touched, if the mark was seen or set after
//!    the touch. It is dirty afterwards.
//! 2. Anybody may make a clean slot touched, and changes nothing else of its word.
//! 3. A sync may make a dirty slot clean.
//! 4. Nothing else. So within one version a state goes from dirty to clean to touched, and never
//!    back: however long a thread was stopped, its exchange fails if the slot was made clean since.
//!
//! So a slot that differs from its copy is dirty, and its mark is set, or is one of those that a
//! sync is about to clear. A slot with several segments has a mark for each, so an update looks at
//! those of the bytes that it changes, even if the slot is dirty.

use std::ops::Range;
use std::sync::atomic::Ordering::{self, Relaxed, Release, SeqCst};

use super::control::State;
use super::{Control, Memory, planted};

/// One bit for each segment of the checkpoint, in words of 64. If there are more segments, several of
/// them share a mark: word numbers count modulo the number of words.
pub(crate) trait Marks {
    /// How many words there are: a power of two.
    fn words(&self) -> usize;
    #[track_caller]
    fn load(&self, word: usize, order: Ordering) -> u64;
    /// Sets these bits of a word.
    #[track_caller]
    fn set(&self, word: usize, bits: u64, order: Ordering);
    /// Clears these bits of a word.
    #[track_caller]
    fn clear(&self, word: usize, bits: u64, order: Ordering);
    /// The number + 1 of the word whose marks a sync is clearing; 0: none.
    #[track_caller]
    fn cleaning(&self, order: Ordering) -> u64;
    #[track_caller]
    fn set_cleaning(&self, cleaning: u64, order: Ordering);
    #[track_caller]
    fn fence(&self, order: Ordering);
}

/// The marks of a store that has none.
#[cfg(test)]
pub(crate) enum NoMarks {}

#[cfg(test)]
impl Marks for NoMarks {
    fn words(&self) -> usize {
        match *self {}
    }

    fn load(&self, _: usize, _: Ordering) -> u64 {
        match *self {}
    }

    fn set(&self, _: usize, _: u64, _: Ordering) {
        match *self {}
    }

    fn clear(&self, _: usize, _: u64, _: Ordering) {
        match *self {}
    }

    fn cleaning(&self, _: Ordering) -> u64 {
        match *self {}
    }

    fn set_cleaning(&self, _: u64, _: Ordering) {
        match *self {}
    }

    fn fence(&self, _: Ordering) {
        match *self {}
    }
}

/// The segments that a slot is copied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// If there are several, the binary logarithm of how many bytes of its content are in each.
    pub(crate) each: Option<u32>,
}

impl Segments {
    pub(crate) fn all(&self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// Those that these bytes are in; at least one.
    #[inline]
    fn of(&self, bytes: Bytes) -> Range<usize> {
        let Some(each) = self.each else { return self.all() };
        let last = self.count - 1;
        let from = (bytes.at >> each).min(last);
        let end = bytes.at.saturating_add(bytes.len);
        let to = (end.saturating_sub(1) >> each).clamp(from, last);
        self.first + from..self.first + to + 1
    }
}

/// Bytes of a slot's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) at: usize,
    pub(crate) len: usize,
}

impl Bytes {
    pub(super) const ALL: Bytes = Bytes { at: 0, len: usize::MAX };
}

/// The words of marks in which these segments have bits, and the bits.
pub(super) fn words(segments: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let (first, last) = (segments.start / 64, (segments.end - 1) / 64);
    (first..=last).map(move |word| {
        let from = segments.start.max(64 * word) - 64 * word;
        let to = segments.end.min(64 * word + 64) - 64 * word;
        (word, u64::MAX >> (64 - (to - from)) << from)
    })
}

/// Makes sure that an update may replace the control word `seen`, which it has to publish from what
/// this returns. `Err` has another control word, if that was there. `changed`: what it changes, if
/// that is not marked already.
pub(super) fn prepare<M: Memory>(
    memory: &M,
    seen: Control,
    changed: Option<Bytes>,
) -> Result<Control, Control> {
    let touched = match seen.state() {
        State::Dirty => return Ok(seen),
        State::Touched if planted!(TouchedCountsAsMarked) => return Ok(seen),
        State::Touched => seen,
        State::Clean if planted!(CleanIsNotTouched) => {
            mark_all_of(memory, changed);
            return Ok(seen);
        }
        State::Clean => {
            let marked = planted!(MarkSeenBeforeTheTouch) && is_marked(memory, changed);
            let state = if planted!(TouchedLooksDirty) { State::Dirty } else { State::Touched };
            let touched = seen.with_state(state);
            // Relaxed: the fence below orders it. (A compare-exchange continues the release
            // sequence of the last commit.)
            memory.swap_control(seen, touched, Relaxed)?;
            if marked {
                return Ok(touched);
            }
            touched
        }
    };
    if !planted!(MarkedAfterTheCommit) {
        mark_all_of(memory, changed);
    }
    Ok(touched)
}

/// Sees or sets the marks of all segments that these bytes are in.
#[cold]
#[inline(never)]
pub(super) fn mark_all_of<M: Memory>(memory: &M, bytes: Option<Bytes>) {
    let (Some((marks, segments)), Some(bytes)) = (memory.marks(), bytes) else { return };
    // Of two threads, one that has touched the slot or found it touched, and a sync that has
    // cleared its mark, one sees what the other has done.
    marks.fence(SeqCst);
    set_missing(marks, segments.of(bytes));
}

/// Of a dirty slot with several segments: sees or sets the marks of those that these bytes are in. (One
/// with a single segment has its mark already.)
#[inline]
pub(super) fn mark_several<M: Memory>(memory: &M, bytes: Bytes) {
    if let Some((marks, segments)) = memory.marks_of_several()
        && !planted!(DirtyCountsAsMarked)
    {
        let changed = segments.of(bytes);
        // Mostly one, which is marked. Relaxed: see `set_missing`.
        let is_one = changed.len() == 1;
        if !is_one || marks.load(changed.start / 64, Relaxed) >> (changed.start % 64) & 1 == 0 {
            set_missing(marks, changed);
        }
    }
}

/// Marks segments that a new slot gets, before the slot exists.
pub(crate) fn mark_new(marks: &impl Marks, segments: Range<usize>) {
    for (word, bits) in words(segments) {
        // Release: a sync that clears these marks, as other segments share them, sees that the
        // segments were given out.
        marks.set(word, bits, Release);
    }
}

/// Looks before it sets, so that threads that update neighbours do not take the words from each
/// other.
#[cold]
#[inline(never)]
fn set_missing(marks: &impl Marks, segments: Range<usize>) {
    for (word, bits) in words(segments) {
        // Relaxed: the control word that is exchanged next says what was done before, and whoever
        // acquires that sees this mark, too. The same holds for a mark that another thread has set.
        if marks.load(word, Relaxed) & bits != bits {
            marks.set(word, bits, Relaxed);
        }
    }
}

fn is_marked<M: Memory>(memory: &M, bytes: Option<Bytes>) -> bool {
    let (Some((marks, segments)), Some(bytes)) = (memory.marks(), bytes) else { return false };
    words(segments.of(bytes)).all(|(word, bits)| marks.load(word, Relaxed) & bits == bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_these_segments() {
        let shared = Segments { first: 7, count: 1, each: None };
        assert_eq!(shared.of(Bytes { at: 5, len: 9 }), 7..8);
        let own = Segments { first: 60, count: 3, each: Some(7) };
        let of = |at, len| own.of(Bytes { at, len });
        assert_eq!((of(0, 128), of(127, 2), of(128, 1)), (60..61, 60..62, 61..62));
        assert_eq!((of(300, 50), own.of(Bytes::ALL)), (62..63, 60..63));
        // An update of nothing is an update.
        assert_eq!((of(0, 0), of(128, 0), of(400, 0)), (60..61, 61..62, 62..63));
    }

    #[test]
    fn segments_have_these_bits() {
        let all = |segments| words(segments).collect::<Vec<_>>();
        assert_eq!(all(0..1), [(0, 1)]);
        assert_eq!(all(62..64), [(0, 3 << 62)]);
        assert_eq!(all(63..130), [(0, 1 << 63), (1, u64::MAX), (2, 3)]);
    }
}
