//! What is known of the file as a whole: whether it was replaced, which processes have it open, and
//! whether its last sync failed.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::Attachment;
use crate::error::{Error, Result};
use crate::format::layout::live;
use crate::mutant::planted;
use crate::os::descriptor::FileId;
use crate::os::process;
use crate::os::time::seconds_since_1970;
use crate::types::attached_process::AttachedProcess;

/// The word that says when a file was superseded: the time in its lower half, then its complement.
fn superseded_word(seconds: u32) -> u64 {
    u64::from(seconds) | u64::from(!seconds) << 32
}

fn is_superseded(word: u64) -> bool {
    word == superseded_word(word as u32) || word != 0 && planted!(AnyWordSaysCompacted)
}

impl Attachment {
    /// Whether the file has a name by which others can find it.
    pub(crate) fn has_name(&self) -> bool {
        // A file whose metadata cannot be read may have one.
        self.map.file().metadata().map_or(true, |file| file.nlink() > 0)
    }

    /// Whether a compaction has put a new file in this one's place.
    pub(crate) fn is_superseded(&self) -> bool {
        self.header.minor >= 1 && is_superseded(self.superseded())
    }

    fn superseded(&self) -> u64 {
        // Relaxed: it is set once, forever.
        self.live.load(live::SUPERSEDED, Ordering::Relaxed)
    }

    /// Whether the superseded word is neither zero nor valid. Such a word counts as "no": a flipped
    /// bit must not make a store unusable.
    pub(crate) fn has_strange_superseded(&self) -> bool {
        self.header.minor >= 1 && self.superseded() != 0 && !self.is_superseded()
    }

    /// Sets or clears the superseded word.
    pub(crate) fn set_superseded(&self, superseded: bool) {
        if self.header.minor >= 1 && self.is_superseded() != superseded {
            let when = if superseded { superseded_word(seconds_since_1970() as u32) } else { 0 };
            self.live.store(live::SUPERSEDED, when, Ordering::Relaxed);
        }
    }

    /// An error unless the store may be written; also, once, if a background sync has failed.
    #[inline]
    pub(crate) fn check_takes_writes(&self) -> Result<()> {
        // Relaxed: a mutex protects the error itself.
        if self.takes_writes.load(Ordering::Relaxed) { Ok(()) } else { self.refuse_write() }
    }

    #[cold]
    fn refuse_write(&self) -> Result<()> {
        self.check_writable()?;
        self.takes_writes.store(true, Ordering::Relaxed);
        match self.failed_sync().take() {
            Some(source) => {
                Err(Error::NotSynced { path: self.path.clone(), source: Box::new(source) })
            }
            None => Ok(()),
        }
    }

    /// Makes the next call that writes report this failed sync. `None`: there is none to report.
    pub(crate) fn tell_of_failed_sync(&self, error: Option<Error>) {
        let mut failed = self.failed_sync();
        self.takes_writes.store(self.writable && error.is_none(), Ordering::Relaxed);
        *failed = error;
    }

    fn failed_sync(&self) -> MutexGuard<'_, Option<Error>> {
        self.process().failed_sync.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which other processes have the file open: those that can be seen, or else those that have
    /// registered in the process table.
    pub(crate) fn others_having_it_open(&self) -> Vec<AttachedProcess> {
        let file = self.map.file().metadata().map(|file| FileId::of(&file));
        let mut found = file.map_or_else(|_| Vec::new(), process::having_open);
        if found.is_empty() {
            found = self.openers();
            found.retain(|opener| opener.pid != std::process::id());
        }
        found
    }
}
