//! [`Counter`]: one number that many processes add to at once, in parts on cache lines of their
//! own.

use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use crate::error::Result;
use crate::mapping::map::Region;
use crate::mutant::planted;
use crate::os::sys;
use crate::protocol::Held;
use crate::slots::handle::Handle;
use crate::store::session::SharedSession;
use crate::store::store::Store;
use crate::types::define::Define;
use crate::types::slot_type::{STRIPE, STRIPES, SlotType};

/// A slot of one `i64` that many threads and processes add to without pause, and that is read now
/// and then.
///
/// It has 64 parts, the *stripes*, each on a cache line of its own. An add changes the stripe of
/// the processor that it runs on, by one atomic instruction: it waits for nobody, and threads on
/// different processors do not take the line from each other. A load sums up the stripes, wrapping
/// around. So an add costs about as much as an atomic add to a number that nobody else has, at any
/// number of processes; a load reads 64 cache lines.
///
/// **Exact.** Each add is counted once, whole, and lasts as all else does: through kills, and
/// through a power cut once a sync has begun after it. A load includes every add that happened
/// before it. Of adds that run at the same time it may include a later one and not an earlier one:
/// it is no snapshot. While nobody adds a negative number or stores, what a thread loads never
/// becomes less.
///
/// An add returns nothing: nobody knows what the number was at that moment. Where that matters, use
/// a [`Value`](crate::Value). So too for transactions, snapshots and groups, which refuse a
/// counter, and for waiting: an add wakes nobody. [`Slot`](crate::Slot) tells its version, which
/// changes with [`store`](Counter::store) and [`swap`](Counter::swap), not with adds.
///
/// ```
/// let store = slotfile::Store::temporary()?;
/// let hits = store.counter("hits")?;
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| (0..1000).for_each(|_| hits.add(1).unwrap())); // in whatever process
///     }
/// });
/// assert_eq!(hits.load(), 4000);
/// assert_eq!(hits.swap(0)?, 4000); // loses no add that comes meanwhile
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Counter {
    pub(crate) handle: Handle,
    pub(crate) stripes: Stripes,
}

impl Store {
    /// Opens the counter of this name, or defines it as zero. It takes 8 KiB, and 16 KiB more for
    /// its checkpoints.
    ///
    /// # Errors
    ///
    /// As [`value`](Store::value); [`Error::Invalid`](crate::Error::Invalid) if it does not exist
    /// and the store is of format 1.0, which has no counters: `slotfile compact` makes a store of
    /// it that has.
    pub fn counter(&self, name: &str) -> Result<Counter> {
        self.counter_with(name, Define::new())
    }

    /// As [`counter`](Store::counter), with settings for a new slot.
    ///
    /// # Errors
    ///
    /// As [`counter`](Store::counter).
    pub fn counter_with(&self, name: &str, define: Define<i64>) -> Result<Counter> {
        let handle = self.open_slot(name, &SlotType::Counter, define)?;
        let stripes = Stripes::new(&handle);
        Ok(Counter { handle, stripes })
    }
}

impl Counter {
    /// The slot's name.
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// Whether the slot was removed. `load` still returns its last value.
    pub fn is_removed(&self) -> bool {
        self.handle.is_removed()
    }

    /// Adds `n`, which may be negative, wrapping around. Never waits.
    ///
    /// # Errors
    ///
    /// [`Error::Removed`](crate::Error::Removed), [`Error::ReadOnly`](crate::Error::ReadOnly).
    #[inline]
    pub fn add(&self, n: i64) -> Result<()> {
        self.handle.check_usable()?;
        self.stripes.add(n);
        Ok(())
    }

    /// Returns the sum of all that was added. Never waits.
    #[inline]
    pub fn load(&self) -> i64 {
        self.stripes.sum()
    }

    /// Replaces the number; returns the old one. Each add that comes meanwhile is either in what
    /// this returns, or stays in the counter. Waits while another thread replaces it, or has its
    /// [lock](crate::Slot::lock); adds and loads do not wait for this.
    ///
    /// # Errors
    ///
    /// As [`Value::store`](crate::Value::store);
    /// [`Error::TooManyProcesses`](crate::Error::TooManyProcesses).
    pub fn swap(&self, new: i64) -> Result<i64> {
        let lock = self.handle.lock_for_update()?;
        let old = self.stripes.sum();
        self.stripes.replace(&self.handle, lock, old, new)?;
        Ok(old)
    }

    /// Replaces the number, see [`swap`](Counter::swap).
    ///
    /// # Errors
    ///
    /// As [`swap`](Counter::swap).
    pub fn store(&self, new: i64) -> Result<()> {
        self.swap(new).map(|_| ())
    }

    /// The same slot with its own lock time-out, in place of its store's; `None`: waits for ever.
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Option<Duration>) -> Counter {
        self.handle.set_lock_timeout(timeout);
        self
    }
}

/// The memory of a counter: atomics of which only adds change any, each by one instruction. So
/// whatever is read of them, at whatever moments, is a sum of whole adds.
#[derive(Clone, Debug)]
pub(crate) struct Stripes(Region<SharedSession>);

impl Stripes {
    pub(crate) fn new(handle: &Handle) -> Stripes {
        let area = handle.memory.areas();
        Stripes(handle.memory.region().subregion(area.first, area.words))
    }

    #[inline]
    fn add(&self, n: i64) {
        // Release: a thread that sees the sum sees all that was done before the add. (Adds by
        // others in between keep this.)
        self.0.words()[own_stripe() * STRIPE].fetch_add(n.cast_unsigned(), Release);
    }

    #[inline]
    pub(crate) fn sum(&self) -> i64 {
        let first = usize::from(planted!(AStripeIsNotSummed));
        let stripes = self.0.words().iter().step_by(STRIPE).skip(first);
        // Acquire: as in `add`.
        let sum = stripes.fold(0, |sum: u64, stripe| sum.wrapping_add(stripe.load(Acquire)));
        sum.cast_signed()
    }

    /// Makes `old` into `new` under the slot's lock, by adding the difference: so what others add
    /// meanwhile is kept, and a kill leaves all of the change or nothing.
    pub(crate) fn replace(
        &self,
        handle: &Handle,
        lock: Held<&Handle>,
        old: i64,
        new: i64,
    ) -> Result<()> {
        handle.check_lock(&lock)?;
        let old = if planted!(ASwapOverwrites) { self.sum() } else { old };
        self.add(new.wrapping_sub(old));
        handle.notify(lock).map(|_| ())
    }
}

/// For how many adds a thread keeps to a stripe. To ask for the processor may take a system call.
const KEPT_FOR: u32 = 64;

thread_local! {
    /// The stripe of this thread, and for how many more adds.
    static OWN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// That of the processor on which this thread runs, or has lately run. If it is another one's by
/// now, or that of two, the adds are slower, and as exact.
#[inline]
fn own_stripe() -> usize {
    let (stripe, left) = OWN.get();
    if left == 0 {
        return look_for_stripe();
    }
    OWN.set((stripe, left - 1));
    stripe as usize
}

#[cold]
fn look_for_stripe() -> usize {
    let stripe = sys::processor() % STRIPES;
    OWN.set((stripe as u32, KEPT_FOR - 1));
    stripe
}
