//! [`Value`]: a slot of one scalar.

use std::marker::PhantomData;
use std::time::Duration;

use crate::error::Result;
use crate::protocol;
use crate::slots::fetch::fetch_methods;
use crate::slots::guard::lock_methods;
use crate::slots::handle::{Handle, common_methods};
use crate::slots::wait::sealed::{Sealed, Target};
use crate::store::store::Store;
use crate::types::define::Define;
use crate::types::element::{Bits, Element, Number};
use crate::types::slot_type::SlotType;

/// A slot of one scalar, with the operations of std's atomics.
///
/// Every load acquires, every update is acquire-release. Reads never wait; updates are
/// lock-free, except while somebody holds the slot's [`lock`](Value::lock).
///
/// ```
/// let store = slotfile::Store::temporary()?;
/// let hits = store.value::<u64>("hits")?;
/// assert_eq!(hits.fetch_add(5)?, 0);
/// assert_eq!(hits.compare_exchange(5, 6)?, Ok(5));
/// assert_eq!(hits.compare_exchange(5, 7)?, Err(6));
/// assert_eq!(hits.load(), 6);
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Value<T> {
    pub(crate) handle: Handle,
    element: PhantomData<T>,
}

impl Store {
    /// Opens the value of this name, or defines it as zero (or `false`).
    ///
    /// # Errors
    ///
    /// [`Error::Type`](crate::Error::Type) if it has another type;
    /// [`Error::BadName`](crate::Error::BadName). If it does not exist:
    /// [`Error::Full`](crate::Error::Full), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), or
    /// [`Error::NotFound`](crate::Error::NotFound) if this opener defines nothing.
    pub fn value<T: Element>(&self, name: &str) -> Result<Value<T>> {
        match self.find_value(name, T::TYPE) {
            Some(handle) => Ok(Value { handle, element: PhantomData }),
            None => self.value_with(name, Define::new()),
        }
    }

    /// As [`value`](Store::value), with settings for a new slot.
    ///
    /// # Errors
    ///
    /// As [`value`](Store::value).
    pub fn value_with<T: Element>(&self, name: &str, define: Define<T>) -> Result<Value<T>> {
        let handle = self.open_slot(name, &SlotType::Value(T::TYPE), define)?;
        Ok(Value { handle, element: PhantomData })
    }
}

impl<T: Element> Value<T> {
    common_methods!();
    lock_methods!();

    /// Returns the value. Never waits.
    #[inline]
    pub fn load(&self) -> T {
        T::from_bits(protocol::load_scalar(&self.handle.memory, self.handle.attachment()))
    }

    /// Returns the value and its version.
    pub fn load_versioned(&self) -> (T, u64) {
        let (bits, version) =
            protocol::load_scalar_versioned(&self.handle.memory, self.handle.attachment());
        (T::from_bits(bits), version)
    }

    /// Waits until `condition` is true of the value, for at most `timeout` (`None`: for ever).
    /// Returns it, or `None` on time-out. `condition` is called at once, then after each
    /// change (once for several changes that come together).
    ///
    /// # Errors
    ///
    /// As [`wait_for_change`](Value::wait_for_change).
    ///
    /// ```
    /// use std::time::Duration;
    /// let store = slotfile::Store::temporary()?;
    /// let hits = store.value::<u64>("hits")?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| hits.fetch_add(1000)); // in whatever process
    ///     let seen = hits.wait_until(|hits| hits >= 1000, Some(Duration::from_secs(5)))?;
    ///     assert_eq!(seen, Some(1000));
    ///     Ok::<(), slotfile::Error>(())
    /// })?;
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn wait_until(
        &self,
        mut condition: impl FnMut(T) -> bool,
        timeout: Option<Duration>,
    ) -> Result<Option<T>> {
        let load = || Ok(self.load_versioned());
        self.handle.wait_until(timeout, load, |value| condition(*value))
    }

    /// Replaces the value.
    ///
    /// # Errors
    ///
    /// As for all updates: [`Error::Removed`](crate::Error::Removed),
    /// [`Error::ReadOnly`](crate::Error::ReadOnly); and if somebody holds the lock,
    /// [`Error::LockTimeout`](crate::Error::LockTimeout) or
    /// [`Error::Deadlock`](crate::Error::Deadlock).
    #[inline]
    pub fn store(&self, new: T) -> Result<()> {
        self.fetch(|_| new).map(|_| ())
    }

    /// Replaces the value; returns the old one.
    ///
    /// # Errors
    ///
    /// As [`store`](Value::store).
    pub fn swap(&self, new: T) -> Result<T> {
        self.fetch(|_| new)
    }

    /// Replaces the value if it equals `current` bit by bit (so a NaN equals itself, and 0.0
    /// is not -0.0). The inner result is `Ok` with the old value if it was replaced,
    /// else `Err` with the present one.
    ///
    /// # Errors
    ///
    /// As [`store`](Value::store).
    pub fn compare_exchange(&self, current: T, new: T) -> Result<Result<T, T>> {
        self.handle.check_not_updating()?;
        self.replace(|now| (now.to_bits() == current.to_bits()).then_some(new))
    }

    /// Replaces the value by `f` of it; returns the old one. `f` runs again if others update the
    /// value meanwhile. Another update of this value inside `f` is
    /// [`Error::Deadlock`](crate::Error::Deadlock).
    ///
    /// # Errors
    ///
    /// As [`store`](Value::store).
    pub fn update(&self, mut f: impl FnMut(T) -> T) -> Result<T> {
        let _updating = self.handle.begin_update()?;
        self.replace(|now| Some(f(now))).map(either)
    }

    /// Replaces the value by `f` of it, or leaves it if `f` returns `None`. The inner
    /// result holds the old value, in `Ok` if it was replaced. For `f`, see
    /// [`update`](Value::update).
    ///
    /// # Errors
    ///
    /// As [`store`](Value::store).
    pub fn try_update(&self, f: impl FnMut(T) -> Option<T>) -> Result<Result<T, T>> {
        let _updating = self.handle.begin_update()?;
        self.replace(f)
    }

    /// Replaces the value by `f` of it. `f` is not the user's.
    #[inline]
    fn fetch(&self, f: impl Fn(T) -> T) -> Result<T> {
        self.handle.check_not_updating()?;
        self.replace(|now| Some(f(now))).map(either)
    }

    #[inline]
    fn replace(&self, mut f: impl FnMut(T) -> Option<T>) -> Result<Result<T, T>> {
        match self.handle.replace(|bits| f(T::from_bits(bits)).map(T::to_bits))? {
            Ok(old) => Ok(Ok(T::from_bits(old))),
            Err(now) => Ok(Err(T::from_bits(now))),
        }
    }
}

impl<T: Element> Sealed for Value<T> {
    fn target(&self) -> Target<'_> {
        Target(&self.handle)
    }
}

/// The old value, replaced or not.
fn either<T>(result: Result<T, T>) -> T {
    let (Ok(value) | Err(value)) = result;
    value
}

fetch_methods!(Value, fetch, "the value", "As [`store`](Value::store).");
