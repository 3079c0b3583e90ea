//! Making the state survive a power cut: whose turn it is, and what this process remembers
//! from one sync to the next.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::attach::Attachment;
use crate::commit::Tracked;
use crate::directory;
use crate::error::{Error, Result};
use crate::fork::PerProcess;
use crate::layout::{FLAG_NO_CHECKPOINT, live};
use crate::mutant::planted;
use crate::protocol::{self, Form, Memory, Patience};
use crate::sys;

/// Syncs one store for this process.
#[derive(Debug)]
pub(crate) struct Syncer {
    /// `None`: nothing is known, or no longer.
    tracked: PerProcess<Mutex<Option<Tracked>>>,
}

/// Whether a sync may wait for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Wait,
    /// Nothing is done if another one is at it, or was within this time.
    SkipIfWithin(Duration),
}

impl Syncer {
    pub(crate) fn new() -> Syncer {
        Syncer { tracked: PerProcess::new(Mutex::default()) }
    }

    /// How many slots have changed since the last sync.
    pub(crate) fn count_unsynced(attachment: &Attachment) -> Result<u64> {
        Tracked::load(attachment)?.count_unsynced(attachment)
    }

    /// Syncs the store.
    pub(crate) fn sync(
        &self,
        attachment: &Attachment,
        patience: &mut Patience,
        turn: Turn,
    ) -> Result<()> {
        attachment.check_writable()?;
        if attachment.header.flags & FLAG_NO_CHECKPOINT != 0 {
            let what = "it was created without checkpoints, so it cannot be synced".into();
            return Err(Error::Invalid { path: attachment.path.clone(), slot: None, what });
        }
        // All of it is written through our own description, or one that is opened anew.
        attachment.map.file().own();
        let tracked = self.tracked.get(|_| Mutex::default());
        let lock = attachment.live.part(live::SYNC_LOCK, 2);
        let (mut tracked, held) = match turn {
            Turn::Wait => {
                let tracked = tracked.lock().unwrap_or_else(PoisonError::into_inner);
                let held = protocol::lock(&lock, attachment, Form::Lock, patience)
                    .map_err(|f| directory::explain(attachment, "the sync lock", f, patience))?;
                (tracked, held)
            }
            Turn::SkipIfWithin(period) => {
                let Ok(tracked) = tracked.try_lock() else { return Ok(()) };
                // Nothing is written where nothing has changed, not even the lock: each write
                // to the file goes to the disk, in time.
                let known = tracked.as_ref().filter(|known| known.is_of(attachment));
                // Where that cannot be told, syncing says why.
                let is_idle = |known: &Tracked| matches!(known.has_changed(attachment), Ok(false));
                if was_within(attachment, period) || known.is_some_and(is_idle) {
                    return Ok(());
                }
                let Some(held) = protocol::try_lock(&lock, attachment) else { return Ok(()) };
                if was_within(attachment, period) {
                    return Ok(());
                }
                (tracked, held)
            }
        };
        // Known again only when all has gone well: after an error, what was written is not what
        // the record says.
        let known = tracked.take().filter(|known| known.is_of(attachment));
        let mut known = known.map_or_else(|| Tracked::load(attachment), Ok)?;
        let synced = known.sync(attachment, patience);
        if planted!(RemembersAFailedSync) && synced.is_err() {
            *tracked = Some(known);
            return synced;
        }
        synced?;
        // Not flushed, and after the acknowledgement: if it is there, so is the record. Under
        // the lock: an older sync's mark must not follow a newer one's.
        let marked = known.write_mark(attachment);
        drop(held);
        *tracked = Some(known);
        marked
    }
}

/// Whether a sync that found something to write began within this time.
fn was_within(attachment: &Attachment, period: Duration) -> bool {
    // Relaxed: a time; whoever syncs too early does so in vain.
    let last = attachment.live.load(live::LAST_SYNC, Relaxed);
    // A time to come is another boot's, or of a container with a clock of its own.
    let since = sys::since_boot().checked_sub(last).map(Duration::from_nanos);
    since.is_some_and(|since| since < period)
}
