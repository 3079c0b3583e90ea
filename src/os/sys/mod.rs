//! All calls of the C library, behind safe functions. Each may be called in the child of a fork
//! unless its comment says that it allocates.

mod blocks;
mod file_system;
mod locks;
mod names;
mod process;

use std::io;

pub(crate) use blocks::*;
pub(crate) use file_system::*;
pub(crate) use locks::*;
pub(crate) use names::*;
pub(crate) use process::*;

pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Repeats a call while signals interrupt it.
pub(crate) fn uninterrupted(mut call: impl FnMut() -> libc::c_int) -> io::Result<libc::c_int> {
    loop {
        match check(call()) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            result => return result,
        }
    }
}
