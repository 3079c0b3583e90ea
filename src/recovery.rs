//! What opening finds of an earlier boot, and what it does about it.
//!
//! The live area is the truth for as long as the machine has not been restarted: pages in
//! memory survive any process. After a restart, or in a copied file, nobody knows which of
//! its pages reached the disk; then the checkpoint is the truth, and is put back whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use crate::attach::Attachment;
use crate::checkpoint::Record;
use crate::clock::seconds_since_1970;
use crate::copies::{Chosen, cannot_restore, choose, with_more};
use crate::directory;
use crate::disk;
use crate::error::{Error, Result};
use crate::layout::{FLAG_NO_CHECKPOINT, GRANULE, PAGE, live};
use crate::mutant::planted;
use crate::protocol::Memory;
use crate::restore::Restore;
use crate::sys;

/// What opening a store found and did, see [`Store::recovery`](crate::Store::recovery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// The store is new.
    Created,
    /// Others have it open: nothing was looked at.
    Joined,
    /// Nobody had it open, and the machine has not been restarted: all is as it was left.
    /// What processes had left half-done when they died was settled.
    Resumed,
    /// The machine was restarted, or the file was copied: the store is as of its last sync.
    Restored {
        /// Which sync it was; they are counted.
        epoch: u64,
        /// Whether there was a newer sync that had not been completed, or may have been: what
        /// is left of it, or of an older one, cannot be told.
        newer_dropped: bool,
    },
    /// As [`Restored`](Recovery::Restored), but this opener may only read: what it sees is
    /// a private copy, in which nothing will ever change.
    Frozen {
        /// Which sync it was.
        epoch: u64,
        /// As of [`Restored`](Recovery::Restored).
        newer_dropped: bool,
    },
    /// The machine was restarted, and the store keeps no checkpoints: it is empty.
    Emptied,
}

/// Puts the store into order. Nobody else is attached, and the open lock is held, or nobody
/// else can know of the file.
pub(crate) fn recover(attachment: &Attachment) -> Result<Recovery> {
    let cannot = |e| cannot_restore(attachment, e);
    let identity = identity(attachment.map.file()).map_err(cannot)?;
    if !is_live_header_readable(attachment)? {
        if attachment.header.flags & FLAG_NO_CHECKPOINT != 0 {
            return Err(Error::corrupt(&attachment.path, "the disk cannot read its live header"));
        }
        // Without it nothing of the live area can be found: it is as one that was lost.
        attachment.disk().zero(attachment.header.regions.live_header, GRANULE).map_err(cannot)?;
    }
    if is_of_this_boot(attachment, &identity) || planted!(TrustsTheLiveArea) {
        let on_disk = attachment.map.file().metadata().map_or(u64::MAX, |m| 512 * m.blocks());
        directory::fill_holes(attachment, on_disk)?;
        attachment.reset_table(|| directory::settle_everything(attachment))?;
        return Ok(Recovery::Resumed);
    }
    let recovery = if attachment.header.flags & FLAG_NO_CHECKPOINT != 0 {
        let nothing = Chosen { record: Record::empty(), number: None, newer_dropped: false };
        restore(attachment, &nothing, &identity)?;
        Recovery::Emptied
    } else {
        let chosen = choose(attachment).map_err(|e| advise(attachment, &identity, e))?;
        restore(attachment, &chosen, &identity)?;
        Recovery::Restored { epoch: chosen.record.epoch, newer_dropped: chosen.newer_dropped }
    };
    // To show to people.
    let epoch = match recovery {
        Recovery::Restored { epoch, .. } => epoch,
        _ => 0,
    };
    attachment.live.store(live::LAST_RECOVERY, epoch, Relaxed);
    attachment.live.store(live::LAST_RECOVERY + 1, seconds_since_1970(), Relaxed);
    store_identity(attachment, &identity);
    Ok(recovery)
}

/// Puts back what this record names, which is whole.
fn restore(attachment: &Attachment, chosen: &Chosen, identity: &Identity) -> Result<()> {
    let restore = Restore::new(attachment, chosen)?;
    restore.unshare()?;
    // Until the end nobody must take the live area for whole.
    let tried_before = is_of_this_boot(attachment, &RESTORING);
    store_identity(attachment, &RESTORING);
    if planted!(IdentityFirst) {
        store_identity(attachment, identity);
    }
    restore.put_back(tried_before)
}

/// Whether opening must restore, before it may even read.
pub(crate) fn is_needed(attachment: &Attachment) -> Result<bool> {
    let identity = identity(attachment.map.file()).map_err(|e| cannot_restore(attachment, e))?;
    Ok(!is_live_header_readable(attachment)? || !is_of_this_boot(attachment, &identity))
}

/// Whether the live header can be read. Asked before it is touched, which would end the process.
fn is_live_header_readable(attachment: &Attachment) -> Result<bool> {
    let at = attachment.header.regions.live_header;
    disk::read_if_there(attachment.disk(), at, &mut [0; PAGE as usize])
        .map_err(|e| cannot_restore(attachment, e))
}

/// Eight words that are the same for as long as the file's pages in memory are the ones
/// that processes have written: the boot, the file, and the mount of its file system.
pub(crate) type Identity = [u64; 8];

/// That of a store which is being restored.
const RESTORING: Identity = [0; 8];

/// The identity of an open file, as of now.
pub(crate) fn identity(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata()?;
    // Where it cannot be read, every opening is of another boot.
    let boot = boot_id().unwrap_or_else(|| u128::from(sys::since_boot()));
    // A file that was removed and copied back may have the same inode number.
    let born = metadata.created().ok().and_then(|born| {
        born.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_nanos() as u64)
    });
    Ok([
        boot as u64,
        (boot >> 64) as u64,
        metadata.dev(),
        metadata.ino(),
        born.unwrap_or(0),
        mount_inode(metadata.dev()),
        1,
        0,
    ])
}

fn boot_id() -> Option<u128> {
    // By one call: half of the time of `read_to_string`, which counts in opening a store.
    let mut text = [0; 64];
    let len = File::open("/proc/sys/kernel/random/boot_id").ok()?.read_at(&mut text, 0).ok()?;
    let digits = std::str::from_utf8(&text[..len]).ok()?.trim().replace('-', "");
    u128::from_str_radix(&digits, 16).ok()
}

/// The inode number of the folder that the kernel shows of a mounted file system: one that
/// was shut down and mounted again has a new one, while all else is the same. 0: none.
fn mount_inode(dev: u64) -> u64 {
    let (major, minor) = (libc::major(dev), libc::minor(dev));
    let device = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"));
    let Some(name) = device.as_ref().ok().and_then(|d| d.file_name()) else { return 0 };
    ["ext4", "xfs"]
        .iter()
        .find_map(|kind| std::fs::metadata(Path::new("/sys/fs").join(kind).join(name)).ok())
        .map_or(0, |folder| folder.ino())
}

fn is_of_this_boot(attachment: &Attachment, identity: &Identity) -> bool {
    // Relaxed: the open lock, which is held, orders it.
    (0..8).all(|i| attachment.live.load(live::IDENTITY + i, Relaxed) == identity[i])
}

/// Notes that the live area is whole in this boot. Last of all, so that whoever is
/// interrupted before restores again.
pub(crate) fn store_identity(attachment: &Attachment, identity: &Identity) {
    // The sixth word last: until then it is nobody's identity.
    for i in [0, 1, 2, 3, 4, 5, 7, 6] {
        attachment.live.store(
            live::IDENTITY + i,
            identity[i],
            std::sync::atomic::Ordering::Release,
        );
    }
}

/// Tells whoever has copied a file while it was written how that is done.
fn advise(attachment: &Attachment, identity: &Identity, error: Error) -> Error {
    let there = |i: usize| attachment.live.load(live::IDENTITY + i, Relaxed);
    // Its inode's number and its birth are another file's.
    if there(6) == identity[6] && [3, 4].iter().any(|i| there(*i) != identity[*i]) {
        return with_more(error, "copy a store that is in use with `slotfile copy`");
    }
    error
}
