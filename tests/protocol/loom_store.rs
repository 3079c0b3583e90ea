//! Slots and a process table of loom's atomics: a relaxed load may return any value
//! that the memory model allows, however old.
//!
//! Every access passes through [`weakened`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Condvar, Mutex};

use super::Failure;
use super::NoEntry;
use super::loom_marks::Marks;
use super::weaken::weakened;
use super::words;
use crate::protocol::{
    self as shipping, Areas, CONTROL, Control, DRAFT, FREE, Form, Owner, STALE, Segments, Sleepers,
    State, TxnState, VALUE,
};

/// How a slot's value and control word are kept: loom has no atomic of 128 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cells {
    /// An array: the control word alone.
    ControlOnly,
    /// One atomic holds both, in 16 and 48 bits. Exact, except that a value is never seen without
    /// its control word.
    Packed,
    /// Two atomics, as readers see them. Correct only with a single writer; its value may be seen
    /// before its control word.
    Split,
}

/// The version that every slot begins with.
pub(super) const BEGIN: u64 = 1;
/// Words of the array's content.
pub(super) const WIDTH: usize = 2;

pub(super) struct Slot {
    words: Vec<AtomicU64>,
    waits_on: Arc<WaitsOn>,
    event_count: Arc<AtomicU64>,
    cells: Cells,
    table: Arc<Table>,
    pub(super) form: Form,
    marks: Arc<Marks>,
    segments: Option<Segments>,
    /// Whether a thread that waits for the lock sleeps at once, instead of spinning until it is
    /// free.
    pub(super) sleepers: std::sync::atomic::AtomicBool,
    /// Whether others change it twice while more than a word is copied.
    pub(super) outpaces_readers: std::sync::atomic::AtomicBool,
}

/// Where all threads sleep. Here no time passes: a thread that is not woken sleeps for ever, which
/// loom reports.
struct WaitsOn {
    asleep: Mutex<Vec<Asleep>>,
    woken: Condvar,
}

struct Asleep {
    on: usize,
    who: Sleepers,
    was_woken: bool,
}

impl WaitsOn {
    /// Wakes all, or one, of the threads that sleep on this for one of `who`.
    fn wake(&self, on: usize, who: Sleepers, all: bool) -> bool {
        let mut asleep = self.asleep.lock().unwrap();
        let sleeps =
            |one: &&mut Asleep| !one.was_woken && one.on == on && one.who.bits() & who.bits() != 0;
        let most = if all { usize::MAX } else { 1 };
        let woken = asleep.iter_mut().filter(sleeps).take(most);
        let woken = woken.map(|one| one.was_woken = true).count();
        if woken > 0 {
            self.woken.notify_all();
        }
        woken > 0
    }

    /// As the kernel does it: a wake-up comes either before the words are compared, or after the
    /// sleep has begun.
    fn sleep(&self, on: usize, who: Sleepers, is_same: impl FnOnce() -> bool) {
        let mut asleep = self.asleep.lock().unwrap();
        if is_same() {
            let me = asleep.len();
            asleep.push(Asleep { on, who, was_woken: false });
            while !asleep[me].was_woken {
                asleep = self.woken.wait(asleep).unwrap();
            }
        }
    }
}

/// The process table.
pub(super) struct Table {
    words: Vec<AtomicU64>,
    /// Each entry's byte: 1 is the exclusive lock, 2 and up the shared ones. As in the kernel,
    /// taking a lock acquires, and losing it releases, also by death. The protocol relies on that:
    /// nothing else ensures that a recoverer sees the dead owner's last transaction word.
    bytes: Vec<AtomicU64>,
}

/// What the threads of a model share.
#[derive(Clone)]
pub(super) struct Store {
    /// A scalar.
    pub(super) x: Arc<Slot>,
    /// An array.
    pub(super) y: Arc<Slot>,
    /// Data of the program that the lock protects.
    pub(super) data: Arc<AtomicU64>,
    /// What threads have found out.
    pub(super) found: Arc<AtomicU64>,
    pub(super) late: Arc<AtomicU64>,
    pub(super) marks: Arc<Marks>,
    pub(super) table: Arc<Table>,
}

impl Store {
    /// Owners 1 to 3 exist. The peer [`FREE`] has no entry.
    pub(super) fn new(cells: Cells, area_count: u64) -> Store {
        Store::build(cells, area_count, State::Dirty, None)
    }

    /// Both slots are in this state, each in a segment of its own; these are marked.
    pub(super) fn marked(state: State, marks: u64) -> Store {
        Store::build(Cells::Packed, 2, state, Some(marks))
    }

    fn build(cells: Cells, area_count: u64, state: State, marks: Option<u64>) -> Store {
        let marked = Arc::new(Marks::new(marks.unwrap_or_default()));
        let segment = |first| marks.map(|_| Segments { first, count: 1, each: None });
        let table = Arc::new(Table {
            words: [TxnState::Idle as u64; 4].map(AtomicU64::new).into(),
            bytes: [1; 4].map(AtomicU64::new).into(),
        });
        let waits_on = Arc::new(WaitsOn { asleep: Mutex::new(Vec::new()), woken: Condvar::new() });
        let event_count = Arc::new(AtomicU64::new(0));
        let control = Control::default().advanced(BEGIN).with_state(state);
        let first = STALE + area_count as usize;
        let areas = Areas { count: area_count, first, stride: WIDTH, words: WIDTH };
        let slot = |cells, form, length, segments| {
            let words = (0..length).map(|word| match (word, cells) {
                (CONTROL, Cells::Packed) => AtomicU64::new(pack(0, control)),
                (CONTROL, _) => AtomicU64::new(control.bits()),
                _ => AtomicU64::new(0),
            });
            let words = words.collect();
            let (waits_on, table, event_count) =
                (waits_on.clone(), table.clone(), event_count.clone());
            let no = || std::sync::atomic::AtomicBool::new(false);
            let (sleepers, outpaces_readers) = (no(), no());
            Arc::new(Slot {
                words,
                waits_on,
                event_count,
                cells,
                table,
                form,
                marks: marked.clone(),
                segments,
                sleepers,
                outpaces_readers,
            })
        };
        Store {
            x: slot(cells, Form::Scalar, DRAFT + 1, segment(0)),
            y: slot(
                Cells::ControlOnly,
                Form::Areas(areas),
                first + WIDTH * area_count as usize,
                segment(1),
            ),
            data: Arc::new(AtomicU64::new(0)),
            found: Arc::new(AtomicU64::new(0)),
            late: Arc::new(AtomicU64::new(0)),
            marks: marked,
            table,
        }
    }

    pub(super) fn areas(&self) -> Areas {
        let Form::Areas(areas) = self.y.form else { unreachable!("Y has areas") };
        areas
    }

    pub(super) fn peer(&self, me: Owner) -> Peer {
        Peer { table: self.table.clone(), me, dies: None, dead: Cell::new(false) }
    }
}

fn pack(value: u64, control: Control) -> u64 {
    assert!(value < 1 << 16 && control.version() < 1 << 16, "too large for the packed cell");
    value << 48 | control.bits()
}

fn unpack(cell: u64) -> (u64, Control) {
    (cell >> 48, Control::from_bits(cell & ((1 << 48) - 1)))
}

impl Slot {
    fn load_control(&self, order: Ordering) -> Control {
        let bits = self.words[CONTROL].load(order);
        if self.cells == Cells::Packed { unpack(bits).1 } else { Control::from_bits(bits) }
    }

    /// Whether the owner's byte is held. This look orders nothing.
    fn is_alive(&self, owner: Owner) -> bool {
        self.table.bytes[owner as usize].fetch_or(0, Relaxed) & 1 != 0
    }
}

impl shipping::Memory for Slot {
    type Marks = Marks;

    const PAUSES_AFTER_LOSS: u32 = 0;

    fn form(&self) -> Form {
        self.form
    }

    fn slot_id(&self) -> u64 {
        0
    }

    fn marks(&self) -> Option<(&Marks, Segments)> {
        self.segments.map(|segments| (&*self.marks, segments))
    }

    const PIECE: usize = 1;

    fn load(&self, word: usize, order: Ordering) -> u64 {
        let order = weakened("load", order);
        if word == VALUE && self.cells == Cells::Packed {
            return unpack(self.words[CONTROL].load(order)).0;
        }
        self.words[word].load(order)
    }

    fn store(&self, word: usize, value: u64, order: Ordering) {
        self.words[word].store(value, weakened("store", order));
    }

    fn control(&self, order: Ordering) -> Control {
        self.load_control(weakened("control", order))
    }

    fn swap_control(&self, old: Control, new: Control, order: Ordering) -> Result<(), Control> {
        let order = weakened("swap_control", order);
        let cell = &self.words[CONTROL];
        if self.cells != Cells::Packed {
            let result = cell.compare_exchange(old.bits(), new.bits(), order, Relaxed);
            return result.map(drop).map_err(Control::from_bits);
        }
        // The value may be any, and stays. Only the compare-exchange decides, since it alone is
        // sure to see the latest cell.
        let mut seen = cell.load(Relaxed);
        loop {
            let value = unpack(seen).0;
            match cell.compare_exchange(pack(value, old), pack(value, new), order, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) if unpack(now).1 == old => seen = now,
                Err(now) => return Err(unpack(now).1),
            }
        }
    }

    fn swap_cell(
        &self,
        old: shipping::Cell,
        new: shipping::Cell,
        order: Ordering,
    ) -> Result<(), shipping::Cell> {
        let order = weakened("swap_cell", order);
        let cell = &self.words[CONTROL];
        match self.cells {
            Cells::Packed => {
                let (old, new) = (pack(old.value, old.control), pack(new.value, new.control));
                cell.compare_exchange(old, new, order, Relaxed).map(drop).map_err(|now| {
                    let (value, control) = unpack(now);
                    shipping::Cell { value, control }
                })
            }
            Cells::Split => {
                let half = if matches!(order, Release | AcqRel) { Release } else { Relaxed };
                self.words[VALUE].store(new.value, half);
                let swapped =
                    cell.compare_exchange(old.control.bits(), new.control.bits(), order, Relaxed);
                swapped.expect("a split cell has a single writer");
                Ok(())
            }
            Cells::ControlOnly => unreachable!("an array has no value"),
        }
    }

    fn fence(&self, order: Ordering) {
        match weakened("fence", order) {
            Relaxed => {}
            order => fence(order),
        }
    }

    fn read(&self, word: usize, skip: usize, out: &mut [u8]) {
        words::read(word, skip, out, |word| self.words[word].load(Relaxed));
        if out.len() > 8 && self.outpaces_readers.load(Relaxed) {
            let seen = self.load_control(Relaxed);
            assert!(seen.version() < 1_000, "the reader begins anew forever");
            self.words[CONTROL].store(seen.advanced(2).bits(), Release);
        }
    }

    fn write(&self, word: usize, skip: usize, data: &[u8]) {
        let load = |word: usize| self.words[word].load(Relaxed);
        words::write(word, skip, data, load, |word, v| self.words[word].store(v, Relaxed));
    }

    fn copy(&self, from: usize, to: usize, count: usize) {
        let load = |word: usize| self.words[word].load(Relaxed);
        words::copy(from, to, count, load, |word, v| self.words[word].store(v, Relaxed));
    }

    fn relax(&self) {
        loom::thread::yield_now();
    }

    fn spin(&self, seen: Control) -> bool {
        if self.sleepers.load(Relaxed) {
            return false;
        }
        let alive = self.is_alive(seen.owner());
        if alive {
            loom::thread::yield_now();
        }
        alive
    }

    fn sleep(&self, seen: Control, who: Sleepers, _: Duration) -> bool {
        // Relaxed: the mutex of `WaitsOn` orders it.
        let is_same = || self.load_control(Relaxed).futex_word() == seen.futex_word();
        self.waits_on.sleep(std::ptr::from_ref(self).addr(), who, is_same);
        true
    }

    fn wake(&self, who: Sleepers, all: bool) -> bool {
        self.waits_on.wake(std::ptr::from_ref(self).addr(), who, all)
    }

    fn advance_event_count(&self) {
        shipping::advance(self);
    }

    fn has_lock_bit(&self) -> bool {
        true
    }
}

impl shipping::EventCount for Slot {
    fn load(&self) -> u32 {
        self.event_count.load(Relaxed) as u32
    }

    fn swap(&self, old: u32, new: u32, order: Ordering) -> Result<(), u32> {
        let order = weakened("event_count", order);
        let swapped = self.event_count.compare_exchange(old.into(), new.into(), order, Relaxed);
        swapped.map(drop).map_err(|now| now as u32)
    }

    fn wake(&self) {
        self.waits_on.wake(0, Sleepers::CHANGE, true);
    }
}

/// One thread, waiting for these slots.
pub(super) struct Waiter<'s> {
    pub(super) slots: &'s [&'s Slot],
    /// What the event count was last.
    pub(super) heard: u32,
}

/// A slot, as one thread waits for it.
pub(super) struct Awaited<'s> {
    pub(super) peer: &'s Peer,
    pub(super) slot: &'s Slot,
}

impl shipping::Await for Awaited<'_> {
    type Error = NoEntry;

    fn look(&self) -> Result<(Control, u64), Failure> {
        shipping::look_to_wait(self.slot, self.peer)
    }

    fn announce(&self, seen: Control) -> Result<Option<Control>, Failure> {
        shipping::announce(self.slot, self.peer, seen)
    }
}

impl shipping::Pause for Waiter<'_> {
    fn listen(&mut self) {
        if self.slots.len() > 1 {
            self.heard = shipping::listen(self.slots[0]);
        }
    }

    fn again(&mut self, _: bool, _: Duration) -> bool {
        false
    }

    fn sleep(&mut self, seen: &[Control], _: Duration) {
        let first = self.slots[0];
        if self.slots.len() == 1 {
            shipping::Memory::sleep(first, seen[0], Sleepers::CHANGE, Duration::MAX);
        } else {
            let is_same = || shipping::EventCount::load(first) == self.heard;
            first.waits_on.sleep(0, Sleepers::CHANGE, is_same);
        }
    }
}

/// The process table, as one thread uses it.
pub(super) struct Peer {
    table: Arc<Table>,
    me: Owner,
    dies: Option<Death>,
    dead: Cell<bool>,
}

/// The moment of a transaction at which a thread is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    BeforeCommitPoint,
    AfterCommitPoint,
}

/// The payload with which a killed thread unwinds.
struct Killed;

impl Peer {
    /// Runs `f`, which is killed on the way. Then the kernel releases the byte.
    pub(super) fn die(mut self, death: Death, f: impl FnOnce(&Peer)) {
        self.dies = Some(death);
        let killed = catch_unwind(AssertUnwindSafe(|| f(&self)));
        match killed {
            Ok(()) => panic!("not killed"),
            Err(payload) if payload.is::<Killed>() => {}
            Err(payload) => resume_unwind(payload),
        }
        self.table.bytes[self.me as usize].fetch_sub(1, Release);
    }

    /// Gives the entry back, as a process that leaves does.
    pub(super) fn leave(self) {
        // Release: a thread that sees FREE sees that no slot names the entry. (This is not the
        // protocol's own code, so it is not counted among its orderings.)
        self.table.words[self.me as usize].store(TxnState::Free as u64, Release);
        self.table.bytes[self.me as usize].fetch_sub(1, Release);
    }

    /// From now on, this is the child of a fork.
    pub(super) fn fork(&self) {
        self.dead.set(true);
    }

    fn kill_if(&self, death: Death) {
        if self.dies == Some(death) {
            self.dead.set(true);
            resume_unwind(Box::new(Killed));
        }
    }
}

impl shipping::Peers for Peer {
    type Error = NoEntry;

    fn me(&self) -> Result<Owner, NoEntry> {
        if self.me == FREE { Err(NoEntry) } else { Ok(self.me) }
    }

    fn may_be_free_soon(_: &NoEntry) -> bool {
        false
    }

    fn is_me(&self, owner: Owner) -> bool {
        owner == self.me
    }

    fn txn_word(&self, owner: Owner, order: Ordering) -> TxnState {
        let word = self.table.words[owner as usize].load(weakened("txn_word", order));
        [TxnState::Free, TxnState::Idle, TxnState::Committed][word as usize]
    }

    fn set_txn_word(&self, owner: Owner, word: TxnState, order: Ordering) {
        let order = weakened("set_txn_word", order);
        let commits = word == TxnState::Committed;
        if commits {
            self.kill_if(Death::BeforeCommitPoint);
        }
        self.table.words[owner as usize].store(word as u64, order);
        if commits {
            self.kill_if(Death::AfterCommitPoint);
        }
    }

    fn one_at_a_time<R>(&self, f: impl FnOnce() -> R) -> R {
        f() // every thread of a model is a process of its own
    }

    fn share(&self, owner: Owner) -> bool {
        let byte = &self.table.bytes[owner as usize];
        let mut seen = byte.load(Relaxed);
        loop {
            match byte.compare_exchange(seen, seen + 2, Acquire, Relaxed) {
                Ok(_) if seen & 1 == 0 => return true,
                Ok(_) => {
                    byte.fetch_sub(2, Relaxed);
                    return false;
                }
                Err(now) => seen = now,
            }
        }
    }

    fn unshare(&self, owner: Owner) {
        self.table.bytes[owner as usize].fetch_sub(2, Release);
    }

    fn promote(&self, owner: Owner) -> bool {
        let byte = &self.table.bytes[owner as usize];
        byte.compare_exchange(2, 1, AcqRel, Relaxed).is_ok()
    }

    /// Like the child of a fork, a dead thread does nothing any more, not even in destructors.
    fn fork_generation(&self) -> u64 {
        u64::from(self.dead.get())
    }

    fn note_locked(&self) {}

    fn note_unlocked(&self) {}

    fn begin_under_guard(&self, _: u64) -> Option<u64> {
        None
    }

    fn is_under_guard(&self, _: u64, _: u64) -> bool {
        true
    }

    fn end_under_guard(&self, _: u64, _: u64) {}

    fn is_handover_due(&self) -> bool {
        true
    }
}
