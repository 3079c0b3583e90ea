//! Race-free copies between private memory and the mapping, which other processes may write at any
//! time.
//!
//! The mapping is accessed only as relaxed atomic 64-bit words, or by assembly that does the same
//! faster. So a concurrent writer is a race of atomics, which is defined, never one of plain
//! memory, which is not. The protocol decides whether a copy is whole.
//!
//! A buffer's elements are atomics of their own size ([`Atomic`]): racing atomics of different
//! sizes on the same bytes are not defined. When many are copied, the assembly tears none.

#![allow(unsafe_code)]

use std::sync::atomic::{
    AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{self, Relaxed},
};

/// Bytes of a word.
pub(crate) const WORD: usize = 8;

/// Fills `out` with the bytes from `skip` bytes after the start of `words`.
///
/// Panics if the words end before that.
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
    let from = &words[at..at + whole];
    // SAFETY: both are `whole` words long, and do not overlap, as one is private.
    let done = unsafe { bulk(from.as_ptr().cast(), chunks.as_mut_ptr().cast(), whole) };
    for (chunk, word) in chunks[done..].iter_mut().zip(&from[done..]) {
        *chunk = word.load(Relaxed).to_le_bytes();
    }
    if !tail.is_empty() {
        let word = words[at + whole].load(Relaxed).to_le_bytes();
        tail.copy_from_slice(&word[..tail.len()]);
    }
}

/// Stores `data` from `skip` bytes after the start of `words`. Stores the bytes beside it in its
/// first and last word again as they were: the caller holds the lock under which nobody else writes
/// them.
///
/// Panics if the words end before that.
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
    let whole = chunks.len();
    let to = &words[at..at + whole];
    // SAFETY: both are `whole` words long, and do not overlap, as one is private. Atomics may be
    // written through a shared reference.
    let done = unsafe { bulk(chunks.as_ptr().cast(), to.as_ptr().cast_mut().cast(), whole) };
    for (chunk, word) in chunks[done..].iter().zip(&to[done..]) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    if !tail.is_empty() {
        merge(&words[at + whole], 0, tail);
    }
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
    // SAFETY: both are this many words long. If they overlapped, it would be unknown which words
    // are copied twice, but no words beside them would change. Atomics may be written through a
    // shared reference.
    let done = unsafe { bulk(from.as_ptr().cast(), to.as_ptr().cast_mut().cast(), from.len()) };
    for (to, from) in to[done..].iter().zip(&from[done..]) {
        to.store(from.load(Relaxed), Relaxed);
    }
}

/// Words of one AVX register.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const VECTOR: usize = 4;
/// From this many words on, [`bulk`] no longer copies each word whole.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const LARGE: usize = 1024;

/// Copies all words, or none; returns how many. From [`LARGE`] on, a word may be read in two parts
/// if `to` is not aligned to 8: then readers need the protocol to tell them that the copy is whole.
///
/// # Safety
///
/// `from` and `to` are valid for this many words. The shared side is aligned to 8, and other
/// threads access it only by atomics, or by this function.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn bulk(from: *const u8, to: *mut u8, words: usize) -> usize {
    if words >= LARGE && std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the caller promises this many words, and the processor has AVX.
        unsafe { copy_vectors(from, to, words * WORD, VECTOR * WORD - 1) };
        return words;
    }
    // SAFETY: the caller promises it.
    unsafe { bulk_of_elements(from, to, words) }
}

/// Like [`bulk`], if the shared side consists of elements of 1, 2, 4 or 8 bytes, aligned to their
/// size. Copies each element whole.
///
/// # Safety
///
/// As for [`bulk`], except for that alignment.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn bulk_of_elements(from: *const u8, to: *mut u8, words: usize) -> usize {
    if words < VECTOR || !std::arch::is_x86_feature_detected!("avx") {
        return 0;
    }
    // It goes on whole words further, so that each element stays in one part of what is loaded or
    // stored.
    // SAFETY: the caller promises this many words, and the processor has AVX.
    unsafe { copy_vectors(from, to, words * WORD, (VECTOR - 1) * WORD) };
    words
}

/// Copies `len` bytes, at least 32, by vectors of 32: as fast as memcpy or faster, wherever both
/// begin. Stores the most of it at addresses of which the bits `aligned` are 0: others cost twice as
/// much while the data is in the first cache. (Not `rep movsb`: where `to` is not aligned it takes 10
/// to 20 times as long on an AMD EPYC, and no less elsewhere.)
///
/// # Safety
///
/// As for [`bulk_of_elements`]; and the processor has AVX.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx")]
unsafe fn copy_vectors(from: *const u8, to: *mut u8, len: usize, aligned: usize) {
    // SAFETY: touches the bytes that the caller promises, and no others. The compiler must assume
    // that it touches any memory, and moves no access across it. On x86-64, loads are not reordered
    // with loads, nor stores with stores. If 32 bytes are loaded or stored in parts, each part
    // consists of whole words or elements of the shared side: those are aligned, and so cross no
    // cache line border. Some bytes at the beginning and the end are copied twice.
    unsafe {
        std::arch::asm!(
            "cmp rdx, 128",
            "jb 5f",
            // The first vector, and on to the next aligned address, unless `to` is one.
            "and rax, rdi",
            "jz 2f",
            "vmovups ymm0, [rsi]",
            "vmovups [rdi], ymm0",
            "sub rax, 32",
            "sub rsi, rax",
            "sub rdi, rax",
            "add rdx, rax",
            "2:",
            "cmp rdx, 128",
            "jbe 4f",
            ".p2align 5",
            "3:",
            "vmovups ymm0, [rsi]",
            "vmovups ymm1, [rsi + 32]",
            "vmovups ymm2, [rsi + 64]",
            "vmovups ymm3, [rsi + 96]",
            "vmovups [rdi], ymm0",
            "vmovups [rdi + 32], ymm1",
            "vmovups [rdi + 64], ymm2",
            "vmovups [rdi + 96], ymm3",
            // An addition of 128 takes a longer instruction.
            "sub rsi, -128",
            "sub rdi, -128",
            "add rdx, -128",
            "cmp rdx, 128",
            "ja 3b",
            // The last 128 bytes.
            "4:",
            "vmovups ymm0, [rsi + rdx - 128]",
            "vmovups ymm1, [rsi + rdx - 96]",
            "vmovups ymm2, [rsi + rdx - 64]",
            "vmovups ymm3, [rsi + rdx - 32]",
            "vmovups [rdi + rdx - 128], ymm0",
            "vmovups [rdi + rdx - 96], ymm1",
            "vmovups [rdi + rdx - 64], ymm2",
            "vmovups [rdi + rdx - 32], ymm3",
            "jmp 8f",
            // Fewer than 128, and at least 32.
            "5:",
            "cmp rdx, 32",
            "jbe 7f",
            "6:",
            "vmovups ymm0, [rsi]",
            "vmovups [rdi], ymm0",
            "add rsi, 32",
            "add rdi, 32",
            "sub rdx, 32",
            "cmp rdx, 32",
            "ja 6b",
            "7:",
            "vmovups ymm0, [rsi + rdx - 32]",
            "vmovups [rdi + rdx - 32], ymm0",
            "8:",
            // Instructions other than AVX are slow while the upper halves are in use.
            "vzeroupper",
            inout("rsi") from => _,
            inout("rdi") to => _,
            inout("rdx") len => _,
            inout("rax") aligned => _,
            clobber_abi("C"),
            options(nostack),
        );
    }
}

/// Copies nothing: the portable form is the callers' loops.
///
/// # Safety
///
/// There are no requirements.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
unsafe fn bulk(_: *const u8, _: *mut u8, _: usize) -> usize {
    0
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
use bulk as bulk_of_elements;

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
    let words = out.len().min(size_of_val(elements)) / WORD;
    // SAFETY: both are at least that long, and do not overlap, as one is private.
    let done =
        WORD * unsafe { bulk_of_elements(elements.as_ptr().cast(), out.as_mut_ptr(), words) };
    let elements = &elements[done / size..];
    for (bytes, element) in out[done..].chunks_exact_mut(size).zip(elements) {
        bytes.copy_from_slice(&element.load(Relaxed).to_le_bytes()[..size]);
    }
}

/// Stores as many elements as `data` holds.
pub(crate) fn write_elements<A: Atomic>(elements: &[A], data: &[u8]) {
    let size = size_of::<A>();
    let words = data.len().min(size_of_val(elements)) / WORD;
    let to = elements.as_ptr().cast_mut().cast();
    // SAFETY: both are at least that long, and do not overlap, as one is private. Atomics may be
    // written through a shared reference.
    let done = WORD * unsafe { bulk_of_elements(data.as_ptr(), to, words) };
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
                let there = if (1..=len).contains(&i) { words[from + i - 1].load(Relaxed) } else { 0 };
                prop_assert_eq!(word.load(Relaxed), there);
            }
        }
    }

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
