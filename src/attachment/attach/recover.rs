//! Recovers what dead processes held, in all slots of the store.

use std::sync::atomic::Ordering;

use super::Attachment;
use crate::attachment::descriptors;
use crate::error::Result;
use crate::format::layout::live;
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, FREE, Memory, Owner, Peers, REMOVED, TxnState};

impl Attachment {
    /// Sets every word of the table that has no live process to FREE. If there is such a word,
    /// first recovers all slots. No other process is attached.
    pub(crate) fn reset_table(&self) -> Result<()> {
        // Relaxed: the open lock, which is held, orders it.
        let is_used = |entry| self.table_word(entry, Ordering::Relaxed) != TxnState::Free as u64;
        let left: Vec<u16> = (0..self.entries_with_blocks())
            .filter(|entry| is_used(*entry) && !self.is_alive(self.process(), *entry))
            .collect();
        if !left.is_empty() {
            self.recover_all_of_the_dead()?;
        }
        for entry in left {
            self.set_txn_word(entry + 1, TxnState::Free, Ordering::Release);
        }
        Ok(())
    }

    /// Recovers every slot and every lock of the store from `owner`, which is dead.
    pub(super) fn recover_all_of(&self, owner: Owner) -> Result<()> {
        self.each_lock(|memory| protocol::settle(memory, self, owner))
    }

    /// Recovers the locks of all dead processes, except those that were never counted as attached,
    /// because their kernel had no memory for a lock.
    fn recover_all_of_the_dead(&self) -> Result<()> {
        self.each_lock(|memory| {
            // Relaxed: the open lock, which is held, orders it.
            let owner = memory.control(Ordering::Relaxed).owner();
            if owner != FREE && owner != REMOVED {
                protocol::recover_dead_owner(memory, self, owner);
            }
        })
    }

    /// Calls `f` with everything in the store that can be locked.
    fn each_lock(&self, f: impl Fn(&SlotMemory)) -> Result<()> {
        f(&self.lock(live::DIRECTORY_LOCK));
        f(&self.lock(live::SYNC_LOCK));
        descriptors::each(self, |descriptor| {
            f(&descriptors::memory(self, &descriptor)?);
            Ok(())
        })
    }
}
