//! The control word: which version is current, who holds the lock, who waits.

use std::fmt;

/// One 64-bit word beside every slot's value.
///
/// | bits | meaning |
/// | --- | --- |
/// | 0 | T: the slot is in a transaction that is being committed |
/// | 1 | W: somebody waits for a change; whoever clears it wakes all of them |
/// | 2 to 14 | who holds the lock, see below |
/// | 15 and 16 | how the slot stands to its copy in the checkpoint, see below |
/// | 2 to 16 | all set: removed forever |
/// | 17 to 63 | version, counted modulo 2^47; its low bits lie in the futex word |
///
/// | bits 2 to 14 | |
/// | --- | --- |
/// | 0 | nobody |
/// | 1 to 4,096 | this owner: process-table entry + 1; from 4,092 on only in a store of format 1.0 |
/// | 4,097 to 8,187 | the owner with 4,096 less. L: somebody waits for the lock; whoever clears it wakes one of them |
/// | 8,188 | nobody; it was handed over to one of those that wait |
///
/// | bits 15, 16 | [`State`] |
/// | --- | --- |
/// | 0, 0 | dirty |
/// | 1, 0 | dirty, and the owner only reads |
/// | 0, 1 | clean |
/// | 1, 1 | touched |
///
/// In a store of format 1.0 a slot is always dirty, and L is never set.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Control(u64);

/// How a slot stands to its copy in the checkpoint that is in use, see `marks.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It differs, or may differ. Its segment is marked.
    Dirty,
    /// It is what its copy says.
    Clean,
    /// The same, and somebody is about to update it.
    Touched,
}

/// The holder of a slot's lock: 0 if there is none, else process-table entry + 1, plus 8,192 if it
/// only reads.
pub(crate) type Owner = u16;

/// The owner of a slot that is not locked.
pub(crate) const FREE: Owner = 0;
/// The owner of a removed slot: it is never recovered, so no lock is ever taken again.
pub(crate) const REMOVED: Owner = (1 << 15) - 1;
/// The greatest owner number that a thread may have: with L, those above it would be taken for the
/// two words without an owner, or one flipped bit would make them so.
pub(crate) const MAX_OWNER: Owner = HANDED_OVER - ANNOUNCED - 1;

/// Added to the owner if it only reads.
const READS: Owner = 1 << 13;
/// Added to the owner where L is set.
const ANNOUNCED: Owner = 1 << 12;
/// In place of an owner with L.
const HANDED_OVER: Owner = (1 << 13) - 4;

const T: u64 = 1;
const W: u64 = 1 << 1;
const OWNER_SHIFT: u32 = 2;
/// Bits 2 to 14.
const HOLDER: u64 = ((1 << 13) - 1) << OWNER_SHIFT;
/// L is set if the holder's number is greater than this alone, and the slot is not removed.
const L: u64 = (ANNOUNCED as u64) << OWNER_SHIFT;
/// Bits 2 to 16.
const OWNER: u64 = (REMOVED as u64) << OWNER_SHIFT;
const ONLY_READS: u64 = (READS as u64) << OWNER_SHIFT;
const CLEAN: u64 = 1 << 16;
const TOUCHED: u64 = CLEAN | ONLY_READS;
const STATE: u64 = TOUCHED;
const VERSION_SHIFT: u32 = 17;

impl Control {
    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Control {
        Control(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The half of the word that a waiter sleeps on.
    #[inline]
    pub(crate) const fn futex_word(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) const fn version(self) -> u64 {
        self.0 >> VERSION_SHIFT
    }

    #[inline]
    const fn holder(self) -> Owner {
        ((self.0 & HOLDER) >> OWNER_SHIFT) as Owner
    }

    /// The owner of the lock.
    #[inline]
    pub(crate) const fn owner(self) -> Owner {
        if self.is_removed() {
            return REMOVED;
        }
        let owner = match self.holder() {
            HANDED_OVER => FREE,
            holder if holder > ANNOUNCED => holder - ANNOUNCED,
            holder => holder,
        };
        if self.is_read_lock() { owner | READS } else { owner }
    }

    #[inline]
    pub(crate) const fn is_removed(self) -> bool {
        self.0 & OWNER == OWNER
    }

    /// Whether anybody may take the lock: not if it was handed over to a waiter.
    #[inline]
    pub(crate) const fn is_free(self) -> bool {
        self.0 & (HOLDER | ONLY_READS) == 0 || self.0 & OWNER == TOUCHED
    }

    /// Whether it is free and dirty, in one test: an update has nothing to prepare.
    #[inline]
    pub(crate) const fn is_free_and_dirty(self) -> bool {
        self.0 & OWNER == 0
    }

    #[inline]
    pub(crate) const fn in_transaction(self) -> bool {
        self.0 & T != 0
    }

    #[inline]
    pub(crate) const fn has_waiters(self) -> bool {
        self.0 & W != 0
    }

    /// Whether W or L may be set, in one test. Always true for a removed slot.
    #[inline]
    pub(crate) const fn may_have_waiters(self) -> bool {
        self.0 & (W | L) != 0
    }

    #[inline]
    pub(crate) const fn has_lock_waiters(self) -> bool {
        self.holder() > ANNOUNCED && !self.is_removed()
    }

    /// With this owner, dirty, and without L.
    #[inline]
    pub(crate) const fn with_owner(self, owner: Owner) -> Control {
        Control(self.0 & !OWNER | (owner as u64) << OWNER_SHIFT)
    }

    /// The lock, which is free, taken by this owner. Without T and L; the state stays.
    #[inline]
    pub(crate) const fn taken_by(self, owner: Owner) -> Control {
        Control(self.0 & !(HOLDER | T) | (owner as u64) << OWNER_SHIFT)
    }

    /// Locked by this owner, to read. Only for a slot that is dirty.
    #[inline]
    pub(crate) const fn with_reader(self, owner: Owner) -> Control {
        self.with_owner(owner | READS)
    }

    /// Whether a reader has the lock: it stores nothing under it, and anybody may take it away.
    #[inline]
    pub(crate) const fn is_read_lock(self) -> bool {
        self.0 & STATE == ONLY_READS
    }

    /// The owner of the lock, if it is a reader.
    #[inline]
    pub(crate) const fn reader(self) -> Owner {
        self.owner() & !READS
    }

    /// How the slot stands to its copy. Of a removed one, the version says it.
    #[inline]
    pub(crate) const fn state(self) -> State {
        match self.0 & STATE {
            CLEAN => State::Clean,
            TOUCHED if !self.is_removed() => State::Touched,
            _ => State::Dirty,
        }
    }

    /// Only for a slot that is not removed, and that no reader has locked.
    #[inline]
    pub(crate) const fn with_state(self, state: State) -> Control {
        let state = match state {
            State::Dirty => 0,
            State::Clean => CLEAN,
            State::Touched => TOUCHED,
        };
        Control(self.0 & !STATE | state)
    }

    /// The word `steps` versions later, wrapping around.
    #[inline]
    pub(crate) const fn advanced(self, steps: u64) -> Control {
        Control(self.0.wrapping_add(steps << VERSION_SHIFT))
    }

    #[inline]
    pub(crate) const fn with_transaction(self, on: bool) -> Control {
        Control(if on { self.0 | T } else { self.0 & !T })
    }

    #[inline]
    pub(crate) const fn with_waiters(self, on: bool) -> Control {
        Control(if on { self.0 | W } else { self.0 & !W })
    }

    /// Only for a slot that is not removed. A free one is handed over by it.
    #[inline]
    pub(crate) const fn with_lock_waiters(self, on: bool) -> Control {
        let holder = match (on, self.holder()) {
            (true, FREE) => HANDED_OVER,
            (true, holder) => holder | ANNOUNCED,
            (false, HANDED_OVER) => FREE,
            (false, holder) if holder > ANNOUNCED => holder - ANNOUNCED,
            (false, holder) => holder,
        };
        Control(self.0 & !HOLDER | (holder as u64) << OWNER_SHIFT)
    }

    /// Version, owner and T alone: dirty, without W and L.
    #[inline]
    pub(crate) const fn quiet(self) -> Control {
        Control(self.0 & !W).with_owner(self.owner())
    }

    /// Whether they are equal apart from W and L, which anybody may set at any time, and from the
    /// state. Only for a word with an owner.
    #[inline]
    pub(crate) const fn same(self, other: Control) -> bool {
        (self.0 ^ other.0) & !(W | L | STATE) == 0 && self.is_read_lock() == other.is_read_lock()
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{} owner {}", self.version(), self.owner())?;
        f.write_str(if self.in_transaction() { " T" } else { "" })?;
        f.write_str(if self.has_waiters() { " W" } else { "" })?;
        f.write_str(if self.has_lock_waiters() { " L" } else { "" })?;
        match self.state() {
            State::Dirty => Ok(()),
            state => write!(f, " {state:?}"),
        }
    }
}

/// How far `version` is ahead of `base`, counted modulo 2^47: negative if it is behind.
pub(crate) fn lead(version: u64, base: u64) -> i64 {
    (version.wrapping_sub(base) << VERSION_SHIFT).cast_signed() >> VERSION_SHIFT
}

/// The version after `version`.
pub(crate) fn next(version: u64) -> u64 {
    version.wrapping_add(1) << VERSION_SHIFT >> VERSION_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        let c = Control::default()
            .advanced(5)
            .with_owner(REMOVED)
            .with_transaction(true)
            .with_waiters(true);
        assert_eq!((c.version(), c.owner()), (5, REMOVED));
        assert!(c.in_transaction() && c.has_waiters());
        let c = c.with_owner(3).with_transaction(false);
        assert_eq!((c.version(), c.owner()), (5, 3));
        assert!(!c.in_transaction() && c.has_waiters());
        assert!(c.same(c.with_waiters(false)) && !c.same(c.with_owner(4)));
        let l = c.with_lock_waiters(true);
        assert_eq!((l.version(), l.owner()), (5, 3));
        assert!(c.same(l) && l.has_lock_waiters() && !c.has_lock_waiters());
        assert_eq!(l.quiet(), c.with_waiters(false));
        // Free only for those that already wait.
        let handed_over = c.with_owner(FREE).with_lock_waiters(true);
        assert!(handed_over.owner() == FREE && !handed_over.is_free());
        assert!(!c.with_owner(REMOVED).has_lock_waiters());
        assert_eq!(c.with_owner(REMOVED).bits() >> 2 & 0x7fff, 32_767);
    }

    const STATES: [State; 3] = [State::Dirty, State::Clean, State::Touched];

    #[test]
    fn every_owner_has_a_word_of_its_own_in_every_state_with_and_without_l() {
        let mut words = std::collections::BTreeSet::new();
        for state in STATES {
            let free = Control::default().advanced(5).with_waiters(true).with_state(state);
            for owner in FREE..=MAX_OWNER {
                let locked = free.taken_by(owner);
                for l in [false, true] {
                    let word = locked.with_lock_waiters(l);
                    assert_eq!((word.owner(), word.version(), word.state()), (owner, 5, state));
                    assert!(word.has_lock_waiters() == l && word.has_waiters());
                    assert!(!word.is_removed() && !word.is_read_lock());
                    assert_eq!(word.is_free(), owner == FREE && !l);
                    assert_eq!(word.is_free_and_dirty(), word.is_free() && state == State::Dirty);
                    assert!(word.same(locked) || owner == FREE);
                    assert_eq!(word.with_lock_waiters(!l).with_lock_waiters(l), word);
                    assert_eq!(word.quiet(), Control::default().advanced(5).with_owner(owner));
                    words.insert(word.bits());
                }
            }
        }
        for reader in 1..=MAX_OWNER {
            for l in [false, true] {
                let word = Control::default().advanced(5).with_waiters(true).with_reader(reader);
                let word = word.with_lock_waiters(l);
                assert!(word.is_read_lock() && word.reader() == reader && !word.is_free());
                assert!(word.has_lock_waiters() == l && word.state() == State::Dirty);
                assert!(!word.same(word.with_owner(reader)), "not the lock of a writer");
                words.insert(word.bits());
            }
        }
        let all = 2 * (3 * (usize::from(MAX_OWNER) + 1) + usize::from(MAX_OWNER));
        assert_eq!(words.len(), all);
        assert!(!words.contains(&Control::default().advanced(5).with_owner(REMOVED).bits()));
    }

    /// Older builds give out five owner numbers more in a store of format 1.0, without L.
    #[test]
    fn the_words_of_format_1_0_mean_the_same() {
        for owner in FREE..=4_096 {
            let word = Control::from_bits(u64::from(owner) << 2);
            assert_eq!((word.owner(), word.state()), (owner, State::Dirty));
            assert!(word.is_free() == (owner == FREE) && !word.has_lock_waiters());
            assert_eq!(word.quiet(), word);
            let read = Control::from_bits(u64::from(owner + 8_192) << 2);
            assert!(read.is_read_lock() && read.reader() == owner && !read.is_free());
            assert!(!read.has_lock_waiters() && read.quiet() == read);
        }
    }

    #[test]
    fn any_word_has_one_meaning() {
        for bits in 0..1u64 << VERSION_SHIFT {
            let word = Control::from_bits(bits);
            assert_eq!(word.quiet(), word.quiet().quiet());
            assert!(word.same(word.quiet()) || word.owner() & !READS == FREE);
            assert!(!word.is_removed() || word.owner() == REMOVED && !word.has_lock_waiters());
            assert!(!word.is_free() || word.owner() == FREE && !word.has_lock_waiters());
            assert!(!(word.has_waiters() || word.has_lock_waiters()) || word.may_have_waiters());
        }
    }

    #[test]
    fn versions_wrap_around() {
        let last = Control::default().advanced((1 << (64 - VERSION_SHIFT)) - 1).with_owner(7);
        assert_eq!(last.advanced(1).version(), 0);
        assert_eq!(last.advanced(1).owner(), 7);
        assert_eq!(next(last.version()), 0);
        assert_eq!(lead(0, last.version()), 1);
        assert_eq!(lead(last.version(), 0), -1);
        assert_eq!(lead(12, 10), 2);
    }
}
