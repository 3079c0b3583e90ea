//! Copies by vector instructions, in assembly: as fast as the machine's `memcpy`, at every size and
//! alignment.
//!
//! It is for x86-64, where a load or store of a vector is one of relaxed atomics, of each element
//! in it. Elsewhere these functions copy nothing, nor under Miri, which does not run assembly.

#![allow(unsafe_code)]

/// Copies all `len` bytes out of shared memory, or none; returns which. Elements of `unit` bytes,
/// which is 1, 2, 4 or 8, are copied whole: the larger the unit is, the slower are some alignments.
///
/// # Safety
///
/// `from` and `to` are valid for `len` bytes, a multiple of `unit`. The shared side is aligned to
/// `unit`, and other threads access it only by atomics, or by the functions of this module.
#[inline]
pub(super) unsafe fn load(from: *const u8, to: *mut u8, len: usize, unit: usize) -> bool {
    // SAFETY: the caller promises it.
    unsafe { copy(from, to, len, unit, Past::ForLoads) }
}

/// As [`load`], into memory that is new: never past the caches, where the kernel has just cleared
/// it.
///
/// # Safety
///
/// As for [`load`].
#[inline]
pub(super) unsafe fn load_new(from: *const u8, to: *mut u8, len: usize, unit: usize) -> bool {
    // SAFETY: the caller promises it.
    unsafe { copy(from, to, len, unit, Past::Never) }
}

/// As [`load`], into shared memory.
///
/// # Safety
///
/// As for [`load`].
#[inline]
pub(super) unsafe fn store(from: *const u8, to: *mut u8, len: usize, unit: usize) -> bool {
    // SAFETY: the caller promises it.
    unsafe { copy(from, to, len, unit, Past::ForStores) }
}

/// From how many eighths of the last cache on a copy goes past the caches.
#[derive(Clone, Copy)]
enum Past {
    /// The result may be new memory all the same, which the kernel has just cleared and which is in
    /// the caches. There, going past them costs a third more.
    ForLoads = 6,
    /// For new memory. (So large a copy there is not.)
    Never = 1 << 20,
    /// From here on it is faster.
    ForStores = 3,
}

/// # Safety
///
/// As for [`load`].
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize, unit: usize, past: Past) -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= x86::VECTOR {
        if x86::is_cached(len) {
            // SAFETY: the caller promises it; and the processor has AVX.
            unsafe { x86::cached(to, from, len, x86::VECTOR - unit) };
            return true;
        } else if x86::has_avx() {
            let streamed_from = x86::eighths_of_last_cache(past as usize);
            // SAFETY: as above.
            unsafe { x86::large(to, from, len, unit, streamed_from) };
            return true;
        }
    }
    let _ = (from, to, len, unit, past);
    false
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    use std::arch::x86_64::{__cpuid_count, CpuidResult};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use crate::mutant::planted;

    /// Bytes of one AVX register.
    pub(super) const VECTOR: usize = 32;
    /// Bytes of a cache line.
    const LINE: usize = 64;
    /// Copies of fewer bytes never go past the caches.
    pub(super) const LEAST_STREAMED: usize = 1 << 20;

    /// Copies of fewer bytes are made by [`cached`]: 0 if the processor has no AVX, or has not been
    /// asked yet.
    static CACHED: AtomicUsize = AtomicUsize::new(0);

    /// Whether [`cached`] may copy `len` bytes, if they are at least 32. Small copies cost little
    /// more than what is asked before them.
    #[inline]
    pub(super) fn is_cached(len: usize) -> bool {
        // Relaxed: it says what the processor can do, whenever it is read.
        len < CACHED.load(Relaxed)
    }

    /// Asks the processor, for [`is_cached`] too.
    #[cold]
    pub(super) fn has_avx() -> bool {
        let has_avx = std::arch::is_x86_feature_detected!("avx");
        if has_avx {
            CACHED.store(LEAST_STREAMED, Relaxed);
        }
        has_avx
    }

    /// Copies `len` bytes, at least 32. Of more than 256 it stores the most at addresses of which
    /// the bits `aligned` are 0: others cost twice as much while the data is in the first cache.
    /// (Not `rep movsb`: where `to` is not aligned it takes 10 to 20 times as long on an AMD EPYC,
    /// and no less elsewhere.)
    ///
    /// # Safety
    ///
    /// As for [`load`](super::load); and the processor has AVX. `aligned` is 32 less the unit, so
    /// that it goes on whole elements further to an aligned address.
    // It touches the bytes that the caller promises, and no others. The compiler knows nothing of
    // it, so it moves no access to memory across the call. On x86-64, loads are not reordered with
    // loads, nor stores with stores. If a vector is loaded or stored in parts, each part consists
    // of whole elements of the shared side: those are aligned, and so cross no cache line border.
    // Some bytes are copied twice.
    #[unsafe(naked)]
    pub(super) unsafe extern "sysv64" fn cached(
        to: *mut u8,
        from: *const u8,
        len: usize,
        aligned: usize,
    ) {
        // `to` is in rdi, `from` in rsi, `len` in rdx, `aligned` in rcx.
        std::arch::naked_asm!(
            // Up to 256: all is loaded, then all is stored. The vectors from the beginning and
            // those up to the end overlap. (Instructions other than AVX are slow until
            // `vzeroupper`.)
            "cmp rdx, 64",
            "jbe 2f",
            "cmp rdx, 128",
            "ja 3f",
            "vmovups ymm0, [rsi]",
            "vmovups ymm1, [rsi + 32]",
            "vmovups ymm2, [rsi + rdx - 64]",
            "vmovups ymm3, [rsi + rdx - 32]",
            "vmovups [rdi], ymm0",
            "vmovups [rdi + 32], ymm1",
            "vmovups [rdi + rdx - 64], ymm2",
            "vmovups [rdi + rdx - 32], ymm3",
            "vzeroupper",
            "ret",
            "2:",
            "vmovups ymm0, [rsi]",
            "vmovups ymm1, [rsi + rdx - 32]",
            "vmovups [rdi], ymm0",
            "vmovups [rdi + rdx - 32], ymm1",
            "vzeroupper",
            "ret",
            "3:",
            "cmp rdx, 256",
            "ja 4f",
            "vmovups ymm0, [rsi]",
            "vmovups ymm1, [rsi + 32]",
            "vmovups ymm2, [rsi + 64]",
            "vmovups ymm3, [rsi + 96]",
            "vmovups ymm4, [rsi + rdx - 128]",
            "vmovups ymm5, [rsi + rdx - 96]",
            "vmovups ymm6, [rsi + rdx - 64]",
            "vmovups ymm7, [rsi + rdx - 32]",
            "vmovups [rdi], ymm0",
            "vmovups [rdi + 32], ymm1",
            "vmovups [rdi + 64], ymm2",
            "vmovups [rdi + 96], ymm3",
            "vmovups [rdi + rdx - 128], ymm4",
            "vmovups [rdi + rdx - 96], ymm5",
            "vmovups [rdi + rdx - 64], ymm6",
            "vmovups [rdi + rdx - 32], ymm7",
            "vzeroupper",
            "ret",
            "4:",
            // A load waits for an earlier store at the same place of another page. So if `to` lies
            // within 256 bytes after `from` in that sense, it goes backwards.
            "mov eax, edi",
            "sub eax, esi",
            "test eax, 0xf00",
            "jz 6f",
            // Forwards: the first vector, and on to the next aligned address, unless `to` is one.
            "and rcx, rdi",
            "jz 5f",
            "vmovups ymm0, [rsi]",
            "vmovups [rdi], ymm0",
            "sub rcx, 32",
            "sub rsi, rcx",
            "sub rdi, rcx",
            "add rdx, rcx",
            ".p2align 5",
            "5:",
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
            "ja 5b",
            // The last 128 bytes.
            "vmovups ymm0, [rsi + rdx - 128]",
            "vmovups ymm1, [rsi + rdx - 96]",
            "vmovups ymm2, [rsi + rdx - 64]",
            "vmovups ymm3, [rsi + rdx - 32]",
            "vmovups [rdi + rdx - 128], ymm0",
            "vmovups [rdi + rdx - 96], ymm1",
            "vmovups [rdi + rdx - 64], ymm2",
            "vmovups [rdi + rdx - 32], ymm3",
            "vzeroupper",
            "ret",
            // Backwards, the same: the last vector first.
            "6:",
            "vmovups ymm0, [rsi + rdx - 32]",
            "vmovups [rdi + rdx - 32], ymm0",
            "lea rax, [rdi + rdx]",
            "and rcx, rax",
            "sub rdx, rcx",
            ".p2align 5",
            "7:",
            "vmovups ymm0, [rsi + rdx - 32]",
            "vmovups ymm1, [rsi + rdx - 64]",
            "vmovups ymm2, [rsi + rdx - 96]",
            "vmovups ymm3, [rsi + rdx - 128]",
            "vmovups [rdi + rdx - 32], ymm0",
            "vmovups [rdi + rdx - 64], ymm1",
            "vmovups [rdi + rdx - 96], ymm2",
            "vmovups [rdi + rdx - 128], ymm3",
            "add rdx, -128",
            "cmp rdx, 128",
            "ja 7b",
            "vmovups ymm0, [rsi + 96]",
            "vmovups ymm1, [rsi + 64]",
            "vmovups ymm2, [rsi + 32]",
            "vmovups ymm3, [rsi]",
            "vmovups [rdi + 96], ymm0",
            "vmovups [rdi + 64], ymm1",
            "vmovups [rdi + 32], ymm2",
            "vmovups [rdi], ymm3",
            "vzeroupper",
            "ret",
        )
    }

    /// Copies what may be larger than the caches; from `streamed_from` bytes on, past them.
    ///
    /// # Safety
    ///
    /// As for [`load`](super::load); and the processor has AVX. It is at least 32 bytes, and at least
    /// 256 if `streamed_from` is not more.
    #[cold]
    pub(super) unsafe fn large(
        to: *mut u8,
        from: *const u8,
        len: usize,
        unit: usize,
        streamed_from: usize,
    ) {
        /// Bytes of each step of `stream`.
        const STEP: usize = 128;
        let head = to.addr().wrapping_neg() % LINE;
        if len < streamed_from || !head.is_multiple_of(unit) {
            // SAFETY: the caller promises it.
            return unsafe { cached(to, from, len, VECTOR - unit) };
        }
        // SAFETY: these are parts of it, and are the whole: the streamed part begins less than a
        // line after the beginning, at the border of a line, and ends less than a step before the
        // end. Each begins and ends at an element's border.
        unsafe {
            cached(to, from, LINE, VECTOR - unit);
            stream(to.add(head), from.add(head), (len - head) / STEP * STEP);
            if !planted!(StreamedEndMissing) {
                cached(to.add(len - STEP), from.add(len - STEP), STEP, VECTOR - unit);
            }
        }
    }

    /// Stores past the caches: no bandwidth of the memory is spent on fetching what is replaced,
    /// and the source stays in the caches.
    ///
    /// # Safety
    ///
    /// As for [`cached`]. `to` is aligned to a line, and `len` is a multiple of 128, not 0.
    // As in `cached`, except that stores past the caches are not ordered with other stores. The
    // first fence keeps them after all that was stored before, as the note of what they are about
    // to change. The last one keeps behind them all that is stored afterwards, as the commit. A
    // kill between them loses none: what the processor has executed reaches the memory.
    #[unsafe(naked)]
    unsafe extern "sysv64" fn stream(to: *mut u8, from: *const u8, len: usize) {
        std::arch::naked_asm!(
            "sfence",
            ".p2align 5",
            "2:",
            "vmovups ymm0, [rsi]",
            "vmovups ymm1, [rsi + 32]",
            "vmovups ymm2, [rsi + 64]",
            "vmovups ymm3, [rsi + 96]",
            "vmovntps [rdi], ymm0",
            "vmovntps [rdi + 32], ymm1",
            "vmovntps [rdi + 64], ymm2",
            "vmovntps [rdi + 96], ymm3",
            "sub rsi, -128",
            "sub rdi, -128",
            "add rdx, -128",
            "jnz 2b",
            "sfence",
            "vzeroupper",
            "ret",
        )
    }

    /// So many eighths of the last cache, at least `LEAST_STREAMED`, and more than any copy if the
    /// processor does not say how large that cache is.
    pub(super) fn eighths_of_last_cache(eighths: usize) -> usize {
        static EIGHTH: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: all threads find the same.
        let mut eighth = EIGHTH.load(Relaxed);
        if eighth == 0 {
            eighth = last_cache().unwrap_or(usize::MAX) / 8;
            EIGHTH.store(eighth, Relaxed);
        }
        eighth.saturating_mul(eighths).max(LEAST_STREAMED)
    }

    /// The bytes of the last cache, as the processor says.
    fn last_cache() -> Option<usize> {
        #[allow(unused_unsafe, reason = "newer compilers say that it is safe")]
        // SAFETY: each x86-64 processor has this instruction.
        let ask = |leaf, cache| unsafe { __cpuid_count(leaf, cache) };
        let kind = |of: &CpuidResult| of.eax & 31;
        // Intel's page on caches, and AMD's: they have one layout.
        [4, 0x8000_001d].into_iter().find_map(|page| {
            let last_page = ask(page & 1 << 31, 0).eax;
            (0..8)
                .map(|cache| ask(page, cache))
                .take_while(|cache| page <= last_page && kind(cache) != NO_CACHE)
                .filter(|cache| kind(cache) != FOR_INSTRUCTIONS)
                .max_by_key(|cache| cache.eax >> 5 & 7)
                .map(|cache| {
                    let (ways, parts) = (cache.ebx >> 22, cache.ebx >> 12 & 0x3ff);
                    let (line, sets) = (cache.ebx & 0xfff, cache.ecx);
                    [ways, parts, line, sets].map(|less_one| less_one as usize + 1).iter().product()
                })
        })
    }
    const NO_CACHE: u32 = 0;
    const FOR_INSTRUCTIONS: u32 = 2;
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed,
    };

    use memmap2::MmapMut;

    use super::x86;
    use crate::mapping::copy::Atomic;
    use crate::mutant::{Mutant, plant};

    const PAGE: usize = 4096;
    const OFFSETS: [usize; 9] = [0, 1, 7, 8, 16, 31, 32, 63, 1024];

    /// Two pages between two that may not be touched.
    struct Fenced(MmapMut);

    impl Fenced {
        fn new() -> Fenced {
            let mut map = MmapMut::map_anon(4 * PAGE).unwrap();
            for page in [0, 3] {
                // SAFETY: the page is a part of the map, and this test does not touch it.
                let result = unsafe {
                    libc::mprotect(map.as_mut_ptr().add(page * PAGE).cast(), PAGE, libc::PROT_NONE)
                };
                assert_eq!(result, 0);
            }
            Fenced(map)
        }

        fn pages(&mut self) -> &mut [u8] {
            &mut self.0[PAGE..3 * PAGE]
        }
    }

    /// Copies `len` bytes; whether these are there, and no others have changed.
    fn is_right(
        (from, source): (&mut Fenced, usize),
        (to, destination): (&mut Fenced, usize),
        len: usize,
        unit: usize,
        streamed_from: usize,
    ) -> bool {
        let (from, to) = (from.pages(), to.pages());
        to.fill(0xaa);
        let data = &from[source..source + len];
        let target = &mut to[destination..destination + len];
        // SAFETY: both are this long, and nobody else uses them.
        unsafe { x86::large(target.as_mut_ptr(), data.as_ptr(), len, unit, streamed_from) };
        let beside = to[..destination].iter().chain(&to[destination + len..]);
        beside.copied().all(|byte| byte == 0xaa) && to[destination..][..len] == *data
    }

    /// A copy of each length from and to many offsets, among them the first and the last that there
    /// are; what was wrong.
    fn wrong_copies(lens: impl Iterator<Item = usize>, streamed_from: usize) -> Vec<[usize; 4]> {
        assert!(std::arch::is_x86_feature_detected!("avx"), "a processor without AVX");
        let (mut from, mut to) = (Fenced::new(), Fenced::new());
        for (i, byte) in from.pages().iter_mut().enumerate() {
            *byte = (i * 7 + i / 251) as u8;
        }
        let mut wrong = Vec::new();
        for len in lens {
            for unit in [1, 2, 4, 8].into_iter().filter(|unit| len.is_multiple_of(*unit)) {
                let last = 2 * PAGE - len;
                for source in OFFSETS.into_iter().chain([last]) {
                    for destination in OFFSETS.into_iter().chain([last]) {
                        let (source, destination) =
                            (source / unit * unit, destination / unit * unit);
                        let (a, b) = ((&mut from, source), (&mut to, destination));
                        if !is_right(a, b, len, unit, streamed_from) {
                            wrong.push([len, unit, source, destination]);
                        }
                    }
                }
            }
        }
        wrong
    }

    #[test]
    fn all_bytes_are_copied_and_none_beside_them() {
        let lens = (32..300).chain([383, 384, 385, 511, 512, 600, 1_024, 4_000, 7_000]);
        assert_eq!(wrong_copies(lens, usize::MAX), Vec::<[usize; 4]>::new());
    }

    #[test]
    fn all_bytes_are_copied_past_the_caches() {
        let lens = || (256..530).step_by(3).chain([1_024, 4_000, 7_001, 7_168]);
        assert_eq!(wrong_copies(lens(), 256), Vec::<[usize; 4]>::new());
        plant(Some(Mutant::StreamedEndMissing));
        assert_ne!(wrong_copies(lens(), 256), Vec::<[usize; 4]>::new());
        plant(None);
    }

    /// Copies elements that another thread changes from all zeros to all ones and back, out of and
    /// into shared memory: never a part of one.
    fn elements_are_whole<A: Atomic + Default + Sync>(all_ones: u64, streamed_from: usize) {
        const BYTES: usize = 1_024;
        let unit = size_of::<A>();
        let shared: Vec<A> = (0..BYTES / unit).map(|_| A::default()).collect();
        let done = AtomicBool::new(false);
        let mut out = vec![0u8; BYTES + 64];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    for value in [all_ones, 0] {
                        shared.iter().for_each(|element| element.store(value, Relaxed));
                    }
                }
            });
            for round in 0..4_000 {
                let begin = round % 40;
                // SAFETY: `out` has room for them; others access the elements by atomics.
                unsafe {
                    let to = out.as_mut_ptr().add(begin);
                    x86::large(to, shared.as_ptr().cast(), BYTES, unit, streamed_from);
                }
                let mut elements = out[begin..begin + BYTES].chunks_exact(unit);
                let is_whole = |bytes: &[u8]| bytes.iter().all(|byte| *byte == bytes[0]);
                assert!(elements.all(is_whole), "{unit} bytes each, to {begin}");
            }
            done.store(true, Relaxed);
        });
    }

    #[test]
    fn elements_are_never_torn() {
        for streamed_from in [256, usize::MAX] {
            elements_are_whole::<AtomicU8>(u8::MAX.into(), streamed_from);
            elements_are_whole::<AtomicU16>(u16::MAX.into(), streamed_from);
            elements_are_whole::<AtomicU32>(u32::MAX.into(), streamed_from);
            elements_are_whole::<AtomicU64>(u64::MAX, streamed_from);
        }
    }

    #[test]
    fn what_goes_past_the_caches_is_larger_than_the_small_ones() {
        let from = [3, 6].map(x86::eighths_of_last_cache);
        assert!(x86::LEAST_STREAMED <= from[0] && from[0] <= from[1], "{from:?}");
    }
}
