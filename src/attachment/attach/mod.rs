//! [`Attachment`]: the mapping, this process's entries of the process table, and which other
//! processes are alive.
//!
//! Each thread that takes locks has an entry of the table while it lives. For each entry, the
//! process holds a write lock on that entry's own byte of the file. The kernel drops this lock when
//! the process dies, however it was killed, even across PID namespaces. Every attached process,
//! readers too, has a read lock on one common byte.

mod entries;
mod notes;
mod peers;
mod signature;
mod thread_entry;

pub(crate) use peers::Failure;
pub(crate) use thread_entry::thread_is_ending;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use self::entries::Entries;
use self::signature::{ASK_EVERY, is_time};
use crate::attachment::descriptor_cache::Known;
use crate::attachment::survey::Survey;
use crate::error::{Error, Result};
use crate::format::layout::{
    COMMON_BYTE, Header, LINE, TABLE_ENTRIES, TABLE_ENTRY_LEN, claim_byte, entry_byte, live,
};
use crate::mapping::map::{Map, Region, Unmapped};
use crate::mapping::slot_memory::SlotMemory;
use crate::os::disk::Disk;
use crate::os::fork::PerProcess;
use crate::os::process::Identity;
use crate::os::sys::{self, ByteLock};
use crate::protocol::{self, Form, Owner, Peers, TxnState};

pub(crate) use thread_entry::Number;

/// How often, at most, to search a full table.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
    pub(crate) index: Region,
    pub(crate) directory: Region,
    pub(crate) known: Known,
    survey: PerProcess<Mutex<Survey>>,
    process: PerProcess<Process>,
    /// Recovers every slot and every lock of the store from a dead owner.
    settle_all: fn(&Attachment, Owner) -> Result<()>,
    /// Locks that this process's threads hold beyond one call; leaked ones, too.
    kept_locks: AtomicUsize,
    /// The store from which this one is being made.
    original: OnceLock<Arc<Attachment>>,
    /// A disk to use instead of the file itself.
    #[cfg(test)]
    pub(crate) simulated: OnceLock<Arc<dyn Disk>>,
}

/// What belongs to this process alone, not to the children of its forks.
#[derive(Debug)]
struct Process {
    /// Byte locks are per process: two threads that probe the same byte would unlock each other's
    /// lock.
    one_at_a_time: Mutex<()>,
    entries: Entries,
    /// The last error of a byte lock, other than that another process has it; 0: none.
    lock_error: AtomicI32,
    /// Whether it has the open lock.
    opening: AtomicBool,
    /// Whether it has the sync lock.
    syncing: AtomicBool,
    /// The last background sync that failed, until it has been reported.
    failed_sync: Mutex<Option<Error>>,
    /// Whether it has handed a lock on to a program that it started.
    handed_on: AtomicBool,
    /// When it last searched the whole table, in nanoseconds since boot.
    looked_through: AtomicU64,
    /// When it last asked whether a process is dying, by entry modulo 64.
    asked_who_dies: [AtomicU64; 64],
    /// Whether a recovery has locked an entry's claim byte instead of its own byte.
    shares_claim: AtomicBool,
    identity: OnceLock<Identity>,
}

/// Why an entry of the table can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vacancy {
    /// No process has it.
    Free,
    /// A dead process may have left locks under it.
    LeftBehind,
}

impl Process {
    fn new() -> Process {
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
    fn may_look_through(&self) -> bool {
        is_time(&self.looked_through, LOOK_EVERY)
    }

    /// Whether it is time to ask if this entry's process is dying.
    fn may_ask_who_dies(&self, entry: u16) -> bool {
        is_time(&self.asked_who_dies[usize::from(entry % 64)], ASK_EVERY)
    }
}

impl Attachment {
    /// The store in this mapped file, whose header has been checked. Other processes do not see it
    /// until [`Attachment::announce`].
    pub(crate) fn new(
        path: PathBuf,
        mut map: Map,
        header: Header,
        writable: bool,
        settle_all: fn(&Attachment, Owner) -> Result<()>,
    ) -> Result<Arc<Attachment>> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let bell = header.regions.live_header + 8 * live::BELL as u64;
        map.set_bell(Some(bell).filter(|_| header.minor >= 1));
        let map = Arc::new(map);
        let r = &header.regions;
        let region =
            |offset, len| map.region(offset, len).map_err(|e| unmapped(&path, e, offset + len));
        let live = region(r.live_header, 8 * live::WORDS as u64)?;
        let table = region(r.table, r.table_entries * TABLE_ENTRY_LEN)?;
        let index = region(r.index, 8 * r.index_entries)?;
        let directory = region(r.directory, r.directory_lines * LINE as u64)?;
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
            index,
            directory,
            known: Known::new(header.regions.directory_lines, header.max_slots),
            survey: PerProcess::new(Mutex::new(Survey::new(&header.regions))),
            map,
            process: PerProcess::new(Process::new()),
            settle_all,
            kept_locks: AtomicUsize::new(0),
            original: OnceLock::new(),
            #[cfg(test)]
            simulated: OnceLock::new(),
        }))
    }

    /// Whether any process has this file attached, not counting this process's other attachments.
    pub(crate) fn is_attached_elsewhere(map: &Map) -> std::io::Result<bool> {
        sys::byte_is_locked(map.file().own().as_fd(), COMMON_BYTE)
    }

    /// Whether it can be told if others have this file attached. It cannot once this program has
    /// closed the store's descriptor: the old file description is still attached.
    pub(crate) fn tells_if_alone(&self) -> bool {
        self.map.file().own();
        self.map.file().times_lost() == 0
    }

    /// Runs `f` under the open lock, if the lock is free and no other process is attached.
    pub(crate) fn if_alone(&self, f: impl FnOnce() -> Result<()>) -> Result<()> {
        let file = self.map.file().own();
        if !sys::try_lock_file(file).unwrap_or(false) {
            return Ok(()); // somebody is opening it, or leaving
        }
        let result = match Self::is_attached_elsewhere(&self.map) {
            Ok(false) => self.with_progress(f),
            _ => Ok(()),
        };
        sys::unlock_file(file).map_err(|e| Error::io(&self.path, "cannot unlock it", e))?;
        result
    }

    /// Runs `f`, which may take long, under the open lock. Those who wait for that lock are shown
    /// its progress.
    pub(crate) fn with_progress<R>(&self, f: impl FnOnce() -> R) -> R {
        // Relaxed, here and below: this same thread reads it.
        self.process().opening.store(true, Ordering::Relaxed);
        let result = f();
        self.process().opening.store(false, Ordering::Relaxed);
        result
    }

    /// Counts progress here as progress of the store from which this one is being made.
    pub(crate) fn set_original(&self, original: &Attachment) {
        if let Some(original) = original.this.upgrade() {
            let _ = self.original.set(original);
        }
    }

    /// Counts one step of a long operation. Only the holder of the open lock counts: a foreign
    /// program that holds the lock must not seem to progress because of what others do.
    pub(crate) fn note_progress(&self) {
        if let Some(original) = self.original.get() {
            return original.note_progress();
        }
        // Relaxed: only a change of the count means anything, and there is one holder.
        let count = |word: usize| {
            let steps = self.live.load(word, Ordering::Relaxed);
            self.live.store(word, steps.wrapping_add(1), Ordering::Relaxed);
        };
        if self.writable && self.process().opening.load(Ordering::Relaxed) {
            count(live::PROGRESS);
        }
        if self.header.minor >= 1 && self.process().syncing.load(Ordering::Relaxed) {
            count(live::SYNC_PROGRESS);
        }
    }

    /// Notes whether this process has the sync lock, so that its progress is counted.
    pub(crate) fn set_syncing(&self, syncing: bool) {
        // Relaxed: this same thread reads it.
        self.process().syncing.store(syncing, Ordering::Relaxed);
    }

    /// Shows other processes that this one is attached.
    pub(crate) fn announce(&self) -> Result<()> {
        let locked = self.map.file().lock_common(COMMON_BYTE).map_err(|e| self.cannot_lock(e))?;
        if !locked {
            let what = "a program that is not slotfile has locked its common byte".into();
            return Err(Error::Unsupported { path: self.path.clone(), what });
        }
        Ok(())
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
        SlotMemory::new(self.live.part(word, 2), Form::Lock)
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
        let survey = self.survey.get(|_| Mutex::new(Survey::new(&self.header.regions)));
        survey.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn process(&self) -> &Process {
        self.process.get(|_| Process::new())
    }

    fn word_of(entry: u16) -> usize {
        usize::from(entry) * TABLE_ENTRY_LEN as usize / 8
    }

    /// Takes a free entry. If few or none are left, takes one that a dead process has left.
    fn claim(&self) -> Result<Owner> {
        self.check_writable()?;
        let process = self.process();
        self.one_at_a_time(|| {
            process.lock_error.store(0, Ordering::Relaxed);
            let all = 0..TABLE_ENTRIES;
            let spare = process.entries.spare();
            let free = |e: &u16| self.is(process, *e, Vacancy::Free);
            let kept = (0..thread_entry::FIRST_LENT).filter(free);
            if let Some(owner) = self.claim_one_of(process, spare.chain(kept))? {
                return Ok(owner);
            }
            // Few are left, and those are only lent. Entries left by dead processes are better.
            let some = std::iter::repeat_with(|| {
                (sys::random() % u64::from(thread_entry::FIRST_LENT)) as u16
            });
            let left_behind = |e: &u16| self.is(process, *e, Vacancy::LeftBehind);
            let some = some.take(2).filter(left_behind);
            let lent = (thread_entry::FIRST_LENT..TABLE_ENTRIES).filter(free);
            if let Some(owner) = self.claim_one_of(process, some.chain(lent))? {
                return Ok(owner);
            }
            if process.may_look_through()
                && let Some(owner) = self.claim_one_of(process, all.filter(left_behind))?
            {
                return Ok(owner);
            }
            Err(Error::TooManyProcesses {
                path: self.path.clone(),
                size: usize::from(TABLE_ENTRIES),
            })
        })
    }

    fn claim_one_of(
        &self,
        process: &Process,
        entries: impl Iterator<Item = u16>,
    ) -> Result<Option<Owner>> {
        let mut failed = None;
        for entry in entries {
            let settle_all = || match (self.settle_all)(self, entry + 1) {
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
        let word = self.table.load(Self::word_of(entry), Ordering::Relaxed);
        match () {
            () if process.entries.owns(entry) => None,
            () if word == TxnState::Free as u64 => Some(Vacancy::Free),
            () => Some(Vacancy::LeftBehind),
        }
    }

    /// Gives an entry back. `word` is FREE if no slot names the entry. Otherwise it is IDLE, and
    /// the entry's next holder recovers those slots.
    fn give_back(&self, process: &Process, entry: u16, word: TxnState) {
        // Release: a thread that sees FREE sees every slot as the last holder left it.
        self.set_word(entry + 1, word, Ordering::Release);
        self.lock_file(process);
        if process.entries.give_back(entry) {
            self.lock_entry(entry + 1, ByteLock::None);
        } else if word != TxnState::Free && (self.settle_all)(self, entry + 1).is_ok() {
            // No other process can recover it: its byte stays locked.
            self.set_word(entry + 1, TxnState::Free, Ordering::Release);
        }
    }

    /// The file through which to set locks. It may not be the one used before.
    fn lock_file(&self, process: &Process) -> &File {
        let file = self.map.file();
        let own = file.own();
        process.entries.note_lost(file.times_lost());
        own
    }

    fn is_alive(&self, process: &Process, entry: u16) -> bool {
        let file = self.map.file().own();
        process.entries.owns(entry)
            || sys::byte_is_locked(file.as_fd(), entry_byte(entry)).unwrap_or(true)
    }

    /// Sets every word of the table that has no live process to FREE. If there is such a word,
    /// first calls `settle`, which recovers all slots. No other process is attached.
    pub(crate) fn reset_table(&self, settle: impl FnOnce() -> Result<()>) -> Result<()> {
        // Relaxed: the open lock, which is held, orders it.
        let words = self.table.words().iter().step_by(TABLE_ENTRY_LEN as usize / 8);
        let used = words.map(|word| word.load(Ordering::Relaxed) != TxnState::Free as u64);
        let left: Vec<u16> = (0..TABLE_ENTRIES)
            .zip(used)
            .filter(|(entry, used)| *used && !self.is_alive(self.process(), *entry))
            .map(|(entry, _)| entry)
            .collect();
        if !left.is_empty() {
            settle()?;
        }
        for entry in left {
            self.set_word(entry + 1, TxnState::Free, Ordering::Release);
        }
        Ok(())
    }

    /// Whether this owner's entry is free.
    pub(crate) fn is_free(&self, owner: Owner) -> bool {
        let word = self.table.load(Self::word_of(owner - 1), Ordering::Acquire);
        word == TxnState::Free as u64
    }

    /// Invalid transaction words, with their entries.
    pub(crate) fn strange_words(&self) -> Vec<(u16, u64)> {
        let words = self.table.words().iter().step_by(TABLE_ENTRY_LEN as usize / 8);
        (0..TABLE_ENTRIES)
            .zip(words.map(|word| word.load(Ordering::Relaxed)))
            .filter(|(_, word)| *word > TxnState::Committed as u64)
            .collect()
    }

    fn cannot_lock(&self, error: std::io::Error) -> Error {
        Error::io(&self.path, "cannot lock a byte of the file", error)
    }

    /// Sets the lock of an entry's byte. Also false if that fails; the error is then noted.
    fn lock_entry(&self, owner: Owner, kind: ByteLock) -> bool {
        self.lock_byte(entry_byte(owner - 1), kind)
    }

    /// The same for its claim byte.
    fn lock_claim(&self, entry: u16, kind: ByteLock) -> bool {
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

/// The entry of an owner. `None` for an owner number from a damaged file, which no process has, and
/// for a reader without an owner.
fn entry_of(owner: Owner) -> Option<u16> {
    owner.checked_sub(1).filter(|entry| *entry < TABLE_ENTRIES)
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
