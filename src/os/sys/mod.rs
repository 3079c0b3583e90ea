//! Calls of the C library, behind safe functions. Those for descriptors, futexes, threads and
//! signals are in the files beside this folder.
//!
//! In the child of a fork, before it runs other code, only these are called, and they do not
//! allocate: `set_byte_lock`, `byte_is_locked`, `proc_path`, `random`, `stat`, `check`,
//! `uninterrupted`.

mod blocks;
mod file_system;
mod locks;
mod names;
mod process;
mod stat;

use std::io;

pub(crate) use blocks::*;
pub(crate) use file_system::*;
pub(crate) use locks::*;
pub(crate) use names::*;
pub(crate) use process::*;
pub(crate) use stat::*;

/// The result of a call that returns -1 on failure and sets `errno`.
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
