//! The process: its limits, its clock, random numbers, and what runs when it ends or forks.

#![allow(unsafe_code)]

use std::io;

use super::check;

/// The longest that a file of this process may be.
pub(crate) fn file_size_limit() -> u64 {
    soft_limit(libc::RLIMIT_FSIZE)
}

/// How much address space this process may use.
pub(crate) fn address_limit() -> u64 {
    soft_limit(libc::RLIMIT_AS)
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit fills the struct, which is on this stack.
    match check(unsafe { libc::getrlimit(resource, &mut limit) }) {
        Ok(_) => limit.rlim_cur,
        Err(_) => u64::MAX,
    }
}

/// Nanoseconds since boot, sleep included.
pub(crate) fn since_boot() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime fills the struct, which is on this stack.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The number of the processor on which this thread runs; any number where that is not known.
pub(crate) fn processor() -> usize {
    // SAFETY: the call touches no memory of ours.
    unsafe { libc::sched_getcpu() }.cast_unsigned() as usize
}

/// A number that nobody can guess.
pub(crate) fn random() -> u64 {
    let mut number = [0_u8; 8];
    // SAFETY: getrandom fills the bytes, which are on this stack.
    let filled = unsafe { libc::getrandom(number.as_mut_ptr().cast(), number.len(), 0) };
    if filled == 8 {
        return u64::from_le_bytes(number);
    }
    // A sandbox refuses the call: made from the time and the process ID.
    let seed = since_boot() ^ u64::from(std::process::id()) << 40;
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Registers a function that runs when this process ends by `exit`, or returns from `main`.
pub(crate) fn at_exit(f: extern "C" fn()) -> io::Result<()> {
    // SAFETY: the function is part of this program, and exists as long as it runs (or, in a library
    // that is unloaded, is called and forgotten then).
    if unsafe { libc::atexit(f) } == 0 { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
}

/// Registers functions that run around every fork of this process: before it, after it in the
/// parent, and after it in the child.
pub(crate) fn at_fork(
    before: extern "C" fn(),
    in_parent: extern "C" fn(),
    in_child: extern "C" fn(),
) -> io::Result<()> {
    // SAFETY: the handlers are functions of this program, and exist as long as it runs.
    let error = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}
