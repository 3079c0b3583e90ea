//! Waiting until slots change: by spinning first, then asleep in the kernel, where whoever
//! changes one of them wakes us, from any process.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::futex::{self, MOST_WORDS, SHORT_SLEEP};
use crate::handle::{Handle, SlotMemory};
use crate::map::{Region, SPIN};
use crate::protocol::{self, Await, Control, Failure, Patience, Pause};
use crate::store::Store;

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
pub(crate) trait Awaited: Await + Send + Sync {
    /// What its waiters sleep on, which keeps the mapping, but not the store open; `None` if
    /// they cannot be woken, as nobody may know of them.
    fn futex(&self) -> Option<Region>;
    /// The error that a failure to wait for it is to the user.
    fn explain(&self, failure: Failure) -> crate::error::Error;
    /// Itself, for another thread to keep.
    #[cfg(feature = "tokio")]
    fn share(&self) -> std::sync::Arc<dyn Awaited>;
}

impl<M: SlotMemory> Await for Handle<M> {
    fn look(&self) -> Result<(Control, u64), Failure> {
        protocol::look_to_wait(&self.memory, self.attachment())
    }

    fn announce(&self, seen: Control) -> Result<Option<Control>, Failure> {
        protocol::announce(&self.memory, self.attachment(), seen)
    }
}

impl<M: SlotMemory> Awaited for Handle<M> {
    fn futex(&self) -> Option<Region> {
        self.attachment().writable.then(|| self.memory.as_ref().of_map())
    }

    fn explain(&self, failure: Failure) -> crate::error::Error {
        Handle::explain(self, failure, &self.patience())
    }

    #[cfg(feature = "tokio")]
    fn share(&self) -> std::sync::Arc<dyn Awaited> {
        std::sync::Arc::new(self.clone())
    }
}

/// Spins for a short while, then sleeps.
pub(crate) struct Sleeper {
    /// The words to sleep on; `None`: to look again every [`SHORT_SLEEP`].
    futexes: Option<Vec<Region>>,
    begun: Option<Instant>,
}

impl Sleeper {
    pub(crate) fn new<'a>(awaited: impl ExactSizeIterator<Item = &'a dyn Awaited>) -> Sleeper {
        let few = awaited.len() <= MOST_WORDS;
        let futexes = few.then(|| awaited.map(Awaited::futex).collect()).flatten();
        Sleeper { futexes, begun: None }
    }
}

impl Pause for Sleeper {
    fn again(&mut self, limit: Duration) -> bool {
        // Once: who was woken for nothing goes to sleep again at once.
        if self.begun.get_or_insert_with(Instant::now).elapsed() < SPIN {
            std::hint::spin_loop();
            return true;
        }
        if self.futexes.is_none() {
            std::thread::sleep(SHORT_SLEEP.min(limit));
        }
        self.futexes.is_none()
    }

    fn sleep(&mut self, seen: &[Control], limit: Duration) {
        let words = self.futexes.iter().flatten().zip(seen);
        let words: Vec<_> = words.map(|(region, seen)| region.futex_word(*seen)).collect();
        futex::wait_any(&words, limit);
    }
}

/// Waits until one of these has another version than the one beside it, at most `timeout`;
/// the positions of those that have.
fn wait_any(awaited: &[(&dyn Awaited, u64)], timeout: Option<Duration>) -> Result<Vec<usize>> {
    wait_any_with(awaited, &mut Patience::new(timeout))
}

fn wait_any_with(awaited: &[(&dyn Awaited, u64)], patience: &mut Patience) -> Result<Vec<usize>> {
    let mut sleeper = Sleeper::new(awaited.iter().map(|(one, _)| *one));
    protocol::wait_any(awaited, patience, &mut sleeper)
        .map_err(|(at, failure)| awaited[at].0.explain(failure))
}

impl Store {
    /// Waits until one of these slots has another version than the one beside it, which is
    /// the one that was seen; at most `timeout` (`None`: for ever). Returns the positions of
    /// those that have; none when the time is over. They may be of any kinds, and of several
    /// stores. No change is missed: one that came before the call ends it at once.
    ///
    /// On Linux 5.16 and later, up to 128 slots are waited for asleep, until whoever changes
    /// one wakes this thread. Of more slots, on older kernels, and of stores opened
    /// read-only, the versions are looked at every millisecond.
    ///
    /// # Errors
    ///
    /// [`Error::Removed`](crate::Error::Removed) if one of them is, or becomes, removed;
    /// [`Error::Deadlock`](crate::Error::Deadlock) if this thread has one of them locked.
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
        let awaited: Vec<_> = slots.iter().map(|(slot, seen)| (slot.target().0, *seen)).collect();
        wait_any(&awaited, timeout)
    }
}

impl<M: SlotMemory> Handle<M> {
    /// Waits until the slot has another version than `seen`, which is returned.
    pub(crate) fn wait_for_change(
        &self,
        seen: u64,
        timeout: Option<Duration>,
    ) -> Result<Option<u64>> {
        let changed = wait_any(&[(self, seen)], timeout)?;
        Ok((!changed.is_empty()).then(|| self.version()))
    }

    /// Waits until `condition` holds of the content that `load` has loaded with its version.
    pub(crate) fn wait_until<T>(
        &self,
        timeout: Option<Duration>,
        load: impl Fn() -> (T, u64),
        mut condition: impl FnMut(&T) -> bool,
    ) -> Result<Option<T>> {
        let mut patience = Patience::new(timeout);
        loop {
            let (content, version) = load();
            self.look().map_err(|failure| Handle::explain(self, failure, &patience))?;
            if condition(&content) {
                return Ok(Some(content));
            }
            // Looked at in each round: changes may come faster than the time goes.
            if patience.is_over() {
                return Ok(None);
            }
            if wait_any_with(&[(self, version)], &mut patience)?.is_empty() {
                return Ok(None);
            }
        }
    }
}
