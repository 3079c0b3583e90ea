//! Race-free copies between the mapping, which other processes write at any
//! time, and private memory.
//!
//! The mapping is only ever touched as relaxed atomic 64-bit words, so that a
//! concurrent writer is a race of atomics, which is defined, and never of plain
//! memory, which is not. Whether what was copied is whole is for the protocol
//! to say.
//!
//! A buffer's elements are atomics of their own size ([`Atomic`]), also where many are
//! copied: racing atomics of different sizes on the same bytes are not defined.

#![allow(unsafe_code)]

use std::sync::atomic::{
    AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{self, Relaxed},
};

/// Bytes of a word.
pub(crate) const WORD: usize = 8;

/// Fills `out` with the bytes from `skip` bytes after the start of `words`.
///
/// Panics if the words end before.
#[inline]
pub(crate) fn read(words: &[AtomicU64], skip: usize, out: &mut [u8]) {
    if out.is_empty() {
        return;
    }
    let mut at = skip / WORD;
    let mut out = out;
    let lead = skip % WORD;
    if lead != 0 {
        let n = out.len().min(WORD - lead);
        let (head, rest) = out.split_at_mut(n);
        head.copy_from_slice(&words[at].load(Relaxed).to_le_bytes()[lead..lead + n]);
        out = rest;
        at += 1;
    }
    let whole = out.len() / WORD;
    let (body, tail) = out.split_at_mut(whole * WORD);
    let (chunks, _) = body.as_chunks_mut::<WORD>();
    for (chunk, word) in chunks.iter_mut().zip(&words[at..at + whole]) {
        *chunk = word.load(Relaxed).to_le_bytes();
    }
    if !tail.is_empty() {
        let word = words[at + whole].load(Relaxed).to_le_bytes();
        tail.copy_from_slice(&word[..tail.len()]);
    }
}

/// Stores `data` from `skip` bytes after the start of `words`. The bytes beside
/// it in its first and last word are stored again as they were: the caller
/// holds the lock under which nobody else writes them.
///
/// Panics if the words end before.
#[inline]
pub(crate) fn write(words: &[AtomicU64], skip: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let mut at = skip / WORD;
    let mut data = data;
    let lead = skip % WORD;
    if lead != 0 {
        let n = data.len().min(WORD - lead);
        let (head, rest) = data.split_at(n);
        merge(&words[at], lead, head);
        data = rest;
        at += 1;
    }
    let (chunks, tail) = data.as_chunks::<WORD>();
    for (chunk, word) in chunks.iter().zip(&words[at..at + chunks.len()]) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    if !tail.is_empty() {
        merge(&words[at + chunks.len()], 0, tail);
    }
}

fn merge(word: &AtomicU64, lead: usize, data: &[u8]) {
    let mut bytes = word.load(Relaxed).to_le_bytes();
    bytes[lead..lead + data.len()].copy_from_slice(data);
    word.store(u64::from_le_bytes(bytes), Relaxed);
}

/// Copies the words of `from` to `to`, which are as many.
#[inline]
pub(crate) fn copy(from: &[AtomicU64], to: &[AtomicU64]) {
    assert_eq!(from.len(), to.len(), "a copy has one length");
    for (to, from) in to.iter().zip(from) {
        to.store(from.load(Relaxed), Relaxed);
    }
}

/// One of std's atomic integers, its value zero-extended.
///
/// # Safety
///
/// It has the size of its integer, is aligned to it, and any bytes are a value of it.
pub(crate) unsafe trait Atomic {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64>;
}

macro_rules! atomics {
    ($($atomic:ty: $integer:ty;)*) => {$(
        // SAFETY: std says so of its atomic integers.
        unsafe impl Atomic for $atomic {
            #[inline]
            fn load(&self, order: Ordering) -> u64 {
                self.load(order).into()
            }
            #[inline]
            fn store(&self, value: u64, order: Ordering) {
                self.store(value as $integer, order);
            }
            #[inline]
            fn compare_exchange(
                &self,
                old: u64,
                new: u64,
                success: Ordering,
                failure: Ordering,
            ) -> Result<u64, u64> {
                self.compare_exchange(old as $integer, new as $integer, success, failure)
                    .map(u64::from)
                    .map_err(u64::from)
            }
        }
    )*};
}

atomics! {
    AtomicU8: u8;
    AtomicU16: u16;
    AtomicU32: u32;
    AtomicU64: u64;
}

/// Fills `out` with as many of the elements as it has room for.
pub(crate) fn read_elements<A: Atomic>(elements: &[A], out: &mut [u8]) {
    let size = size_of::<A>();
    for (bytes, element) in out.chunks_exact_mut(size).zip(elements) {
        bytes.copy_from_slice(&element.load(Relaxed).to_le_bytes()[..size]);
    }
}

/// Stores as many of the elements as `data` holds.
pub(crate) fn write_elements<A: Atomic>(elements: &[A], data: &[u8]) {
    let size = size_of::<A>();
    for (bytes, element) in data.chunks_exact(size).zip(elements) {
        let mut word = [0; WORD];
        word[..size].copy_from_slice(bytes);
        element.store(u64::from_le_bytes(word), Relaxed);
    }
}

/// Lets `read` overwrite the bytes of `elements`, then makes each of them a
/// `bool` again: 0 is false, anything else true. Also when `read` panics.
pub(crate) fn with_bool_bytes<R>(elements: &mut [bool], read: impl FnOnce(&mut [u8]) -> R) -> R {
    struct Normalize {
        at: *mut u8,
        len: usize,
    }
    impl Normalize {
        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: `at` and `len` come from a live, exclusive `&mut [bool]` that is not
            // used while this exists; a bool is one initialised byte, and so is a u8.
            unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
        }
    }
    impl Drop for Normalize {
        fn drop(&mut self) {
            for byte in self.bytes() {
                *byte = u8::from(*byte != 0);
            }
        }
    }
    let mut bytes = Normalize { at: elements.as_mut_ptr().cast(), len: elements.len() };
    read(bytes.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the offset and length, a write changes its bytes and no others.
        #[test]
        fn a_write_changes_its_bytes_and_no_others(
            skip in 0usize..40,
            data in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let words: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(!0)).collect();
            let mut expected = vec![0xff; 16 * WORD];
            expected[skip..skip + data.len()].copy_from_slice(&data);
            write(&words, skip, &data);
            let mut all = vec![0; 16 * WORD];
            read(&words, 0, &mut all);
            prop_assert_eq!(&all, &expected);
            let mut part = vec![0; data.len()];
            read(&words, skip, &mut part);
            prop_assert_eq!(part, data);
        }
    }

    #[test]
    fn any_bytes_read_as_bools() {
        let mut bools = [true; 4];
        with_bool_bytes(&mut bools, |bytes| bytes.copy_from_slice(&[0, 1, 2, 255]));
        assert_eq!(bools, [false, true, true, true]);
    }
}
