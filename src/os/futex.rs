//! Sleeping until a word of shared memory changes, across processes.

#![allow(unsafe_code)]

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::mutant::planted;

/// A word to sleep on, and the value that it has while nothing has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub(crate) at: *const AtomicU32,
    pub(crate) expected: u32,
}

/// The most words on which the kernel lets a thread sleep at once.
pub(crate) const MOST_WORDS: usize = 128;

/// How long to sleep before looking again if the kernel cannot wait for the event.
pub(crate) const SHORT_SLEEP: Duration = Duration::from_millis(1);

/// Sleeps while the word is as expected, at most `limit`; true if the sleep ended before that. May
/// return early. A wake-up reaches the sleepers that share a bit with it.
pub(crate) fn wait(word: Word, bits: u32, limit: Duration) -> bool {
    let until = time_in(limit);
    let private = if planted!(TheFutexIsPrivate) { libc::FUTEX_PRIVATE_FLAG } else { 0 };
    let wait = libc::FUTEX_WAIT_BITSET | private;
    let second: *const AtomicU32 = std::ptr::null();
    let Word { at, expected } = word;
    // Without FUTEX_PRIVATE_FLAG, which would hide the waiter from other processes. The time is on
    // the monotonic clock.
    // SAFETY: the kernel reads the word at this address itself, and returns EFAULT if nothing is
    // mapped there; `until` is on this stack.
    let slept = unsafe {
        libc::syscall(libc::SYS_futex, at, wait, expected, &raw const until, second, bits) >= 0
    };
    slept || std::io::Error::last_os_error().raw_os_error() != Some(libc::ETIMEDOUT)
}

/// Wakes at most `most` threads that sleep on `word` with one of `bits`; true if there was one. A
/// thread that sleeps on several words has all bits.
pub(crate) fn wake(word: *const AtomicU32, bits: u32, most: i32) -> bool {
    let none: *const libc::timespec = std::ptr::null();
    let second: *const AtomicU32 = std::ptr::null();
    let wake = libc::FUTEX_WAKE_BITSET;
    // SAFETY: the kernel uses the address only to find the sleepers.
    unsafe { libc::syscall(libc::SYS_futex, word, wake, most, none, second, bits) > 0 }
}

/// The time on the monotonic clock after `limit`.
fn time_in(limit: Duration) -> libc::timespec {
    let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct on this stack.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut until) };
    let nanos = until.tv_nsec + libc::c_long::from(limit.subsec_nanos().cast_signed());
    let secs = libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX);
    until.tv_sec = until.tv_sec.saturating_add(secs).saturating_add(nanos / NANOS);
    until.tv_nsec = nanos % NANOS;
    until
}

/// Sleeps while all these words, at most [`MOST_WORDS`], are as expected, at most `limit`. May
/// return early; on kernels before 5.16, always after [`SHORT_SLEEP`]. `bits` is as for [`wait`] if
/// there is one word.
pub(crate) fn wait_any(words: &[Word], bits: u32, limit: Duration) {
    if let [word] = words {
        wait(*word, bits, limit);
        return;
    }
    let waiters: Vec<Waiter> = words.iter().map(Waiter::new).collect();
    let until = time_in(limit);
    let (first, count, clock) = (waiters.as_ptr(), waiters.len(), libc::CLOCK_MONOTONIC);
    // SAFETY: the kernel reads the words at these addresses itself, and returns EFAULT if nothing
    // is mapped there; list and time live until it returns.
    let slept = unsafe {
        libc::syscall(libc::SYS_futex_waitv, first, count, 0, &raw const until, clock) >= 0
    };
    let error = std::io::Error::last_os_error().raw_os_error();
    let usual = matches!(error, Some(libc::EAGAIN | libc::ETIMEDOUT | libc::EINTR));
    if !slept && !usual {
        std::thread::sleep(SHORT_SLEEP.min(limit));
    }
}

const NANOS: libc::c_long = 1_000_000_000;

/// `struct futex_waitv` of linux/futex.h.
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

impl Waiter {
    fn new(word: &Word) -> Waiter {
        /// FUTEX2_SIZE_U32, without FUTEX2_PRIVATE.
        const SHARED_U32: u32 = 2;
        let address = word.at.addr() as u64;
        Waiter { value: word.expected.into(), address, flags: SHARED_U32, reserved: 0 }
    }
}
