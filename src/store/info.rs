//! [`Store::info`]: limits, usage, syncs and attached processes.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::attachment::descriptors;
use crate::directory::allocator;
use crate::durability::sync_notes;
use crate::durability::syncer::Syncer;
use crate::error::{Error, Result};
use crate::format::layout::live;
use crate::store::store::Store;
use crate::types::attached_process::AttachedProcess;
use crate::types::detached::Detached;

impl Store {
    /// What the store is and how full it is, as of now.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// store.value::<i32>("x")?;
    /// assert_eq!(store.info()?.slots, 1);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn info(&self) -> Result<Info> {
        let attachment = self.attachment();
        let metadata = attachment.map.file().metadata().map_err(|e| {
            Error::io(&attachment.path, "cannot tell how large the file is (fstat)", e)
        })?;
        let (mut slots, mut removed) = (0, 0);
        descriptors::each(attachment, |descriptor| {
            match descriptors::memory(attachment, &descriptor)?.is_removed() {
                true => removed += 1,
                false => slots += 1,
            }
            Ok(())
        })?;
        // A slot takes a line of the directory at least.
        let lines = u64::from(descriptors::count(attachment)?);
        let lines_left = attachment.header.regions.directory_lines.saturating_sub(lines);
        let (defined, runs) = allocator::usage(attachment);
        let keeps_checkpoints = attachment.header.has_checkpoint();
        let word = |at: usize| attachment.live.load(at, Ordering::Relaxed);
        // Both numbers come from the file and may be anything.
        let sync_point = |epoch: u64, secs: u64| {
            let at = UNIX_EPOCH.checked_add(Duration::from_secs(secs)).filter(|_| secs != 0)?;
            Some(SyncPoint { epoch, at })
        };
        Ok(Info {
            last_sync: sync_point(word(live::ACKED), word(live::LAST_SYNC + 1)),
            last_recovery: sync_point(word(live::LAST_RECOVERY), word(live::LAST_RECOVERY + 1)),
            unsynced: match keeps_checkpoints {
                true => Some(Syncer::count_unsynced(attachment)?),
                false => None,
            },
            path: attachment.path.clone(),
            format: (attachment.header.major, attachment.header.minor),
            size: metadata.len(),
            allocated: 512 * std::os::unix::fs::MetadataExt::blocks(&metadata),
            max_size: attachment.header.max_size,
            slots,
            removed,
            definitions_left: attachment.header.max_slots.saturating_sub(defined).min(lines_left),
            max_slots: attachment.header.max_slots,
            free: attachment.header.max_size.saturating_sub(runs),
            open_by: attachment.openers(),
            detached: self.detached(),
            failed_sync: self.failed_sync(),
        })
    }

    /// The last sync that failed, unless one has succeeded since.
    pub(crate) fn failed_sync(&self) -> Option<FailedSync> {
        let (errno, when) = sync_notes::failure(self.attachment())?;
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(when)).unwrap_or(UNIX_EPOCH);
        Some(FailedSync { errno, at })
    }
}

/// The result of [`Store::info`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Info {
    /// The path by which it was opened.
    pub path: PathBuf,
    /// The version of its format, major and minor.
    pub format: (u32, u32),
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Bytes of disk that it uses.
    pub allocated: u64,
    /// Bytes that it can grow to.
    pub max_size: u64,
    /// Slots in it.
    pub slots: u64,
    /// Removed slots, which count as defined until the store is compacted.
    pub removed: u64,
    /// Slots that can still be defined, at most: long docs, units and names make them fewer, as they
    /// take more of the directory.
    pub definitions_left: u64,
    /// Slots that it was created for.
    pub max_slots: u64,
    /// Bytes that it can still grow by.
    pub free: u64,
    /// The last sync since the machine was started.
    pub last_sync: Option<SyncPoint>,
    /// The last time that the store was restored to a sync, since the machine was started.
    pub last_recovery: Option<SyncPoint>,
    /// Slots that have changed since the last sync; `None`: the store keeps no checkpoints.
    pub unsynced: Option<u64>,
    /// The processes that have taken locks in it and still have it open. (A process that only
    /// reads, or only updates values, is not listed.)
    pub open_by: Vec<AttachedProcess>,
    /// Why its path no longer leads to the file, see [`Store::is_detached`].
    pub detached: Option<Detached>,
    /// The last sync of any process that failed, unless one has succeeded since. Changes since
    /// [`last_sync`](Info::last_sync) would then not survive a power cut.
    pub failed_sync: Option<FailedSync>,
}

/// A sync that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedSync {
    /// The system's error number; for an error of this library, the closest one.
    pub errno: i32,
    /// When, by the clock of this machine.
    pub at: SystemTime,
}

impl std::fmt::Display for FailedSync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = std::io::Error::from_raw_os_error(self.errno);
        write!(
            f,
            "the last sync failed: {error}; changes since the last successful sync would not \
             survive a power cut"
        )
    }
}

/// A sync, or a recovery to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPoint {
    /// The number of the sync.
    pub epoch: u64,
    /// When, by the clock of this machine.
    pub at: SystemTime,
}
