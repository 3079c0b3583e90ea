//! What keeps a store in order: checking it, copying it, compacting it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::attach::Attachment;
use crate::check::{self, Check};
use crate::commit;
use crate::duplicate::duplicate;
use crate::error::{Error, Result};
use crate::layout::FLAG_NO_CHECKPOINT;
use crate::open::{self, Creation};
use crate::protocol::Patience;
use crate::store::Store;
use crate::sync::{Syncer, Turn};

impl Store {
    /// Verifies everything that can be: the directory and its index, that no two slots
    /// overlap, lock words and stale ranges, the process table, and every checksum of the
    /// checkpoint. Others may go on meanwhile.
    ///
    /// # Errors
    ///
    /// Only where the file cannot be read at all: what is wrong is in the result.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = slotfile::Store::create(folder.path().join("state.slots"))?;
    /// store.value::<u64>("hits")?;
    /// assert!(store.check()?.is_ok());
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn check(&self) -> Result<Check> {
        self.check_with(|_| {})
    }

    /// The same; `progress` is told how many bytes have been verified.
    ///
    /// # Errors
    ///
    /// As [`check`](Store::check).
    pub fn check_with(&self, mut progress: impl FnMut(u64)) -> Result<Check> {
        check::check(self.attachment(), self.settings.lock_timeout, &mut progress)
    }

    /// Makes a consistent copy of the store, as it is at one instant, while others go on.
    /// It has the same limits and versions, and not the space of removed slots.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if there is something at `path`; [`Error::NoSpace`];
    /// [`Error::KeepsChanging`]; [`Error::Corrupt`]. Nothing is left at `path` then.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = slotfile::Store::create(folder.path().join("state.slots"))?;
    /// store.value::<u64>("hits")?.store(5)?;
    /// let backup = folder.path().join("backup.slots");
    /// store.copy_to(&backup)?;
    /// assert_eq!(slotfile::Store::open(&backup)?.value::<u64>("hits")?.load(), 5);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn copy_to(&self, path: impl AsRef<Path>) -> Result<()> {
        self.copy_with(path, |_| {})
    }

    /// The same; `progress` is told how many bytes have been copied.
    ///
    /// # Errors
    ///
    /// As [`copy_to`](Store::copy_to).
    pub fn copy_with(&self, path: impl AsRef<Path>, progress: impl FnMut(u64)) -> Result<()> {
        self.copy_shown_as(path.as_ref(), path.as_ref(), progress)
    }

    /// The same; errors speak of `shown` where they mean the copy.
    fn copy_shown_as(&self, path: &Path, shown: &Path, progress: impl FnMut(u64)) -> Result<()> {
        let progress = std::cell::RefCell::new(progress);
        let header = &self.attachment().header;
        let metadata = self
            .attachment()
            .map
            .file()
            .metadata()
            .map_err(|e| Error::io(self.path(), "cannot look at the file", e))?;
        let creation = Creation {
            max_slots: header.max_slots,
            max_size: header.max_size,
            mode: metadata.mode() & 0o777,
            checkpoint: header.flags & FLAG_NO_CHECKPOINT == 0,
            any_file_system: true,
        };
        open::create_with(path, shown, creation, |copy| {
            copy.set_original(self.attachment());
            let mut patience = Patience::new(self.settings.lock_timeout);
            let mut progress = |bytes| progress.borrow_mut()(bytes);
            duplicate(self.attachment(), copy, &mut patience, &mut progress)?;
            if creation.checkpoint {
                Syncer::new().sync(copy, &mut patience, Turn::Wait)?;
            }
            commit::flush(copy).map_err(|e| Error::io(&copy.path, "cannot sync", e))
        })
    }

    /// Gives back the space of removed slots, and their part of `max_slots`: makes the store
    /// anew, without them, and puts that in its place. Nobody else may have it open, nor
    /// this program any other handle of it; others who open it meanwhile wait.
    ///
    /// # Errors
    ///
    /// [`Error::LockTimeout`] if somebody has it open; else as
    /// [`copy_to`](Store::copy_to). The store stays as it was, or all is done but that it
    /// would survive a power cut.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = slotfile::Store::create(folder.path().join("state.slots"))?;
    /// store.value::<u64>("hits")?;
    /// store.remove("hits")?;
    /// let store = store.compact()?;
    /// assert_eq!(store.info()?.definitions_left, store.info()?.max_slots);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn compact(self) -> Result<Store> {
        self.compact_with(|_| {})
    }

    /// The same; `progress` is told how many bytes have been copied.
    ///
    /// # Errors
    ///
    /// As [`compact`](Store::compact).
    pub fn compact_with(self, progress: impl FnMut(u64)) -> Result<Store> {
        self.check_writable()?;
        let path = self.path().to_owned();
        let busy = || Error::LockTimeout {
            path: path.clone(),
            slot: "the whole store (others have it open)".into(),
            holder: None,
            waited: std::time::Duration::ZERO,
        };
        if std::sync::Arc::strong_count(&self.session) > 1 {
            return Err(busy());
        }
        if !self.attachment().tells_if_alone() {
            let why = "this program has closed its descriptor: open it again";
            let why = std::io::Error::other(why);
            return Err(Error::io(&path, "cannot tell whether others have it open", why));
        }
        let cannot = |e| Error::io(&path, "cannot put the new file in its place", e);
        let mut alone = false;
        self.attachment().if_alone(|| {
            alone = true;
            let new = open::unused_name(&path).map_err(cannot)?;
            self.copy_shown_as(&new, &path, progress)?;
            let moved =
                take_over_owner(self.attachment(), &new).and_then(|()| open::replace(&new, &path));
            moved.map_err(|e| {
                let _ = std::fs::remove_file(&new);
                cannot(e)
            })
        })?;
        if !alone {
            return Err(busy());
        }
        let options = self.options();
        // The old file is nobody's any more, so there is no need to sync it.
        self.session.leave_unsynced();
        drop(self);
        options.open(path)
    }
}

/// Gives the new file the owner of the old one, where that is somebody else.
fn take_over_owner(old: &Attachment, new: &Path) -> std::io::Result<()> {
    let (old, there) = (old.map.file().metadata()?, std::fs::metadata(new)?);
    if (old.uid(), old.gid()) == (there.uid(), there.gid()) {
        return Ok(());
    }
    std::os::unix::fs::chown(new, Some(old.uid()), Some(old.gid()))
}
