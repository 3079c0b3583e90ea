//! SIGBUS: the signal a process gets if a page of a mapping is not available. The kernel does not
//! say why, or in which file.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicI32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::mutant::planted;
use crate::os::descriptor::file_id;
use crate::os::store_file::StoreFile;
use crate::os::sys::check;

/// Why a part of an open store was not available, see
/// [`exit_on_bus_error`](crate::exit_on_bus_error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusError {
    /// The file ends before it: it was truncated.
    Truncated,
    /// The disk cannot read it.
    Unreadable,
    /// It can be read, but the disk had no block for what was to be written there.
    NoBlock,
    /// The reason is unknown, or the address is not in a store.
    Unknown,
}

/// In the order of their numbers, which [`handler`] uses as positions.
const ALL: [BusError; 4] =
    [BusError::Truncated, BusError::Unreadable, BusError::NoBlock, BusError::Unknown];

/// One store's mapping, which the handler looks up.
struct Mapping {
    /// Its address; 0: unused; 1: being set.
    start: AtomicUsize,
    len: AtomicU64,
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

static MAPPINGS: [Mapping; 64] = [const {
    Mapping {
        start: AtomicUsize::new(0),
        len: AtomicU64::new(0),
        fd: AtomicI32::new(-1),
        device: AtomicU64::new(0),
        inode: AtomicU64::new(0),
    }
}; 64];

/// Keeps a mapping in the handler's list. The handler knows nothing of mappings that the list has
/// no room for.
#[derive(Debug)]
pub(crate) struct NotedMapping(Option<usize>);

impl NotedMapping {
    pub(crate) fn new(start: usize, len: u64, file: &StoreFile) -> NotedMapping {
        let fd = file.own().as_raw_fd();
        let Some(id) = file_id(fd) else { return NotedMapping(None) };
        // Relaxed: an entry is published by its address, below.
        let free = |one: &Mapping| one.start.compare_exchange(0, 1, Relaxed, Relaxed).is_ok();
        let at = MAPPINGS.iter().position(free).filter(|_| !planted!(MappingsAreNotNoted));
        if let Some(at) = at {
            let one = &MAPPINGS[at];
            one.len.store(len, Relaxed);
            one.fd.store(fd, Relaxed);
            one.device.store(id.device, Relaxed);
            one.inode.store(id.inode, Relaxed);
            // Release: a thread that finds the address finds the rest.
            one.start.store(start, Release);
        }
        NotedMapping(at)
    }

    pub(crate) fn note_growth(&self, len: u64) {
        if let Some(at) = self.0 {
            // Relaxed: a single number.
            MAPPINGS[at].len.store(len, Relaxed);
        }
    }
}

impl Drop for NotedMapping {
    fn drop(&mut self) {
        if let Some(at) = self.0 {
            // Relaxed: the entry is no longer needed.
            MAPPINGS[at].start.store(0, Relaxed);
        }
    }
}

/// What is wrong with the page at this address. Calls only what a signal handler may call.
fn why(address: usize) -> BusError {
    for one in &MAPPINGS {
        // Acquire: the other fields belong to this address.
        let start = one.start.load(Acquire);
        let offset = address.wrapping_sub(start) as u64;
        if start > 1 && offset < one.len.load(Relaxed) {
            return one.why(offset);
        }
    }
    BusError::Unknown
}

impl Mapping {
    fn why(&self, offset: u64) -> BusError {
        let fd = self.fd.load(Relaxed);
        let mut found = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: fstat fills the struct, which is on this stack.
        if unsafe { libc::fstat(fd, found.as_mut_ptr()) } != 0 {
            return BusError::Unknown;
        }
        // SAFETY: the call succeeded, and so filled it.
        let found = unsafe { found.assume_init() };
        if (found.st_dev, found.st_ino) != (self.device.load(Relaxed), self.inode.load(Relaxed)) {
            return BusError::Unknown; // the program has closed it, and another file has its number
        }
        if found.st_size.cast_unsigned() <= offset {
            return BusError::Truncated;
        }
        let mut byte = 0u8;
        // SAFETY: pread fills one byte, which is on this stack.
        match unsafe { libc::pread(fd, (&raw mut byte).cast(), 1, offset.cast_signed()) } {
            1 => BusError::NoBlock,
            0 => BusError::Truncated, // truncated meanwhile
            _ => BusError::Unreadable,
        }
    }
}

/// The message for each of them, and the exit code.
static ON_BUS_ERROR: OnceLock<([String; ALL.len()], i32)> = OnceLock::new();

extern "C" fn handler(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if let Some((lines, code)) = ON_BUS_ERROR.get() {
        // SAFETY: the kernel passes valid information on the signal, which is a SIGBUS.
        let address = unsafe { (*info).si_addr() };
        let line = &lines[why(address.addr()) as usize]; // as in `ALL`
        // SAFETY: write and _exit may be called in a signal handler; the line never changes once it
        // is set.
        unsafe {
            libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
            libc::_exit(*code);
        }
    }
}

/// Makes the process write a line to standard error and exit with `code` instead of being killed by
/// SIGBUS. Only the first call counts.
pub(crate) fn exit_with(line: impl Fn(BusError) -> String, code: i32) -> io::Result<()> {
    if ON_BUS_ERROR.set((ALL.map(line), code)).is_err() {
        return Ok(());
    }
    // SAFETY: all zeros is a `sigaction` without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_flags = libc::SA_SIGINFO;
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    action.sa_sigaction = handler as Handler as libc::sighandler_t;
    // SAFETY: the handler is a function of this program, and calls only what a handler may call.
    check(unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) })?;
    Ok(())
}
