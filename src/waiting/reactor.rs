//! Waiting without a thread for each task. One thread of this process sleeps on the event counts of
//! all stores with awaited slots, and wakes the tasks whose slots have changed. When it wakes, it
//! looks once at each slot, however many tasks await it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::mapping::map::Region;
use crate::mutant::planted;
use crate::os::fork::{self, PerProcess};
use crate::os::futex;
use crate::os::location::LOOK_FOR_FILE;
use crate::os::thread;
use crate::protocol::Sleepers;
use crate::slots::wait::{Awaited, SleepLimit, event_count_word, event_counts, listen};

static REACTOR: PerProcess<Reactor> = PerProcess::at_load(Reactor::new());

struct Reactor {
    state: Mutex<State>,
    /// Changes with each new task: the thread also sleeps on it.
    news: AtomicU32,
}

struct State {
    tasks: BTreeMap<u64, Task>,
    /// The tasks that were not looked at yet.
    new: Vec<u64>,
    slots: BTreeMap<Key, AwaitedSlot>,
    /// The stores of the slots that can be slept on, by the addresses of their event counts: a
    /// region that keeps each mapped, and the number of slots.
    stores: BTreeMap<usize, (Region, usize)>,
    /// How many slots can only be polled.
    polled: usize,
    /// Whether the set of stores has changed since the thread was last told.
    has_moved: bool,
    next_id: u64,
    has_thread: bool,
}

/// Identifies a slot, see [`Awaited::key`].
type Key = (usize, u64);

/// A slot that tasks await. All of them wait for its version to differ from this one.
struct AwaitedSlot {
    slot: Arc<dyn Awaited>,
    version: u64,
    /// The address of its store's event count; `None`: the slot can only be polled.
    event_count: Option<usize>,
    tasks: BTreeSet<u64>,
}

/// A task that waits until the version of one of these slots differs from the one beside it.
struct Task {
    awaited: Vec<(Arc<dyn Awaited>, u64)>,
    /// Nothing is sent: dropping it wakes the task.
    _wakes: oneshot::Sender<()>,
}

/// Keeps a task on the reactor's list until it is woken or this is dropped.
pub(crate) struct Registration {
    id: u64,
    /// The fork generation of the process whose reactor has it.
    fork_generation: u64,
    woken: oneshot::Receiver<()>,
}

impl Registration {
    /// An error if this process cannot start another thread.
    pub(crate) fn new(awaited: Vec<(Arc<dyn Awaited>, u64)>) -> Result<Registration> {
        let fork_generation = fork::generation();
        let reactor = REACTOR.get(|_| Reactor::new());
        let (wakes, woken) = oneshot::channel();
        let mut state = reactor.lock();
        if !state.has_thread {
            let cannot = |e| Error::io(Path::new("(any store)"), "cannot start a thread", e);
            thread::spawn(c"slotfile wait", || reactor.run()).map_err(cannot)?;
            state.has_thread = true;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.tasks.insert(id, Task { awaited, _wakes: wakes });
        state.new.push(id);
        drop(state);
        // Release: a thread that sees the news finds the task.
        reactor.news.fetch_add(1, Ordering::Release);
        if !planted!(TheReactorIsNotWoken) {
            futex::wake(&raw const reactor.news, Sleepers::CHANGE.bits(), 1);
        }
        Ok(Registration { id, fork_generation, woken })
    }

    /// Waits until a slot may have changed.
    pub(crate) async fn woken(&mut self) {
        // The message is that the other end was dropped.
        let _ = (&mut self.woken).await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The reactor of a forked child does not know it.
        if self.fork_generation == fork::generation() {
            let task = REACTOR.get(|_| Reactor::new()).lock().remove(self.id);
            // Not under the lock: it may be the last reference to a store.
            drop(task);
        }
    }
}

impl Reactor {
    const fn new() -> Reactor {
        let state = State {
            tasks: BTreeMap::new(),
            new: Vec::new(),
            slots: BTreeMap::new(),
            stores: BTreeMap::new(),
            polled: 0,
            has_moved: false,
            next_id: 0,
            has_thread: false,
        };
        Reactor { state: Mutex::new(state), news: AtomicU32::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Poisoning is ignored: the lists are consistent between any two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        // The event counts of the stores whose slots are awaited; `None`: one store has none.
        let mut stores: Option<Vec<(Region, u32)>> = Some(Vec::new());
        let mut sleeps = SleepLimit::WOKEN;
        let mut last = 0;
        let mut looked_for_files = Instant::now();
        loop {
            if looked_for_files.elapsed() >= LOOK_FOR_FILE && !planted!(TheReactorLooksForNoFile) {
                let detached = self.lock().take_detached();
                drop(detached);
                looked_for_files = Instant::now();
            }
            // Acquire: the tasks that it announces are on the list.
            let news = self.news.load(Ordering::Acquire);
            if std::mem::replace(&mut last, news) != news {
                sleeps.begin_again();
            }
            if let Some(stores) = &mut stores {
                listen(stores);
            }
            let (woken, waits_on) = self.lock().look();
            let has_woken = !woken.is_empty();
            drop(woken);
            let limit = match waits_on {
                WaitsOn::Moved(regions) => {
                    stores = regions.and_then(event_counts);
                    sleeps = if stores.is_some() { SleepLimit::WOKEN } else { SleepLimit::POLLING };
                    continue;
                }
                WaitsOn::Again => continue,
                WaitsOn::Empty => {
                    stores = Some(Vec::new()); // keeps nothing mapped
                    IDLE
                }
                WaitsOn::Made => {
                    if has_woken {
                        sleeps.begin_again();
                    }
                    sleeps.sleep()
                }
            };
            let own = futex::Word { at: &raw const self.news, expected: news };
            let stores = stores.iter().flatten();
            let words: Vec<_> = stores.flat_map(event_count_word).chain([own]).collect();
            futex::wait_any(&words, Sleepers::CHANGE.bits(), limit);
        }
    }
}

/// What to sleep on.
enum WaitsOn {
    /// Something has changed meanwhile.
    Again,
    /// Nobody awaits anything.
    Empty,
    /// The set of awaited stores has changed: a region of each; `None` if a slot must be polled.
    Moved(Option<Vec<Region>>),
    /// The event counts of the stores.
    Made,
}

const IDLE: Duration = Duration::from_secs(3_600);

impl State {
    fn remove(&mut self, id: u64) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        for (slot, _) in &task.awaited {
            let key = slot.key();
            if let Some(entry) = self.slots.get_mut(&key) {
                entry.tasks.remove(&id);
                if entry.tasks.is_empty() {
                    let event_count = entry.event_count;
                    self.slots.remove(&key);
                    self.forget_slot_of(event_count);
                }
            }
        }
        Some(task)
    }

    /// Counts one more slot of the store with this event count.
    fn note_slot_of(&mut self, futex: Option<Region>) -> Option<usize> {
        let known = futex.map(|region| (region.event_count_address(), region));
        if let Some((event_count, region)) = known.filter(|(event_count, _)| *event_count != 0) {
            let (_, slots) = self.stores.entry(event_count).or_insert_with(|| (region, 0));
            *slots += 1;
            self.has_moved |= *slots == 1;
            return Some(event_count);
        }
        self.polled += 1;
        self.has_moved |= self.polled == 1;
        None
    }

    fn forget_slot_of(&mut self, event_count: Option<usize>) {
        let Some(event_count) = event_count else {
            self.polled -= 1;
            self.has_moved |= self.polled == 0;
            return;
        };
        let Some((_, slots)) = self.stores.get_mut(&event_count) else { return };
        *slots -= 1;
        if *slots == 0 {
            self.stores.remove(&event_count);
            self.has_moved = true;
        }
    }

    /// Puts a new task on the lists of its slots; false if one has changed already.
    fn add(&mut self, id: u64) -> bool {
        let Some(task) = self.tasks.get(&id) else { return true };
        for (slot, seen) in task.awaited.clone() {
            let key = slot.key();
            if !self.slots.contains_key(&key) {
                let event_count = self.note_slot_of(slot.futex());
                let tasks = BTreeSet::new();
                self.slots.insert(key, AwaitedSlot { slot, version: seen, event_count, tasks });
            }
            let entry = self.slots.get_mut(&key).expect("it is there, or was just put there");
            entry.tasks.insert(id);
            if entry.version != seen {
                return false;
            }
        }
        true
    }

    /// Takes the tasks off the list that await slots of a detached store. Woken without a change,
    /// they find that out.
    fn take_detached(&mut self) -> Vec<Task> {
        let mut stores = BTreeMap::new();
        let mut detached = BTreeSet::new();
        for AwaitedSlot { slot, tasks, .. } in self.slots.values() {
            let session = slot.session();
            let known = stores.entry(std::ptr::from_ref(session));
            if *known.or_insert_with(|| session.detached().is_some()) {
                detached.extend(tasks.iter().copied());
            }
        }
        detached.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Takes the tasks off the list whose slots have changed. Dropping them wakes them. (Not under
    /// the lock: they may be the last references to a store.)
    fn look(&mut self) -> (Vec<Task>, WaitsOn) {
        let mut woken = Vec::new();
        for id in std::mem::take(&mut self.new) {
            if !self.add(id) {
                woken.extend(self.remove(id)); // the task looks itself
            }
        }
        let mut changed = BTreeSet::new();
        let mut is_announced = true;
        for entry in self.slots.values() {
            match entry.slot.look() {
                Ok((control, version)) if version == entry.version => {
                    if entry.event_count.is_some() {
                        let announced = entry.slot.announce(control);
                        is_announced &= announced.is_ok_and(|announced| announced.is_some());
                    }
                }
                _ => changed.extend(&entry.tasks), // or removed: the task will find out
            }
        }
        for id in changed {
            woken.extend(self.remove(id));
        }
        let waits_on = if self.tasks.is_empty() {
            WaitsOn::Empty
        } else if std::mem::take(&mut self.has_moved) {
            let stores = || self.stores.values().map(|(region, _)| region.clone()).collect();
            WaitsOn::Moved((self.polled == 0).then(stores))
        } else if !is_announced {
            WaitsOn::Again
        } else {
            WaitsOn::Made
        };
        (woken, waits_on)
    }
}
