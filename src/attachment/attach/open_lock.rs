//! Whether others have the file open, and the progress that is shown to those who wait for the open
//! lock or for a sync.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use super::Attachment;
use crate::error::{Error, Result};
use crate::format::layout::{COMMON_BYTE, live};
use crate::mapping::map::Map;
use crate::os::sys;

impl Attachment {
    /// Whether any process has this file attached, not counting this process's other attachments.
    pub(crate) fn is_attached_elsewhere(map: &Map) -> std::io::Result<bool> {
        sys::byte_is_locked(map.file().own().as_fd(), COMMON_BYTE)
    }

    /// Whether it can be told if others have this file attached. It cannot once this program has
    /// closed the store's descriptor: the old file description is still attached.
    pub(crate) fn tells_if_alone(&self) -> bool {
        self.map.file().own();
        self.map.file().times_lost() == 0
    }

    /// Runs `f` under the open lock, if the lock is free and no other process is attached.
    pub(crate) fn if_alone(&self, f: impl FnOnce() -> Result<()>) -> Result<()> {
        let file = self.map.file().own();
        if !sys::try_lock_file(file).unwrap_or(false) {
            return Ok(()); // somebody is opening it, or leaving
        }
        let result = match Self::is_attached_elsewhere(&self.map) {
            Ok(false) => self.with_progress(f),
            _ => Ok(()),
        };
        sys::unlock_file(file).map_err(|e| Error::io(&self.path, "cannot unlock it", e))?;
        result
    }

    /// Runs `f`, which may take long, under the open lock. Those who wait for that lock are shown
    /// its progress.
    pub(crate) fn with_progress<R>(&self, f: impl FnOnce() -> R) -> R {
        // Relaxed, here and below: this same thread reads it.
        self.process().opening.store(true, Ordering::Relaxed);
        let result = f();
        self.process().opening.store(false, Ordering::Relaxed);
        result
    }

    /// Counts progress here as progress of the store from which this one is being made.
    pub(crate) fn set_original(&self, original: &Attachment) {
        if let Some(original) = original.this.upgrade() {
            let _ = self.original.set(original);
        }
    }

    /// Counts one step of a long operation. Only the holder of the open lock counts: a foreign
    /// program that holds the lock must not seem to progress because of what others do.
    pub(crate) fn note_progress(&self) {
        if let Some(original) = self.original.get() {
            return original.note_progress();
        }
        // Relaxed: only a change of the count means anything, and there is one holder.
        let count = |word: usize| {
            let steps = self.live.load(word, Ordering::Relaxed);
            self.live.store(word, steps.wrapping_add(1), Ordering::Relaxed);
        };
        if self.writable && self.process().opening.load(Ordering::Relaxed) {
            count(live::PROGRESS);
        }
        if self.header.minor >= 1 && self.process().syncing.load(Ordering::Relaxed) {
            count(live::SYNC_PROGRESS);
        }
    }

    /// Notes whether this process has the sync lock, so that its progress is counted.
    pub(crate) fn set_syncing(&self, syncing: bool) {
        // Relaxed: this same thread reads it.
        self.process().syncing.store(syncing, Ordering::Relaxed);
    }

    /// Shows other processes that this one is attached.
    pub(crate) fn announce(&self) -> Result<()> {
        let locked = self.map.file().lock_common(COMMON_BYTE).map_err(|e| self.cannot_lock(e))?;
        if !locked {
            let what = "a program that is not slotfile has locked its common byte".into();
            return Err(Error::Unsupported { path: self.path.clone(), what });
        }
        Ok(())
    }
}
