//! What a process writes into its entry of the process table. It is shown to people. It also tells
//! when the process no longer runs although the kernel has not yet released its locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Attachment;
use crate::format::layout::{TABLE_ENTRIES, TABLE_ENTRY_LEN};
use crate::mutant::planted;
use crate::os::process::Identity;
use crate::os::sys::{self, ByteLock};
use crate::os::time::seconds_since_1970;
use crate::protocol::{Owner, TxnState};
use crate::types::attached_process::AttachedProcess;

/// Bytes of an entry after its word.
const SIGNATURE_LEN: usize = TABLE_ENTRY_LEN as usize - 8;
/// Bytes of an entry for its process's name. The kernel's names have at most 15.
const COMMAND_LEN: usize = 31;
/// Where an entry says that its locks were handed on, so that they outlive its process.
const HANDED_ON: usize = 16 + COMMAND_LEN;
/// How often, at most, to ask whether a process is dying.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(10);

impl Attachment {
    /// Writes which process has the entry, for display.
    pub(super) fn sign(&self, entry: u16) {
        let mut content = [0; SIGNATURE_LEN];
        let Identity { pid, namespace, began } =
            *self.process().identity.get_or_init(Identity::own);
        content[..4].copy_from_slice(&pid.to_le_bytes());
        content[8..16].copy_from_slice(&seconds_since_1970().to_le_bytes());
        let command = std::fs::read("/proc/self/comm").unwrap_or_default();
        let command = command.trim_ascii_end();
        let len = command.len().min(COMMAND_LEN);
        content[16..16 + len].copy_from_slice(&command[..len]);
        if self.header.minor >= 1 {
            content[4..8].copy_from_slice(&namespace.to_le_bytes());
            content[HANDED_ON] = self.process().handed_on.load(Ordering::Relaxed).into();
            content[HANDED_ON + 1..][..8].copy_from_slice(&began.to_le_bytes());
        }
        self.table.write(Self::word_of(entry) + 1, 0, &content);
    }

    /// The processes that have entries.
    pub(crate) fn openers(&self) -> Vec<AttachedProcess> {
        let process = self.process();
        let mut openers: Vec<AttachedProcess> = (0..self.entries_with_blocks())
            .filter(|entry| {
                let word = self.table_word(*entry, Ordering::Acquire);
                word != TxnState::Free as u64 && self.is_alive(process, *entry)
            })
            .map(|entry| self.opener(entry))
            .collect();
        openers.sort();
        openers.dedup();
        openers
    }

    /// The process that has this entry, as the entry says.
    fn opener(&self, entry: u16) -> AttachedProcess {
        let content = self.signature(entry);
        let command = content[16..].split(|b| *b == 0).next().unwrap_or_default();
        let command = &command[..command.len().min(COMMAND_LEN)];
        let identity = self.identity(entry);
        AttachedProcess {
            pid: identity.pid,
            command: String::from_utf8_lossy(command).into_owned(),
            state: identity.state(),
        }
    }

    fn identity(&self, entry: u16) -> Identity {
        let content = self.signature(entry);
        let number = |at: usize| {
            let bytes = content[at..at + 4].iter().rev();
            bytes.fold(0u32, |number, byte| number << 8 | u32::from(*byte))
        };
        let began = HANDED_ON + 1;
        match self.header.minor {
            0 => Identity { pid: number(0), namespace: 0, began: 0 },
            _ => Identity {
                pid: number(0),
                namespace: number(4),
                began: u64::from(number(began)) | u64::from(number(began + 4)) << 32,
            },
        }
    }

    fn is_handed_on(&self, entry: u16) -> bool {
        self.signature(entry)[HANDED_ON] != 0
    }

    fn signature(&self, entry: u16) -> [u8; SIGNATURE_LEN] {
        let mut content = [0; SIGNATURE_LEN];
        if entry < self.entries_with_blocks() {
            self.table.read(Self::word_of(entry) + 1, 0, &mut content);
        }
        content
    }

    /// The process that has this owner's entry.
    pub(crate) fn holder(&self, owner: Owner) -> Option<AttachedProcess> {
        let entry = owner.checked_sub(1).filter(|entry| *entry < TABLE_ENTRIES)?;
        Some(self.opener(entry)).filter(|opener| opener.pid != 0)
    }

    /// Whether the entry's process certainly no longer runs, though its byte is still locked. The
    /// kernel releases a dead process's locks only after it has torn down its memory and written
    /// its core dump. If so, this locks the claim byte: nobody can claim the entry while its locks
    /// are recovered.
    ///
    /// Never in a store of format 1.0, whose entries say too little. Nor for a process that has
    /// handed a lock on: another process holds that lock now.
    pub(super) fn share_of_the_dying(&self, entry: u16) -> bool {
        let process = self.process();
        if self.header.minor == 0 || !process.may_ask_who_dies(entry) {
            return false;
        }
        if planted!(ADyingProcessIsWaitedFor)
            || !self.identity(entry).is_dying()
            || !self.lock_claim(entry, ByteLock::Read)
        {
            return false;
        }
        // Checked again: only from here on does the entry stay that process's.
        let dying = self.identity(entry).is_dying()
            && (planted!(ALockThatWasHandedOnIsRecovered) || !self.is_handed_on(entry));
        process.shares_claim.store(dying, Ordering::Relaxed);
        if !dying {
            self.lock_claim(entry, ByteLock::None);
        }
        dying
    }
}

/// Whether this period has passed since the last time it had.
pub(super) fn is_time(last: &AtomicU64, period: Duration) -> bool {
    let now = sys::since_boot();
    // Relaxed: a time, under the mutex.
    let due = now.saturating_sub(last.load(Ordering::Relaxed)) >= period.as_nanos() as u64;
    if due {
        last.store(now, Ordering::Relaxed);
    }
    due
}
