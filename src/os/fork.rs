//! What a fork does to open stores.
//!
//! A byte lock belongs to the open file description, which a forked child shares with its parent.
//! The child would keep the parent's locks alive after the parent's death, and could drop them by
//! unlocking. So in the child, before anything else runs, every descriptor of a store is made to
//! refer to a new description. What belongs to the process (mutexes, the list of its own entries)
//! is created again when it is next used.

#![allow(unsafe_code)] // for one attribute, see `AT_LOAD`

use std::ffi::CString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::mutant::planted;
use crate::os::descriptor::{self, FileId};
use crate::os::sys::{self, ByteLock};

/// The number of forks between this process and the one that loaded the library.
#[inline]
pub(crate) fn generation() -> u64 {
    // Relaxed: it changes only in a child that has no other thread yet.
    GENERATION.load(Ordering::Relaxed)
}

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// A value of which each process has its own. The child of a fork makes one from its parent's,
/// whose locks another thread may have held at that moment.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    generation: u64,
    value: T,
    next: OnceLock<Box<PerProcess<T>>>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new(value: T) -> PerProcess<T> {
        PerProcess { generation: generation(), value, next: OnceLock::new() }
    }

    /// For a static: the value of the process that loads the library.
    pub(crate) const fn at_load(value: T) -> PerProcess<T> {
        PerProcess { generation: 0, value, next: OnceLock::new() }
    }

    /// This process's value; `renew` makes it from the parent's if there is none yet.
    pub(crate) fn get(&self, renew: impl Fn(&T) -> T) -> &T {
        let mut at = self;
        while at.generation != generation() && !planted!(AChildHasItsParentsMutexes) {
            at = at.next.get().unwrap_or_else(|| {
                // A fork meanwhile would leave its child waiting for us forever.
                let _no_fork = NoFork::begin();
                at.next.get_or_init(|| Box::new(PerProcess::new(renew(&at.value))))
            });
        }
        &at.value
    }
}

/// What the handlers know of one descriptor of a store. Each descriptor has an entry as long as its
/// [`StoreFile`](crate::os::store_file::StoreFile) lives.
///
/// All orderings are relaxed: entries change only under [`NoFork`], or in a child that has no other
/// thread yet.
#[derive(Debug)]
pub(crate) struct DescriptorEntry {
    /// The number; `UNUSED`, or `LOST` if it refers to something that is not ours.
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
    writable: AtomicBool,
    /// The byte that identifies its description.
    marker: AtomicU64,
    /// The address of its anchor, which keeps its locks; 0: none.
    anchor: AtomicUsize,
    /// The byte to read-lock in a child; `NO_BYTE` while there is none.
    common_byte: AtomicU64,
    /// The path at which the file was opened. Locked under `NoFork` only, so a child finds it free.
    path: Mutex<Option<CString>>,
}

const UNUSED: RawFd = -1;
const LOST: RawFd = -2;
const NO_BYTE: u64 = u64::MAX;

impl DescriptorEntry {
    const fn unused() -> DescriptorEntry {
        DescriptorEntry {
            fd: AtomicI32::new(UNUSED),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            writable: AtomicBool::new(false),
            marker: AtomicU64::new(0),
            anchor: AtomicUsize::new(0),
            common_byte: AtomicU64::new(NO_BYTE),
            path: Mutex::new(None),
        }
    }

    /// An entry for this open descriptor, which the entry will close. Sets its marker and anchors
    /// it.
    pub(crate) fn register(
        no_fork: &NoFork,
        fd: RawFd,
        writable: bool,
        path: Option<CString>,
    ) -> io::Result<&'static DescriptorEntry> {
        check_watched(no_fork)?;
        let file = descriptor::file_id(fd).ok_or_else(io::Error::last_os_error)?;
        let entry = DescriptorEntry::free();
        entry.hold(fd)?;
        entry.device.store(file.device, Ordering::Relaxed);
        entry.inode.store(file.inode, Ordering::Relaxed);
        entry.writable.store(writable, Ordering::Relaxed);
        entry.common_byte.store(NO_BYTE, Ordering::Relaxed);
        *entry.path.lock().unwrap_or_else(PoisonError::into_inner) = path;
        entry.fd.store(fd, Ordering::Relaxed);
        Ok(entry)
    }

    /// Sets this description's marker and anchors it.
    fn hold(&self, fd: RawFd) -> io::Result<()> {
        self.marker.store(descriptor::set_marker(fd)?, Ordering::Relaxed);
        let anchor = if planted!(LocksEndWithTheDescriptor) { 0 } else { descriptor::anchor(fd)? };
        self.anchor.store(anchor, Ordering::Relaxed);
        Ok(())
    }

    /// An unused entry.
    fn free() -> &'static DescriptorEntry {
        let mut block = &ENTRIES;
        loop {
            let unused = block.entries.iter().find(|e| e.fd.load(Ordering::Relaxed) == UNUSED);
            if let Some(entry) = unused {
                return entry;
            }
            block = block.next.get_or_init(|| Box::new(Block::new()));
        }
    }

    /// Makes [`lock_common`](DescriptorEntry::lock_common) lock this byte, also in forked children.
    pub(crate) fn note_common(&self, _: &NoFork, byte: u64) {
        self.common_byte.store(byte, Ordering::Relaxed);
    }

    /// Read-locks the common byte, if it is set. False if another lock is in the way.
    pub(crate) fn lock_common(&self, _: &NoFork) -> io::Result<bool> {
        let Some(byte) = self.common_byte() else { return Ok(true) };
        let file = descriptor::as_file(self.fd.load(Ordering::Relaxed));
        sys::set_byte_lock(file.as_fd(), ByteLock::Read, byte)
    }

    /// The common byte, if it is set.
    pub(crate) fn common_byte(&self) -> Option<u64> {
        Some(self.common_byte.load(Ordering::Relaxed)).filter(|byte| *byte != NO_BYTE)
    }

    pub(crate) fn file(&self) -> FileId {
        FileId {
            device: self.device.load(Ordering::Relaxed),
            inode: self.inode.load(Ordering::Relaxed),
        }
    }

    /// Whether the number still refers to the same file.
    pub(crate) fn is_open(&self) -> bool {
        let fd = self.fd.load(Ordering::Relaxed);
        let is_it = || descriptor::file_id(fd) == Some(self.file());
        fd >= 0 && (planted!(TheFileBehindTheNumberIsNotCompared) || is_it())
    }

    /// Whether the number still refers to the same description. Once it refers to another one of
    /// the same file, never again.
    pub(crate) fn is_ours(&self) -> bool {
        let fd = self.fd.load(Ordering::Relaxed);
        if fd < 0 {
            return false;
        }
        let ours = descriptor::is_ours(fd, self.file(), self.marker.load(Ordering::Relaxed))
            || planted!(TheNumberIsNotLookedAt);
        if !ours && self.is_open() {
            self.fd.store(LOST, Ordering::Relaxed);
        }
        ours
    }

    /// The kernel's current name of the file.
    pub(crate) fn anchored_file(&self) -> Option<String> {
        let anchor = self.anchor.load(Ordering::Relaxed);
        (anchor != 0).then(|| descriptor::anchored_file(anchor))
    }

    /// Closes the descriptor, if it is ours, and releases all its locks.
    pub(crate) fn close(&self, _: &NoFork) {
        if self.is_ours() {
            descriptor::close(self.fd.load(Ordering::Relaxed));
        }
        descriptor::release_anchor(self.anchor.swap(0, Ordering::Relaxed));
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.fd.store(UNUSED, Ordering::Relaxed);
    }

    /// In the child of a fork: makes the number refer to a description of the child's own, without
    /// unlocking what the parent has locked through the old one. A number that is no longer ours is
    /// left alone. If no new description can be opened, the number is closed, so that nothing done
    /// through it can seem to succeed.
    fn renew_in_child(&self) {
        // The parent's anchor is not mapped in the child.
        self.anchor.store(0, Ordering::Relaxed);
        if !self.is_ours() {
            return self.fd.store(LOST, Ordering::Relaxed);
        }
        let (fd, writable) =
            (self.fd.load(Ordering::Relaxed), self.writable.load(Ordering::Relaxed));
        let path = self.path.try_lock();
        let path = path.as_ref().ok().and_then(|path| path.as_deref());
        let new = descriptor::open_again(fd, self.file(), writable, path);
        let renewed = new.and_then(|new| {
            descriptor::renumber(new, fd)?;
            // As for a new descriptor: the parent's locks are not the child's.
            self.hold(fd)?;
            // On failure, this process does not count as attached, as if its kernel had no memory
            // for locks. Its first own lock reports that.
            let no_fork = ManuallyDrop::new(NoFork);
            let _ = self.lock_common(&no_fork);
            Ok(())
        });
        if renewed.is_err() && !planted!(AChildKeepsItsParentsDescription) {
            descriptor::close(fd);
            self.fd.store(LOST, Ordering::Relaxed);
        }
    }
}

/// The entries, in blocks that are never freed: a handler may walk them at any moment.
struct Block {
    entries: [DescriptorEntry; 64],
    next: OnceLock<Box<Block>>,
}

impl Block {
    const fn new() -> Block {
        Block { entries: [const { DescriptorEntry::unused() }; 64], next: OnceLock::new() }
    }
}

static ENTRIES: Block = Block::new();

/// While one exists, no other thread of this process forks or has one. A spinlock, since the child
/// must be able to release it in the handler; it is held for a system call or two.
pub(crate) struct NoFork;

static FORKING: AtomicBool = AtomicBool::new(false);

impl NoFork {
    pub(crate) fn begin() -> NoFork {
        let mut tries = 0u32;
        // Acquire, and release in drop: the entries are seen as the last holder left them.
        while FORKING.swap(true, Ordering::Acquire) {
            tries += 1;
            // The holder may have a lower priority, and runs only if we sleep.
            match tries {
                ..100 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
        }
        NoFork
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        FORKING.store(false, Ordering::Release);
    }
}

/// Runs when the program is loaded, or the library that contains this: before a thread can be in
/// the middle of its first opening while another one forks. (Not in Miri, which has no forks.)
#[cfg(not(miri))]
#[used]
// SAFETY: this section holds addresses of functions that run at loading. This function uses only
// the C library, which is loaded before.
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = watch_forks;

/// 0: forks are watched; otherwise the error number that says why not.
static WATCHED: AtomicI32 = AtomicI32::new(NOT_YET);
const NOT_YET: i32 = -1;

extern "C" fn watch_forks() {
    let watched = sys::at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
    let error = watched.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::ENOMEM));
    // Relaxed: at loading, or under `NoFork`.
    WATCHED.store(error, Ordering::Relaxed);
}

fn check_watched(_: &NoFork) -> io::Result<()> {
    // If nothing ran at loading, this is late, but not too late for most.
    if WATCHED.load(Ordering::Relaxed) == NOT_YET {
        watch_forks();
    }
    match WATCHED.load(Ordering::Relaxed) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

extern "C" fn before_fork() {
    std::mem::forget(NoFork::begin());
}

extern "C" fn after_fork_in_parent() {
    drop(NoFork);
}

/// Allocates nothing and takes no lock: other threads of the parent may have been anywhere.
extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let mut block = Some(&ENTRIES);
    while let Some(some) = block {
        let used = some.entries.iter().filter(|e| e.fd.load(Ordering::Relaxed) != UNUSED);
        used.for_each(DescriptorEntry::renew_in_child);
        block = some.next.get().map(|next| &**next);
    }
    drop(NoFork);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Forks, runs `f` in the child, and returns the child's status.
    fn in_a_child(f: impl FnOnce()) -> i32 {
        // SAFETY: the child calls only what it may, and ends at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: takes only numbers. The alarm ends a child that waits forever.
            unsafe { libc::alarm(10) };
            f();
            // SAFETY: it does not return.
            unsafe { libc::_exit(0) }
        }
        let mut status = 0;
        // SAFETY: fills the number, which is on this stack.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        status
    }

    /// A fork while another thread opens a store that is already open.
    #[test]
    #[cfg_attr(miri, ignore = "it has no forks")]
    fn a_fork_while_a_path_is_noted_leaves_a_child_that_can_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.slots");
        let store = crate::Store::create(&path).unwrap();
        let noting = store.session.locations();
        let status = in_a_child(|| drop(crate::Store::open(&path).unwrap()));
        drop(noting);
        assert_eq!(status, 0, "the child waits for a thread that it has not");
    }

    /// A fork while another thread is in the middle of this process's first opening.
    #[test]
    #[cfg_attr(miri, ignore = "it has no forks")]
    fn a_fork_beside_the_first_opening_leaves_a_child_that_can_open() {
        const NAME: &str = "a_fork_beside_the_first_opening_leaves_a_child_that_can_open";
        const ROLE: &str = "SLOTFILE_FIRST_OPENING";
        if std::env::var_os(ROLE).is_none() {
            // In a process that has opened nothing yet.
            let mut first = Command::new(std::env::current_exe().unwrap());
            let (_crate, module) = module_path!().split_once("::").unwrap();
            first.args(["--exact", &format!("{module}::{NAME}")]);
            let output = first.env(ROLE, "1").output().unwrap();
            let has_run = String::from_utf8_lossy(&output.stdout).contains("1 passed");
            return assert!(output.status.success() && has_run, "{output:?}");
        }
        let (begun, has_begun) = std::sync::mpsc::channel();
        let opening = std::thread::spawn(move || {
            let _no_fork = NoFork::begin();
            begun.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        });
        has_begun.recv().unwrap();
        let status = in_a_child(|| drop(NoFork::begin()));
        opening.join().unwrap();
        assert_eq!(status, 0, "the child waits for a thread that it has not");
        assert_eq!(generation(), 0);
    }
}
