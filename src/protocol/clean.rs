//! What a sync does with the marks: it looks at the slots of marked segments, and makes them clean
//! when their copies are durable. (`marks.rs` says what the two are.)
//!
//! **Look.** A segment that is not marked differs in nothing from its copy at the moment at which
//! the look begins. A sync copies what has changed in the marked ones, and looks again, at all
//! marks anew, until a look finds nothing new: then it has the state of one instant.
//!
//! **Clean**, after the acknowledgement, word by word. First the marks are cleared, then the slots
//! are made clean: in the other order an update in between would set a mark that is then cleared. A
//! slot that has changed since it was copied, or that somebody has touched, gets its mark back. As
//! the marks are missing meanwhile, the live header names the word, and the next sync sets all of
//! its marks if this one is killed.
//!
//! All of this is done under the sync lock.

use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use super::array::look;
use super::control::State;
use super::marks::{Marks, words};
use super::{Control, Memory, Peers, planted};

/// A version of a slot, and whether the slot was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) version: u64,
    pub(crate) is_removed: bool,
}

impl Stand {
    fn of(control: Control) -> Stand {
        Stand { version: control.version(), is_removed: control.is_removed() }
    }
}

/// What a sync that was killed has left: sets the marks that it may have cleared. Before anything
/// is looked at.
pub(crate) fn finish_cleaning(marks: &impl Marks) {
    // Relaxed: under the sync lock.
    let cleaning = marks.cleaning(Relaxed);
    if cleaning == 0 || planted!(CleaningIsNotNoted) {
        return;
    }
    if planted!(CleaningForgottenFirst) {
        marks.set_cleaning(0, Release);
    }
    marks.set(cleaning as usize - 1, u64::MAX, Relaxed);
    // Release: it may be killed at any moment, so the marks must come first.
    marks.set_cleaning(0, Release);
}

/// One look at all marks of these words: calls `segment` with the number of each segment that is
/// marked, which returns whether it has found anything new there. Adds the marks to `looked`, one
/// word for each. Returns whether anything new was found.
pub(crate) fn look_at_marked(
    marks: &impl Marks,
    looked: &mut [u64],
    mut segment: impl FnMut(usize) -> bool,
) -> bool {
    let mut is_new = false;
    for (word, looked) in looked.iter_mut().enumerate() {
        // Relaxed: what is in the segment is acquired with its control word. A thread that has seen
        // an update through another slot sees its mark, at the latest at the next look.
        let mut bits = marks.load(word, Relaxed);
        if planted!(MarksOfTheFirstLook) && *looked != 0 {
            bits = *looked;
        }
        *looked |= bits;
        if planted!(MarksClearedByTheLook) {
            marks.clear(word, bits, Relaxed);
            bits = *looked;
        }
        while bits != 0 {
            is_new |= segment(64 * word + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
    is_new
}

/// What counts of a slot in a marked segment at this moment; `None`: it is as its copy in use says.
pub(crate) fn stand<M: Memory, P: Peers>(memory: &M, peers: &P) -> Option<Stand> {
    let (seen, version) = look(memory, peers);
    let is_copied =
        seen.state() != State::Dirty || planted!(RemovedCountsAsCopied) && seen.is_removed();
    let is_removed = seen.is_removed();
    (seen.in_transaction() || !is_copied).then_some(Stand { version, is_removed })
}

/// Clears these marks of a word, and makes clean all slots in their segments that are as they were
/// copied. The others get their marks back. `slots` has each of these slots, and how it was copied.
/// `shared_since` returns the marks that also stand for segments that were given out since.
pub(crate) fn clean<'m, K: Marks, M: Memory<Marks = K> + 'm>(
    marks: &K,
    word: usize,
    bits: u64,
    slots: impl Iterator<Item = (&'m M, Stand)>,
    shared_since: impl FnOnce() -> u64,
) {
    if !planted!(CleaningIsNotNoted) {
        // Relaxed: the release below orders it.
        marks.set_cleaning(word as u64 + 1, Relaxed);
    }
    if !planted!(MarksClearedLast) {
        // Release: it may be killed at any moment, so the word must be named first.
        marks.clear(word, bits, Release);
    }
    // Of two threads, this one, and one that has touched a slot or found it touched, one sees what
    // the other has done. Also acquires the marks that were cleared, see `mark_new`.
    marks.fence(SeqCst);
    if planted!(CleaningEndsEarly) {
        marks.set_cleaning(0, Relaxed);
    }
    for (memory, copied) in slots {
        if !is_made_clean(memory, copied)
            && let Some((_, segments)) = memory.marks()
        {
            let is_here = |of: usize| {
                of % marks.words() == word && !(planted!(SharersAreForgotten) && of != word)
            };
            let all = words(segments.all()).filter(|(of, _)| is_here(*of));
            let again = all.fold(0, |all, (_, of)| all | of & bits);
            let again = if planted!(OneSegmentIsMarkedAgain) {
                again & again.wrapping_neg()
            } else {
                again
            };
            // Relaxed: the release below orders it.
            marks.set(word, again, Relaxed);
        }
    }
    // Relaxed: the release below orders it.
    marks.set(word, shared_since() & bits, Relaxed);
    if planted!(MarksClearedLast) {
        marks.clear(word, bits, Relaxed);
    }
    // Release: it may be killed at any moment, so all marks must be there first.
    marks.set_cleaning(0, Release);
}

/// Whether the slot is as it was copied, and is now clean.
fn is_made_clean<M: Memory>(memory: &M, copied: Stand) -> bool {
    // Relaxed: nothing is read through it.
    let seen = memory.control(Relaxed);
    let is_same =
        Stand::of(seen) == copied || planted!(CleanWithoutTheVersion) && !seen.is_removed();
    let in_transaction = seen.in_transaction() && !planted!(CleanInTransaction);
    if !is_same || in_transaction {
        return false;
    }
    if seen.is_removed() {
        return true;
    }
    match seen.state() {
        State::Clean => true,
        State::Touched if planted!(TouchedIsNotMarkedAgain) => true,
        State::Touched if !planted!(TouchedIsMadeClean) => false,
        // A read lock says that it is dirty.
        _ if seen.is_read_lock() => false,
        // Relaxed: as above. (A compare-exchange continues the release sequence of the commit.)
        _ => memory.swap_control(seen, seen.with_state(State::Clean), Relaxed).is_ok(),
    }
}
