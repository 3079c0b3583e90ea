//! Which entries of the process table this process has, and through which description.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::format::layout::TABLE_ENTRIES;

/// The entries whose bytes this process has locked. An own byte is never probed: that would
/// turn its write lock into a read lock in silence.
///
/// A program may close our descriptor; then the locks set through it stay, and cannot be let
/// go of one by one. Such an entry is **kept** when it is given back: **spare**, for the next
/// of this process's threads. To all others it is taken.
///
/// All of it is asked for and changed under one mutex, hence relaxed.
#[derive(Debug)]
pub(super) struct Entries {
    own: Bits,
    /// Of those, the ones that were locked through a description that is lost.
    kept: Bits,
    /// Of those, the ones that no thread has.
    spare: Bits,
    times_lost: AtomicUsize,
}

impl Entries {
    pub(super) fn new() -> Entries {
        Entries {
            own: Bits::new(),
            kept: Bits::new(),
            spare: Bits::new(),
            times_lost: AtomicUsize::new(0),
        }
    }

    pub(super) fn owns(&self, entry: u16) -> bool {
        self.own.has(entry)
    }

    pub(super) fn is_kept(&self, entry: u16) -> bool {
        self.kept.has(entry)
    }

    pub(super) fn is_spare(&self, entry: u16) -> bool {
        self.spare.has(entry)
    }

    /// A thread has this entry.
    pub(super) fn take(&self, entry: u16) {
        self.own.set(entry, true);
        self.spare.set(entry, false);
    }

    /// No thread has this entry any more. Returns whether its byte is to be unlocked.
    pub(super) fn give_back(&self, entry: u16) -> bool {
        let kept = self.is_kept(entry);
        self.own.set(entry, kept);
        self.spare.set(entry, kept);
        !kept
    }

    /// The descriptor was lost so many times: what was locked until now is kept.
    pub(super) fn note_lost(&self, times: usize) {
        if self.times_lost.swap(times, Ordering::Relaxed) != times {
            self.all().for_each(|entry| self.kept.set(entry, true));
        }
    }

    /// All that a thread has.
    pub(super) fn in_use(&self) -> impl Iterator<Item = u16> + '_ {
        self.all().filter(|entry| !self.is_spare(*entry))
    }

    /// Those that no thread has, and no other process can have.
    pub(super) fn spare(&self) -> impl Iterator<Item = u16> + '_ {
        self.spare.all()
    }

    fn all(&self) -> impl Iterator<Item = u16> + '_ {
        self.own.all()
    }
}

/// A bit for each entry.
#[derive(Debug)]
struct Bits([AtomicU64; TABLE_ENTRIES as usize / 64]);

impl Bits {
    fn new() -> Bits {
        Bits([const { AtomicU64::new(0) }; TABLE_ENTRIES as usize / 64])
    }

    fn has(&self, entry: u16) -> bool {
        self.0[usize::from(entry / 64)].load(Ordering::Relaxed) >> (entry % 64) & 1 == 1
    }

    /// The entries whose bit is set: most have none, and are not looked at.
    fn all(&self) -> impl Iterator<Item = u16> + '_ {
        let words = self.0.iter().map(|word| word.load(Ordering::Relaxed));
        let set = (0..TABLE_ENTRIES).step_by(64).zip(words).filter(|(_, word)| *word != 0);
        set.flat_map(|(first, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        })
    }

    fn set(&self, entry: u16, value: bool) {
        let (word, bit) = (&self.0[usize::from(entry / 64)], 1 << (entry % 64));
        if value {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}
