//! Waiting in tasks: the `async` forms of the methods in `wait.rs` and `watch.rs`.

use crate::attachment::attach::Failure;
use crate::error::Result;
use crate::slots::array::Array;
use crate::slots::buffer::Buffer;
use crate::slots::slot::Slot;
use crate::slots::text::{Bytes, Text};
use crate::slots::value::Value;
use crate::slots::wait::sealed::Sealed;
use crate::slots::wait::{Awaitable, Awaited, check_attached};
use crate::store::store::Store;
use crate::types::data::Data;
use crate::types::element::Element;
use crate::waiting::reactor::Registration;
use crate::waiting::watch::{SlotChange, Watch};

/// Waits until the version of one of these differs from the one beside it. Returns the positions
/// of those that differ, or an error and its position.
async fn wait_any(
    awaited: &[(&dyn Awaited, u64)],
) -> std::result::Result<Vec<usize>, (usize, Failure)> {
    let mut was_woken = false;
    loop {
        let mut changed = Vec::new();
        for (at, (slot, seen)) in awaited.iter().enumerate() {
            let (_, version) = slot.look().map_err(|failure| (at, failure))?;
            if version != *seen {
                changed.push(at);
            }
        }
        if !changed.is_empty() {
            return Ok(changed);
        }
        if was_woken {
            let attached = check_attached(awaited.iter().map(|(slot, _)| slot.session()));
            attached.map_err(|error| (0, Failure::Peers(error)))?;
        }
        let shared = awaited.iter().map(|(slot, seen)| (slot.share(), *seen)).collect();
        let registration = Registration::new(shared);
        registration.map_err(|error| (0, Failure::Peers(error)))?.woken().await;
        was_woken = true;
    }
}

impl Store {
    /// As [`wait_any`](Store::wait_any), in a task. For time-outs, see
    /// [`Value::wait_until_async`](crate::Value::wait_until_async).
    ///
    /// # Errors
    ///
    /// As [`Value::wait_for_change_async`](crate::Value::wait_for_change_async).
    pub async fn wait_any_async(&self, slots: &[(&dyn Awaitable, u64)]) -> Result<Vec<usize>> {
        let awaited: Vec<_> = slots.iter().map(|(slot, seen)| (slot.target().0, *seen)).collect();
        wait_any(&awaited).await.map_err(|(at, failure)| awaited[at].0.explain(failure))
    }
}

async fn wait_for_change(slot: &dyn Awaited, seen: u64) -> Result<u64> {
    wait_any(&[(slot, seen)]).await.map_err(|(_, failure)| slot.explain(failure))?;
    let (_, version) = slot.look().map_err(|failure| slot.explain(failure))?;
    Ok(version)
}

async fn wait_until<T>(
    slot: &dyn Awaited,
    load: impl Fn() -> Result<(T, u64)>,
    mut condition: impl FnMut(&T) -> bool,
) -> Result<T> {
    loop {
        let (content, version) = load()?;
        slot.look().map_err(|failure| slot.explain(failure))?;
        if condition(&content) {
            return Ok(content);
        }
        wait_for_change(slot, version).await?;
    }
}

macro_rules! async_methods {
    ($([$($generics:tt)*] $handle:ty, $content:ty, $borrowed:ty, $borrow:expr;)*) => {$(
        impl $($generics)* $handle {
            /// As `wait_until`, in a task, on any executor. It has no time-out: wrap it
            /// in `tokio::time::timeout`, or the executor's equivalent. It may be dropped at
            /// any moment.
            ///
            /// One thread of the process waits for all of its tasks. On Linux 5.16 and later it
            /// sleeps. Slots that can only be polled (see
            /// [`Store::wait_any`](crate::Store::wait_any)) it polls at first every millisecond, in
            /// the end every 50 ms.
            ///
            /// ```
            /// use std::time::Duration;
            /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            /// # runtime.unwrap().block_on(async {
            /// let store = slotfile::Store::temporary()?;
            /// let hits = store.value::<u64>("hits")?;
            /// hits.store(1000)?; // by anybody, at any time
            /// let until = hits.wait_until_async(|hits| hits >= 1000);
            /// let seen = tokio::time::timeout(Duration::from_secs(5), until).await.expect("in time")?;
            /// assert_eq!(seen, 1000);
            /// # Ok::<(), slotfile::Error>(())
            /// # })?;
            /// # Ok::<(), slotfile::Error>(())
            /// ```
            ///
            /// # Errors
            ///
            /// As [`wait_for_change_async`](Self::wait_for_change_async).
            pub async fn wait_until_async(
                &self,
                mut condition: impl FnMut($borrowed) -> bool,
            ) -> Result<$content> {
                let borrow: fn(&$content) -> $borrowed = $borrow;
                let load = || Ok(self.load_versioned());
                wait_until(self.target().0, load, |content| condition(borrow(content))).await
            }

            /// As `wait_for_change`, in a task; see
            /// [`wait_until_async`](Self::wait_until_async).
            ///
            /// # Errors
            ///
            /// [`Error::Removed`](crate::Error::Removed) if the slot is, or becomes, removed;
            /// [`Error::Io`](crate::Error::Io) if the process cannot start another thread;
            /// [`Error::Detached`](crate::Error::Detached) if the store's file was deleted, moved
            /// or replaced, which is checked every second.
            pub async fn wait_for_change_async(&self, seen: u64) -> Result<u64> {
                wait_for_change(self.target().0, seen).await
            }
        }
    )*};
}

async_methods! {
    [<T: Element>] Value<T>, T, T, |value| *value;
    [<T: Element>] Array<T>, Vec<T>, &[T], |elements| elements;
    [<T: Element>] Buffer<T>, Vec<T>, &[T], |elements| elements;
    [] Text, String, &str, |text| text;
    [] Bytes, Vec<u8>, &[u8], |bytes| bytes;
    [] Slot, Data, &Data, |content| content;
}

impl Watch {
    /// As [`next`](Watch::next), in a task; see
    /// [`Value::wait_until_async`](crate::Value::wait_until_async). If it is dropped, the next call
    /// returns what this one has not.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) if the directory is damaged;
    /// [`Error::Io`](crate::Error::Io) if the process cannot start another thread;
    /// [`Error::Detached`](crate::Error::Detached) if the file was deleted, moved or
    /// replaced, which is checked every second.
    pub async fn next_async(&mut self) -> Result<SlotChange> {
        loop {
            if let Some(change) = self.find()? {
                return Ok(change);
            }
            let definitions = self.definitions();
            let awaited = self.awaited(&definitions);
            match wait_any(&awaited).await {
                // A removed slot is left out when the slots are scanned again.
                Ok(_) | Err((_, Failure::Removed)) => {}
                Err((at, failure)) => return Err(awaited[at].0.explain(failure)),
            }
        }
    }
}
