//! Group commit in a store: where its numbers are, how long a leader waits for others, and which
//! errors concern all. The protocol itself is in `protocol/group_commit.rs`.

use std::sync::atomic::{AtomicU64, Ordering, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::attachment::attach::Attachment;
use crate::durability::segment::cannot_sync;
use crate::error::{Error, Result};
use crate::format::layout::live;
use crate::mutant::planted;
use crate::protocol::{Number, Numbers, Told};

/// The words of group commit, by their index in the live header. In a store of format 1.0, whose
/// live header lacks them, they are this process's own: there only threads join each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a>(&'a [AtomicU64]);

/// As many words as the live header has up to the last word of group commit.
pub(crate) type OwnWords = [AtomicU64; live::UNGATHERED + 1];

/// All of them.
const ALL: [usize; 8] = [
    live::SYNCS_BEGUN,
    live::SYNCS_DONE,
    live::SYNC_FAILED,
    live::SYNC_CALLS,
    live::GATHER_TARGET,
    live::GATHERED_CALLS,
    live::FLUSH_TIME,
    live::UNGATHERED,
];

/// How long a leader waits for others, at least and at most.
const GATHER: std::ops::Range<Duration> = Duration::from_micros(20)..Duration::from_micros(500);
/// After it has waited in vain, so many syncs do not wait.
const WITHOUT: u64 = 8;

impl<'a> Words<'a> {
    pub(crate) fn of(attachment: &'a Attachment, own: &'a OwnWords) -> Words<'a> {
        Words(if attachment.header.minor == 0 { own } else { attachment.live.words() })
    }

    /// Counts a caller. (The order does not matter: it decides only how long to wait for others.)
    pub(crate) fn count_call(self) {
        self.0[live::SYNC_CALLS].fetch_add(1, Relaxed);
    }

    // Relaxed, here and below: hints, which may be anything.
    fn hint(self, word: usize) -> u64 {
        self.0[word].load(Relaxed)
    }

    fn set_hint(self, word: usize, value: u64) {
        self.0[word].store(value, Relaxed);
    }

    /// Waits, as the leader, for those who are expected to call again: all that the last sync has
    /// served. So groups stay together that would otherwise sync in turns. A process that syncs
    /// alone is the only one expected, and never waits.
    pub(crate) fn gather(self) {
        let target = self.hint(live::GATHER_TARGET);
        let missing = || target.wrapping_sub(self.hint(live::SYNC_CALLS)).cast_signed().max(0);
        let at_first = missing();
        if at_first == 0 {
            return;
        }
        let left = self.hint(live::UNGATHERED).min(WITHOUT);
        if left > 0 {
            return self.set_hint(live::UNGATHERED, left - 1);
        }
        let quarter = Duration::from_nanos(self.hint(live::FLUSH_TIME) / 4);
        let limit = quarter.clamp(GATHER.start, GATHER.end);
        let start = Instant::now();
        while missing() > 0 && start.elapsed() < limit {
            std::thread::yield_now();
        }
        if missing() > at_first / 2 {
            self.set_hint(live::UNGATHERED, WITHOUT);
        }
    }

    /// Notes how many have called when a sync begins. Returns how many the sync serves.
    pub(crate) fn begin(self) -> u64 {
        let calls = self.hint(live::SYNC_CALLS);
        let served = calls.wrapping_sub(self.hint(live::GATHERED_CALLS));
        self.set_hint(live::GATHERED_CALLS, calls);
        served
    }

    /// Notes that a sync has served so many, and how long its flush took.
    pub(crate) fn end(self, served: u64, flush: Option<Duration>) {
        self.set_hint(live::GATHER_TARGET, self.hint(live::SYNC_CALLS).wrapping_add(served));
        if let Some(flush) = flush {
            self.set_hint(live::FLUSH_TIME, u64::try_from(flush.as_nanos()).unwrap_or(u64::MAX));
        }
    }
}

impl Numbers for Words<'_> {
    fn load(&self, number: Number, order: Ordering) -> u64 {
        self.0[index(number)].load(order)
    }

    fn store(&self, number: Number, value: u64, order: Ordering) {
        self.0[index(number)].store(value, order);
    }

    fn fence(&self, order: Ordering) {
        std::sync::atomic::fence(order);
    }
}

fn index(number: Number) -> usize {
    match number {
        Number::Begun => live::SYNCS_BEGUN,
        Number::Done => live::SYNCS_DONE,
        Number::Failed => live::SYNC_FAILED,
    }
}

/// Zeroes the words in the file, for the first opener: no number outlives those who know it.
pub(crate) fn reset(attachment: &Attachment) {
    if attachment.header.minor == 0 {
        return;
    }
    for word in ALL {
        // Relaxed: no other process is attached. Nothing is written where nothing changes.
        if attachment.live.load(word, Relaxed) != 0 {
            attachment.live.store(word, 0, Relaxed);
        }
    }
}

/// The system's number for an error of the file, which concerns all that wait for the sync. `None`:
/// it concerns this process alone, or that is not known. Then each tries by itself.
pub(crate) fn errno_of_file(error: &Error) -> Option<u16> {
    let errno = match error {
        Error::Io { source, .. }
        | Error::NoSpace { source, .. }
        | Error::PermissionDenied { source, .. } => source.raw_os_error()?,
        Error::Corrupt { .. } | Error::Truncated { .. } => libc::EUCLEAN,
        _ => return None,
    };
    let of_file = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EROFS, libc::ENXIO, libc::EUCLEAN];
    (of_file.contains(&errno) || planted!(EveryErrorIsOfTheFile))
        .then(|| u16::try_from(errno).unwrap_or(libc::EIO as u16))
}

/// What a caller returns that was told this of a sync that another thread has led.
pub(crate) fn as_result(attachment: &Attachment, told: Told) -> Result<()> {
    match told {
        Told::Done => Ok(()),
        // Its leader has noted it.
        Told::Failed(errno) => Err(error_of_another(attachment, errno)),
    }
}

/// The error of a sync that another thread has led, for those that have joined it.
fn error_of_another(attachment: &Attachment, errno: u16) -> Error {
    if i32::from(errno) == libc::EUCLEAN {
        let what = "a sync of another thread or process, which this one has joined, found it \
                    damaged; `slotfile check` says where";
        return Error::corrupt(&attachment.path, what);
    }
    cannot_sync(attachment, std::io::Error::from_raw_os_error(errno.into()))
}
