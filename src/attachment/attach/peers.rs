//! The process table as the protocol sees it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::table::entry_of;
use super::{Attachment, thread_entry};
use crate::error::{Error, Result};
use crate::mutant::planted;
use crate::os::fork;
use crate::os::sys::ByteLock;
use crate::protocol::{self, Deadline, Owner, Peers, TxnState};

/// Why the protocol failed, in a store.
pub(crate) type Failure = protocol::Failure<Error>;

impl Attachment {
    /// The user's error for a failure of the protocol. `slot` is what was to be locked.
    pub(crate) fn lock_error(&self, slot: &str, failure: Failure, deadline: &Deadline) -> Error {
        let (path, slot) = (self.path.clone(), slot.to_owned());
        match failure {
            Failure::Deadlock => Error::Deadlock { path, slot: Some(slot) },
            Failure::Removed => Error::Removed { path, slot },
            Failure::Evicted => Error::Evicted { path, slot },
            Failure::Timeout(owner) => {
                let holder = self.holder(owner);
                Error::LockTimeout { path, slot, holder, waited: deadline.limit() }
            }
            Failure::Peers(error) => error,
        }
    }
}

impl Peers for Attachment {
    type Error = Error;

    #[inline]
    fn me(&self) -> Result<Owner> {
        thread_entry::owner_or_claim(self)
    }

    fn may_be_free_soon(error: &Error) -> bool {
        matches!(error, Error::TooManyProcesses { .. })
    }

    fn is_me(&self, owner: Owner) -> bool {
        thread_entry::owner(self) == Some(owner)
    }

    fn txn_word(&self, owner: Owner, order: Ordering) -> TxnState {
        match entry_of(owner).map(|entry| self.table_word(entry, order)) {
            Some(0) => TxnState::Free,
            Some(2) => TxnState::Committed,
            _ => TxnState::Idle,
        }
    }

    fn set_txn_word(&self, owner: Owner, word: TxnState, order: Ordering) {
        self.table.store(Self::word_of(owner - 1), word as u64, order);
    }

    fn one_at_a_time<R>(&self, f: impl FnOnce() -> R) -> R {
        // It guards byte locks, which a panic does not leave half-done.
        let _alone = self.process().one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        f()
    }

    fn share(&self, owner: Owner) -> bool {
        let Some(entry) = entry_of(owner) else { return true };
        let entries = &self.process().entries;
        if entries.owns(entry) {
            return entries.is_spare(entry);
        }
        // If the lock fails for another reason, nobody is taken for dead.
        self.lock_entry(owner, ByteLock::Read) || self.share_of_the_dying(entry)
    }

    fn unshare(&self, owner: Owner) {
        let process = self.process();
        let Some(entry) = entry_of(owner).filter(|entry| !process.entries.owns(*entry)) else {
            return;
        };
        match process.shares_claim.swap(false, Ordering::Relaxed) {
            true => _ = self.lock_claim(entry, ByteLock::None),
            false => _ = self.lock_entry(owner, ByteLock::None),
        }
    }

    fn promote(&self, owner: Owner) -> bool {
        let entry = owner - 1;
        if self.process().entries.is_spare(entry) {
            self.sign(entry);
            return true;
        }
        // A process that recovers a dying owner read-locks the claim byte, because the owner still
        // has its own byte. Until that is done, the entry must not pass to another process.
        let claimed =
            self.lock_claim(entry, ByteLock::Write) || planted!(AnEntryThatIsBeingSettledIsTaken);
        let promoted = claimed && self.lock_entry(owner, ByteLock::Write);
        if promoted {
            // Before the word says that the entry is taken: nobody must read the dead process's
            // name. And under the claim byte: whoever locks that next reads the new holder.
            self.sign(entry);
        }
        self.lock_claim(entry, ByteLock::None);
        promoted
    }

    #[inline]
    fn fork_generation(&self) -> u64 {
        fork::generation()
    }

    #[inline]
    fn note_locked(&self) {
        thread_entry::note_locked();
    }

    #[inline]
    fn note_unlocked(&self) {
        thread_entry::note_unlocked();
    }

    fn note_given_up(&self) {
        thread_entry::note_given_up();
    }

    fn begin_under_guard(&self, slot: u64) -> Option<u64> {
        thread_entry::begin_under_guard(self, slot)
    }

    fn is_under_guard(&self, slot: u64, update: u64) -> bool {
        thread_entry::is_under_guard(self, slot, update)
    }

    fn end_under_guard(&self, slot: u64, update: u64) {
        thread_entry::end_under_guard(self, slot, update);
    }

    fn is_handover_due(&self) -> bool {
        thread_entry::is_handover_due(&self.live)
    }
}
