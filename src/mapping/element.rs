//! A buffer's elements. Each is an atomic of its own size in the mapping; no protocol covers them
//! all.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};

use crate::mapping::copy::{self, Atomic};
use crate::mapping::map::{KeepsMapped, Map, Region};
use crate::mapping::slot_memory::SlotMemory;
use crate::types::scalar_type::ScalarType;

/// The elements of one buffer, as zero-extended bits.
#[derive(Clone, Debug)]
pub(crate) struct ElementRegion<K: KeepsMapped = Arc<Map>> {
    region: Region<K>,
    /// Bytes per element: 1, 2, 4 or 8.
    size: usize,
    len: usize,
}

/// Runs an expression on the elements as atomics of their size.
macro_rules! with_atomics {
    ($region:expr, $elements:ident => $result:expr) => {
        match $region.size {
            1 => {
                let $elements = $region.atomics::<AtomicU8>();
                $result
            }
            2 => {
                let $elements = $region.atomics::<AtomicU16>();
                $result
            }
            4 => {
                let $elements = $region.atomics::<AtomicU32>();
                $result
            }
            _ => {
                let $elements = $region.atomics::<AtomicU64>();
                $result
            }
        }
    };
}

impl<K: KeepsMapped> ElementRegion<K> {
    /// The elements of a buffer's slot.
    pub(crate) fn new(slot: &SlotMemory<K>, of: ScalarType, len: usize) -> Self {
        let areas = slot.areas();
        let region = slot.region().subregion(areas.first, areas.words);
        ElementRegion { region, size: of.size(), len }
    }

    #[inline]
    fn atomics<A: Atomic>(&self) -> &[A] {
        &self.region.atomics()[..self.len]
    }

    /// The address of the first element in this process.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.region.as_mut_ptr()
    }

    /// One element.
    #[inline]
    pub(crate) fn load(&self, at: usize) -> u64 {
        // Acquire: a thread that sees an element sees all that was done before it was stored.
        with_atomics!(self, elements => Atomic::load(&elements[at], Acquire))
    }

    /// Replaces one element by `f` of it, atomically; `f` may run more than once. If `f` returns
    /// `None`, nothing changes. Returns the previous element, in `Ok` if it was replaced.
    #[inline]
    pub(crate) fn update(
        &self,
        at: usize,
        mut f: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        with_atomics!(self, elements => {
            let element = &elements[at];
            let mut seen = Atomic::load(element, Acquire);
            loop {
                let Some(new) = f(seen) else { return Err(seen) };
                // Acquire and release: an update comes after the one it replaces, and publishes all
                // that its thread did before.
                match Atomic::compare_exchange(element, seen, new, AcqRel, Acquire) {
                    Ok(before) => return Ok(before),
                    Err(now) => seen = now,
                }
            }
        })
    }

    /// Fills `out` with the elements from byte `at` on: each whole, but not all of one instant.
    pub(crate) fn read(&self, at: usize, out: &mut [u8]) {
        let start = at / self.size;
        with_atomics!(self, elements => copy::read_elements(&elements[start..], out));
        // Acquire: as in `load`, for all of them.
        fence(Acquire);
    }

    /// Sets all elements to zero, one after the other.
    pub(crate) fn clear(&self) {
        with_atomics!(self, elements => for element in elements {
            // Release: as in `update`.
            Atomic::store(element, Default::default(), Release);
        });
    }

    /// Stores the elements from byte `at` on, one after the other.
    pub(crate) fn write(&self, at: usize, data: &[u8]) {
        let start = at / self.size;
        // Release: a thread that sees one of them sees all that was done before.
        fence(Release);
        with_atomics!(self, elements => copy::write_elements(&elements[start..], data));
    }
}
