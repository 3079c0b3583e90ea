//! Restoring a store for a read-only opener: in the file, or else in a copy in memory.

use std::fs::File;
use std::sync::Arc;

use crate::attachment::attach::Attachment;
use crate::durability::recovery::{self, Recovery};
use crate::error::{Error, Result};
use crate::mutant::planted;
use crate::os::store_file::StoreFile;
use crate::os::sys;
use crate::store::file::{again, map};
use crate::store::file_system::is_moved_by_writes;
use crate::types::detached::Detached;

/// Restores a store that a read-only opener needs restored: first tries the file itself; if that
/// fails, restores a copy of it in memory. Returns the attachment to read from.
pub(crate) fn restore_to_read(attachment: Arc<Attachment>) -> Result<(Arc<Attachment>, Recovery)> {
    match restore_underneath(&attachment) {
        Ok(recovery) => Ok((attachment, recovery)),
        Err(error @ Error::Corrupt { .. }) => Err(error),
        Err(error) if planted!(ReadersHaveNoCopyInMemory) => Err(error),
        Err(_) => restore_a_copy(&attachment),
    }
}

fn restore_underneath(attachment: &Attachment) -> Result<Recovery> {
    // As a plain `File`: a `StoreFile` may be reopened, which must not happen during an open.
    let (path, below): (_, &File) = (&attachment.path, attachment.map.file());
    if is_moved_by_writes(below) {
        let what = "btrfs does not write it in place".into();
        return Err(Error::Unsupported { path: path.clone(), what });
    }
    let looks = planted!(AFileIsLookedAtWithinAnOpening);
    let open = || again(if looks { attachment.map.file() } else { below }, true);
    let file = StoreFile::open(true, Some(path), open)
        .map_err(|e| Error::io(path, "cannot open it for writing", e))?;
    let writing = map(path.clone(), file, true)?;
    // The caller has already found that it must be restored.
    let recovery = writing.with_progress(|| recovery::restore(&writing))?;
    refuse_superseded(&writing, recovery)?;
    Ok(recovery)
}

fn restore_a_copy(attachment: &Attachment) -> Result<(Arc<Attachment>, Recovery)> {
    let path = &attachment.path;
    let cannot = |e| Error::io(path, "cannot make a copy of it in memory", e);
    let copy =
        StoreFile::open(true, None, || sys::memory_file(c"slotfile copy")).map_err(cannot)?;
    sys::copy_data(attachment.map.file(), &copy).map_err(cannot)?;
    let copy = map(path.clone(), copy, true)?;
    let recovery = recovery::restore_last_sync(&copy)?;
    refuse_superseded(&copy, recovery)?;
    let recovery = match recovery {
        Recovery::Restored { epoch, newer_dropped } => Recovery::Frozen { epoch, newer_dropped },
        other => other,
    };
    let file: &File = copy.map.file();
    let file = StoreFile::open(false, None, || again(file, false));
    Ok((map(path.clone(), file.map_err(cannot)?, false)?, recovery))
}

/// Refuses a file that a compaction replaced and that only a mount of it keeps. A copy that was
/// restored from it is a store of its own: if it may be written, it no longer says that it was
/// replaced.
pub(crate) fn refuse_superseded(attachment: &Attachment, recovery: Recovery) -> Result<()> {
    match recovery {
        Recovery::Joined | Recovery::Resumed
            if attachment.is_superseded() && !planted!(ASupersededFileIsOpened) =>
        {
            let (path, how) = (attachment.path.clone(), Detached::Compacted);
            return Err(Error::Detached { path, how });
        }
        _ if attachment.writable && !planted!(ACopyOfASupersededFileIsRefused) => {
            attachment.set_superseded(false);
        }
        _ => {}
    }
    Ok(())
}
