//! Whether the last sync is whole, and what it saved is what memory holds.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use super::{Check, contents};
use crate::attachment::attach::Attachment;
use crate::durability::sync_notes;
use crate::error::{Error, Result};
use crate::format::checkpoint::{Mark, Record};
use crate::format::layout::live;
use crate::mutant::planted;
use crate::protocol::{self, Deadline};

/// Checks the checkpoint, and compares the slots with it.
pub(super) fn check(
    attachment: &Attachment,
    timeout: Option<Duration>,
    check: &mut Check,
) -> Result<()> {
    let lock = attachment.lock(live::SYNC_LOCK);
    let mut deadline = Deadline::new(timeout);
    // A sync would overwrite the copies that were in use before the last one.
    let held = match attachment.writable {
        true => protocol::lock((&lock, attachment), &mut deadline).ok(),
        false => None,
    };
    if let Some(marks) = attachment.marks()
        && held.is_some()
    {
        protocol::finish_cleaning(marks);
    }
    for _ in 0..TRIES {
        // Acquire: stored after the record was written.
        let acked = attachment.live.load(live::ACKED, Acquire);
        let mut found = Check::default();
        let is_whole = check_record(attachment, acked, held.is_some(), &mut found)?;
        if held.is_some() && !is_whole && !planted!(ADamagedCheckpointIsKept) {
            // The next sync writes what is not there.
            sync_notes::set_look_at_all(attachment, true);
        }
        if held.is_some() || attachment.live.load(live::ACKED, Acquire) == acked {
            check.problems.append(&mut found.problems);
            check.unverified.append(&mut found.unverified);
            return Ok(());
        }
    }
    let what = "the checkpoint: it was replaced while it was being read";
    check.unverified.push(what.into());
    Ok(())
}

/// How often to read a checkpoint anew if a sync has replaced it meanwhile.
const TRIES: usize = 3;

/// See [`contents::compare`].
fn check_record(
    attachment: &Attachment,
    acked: u64,
    is_exclusive: bool,
    check: &mut Check,
) -> Result<bool> {
    let (disk, regions) = (attachment.disk(), &attachment.header.regions);
    let cannot = |e| Error::io(&attachment.path, "cannot read the checkpoint", e);
    // Relaxed: a sync that stands or was killed between its two stores has stored the next one's
    // complement.
    let complement = attachment.live.load(live::ACKED + 1, Relaxed);
    if complement != !acked && complement != !(acked.wrapping_add(1)) {
        let what = format!("the last sync is {acked}, but its complement is {complement:#x}");
        check.note(None, what);
    }
    let is_mark_damaged =
        || Mark::read(disk, regions).map(|mark| mark == Mark::Damaged).map_err(cannot);
    // Twice: a read-only process has no lock, and may see the mark half-written.
    if is_mark_damaged()? && is_mark_damaged()? {
        check.note(None, "the mark of the last sync is damaged; the next sync writes it anew");
    }
    for number in 0..2 {
        let record = Record::read(disk, &attachment.header, number).map_err(cannot)?;
        if let Some(record) = record.filter(|record| record.epoch == acked) {
            return contents::compare(attachment, &record, is_exclusive, check);
        }
    }
    check.note(None, format!("there is no intact commit record of the last sync, {acked}"));
    Ok(false)
}
