//! Verifying a store: its structure, its locks, its checkpoint.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use crate::attach::Attachment;
use crate::cell::CellRegion;
use crate::checkpoint::{self, Mark, Record};
use crate::copies;
use crate::data::TEXT_LEN;
use crate::directory;
use crate::dtype::SlotType;
use crate::error::{Error, Result};
use crate::layout::{Descriptor, FLAG_NO_CHECKPOINT, TABLE_ENTRIES, live};
use crate::protocol::{self, Form, Memory, Patience, REMOVED, STALE};
use crate::sync::Syncer;

/// What [`Store::check`](crate::Store::check) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What could not be verified, and why.
    pub unverified: Vec<String>,
}

/// Something that is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The slot it concerns, if it concerns one.
    pub slot: Option<String>,
    /// What was expected and what was found.
    pub what: String,
}

impl Check {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Verifies everything that can be verified.
pub(crate) fn check(
    attachment: &Attachment,
    timeout: Option<Duration>,
    progress: &mut dyn FnMut(u64),
) -> Result<Check> {
    let mut check = Check::default();
    let mut done = 0;
    let mut ranges = Vec::new();
    let mut has_buffers = false;
    let walked = directory::each(attachment, |descriptor| {
        has_buffers |= matches!(descriptor.slot_type, SlotType::Buffer(..));
        check_slot(attachment, &descriptor, &mut check, &mut ranges);
        done += descriptor.content_len();
        progress(done);
        Ok(())
    });
    if let Err(error) = walked {
        check.note(None, error_text(error)?);
    }
    check_overlaps(ranges, &mut check);
    check_table(attachment, &mut check);
    if attachment.header.flags & FLAG_NO_CHECKPOINT != 0 {
        check
            .unverified
            .push("contents: a store without checkpoints has no checksums of them".into());
        return Ok(check);
    }
    check_checkpoint(attachment, timeout, &mut check)?;
    // Where it cannot be told, some may have.
    let has_changed = Syncer::count_unsynced(attachment).map_or(true, |changed| changed > 0);
    if has_changed || has_buffers {
        let what = match has_changed {
            true => "contents that have changed since the last sync: they have no checksum yet",
            false => "what was stored in buffers since the last sync: it leaves no trace",
        };
        check.unverified.push(what.into());
    }
    Ok(check)
}

impl Check {
    fn note(&mut self, slot: Option<&str>, what: impl Into<String>) {
        self.problems.push(Problem { slot: slot.map(str::to_owned), what: what.into() });
    }
}

/// What a damaged file says; any other error ends the check.
fn error_text(error: Error) -> Result<String> {
    match error {
        Error::Corrupt { what, .. } => Ok(what),
        Error::Truncated { have, need, .. } => {
            Ok(format!("the file has {have} bytes and should have at least {need}"))
        }
        other => Err(other),
    }
}

fn check_slot(
    attachment: &Attachment,
    descriptor: &Descriptor,
    check: &mut Check,
    ranges: &mut Vec<(u64, u64, String)>,
) {
    let name = Some(descriptor.name.as_str());
    ranges.push((
        descriptor.live,
        descriptor.live + descriptor.live_len(),
        descriptor.name.clone(),
    ));
    if descriptor.copies != 0 && checkpoint::check_places(descriptor, &attachment.header).is_none()
    {
        check.note(name, "its checkpoint units are out of place");
    }
    let region = match directory::region(attachment, descriptor) {
        Ok(region) => region,
        Err(error) => return check.note(name, error.to_string()),
    };
    // Acquire: what it says of the slot is looked at next.
    let control = match descriptor.form() {
        Form::Scalar => CellRegion::new(region.clone()).control(Acquire),
        Form::Areas(_) | Form::Lock => region.control(Acquire),
    };
    if control.owner() != REMOVED {
        let found = directory::find_by_index(attachment, &descriptor.name);
        if !matches!(found, Ok(Some(ref found)) if found.entry.live() == descriptor.live) {
            check.note(name, "the index does not lead to it");
        }
    }
    if control.owner() > TABLE_ENTRIES && control.owner() != REMOVED && !control.is_read_lock() {
        check.note(name, format!("its lock names owner {}, and there is none", control.owner()));
    } else if control.in_transaction() && control.owner() == protocol::FREE {
        check.note(name, "it is in a transaction of nobody");
    }
    let Form::Areas(areas) = descriptor.form() else { return };
    for area in 0..areas.count as usize {
        let stale = region.load(STALE + area, Relaxed);
        let (from, to) = (stale as u32 as usize, (stale >> 32) as usize);
        if stale != 0 && !(from < to && to <= areas.words) {
            check.note(name, format!("area {area} has a stale range that does not fit it"));
        }
    }
    if let SlotType::Text(capacity) | SlotType::Bytes(capacity) = descriptor.slot_type {
        let mut len = [0; TEXT_LEN];
        protocol::read(&region, attachment, &areas, |region, area| region.read(area, 0, &mut len));
        let len = u64::from_le_bytes(len);
        if len > capacity as u64 {
            check.note(name, format!("its length is {len}, and its capacity {capacity}"));
        }
    }
}

fn check_overlaps(mut ranges: Vec<(u64, u64, String)>, check: &mut Check) {
    ranges.sort();
    for pair in ranges.windows(2) {
        let [(_, end, first), (start, _, second)] = pair else { continue };
        if start < end {
            check.note(Some(second), format!("it overlaps with slot {first:?}"));
        }
    }
}

fn check_table(attachment: &Attachment, check: &mut Check) {
    for (entry, word) in attachment.strange_words() {
        check.note(
            None,
            format!("entry {entry} of the process table says {word}, which is nothing"),
        );
    }
}

fn check_checkpoint(
    attachment: &Attachment,
    timeout: Option<Duration>,
    check: &mut Check,
) -> Result<()> {
    let lock = attachment.live.part(live::SYNC_LOCK, 2);
    let mut patience = Patience::new(timeout);
    // A sync would write over the copies that were in use before the last one.
    let held = match attachment.writable {
        true => protocol::lock(&lock, attachment, Form::Lock, &mut patience).ok(),
        false => None,
    };
    let (disk, regions) = (attachment.disk(), &attachment.header.regions);
    let cannot = |e| Error::io(&attachment.path, "cannot read the checkpoint", e);
    // Acquire: stored after the record was written.
    let acked = attachment.live.load(live::ACKED, Acquire);
    let is_mark_damaged =
        || Mark::read(disk, regions).map(|mark| mark == Mark::Damaged).map_err(cannot);
    // Twice: who only reads has no lock, and may meet it half-written.
    if is_mark_damaged()? && is_mark_damaged()? {
        check.note(None, "the mark of the last sync is damaged; the next sync writes it anew");
    }
    for number in 0..2 {
        let record = Record::read(disk, regions, number).map_err(cannot)?;
        let Some(record) = record.filter(|record| record.epoch == acked) else { continue };
        if let Err(error) = copies::check_whole(attachment, &record) {
            let moved_on = attachment.live.load(live::ACKED, Acquire) != acked;
            if held.is_none() && moved_on {
                let what = "the checkpoint: it was replaced while it was being read";
                check.unverified.push(what.into());
                return Ok(());
            }
            let slot = match &error {
                Error::Corrupt { slot, .. } => slot.clone(),
                _ => None,
            };
            check.note(slot.as_deref(), error_text(error)?);
        }
        return Ok(());
    }
    check.note(None, format!("there is no whole commit record of sync {acked}, the last one"));
    Ok(())
}
