//! Waiting in tasks: the `async` forms of the methods in `wait.rs` and `watch.rs`, and of `sync`.

use crate::error::Result;
use crate::slots::array::Array;
use crate::slots::buffer::Buffer;
use crate::slots::slot::Slot;
use crate::slots::text::{Bytes, Text};
use crate::slots::value::Value;
use crate::slots::wait::sealed::Sealed;
use crate::slots::wait::{
    AnyChange, Awaitable, Awaited, Change, Look, Until, Wait, awaited, changed, check_attached,
};
use crate::store::store::Store;
use crate::types::data::Data;
use crate::types::element::Element;
use crate::waiting::reactor::Registration;
use crate::waiting::watch::{SlotChange, Watch};

/// Waits in a task.
async fn wait_async<W: Wait>(mut wait: W) -> Result<W::Output> {
    loop {
        match wait.look()? {
            Look::Ready(output) => return Ok(output),
            Look::Pending(awaited) => until_changed(&awaited).await?,
        }
    }
}

/// Waits until the version of one of these differs from the one beside it, or it is removed.
async fn until_changed(awaited: &[(&dyn Awaited, u64)]) -> Result<()> {
    loop {
        let shared = awaited.iter().map(|(slot, seen)| (slot.share(), *seen)).collect();
        Registration::new(shared)?.woken().await;
        match changed(awaited) {
            // Woken for nothing, as if its file was gone.
            Ok(changed) if changed.is_empty() => {
                check_attached(awaited.iter().map(|(slot, _)| slot.session()))?;
            }
            // The next look finds what was removed.
            _ => return Ok(()),
        }
    }
}

impl Store {
    /// As [`wait_any`](Store::wait_any), in a task. For time-outs, see
    /// [`Value::wait_until_async`](crate::Value::wait_until_async).
    ///
    /// # Errors
    ///
    /// As [`Value::wait_for_change_async`](crate::Value::wait_for_change_async);
    /// [`Error::Invalid`](crate::Error::Invalid) if there are no slots to wait for.
    pub async fn wait_any_async(&self, slots: &[(&dyn Awaitable, u64)]) -> Result<Vec<usize>> {
        wait_async(AnyChange(&awaited(self, slots)?)).await
    }

    /// As [`sync`](Store::sync), in a task, on any executor. It may be dropped at any moment.
    ///
    /// One thread of the process syncs for all of its tasks that wait for a sync of this store, so a
    /// thousand of them share a few flushes. It runs until the store is left, whether the store is
    /// synced in the background or not; [`pause_syncing`](Store::pause_syncing) ends it if no task
    /// waits. The lock time-out counts while another process, or another thread, has the sync lock.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build();
    /// # runtime.unwrap().block_on(async {
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = slotfile::Store::create(folder.path().join("state.slots"))?;
    /// store.value::<u64>("hits")?.fetch_add(1)?;
    /// store.sync_async().await?; // now it survives a power cut
    /// # Ok::<(), slotfile::Error>(())
    /// # })?;
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`sync`](Store::sync); [`Error::Io`](crate::Error::Io) if the process cannot start another
    /// thread. An error of a sync reaches each task for which it was made.
    pub async fn sync_async(&self) -> Result<()> {
        loop {
            let mut place = self.session.sync_for_task(self.settings.lock_timeout)?;
            // In the child of a fork, which has inherited this task, it begins anew.
            if let Some(told) = place.told().await {
                told?;
                self.attachment().tell_of_failed_sync(None);
                return self.check_attached();
            }
        }
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
            /// let until = tokio::time::timeout(Duration::from_secs(5), until);
            /// let seen = until.await.expect("in time")?;
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
                let condition = |content: &_| condition(borrow(content));
                wait_async(Until { slot: self.target().0, load, condition }).await
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
                wait_async(Change { slot: self.target().0, seen }).await
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
        wait_async(self).await
    }
}
