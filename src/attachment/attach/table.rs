//! Entries of the process table: taking one, giving it back, and the byte locks that show to other
//! processes whether an entry's process is alive.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::process::Process;
use super::{Attachment, thread_entry};
use crate::error::{Error, Result};
use crate::format::layout::{COMMON_BYTE, TABLE_ENTRIES, TABLE_ENTRY_LEN, claim_byte, entry_byte};
use crate::os::sys::{self, ByteLock};
use crate::protocol::{self, MAX_OWNER, Owner, Peers, TxnState};

/// Why an entry of the table can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vacancy {
    /// No process has it.
    Free,
    /// A dead process may have left locks under it.
    LeftBehind,
}

/// The entry of an owner. `None` for an owner number from a damaged file, which no process has, and
/// for a reader without an owner.
pub(super) fn entry_of(owner: Owner) -> Option<u16> {
    owner.checked_sub(1).filter(|entry| *entry < TABLE_ENTRIES)
}

impl Attachment {
    pub(super) fn word_of(entry: u16) -> usize {
        usize::from(entry) * TABLE_ENTRY_LEN as usize / 8
    }

    /// Takes a free entry. If few or none are left, takes one that a dead process has left.
    pub(super) fn claim(&self) -> Result<Owner> {
        self.check_writable()?;
        let process = self.process();
        self.one_at_a_time(|| {
            process.lock_error.store(0, Ordering::Relaxed);
            let all = 0..MAX_OWNER;
            let spare = process.entries.spare();
            let free = |e: &u16| self.is(process, *e, Vacancy::Free);
            let kept = (0..thread_entry::FIRST_LENT).filter(free);
            let left_behind = |e: &u16| self.is(process, *e, Vacancy::LeftBehind);
            match self.claim_one_of(process, spare.chain(kept)) {
                Ok(None) => {}
                Ok(Some(owner)) => return Ok(owner),
                // The table cannot grow: those that dead processes have left must do.
                Err(full @ Error::NoSpace { .. }) => {
                    let left = self.claim_one_of(process, all.filter(left_behind));
                    return left.ok().flatten().ok_or(full);
                }
                Err(error) => return Err(error),
            }
            // Few are left, and those are only lent. Entries left by dead processes are better.
            let some = std::iter::repeat_with(|| {
                (sys::random() % u64::from(thread_entry::FIRST_LENT)) as u16
            });
            let some = some.take(2).filter(left_behind);
            let lent = (thread_entry::FIRST_LENT..MAX_OWNER).filter(free);
            if let Some(owner) = self.claim_one_of(process, some.chain(lent))? {
                return Ok(owner);
            }
            if process.may_look_through()
                && let Some(owner) = self.claim_one_of(process, all.filter(left_behind))?
            {
                return Ok(owner);
            }
            Err(Error::TooManyProcesses { path: self.path.clone(), size: usize::from(MAX_OWNER) })
        })
    }

    fn claim_one_of(
        &self,
        process: &Process,
        entries: impl Iterator<Item = u16>,
    ) -> Result<Option<Owner>> {
        let mut failed = None;
        for entry in entries {
            self.allocate_entry(entry)?;
            let settle_all = || match self.recover_all_of(entry + 1) {
                Ok(()) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            };
            if protocol::claim(self, entry + 1, settle_all) {
                process.entries.take(entry);
                return Ok(Some(entry + 1));
            }
            // If no lock can be set at all, report that.
            let lock_error = process.lock_error.load(Ordering::Relaxed);
            if lock_error != 0 {
                return Err(self.cannot_lock(std::io::Error::from_raw_os_error(lock_error)));
            }
        }
        failed.map_or(Ok(None), Err)
    }

    fn is(&self, process: &Process, entry: u16, vacancy: Vacancy) -> bool {
        self.vacancy(process, entry) == Some(vacancy)
    }

    /// Why this process could take the entry, if it can.
    fn vacancy(&self, process: &Process, entry: u16) -> Option<Vacancy> {
        // Relaxed: a hint; `protocol::claim` looks again with the byte locked.
        let word = self.table_word(entry, Ordering::Relaxed);
        match () {
            () if process.entries.owns(entry) => None,
            () if word == TxnState::Free as u64 => Some(Vacancy::Free),
            () => Some(Vacancy::LeftBehind),
        }
    }

    /// Gives an entry back. `word` is FREE if no slot names the entry. Otherwise it is IDLE, and
    /// the entry's next holder recovers those slots.
    pub(super) fn give_back(&self, process: &Process, entry: u16, word: TxnState) {
        // Release: a thread that sees FREE sees every slot as the last holder left it.
        self.set_txn_word(entry + 1, word, Ordering::Release);
        self.lock_file(process);
        if process.entries.give_back(entry) {
            self.lock_entry(entry + 1, ByteLock::None);
        } else if word != TxnState::Free && self.recover_all_of(entry + 1).is_ok() {
            // No other process can recover it: its byte stays locked.
            self.set_txn_word(entry + 1, TxnState::Free, Ordering::Release);
        }
    }

    /// The file through which to set locks. It may not be the one used before.
    pub(super) fn lock_file(&self, process: &Process) -> &File {
        let file = self.map.file();
        let own = file.own();
        process.entries.note_lost(file.times_lost());
        own
    }

    pub(super) fn is_alive(&self, process: &Process, entry: u16) -> bool {
        let file = self.map.file().own();
        process.entries.owns(entry)
            || sys::byte_is_locked(file.as_fd(), entry_byte(entry)).unwrap_or(true)
    }

    /// Whether this owner's entry is free.
    pub(crate) fn is_free(&self, owner: Owner) -> bool {
        self.table_word(owner - 1, Ordering::Acquire) == TxnState::Free as u64
    }

    /// Invalid transaction words, with their entries.
    pub(crate) fn strange_words(&self) -> Vec<(u16, u64)> {
        (0..self.entries_with_blocks())
            .map(|entry| (entry, self.table_word(entry, Ordering::Relaxed)))
            .filter(|(_, word)| *word > TxnState::Committed as u64)
            .collect()
    }

    pub(super) fn cannot_lock(&self, error: std::io::Error) -> Error {
        Error::io(&self.path, "cannot lock a byte of the file", error)
    }

    /// Sets the lock of an entry's byte. Also false if that fails; the error is then noted.
    pub(super) fn lock_entry(&self, owner: Owner, kind: ByteLock) -> bool {
        self.lock_byte(entry_byte(owner - 1), kind)
    }

    /// The same for its claim byte.
    pub(super) fn lock_claim(&self, entry: u16, kind: ByteLock) -> bool {
        self.lock_byte(claim_byte(entry), kind)
    }

    fn lock_byte(&self, byte: u64, kind: ByteLock) -> bool {
        let process = self.process();
        sys::set_byte_lock(self.lock_file(process).as_fd(), kind, byte).unwrap_or_else(|error| {
            let error = error.raw_os_error().unwrap_or(libc::EIO);
            process.lock_error.store(error, Ordering::Relaxed);
            false
        })
    }

    /// A descriptor that this process's children inherit. While it is open anywhere, all locks of
    /// this process count as held.
    pub(crate) fn inheritable(&self) -> Result<OwnedFd> {
        let cannot = |e| Error::io(&self.path, "cannot copy the file's descriptor", e);
        let process = self.process();
        let file = self.one_at_a_time(|| {
            // Forever: nothing tells when the other process is done.
            process.handed_on.store(true, Ordering::Relaxed);
            process.entries.in_use().for_each(|entry| self.sign(entry));
            self.lock_file(process)
        });
        let entry = thread_entry::owner(self).map(|owner| owner - 1);
        if entry.is_some_and(|entry| process.entries.is_kept(entry)) {
            let why = "this program has closed the descriptor that has the lock";
            return Err(cannot(std::io::Error::other(why)));
        }
        sys::inheritable(file.as_fd()).map_err(cannot)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let process = self.process();
        let leaked = self.kept_locks.load(Ordering::Relaxed) > 0;
        for entry in process.entries.in_use().collect::<Vec<_>>() {
            self.give_back(process, entry, if leaked { TxnState::Idle } else { TxnState::Free });
        }
        // Explicitly: a child between its fork and its exec has a copy of the descriptor, which
        // would keep the lock.
        let _ = sys::set_byte_lock(self.map.file().own().as_fd(), ByteLock::None, COMMON_BYTE);
    }
}
