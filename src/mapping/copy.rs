//! Race-free copies between private memory and the mapping, which other processes may write at any
//! time.
//!
//! The mapping is accessed only as relaxed atomic 64-bit words, or by assembly that does the same
//! faster ([`vectors`]). So a concurrent writer is a race of atomics, which is defined, never one
//! of plain memory, which is not. The protocol decides whether a copy is whole.
//!
//! A buffer's elements are atomics of their own size ([`Atomic`]): racing atomics of different
//! sizes on the same bytes are not defined. When many are copied, the assembly tears none.

#![allow(unsafe_code)]

use std::sync::atomic::{
    AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{self, Relaxed},
};

use crate::mapping::vectors;

/// Bytes of a word.
pub(crate) const WORD: usize = 8;

/// Fills `out` with the bytes from `skip` bytes after the start of `words`. Each word is read whole
/// if these are whole words, at most 256 bytes; else readers need the protocol to tell them that
/// the copy is.
///
/// Panics if the words end before that.
#[inline]
pub(crate) fn read(words: &[AtomicU64], skip: usize, out: &mut [u8]) {
    let from = start_of(words, skip, out.len());
    // SAFETY: both are this long, and do not overlap, as one is private.
    if unsafe { vectors::load(from, out.as_mut_ptr(), out.len(), 1) } {
        return;
    }
    let mut at = skip / WORD;
    let mut out = out;
    let lead = skip % WORD;
    if lead != 0 && !out.is_empty() {
        let n = out.len().min(WORD - lead);
        let (head, rest) = out.split_at_mut(n);
        head.copy_from_slice(&words[at].load(Relaxed).to_le_bytes()[lead..lead + n]);
        out = rest;
        at += 1;
    }
    let (chunks, tail) = out.as_chunks_mut::<WORD>();
    for chunk in chunks {
        *chunk = words[at].load(Relaxed).to_le_bytes();
        at += 1;
    }
    if !tail.is_empty() {
        let word = words[at].load(Relaxed).to_le_bytes();
        tail.copy_from_slice(&word[..tail.len()]);
    }
}

/// Stores `data` from `skip` bytes after the start of `words`. May store the bytes beside it in its
/// first and last word again as they were: the caller holds the lock under which nobody else writes
/// them.
///
/// Panics if the words end before that.
#[inline]
pub(crate) fn write(words: &[AtomicU64], skip: usize, data: &[u8]) {
    let to = start_of(words, skip, data.len());
    // SAFETY: both are this long, and do not overlap, as one is private. Atomics may be written
    // through a shared reference.
    if unsafe { vectors::store(data.as_ptr(), to, data.len(), 1) } {
        return;
    }
    let mut at = skip / WORD;
    let mut data = data;
    let lead = skip % WORD;
    if lead != 0 && !data.is_empty() {
        let n = data.len().min(WORD - lead);
        let (head, rest) = data.split_at(n);
        merge(&words[at], lead, head);
        data = rest;
        at += 1;
    }
    let (chunks, tail) = data.as_chunks::<WORD>();
    for chunk in chunks {
        words[at].store(u64::from_le_bytes(*chunk), Relaxed);
        at += 1;
    }
    if !tail.is_empty() {
        merge(&words[at], 0, tail);
    }
}

/// Where `len` bytes from `skip` bytes after the start of `words` begin.
#[inline]
pub(super) fn start_of(words: &[AtomicU64], skip: usize, len: usize) -> *mut u8 {
    let all = size_of_val(words);
    assert!(skip <= all && len <= all - skip, "a copy lies within the words");
    words.as_ptr().cast_mut().cast::<u8>().wrapping_add(skip)
}

fn merge(word: &AtomicU64, lead: usize, data: &[u8]) {
    let mut bytes = word.load(Relaxed).to_le_bytes();
    bytes[lead..lead + data.len()].copy_from_slice(data);
    word.store(u64::from_le_bytes(bytes), Relaxed);
}

/// Copies the words of `from` to `to`, which has the same length.
#[inline]
pub(crate) fn copy(from: &[AtomicU64], to: &[AtomicU64]) {
    assert_eq!(from.len(), to.len(), "a copy has one length");
    let (start, target) = (from.as_ptr().cast(), to.as_ptr().cast_mut().cast());
    // SAFETY: both are this many words long. If they overlapped, it would be unknown which words
    // are copied twice, but no words beside them would change. Atomics may be written through a
    // shared reference.
    if unsafe { vectors::store(start, target, size_of_val(from), 1) } {
        return;
    }
    for (to, from) in to.iter().zip(from) {
        to.store(from.load(Relaxed), Relaxed);
    }
}

/// One of std's atomic integers, its value zero-extended.
///
/// # Safety
///
/// It has the size of its integer, is aligned to that size, and any bytes are a valid value.
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
        // SAFETY: std guarantees this for its atomic integers.
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

/// Fills `out` with as many elements as fit.
pub(crate) fn read_elements<A: Atomic>(elements: &[A], out: &mut [u8]) {
    let size = size_of::<A>();
    let whole = out.len().min(size_of_val(elements)) / WORD * WORD;
    let from = elements.as_ptr().cast();
    // SAFETY: both are at least that long, and do not overlap, as one is private.
    let all = unsafe { vectors::load(from, out.as_mut_ptr(), whole, size) };
    let done = if all { whole } else { 0 };
    let elements = &elements[done / size..];
    for (bytes, element) in out[done..].chunks_exact_mut(size).zip(elements) {
        bytes.copy_from_slice(&element.load(Relaxed).to_le_bytes()[..size]);
    }
}

/// Stores as many elements as `data` holds.
pub(crate) fn write_elements<A: Atomic>(elements: &[A], data: &[u8]) {
    let size = size_of::<A>();
    let whole = data.len().min(size_of_val(elements)) / WORD * WORD;
    let to = elements.as_ptr().cast_mut().cast();
    // SAFETY: both are at least that long, and do not overlap, as one is private. Atomics may be
    // written through a shared reference.
    let all = unsafe { vectors::store(data.as_ptr(), to, whole, size) };
    let done = if all { whole } else { 0 };
    let elements = &elements[done / size..];
    for (bytes, element) in data[done..].chunks_exact(size).zip(elements) {
        let mut word = [0; WORD];
        word[..size].copy_from_slice(bytes);
        element.store(u64::from_le_bytes(word), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A write changes its bytes and no others, whatever the offset and length.
        #[test]
        fn a_write_changes_its_bytes_and_no_others(
            skip in 0usize..40,
            // Short ones, and some long enough for each of the loops.
            data in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..60),
                proptest::collection::vec(any::<u8>(), 60..1_200),
                proptest::collection::vec(any::<u8>(), 8_000..20_000),
            ],
        ) {
            const WORDS: usize = 2_600;
            let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(!0)).collect();
            let mut expected = vec![0xff; WORDS * WORD];
            expected[skip..skip + data.len()].copy_from_slice(&data);
            write(&words, skip, &data);
            let mut all = vec![0; WORDS * WORD];
            read(&words, 0, &mut all);
            prop_assert_eq!(&all, &expected);
            let mut part = vec![0; data.len()];
            read(&words, skip, &mut part);
            prop_assert_eq!(part, data);
            // A part of it is copied elsewhere.
            let (from, len) = (skip / WORD, WORDS / 2);
            let other: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
            copy(&words[from..from + len], &other[1..1 + len]);
            for (i, word) in other.iter().enumerate() {
                let is_copied = (1..=len).contains(&i);
                let there = if is_copied { words[from + i - 1].load(Relaxed) } else { 0 };
                prop_assert_eq!(word.load(Relaxed), there);
            }
        }
    }

    /// New elements are what was read, whatever the length; or zero if nothing was. Any byte but 0
    /// is true.
    /// Vectors overlap at both ends: nothing is missed or touched beside them, however private
    /// memory is aligned, in each of the loops.
    #[test]
    fn private_memory_may_begin_anywhere() {
        const MOST: usize = 2_100;
        let words: Vec<AtomicU64> = (0..MOST as u64 + 8).map(|_| AtomicU64::new(!0)).collect();
        let lens = [31, 32, 33, 95, 127, 128, 129, 160, 255, 256, 257, 8_191, 8_192, 8_193, 16_000];
        for len in lens {
            for private in 0..33 {
                let data: Vec<u8> = (0..len + private).map(|i| (i * 31 + len) as u8).collect();
                write(&words, WORD, &data[private..]);
                assert_eq!(words[0].load(Relaxed), !0);
                let mut out = vec![0xaa; private + len + 7];
                read(&words, WORD, &mut out[private..private + len]);
                assert_eq!(out[private..private + len], data[private..], "{len} from {private}");
                assert!(out[..private].iter().chain(&out[private + len..]).all(|b| *b == 0xaa));
            }
        }
    }

    proptest! {
        #[test]
        fn elements_are_copied_up_to_the_last_and_none_beside_them(
            data in proptest::collection::vec(any::<u8>(), 0..700),
        ) {
            let elements: Vec<AtomicU16> = (0..400).map(|_| AtomicU16::new(!0)).collect();
            let whole = data.len() / 2 * 2;
            write_elements(&elements[1..], &data);
            let mut all = vec![0; 800];
            read_elements(&elements, &mut all);
            let mut expected = vec![0xff; 800];
            expected[2..2 + whole].copy_from_slice(&data[..whole]);
            prop_assert_eq!(&all, &expected);
            let mut part = vec![0; whole];
            read_elements(&elements[1..], &mut part);
            prop_assert_eq!(part, &data[..whole]);
        }
    }
}
