//! Which of the two commit records a restore returns to.

use crate::attachment::attach::Attachment;
use crate::durability::copies::{cannot_restore, check_whole};
use crate::error::{Error, Result};
use crate::format::checkpoint::{Mark, Record};
use crate::mutant::planted;

/// The record to return to.
pub(crate) struct Chosen {
    pub(crate) record: Record,
    /// Which of the two it is. `None`: neither, in a store without checkpoints.
    pub(crate) number: Option<u64>,
    /// Whether there is, or may have been, a newer one.
    pub(crate) newer_dropped: bool,
}

/// The newest intact record.
pub(crate) fn choose(attachment: &Attachment) -> Result<Chosen> {
    let (disk, regions) = (attachment.disk(), &attachment.header.regions);
    let fail = |e| cannot_restore(attachment, e);
    let corrupt = |what: &str| Error::corrupt(&attachment.path, what);
    let mut records = Vec::new();
    let mut unreadable = false;
    for number in 0..2 {
        match Record::read(disk, &attachment.header, number).map_err(fail)? {
            Some(record) => records.push((number, record)),
            None => unreadable |= !Record::is_erased(disk, regions, number).map_err(fail)?,
        }
    }
    records.sort_by_key(|(_, record)| std::cmp::Reverse(record.epoch));
    if records.is_empty() {
        return Err(corrupt("both of its commit records are damaged or cannot be read"));
    }
    let mark = Mark::read(disk, regions).map_err(fail)?;
    // What is wrong with the newest record, which is the wanted one.
    let mut damage = None;
    for (rank, (number, record)) in records.into_iter().enumerate() {
        let whole = match planted!(RestoresTheNewest) {
            true => Ok(()),
            false => check_whole(attachment, &record),
        };
        match whole {
            Ok(()) => {
                let newer_dropped = rank > 0 || unreadable;
                let Err(why) = may_return_to(record.epoch, newer_dropped, mark) else {
                    return Ok(Chosen { record, number: Some(number), newer_dropped });
                };
                return Err(match damage {
                    Some(damage) => with_more(damage, &why),
                    None => corrupt(&why),
                });
            }
            Err(error @ (Error::Corrupt { .. } | Error::Truncated { .. })) => {
                damage = damage.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    Err(damage.unwrap_or_else(|| corrupt("none of its commit records is intact")))
}

/// Returns why this record must be refused although it is intact: a newer one was acknowledged, or
/// nobody can tell.
fn may_return_to(epoch: u64, newer_dropped: bool, mark: Mark) -> std::result::Result<(), String> {
    match mark {
        Mark::Of(acknowledged) if acknowledged > epoch => Err(format!(
            "sync {acknowledged} was acknowledged, but the newest intact sync is {epoch}"
        )),
        Mark::Damaged if newer_dropped && !planted!(DamagedMarkIsNone) => Err(format!(
            "the mark of the last sync is damaged too, so nobody can tell whether that was sync \
             {epoch}, the newest intact one"
        )),
        _ => Ok(()),
    }
}

/// Adds to what an error says of a damaged file.
pub(crate) fn with_more(mut error: Error, more: &str) -> Error {
    if let Error::Corrupt { what, .. } = &mut error {
        *what = format!("{what}; {more}");
    }
    error
}
