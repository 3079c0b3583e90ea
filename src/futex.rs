//! Sleeping until a word of shared memory changes, across processes.

#![allow(unsafe_code)]

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `word` is `expected`, at most `limit`. May return early.
pub(crate) fn wait(word: *const AtomicU32, expected: u32, limit: Duration) {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: the kernel reads the word at this address itself, and returns EFAULT where
    // nothing is mapped; `limit` lives on this stack. Without FUTEX_PRIVATE_FLAG, which
    // would hide the waiter from other processes. The limit is on the monotonic clock.
    unsafe {
        libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, expected, &raw const limit);
    }
}

/// Wakes all who sleep on `word`.
pub(crate) fn wake_all(word: *const AtomicU32) {
    // SAFETY: the kernel uses the address only to find who sleeps there.
    unsafe {
        libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX);
    }
}
