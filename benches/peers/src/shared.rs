//! Bare shared memory: the limits are measured on it, and the processes of a measurement talk
//! through it.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use memmap2::MmapRaw;

pub struct Shared {
    map: MmapRaw,
}

impl Shared {
    /// Maps this many words of a file, which is created if it does not exist.
    pub fn open(path: &Path, words: usize) -> Result<Shared> {
        let options = File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(path)?;
        if file.metadata()?.len() < 8 * words as u64 {
            file.set_len(8 * words as u64)?;
        }
        Ok(Shared { map: MmapRaw::map_raw(&file)? })
    }

    pub fn len(&self) -> usize {
        self.map.len() / 8
    }

    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len());
        // SAFETY: within the mapping, aligned (it begins on a page), and only ever accessed by
        // atomic operations or by the copies below.
        unsafe { &*self.map.as_ptr().cast::<AtomicU64>().add(index) }
    }

    /// memcpy to the words from `start` on.
    pub fn copy_in(&self, start: usize, from: &[u64]) {
        assert!(start + from.len() <= self.len());
        // SAFETY: within the mapping. Another process may read or write the same bytes meanwhile:
        // this is the limit of the machine, not something to build on.
        unsafe {
            let to = self.map.as_mut_ptr().cast::<u64>().add(start);
            to.copy_from_nonoverlapping(from.as_ptr(), from.len());
        }
    }

    /// memcpy from the words from `start` on.
    pub fn copy_out(&self, start: usize, to: &mut [u64]) {
        assert!(start + to.len() <= self.len());
        // SAFETY: as in `copy_in`.
        unsafe {
            let from = self.map.as_ptr().cast::<u64>().add(start);
            to.as_mut_ptr().copy_from_nonoverlapping(from, to.len());
        }
    }
}
