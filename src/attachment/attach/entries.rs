//! Which entries of the process table this process has, and through which file description.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::format::layout::TABLE_ENTRIES;

/// The entries whose bytes this process has locked. It never probes these bytes: that would
/// silently turn a write lock into a read lock.
///
/// A program may close our descriptor. The locks set through it then stay, and cannot be released
/// one by one. Such an entry is **kept** when it is given back: it is **spare**, for the next
/// thread of this process. To all other processes it is taken.
///
/// Everything here is read and changed under one mutex, hence relaxed.
#[derive(Debug)]
pub(super) struct Entries {
    own: Bits,
    /// Of those, the ones locked through a description that is lost.
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

    /// No thread has this entry any more. Returns whether to unlock its byte.
    pub(super) fn give_back(&self, entry: u16) -> bool {
        let kept = self.is_kept(entry);
        self.own.set(entry, kept);
        self.spare.set(entry, kept);
        !kept
    }

    /// The descriptor was lost `times` times so far. What was locked before the last time is kept.
    pub(super) fn note_lost(&self, times: usize) {
        if self.times_lost.swap(times, Ordering::Relaxed) != times {
            self.all().for_each(|entry| self.kept.set(entry, true));
        }
    }

    /// All that a thread has.
    pub(super) fn in_use(&self) -> impl Iterator<Item = u16> + '_ {
        self.all().filter(|entry| !self.is_spare(*entry))
    }

    /// Those that no thread has and no other process can take.
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

    /// The entries whose bit is set. Words without one, which are most, are skipped.
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
