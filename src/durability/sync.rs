//! What a sync does, step by step. Which process syncs, and when, is in `syncer.rs`.

use std::time::{Duration, Instant};

use crate::attachment::attach::Attachment;
use crate::durability::consistent_copy::{ConsistentCopy, Step};
use crate::durability::flush;
use crate::durability::segment::cannot_sync;
use crate::durability::segment_writer::SegmentWriter;
use crate::durability::sync_notes;
use crate::durability::sync_state::SyncState;
use crate::error::Result;
use crate::format::checkpoint;
use crate::mutant::planted;
use crate::os::sys;
use crate::protocol::{self, Deadline};

/// A sync that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    epoch: u64,
    /// How long its flush took. `None`: nothing had changed.
    pub(crate) flush: Option<Duration>,
}

/// Syncs, under the sync lock. `remembered` is the state after this process's last sync. `failed`:
/// the last sync of any process failed, so nobody knows what of it is on the disk.
pub(crate) fn sync(
    remembered: &mut Option<SyncState>,
    attachment: &Attachment,
    deadline: &Deadline,
    failed: bool,
) -> Result<Acknowledged> {
    if let Some(marks) = attachment.marks() {
        protocol::finish_cleaning(marks);
    }
    // What the record in use says. If another process has synced since, it is another record.
    let mut state = match remembered.take() {
        _ if failed && !planted!(RemembersAFailedSync) => SyncState::load_all(attachment)?,
        Some(last) if last.is_of(attachment) => last,
        Some(last) => last.renewed(attachment)?,
        None => SyncState::load(attachment)?,
    };
    let mut synced = make_checkpoint(&mut state, attachment, deadline);
    if synced.is_err() && state.has_to_look_at_all() {
        state = SyncState::load_all(attachment)?;
        synced = make_checkpoint(&mut state, attachment, deadline);
    }
    let epoch = state.epoch();
    // After an error, what was written is not what the record says.
    if synced.is_ok() || planted!(RemembersAFailedSync) {
        *remembered = Some(state);
    }
    Ok(Acknowledged { epoch, flush: synced? })
}

/// What follows an acknowledged sync, under the sync lock: makes clean what it has copied.
pub(crate) fn clean(remembered: &mut Option<SyncState>, attachment: &Attachment) {
    *remembered = remembered.take().and_then(|state| {
        state.clean(attachment);
        state.remembered(attachment)
    });
}

/// Writes the mark of a sync, which is not flushed. After the acknowledgement: if the mark is there,
/// so is the record. Under the sync lock: an older sync's mark must not follow a newer one's.
pub(crate) fn write_mark(attachment: &Attachment, synced: Acknowledged) -> Result<()> {
    checkpoint::write_mark(attachment.disk(), &attachment.header.regions, synced.epoch)
        .map_err(|e| cannot_sync(attachment, e))
}

/// Makes a checkpoint of what has changed. The cost depends only on how much that is; in a store
/// without marks, also on the number of slots.
///
/// Until the last step, the record in use and the copies that it names stay as they are. So if a
/// sync fails or is killed, at any step, the last sync is still whole. Returns how long the flush
/// took.
fn make_checkpoint(
    state: &mut SyncState,
    attachment: &Attachment,
    deadline: &Deadline,
) -> Result<Option<Duration>> {
    let began = sys::since_boot();
    state.begin(attachment);
    let mut writer = SegmentWriter::new(attachment, state.epoch() + 1);

    // 1. Copy the slots that have changed, until they are the state of one instant.
    copy_slots(state, &mut writer, attachment, deadline)?;
    // 2. Copy the buffers. Storing in them changes no version, so there is no telling what they
    //    were at that instant. Their copies include all that was stored before it.
    state.copy_buffers(&mut writer)?;
    // 3. Copy the directory. Only now is it known which slots are in this checkpoint.
    state.copy_directory(attachment, &mut writer)?;

    let copies = writer.into_copies();
    if copies.is_empty() && !state.is_record_missing() {
        // Nothing has changed. Only a store that was never synced is dated.
        if !sync_notes::has_dates(attachment) {
            sync_notes::store_dates(attachment, began);
        }
        return Ok(None);
    }

    // 4. Write the record that names the copies. It may reach the disk before they do: it is valid
    //    only with all copies that it names.
    let record = state.next_record(&copies);
    let range = state.write_record(attachment, &record)?;
    // 5. Make copies and record durable.
    let start = Instant::now();
    flush::checkpoint(attachment, copies.ranges(), range)
        .map_err(|e| cannot_sync(attachment, e))?;
    let took = start.elapsed();
    // 6. Acknowledge: for all processes, this record is now the one in use.
    sync_notes::store_acked(attachment, record.epoch);
    state.adopt(record, &copies);
    sync_notes::store_dates(attachment, began);
    Ok(Some(took))
}

/// Writes copies of all slots that have changed, as of one instant.
fn copy_slots(
    state: &mut SyncState,
    writer: &mut SegmentWriter<'_>,
    attachment: &Attachment,
    deadline: &Deadline,
) -> Result<()> {
    let mut copying = ConsistentCopy::new(attachment, deadline);
    while let Some(step) = copying.next(state)? {
        match step {
            Step::AddSlots { lines } => state.add_slots(attachment, lines)?,
            Step::Copy(changed) => state.copy_slots(attachment, &changed, writer)?,
        }
    }
    Ok(())
}
