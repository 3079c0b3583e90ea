//! Allocates the disk's blocks, for the process table too: a new store has one page of it.

use std::sync::atomic::Ordering;

use super::Attachment;
use crate::error::{Error, Result};
use crate::format::layout::{TABLE_ENTRIES, TABLE_ENTRY_LEN, live};
use crate::format::regions::ENTRIES_OF_PAGE;
use crate::mutant::planted;
use crate::protocol::TxnState;

impl Attachment {
    /// Allocates the blocks of this part of the file.
    pub(crate) fn allocate(&self, from: u64, to: u64) -> Result<()> {
        let len = to - from;
        self.disk().allocate(from, len).map_err(|error| self.no_space(len, error))
    }

    /// `NoSpace`, if the error means that.
    pub(crate) fn no_space(&self, need: u64, source: std::io::Error) -> Error {
        let path = self.path.clone();
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => {
                Error::NoSpace { path, need, source }
            }
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => {
                Error::Unsupported { path, what: no_fallocate(&source) }
            }
            _ => Error::io(&path, "cannot write or allocate blocks", source),
        }
    }

    /// How many entries of the process table have blocks, from the first one on. The others are
    /// free, and must not be touched.
    pub(crate) fn entries_with_blocks(&self) -> u16 {
        // If the word is damaged, no entry may be missed.
        self.known_entries_with_blocks().unwrap_or(TABLE_ENTRIES)
    }

    /// The same; `None` if the word that says so is damaged.
    pub(crate) fn known_entries_with_blocks(&self) -> Option<u16> {
        match self.header.minor {
            0 => Some(TABLE_ENTRIES),
            // Acquire: who sees an entry's owner in a lock sees at least what this word was then.
            _ => entries_of(self.live.load(live::TABLE_BLOCKS, Ordering::Acquire)),
        }
    }

    /// Allocates the blocks of the process table up to this entry.
    pub(super) fn allocate_entry(&self, entry: u16) -> Result<()> {
        let known = self.known_entries_with_blocks();
        if known.is_some_and(|entries| entry < entries) {
            return Ok(());
        }
        // If the word is damaged, all of them.
        let entries = match known {
            Some(_) => (entry + 1).next_multiple_of(ENTRIES_OF_PAGE),
            None => TABLE_ENTRIES,
        };
        if !planted!(TheTableHasNoBlocks) {
            let table = self.header.regions.table;
            self.allocate(table, table + u64::from(entries) * TABLE_ENTRY_LEN)?;
        }
        let word = u64::from(entries) | u64::from(!u32::from(entries)) << 32;
        // Release: a thread that sees an entry in use sees that it has blocks. Never back: of two
        // processes that get here at once, one may have allocated more.
        let further = |now| Some(word).filter(|_| entries_of(now).is_none_or(|n| n < entries));
        let words = &self.live.words()[live::TABLE_BLOCKS];
        let _ = words.fetch_update(Ordering::Release, Ordering::Acquire, further);
        Ok(())
    }

    /// The transaction word of an entry.
    pub(super) fn table_word(&self, entry: u16, order: Ordering) -> u64 {
        if entry < self.entries_with_blocks() {
            self.table.load(Self::word_of(entry), order)
        } else {
            TxnState::Free as u64
        }
    }
}

/// What the word says; `None` if it is damaged.
fn entries_of(word: u64) -> Option<u16> {
    let (entries, complement) = (word as u32, (word >> 32) as u32);
    let possible = entries == !complement
        && (1..=TABLE_ENTRIES.into()).contains(&entries)
        && entries.is_multiple_of(ENTRIES_OF_PAGE.into());
    if word == 0 { Some(ENTRIES_OF_PAGE) } else { possible.then_some(entries as u16) }
}

/// Why a store cannot be written here.
pub(crate) fn no_fallocate(source: &std::io::Error) -> String {
    format!(
        "blocks cannot be allocated before they are used (fallocate: {source}), as on ext3 and \
         exFAT; put it on ext4, xfs, btrfs or tmpfs, or open it read-only"
    )
}
