//! A slot's memory, of any form: a scalar's cell, areas, or only a lock of the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::mapping::cell::CellRegion;
use crate::mapping::copy;
use crate::mapping::crowd;
use crate::mapping::file_marks::BYTES_LOG;
use crate::mapping::map::{KeepsMapped, Map, Region};
use crate::mapping::new_memory::{self, NewMemory};
use crate::mutant::planted;
use crate::os::futex;
use crate::protocol::{
    self, Areas, CONTROL, Cell, Control, Destination, Form, Memory, REMOVED, SEGMENT_OF_AREAS,
    SEGMENT_OF_SCALAR, Segments, Sleepers,
};

/// How long a waiter spins before it sleeps: about the cost of a sleep and a wake-up.
pub(crate) const SPIN: Duration = Duration::from_micros(50);

/// A part of the mapping that begins with a control word, and what follows it.
///
/// A scalar's control word changes only together with its value. The forms differ here in nothing
/// else.
#[derive(Clone, Debug)]
pub(crate) struct SlotMemory<K: KeepsMapped = Arc<Map>> {
    start: CellRegion<K>,
    form: Form,
}

impl<K: KeepsMapped> SlotMemory<K> {
    #[inline]
    pub(crate) fn new(region: Region<K>, form: Form) -> SlotMemory<K> {
        SlotMemory { start: CellRegion::new(region), form }
    }

    #[inline]
    pub(crate) fn region(&self) -> &Region<K> {
        self.start.region()
    }

    /// Its areas. Must not be called for a scalar, which has none.
    #[inline]
    pub(crate) fn areas(&self) -> &Areas {
        match &self.form {
            Form::Areas(areas) => areas,
            Form::Scalar | Form::Lock => unreachable!("its type says that it has areas"),
        }
    }

    /// The same slot, kept mapped by another keeper of this mapping.
    #[inline]
    pub(crate) fn kept_by<L: KeepsMapped>(&self, keeper: L) -> SlotMemory<L> {
        SlotMemory { start: self.start.kept_by(keeper), form: self.form }
    }

    /// Whether the slot has been removed.
    #[inline]
    pub(crate) fn is_removed(&self) -> bool {
        // Acquire: a thread that sees a name reused sees that its last slot was removed.
        self.control(Ordering::Acquire).owner() == REMOVED
    }

    #[inline]
    fn is_scalar(&self) -> bool {
        matches!(self.form, Form::Scalar)
    }

    /// The marks, if this word of the slot names its first segment.
    #[inline]
    fn marks_by(&self, word: usize, len: usize) -> Option<(&Map, Segments)> {
        let map = self.region().keeper().map();
        // Relaxed: it is written before the slot exists, and never changes.
        let first = self.region().load(word, Ordering::Relaxed);
        Some((map, map.segments(first, len)?))
    }

    /// Whether this word is not part of a cell.
    fn is_plain(&self, word: usize) -> bool {
        !self.is_scalar() || word > CONTROL
    }
}

impl<K: KeepsMapped> Memory for SlotMemory<K> {
    type Marks = Map;

    #[inline]
    fn form(&self) -> Form {
        self.form
    }

    #[inline]
    fn slot_id(&self) -> u64 {
        self.region().offset()
    }

    #[inline]
    fn marks(&self) -> Option<(&Map, Segments)> {
        match &self.form {
            Form::Scalar => self.marks_by(SEGMENT_OF_SCALAR, 8),
            Form::Areas(areas) => self.marks_by(SEGMENT_OF_AREAS, 8 * areas.words),
            Form::Lock => None,
        }
    }

    #[inline]
    fn marks_of_several(&self) -> Option<(&Map, Segments)> {
        match &self.form {
            Form::Areas(areas) if 8 * areas.words > 1 << BYTES_LOG => self.marks(),
            _ => None,
        }
    }

    #[inline]
    fn load(&self, word: usize, order: Ordering) -> u64 {
        debug_assert!(self.is_plain(word), "a cell is read by `cell`");
        self.region().load(word, order)
    }

    #[inline]
    fn store(&self, word: usize, value: u64, order: Ordering) {
        debug_assert!(self.is_plain(word), "a cell is changed by `swap_cell`");
        self.region().store(word, value, order);
    }

    /// A scalar's is always acquired, whatever `order` is.
    #[inline]
    fn control(&self, order: Ordering) -> Control {
        match self.is_scalar() {
            true => self.cell().control,
            false => Control::from_bits(self.region().load(CONTROL, order)),
        }
    }

    // Every update makes this exchange, and a call costs half as much again.
    #[inline(always)]
    fn swap_control(&self, old: Control, new: Control, order: Ordering) -> Result<(), Control> {
        if self.is_scalar() {
            return self.start.swap_control(old, new, order);
        }
        // Relaxed on failure, as for a cell.
        self.region().words()[CONTROL]
            .compare_exchange(old.bits(), new.bits(), order, Ordering::Relaxed)
            .map(|_| ())
            .map_err(Control::from_bits)
    }

    #[inline]
    fn cell(&self) -> Cell {
        self.start.load()
    }

    #[inline]
    fn swap_cell(&self, old: Cell, new: Cell, order: Ordering) -> Result<(), Cell> {
        debug_assert!(self.is_scalar(), "only a scalar is changed by swap_cell");
        self.start.swap(old, new, order)
    }

    #[inline]
    fn fence(&self, order: Ordering) {
        std::sync::atomic::fence(order);
    }

    #[inline]
    fn read(&self, word: usize, skip: usize, out: &mut [u8]) {
        self.region().read(word, skip, out);
    }

    #[inline]
    fn write(&self, word: usize, skip: usize, data: &[u8]) {
        self.region().write(word, skip, data);
    }

    #[inline]
    fn copy(&self, from: usize, to: usize, count: usize) {
        let words = self.region().words();
        copy::copy(&words[from..from + count], &words[to..to + count]);
    }

    #[inline]
    fn relax(&self) {
        std::hint::spin_loop();
    }

    fn spin(&self, seen: Control) -> bool {
        spin(|| self.control(Ordering::Relaxed).same(seen))
    }

    fn sleep(&self, seen: Control, who: Sleepers, limit: Duration) -> bool {
        let word = self.region().futex_word(seen);
        crowd::sleep(self.region().address(), who, || futex::wait(word, who.bits(), limit))
    }

    fn wake(&self, who: Sleepers, all: bool) -> bool {
        futex::wake(self.region().futex(), who.bits(), if all { i32::MAX } else { 1 })
    }

    fn advance_event_count(&self) {
        if let Some(event_count) = self.region().keeper().map().event_count()
            && !planted!(TheEventCountStays)
        {
            protocol::advance(event_count);
        }
    }

    fn has_lock_bit(&self) -> bool {
        // L and the event count both came with format 1.1.
        self.region().keeper().map().event_count().is_some()
    }

    fn longest_sleep(&self) -> Duration {
        crowd::longest_sleep(self.region().address())
    }
}

impl<K: KeepsMapped> Destination<SlotMemory<K>> for NewMemory<'_> {
    #[inline]
    fn fill(&mut self, memory: &SlotMemory<K>, word: usize, skip: usize) {
        new_memory::read_new(&memory.region().words()[word..], skip, self);
    }

    fn bytes(&mut self) -> &mut [u8] {
        self.filled()
    }
}

/// Spins for a short time while `same`; true if `same` ended before the time did.
fn spin(same: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            if !same() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}
