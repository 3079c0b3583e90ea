//! Which of the standard streams were closed when this process was started.
//!
//! Before `main`, Rust's runtime opens /dev/null in the place of a closed stream. What is printed
//! would then be lost without an error, and a value read from nothing. So the streams are looked at
//! before the runtime begins.

#![allow(unsafe_code)]

use std::io::{self, StdinLock};
use std::sync::atomic::{AtomicBool, Ordering};

static STDIN_CLOSED: AtomicBool = AtomicBool::new(false);
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Called by the C runtime before Rust's.
// SAFETY: the section is a list of functions of this signature, which the C runtime calls.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: it only asks for a descriptor's flags, and fails if there is no such descriptor.
    let is_closed = |number| unsafe { libc::fcntl(number, libc::F_GETFD) } == -1;
    // Relaxed: there are no other threads yet.
    STDIN_CLOSED.store(is_closed(libc::STDIN_FILENO), Ordering::Relaxed);
    STDOUT_CLOSED.store(is_closed(libc::STDOUT_FILENO), Ordering::Relaxed);
}

/// Standard input; an error if it was closed.
pub(crate) fn stdin() -> io::Result<StdinLock<'static>> {
    check(&STDIN_CLOSED).map(|()| io::stdin().lock())
}

/// An error if standard output was closed.
pub(crate) fn check_stdout() -> io::Result<()> {
    check(&STDOUT_CLOSED)
}

fn check(closed: &AtomicBool) -> io::Result<()> {
    match closed.load(Ordering::Relaxed) {
        true => Err(io::Error::from_raw_os_error(libc::EBADF)),
        false => Ok(()),
    }
}
