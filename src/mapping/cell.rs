//! A scalar's 16-byte cell: value and control word, changed together by one
//! 128-bit compare-exchange, read one after the other by two 64-bit loads.
//!
//! A 128-bit atomic load would cost four times as much, and faults on a read-only
//! mapping where it is made of a compare-exchange. Two loads of half the size are
//! not defined for Rust's atomics, so they are one routine of inline assembly; Miri,
//! which knows no assembly, loads all 128 bits.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use portable_atomic::AtomicU128;

use crate::mapping::map::{KeepsMapped, Map, Region};
use crate::protocol::{Cell, Control};

/// Whether this processor has what a cell needs.
pub(crate) fn is_supported() -> bool {
    AtomicU128::is_lock_free()
}

/// A part of the mapping that can begin with a cell.
#[derive(Clone, Debug)]
pub(crate) struct CellRegion<K: KeepsMapped = Arc<Map>>(Region<K>);

impl<K: KeepsMapped> CellRegion<K> {
    #[inline]
    pub(crate) fn new(region: Region<K>) -> CellRegion<K> {
        assert!(region.holds_cell(), "a cell is 16 aligned bytes");
        CellRegion(region)
    }

    #[inline]
    pub(crate) fn region(&self) -> &Region<K> {
        &self.0
    }

    /// The same, kept by another of those who keep this mapping.
    #[inline]
    pub(crate) fn kept_by<L: KeepsMapped>(&self, keeper: L) -> CellRegion<L> {
        CellRegion(self.0.kept_by(keeper))
    }

    #[inline]
    fn ptr(&self) -> *mut u128 {
        self.0.as_mut_ptr().cast()
    }

    /// Control word, then value, both acquired.
    #[inline]
    pub(crate) fn load(&self) -> Cell {
        // SAFETY: the pointer is 16-aligned, as `new` has checked, and valid for as long as
        // `self.0` lives; all that changes a cell does so by `swap`.
        unsafe { load(self.ptr()) }
    }

    /// Replaces value and control word if they are `old`, else returns what they are (relaxed).
    #[inline]
    pub(crate) fn swap(&self, old: Cell, new: Cell, order: Ordering) -> Result<(), Cell> {
        // SAFETY: the pointer is 16-aligned, as `new` has checked, and valid for as long as
        // `self.0` lives; all that changes a cell does so by this very operation.
        unsafe { swap(self.ptr(), old, new, order) }
    }

    /// Replaces the control word if it is `old`, else returns what it is. The value stays as it
    /// is: it changes only together with the control word.
    #[inline(never)]
    pub(crate) fn swap_control(
        &self,
        old: Control,
        new: Control,
        order: Ordering,
    ) -> Result<(), Control> {
        let mut seen = self.load();
        loop {
            if seen.control != old {
                return Err(seen.control);
            }
            match self.swap(seen, Cell { value: seen.value, control: new }, order) {
                Ok(()) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }
}

/// The control word of the slot, of either form, that is so many bytes from the start of this
/// part of the mapping, acquired.
#[inline]
pub(crate) fn control_at<K: KeepsMapped>(region: &Region<K>, offset: u64) -> Control {
    assert!(offset.is_multiple_of(16) && offset + 16 <= region.len(), "a slot lies within it");
    let cell = region.as_mut_ptr().wrapping_add(offset as usize).cast::<u128>();
    assert!(cell.is_aligned(), "the part starts at a multiple of 16");
    // SAFETY: the pointer is 16-aligned and valid for as long as `region` lives: both have been
    // checked. A scalar is changed by nothing but `swap`; of any other slot the control word is
    // an atomic of the very size that is loaded, and its value is used by nobody.
    unsafe { load(cell) }.control
}

fn pack(cell: Cell) -> u128 {
    u128::from(cell.value) | u128::from(cell.control.bits()) << 64
}

fn unpack(bits: u128) -> Cell {
    Cell { value: bits as u64, control: Control::from_bits((bits >> 64) as u64) }
}

/// Replaces both words of the cell if they are `old`, else returns what they are.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and changed by nothing but this function.
#[inline]
unsafe fn swap(cell: *mut u128, old: Cell, new: Cell, order: Ordering) -> Result<(), Cell> {
    // SAFETY: promised by the caller.
    let cell = unsafe { AtomicU128::from_ptr(cell) };
    // Relaxed on failure: nothing is read through what is found, and for what is decided by it
    // it is enough that it is one value of the cell.
    cell.compare_exchange(pack(old), pack(new), order, Ordering::Relaxed)
        .map(|_| ())
        .map_err(unpack)
}

/// Control word, then value, both acquired.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and changed by nothing but [`swap`].
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn load(cell: *mut u128) -> Cell {
    let (value, control): (u64, u64);
    // SAFETY: reads the 16 bytes that the caller promises. Two aligned 8-byte loads are
    // atomic on x86-64, and are not reordered with each other, nor with what comes after
    // them: each is an acquire. The compiler moves no access to memory across the
    // assembly, as it must assume that it touches any.
    unsafe {
        std::arch::asm!(
            "mov {control}, qword ptr [{cell} + 8]",
            "mov {value}, qword ptr [{cell}]",
            cell = in(reg) cell,
            control = out(reg) control,
            value = lateout(reg) value,
            options(nostack, preserves_flags),
        );
    }
    Cell { value, control: Control::from_bits(control) }
}

/// Control word, then value, both acquired.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and changed by nothing but [`swap`].
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline]
unsafe fn load(cell: *mut u128) -> Cell {
    let (value, control): (u64, u64);
    // SAFETY: reads the 16 bytes that the caller promises. `ldar` is an atomic load that
    // acquires.
    unsafe {
        std::arch::asm!(
            "add {scratch}, {cell}, #8",
            "ldar {control}, [{scratch}]",
            "ldar {value}, [{cell}]",
            cell = in(reg) cell,
            scratch = out(reg) _,
            control = out(reg) control,
            value = lateout(reg) value,
            options(nostack, preserves_flags),
        );
    }
    Cell { value, control: Control::from_bits(control) }
}

/// Control word and value, both acquired, in one.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and changed by nothing but [`swap`].
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
unsafe fn load(cell: *mut u128) -> Cell {
    // SAFETY: promised by the caller.
    unpack(unsafe { AtomicU128::from_ptr(cell) }.load(Ordering::Acquire))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// The real form of what loom sees as one small word: value and control word change
    /// together, none is lost, and a value is never older than the control word read
    /// before it.
    #[test]
    fn value_and_control_word_change_together() {
        const ADDS: u64 = if cfg!(miri) { 200 } else { 200_000 };
        // Memory of our own in place of a mapping, so that Miri can run this, too.
        let (shared, done) = (AtomicU128::new(0), AtomicU64::new(0));
        let cell = || shared.as_ptr();
        let add = || {
            for _ in 0..ADDS {
                // SAFETY: the cell lives until the scope ends, and only `swap` changes it.
                let mut seen = unsafe { load(cell()) };
                loop {
                    let new = Cell { value: seen.value + 1, control: seen.control.advanced(1) };
                    // SAFETY: as above.
                    match unsafe { swap(cell(), seen, new, Ordering::AcqRel) } {
                        Ok(()) => break,
                        Err(now) => {
                            assert_eq!(now.value, now.control.version(), "torn");
                            seen = now;
                        }
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(add);
            scope.spawn(add);
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) < 2 * ADDS {
                    // SAFETY: as above.
                    let seen = unsafe { load(cell()) };
                    assert!(seen.value >= seen.control.version(), "older than its version");
                    std::hint::spin_loop();
                }
            });
        });
        // SAFETY: as above.
        let end = unsafe { load(cell()) };
        assert_eq!((end.value, end.control.version()), (2 * ADDS, 2 * ADDS));
    }
}
