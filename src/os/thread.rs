//! The library's own threads.
//!
//! They are not std's threads. Each of those takes a lock of std's as it begins and as it ends; the
//! child of a fork at that moment finds the lock taken forever. Then no thread of the child ever
//! begins, and its `exit` hangs, even in a program that has no threads but ours.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A thread. Dropping this leaves it running.
#[derive(Debug)]
pub(crate) struct Thread(libc::pthread_t);

/// Stack size in bytes, as for std's threads.
const STACK: usize = 2 << 20;

type Run = Box<dyn FnOnce() + Send>;

/// Starts a thread, with a name of at most 15 bytes.
pub(crate) fn spawn(name: &CStr, run: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    let run: *mut Run = Box::into_raw(Box::new(Box::new(run)));
    let mut thread = std::mem::MaybeUninit::uninit();
    let mut attributes = std::mem::MaybeUninit::uninit();
    // SAFETY: the calls fill and read values on this stack; `begin` gets the argument it expects.
    let error = unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK);
        let error = libc::pthread_create(
            thread.as_mut_ptr(),
            attributes.as_ptr(),
            begin,
            run.cast::<c_void>(),
        );
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        error
    };
    if error != 0 {
        // SAFETY: it was made above, and no thread has it.
        drop(unsafe { Box::from_raw(run) });
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: the call succeeded, and so filled it.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: the thread exists, as nobody has joined it; the name ends with NUL. The name is only
    // for people: if this fails, the thread has the process's name.
    unsafe { libc::pthread_setname_np(thread, name.as_ptr()) };
    Ok(Thread(thread))
}

extern "C" fn begin(run: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` has made it for this thread alone.
    let run = unsafe { Box::from_raw(run.cast::<Run>()) };
    // A panic has already been reported.
    drop(catch_unwind(AssertUnwindSafe(*run)));
    std::ptr::null_mut()
}

impl Thread {
    /// Waits until the thread has ended; not if it is the calling one.
    pub(crate) fn join(self) {
        // SAFETY: the thread exists, and is joined or detached once: nobody else has this.
        unsafe {
            match self.0 == libc::pthread_self() {
                false => libc::pthread_join(self.0, std::ptr::null_mut()),
                true => libc::pthread_detach(self.0),
            }
        };
    }
}
