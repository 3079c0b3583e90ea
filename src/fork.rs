//! What a fork does to open stores.
//!
//! A lock on a byte belongs to the open file description, which a forked child
//! shares with its parent: it would keep the parent's locks alive after the
//! parent's death, and could drop them by unlocking. So, in the child, every
//! descriptor of a store is made to stand for a new description before anything
//! else runs, and what belongs to the process (mutexes, the list of its own
//! entries) is made anew when it is next asked for.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use crate::sys;

/// How many forks lie between this process and the one that loaded the library.
#[inline]
pub(crate) fn generation() -> u64 {
    // Relaxed: it changes only in a child that has no other thread yet.
    GENERATION.load(Ordering::Relaxed)
}

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// A value of which every process has its own: the child of a fork makes one from
/// its parent's, whose locks another thread may have held at that moment.
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
        while at.generation != generation() {
            at = at.next.get().unwrap_or_else(|| {
                // A fork in the middle would leave its child waiting for us for ever.
                let _quiet = NoFork::begin();
                at.next.get_or_init(|| Box::new(PerProcess::new(renew(&at.value))))
            });
        }
        &at.value
    }
}

/// A store's file. Opened and closed through here, so that a fork finds every one.
#[derive(Debug)]
pub(crate) struct StoreFile {
    /// Closed by `drop`, while no fork can run.
    file: Option<File>,
    entry: &'static Entry,
}

/// What the handlers know of one descriptor.
#[derive(Debug)]
struct Entry {
    /// -1: not in use.
    fd: AtomicI32,
    writable: AtomicBool,
    /// The byte to read-lock in a child; `NO_BYTE` while there is none.
    common_byte: AtomicU64,
}

const NO_BYTE: u64 = u64::MAX;

impl Entry {
    const fn unused() -> Entry {
        Entry {
            fd: AtomicI32::new(-1),
            writable: AtomicBool::new(false),
            common_byte: AtomicU64::new(NO_BYTE),
        }
    }
}

impl StoreFile {
    /// The file that `open` opens.
    pub(crate) fn open(
        writable: bool,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<StoreFile> {
        watch_forks()?;
        let _quiet = NoFork::begin();
        let file = open()?;
        let entry = free_entry();
        entry.writable.store(writable, Ordering::Relaxed);
        entry.common_byte.store(NO_BYTE, Ordering::Relaxed);
        entry.fd.store(file.as_raw_fd(), Ordering::Relaxed);
        Ok(StoreFile { file: Some(file), entry })
    }

    /// Has the children of forks read-lock this byte, as this process does.
    pub(crate) fn lock_in_children(&self, common_byte: u64) {
        let _quiet = NoFork::begin();
        self.entry.common_byte.store(common_byte, Ordering::Relaxed);
    }
}

impl std::ops::Deref for StoreFile {
    type Target = File;

    fn deref(&self) -> &File {
        self.file.as_ref().expect("open until dropped")
    }
}

impl Drop for StoreFile {
    fn drop(&mut self) {
        let _quiet = NoFork::begin();
        self.file = None;
        self.entry.fd.store(-1, Ordering::Relaxed);
    }
}

/// The entries in use, in blocks that are never given back: a handler may walk them
/// at any moment.
struct Block {
    entries: [Entry; 64],
    next: OnceLock<Box<Block>>,
}

impl Block {
    const fn new() -> Block {
        Block { entries: [const { Entry::unused() }; 64], next: OnceLock::new() }
    }
}

static ENTRIES: Block = Block::new();

/// An entry that is not in use. Runs under [`NoFork`].
fn free_entry() -> &'static Entry {
    let mut block = &ENTRIES;
    loop {
        let unused = block.entries.iter().find(|e| e.fd.load(Ordering::Relaxed) == -1);
        if let Some(entry) = unused {
            return entry;
        }
        block = block.next.get_or_init(|| Box::new(Block::new()));
    }
}

/// While one exists, no fork of this process runs. A spinning lock, since the child
/// must be able to open it from the handler; it is held for a system call or two.
struct NoFork;

static FORKING: AtomicBool = AtomicBool::new(false);

impl NoFork {
    fn begin() -> NoFork {
        // Acquire and release (in drop): the entries are seen as the last holder left them.
        while FORKING.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        NoFork
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        FORKING.store(false, Ordering::Release);
    }
}

fn watch_forks() -> io::Result<()> {
    static WATCHING: OnceLock<Result<(), i32>> = OnceLock::new();
    let watching = WATCHING.get_or_init(|| {
        sys::at_fork(before_fork, after_fork_in_parent, after_fork_in_child)
            .map_err(|e| e.raw_os_error().unwrap_or(libc::ENOMEM))
    });
    (*watching).map_err(io::Error::from_raw_os_error)
}

extern "C" fn before_fork() {
    std::mem::forget(NoFork::begin());
}

extern "C" fn after_fork_in_parent() {
    drop(NoFork);
}

/// Allocates nothing and takes no lock: other threads of the parent may have been
/// anywhere.
extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let mut block = Some(&ENTRIES);
    while let Some(some) = block {
        for entry in &some.entries {
            let fd = entry.fd.load(Ordering::Relaxed);
            if fd != -1 {
                let byte = entry.common_byte.load(Ordering::Relaxed);
                let byte = (byte != NO_BYTE).then_some(byte);
                sys::reopen(fd, entry.writable.load(Ordering::Relaxed), byte);
            }
        }
        block = some.next.get().map(|next| &**next);
    }
    drop(NoFork);
}
