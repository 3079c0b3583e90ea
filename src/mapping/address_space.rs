//! The addresses of a mapping. They are reserved beyond the end of the file, but never all that are
//! left, and extended in place as the file grows.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::mutant::planted;
use crate::os::fork::NoFork;
use crate::os::sys::{address_limit, random, uninterrupted};

/// A file's mapping, which never moves and never shrinks.
#[derive(Debug)]
pub(crate) struct Reserved {
    start: *mut u8,
    /// Bytes that are mapped: whole pages. Changes under [`NoFork`], so that it is right in the
    /// child of a fork.
    len: AtomicUsize,
    /// The owner of the mapping if it covers all that the file can ever use; `None` if it may grow.
    whole: Option<MmapRaw>,
}

// SAFETY: an address of shared memory, which any thread may use, and an atomic length.
unsafe impl Send for Reserved {}
// SAFETY: as above.
unsafe impl Sync for Reserved {}

/// The length of a mapping is a multiple of this, which is itself a multiple of every page size.
const STEP: u64 = 64 << 10;
/// One mapping takes at most this fraction of the addresses that are left.
const SHARE: u64 = 64;
/// The address space of a process without a limit, on most processors.
const ALL: u64 = 1 << 47;
/// Where to map if nothing is known of the address space: far from where programs have their code,
/// heaps and stacks, and far apart.
const FAR: std::ops::Range<u64> = (16 << 40)..(64 << 40);

impl Reserved {
    /// Maps `len` bytes from the beginning of the file, and reserves up to `most`, to which it may
    /// grow, within a fair share of the addresses. If there are not as many, tries half as many,
    /// and so on.
    pub(crate) fn new(file: &File, writable: bool, len: u64, most: u64) -> io::Result<Reserved> {
        let mut reserve = most.min(share(most)).max(len);
        if reserve >= most
            && let Ok(mapped) = map_whole(file, writable, reserve)
        {
            return Ok(mapped);
        }
        let place = room_for(most);
        loop {
            match map(file, writable, reserve, place) {
                Ok(mapped) => return Ok(mapped),
                Err(_) if reserve > len => reserve = (reserve / 2).max(len),
                Err(error) => return Err(error),
            }
        }
    }

    #[inline]
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.start
    }

    /// The number of bytes that are mapped.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        // Relaxed: it only grows. A thread that sees an old length asks for more, which succeeds.
        self.len.load(Ordering::Relaxed) as u64
    }

    /// Extends the mapping in place to at least `end`; false if other mappings occupy the addresses
    /// behind it, or a limit is reached.
    #[cold]
    pub(crate) fn grow(&self, end: u64, most: u64) -> bool {
        let wanted = end.saturating_add(share(u64::MAX)).min(most.max(end));
        let _no_fork = NoFork::begin();
        let len = self.len();
        len >= end || self.remap(len, wanted) || self.remap(len, end)
    }

    fn remap(&self, len: u64, new: u64) -> bool {
        if self.whole.is_some() {
            return false;
        }
        let Some(new) = new.checked_next_multiple_of(STEP) else { return false };
        let (Ok(len), Ok(new)) = (usize::try_from(len), usize::try_from(new)) else { return false };
        // SAFETY: `start` and `len` are those of this mapping now. Without MREMAP_MAYMOVE it stays
        // in place, and nothing else is unmapped.
        let at = unsafe { libc::mremap(self.start.cast(), len, new, 0) };
        if at == libc::MAP_FAILED {
            return false;
        }
        // Relaxed: the kernel makes the mapping visible to other threads.
        self.len.store(new, Ordering::Relaxed);
        true
    }

    /// Like `fdatasync`, but only for this range of the file, which is mapped.
    pub(crate) fn flush_range(&self, offset: u64, len: u64) -> io::Result<()> {
        assert!(offset + len <= self.len(), "only what is mapped can be flushed");
        let from = offset / STEP * STEP;
        let (at, len) = (self.start.wrapping_add(from as usize), (offset + len - from) as usize);
        // SAFETY: the range is within the mapping, and msync does not change it.
        uninterrupted(|| unsafe { libc::msync(at.cast(), len, libc::MS_SYNC) }).map(|_| ())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.whole.is_none() {
            // SAFETY: it is mapped, and whoever refers into it keeps this value alive.
            unsafe { libc::munmap(self.start.cast(), self.len.load(Ordering::Relaxed)) };
        }
    }
}

/// How many bytes to map for this length.
fn whole_steps(len: u64) -> io::Result<usize> {
    let steps = len.max(1).checked_next_multiple_of(STEP).and_then(|len| len.try_into().ok());
    steps.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// A mapping that never grows, and may be anywhere.
fn map_whole(file: &File, writable: bool, len: u64) -> io::Result<Reserved> {
    let len = whole_steps(len)?;
    let mut options = MmapOptions::new();
    options.len(len);
    let raw = if writable { options.map_raw(file)? } else { options.map_raw_read_only(file)? };
    Ok(Reserved { start: raw.as_mut_ptr(), len: AtomicUsize::new(len), whole: Some(raw) })
}

/// A mapping that may grow, at `place` if that is free.
fn map(file: &File, writable: bool, len: u64, place: usize) -> io::Result<Reserved> {
    let len = whole_steps(len)?;
    let access = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    let fd = file.as_raw_fd();
    // SAFETY: a new mapping; `place` is a hint, and the kernel chooses another place if that is
    // taken.
    let at = unsafe { libc::mmap(place as *mut _, len, access, libc::MAP_SHARED, fd, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(Reserved { start: at.cast(), len: AtomicUsize::new(len), whole: None })
}

/// The most that one mapping may take now, if it wants `most`.
fn share(most: u64) -> u64 {
    let share = if planted!(AllAddressesAreReserved) { 1 } else { SHARE };
    let all = address_limit().min(ALL);
    // Fair unless nearly all addresses are in use; asking for that takes long.
    if most <= all / SHARE / SHARE {
        return most;
    }
    all.saturating_sub(addresses_in_use()) / share
}

fn addresses_in_use() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(4096)
}

/// A place with room to grow: the middle of the largest unused part of the address space. If that
/// is unknown, or is less than half of `most`, a place far away.
fn room_for(most: u64) -> usize {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mapped = text.lines().filter_map(|line| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        Some((address(from)?, address(to)?))
    });
    let (mut end, mut largest) = (STEP, 0..0);
    for (from, to) in mapped.filter(|(from, _)| *from < ALL) {
        if from.saturating_sub(end) > largest.end - largest.start {
            largest = end..from;
        }
        end = to;
    }
    let far = FAR.start + random() % (FAR.end - FAR.start);
    let middle = largest.start + (largest.end - largest.start) / 2;
    let place = if largest.end - middle >= most / 2 { middle } else { far };
    // Aligned like the kernel's large pages.
    (place >> 21 << 21) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A file of 64 MiB, mapped in part, with room behind the mapping.
    fn mapped_in_part() -> (File, Reserved) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * MIB).unwrap();
        let mapped = map(&file, true, MIB, room_for(64 * MIB)).unwrap();
        (file, mapped)
    }

    /// Looks again: other tests of this process may map memory into the room meanwhile.
    fn with_room(test: impl Fn(File, Reserved) -> bool) {
        let found = (0..1_000).any(|_| {
            let (file, mapped) = mapped_in_part();
            test(file, mapped)
        });
        assert!(found, "there is never room");
    }

    #[test]
    fn it_grows_where_it_is_and_shows_the_same_file() {
        with_room(|file, mapped| {
            let start = mapped.as_mut_ptr();
            if !mapped.grow(64 * MIB, 64 * MIB) {
                return false;
            }
            assert_eq!((mapped.as_mut_ptr(), mapped.len()), (start, 64 * MIB));
            // SAFETY: the last byte of both the mapping and the file.
            unsafe { start.add(64 * (1 << 20) - 1).write_volatile(7) };
            mapped.flush_range(64 * MIB - 1, 1).unwrap();
            let mut last = [0];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut last, 64 * MIB - 1).unwrap();
            assert_eq!(last, [7]);
            true
        });
    }

    #[test]
    fn where_others_have_the_addresses_behind_it_it_stays_as_it_is() {
        with_room(|file, mapped| {
            let behind = mapped.as_mut_ptr().addr() + mapped.len() as usize;
            let other = map(&file, true, MIB, behind).unwrap();
            if other.as_mut_ptr().addr() != behind {
                return false;
            }
            assert!(!mapped.grow(2 * MIB, 64 * MIB));
            assert_eq!(mapped.len(), MIB);
            drop(other);
            mapped.grow(2 * MIB, 64 * MIB)
        });
    }
}
