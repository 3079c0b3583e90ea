//! Waiting without a thread for each who waits: one thread of this process sleeps on all the
//! slots that its tasks await, and wakes those whose slots have changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::fork::{self, PerProcess};
use crate::futex::{self, MOST_WORDS, SHORT_SLEEP};
use crate::map::Region;
use crate::protocol::{Control, LONGEST_SLEEP, Sleepers};
use crate::wait::Awaited;

static REACTOR: PerProcess<Reactor> = PerProcess::at_load(Reactor::new());

struct Reactor {
    state: Mutex<State>,
    /// Changes with each task that comes: the thread sleeps on it, too.
    news: AtomicU32,
}

struct State {
    tasks: BTreeMap<u64, Task>,
    next_id: u64,
    has_thread: bool,
}

/// Who awaits slots, each to have another version than the one beside it.
struct Task {
    awaited: Vec<(Arc<dyn Awaited>, u64)>,
    /// Dropped, unused, to wake it.
    _wakes: oneshot::Sender<()>,
}

/// A task that is on the reactor's list, until it is woken or this is dropped.
pub(crate) struct Registration {
    id: u64,
    /// Of the process whose reactor has it.
    fork_generation: u64,
    woken: oneshot::Receiver<()>,
}

impl Registration {
    /// An error if this process can have no thread more.
    pub(crate) fn new(awaited: Vec<(Arc<dyn Awaited>, u64)>) -> Result<Registration> {
        let fork_generation = fork::generation();
        let reactor = REACTOR.get(|_| Reactor::new());
        let (wakes, woken) = oneshot::channel();
        let mut state = reactor.lock();
        if !state.has_thread {
            let thread = std::thread::Builder::new().name("slotfile wait".into());
            let cannot = |e| Error::io(Path::new("(any store)"), "cannot start a thread", e);
            thread.spawn(|| reactor.run()).map_err(cannot)?;
            state.has_thread = true;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.tasks.insert(id, Task { awaited, _wakes: wakes });
        drop(state);
        // Release: who sees the news finds the task.
        reactor.news.fetch_add(1, Ordering::Release);
        futex::wake(&raw const reactor.news, Sleepers::CHANGE, 1);
        Ok(Registration { id, fork_generation, woken })
    }

    /// Until a slot may have changed.
    pub(crate) async fn woken(&mut self) {
        // That the other end was dropped is the message.
        let _ = (&mut self.woken).await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The reactor of a forked child has never heard of it.
        if self.fork_generation == fork::generation() {
            let task = REACTOR.get(|_| Reactor::new()).lock().tasks.remove(&self.id);
            // Not under the lock: it may be the last that keeps a store open.
            drop(task);
        }
    }
}

impl Reactor {
    const fn new() -> Reactor {
        let state = State { tasks: BTreeMap::new(), next_id: 0, has_thread: false };
        Reactor { state: Mutex::new(state), news: AtomicU32::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A list, which is whole between any two of its changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            // Acquire: the tasks that it tells of are on the list.
            let news = self.news.load(Ordering::Acquire);
            let (woken, bed) = self.lock().look();
            drop(woken);
            let (regions, limit) = match bed {
                Bed::Again => continue,
                Bed::Empty => (Vec::new(), IDLE),
                Bed::Words(regions) => (regions, LONGEST_SLEEP),
                Bed::Polls => (Vec::new(), SHORT_SLEEP),
            };
            let own = futex::Word { at: &raw const self.news, expected: news };
            let words = regions.iter().map(|(region, control)| region.futex_word(*control));
            let words: Vec<_> = words.chain([own]).collect();
            futex::wait_any(&words, limit);
        }
    }
}

/// What to sleep on.
enum Bed {
    /// Something has changed meanwhile.
    Again,
    /// Nobody awaits anything.
    Empty,
    Words(Vec<(Region, Control)>),
    /// These cannot be slept on: they are too many, or of a store opened read-only.
    Polls,
}

const IDLE: Duration = Duration::from_secs(3_600);

impl State {
    /// Takes those tasks off the list of which a slot has changed; they are woken when they
    /// are dropped. (Not under the lock: they may be the last that keep a store open.)
    fn look(&mut self) -> (Vec<Task>, Bed) {
        let mut woken = Vec::new();
        // By the address of the futex: many tasks may await one slot.
        let mut futexes = BTreeMap::new();
        let mut polls = false;
        let changed = |task: &Task, futexes: &mut BTreeMap<_, _>, polls: &mut bool| {
            task.awaited.iter().any(|(slot, seen)| match slot.look() {
                Ok((control, version)) if version == *seen => {
                    match slot.futex() {
                        Some(region) => {
                            futexes.insert(region.futex_word(control).at, (slot.clone(), control));
                        }
                        None => *polls = true,
                    }
                    false
                }
                _ => true, // removed, too: the task will find out
            })
        };
        let ids: Vec<u64> = self.tasks.keys().copied().collect();
        for id in ids {
            if changed(&self.tasks[&id], &mut futexes, &mut polls) {
                woken.extend(self.tasks.remove(&id));
            }
        }
        let bed = if self.tasks.is_empty() {
            Bed::Empty
        } else if polls || futexes.len() >= MOST_WORDS {
            Bed::Polls
        } else {
            let announced = futexes.values().map(|(slot, control)| {
                let control = slot.announce(*control).ok().flatten()?;
                Some((slot.futex()?, control))
            });
            announced.collect::<Option<Vec<_>>>().map_or(Bed::Again, Bed::Words)
        };
        (woken, bed)
    }
}
