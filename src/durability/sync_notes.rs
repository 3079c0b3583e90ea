//! What the live header says of syncs, for all processes: which was acknowledged last, when, who
//! syncs now, and what has failed.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use crate::attachment::attach::Attachment;
use crate::error::Error;
use crate::format::checkpoint;
use crate::format::layout::live;
use crate::os::sys;
use crate::os::time::seconds_since_1970;
use crate::protocol::{Memory, Owner};

/// The epoch of the last acknowledged sync, if the live header has one.
pub(crate) fn acked(attachment: &Attachment) -> Option<u64> {
    // Acquire: stored after the record was written.
    let epoch = attachment.live.load(live::ACKED, Acquire);
    let is_one = checkpoint::EPOCHS.contains(&epoch.wrapping_add(1));
    (is_one && attachment.live.load(live::ACKED + 1, Relaxed) == !epoch).then_some(epoch)
}

/// Notes an acknowledged epoch. Under the sync lock, or before any process is attached.
pub(crate) fn store_acked(attachment: &Attachment, epoch: u64) {
    // Release: in this order, whenever the process is killed. Between the two stores there is no
    // acknowledged epoch, and the next sync reads the records as opening does.
    attachment.live.store(live::ACKED + 1, !epoch, Release);
    attachment.live.store(live::ACKED, epoch, Release);
}

/// Notes a sync that has succeeded: when it began, since boot, and for display, when it ended.
pub(crate) fn store_dates(attachment: &Attachment, began: u64) {
    // Relaxed: a time, and a date for display.
    attachment.live.store(live::LAST_SYNC, began, Relaxed);
    attachment.live.store(live::LAST_SYNC + 1, seconds_since_1970(), Relaxed);
}

/// Whether any sync has been dated.
pub(crate) fn has_dates(attachment: &Attachment) -> bool {
    // Relaxed: for display.
    attachment.live.load(live::LAST_SYNC + 1, Relaxed) != 0
}

/// Whether a sync that found something to write began within this time.
pub(crate) fn was_within(attachment: &Attachment, period: Duration) -> bool {
    // Relaxed: a time; a process that syncs too early only does needless work.
    let last = attachment.live.load(live::LAST_SYNC, Relaxed);
    // A time in the future comes from another boot, or from a container with a clock of its own.
    let since = sys::since_boot().checked_sub(last).map(Duration::from_nanos);
    since.is_some_and(|since| since < period)
}

/// The system's number for an error, or for the closest one.
fn errno(error: &Error) -> i32 {
    match error {
        Error::Io { source, .. }
        | Error::NoSpace { source, .. }
        | Error::PermissionDenied { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        Error::LockTimeout { .. } | Error::KeepsChanging { .. } => libc::ETIMEDOUT,
        Error::TooManyProcesses { .. } => libc::EUSERS,
        Error::AddressSpace { .. } | Error::OutOfMemory { .. } => libc::ENOMEM,
        Error::Corrupt { .. } | Error::Truncated { .. } => libc::EUCLEAN,
        _ => libc::EIO,
    }
}

/// Notes for all readers that a sync has failed.
pub(crate) fn store_failure(attachment: &Attachment, error: &Error) {
    store_failed(attachment, errno(error).unsigned_abs().into(), seconds_since_1970());
}

/// Notes that a sync has succeeded: none counts as failed any more.
pub(crate) fn clear_failure(attachment: &Attachment) {
    // Relaxed: for display. Nothing is written where nothing changes.
    if attachment.live.load(live::FAILED_SYNC, Relaxed) != 0 {
        store_failed(attachment, 0, 0);
    }
}

fn store_failed(attachment: &Attachment, errno: u64, when: u64) {
    if attachment.header.minor > 0 {
        // Relaxed: for display.
        attachment.live.store(live::FAILED_SYNC, errno, Relaxed);
        attachment.live.store(live::FAILED_SYNC + 1, when, Relaxed);
    }
}

/// The last failed sync: the system's error number, and when. `None`: a sync has succeeded since,
/// or none has failed.
pub(crate) fn failure(attachment: &Attachment) -> Option<(i32, u64)> {
    if attachment.header.minor == 0 {
        return None;
    }
    // Relaxed: for display. In a damaged file the words may be anything.
    let errno = attachment.live.load(live::FAILED_SYNC, Relaxed);
    let when = attachment.live.load(live::FAILED_SYNC + 1, Relaxed);
    (errno != 0).then(|| (i32::try_from(errno).unwrap_or(libc::EIO), when))
}

/// Notes that the next sync has to look at all slots, or no longer has to. Under the sync lock.
pub(crate) fn set_look_at_all(attachment: &Attachment, all: bool) {
    if attachment.header.minor > 0 {
        // Relaxed: only the holder of the sync lock acts on it.
        attachment.live.store(live::LOOK_AT_ALL, all.into(), Relaxed);
    }
}

/// Whether the next sync has to look at all slots.
pub(crate) fn must_look_at_all(attachment: &Attachment) -> bool {
    // Relaxed: as above.
    attachment.header.minor > 0 && attachment.live.load(live::LOOK_AT_ALL, Relaxed) != 0
}

/// Values that change as long as the holder of the sync lock makes progress.
pub(crate) fn progress(attachment: &Attachment) -> (u64, u64, Owner) {
    // Relaxed: only a change means anything.
    let word = |number: usize| attachment.live.load(number, Relaxed);
    let steps = if attachment.header.minor == 0 { 0 } else { word(live::SYNC_PROGRESS) };
    (steps, word(live::ACKED), holder(attachment))
}

/// The owner that has the sync lock.
pub(crate) fn holder(attachment: &Attachment) -> Owner {
    attachment.lock(live::SYNC_LOCK).control(Relaxed).owner()
}

/// The error of waiting in vain for the holder of the sync lock; it is noted too.
pub(crate) fn stuck(attachment: &Attachment, waited: Duration) -> Error {
    let error = Error::LockTimeout {
        path: attachment.path.clone(),
        slot: "the sync lock".to_owned(),
        holder: attachment.holder(holder(attachment)),
        waited,
    };
    store_failure(attachment, &error);
    error
}
