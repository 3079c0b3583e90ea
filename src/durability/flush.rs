//! Makes what was written survive a power cut, and drops what could not be written.

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::directory::blocks;
use crate::error::Result;
use crate::format::checkpoint;
use crate::mutant::planted;
use crate::os::disk::Range;

/// How many bytes of the whole file are written out at a time.
const PART: u64 = 16 << 20;

/// A length, such as that of the whole file, in parts.
pub(crate) fn parts(len: u64) -> impl Iterator<Item = Range> {
    (0..len.div_ceil(PART)).map(move |i| (i * PART, PART.min(len - i * PART)))
}

/// Makes the whole file survive a power cut. In parts first, as it may take long.
pub(crate) fn whole_file(attachment: &Attachment) -> std::io::Result<()> {
    let disk = attachment.disk();
    let parts: Vec<Range> = parts(disk.length()?).collect();
    disk.write_out(&parts, &mut || attachment.note_progress())?;
    disk.flush_all()
}

/// Makes these copies, and the record that names them, survive a power cut.
pub(crate) fn checkpoint(
    attachment: &Attachment,
    copies: impl Iterator<Item = Range>,
    record: Range,
) -> std::io::Result<()> {
    let ranges: Vec<Range> = copies.chain([record]).collect();
    let flushed = flush_once(attachment, &ranges);
    match flushed {
        Err(_) if planted!(FlushAgain) => flush_once(attachment, &ranges),
        Err(_) if planted!(AcknowledgeFailed) => Ok(()),
        flushed => flushed,
    }
}

/// The last range is the record.
fn flush_once(attachment: &Attachment, ranges: &[Range]) -> std::io::Result<()> {
    let disk = attachment.disk();
    if !disk.flushes_ranges() && !planted!(RangeFlushAnywhere) {
        return if planted!(NoFlush) { Ok(()) } else { disk.flush_all() };
    }
    if !planted!(NoWriteOut) {
        disk.write_out(ranges, &mut || attachment.note_progress())?;
    }
    match ranges.last() {
        Some(record) if !planted!(NoFlush) => disk.flush(*record),
        _ => Ok(()),
    }
}

/// Drops what a failed sync has left in the kernel's memory, so that it cannot hinder the next one.
/// Never drops the live area: it may exist nowhere else.
pub(crate) fn forget(attachment: &Attachment) -> Result<()> {
    let regions = &attachment.header.regions;
    let mut parts = vec![(regions.mark, regions.runs)];
    for (number, at) in (1..).zip(attachment.tiers_of(descriptors::count(attachment)?)?) {
        parts.push((at.copies, at.copies + regions.parts_len(number).copies));
    }
    descriptors::each(attachment, |descriptor| {
        // If its places are impossible, loading reports that.
        if checkpoint::check_segments(&descriptor, &attachment.header).is_some() {
            let copies = descriptor.copies;
            parts.push((copies, copies + checkpoint::copies_len(&descriptor)));
        }
        Ok(())
    })?;
    attachment.disk().forget(&blocks::granules(parts.into_iter()));
    Ok(())
}
