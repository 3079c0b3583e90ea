//! Memory for the result of a read that is not initialized before: to zero it first would cost as
//! much as a small read.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU64;

use crate::mapping::{copy, vectors};
use crate::types::element::Element;
use crate::types::elements::NoMemory;
use crate::types::scalar_type::ScalarType;

/// Private memory for the result of a read, not initialized before.
pub(crate) struct NewMemory<'a> {
    bytes: &'a mut [MaybeUninit<u8>],
    is_filled: bool,
}

impl NewMemory<'_> {
    /// Its bytes: what was read into them, or zeros.
    pub(crate) fn filled(&mut self) -> &mut [u8] {
        if !self.is_filled {
            self.bytes.fill(MaybeUninit::new(0));
            self.is_filled = true;
        }
        // SAFETY: all of them are initialized.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_mut_ptr().cast(), self.bytes.len()) }
    }
}

/// Lets `fill` fill the elements; what it does not is zero. Returns them, and what it returns.
#[inline]
pub(crate) fn fill_new<T: Element, R>(
    elements: &mut [MaybeUninit<T>],
    fill: impl FnOnce(&mut NewMemory<'_>) -> R,
) -> (&mut [T], R) {
    let (start, len) = (elements.as_mut_ptr(), elements.len());
    // SAFETY: these are its bytes. Any may be stored there, and none are read before.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start.cast(), size_of_val(elements)) };
    let mut new = NewMemory { bytes, is_filled: false };
    let result = fill(&mut new);
    let bytes = new.filled();
    if T::TYPE == ScalarType::Bool {
        bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
    }
    // SAFETY: all of them are initialized. Any bytes are a number, and 0 and 1 are bools.
    (unsafe { std::slice::from_raw_parts_mut(start.cast(), len) }, result)
}

/// So many new elements, and what `fill` returns, see [`fill_new`].
#[inline]
pub(crate) fn new_elements<T: Element, R>(
    len: usize,
    fill: impl FnOnce(&mut NewMemory<'_>) -> R,
) -> Result<(Vec<T>, R), NoMemory> {
    let mut elements = Vec::<T>::new();
    let need = len.saturating_mul(size_of::<T>());
    elements.try_reserve_exact(len).map_err(|_| NoMemory { need })?;
    let (_, result) = fill_new(&mut elements.spare_capacity_mut()[..len], fill);
    // SAFETY: that many elements are initialized.
    unsafe { elements.set_len(len) };
    Ok((elements, result))
}

/// Like [`copy::read`], for memory that is not initialized before.
#[inline]
pub(crate) fn read_new(words: &[AtomicU64], skip: usize, out: &mut NewMemory<'_>) {
    let (to, len) = (out.bytes.as_mut_ptr().cast(), out.bytes.len());
    let from = copy::start_of(words, skip, len);
    // SAFETY: as in `copy::read`.
    if unsafe { vectors::load_new(from, to, len, 1) } {
        out.is_filled = true;
    } else {
        copy::read(words, skip, out.filled());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_elements_are_what_was_read() {
        let bytes: Vec<u8> = (0..64).map(|i| [0, 1, 2, 255][i % 4]).collect();
        let words: Vec<AtomicU64> = (0..8).map(|_| AtomicU64::new(0)).collect();
        copy::write(&words, 0, &bytes);
        for len in 0..64 {
            let (new, ()) = new_elements::<u8, _>(len, |out| read_new(&words, 0, out)).unwrap();
            assert_eq!(new, bytes[..len]);
            let (new, ()) = new_elements::<bool, _>(len, |out| read_new(&words, 0, out)).unwrap();
            assert!(new.iter().zip(&bytes).all(|(new, byte)| *new == (*byte != 0)), "{len}");
            assert_eq!(new_elements::<u64, _>(len, |_| ()).unwrap().0, vec![0; len]);
        }
        assert!(new_elements::<u64, _>(usize::MAX, |_| ()).is_err());
    }
}
