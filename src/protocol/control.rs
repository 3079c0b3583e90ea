//! The control word: which version is current, who holds the lock, who waits.

use std::fmt;

/// One 64-bit word beside every slot's value.
///
/// | bits | meaning |
/// | --- | --- |
/// | 0 | T: the slot is in a transaction that is being committed |
/// | 1 | W: somebody waits for a change; whoever clears it wakes all of them |
/// | 2 to 15 | owner: process-table entry + 1, 0 = free; plus 8,192: it only reads |
/// | 16 | L: somebody waits for the lock; whoever clears it wakes one of them |
/// | 2 to 16 | all set: removed forever |
/// | 17 to 63 | version, counted modulo 2^47; its low bits lie in the futex word |
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Control(u64);

/// The holder of a slot's lock: 0 if there is none, else process-table entry + 1, plus 8,192 if it
/// only reads.
pub(crate) type Owner = u16;

/// The owner of a slot that is not locked.
pub(crate) const FREE: Owner = 0;
/// The owner of a removed slot: it is never recovered, so no lock is ever taken again.
pub(crate) const REMOVED: Owner = (1 << OWNER_BITS) - 1; // L is part of it

/// Added to the owner if it only reads.
const READS: Owner = 1 << 13;

const T: u64 = 1;
const W: u64 = 1 << 1;
const OWNER_SHIFT: u32 = 2;
const OWNER_BITS: u32 = 15;
const OWNER: u64 = ((1 << OWNER_BITS) - 1) << OWNER_SHIFT;
const L: u64 = 1 << (OWNER_SHIFT + OWNER_BITS - 1);
const VERSION_SHIFT: u32 = OWNER_SHIFT + OWNER_BITS;

impl Control {
    pub(crate) const fn from_bits(bits: u64) -> Control {
        Control(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The half of the word that a waiter sleeps on.
    pub(crate) const fn futex_word(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn version(self) -> u64 {
        self.0 >> VERSION_SHIFT
    }

    /// The owner of the lock.
    pub(crate) const fn owner(self) -> Owner {
        let l = if self.is_removed() { 0 } else { L };
        ((self.0 & OWNER & !l) >> OWNER_SHIFT) as Owner
    }

    pub(crate) const fn is_removed(self) -> bool {
        self.0 & OWNER == OWNER
    }

    /// Whether anybody may take the lock: not if it was handed over to a waiter.
    pub(crate) const fn is_free(self) -> bool {
        self.0 & OWNER == 0
    }

    pub(crate) const fn in_transaction(self) -> bool {
        self.0 & T != 0
    }

    pub(crate) const fn has_waiters(self) -> bool {
        self.0 & W != 0
    }

    /// Whether W or L is set, in one test; also right for a removed slot.
    pub(crate) const fn may_have_waiters(self) -> bool {
        self.0 & (W | L) != 0
    }

    pub(crate) const fn has_lock_waiters(self) -> bool {
        self.0 & L != 0 && !self.is_removed()
    }

    /// With this owner, and without L.
    pub(crate) const fn with_owner(self, owner: Owner) -> Control {
        Control(self.0 & !OWNER | (owner as u64) << OWNER_SHIFT)
    }

    /// Locked by this owner, to read.
    pub(crate) const fn with_reader(self, owner: Owner) -> Control {
        self.with_owner(owner | READS)
    }

    /// Whether a reader has the lock: it stores nothing under it, and anybody may take it away.
    pub(crate) const fn is_read_lock(self) -> bool {
        self.owner() & READS != 0 && self.owner() != REMOVED
    }

    /// The owner of the lock, if it is a reader.
    pub(crate) const fn reader(self) -> Owner {
        self.owner() & !READS
    }

    /// The word `steps` versions later, wrapping around.
    pub(crate) const fn advanced(self, steps: u64) -> Control {
        Control(self.0.wrapping_add(steps << VERSION_SHIFT))
    }

    pub(crate) const fn with_transaction(self, on: bool) -> Control {
        Control(if on { self.0 | T } else { self.0 & !T })
    }

    pub(crate) const fn with_waiters(self, on: bool) -> Control {
        Control(if on { self.0 | W } else { self.0 & !W })
    }

    /// Only for a slot that is not removed.
    pub(crate) const fn with_lock_waiters(self, on: bool) -> Control {
        Control(if on { self.0 | L } else { self.0 & !L })
    }

    /// Without W and L; only for a slot that is not removed.
    pub(crate) const fn quiet(self) -> Control {
        Control(self.0 & !(W | L))
    }

    /// Whether they are equal apart from W and L, which anybody may set at any time.
    pub(crate) const fn same(self, other: Control) -> bool {
        self.0 | W | L == other.0 | W | L
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{} owner {}", self.version(), self.owner())?;
        f.write_str(if self.in_transaction() { " T" } else { "" })?;
        f.write_str(if self.has_waiters() { " W" } else { "" })?;
        f.write_str(if self.has_lock_waiters() { " L" } else { "" })
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
