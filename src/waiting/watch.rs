//! [`Watch`]: waiting for all slots whose names match, including those defined later.

use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use crate::attachment::attach::{Attachment, Failure};
use crate::attachment::descriptors;
use crate::directory;
use crate::error::{Error, Result};
use crate::format::layout::live;
use crate::mapping::map::Region;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::protocol::{self, Await, Control, Deadline, Memory};
use crate::slots::slot::Slot;
use crate::slots::wait::sealed::Sealed;
use crate::slots::wait::{Awaited, Look, Wait, wait};
use crate::store::session::Session;
use crate::store::store::Store;
use crate::types::data::Data;
use crate::types::glob::Glob;

/// Waits for changes of all slots whose names match a pattern; from [`Store::watch`].
///
/// ```
/// use std::time::Duration;
/// let store = slotfile::Store::temporary()?;
/// let mut watch = store.watch("flags/*")?;
/// store.value::<bool>("flags/dark")?.store(true)?; // by anybody, at any time from here on
/// let change = watch.next(Some(Duration::from_secs(1)))?.expect("in time");
/// assert_eq!(change.slot.name(), "flags/dark");
/// assert_eq!(change.content, true.into());
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Debug)]
pub struct Watch {
    store: Store,
    glob: Glob,
    /// Definitions on lines of the directory that have not been looked at.
    definitions: DefinitionWatch,
    slots: Vec<Watched>,
    /// The slots that had changed at the last scan, the next to return last. So a slot that changes
    /// all the time does not hide the others, and one scan serves many changes.
    changed: Vec<usize>,
}

#[derive(Debug)]
struct Watched {
    slot: Slot,
    /// The last version that was returned, if any.
    seen: Option<u64>,
    /// Its removal was reported, or need not be.
    is_gone: bool,
}

/// A changed slot, as [`Watch::next`] returns it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SlotChange {
    /// The slot.
    pub slot: Slot,
    /// Its latest version. The distance from the version returned before shows how many were
    /// skipped.
    pub version: u64,
    /// The content of that version.
    pub content: Data,
    /// Whether the slot was removed; nothing more is reported of it then.
    pub removed: bool,
}

impl Store {
    /// Returns the slots whose names match, in the order of their definition. In a pattern, `*`
    /// matches any run of characters, including `/`; `?` one character; `[...]` a set; `\` escapes.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the pattern is not valid; [`Error::Corrupt`] if the directory is
    /// damaged.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// store.value::<f64>("arm/x")?;
    /// store.value::<f64>("arm/y")?;
    /// store.value::<f64>("leg/x")?;
    /// assert_eq!(store.slots_matching("arm/*")?.len(), 2);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn slots_matching(&self, pattern: &str) -> Result<Vec<Slot>> {
        let glob = self.glob(pattern)?;
        let mut slots = self.slots()?;
        slots.retain(|slot| glob.matches(slot.name()));
        Ok(slots)
    }

    /// Watches all slots whose names match (see [`slots_matching`](Store::slots_matching)),
    /// including those defined later. A removal is reported once.
    ///
    /// An add to a [`Counter`](crate::Counter) has no version and wakes nobody, so it is not reported.
    /// Of the counters among the slots, only `store`, `swap` and the removal are. A pattern that is the
    /// name of a counter is refused.
    ///
    /// # Errors
    ///
    /// As [`slots_matching`](Store::slots_matching); [`Error::Invalid`] if the pattern is the name of a
    /// counter.
    pub fn watch(&self, pattern: &str) -> Result<Watch> {
        let glob = self.glob(pattern)?;
        let mut watch = Watch {
            store: self.clone(),
            glob,
            definitions: DefinitionWatch::new(self),
            slots: Vec::new(),
            changed: Vec::new(),
        };
        watch.look_for_new_slots()?;
        for watched in &mut watch.slots {
            watched.seen = Some(watched.slot.version());
        }
        Ok(watch)
    }
}

impl Watch {
    /// The same watch, but it first returns the present state of each slot.
    pub fn with_present(mut self) -> Watch {
        for watched in &mut self.slots {
            watched.seen = None;
        }
        self.changed.clear();
        self
    }

    /// Waits until a slot has a version that this has not returned yet, for at most `timeout`
    /// (`None`: for ever). For a slot that existed when the watch began, that is any later version;
    /// for a slot defined since, any version. Removals are returned too
    /// ([`SlotChange::removed`]). `None` on time-out.
    ///
    /// The last state of each slot is never missed, but for adds to counters (see
    /// [`Store::watch`]); states in between may be. It sleeps until
    /// it is woken, as [`wait_any`](Store::wait_any); on a store opened read-only, or of format
    /// 1.0, it polls.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the directory is damaged; [`Error::Invalid`] if the pattern is the name
    /// of a counter, defined since; [`Error::Deadlock`] if this thread has one of the slots locked;
    /// [`Error::Detached`] if the file was deleted, moved or replaced, so
    /// that others' changes go to another file. This is checked after each second without a change.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<SlotChange>> {
        wait(self, timeout)
    }

    /// A slot whose version has not been returned yet.
    fn find(&mut self) -> Result<Option<SlotChange>> {
        loop {
            while let Some(at) = self.changed.pop() {
                let Watched { slot, seen, is_gone } = &mut self.slots[at];
                let removed = slot.is_removed();
                *is_gone = removed;
                // The removal of a slot that was never reported is not reported either.
                if removed && seen.is_none() || !removed && *seen == Some(slot.version()) {
                    continue;
                }
                let (content, version) = slot.try_load_versioned()?;
                *seen = Some(version);
                return Ok(Some(SlotChange { slot: slot.clone(), version, content, removed }));
            }
            self.look_for_new_slots()?;
            self.slots.retain(|watched| !watched.is_gone);
            let slots = self.slots.iter().enumerate().rev();
            let changed = slots.filter(|(_, Watched { slot, seen, .. })| {
                slot.is_removed() || *seen != Some(slot.version())
            });
            self.changed = changed.map(|(at, _)| at).collect();
            if self.changed.is_empty() {
                return Ok(None);
            }
        }
    }

    fn look_for_new_slots(&mut self) -> Result<()> {
        let attachment = self.store.attachment();
        let count = descriptors::count(attachment)?;
        directory::each_slot(attachment, self.definitions.seen, count, |found| {
            let slot = Slot::new(self.store.handle(found))?;
            if self.glob.matches(slot.name()) {
                if self.glob.is_name() && !planted!(ACounterIsWatchedInSilence) {
                    slot.target().0.check_announced()?;
                }
                self.slots.push(Watched { slot, seen: None, is_gone: false });
            }
            Ok(())
        })?;
        self.definitions.seen = count;
        Ok(())
    }
}

impl Wait for &mut Watch {
    type Output = SlotChange;

    fn look(&mut self) -> Result<Look<'_, SlotChange>> {
        if let Some(change) = self.find()? {
            return Ok(Look::Ready(change));
        }
        let slots = self.slots.iter();
        let slots = slots.map(|w| (w.slot.target().0, w.seen.expect("every slot was looked at")));
        let definitions: (&dyn Awaited, u64) = (&self.definitions, self.definitions.seen.into());
        Ok(Look::Pending(slots.chain([definitions]).collect()))
    }
}

/// The count of the directory's lines, as something to wait for. Defining a slot takes the
/// directory's lock, and ends it with a new version: that wakes those who wait for a change of it.
#[derive(Clone, Debug)]
pub(crate) struct DefinitionWatch {
    store: Store,
    lock: SlotMemory,
    seen: u32,
}

impl DefinitionWatch {
    fn new(store: &Store) -> DefinitionWatch {
        let lock = store.attachment().lock(live::DIRECTORY_LOCK);
        DefinitionWatch { store: store.clone(), lock, seen: 0 }
    }

    fn attachment(&self) -> &Attachment {
        self.store.attachment()
    }

    fn count(&self) -> u64 {
        descriptors::count(self.attachment()).map_or(u64::MAX, u64::from)
    }
}

impl Await for DefinitionWatch {
    type Error = Error;

    /// A damaged count is a change: the next look finds the damage.
    fn look(&self) -> Result<(Control, u64), Failure> {
        // Acquire: the count is read after it.
        Ok((self.lock.control(Acquire), self.count()))
    }

    fn announce(&self, seen: Control) -> Result<Option<Control>, Failure> {
        let announced = protocol::announce(&self.lock, self.attachment(), seen)?;
        // A lock that was taken and released leaves no trace in the control word. But a thread that
        // takes it from now on finds W.
        Ok(announced.filter(|_| planted!(CountsTooEarly) || self.count() == u64::from(self.seen)))
    }
}

impl Awaited for DefinitionWatch {
    fn futex(&self) -> Option<Region> {
        self.attachment().writable.then(|| self.lock.region().clone())
    }

    fn session(&self) -> &Session {
        &self.store.session
    }

    fn check_announced(&self) -> Result<()> {
        Ok(())
    }

    fn lock_error(&self, failure: Failure) -> Error {
        self.attachment().lock_error("the directory", failure, &Deadline::new(None))
    }

    #[cfg(feature = "tokio")]
    fn key(&self) -> (usize, u64) {
        (self.lock.region().address(), u64::from(self.seen))
    }

    #[cfg(feature = "tokio")]
    fn share(&self) -> std::sync::Arc<dyn Awaited> {
        std::sync::Arc::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A definition between the look and W leaves no trace in the lock's control word.
    #[test]
    fn a_definition_that_comes_before_w_is_not_slept_over() {
        let store = Store::temporary().unwrap();
        let definitions = store.watch("*").unwrap().definitions;
        let (control, count) = definitions.look().unwrap();
        assert!(definitions.announce(control).unwrap().is_some(), "nothing has happened");
        let (control, same) = definitions.look().unwrap();
        assert_eq!(count, same);
        store.value::<u8>("x").unwrap();
        assert!(definitions.announce(control).unwrap().is_none(), "asleep");
        // Nor if nobody has cleared W, because nobody had set it: the lock's version has changed.
        let definitions = store.watch("*").unwrap().definitions;
        let (control, _) = definitions.look().unwrap();
        store.value::<u8>("y").unwrap();
        assert_ne!(definitions.look().unwrap().0, control, "nobody would be woken");
        assert!(definitions.announce(control).unwrap().is_none(), "asleep");
    }
}
