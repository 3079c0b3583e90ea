//! What an attachment keeps for the process alone that uses it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::entries::Entries;
use super::signature::{ASK_EVERY, is_time};
use crate::error::Error;
use crate::os::process::Identity;

/// How often, at most, to search a full table.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What belongs to this process alone, not to the children of its forks.
#[derive(Debug)]
pub(super) struct Process {
    /// Byte locks are per process: two threads that probe the same byte would unlock each other's
    /// lock.
    pub(super) one_at_a_time: Mutex<()>,
    pub(super) entries: Entries,
    /// The last error of a byte lock, other than that another process has it; 0: none.
    pub(super) lock_error: AtomicI32,
    /// Whether it has the open lock.
    pub(super) opening: AtomicBool,
    /// Whether it has the sync lock.
    pub(super) syncing: AtomicBool,
    /// The last background sync that failed, until it has been reported.
    pub(super) failed_sync: Mutex<Option<Error>>,
    /// Whether it has handed a lock on to a program that it started.
    pub(super) handed_on: AtomicBool,
    /// When it last searched the whole table, in nanoseconds since boot.
    looked_through: AtomicU64,
    /// When it last asked whether a process is dying, by entry modulo 64.
    asked_who_dies: [AtomicU64; 64],
    /// Whether a recovery has locked an entry's claim byte instead of its own byte.
    pub(super) shares_claim: AtomicBool,
    pub(super) identity: OnceLock<Identity>,
}

impl Process {
    pub(super) fn new() -> Process {
        Process {
            one_at_a_time: Mutex::new(()),
            entries: Entries::new(),
            lock_error: AtomicI32::new(0),
            opening: AtomicBool::new(false),
            syncing: AtomicBool::new(false),
            failed_sync: Mutex::new(None),
            handed_on: AtomicBool::new(false),
            looked_through: AtomicU64::new(0),
            asked_who_dies: [const { AtomicU64::new(0) }; 64],
            shares_claim: AtomicBool::new(false),
            identity: OnceLock::new(),
        }
    }

    /// Whether it is time to ask for the holder of each entry of a full table. This costs one
    /// system call per entry.
    pub(super) fn may_look_through(&self) -> bool {
        is_time(&self.looked_through, LOOK_EVERY)
    }

    /// Whether it is time to ask if this entry's process is dying.
    pub(super) fn may_ask_who_dies(&self, entry: u16) -> bool {
        is_time(&self.asked_who_dies[usize::from(entry % 64)], ASK_EVERY)
    }
}
