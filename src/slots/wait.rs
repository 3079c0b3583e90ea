//! Waiting until slots change: first spins, then sleeps in the kernel until a process that changes
//! one of them wakes us.

use std::time::{Duration, Instant};

use crate::attachment::attach::Failure;
use crate::error::{Error, Result};
use crate::mapping::map::Region;
use crate::mapping::slot_memory::SPIN;
use crate::mutant::planted;
use crate::os::futex::{self, MOST_WORDS, SHORT_SLEEP};
use crate::os::location::LOOK_FOR_FILE;
use crate::protocol::{self, Await, Control, Deadline, Pause, Sleepers};
use crate::slots::handle::Handle;
use crate::store::session::Session;
use crate::store::store::Store;
use crate::types::slot_type::SlotType;

/// What can be waited for with [`Store::wait_any`]: every kind of handle. Sealed.
pub trait Awaitable: sealed::Sealed + Send + Sync {}

impl<T: sealed::Sealed + Send + Sync> Awaitable for T {}

pub(crate) mod sealed {
    pub trait Sealed {
        fn target(&self) -> Target<'_>;
    }

    /// The slot behind a handle.
    pub struct Target<'a>(pub(crate) &'a dyn super::Awaited);
}

/// A slot that can be waited for.
pub(crate) trait Awaited: Await<Error = Error> + Send + Sync {
    /// What its waiters sleep on. It keeps the mapping, but not the store open. `None` if they
    /// cannot be woken, because they may not announce themselves.
    fn futex(&self) -> Option<Region>;
    /// The session of its store.
    fn session(&self) -> &Session;
    /// An error if its content may change without a new version.
    fn check_announced(&self) -> crate::error::Result<()>;
    /// The user's error for a failure to wait for it.
    fn lock_error(&self, failure: Failure) -> crate::error::Error;
    /// Identifies it among all that can be waited for in this process.
    #[cfg(feature = "tokio")]
    fn key(&self) -> (usize, u64);
    /// A copy for another thread to keep.
    #[cfg(feature = "tokio")]
    fn share(&self) -> std::sync::Arc<dyn Awaited>;
}

impl Await for Handle {
    type Error = Error;

    fn look(&self) -> Result<(Control, u64), Failure> {
        protocol::look_to_wait(&self.memory, self.attachment())
    }

    fn announce(&self, seen: Control) -> Result<Option<Control>, Failure> {
        protocol::announce(&self.memory, self.attachment(), seen)
    }
}

impl Awaited for Handle {
    fn futex(&self) -> Option<Region> {
        self.attachment().writable.then(|| self.memory.region().of_map())
    }

    fn session(&self) -> &Session {
        Handle::session(self)
    }

    fn check_announced(&self) -> crate::error::Result<()> {
        if self.descriptor().slot_type != SlotType::Counter {
            return Ok(());
        }
        let (path, slot) = (self.attachment().path.clone(), Some(self.name().to_owned()));
        let what = "an add to a counter wakes nobody; load it from time to time, or use a value";
        Err(Error::Invalid { path, slot, what: what.into() })
    }

    fn lock_error(&self, failure: Failure) -> crate::error::Error {
        Handle::lock_error(self, failure, &self.deadline())
    }

    #[cfg(feature = "tokio")]
    fn key(&self) -> (usize, u64) {
        (self.memory.region().address(), 0)
    }

    #[cfg(feature = "tokio")]
    fn share(&self) -> std::sync::Arc<dyn Awaited> {
        std::sync::Arc::new(self.clone())
    }
}

/// Where a waiter sleeps.
enum WaitsOn {
    /// On the control word of the one slot that it waits for.
    Slot(Region),
    /// On the event counts of the slots' stores, each with its last value.
    EventCounts(Vec<(Region, u32)>),
    /// Nowhere: it polls, because nobody can wake it.
    Polls,
}

/// How long a sleep may be: this fraction of the time waited so far, within limits. So a long wait
/// costs almost nothing, and if the process that should wake us dies, that fraction is all that
/// is lost.
pub(crate) struct SleepLimit {
    begun: Option<Instant>,
    fraction: u32,
    least: Duration,
    most: Duration,
}

impl SleepLimit {
    /// For a waiter that is woken, unless the process that is about to wake it dies.
    pub(crate) const WOKEN: SleepLimit = SleepLimit {
        begun: None,
        fraction: 4,
        least: Duration::from_millis(20),
        most: Duration::from_secs(1),
    };
    /// For a waiter that must poll.
    pub(crate) const POLLING: SleepLimit = SleepLimit {
        begun: None,
        fraction: 8,
        least: Duration::from_millis(1),
        most: Duration::from_millis(50),
    };

    /// How long it has waited.
    fn waited(&mut self) -> Duration {
        self.begun.get_or_insert_with(Instant::now).elapsed()
    }

    /// Starts a new wait.
    #[cfg(feature = "tokio")]
    pub(crate) fn begin_again(&mut self) {
        self.begun = None;
    }

    /// How long to sleep now.
    pub(crate) fn sleep(&mut self) -> Duration {
        if planted!(EachSleepIsLong) {
            return self.most;
        }
        (self.waited() / self.fraction).clamp(self.least, self.most)
    }
}

/// Spins for a short while, then sleeps.
pub(crate) struct Sleeper {
    waits_on: WaitsOn,
    sleeps: SleepLimit,
    spins: bool,
    /// It waits for so many slots that looking at all of them takes long.
    is_slow: bool,
    has_slept: bool,
}

impl Sleeper {
    pub(crate) fn new<'a>(awaited: impl ExactSizeIterator<Item = &'a dyn Awaited>) -> Sleeper {
        let is_slow = awaited.len() > 128;
        let one = awaited.len() == 1;
        let waits_on = match awaited.map(Awaited::futex).collect::<Option<Vec<Region>>>() {
            Some(mut one_region) if one => WaitsOn::Slot(one_region.remove(0)),
            Some(regions) => event_counts(regions).map_or(WaitsOn::Polls, WaitsOn::EventCounts),
            None => WaitsOn::Polls,
        };
        let polls = matches!(waits_on, WaitsOn::Polls);
        let sleeps = if polls { SleepLimit::POLLING } else { SleepLimit::WOKEN };
        Sleeper { waits_on, sleeps, spins: true, is_slow, has_slept: false }
    }
}

/// The event counts of the stores of these regions, each once; `None` if one has none, or there are
/// too many.
pub(crate) fn event_counts(mut regions: Vec<Region>) -> Option<Vec<(Region, u32)>> {
    regions.sort_by_key(Region::event_count_address);
    regions.dedup_by_key(|region| region.event_count_address());
    let all = regions.iter().all(|region| region.keeper().event_count().is_some());
    let few = regions.len() < MOST_WORDS;
    (all && few).then(|| regions.into_iter().map(|region| (region, 0)).collect())
}

/// Listens to all of these event counts.
pub(crate) fn listen(event_counts: &mut [(Region, u32)]) {
    for (region, heard) in event_counts {
        *heard = region.keeper().event_count().map_or(0, protocol::listen);
    }
}

/// The futex word to sleep on until the event count advances.
pub(crate) fn event_count_word((region, heard): &(Region, u32)) -> Option<futex::Word> {
    Some(futex::Word { at: region.keeper().event_count()?, expected: *heard })
}

impl Pause for Sleeper {
    fn listen(&mut self) {
        if let WaitsOn::EventCounts(event_counts) = &mut self.waits_on
            && !self.spins
        {
            listen(event_counts);
        }
    }

    fn again(&mut self, crowded: bool, limit: Duration) -> bool {
        // Once: a waiter that was woken for nothing goes to sleep again at once. Not if others
        // wait: they would all be woken at once, and spin one after the other.
        if self.spins {
            std::hint::spin_loop();
            self.spins = !crowded && self.sleeps.waited() < SPIN;
            // Looks once more, after listening.
            return self.spins || !matches!(self.waits_on, WaitsOn::Slot(_));
        }
        let polls = matches!(self.waits_on, WaitsOn::Polls);
        if polls {
            std::thread::sleep(self.sleeps.sleep().min(limit));
        }
        polls
    }

    fn sleep(&mut self, seen: &[Control], limit: Duration) {
        let longest = self.sleeps.sleep().min(limit);
        let bits = Sleepers::CHANGE.bits();
        match &self.waits_on {
            WaitsOn::Slot(region) => futex::wait_any(&[region.futex_word(seen[0])], bits, longest),
            WaitsOn::EventCounts(event_counts) => {
                // Other slots' changes also wake it; it must not look all the time.
                if self.is_slow && self.has_slept {
                    std::thread::sleep(SHORT_SLEEP.min(limit));
                }
                let words: Vec<_> = event_counts.iter().flat_map(event_count_word).collect();
                futex::wait_any(&words, bits, longest);
            }
            WaitsOn::Polls => {}
        }
        self.has_slept = true;
    }
}

/// What a thread or a task waits for.
pub(crate) trait Wait {
    type Output;

    /// Looks whether it is there.
    fn look(&mut self) -> Result<Look<'_, Self::Output>>;
}

/// What a look finds.
pub(crate) enum Look<'a, T> {
    Ready(T),
    /// Nothing can have changed before the version of one of these differs from the one beside it.
    Pending(Vec<(&'a dyn Awaited, u64)>),
}

/// Waits in this thread, for at most `timeout`; `None` on time-out.
pub(crate) fn wait<W: Wait>(mut wait: W, timeout: Option<Duration>) -> Result<Option<W::Output>> {
    let mut deadline = Deadline::new(timeout);
    loop {
        let awaited = match wait.look()? {
            Look::Ready(output) => return Ok(Some(output)),
            Look::Pending(awaited) => awaited,
        };
        // Checked in each round: changes may keep coming past the deadline.
        if deadline.is_over() || !sleep_until_changed(&awaited, &mut deadline)? {
            return Ok(None);
        }
    }
}

/// Sleeps until the version of one of these differs from the one beside it, or it is removed; false
/// when the time is over.
fn sleep_until_changed(awaited: &[(&dyn Awaited, u64)], deadline: &mut Deadline) -> Result<bool> {
    let mut sleeper = Sleeper::new(awaited.iter().map(|(one, _)| *one));
    loop {
        let mut part = deadline.capped(LOOK_FOR_FILE);
        match protocol::wait_any(awaited, &mut part, &mut sleeper) {
            Ok(changed) if changed.is_empty() => {}
            // The next look finds what was removed.
            Ok(_) | Err((_, Failure::Removed)) => return Ok(true),
            Err((at, failure)) => return Err(awaited[at].0.lock_error(failure)),
        }
        if !planted!(AWaiterLooksForNoFile) {
            check_attached(awaited.iter().map(|(one, _)| one.session()))?;
        }
        if deadline.is_over() {
            return Ok(false);
        }
    }
}

/// The positions of those whose version differs from the one beside it.
pub(crate) fn changed(awaited: &[(&dyn Awaited, u64)]) -> Result<Vec<usize>> {
    let mut changed = Vec::new();
    for (at, (slot, seen)) in awaited.iter().enumerate() {
        if slot.version()? != *seen {
            changed.push(at);
        }
    }
    Ok(changed)
}

/// Waits until the version of one of these differs from the one beside it: for the positions of
/// those that differ.
pub(crate) struct AnyChange<'a>(pub(crate) &'a [(&'a dyn Awaited, u64)]);

impl Wait for AnyChange<'_> {
    type Output = Vec<usize>;

    fn look(&mut self) -> Result<Look<'_, Vec<usize>>> {
        let changed = changed(self.0)?;
        match changed.is_empty() {
            true => Ok(Look::Pending(self.0.to_vec())),
            false => Ok(Look::Ready(changed)),
        }
    }
}

/// What is behind these handles; an error if there are none.
pub(crate) fn awaited<'a>(
    store: &Store,
    slots: &[(&'a dyn Awaitable, u64)],
) -> Result<Vec<(&'a dyn Awaited, u64)>> {
    match slots.is_empty() {
        true => Err(nothing_to_wait_for(store)),
        false => {
            let awaited = slots.iter().map(|(slot, seen)| (slot.target().0, *seen));
            awaited.map(|one| one.0.check_announced().map(|()| one)).collect()
        }
    }
}

/// The error of a wait for no slots, which would be for ever.
pub(crate) fn nothing_to_wait_for(store: &Store) -> Error {
    let what = "there is no slot to wait for; give at least one".into();
    Error::Invalid { path: store.path().to_owned(), slot: None, what }
}

/// Waits until the slot's version differs from `seen`: for the new version.
pub(crate) struct Change<'a> {
    pub(crate) slot: &'a dyn Awaited,
    pub(crate) seen: u64,
}

impl Wait for Change<'_> {
    type Output = u64;

    fn look(&mut self) -> Result<Look<'_, u64>> {
        self.slot.check_announced()?;
        match self.slot.version()? {
            version if version != self.seen => Ok(Look::Ready(version)),
            version => Ok(Look::Pending(vec![(self.slot, version)])),
        }
    }
}

/// Waits until `condition` is true of the slot's content: for the content. `load` loads it with its
/// version.
pub(crate) struct Until<'a, L, C> {
    pub(crate) slot: &'a dyn Awaited,
    pub(crate) load: L,
    pub(crate) condition: C,
}

impl<T, L: Fn() -> Result<(T, u64)>, C: FnMut(&T) -> bool> Wait for Until<'_, L, C> {
    type Output = T;

    fn look(&mut self) -> Result<Look<'_, T>> {
        self.slot.check_announced()?;
        let (content, version) = (self.load)()?;
        self.slot.version()?; // an error if it was removed
        match (self.condition)(&content) {
            true => Ok(Look::Ready(content)),
            false => Ok(Look::Pending(vec![(self.slot, version)])),
        }
    }
}

/// [`Error::Detached`](crate::Error::Detached) if one of these stores is: others' changes then go
/// to another file.
pub(crate) fn check_attached<'a>(sessions: impl Iterator<Item = &'a Session>) -> Result<()> {
    let mut looked_at: Vec<*const Session> = Vec::new();
    for session in sessions {
        if !looked_at.contains(&std::ptr::from_ref(session)) {
            looked_at.push(session);
            session.check_attached()?;
        }
    }
    Ok(())
}

impl Store {
    /// Waits until the version of one of these slots differs from the one beside it, which is
    /// the last one seen; for at most `timeout` (`None`: for ever). Returns the positions of
    /// those that differ, none on time-out. The slots may be of any kinds, and of several
    /// stores. No change is missed: if one came before the call, it returns at once.
    ///
    /// The thread sleeps until a process that changes one of the slots wakes it. If that process
    /// is killed between change and wake-up, this takes up to a quarter of the time waited so far,
    /// but at most a second. The thread polls instead in a store opened read-only, for several
    /// slots of a store of format 1.0, and for slots of several stores before Linux 5.16: at first
    /// every millisecond, in the end every 50 ms.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) if there are no slots to wait for, or one of them
    /// is a counter, as an add to it wakes nobody;
    /// [`Error::Removed`](crate::Error::Removed) if one of them is, or becomes, removed;
    /// [`Error::Deadlock`](crate::Error::Deadlock) if this thread has one of them locked;
    /// [`Error::Detached`](crate::Error::Detached) if a store's file was deleted, moved or
    /// replaced, so that others' changes go to another file. This is checked after each second
    /// without a change.
    ///
    /// ```
    /// use std::time::Duration;
    /// let store = slotfile::Store::temporary()?;
    /// let (hits, name) = (store.value::<u64>("hits")?, store.text("name", 16)?);
    /// let (seen_hits, seen_name) = (hits.version(), name.version());
    /// name.store("Karel")?; // by anybody, at any time from here on
    /// let timeout = Some(Duration::from_secs(1));
    /// let changed = store.wait_any(&[(&hits, seen_hits), (&name, seen_name)], timeout)?;
    /// assert_eq!(changed, [1]);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn wait_any(
        &self,
        slots: &[(&dyn Awaitable, u64)],
        timeout: Option<Duration>,
    ) -> Result<Vec<usize>> {
        Ok(wait(AnyChange(&awaited(self, slots)?), timeout)?.unwrap_or_default())
    }
}

impl dyn Awaited + '_ {
    /// Its version; an error if it was removed.
    fn version(&self) -> Result<u64> {
        self.look().map(|(_, version)| version).map_err(|failure| self.lock_error(failure))
    }
}

impl Handle {
    /// Waits until the slot's version differs from `seen`; returns the new version.
    pub(crate) fn wait_for_change(
        &self,
        seen: u64,
        timeout: Option<Duration>,
    ) -> Result<Option<u64>> {
        wait(Change { slot: self, seen }, timeout)
    }

    /// Waits until `condition` is true of the content; `load` loads it with its version.
    pub(crate) fn wait_until<T>(
        &self,
        timeout: Option<Duration>,
        load: impl Fn() -> Result<(T, u64)>,
        condition: impl FnMut(&T) -> bool,
    ) -> Result<Option<T>> {
        wait(Until { slot: self, load, condition }, timeout)
    }
}
