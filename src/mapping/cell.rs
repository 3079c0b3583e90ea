//! A scalar's 16-byte cell: value and control word. One 128-bit compare-exchange changes both; two
//! 64-bit loads read one after the other.
//!
//! A 128-bit atomic load would cost four times as much, and where it is made of a compare-exchange
//! it faults on a read-only mapping. Rust's atomics do not define two loads of half the size, so
//! these are one routine of inline assembly. Miri does not support assembly, and loads all 128
//! bits.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use portable_atomic::AtomicU128;

use crate::mapping::map::{KeepsMapped, Map, Region};
use crate::protocol::{Cell, Control};

/// Whether this processor supports cells.
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

    /// The same region, kept mapped by another keeper of this mapping.
    #[inline]
    pub(crate) fn kept_by<L: KeepsMapped>(&self, keeper: L) -> CellRegion<L> {
        CellRegion(self.0.kept_by(keeper))
    }

    #[inline]
    fn ptr(&self) -> *mut u128 {
        self.0.as_mut_ptr().cast()
    }

    /// Loads the control word, then the value, both with acquire.
    #[inline]
    pub(crate) fn load(&self) -> Cell {
        // SAFETY: the pointer is 16-aligned, as `new` has checked, and valid as long as `self.0`
        // lives; only `swap` and `swap_control` change a cell.
        unsafe { load(self.ptr()) }
    }

    /// Replaces value and control word if they are `old`, else returns the current ones (relaxed).
    #[inline]
    pub(crate) fn swap(&self, old: Cell, new: Cell, order: Ordering) -> Result<(), Cell> {
        // SAFETY: the pointer is 16-aligned, as `new` has checked, and valid as long as `self.0`
        // lives; only `swap` and `swap_control` change a cell.
        unsafe { swap(self.ptr(), old, new, order) }
    }

    /// Replaces the control word if it is `old`, else returns the current one. The value stays: it
    /// changes only together with the control word.
    #[inline]
    pub(crate) fn swap_control(
        &self,
        old: Control,
        new: Control,
        order: Ordering,
    ) -> Result<(), Control> {
        // SAFETY: as in `swap`.
        unsafe { swap_control(self.ptr(), old, new, order) }
    }
}

/// The control word of the slot at this byte offset in this part of the mapping, whatever its form.
/// Acquires.
#[inline]
pub(crate) fn control_at<K: KeepsMapped>(region: &Region<K>, offset: u64) -> Control {
    assert!(offset.is_multiple_of(16) && offset + 16 <= region.len(), "a slot lies within it");
    let cell = region.as_mut_ptr().wrapping_add(offset as usize).cast::<u128>();
    assert!(cell.is_aligned(), "the part starts at a multiple of 16");
    // SAFETY: the pointer is 16-aligned and valid as long as `region` lives: both were checked.
    // Only `swap` and `swap_control` change a scalar. Of any other slot the control word is an
    // atomic of the size that is loaded, and nobody uses the value.
    unsafe { load(cell) }.control
}

#[cfg(any(miri, not(target_arch = "x86_64")))]
fn pack(cell: Cell) -> u128 {
    u128::from(cell.value) | u128::from(cell.control.bits()) << 64
}

#[cfg(any(miri, not(target_arch = "x86_64")))]
fn unpack(bits: u128) -> Cell {
    Cell { value: bits as u64, control: Control::from_bits((bits >> 64) as u64) }
}

/// Replaces both words of the cell if they are `old`, else returns the current ones.
///
/// Inlined here, as every update of a scalar makes this exchange: through a function it takes half
/// as long again. Rust inlines its own intrinsic only where the whole program is built for
/// processors with this instruction.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, only this function and [`swap_control`] change it, and cells are
/// supported.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn swap(cell: *mut u128, old: Cell, new: Cell, _: Ordering) -> Result<(), Cell> {
    let (value, control): (u64, u64);
    let swapped: u8;
    // SAFETY: changes the 16 bytes that the caller promises. A locked instruction is ordered with
    // all that comes before and after it: more than any `Ordering` asks for. The compiler may keep
    // something of its own in rbx, so it gets that back; it may also choose rbx for an operand, so
    // those used in between are named. It moves no memory access across the assembly.
    unsafe {
        std::arch::asm!(
            "xchg {new_value}, rbx",
            "lock cmpxchg16b xmmword ptr [rdi]",
            "sete r8b",
            "mov rbx, {new_value}",
            in("rdi") cell,
            new_value = inout(reg) new.value => _,
            out("r8b") swapped,
            inout("rax") old.value => value,
            inout("rdx") old.control.bits() => control,
            in("rcx") new.control.bits(),
            options(nostack),
        );
    }
    match swapped {
        0 => Err(Cell { value, control: Control::from_bits(control) }),
        _ => Ok(()),
    }
}

/// Replaces both words of the cell if they are `old`, else returns the current ones.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and only this function and [`swap_control`] change it.
#[cfg(any(miri, not(target_arch = "x86_64")))]
#[inline]
unsafe fn swap(cell: *mut u128, old: Cell, new: Cell, order: Ordering) -> Result<(), Cell> {
    // SAFETY: the caller promises it.
    let cell = unsafe { AtomicU128::from_ptr(cell) };
    // Relaxed on failure: nothing is read through the result, and for what it decides it only has
    // to be one of the cell's values.
    cell.compare_exchange(pack(old), pack(new), order, Ordering::Relaxed)
        .map(|_| ())
        .map_err(unpack)
}

/// Replaces the control word of the cell if it is `old`, else returns the current one.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and only this function and [`swap`] change it.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn swap_control(
    cell: *mut u128,
    old: Control,
    new: Control,
    _: Ordering,
) -> Result<(), Control> {
    let now: u64;
    // SAFETY: changes 8 of the 16 bytes that the caller promises. A locked instruction is atomic
    // with respect to all others on the same cache line, whatever their sizes, and no access is
    // reordered with it: it both acquires and releases. It costs half of an exchange of
    // all 16 bytes.
    unsafe {
        std::arch::asm!(
            "lock cmpxchg qword ptr [{cell} + 8], {new}",
            cell = in(reg) cell,
            new = in(reg) new.bits(),
            inout("rax") old.bits() => now,
            options(nostack),
        );
    }
    if now == old.bits() { Ok(()) } else { Err(Control::from_bits(now)) }
}

/// Replaces the control word of the cell if it is `old`, else returns the current one.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and only this function and [`swap`] change it.
#[cfg(any(not(target_arch = "x86_64"), miri))]
unsafe fn swap_control(
    cell: *mut u128,
    old: Control,
    new: Control,
    order: Ordering,
) -> Result<(), Control> {
    // SAFETY: the caller promises it.
    let mut seen = unsafe { load(cell) };
    loop {
        if seen.control != old {
            return Err(seen.control);
        }
        let next = Cell { value: seen.value, control: new };
        // SAFETY: as above.
        match unsafe { swap(cell, seen, next, order) } {
            Ok(()) => return Ok(()),
            Err(now) => seen = now,
        }
    }
}

/// Loads the control word, then the value, both with acquire.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and only [`swap`] and [`swap_control`] change it.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn load(cell: *mut u128) -> Cell {
    let (value, control): (u64, u64);
    // SAFETY: reads the 16 bytes that the caller promises. Two aligned 8-byte loads are atomic on
    // x86-64, and are not reordered with each other or with what comes after them: each is an
    // acquire. The compiler moves no memory access across the assembly, as it must assume that it
    // touches any memory.
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

/// Loads the control word, then the value, both with acquire.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and only [`swap`] and [`swap_control`] change it.
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline]
unsafe fn load(cell: *mut u128) -> Cell {
    let (value, control): (u64, u64);
    // SAFETY: reads the 16 bytes that the caller promises. `ldar` is an atomic load with acquire.
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

/// Loads control word and value together, with acquire.
///
/// # Safety
///
/// `cell` is valid and 16-aligned, and only [`swap`] and [`swap_control`] change it.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
unsafe fn load(cell: *mut u128) -> Cell {
    // SAFETY: the caller promises it.
    unpack(unsafe { AtomicU128::from_ptr(cell) }.load(Ordering::Acquire))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// The real form of what loom sees as one small word. Value and control word change together,
    /// no change is lost, and a value is never older than the control word read before it.
    #[test]
    fn value_and_control_word_change_together() {
        const ADDS: u64 = if cfg!(miri) { 200 } else { 200_000 };
        // Ordinary memory instead of a mapping, so that Miri can run this, too.
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
