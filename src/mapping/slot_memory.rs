//! The memory of a slot of either form, for who handles several at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::mapping::cell::CellRegion;
use crate::mapping::map::{KeepsMapped, Region};
use crate::protocol::{Areas, Cell, Control, Form, Memory, Sleepers};

/// A slot's memory, of the kind that its form needs.
#[derive(Clone, Debug)]
pub(crate) enum AnyMemory<K: KeepsMapped> {
    Scalar(CellRegion<K>),
    Areas(Region<K>, Areas),
}

impl<K: KeepsMapped> AnyMemory<K> {
    #[inline]
    pub(crate) fn new(region: Region<K>, form: Form) -> AnyMemory<K> {
        match form {
            Form::Areas(areas) => AnyMemory::Areas(region, areas),
            Form::Scalar | Form::Lock => AnyMemory::Scalar(CellRegion::new(region)),
        }
    }

    #[inline]
    pub(crate) fn form(&self) -> Form {
        match self {
            AnyMemory::Scalar(_) => Form::Scalar,
            AnyMemory::Areas(_, areas) => Form::Areas(*areas),
        }
    }
}

/// Hands a call on to whichever it is.
macro_rules! either {
    ($memory:expr, $of:ident => $result:expr) => {
        match $memory {
            AnyMemory::Scalar($of) => $result,
            AnyMemory::Areas($of, _) => $result,
        }
    };
}

impl<K: KeepsMapped> Memory for AnyMemory<K> {
    #[inline]
    fn load(&self, word: usize, order: Ordering) -> u64 {
        either!(self, memory => memory.load(word, order))
    }

    #[inline]
    fn store(&self, word: usize, value: u64, order: Ordering) {
        either!(self, memory => memory.store(word, value, order));
    }

    #[inline]
    fn control(&self, order: Ordering) -> Control {
        either!(self, memory => memory.control(order))
    }

    #[inline]
    fn swap_control(&self, old: Control, new: Control, order: Ordering) -> Result<(), Control> {
        either!(self, memory => memory.swap_control(old, new, order))
    }

    #[inline]
    fn cell(&self) -> Cell {
        either!(self, memory => memory.cell())
    }

    #[inline]
    fn swap_cell(&self, old: Cell, new: Cell, order: Ordering) -> Result<(), Cell> {
        either!(self, memory => memory.swap_cell(old, new, order))
    }

    #[inline]
    fn fence(&self, order: Ordering) {
        either!(self, memory => memory.fence(order));
    }

    #[inline]
    fn read(&self, word: usize, skip: usize, out: &mut [u8]) {
        either!(self, memory => memory.read(word, skip, out));
    }

    #[inline]
    fn write(&self, word: usize, skip: usize, data: &[u8]) {
        either!(self, memory => memory.write(word, skip, data));
    }

    #[inline]
    fn copy(&self, from: usize, to: usize, count: usize) {
        either!(self, memory => memory.copy(from, to, count));
    }

    #[inline]
    fn relax(&self) {
        either!(self, memory => memory.relax());
    }

    #[inline]
    fn spin(&self, seen: Control) -> bool {
        either!(self, memory => memory.spin(seen))
    }

    #[inline]
    fn sleep(&self, seen: Control, who: Sleepers, limit: Duration) -> bool {
        either!(self, memory => memory.sleep(seen, who, limit))
    }

    #[inline]
    fn wake(&self, who: Sleepers, all: bool) -> bool {
        either!(self, memory => memory.wake(who, all))
    }

    #[inline]
    fn ring(&self) {
        either!(self, memory => memory.ring());
    }

    #[inline]
    fn has_lock_bit(&self) -> bool {
        either!(self, memory => memory.has_lock_bit())
    }

    #[inline]
    fn longest_sleep(&self) -> Duration {
        either!(self, memory => memory.longest_sleep())
    }
}
