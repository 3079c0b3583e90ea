//! What opening finds of an earlier boot, and what it does about it.
//!
//! Until the machine is restarted, the live area is the truth: pages in memory survive any process.
//! After a restart, or in a copied file, nobody knows which of its pages reached the disk. Then the
//! checkpoint is the truth, and all of it is put back.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::directory::blocks;
use crate::durability::choose_record::{Chosen, choose, with_more};
use crate::durability::copies::cannot_restore;
use crate::durability::group;
use crate::durability::identity::{self, Verdict};
use crate::durability::restore::Restore;
use crate::durability::sync_state::SyncState;
use crate::error::{Error, Result};
use crate::format::checkpoint::Record;
use crate::format::layout::{PAGE, live};
use crate::mutant::planted;
use crate::os::disk;
use crate::os::time::seconds_since_1970;

/// What opening a store found and did; see [`Store::recovery`](crate::Store::recovery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// The store is new.
    Created,
    /// Other processes have it open: nothing was checked.
    Joined,
    /// No process had it open, and the machine has not been restarted: all is as it was left. What
    /// dead processes left half-done was recovered.
    Resumed,
    /// The machine was restarted, or the file was copied: the store is as of its last sync.
    Restored {
        /// The number of that sync; syncs are counted.
        epoch: u64,
        /// Whether there was, or may have been, a newer sync that was not completed. Nobody can
        /// tell whether the remains are of such a sync or of an older one.
        newer_dropped: bool,
    },
    /// Like [`Restored`](Recovery::Restored), but this opener may only read. It sees a private
    /// copy, in which nothing will ever change.
    Frozen {
        /// The number of that sync.
        epoch: u64,
        /// As in [`Restored`](Recovery::Restored).
        newer_dropped: bool,
    },
    /// The machine was restarted, and the store keeps no checkpoints: it is empty.
    Emptied,
}

/// Puts the store in order. No other process is attached. The open lock is held, or no other
/// process can know of the file. `trusted`: the caller vouches that the file system has stayed
/// mounted.
pub(crate) fn recover(attachment: &Attachment, trusted: bool) -> Result<Recovery> {
    if is_needed(attachment, trusted)? && !planted!(TrustsTheLiveArea) {
        return restore(attachment);
    }
    let on_disk = attachment.map.file().metadata().map_or(u64::MAX, |m| 512 * m.blocks());
    blocks::fill_holes(attachment, on_disk)?;
    if !planted!(SharedBlocksStayShared) {
        blocks::unshare(attachment)?;
    }
    attachment.reset_table()?;
    group::reset(attachment);
    identity::set_inode_hint(attachment.map.file());
    Ok(Recovery::Resumed)
}

/// Restores the last sync, and notes that the live area is intact again.
pub(crate) fn restore(attachment: &Attachment) -> Result<Recovery> {
    // Before anything is changed, because this may fail.
    let identity = identity::now(attachment.map.file());
    let identity = identity.map_err(|e| unknown_boot(&attachment.path, e))?;
    let recovery = restore_last_sync(attachment)?;
    identity::store(attachment, &identity);
    identity::set_inode_hint(attachment.map.file());
    Ok(recovery)
}

/// Makes the live area what it was at the last sync. Does not note that it is intact again.
pub(crate) fn restore_last_sync(attachment: &Attachment) -> Result<Recovery> {
    if !is_live_header_readable(attachment)? {
        if !attachment.header.has_checkpoint() {
            return Err(Error::corrupt(&attachment.path, "the disk cannot read its live header"));
        }
        // Without it nothing of the live area can be found: treat the live area as lost.
        let live_header = attachment.header.regions.live_header;
        let zeroed = attachment.disk().zero(live_header, PAGE, &mut || {});
        zeroed.map_err(|e| cannot_restore(attachment, e))?;
    }
    let recovery = if !attachment.header.has_checkpoint() {
        let nothing = Chosen { record: Record::empty(), number: None, newer_dropped: false };
        put_back(attachment, &nothing)?;
        Recovery::Emptied
    } else {
        let chosen = choose(attachment).map_err(|e| advise(attachment, e))?;
        put_back(attachment, &chosen)?;
        Recovery::Restored { epoch: chosen.record.epoch, newer_dropped: chosen.newer_dropped }
    };
    // For display.
    let epoch = match recovery {
        Recovery::Restored { epoch, .. } => epoch,
        _ => 0,
    };
    attachment.live.store(live::LAST_RECOVERY, epoch, Relaxed);
    attachment.live.store(live::LAST_RECOVERY + 1, seconds_since_1970(), Relaxed);
    Ok(recovery)
}

/// Puts back what this intact record names.
fn put_back(attachment: &Attachment, chosen: &Chosen) -> Result<()> {
    let restore = Restore::new(attachment, chosen)?;
    restore.unshare()?;
    // Until the end nobody must take the live area for intact.
    let tried_before = identity::store_restoring(attachment);
    if planted!(IdentityFirst)
        && let Ok(identity) = identity::now(attachment.map.file())
    {
        identity::store(attachment, &identity);
    }
    restore.put_back(tried_before)
}

/// Whether opening must restore, before it may even read. An error if nobody can tell and restoring
/// would lose something.
pub(crate) fn is_needed(attachment: &Attachment, trusted: bool) -> Result<bool> {
    if !is_live_header_readable(attachment)? {
        return Ok(true);
    }
    let path = &attachment.path;
    match identity::judge(attachment).map_err(|e| cannot_restore(attachment, e))? {
        Verdict::Same => Ok(false),
        Verdict::Another => Ok(true),
        Verdict::UnknownBoot(error) => Err(unknown_boot(path, error)),
        Verdict::UnknownMount(_) if trusted => Ok(false),
        Verdict::UnknownMount(_) if is_synced(attachment) => Ok(true),
        Verdict::UnknownMount(why) => Err(Error::Unsupported {
            path: path.clone(),
            what: format!(
                "it was changed after its last sync, and nobody can tell whether its file system \
                 was mounted anew since ({why}); open it where /sys is mounted, or, if the file \
                 system has stayed mounted, with any_file_system(true) (--any-file-system)"
            ),
        }),
    }
}

/// Whether the last sync has all that the live area has: restoring it loses nothing.
fn is_synced(attachment: &Attachment) -> bool {
    match attachment.header.has_checkpoint() {
        true => SyncState::load_all(attachment).and_then(|last| last.count_unsynced(attachment)),
        false => descriptors::count(attachment).map(u64::from),
    }
    .is_ok_and(|unsynced| unsynced == 0)
}

/// The error if the boot is not known: then nobody can tell whether the machine was restarted.
fn unknown_boot(path: &Path, error: io::Error) -> Error {
    let remedy = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => "close some files, and try again",
        _ => "open it where /proc is mounted",
    };
    let what = format!(
        "nobody can tell whether the machine was restarted ({}: {error}); {remedy}",
        identity::BOOT_ID
    );
    Error::Unsupported { path: path.to_owned(), what }
}

/// Whether the live header can be read. Asked before it is touched: a failed access would end the
/// process.
fn is_live_header_readable(attachment: &Attachment) -> Result<bool> {
    let at = attachment.header.regions.live_header;
    disk::read_if_there(attachment.disk(), at, &mut [0; PAGE as usize])
        .map_err(|e| cannot_restore(attachment, e))
}

/// If the file is a copy, adds how to copy a store that is in use.
fn advise(attachment: &Attachment, error: Error) -> Error {
    if identity::is_of_another_file(attachment) {
        return with_more(error, "copy a store that is in use with `slotfile copy`");
    }
    error
}
