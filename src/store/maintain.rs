//! Maintenance of a store: checking, copying, compacting.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::attachment::attach::Attachment;
use crate::durability::check::{self, Check, Problem};
use crate::durability::copy_store::duplicate;
use crate::durability::flush;
use crate::durability::syncer::{Syncer, When};
use crate::error::{Error, Result};
use crate::mutant::planted;
use crate::os::descriptor::FileId;
use crate::os::folder::{self, Replaced};
use crate::os::location::Location;
use crate::os::process;
use crate::os::time::Backoff;
use crate::protocol::Deadline;
use crate::store::create::{self, Creation};
use crate::store::registry;
use crate::store::store::Store;
use crate::types::detached::Detached;

impl Store {
    /// Verifies everything that can be: the directory and its index, that no two slots
    /// overlap, lock words and stale ranges, the process table, and every checksum of the
    /// checkpoint. Others may use the store meanwhile.
    ///
    /// # Errors
    ///
    /// Only if the file cannot be read at all. Problems found are in the result.
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

    /// As [`check`](Store::check); `progress` is told how many bytes have been verified.
    ///
    /// # Errors
    ///
    /// As [`check`](Store::check).
    pub fn check_with(&self, mut progress: impl FnMut(u64)) -> Result<Check> {
        let mut check = check::check(self.attachment(), self.settings.lock_timeout, &mut progress)?;
        if let Some(failed) = self.failed_sync() {
            check.problems.push(Problem { slot: None, what: failed.to_string() });
        }
        if let Some(how) = self.detached() {
            check.problems.push(Problem { slot: None, what: how.to_string() });
        }
        Ok(check)
    }

    /// Makes a consistent copy of the store, as it is at one instant, while others use it.
    /// The copy has the same limits and versions, without the space of removed slots.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if `path` exists; [`Error::Invalid`] if it is this store;
    /// [`Error::NoSpace`]; [`Error::KeepsChanging`]; [`Error::Corrupt`]. An error leaves nothing
    /// at `path`.
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

    /// As [`copy_to`](Store::copy_to); `progress` is told how many bytes have been copied.
    ///
    /// # Errors
    ///
    /// As [`copy_to`](Store::copy_to).
    pub fn copy_with(&self, path: impl AsRef<Path>, progress: impl FnMut(u64)) -> Result<()> {
        let path = path.as_ref();
        let there = std::fs::metadata(path).map(|there| FileId::of(&there));
        let own = self.attachment().map.file().metadata().map(|own| FileId::of(&own));
        if matches!((there, own), (Ok(there), Ok(own)) if there == own) {
            let what = format!("{} is this very store; give its copy another name", path.display());
            return Err(Error::Invalid { path: self.path().to_owned(), slot: None, what });
        }
        self.copy_shown_as(path, path, progress)
    }

    /// The same; errors name the copy `shown`.
    fn copy_shown_as(&self, path: &Path, shown: &Path, progress: impl FnMut(u64)) -> Result<()> {
        let progress = std::cell::RefCell::new(progress);
        let header = &self.attachment().header;
        let metadata =
            self.attachment().map.file().metadata().map_err(|e| {
                Error::io(self.path(), "cannot tell the mode of the file (fstat)", e)
            })?;
        let creation = Creation {
            max_slots: header.max_slots,
            max_size: header.max_size,
            mode: metadata.mode() & 0o777,
            checkpoint: header.has_checkpoint(),
            any_file_system: true,
            in_memory: false,
        };
        create::create_with(path, shown, creation, |copy| {
            copy.set_original(self.attachment());
            let mut deadline = Deadline::new(self.settings.lock_timeout);
            let mut progress = |bytes| progress.borrow_mut()(bytes);
            duplicate(self.attachment(), copy, &mut deadline, &mut progress)?;
            if creation.checkpoint {
                Syncer::new().sync(copy, &mut deadline, When::Now)?;
            }
            flush::whole_file(copy).map_err(|e| Error::io(&copy.path, "cannot sync", e))
        })
    }

    /// Frees the space of removed slots, and their share of `max_slots`: writes a new file without
    /// them and puts it in the place of the old one. No other process may have the store open, and
    /// this program no other handle of it. Other processes are waited for as long as for a lock;
    /// those that open the store meanwhile wait.
    ///
    /// Symbolic links lead to the new file, as they did to the old one. A container that has the
    /// file itself mounted keeps the old file; opening it there is [`Error::Detached`].
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if somebody has it open; [`Error::Detached`] if its path does not lead to
    /// it; [`Error::Unsupported`] if it has several names (hard links) or none, or is mounted
    /// itself; else as [`copy_to`](Store::copy_to). Either the store is unchanged, or it was
    /// compacted and the error says which later step failed.
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

    /// As [`compact`](Store::compact); `progress` is told how many bytes have been copied.
    ///
    /// # Errors
    ///
    /// As [`compact`](Store::compact).
    pub fn compact_with(self, progress: impl FnMut(u64)) -> Result<Store> {
        self.begin_write()?;
        let Some(location) = self.location.clone() else {
            return Err(self.cannot_compact("it has no name for a new file to take over"));
        };
        if !self.attachment().tells_if_alone() {
            let why =
                std::io::Error::other("this program has closed its descriptor: open it again");
            return Err(Error::io(self.path(), "cannot tell whether others have it open", why));
        }
        let left_undone = match registry::withhold(&self.session) {
            Some(withheld) => {
                let left_undone = self.replace_by_compact_one(&location, progress)?;
                // The old file is no longer in use: do not share its session again.
                std::mem::forget(withheld);
                left_undone
            }
            None => {
                return Err(Error::InUse {
                    path: self.path().to_owned(),
                    by: vec![process::own()],
                    waited: Duration::ZERO,
                });
            }
        };
        let mut options = self.options();
        // The old file is no longer in use: it need not be synced.
        self.session.leave_unsynced();
        drop(self);
        if let Some(error) = left_undone {
            return Err(error);
        }
        options.any_file_system(true).open(location.path())
    }

    fn cannot_compact(&self, what: impl Into<String>) -> Error {
        let what = format!("compacting it: {}", what.into());
        Error::Unsupported { path: self.path().to_owned(), what }
    }

    /// Waits until nobody else has the store open, then replaces it by a compact copy. Returns the
    /// error of a step after that.
    fn replace_by_compact_one(
        &self,
        location: &Location,
        mut progress: impl FnMut(u64),
    ) -> Result<Option<Error>> {
        let attachment = self.attachment();
        let begun = Instant::now();
        let mut backoff = Backoff::new();
        loop {
            let mut made = None;
            let result = attachment.if_alone(|| {
                made = Some(self.make_anew(location, &mut progress)?);
                Ok(())
            });
            if let Some(left_undone) = made {
                return Ok(left_undone);
            }
            result?;
            let waited = begun.elapsed();
            let is_over = |timeout| waited >= timeout || planted!(ACompactionDoesNotWait);
            if self.settings.lock_timeout.is_some_and(is_over) {
                return Err(Error::InUse {
                    path: self.path().to_owned(),
                    by: attachment.others_having_it_open(),
                    waited,
                });
            }
            backoff.pause();
        }
    }

    /// Under the open lock, while nobody else has the store open.
    fn make_anew(
        &self,
        location: &Location,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<Error>> {
        let cannot = |e| Error::io(self.path(), "cannot put the new file in its place", e);
        let (attachment, file) = (self.attachment(), self.attachment().map.file());
        let detached = |how| Error::Detached { path: self.path().to_owned(), how };
        let old = location.resolve(file).map_err(cannot)?.map_err(detached)?;
        let only_name = || match file.metadata().map_err(cannot)?.nlink() {
            1 => Ok(()),
            _ if planted!(ASecondNameIsNotLookedAt) => Ok(()),
            links => Err(self.cannot_compact(format!(
                "it has {links} names (hard links), and all except {} would keep the old content; \
                 remove them, and link the new file",
                old.display()
            ))),
        };
        only_name()?;
        let new = folder::unused_name(&old).map_err(cannot)?;
        self.copy_shown_as(&new, self.path(), progress)?;
        let made = std::fs::metadata(&new)
            .inspect_err(|_| drop(std::fs::remove_file(&new)))
            .map(|made| FileId::of(&made))
            .map_err(cannot)?;
        let mark = || attachment.set_superseded(!planted!(TheOldFileIsNotMarked));
        let replaced = take_over_owner(attachment, &new)
            .and_then(|()| folder::replace(&new, &old, file, mark));
        let failure = match replaced {
            Ok(Replaced::Done) => return Ok(None),
            Ok(Replaced::OldStays(error)) => {
                let what = "the store was compacted, but its old file, now under this name, cannot \
                            be removed: do that by hand";
                return Ok(Some(Error::io(&new, what, error)));
            }
            Ok(Replaced::NotForGood(error)) => {
                let what = "it was compacted, but its folder cannot be synced: a power cut may \
                            bring back the old file";
                return Ok(Some(Error::io(self.path(), what, error)));
            }
            Ok(Replaced::Exchanged(error)) => {
                let what = "another file was put at the store's path meanwhile; it now has this \
                            name, and cannot be renamed back: do that by hand";
                return Err(Error::io(&new, what, error));
            }
            Ok(Replaced::Elsewhere) => {
                only_name().err().unwrap_or_else(|| detached(Detached::Replaced))
            }
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EXDEV)) => {
                let what = "the file itself is mounted here, so it cannot be replaced; compact it \
                            where its folder is";
                self.cannot_compact(what)
            }
            Err(error) => cannot(error),
        };
        // This name may belong to another file by now.
        if std::fs::metadata(&new).is_ok_and(|there| FileId::of(&there) == made) {
            let _ = std::fs::remove_file(&new);
        }
        Err(failure)
    }
}

/// Gives the new file the owner of the old one, if they differ.
fn take_over_owner(old: &Attachment, new: &Path) -> std::io::Result<()> {
    let (old, there) = (old.map.file().metadata()?, std::fs::metadata(new)?);
    if (old.uid(), old.gid()) == (there.uid(), there.gid()) {
        return Ok(());
    }
    std::os::unix::fs::chown(new, Some(old.uid()), Some(old.gid()))
}
