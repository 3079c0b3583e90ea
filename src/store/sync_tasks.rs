//! Syncs for tasks ([`Store::sync_async`](crate::Store::sync_async)). One thread calls for all tasks of
//! this process that wait for a sync of a store, however many there are. Each store has its own: one
//! whose disk is slow, or whose sync lock is held, keeps no other waiting.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::attachment::attach::{Attachment, Failure};
use crate::durability::group;
use crate::durability::syncer::{NotSynced, Syncer, note_failure};
use crate::error::Result;
use crate::mutant::planted;
use crate::os::fork::{self, PerProcess};
use crate::os::thread::{self, Thread};
use crate::protocol::{Deadline, Peers, Ticket};
use crate::store::background::cannot_start;

/// How long the thread waits for the sync lock before it looks whose time is over, and whether it is
/// to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The tasks of this process that wait for a sync of one store. The child of a fork has none of its
/// parent's.
#[derive(Debug)]
pub(crate) struct SyncTasks(PerProcess<Arc<Tasks>>);

#[derive(Debug, Default)]
struct Tasks {
    state: Mutex<State>,
    /// There is a new task, or the thread is to end.
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By number, in the order in which they came.
    waiting: BTreeMap<u64, Task>,
    next: u64,
    /// The thread that serves them, and its number. One with another number ends.
    thread: Option<(u64, Thread)>,
    threads: u64,
}

#[derive(Debug)]
struct Task {
    ticket: Ticket,
    deadline: Deadline,
    tells: oneshot::Sender<Result<()>>,
}

/// A task's place on the list, until it is told the outcome or drops this.
#[derive(Debug)]
pub(crate) struct Place {
    tasks: Arc<Tasks>,
    number: u64,
    /// The fork generation of the process on whose list it is.
    fork_generation: u64,
    told: oneshot::Receiver<Result<()>>,
}

impl Place {
    /// The outcome. `None`: this process is the child of a fork, on whose list it is not.
    pub(crate) async fn told(&mut self) -> Option<Result<()>> {
        poll_fn(|context| {
            if self.fork_generation != fork::generation() && !planted!(AnInheritedTaskWaits) {
                return Poll::Ready(None);
            }
            Pin::new(&mut self.told).poll(context).map(Some)
        })
        .await
        .map(|told| told.expect("the thread that syncs for tasks has panicked"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A forked child may find the list of its parent locked.
        if self.fork_generation == fork::generation() && !planted!(ADroppedTaskStaysOnTheList) {
            self.tasks.lock().waiting.remove(&self.number);
        }
    }
}

/// What the thread does next: a call for all tasks up to this number.
struct Call {
    up_to: u64,
    /// The oldest.
    ticket: Ticket,
    /// Until the first of them runs out of time.
    wait: Deadline,
    /// The longest lock time-out of any of them.
    timeout: Option<Duration>,
}

impl SyncTasks {
    pub(crate) fn new() -> SyncTasks {
        SyncTasks(PerProcess::new(Arc::default()))
    }

    fn tasks(&self) -> &Arc<Tasks> {
        self.0.get(|_| Arc::default())
    }

    /// Puts a task on the list that waits for the sync lock at most so long; starts the thread if
    /// there is none. To be called after all that is to be synced was stored.
    pub(crate) fn enter(
        &self,
        attachment: &Arc<Attachment>,
        syncer: &Arc<Syncer>,
        timeout: Option<Duration>,
    ) -> Result<Place> {
        let fork_generation = fork::generation();
        let ticket = syncer.call_for_task(attachment)?;
        let tasks = Arc::clone(self.tasks());
        let mut state = tasks.lock();
        if state.thread.is_none() {
            let number = state.threads;
            let serves = (Arc::clone(&tasks), Arc::downgrade(attachment), Arc::clone(syncer));
            let run = move || serves.0.serve(number, &serves.1, &serves.2);
            let started = thread::spawn(c"slotfile tasks", run);
            state.thread = Some((number, started.map_err(|e| cannot_start(attachment, e))?));
            state.threads += 1;
        }
        let number = state.next;
        state.next += 1;
        let (tells, told) = oneshot::channel();
        let mut deadline = Deadline::new(timeout);
        deadline.is_over(); // it begins to run
        state.waiting.insert(number, Task { ticket, deadline, tells });
        drop(state);
        tasks.news.notify_all();
        Ok(Place { tasks, number, fork_generation, told })
    }

    /// Ends the thread, unless tasks wait.
    pub(crate) fn end_if_idle(&self) {
        self.end(|state| state.waiting.is_empty());
    }

    /// Ends the thread, after the sync that it is doing. Tasks that still wait go on waiting.
    pub(crate) fn end_thread(&self) {
        self.end(|_| !planted!(TheTasksThreadOutlivesTheStore));
    }

    fn end(&self, is_to_end: impl FnOnce(&State) -> bool) {
        let tasks = self.tasks();
        let mut state = tasks.lock();
        let is_to_end = is_to_end(&state);
        let Some((_, thread)) = state.thread.take_if(|_| is_to_end) else { return };
        drop(state);
        tasks.news.notify_all();
        thread.join();
    }
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Poisoning is ignored: the list is consistent between any two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs for all tasks, until this thread is to end.
    fn serve(&self, number: u64, attachment: &Weak<Attachment>, syncer: &Syncer) {
        let _serving = Serving(self);
        while let Some(mut call) = self.next_call(number) {
            // A task that waits keeps the store open.
            let Some(attachment) = attachment.upgrade() else { return };
            let synced =
                syncer.sync_for_tasks(&attachment, call.ticket, &mut call.wait, call.timeout);
            let told = self.lock().tell(&call, synced, &attachment, syncer);
            drop(attachment);
            // Not under the lock: whoever wakes a task may drop it, and with it the store.
            for (tells, result) in told {
                // If sending fails, the task was dropped meanwhile. If its executor panics, that is
                // reported, and is nothing to the others.
                let _ = catch_unwind(AssertUnwindSafe(|| tells.send(result)));
            }
        }
    }

    /// Waits until there is a task. `None`: the thread is to end.
    fn next_call(&self, number: u64) -> Option<Call> {
        let mut state = self.lock();
        while state.thread.as_ref().is_some_and(|(serving, _)| *serving == number) {
            if let Some(call) = state.next_call() {
                return Some(call);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

/// The thread serves. If it panics, all that wait do so, too.
struct Serving<'a>(&'a Tasks);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.lock();
            state.thread = None;
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            drop(waiting);
        }
    }
}

impl State {
    fn next_call(&mut self) -> Option<Call> {
        let ticket = self.waiting.values().map(|task| task.ticket).min()?;
        let wait = self.waiting.values_mut().map(|task| task.deadline.capped(LOOK_EVERY).limit());
        let wait = Deadline::new(wait.min());
        let longest = self.waiting.values().max_by_key(|task| task.deadline.limit())?;
        let timeout = longest.deadline.timeout();
        Some(Call { up_to: self.next, ticket, wait, timeout })
    }

    /// Takes the tasks off the list that are to be told how the call has ended: those whose tickets
    /// are settled; if the call has failed, also those for which it was made.
    fn tell(
        &mut self,
        call: &Call,
        synced: Result<(), NotSynced>,
        attachment: &Attachment,
        syncer: &Syncer,
    ) -> Vec<(oneshot::Sender<Result<()>>, Result<()>)> {
        let outcome = |task: &Task| syncer.told(attachment, task.ticket);
        let (error, may_wait) = match synced {
            Ok(()) => (None, true),
            Err(NotSynced::Led(error)) => (Some(error), false),
            Err(NotSynced::Waited(failure)) => {
                let may_wait = may_go_on_waiting(&failure);
                let is_over = |task: &mut Task| outcome(task).is_none() && task.deadline.is_over();
                let is_told = !may_wait || self.waiting.values_mut().any(is_over);
                let error = is_told.then(|| {
                    attachment.lock_error("the sync lock", failure, &Deadline::new(call.timeout))
                });
                error.iter().for_each(|error| note_failure(attachment, error));
                (error, may_wait)
            }
        };
        let mut told = Vec::new();
        for (number, task) in &mut self.waiting {
            let outcome = outcome(task);
            let fails = match may_wait {
                true => outcome.is_none() && task.deadline.is_over(),
                false => *number < call.up_to,
            };
            let result = match (&error, outcome) {
                (Some(error), _) if fails => {
                    Err(error.again(&attachment.path, task.deadline.limit()))
                }
                (_, Some(outcome)) => group::as_result(attachment, outcome),
                (None, None) if planted!(AnySyncIsThatOfATask) => Ok(()),
                _ => continue,
            };
            if planted!(EachTaskHasItsOwnSync) && !told.is_empty() {
                task.ticket = syncer.call_for_task(attachment).expect("it was before");
                continue;
            }
            told.push((*number, result));
            if planted!(OneTaskIsToldOfAnError) && error.is_some() {
                break;
            }
        }
        let take = |(number, result)| Some((self.waiting.remove(&number)?.tells, result));
        told.into_iter().filter_map(take).collect()
    }
}

/// Whether whoever waits for the sync lock may have it yet, if there is time.
fn may_go_on_waiting(failure: &Failure) -> bool {
    match failure {
        Failure::Timeout(_) => true,
        Failure::Peers(error) => Attachment::may_be_free_soon(error),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::future::Future;
    use std::io;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
    use std::sync::mpsc;
    use std::task::{Context, Wake, Waker};
    use std::time::Instant;

    use super::*;
    use crate::error::Error;
    use crate::format::layout::live;
    use crate::mapping::map::Map;
    use crate::os::disk::{Disk, Range};
    use crate::protocol::{self, Number, Numbers};
    use crate::{OpenOptions, Recovery, Store};

    type Sync = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    /// A disk on which each flush waits until the test says how it ends.
    #[derive(Debug)]
    struct Slow {
        map: Arc<Map>,
        flushes: AtomicU64,
        ends: Mutex<mpsc::Receiver<io::Result<()>>>,
    }

    impl Disk for Slow {
        fn file(&self) -> &File {
            self.map.file()
        }

        fn flushes_ranges(&self) -> bool {
            true
        }

        /// Without the flush of its own.
        fn forget(&self, _: &[Range]) {}

        fn flush(&self, _: Range) -> io::Result<()> {
            // Release, with the load in `flushes`: what was written before is seen.
            self.flushes.fetch_add(1, Release);
            // The test lets all of them go on.
            self.ends.lock().unwrap().recv().unwrap_or(Ok(()))
        }
    }

    struct World {
        _folder: tempfile::TempDir,
        store: Store,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let mut options = OpenOptions::new();
            // The tasks need no background sync.
            let options = options.create(true).sync_every(None).lock_timeout(None);
            let store = options.open(folder.path().join("state.slots")).unwrap();
            World { _folder: folder, store }
        }

        fn on_a_slow_disk() -> (World, Arc<Slow>, mpsc::Sender<io::Result<()>>) {
            let world = World::new();
            let (ends, end) = mpsc::channel();
            let map = Arc::clone(&world.store.attachment().map);
            let slow = Arc::new(Slow { map, flushes: AtomicU64::new(0), ends: Mutex::new(end) });
            let disk: Arc<dyn Disk> = Arc::<Slow>::clone(&slow);
            world.store.attachment().simulated.set(disk).unwrap();
            (world, slow, ends)
        }

        /// Updates, and begins to sync.
        fn begin(&self) -> Sync {
            self.begin_in(&self.store)
        }

        fn begin_in(&self, store: &Store) -> Sync {
            self.store.value::<u64>("value").unwrap().fetch_add(1).unwrap();
            let store = store.clone();
            let mut sync: Sync = Box::pin(async move { store.sync_async().await });
            assert!(poll(&mut sync).is_pending());
            sync
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.store.session.tasks.tasks().lock()
        }

        fn done(&self) -> u64 {
            self.store.attachment().live.load(live::SYNCS_DONE, Acquire)
        }
    }

    fn poll(sync: &mut Sync) -> Poll<Result<()>> {
        sync.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// The least executor that there can be.
    fn wait_for(mut sync: Sync) -> Result<()> {
        struct Unpark(std::thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(30), "it hangs");
            match sync.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park_timeout(Duration::from_secs(30)),
            }
        }
    }

    #[track_caller]
    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..30_000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("waited in vain until {what}");
    }

    fn errno(result: Result<()>) -> Option<i32> {
        match result.unwrap_err() {
            Error::Io { source, .. } | Error::NoSpace { source, .. } => source.raw_os_error(),
            other => panic!("{other:?}"),
        }
    }

    /// Two syncs for a thousand and one tasks: one for the first, and one for all that come while it is
    /// under way. None of those is told of the first one's success.
    #[test]
    fn a_thousand_tasks_share_a_sync() {
        let (world, disk, ends) = World::on_a_slow_disk();
        let before = world.done();
        let first = world.begin();
        until("its flush has begun", || disk.flushes.load(Acquire) == 1);
        let mut others: Vec<Sync> = (0..1_000).map(|_| world.begin()).collect();
        ends.send(Ok(())).unwrap();
        wait_for(first).unwrap();
        until("the next flush has begun", || disk.flushes.load(Acquire) == 2);
        assert!(others.iter_mut().all(|sync| poll(sync).is_pending()));
        drop(ends);
        others.into_iter().for_each(|sync| wait_for(sync).unwrap());
        assert_eq!((disk.flushes.load(Acquire), world.done() - before), (2, 2));
        assert_eq!(world.store.info().unwrap().unsynced, Some(0));
    }

    /// An error of the file, and one of this process alone.
    #[test]
    fn an_error_reaches_each_task_for_which_the_sync_was_made() {
        let (world, disk, ends) = World::on_a_slow_disk();
        for error in [libc::EIO, libc::ENOSPC, libc::EFBIG] {
            let begun = disk.flushes.load(Acquire);
            let first = world.begin();
            until("its flush has begun", || disk.flushes.load(Acquire) == begun + 1);
            let joined: Vec<Sync> = (0..10).map(|_| world.begin()).collect();
            ends.send(Ok(())).unwrap();
            wait_for(first).unwrap();
            until("theirs has begun", || disk.flushes.load(Acquire) == begun + 2);
            let later = world.begin();
            ends.send(Err(io::Error::from_raw_os_error(error))).unwrap();
            ends.send(Ok(())).unwrap();
            for sync in joined {
                assert_eq!(errno(wait_for(sync)), Some(error));
            }
            wait_for(later).unwrap();
            assert_eq!(disk.flushes.load(Acquire), begun + 3);
        }
        assert!(world.store.info().unwrap().failed_sync.is_none());
    }

    /// Another thread leads, of this or of another process.
    #[test]
    fn tasks_join_the_sync_of_another_leader() {
        let world = World::new();
        let attachment = world.store.attachment();
        let own = [const { AtomicU64::new(0) }; live::UNGATHERED + 1];
        let words = group::Words::of(attachment, &own);
        let lead = |ends: Result<(), i32>| {
            let lock = attachment.lock(live::SYNC_LOCK);
            let lead = protocol::try_lead((&lock, attachment)).unwrap();
            let joined: Vec<Sync> = (0..10).map(|_| world.begin()).collect();
            let mut late = None;
            let sync = || {
                late = Some(world.begin());
                ends
            };
            let _ = lead.sync(&words, sync, |errno| Some(u16::try_from(*errno).unwrap()));
            let number = words.load(Number::Begun, Relaxed);
            drop(lead);
            for sync in joined {
                match ends {
                    Ok(()) => wait_for(sync).unwrap(),
                    Err(error) => assert_eq!(errno(wait_for(sync)), Some(error)),
                }
            }
            // Its update may not be in the sync in which it came.
            wait_for(late.unwrap()).unwrap();
            assert!(world.done() > number);
        };
        lead(Ok(()));
        lead(Err(libc::EIO));
        lead(Err(libc::ENOSPC));
    }

    #[test]
    fn each_task_has_its_own_time_out() {
        let world = World::new();
        let attachment = world.store.attachment();
        let lock = attachment.lock(live::SYNC_LOCK);
        let lead = protocol::try_lead((&lock, attachment)).unwrap();
        let mut patient = world.begin();
        let brief = |time| world.store.clone().with_lock_timeout(Some(time));
        for time in [Duration::ZERO, Duration::from_millis(50)] {
            let syncs: Vec<Sync> = (0..3).map(|_| world.begin_in(&brief(time))).collect();
            for sync in syncs {
                match wait_for(sync) {
                    Err(Error::LockTimeout { holder, waited, .. }) => {
                        assert_eq!((holder.unwrap().pid, waited), (std::process::id(), time));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(poll(&mut patient).is_pending());
        // The lock's holder may be about to sync all of it.
        assert!(world.store.info().unwrap().failed_sync.is_none());
        drop(lead);
        wait_for(patient).unwrap();
        // Nobody has the lock: no time is too short.
        wait_for(world.begin_in(&brief(Duration::ZERO))).unwrap();
    }

    #[test]
    fn a_dropped_task_is_forgotten() {
        let world = World::new();
        let attachment = world.store.attachment();
        let lock = attachment.lock(live::SYNC_LOCK);
        let lead = protocol::try_lead((&lock, attachment)).unwrap();
        let kept = world.begin();
        let dropped: Vec<Sync> = (0..10).map(|_| world.begin()).collect();
        assert_eq!(world.state().waiting.len(), 11);
        drop(dropped);
        assert_eq!(world.state().waiting.len(), 1);
        // While a task waits, the thread stays; then it can be ended, and is started again.
        world.store.pause_syncing();
        assert!(world.state().thread.is_some());
        drop(lead);
        wait_for(kept).unwrap();
        world.store.pause_syncing();
        assert!(world.state().thread.is_none());
        wait_for(world.begin()).unwrap();
        assert!(world.state().thread.is_some());
    }

    /// The thread that wakes a task drops it, and with it the last handle of the store.
    #[test]
    fn a_store_may_be_left_by_whoever_wakes_a_task() {
        struct Drops(Mutex<Option<(Sync, Store)>>);
        impl Wake for Drops {
            fn wake(self: Arc<Self>) {
                drop(self.0.lock().unwrap().take());
            }
        }
        let World { _folder, store } = World::new();
        let (path, tasks) = (store.path().to_owned(), Arc::clone(store.session.tasks.tasks()));
        let attachment = Arc::downgrade(&store.attachment().map);
        let drops = Arc::new(Drops(Mutex::new(None)));
        let waker = Waker::from(Arc::clone(&drops));
        let clone = store.clone();
        let mut sync: Sync = Box::pin(async move { clone.sync_async().await });
        let mut task = drops.0.lock().unwrap();
        assert!(sync.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        *task = Some((sync, store));
        drop(task);
        until("the store is left", || attachment.strong_count() == 0);
        assert!(tasks.lock().thread.is_none());
        assert_eq!(Store::open(path).unwrap().recovery(), Recovery::Resumed);
    }

    /// One executor panics as it is told to go on.
    #[test]
    fn a_waker_that_panics_keeps_no_other_task_waiting() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("this is meant to be reported");
            }
        }
        let (world, disk, ends) = World::on_a_slow_disk();
        let mut first = world.begin();
        let panics = Waker::from(Arc::new(Panics));
        assert!(first.as_mut().poll(&mut Context::from_waker(&panics)).is_pending());
        until("its flush has begun", || disk.flushes.load(Acquire) == 1);
        let other = world.begin();
        drop(ends);
        wait_for(other).unwrap();
        wait_for(first).unwrap();
    }

    #[test]
    fn the_thread_ends_with_the_store() {
        let World { _folder, store } = World::new();
        let tasks = Arc::clone(store.session.tasks.tasks());
        for syncs in [0, 1] {
            let mut options = OpenOptions::new();
            let period = (syncs == 1).then_some(Duration::MAX);
            let again = options.sync_every(period).open(store.path()).unwrap();
            let sync = again.clone();
            wait_for(Box::pin(async move { sync.sync_async().await })).unwrap();
            assert!(tasks.lock().thread.is_some());
        }
        store.close().unwrap();
        assert!(tasks.lock().thread.is_none());
    }

    #[test]
    fn what_cannot_be_synced_is_refused_at_once() {
        let store = Store::temporary().unwrap();
        let refused = wait_for(Box::pin(async move { store.sync_async().await }));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
}
