//! The whole state of the exhaustive checker, as one value that can be copied, compared and
//! changed: two slots, a process table, the threads. It also has what no real process can see: the
//! history of commits.

use std::fmt;
use std::hash::Hasher;
use std::rc::Rc;

use rustc_hash::FxHasher;

use super::sync::{Layout, Sync, SyncBug, View};
use crate::protocol::{Areas, CONTROL, Control, DRAFT, FREE, Form, REMOVED, STALE, State, VALUE};

pub(super) const THREADS: usize = 4;
pub(super) const ENTRIES: usize = 4;
/// Words of the array's content. Two suffice for ranges that differ or overlap.
pub(super) const WIDTH: usize = 2;

/// The two slots: a scalar X and an array Y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    X = 0,
    Y = 1,
}

pub(super) const SLOTS: [Slot; 2] = [Slot::X, Slot::Y];

impl Slot {
    const fn base(self) -> usize {
        match self {
            Slot::X => 0,
            Slot::Y => DRAFT + 1, // behind X: value, control, draft
        }
    }
}

/// The committed contents at one instant, and their versions.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Instant {
    pub(super) x: u64,
    pub(super) y: [u64; WIDTH],
    pub(super) versions: [u64; 2],
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Instant { x, y, versions: [version_x, version_y] } = self;
        write!(f, "X = {x} (v{version_x}), Y = {y:x?} (v{version_y})")
    }
}

/// An entry of the process table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) word: u8,
    /// The thread that holds its byte exclusively, + 1; 0: none.
    pub(super) writer: u8,
    /// The threads that share its byte: one bit each.
    pub(super) sharers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Running,
    /// Its script has ended; it lives on.
    Done,
    /// Killed: the kernel has released its bytes.
    Dead,
    /// Stopped for ever: it keeps all that it holds.
    Stopped,
}

#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub(super) status: Status,
    /// The index of its current operation in its script.
    pub(super) op: usize,
    /// Its entry of the process table.
    pub(super) entry: Option<u8>,
    /// What its accesses have returned since the operation began. The operation can know nothing
    /// else, so this is its state. See `replay.rs`.
    pub(super) log: Rc<Vec<u64>>,
    /// The index in the history of what was current when its read began.
    pub(super) since: Option<usize>,
    /// Whether its next access is part of a recovery.
    pub(super) recovering: bool,
    /// The slots on whose control words it sleeps: one bit each.
    pub(super) asleep: u8,
    /// What it sleeps for, as bits of `Sleepers`.
    pub(super) asleep_for: u32,
    /// Whether it has slept for the lock that it now waits for.
    pub(super) has_slept: bool,
    /// Ghost: how often others have taken the lock since it was overtaken and went back to sleep.
    pub(super) overtaken: Option<u8>,
    /// What its sync has found so far.
    pub(super) view: View,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    /// The areas of Y.
    pub(super) areas: Areas,
    words: [u64; 32],
    pub(super) entries: [Entry; ENTRIES],
    pub(super) threads: [Thread; THREADS],
    pub(super) event_count: u32,
    /// Marks and checkpoint, if the store has marks.
    pub(super) sync: Option<Sync>,
    /// Ghost: the committed contents, oldest first. Instants that no read in progress can have seen
    /// are forgotten, so that different pasts of one present are one state.
    pub(super) history: Rc<Vec<Instant>>,
    /// Ghost: which thread holds each slot's lock.
    pub(super) holder: [Option<usize>; 2],
}

impl World {
    /// Two unlocked slots of zeros at this version; the threads have these entries.
    pub(super) fn new(area_count: u64, version: u64, entries: [Option<u8>; THREADS]) -> World {
        let areas = Areas {
            count: area_count,
            first: STALE + area_count as usize,
            stride: WIDTH,
            words: WIDTH,
        };
        let thread = |entry| Thread {
            status: Status::Running,
            op: 0,
            entry,
            log: Rc::default(),
            since: None,
            recovering: false,
            asleep: 0,
            asleep_for: 0,
            has_slept: false,
            overtaken: None,
            view: View::default(),
        };
        let mut world = World {
            areas,
            words: [0; 32],
            entries: Default::default(),
            threads: entries.map(thread),
            event_count: 0,
            sync: None,
            history: Rc::new(vec![Instant { versions: [version; 2], ..Instant::default() }]),
            holder: [None; 2],
        };
        for slot in SLOTS {
            world.store(slot, CONTROL, Control::default().advanced(version).bits());
        }
        for (thread, entry) in entries.into_iter().enumerate() {
            if let Some(entry) = entry {
                world.entries[entry as usize] =
                    Entry { word: 1, writer: thread as u8 + 1, sharers: 0 };
            }
        }
        world
    }

    /// The same with marks.
    pub(super) fn with_marks(mut self, layout: Layout, bug: Option<SyncBug>) -> World {
        let sync = Sync::new(layout, self.control(Slot::X).version(), bug);
        if sync.begins_clean() {
            for slot in SLOTS {
                let clean = self.control(slot).with_state(State::Clean);
                self.store(slot, CONTROL, clean.bits());
            }
        }
        self.sync = Some(sync);
        self
    }

    pub(super) fn form(&self, slot: Slot) -> Form {
        match slot {
            Slot::X => Form::Scalar,
            Slot::Y => Form::Areas(self.areas),
        }
    }

    pub(super) fn load(&self, slot: Slot, word: usize) -> u64 {
        self.words[slot.base() + word]
    }

    pub(super) fn store(&mut self, slot: Slot, word: usize, value: u64) {
        self.words[slot.base() + word] = value;
    }

    pub(super) fn control(&self, slot: Slot) -> Control {
        Control::from_bits(self.load(slot, CONTROL))
    }

    pub(super) fn now(&self) -> Instant {
        *self.history.last().expect("the history is never empty")
    }

    /// Appends an instant that differs from the last one by `change`.
    pub(super) fn commit(&mut self, change: impl FnOnce(&mut Instant)) {
        let mut next = self.now();
        change(&mut next);
        Rc::make_mut(&mut self.history).push(next);
    }

    /// All that was current at some time since this thread's read began.
    pub(super) fn seen_by(&self, thread: usize) -> &[Instant] {
        &self.history[self.threads[thread].since.unwrap_or(0)..]
    }

    /// Forgets the instants that no read in progress can have seen.
    pub(super) fn forget_the_past(&mut self) {
        let last = self.history.len() - 1;
        let oldest = self.threads.iter().filter_map(|thread| thread.since).min().unwrap_or(last);
        if oldest > 0 {
            Rc::make_mut(&mut self.history).drain(..oldest);
            for thread in &mut self.threads {
                thread.since = thread.since.map(|since| since - oldest);
            }
        }
    }

    /// Whether the thread is alive and still has its entry. If not, its locks may be recovered.
    pub(super) fn has_entry(&self, thread: usize) -> bool {
        let Thread { status, entry, .. } = self.threads[thread];
        let has = |entry: u8| self.entries[usize::from(entry)].writer == thread as u8 + 1;
        status != Status::Dead && entry.is_some_and(has)
    }

    /// Whether this thread has a read lock.
    pub(super) fn has_read_lock(&self, thread: usize) -> bool {
        let entry = self.threads[thread].entry.map(|entry| u16::from(entry) + 1);
        SLOTS
            .into_iter()
            .map(|slot| self.control(slot))
            .any(|control| control.is_read_lock() && Some(control.reader()) == entry)
    }

    /// Whether any thread is dead or stopped, so that others may have to wait for a time-out.
    pub(super) fn is_anyone_gone(&self) -> bool {
        self.threads.iter().any(|t| matches!(t.status, Status::Dead | Status::Stopped))
    }

    /// SIGKILL, between two of its accesses.
    pub(super) fn kill(&mut self, thread: usize) {
        for entry in &mut self.entries {
            if entry.writer == thread as u8 + 1 {
                entry.writer = 0;
            }
            entry.sharers &= !(1 << thread);
        }
        self.end(thread, Status::Dead);
    }

    /// SIGSTOP, and never continued.
    pub(super) fn stop(&mut self, thread: usize) {
        self.end(thread, Status::Stopped);
    }

    fn end(&mut self, thread: usize, status: Status) {
        let thread = &mut self.threads[thread];
        thread.status = status;
        thread.log = Rc::default();
        thread.since = None;
        thread.recovering = false;
        thread.asleep = 0;
        thread.overtaken = None;
        thread.view = View::default();
        self.forget_the_past();
    }

    /// Checks what must hold in every state, whatever the threads are in the middle of.
    pub(super) fn check(&self) -> Result<(), String> {
        let now = self.now();
        let at_rest = |control: Control| {
            control.owner() == FREE || control.owner() == REMOVED || control.is_read_lock()
        };
        let x = self.control(Slot::X);
        if at_rest(x) {
            let value = self.load(Slot::X, VALUE);
            if value != now.x || x.version() != now.versions[0] || x.in_transaction() {
                return Err(format!("X is {value} ({x:?}), but {now:?} was committed"));
            }
        }
        let y = self.control(Slot::Y);
        if at_rest(y) {
            let current = self.area(y.version() % self.areas.count);
            if current != now.y || y.version() != now.versions[1] || y.in_transaction() {
                return Err(format!("Y is {current:x?} ({y:?}), but {now:?} was committed"));
            }
            self.check_stale(current)?;
        }
        self.check_marks()
    }

    /// Each area differs from the current one at most within its stale range.
    fn check_stale(&self, current: [u64; WIDTH]) -> Result<(), String> {
        for area in 0..self.areas.count {
            let stale = self.load(Slot::Y, STALE + area as usize);
            let (from, to) = ((stale as u32) as usize, (stale >> 32) as usize);
            let content = self.area(area);
            if let Some(word) =
                (0..WIDTH).find(|w| content[*w] != current[*w] && !(from..to).contains(w))
            {
                return Err(format!(
                    "area {area} differs in word {word}, outside of its stale range {from}..{to}"
                ));
            }
        }
        Ok(())
    }

    fn area(&self, area: u64) -> [u64; WIDTH] {
        std::array::from_fn(|w| self.load(Slot::Y, self.areas.of(area) + w))
    }

    /// 128 bits of two unrelated hashes. A few million states do not share a fingerprint by chance.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut all = Vec::with_capacity(96);
        all.extend_from_slice(&self.words);
        all.push(u64::from(self.event_count));
        let holders = self.holder.map(|holder| holder.map_or(0, |h| h as u64 + 1));
        all.push(holders[0] | holders[1] << 8);
        for entry in &self.entries {
            let Entry { word, writer, sharers } = *entry;
            all.push(u64::from(word) | u64::from(writer) << 8 | u64::from(sharers) << 16);
        }
        all.extend(self.sync.iter().flat_map(Sync::fingerprint));
        for instant in self.history.iter() {
            all.push(instant.x);
            all.extend_from_slice(&instant.y);
            all.extend_from_slice(&instant.versions);
        }
        for thread in &self.threads {
            let Thread { status, op, entry, log, since, recovering, asleep, .. } = thread;
            all.push(
                *status as u64
                    | (*op as u64) << 8
                    | entry.map_or(0, |e| u64::from(e) + 1) << 16
                    | since.map_or(0, |since| since as u64 + 1) << 24
                    | u64::from(*recovering) << 32
                    | u64::from(*asleep) << 40
                    | (log.len() as u64) << 48,
            );
            let overtaken = thread.overtaken.map_or(0, |times| u64::from(times) + 1);
            let has_slept = u64::from(thread.has_slept);
            all.push(u64::from(thread.asleep_for) | overtaken << 32 | has_slept << 48);
            all.extend_from_slice(log);
            if self.sync.is_some() {
                all.extend(thread.view.fingerprint());
            }
        }
        let mut quick = FxHasher::default();
        let mut thorough = std::hash::DefaultHasher::new();
        for word in all {
            quick.write_u64(word);
            thorough.write_u64(word);
        }
        u128::from(quick.finish()) << 64 | u128::from(thorough.finish())
    }
}
