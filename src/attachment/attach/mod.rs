//! [`Attachment`]: the mapping, this process's entries of the process table, and which other
//! processes are alive.
//!
//! Each thread that takes locks has an entry of the table while it lives. For each entry, the
//! process holds a write lock on that entry's own byte of the file. The kernel drops this lock when
//! the process dies, however it was killed, even across PID namespaces. Every attached process,
//! readers too, has a read lock on one common byte.

mod blocks;
mod entries;
mod notes;
mod open_lock;
mod peers;
mod process;
mod recover;
mod signature;
mod table;
mod thread_entry;

pub(crate) use blocks::no_fallocate;
pub(crate) use peers::Failure;
pub(crate) use thread_entry::{Number, thread_is_ending};

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};

use self::process::Process;
use crate::attachment::descriptor_cache::DescriptorCache;
use crate::attachment::segments;
use crate::attachment::survey::Survey;
use crate::attachment::tiers::KnownTiers;
use crate::error::{Error, Result};
use crate::format::layout::{Header, TABLE_ENTRY_LEN, live};
use crate::mapping::map::{Map, Region, Unmapped};
use crate::mapping::slot_memory::SlotMemory;
use crate::os::disk::Disk;
use crate::os::fork::PerProcess;
use crate::protocol::Form;

/// An open store, shared by all its handles in this process.
#[derive(Debug)]
pub(crate) struct Attachment {
    this: Weak<Attachment>,
    /// Distinguishes this attachment from all others of this process, past ones too.
    id: u64,
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) writable: bool,
    /// The store may be written, and no failed sync is waiting to be reported.
    takes_writes: AtomicBool,
    pub(crate) map: Arc<Map>,
    /// The words of the live header.
    pub(crate) live: Region,
    table: Region,
    pub(crate) descriptor_cache: DescriptorCache,
    pub(crate) known_tiers: KnownTiers,
    survey: PerProcess<Mutex<Survey>>,
    process: PerProcess<Process>,
    /// Locks that this process's threads hold beyond one call; leaked ones, too.
    kept_locks: AtomicUsize,
    /// The store from which this one is being made.
    original: OnceLock<Arc<Attachment>>,
    /// A disk to use instead of the file itself.
    #[cfg(test)]
    pub(crate) simulated: OnceLock<Arc<dyn Disk>>,
}

impl Attachment {
    /// The store in this mapped file, whose header has been checked. Other processes do not see it
    /// until [`Attachment::announce`].
    pub(crate) fn new(
        path: PathBuf,
        mut map: Map,
        header: Header,
        writable: bool,
    ) -> Result<Arc<Attachment>> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let event_count = header.regions.live_header + 8 * live::EVENT_COUNT as u64;
        map.set_event_count(Some(event_count).filter(|_| header.minor >= 1));
        map.set_marks(segments::marks_place(&header));
        let map = Arc::new(map);
        let r = &header.regions;
        let region =
            |offset, len| map.region(offset, len).map_err(|e| unmapped(&path, e, offset + len));
        let live = region(r.live_header, 8 * live::WORDS as u64)?;
        let table = region(r.table, r.table_entries * TABLE_ENTRY_LEN)?;
        Ok(Arc::new_cyclic(|this| Attachment {
            this: this.clone(),
            // Relaxed: it is only a number.
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            path,
            header,
            writable,
            takes_writes: AtomicBool::new(writable),
            live,
            table,
            descriptor_cache: DescriptorCache::new(
                header.regions.directory_lines,
                header.max_slots,
            ),
            known_tiers: KnownTiers::default(),
            survey: PerProcess::new(Mutex::new(Survey::new(&header.regions))),
            map,
            process: PerProcess::new(Process::new()),
            kept_locks: AtomicUsize::new(0),
            original: OnceLock::new(),
            #[cfg(test)]
            simulated: OnceLock::new(),
        }))
    }

    /// Distinguishes it from all others of this process, past ones too.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The disk with its checkpoint.
    pub(crate) fn disk(&self) -> &dyn Disk {
        #[cfg(test)]
        if let Some(disk) = self.simulated.get() {
            return &**disk;
        }
        &*self.map
    }

    /// A range of the file.
    pub(crate) fn region(&self, offset: u64, len: u64) -> Result<Region> {
        self.map.region(offset, len).map_err(|e| self.unmapped(e, offset + len))
    }

    /// One of the store's own locks: [`live::DIRECTORY_LOCK`] or [`live::SYNC_LOCK`].
    pub(crate) fn lock(&self, word: usize) -> SlotMemory {
        SlotMemory::new(self.live.subregion(word, 2), Form::Lock)
    }

    /// The user's error for a range of the file that cannot be mapped.
    #[cold]
    pub(crate) fn unmapped(&self, why: Unmapped, need: u64) -> Error {
        unmapped(&self.path, why, need)
    }

    /// An error unless the store may be written.
    #[inline]
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.writable { Ok(()) } else { Err(self.read_only_error()) }
    }

    #[cold]
    fn read_only_error(&self) -> Error {
        Error::ReadOnly { path: self.path.clone() }
    }

    /// What this process has learned from all descriptors.
    pub(crate) fn survey(&self) -> MutexGuard<'_, Survey> {
        self.own_survey().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, unless another thread has it.
    pub(crate) fn try_survey(&self) -> Option<MutexGuard<'_, Survey>> {
        match self.own_survey().try_lock() {
            Ok(survey) => Some(survey),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn own_survey(&self) -> &Mutex<Survey> {
        self.survey.get(|_| Mutex::new(Survey::new(&self.header.regions)))
    }

    fn process(&self) -> &Process {
        self.process.get(|_| Process::new())
    }
}

fn unmapped(path: &Path, why: Unmapped, need: u64) -> Error {
    let path = path.to_owned();
    match why {
        Unmapped::BeyondFile { have } => Error::Truncated { path, have, need },
        Unmapped::BeyondReservation { reserved } => Error::AddressSpace { path, need, reserved },
        Unmapped::Unknown(error) => {
            let error = std::io::Error::from_raw_os_error(error);
            Error::io(&path, "cannot tell how long the file is (fstat)", error)
        }
    }
}
