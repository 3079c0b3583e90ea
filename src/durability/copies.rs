//! The copies that a commit record names: reading them, and checking that all are there.

use std::io;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::error::{Error, Result};
use crate::format::checkpoint::{self, Choice, CopyHead, CopyPair, Missing, Record, mix};
use crate::format::descriptor::Descriptor;
use crate::format::layout::LINE;
use crate::mutant::planted;

pub(crate) fn cannot_restore(attachment: &Attachment, error: io::Error) -> Error {
    Error::io(&attachment.path, "cannot restore the last sync", error)
}

/// `Corrupt` or `Truncated` unless every copy that the record names is intact, and they are the
/// copies that it was made of.
pub(crate) fn check_whole(attachment: &Attachment, record: &Record) -> Result<()> {
    let mut sum = 0u64;
    each_copy(attachment, record, |pair, choice| {
        let (head, _) = read_copy(attachment, pair, choice)?;
        sum = sum.wrapping_add(mix(head.segment, head.epoch, head.crc));
        Ok(())
    })?;
    if sum == record.sum || planted!(NoSum) {
        return Ok(());
    }
    let what = format!("the copies of sync {} are not those that it was made of", record.epoch);
    Err(Error::corrupt(&attachment.path, what))
}

pub(crate) fn read_copy(
    attachment: &Attachment,
    pair: &CopyPair,
    choice: Choice,
) -> Result<(CopyHead, Vec<u8>)> {
    attachment.note_progress();
    pair.read(attachment.disk(), choice).map_err(|why| missing(attachment, pair, choice, why))
}

/// The user's error for a copy that is not available. `Corrupt` or `Truncated`, unless the failure
/// says nothing about the copy.
pub(crate) fn missing(
    attachment: &Attachment,
    pair: &CopyPair,
    choice: Choice,
    why: Missing,
) -> Error {
    let segment = pair.segment & !checkpoint::DIRECTORY;
    let what = match pair.segment & checkpoint::DIRECTORY {
        0 => format!("the checkpoint of segment {segment}"),
        _ => format!("the checkpoint of page {segment} of the directory"),
    };
    match why {
        Missing::Damaged => Error::corrupt(&attachment.path, format!("{what} is damaged")),
        Missing::BeyondEnd => {
            let have = attachment.disk().length().unwrap_or(0);
            let (at, len) = pair.range(choice);
            Error::Truncated { path: attachment.path.clone(), have, need: at + len }
        }
        Missing::Unreadable(error) => {
            let what = format!("the disk cannot read {what} ({error})");
            Error::corrupt(&attachment.path, what)
        }
        Missing::Failed(error) => cannot_restore(attachment, error),
    }
}

/// The directory as a record names it: its lines, and each descriptor with its first line.
pub(crate) struct Directory {
    pub(crate) lines: Vec<u8>,
    pub(crate) slots: Vec<(u32, Descriptor)>,
}

/// Reads and checks the whole directory that a record names.
pub(crate) fn directory_of(attachment: &Attachment, record: &Record) -> Result<Directory> {
    let corrupt = |what: &str| Error::corrupt(&attachment.path, what);
    let header = &attachment.header;
    let mut lines = Vec::new();
    for (page, choice) in record.pages.iter().enumerate() {
        if choice == Choice::Absent {
            return Err(corrupt("a page of the directory has no checkpoint"));
        }
        let pair = CopyPair::of_page(&header.regions, &record.tiers, page as u64);
        lines.extend_from_slice(&read_copy(attachment, &pair, choice)?.1);
    }
    if lines.len() != record.lines as usize * LINE {
        return Err(corrupt("the checkpoint of the directory has the wrong length"));
    }
    let mut slots = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let count = usize::from(lines[at + descriptors::LINES_AT]).max(1) * LINE;
        let descriptor = lines
            .get(at..at + count)
            .ok_or("it ends too soon")
            .and_then(|lines| Descriptor::decode(lines, &header.regions, header.max_size));
        let descriptor =
            descriptor.map_err(|what| corrupt(&format!("a checkpointed descriptor: {what}")))?;
        checkpoint::check_segments(&descriptor, header).ok_or_else(|| {
            corrupt("its checkpoint segments are out of place").of_slot(&descriptor.name)
        })?;
        slots.push(((at / LINE) as u32, descriptor));
        at += count;
    }
    Ok(Directory { lines, slots })
}

/// Calls `f` with each segment's pair of copies, and which of the two the record names.
pub(crate) fn each_copy(
    attachment: &Attachment,
    record: &Record,
    mut f: impl FnMut(&CopyPair, Choice) -> Result<()>,
) -> Result<()> {
    for (page, choice) in record.pages.iter().enumerate() {
        f(&CopyPair::of_page(&attachment.header.regions, &record.tiers, page as u64), choice)?;
    }
    let mut small = std::collections::BTreeSet::new();
    for (_, descriptor) in &directory_of(attachment, record)?.slots {
        let is_small = checkpoint::is_small(descriptor);
        let parts = if is_small { 1 } else { checkpoint::large_segments(descriptor) };
        for part in 0..parts {
            let segment = descriptor.first_segment + part;
            // A segment that slots share counts once.
            if is_small && !small.insert(segment) {
                continue;
            }
            let pair = match is_small {
                true => CopyPair::of_small(descriptor),
                false => CopyPair::of_large(descriptor, part),
            };
            let choice = record.segments.get(segment as usize);
            let result = match choice {
                Choice::Absent => Err(Error::corrupt(&attachment.path, "it has no checkpoint")),
                _ => f(&pair, choice),
            };
            result.map_err(|e| e.of_slot(&descriptor.name))?;
        }
    }
    Ok(())
}
