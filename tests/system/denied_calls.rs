//! Sandboxes that refuse system calls (seccomp), one call at a time. Each result is correct, or a
//! clear error. Nothing committed is lost, and nothing counts as synced that was not.

use std::path::{Path, PathBuf};

use crate::common;
use crate::common::state::restart;
use crate::common::{Child, folder, os};
use slotfile::{Error, OpenOptions, Store};

/// The calls that a program can do without. If one of the first list is refused, everything works
/// in another way, on any file system. If one of the second is refused, some operations fail.
const DONE_WITHOUT: &[(&str, libc::c_long)] = &[
    ("statx", libc::SYS_statx),
    ("readlinkat", libc::SYS_readlinkat),
    ("getrandom", libc::SYS_getrandom),
    ("memfd_create", libc::SYS_memfd_create),
    ("linkat", libc::SYS_linkat),
    ("renameat2", libc::SYS_renameat2),
    ("unlinkat", libc::SYS_unlinkat),
    ("lseek", libc::SYS_lseek),
    ("sync_file_range", libc::SYS_sync_file_range),
    ("msync", libc::SYS_msync),
    ("prlimit64", libc::SYS_prlimit64),
    ("futex_waitv", libc::SYS_futex_waitv),
    ("dup3", libc::SYS_dup3),
    ("clock_gettime", libc::SYS_clock_gettime),
];
const NEEDED: &[(&str, libc::c_long)] = &[
    ("fstatfs", libc::SYS_fstatfs),
    ("fallocate", libc::SYS_fallocate),
    ("ftruncate", libc::SYS_ftruncate),
    ("fchmod", libc::SYS_fchmod),
    ("pwrite64", libc::SYS_pwrite64),
    ("fsync", libc::SYS_fsync),
    ("fdatasync", libc::SYS_fdatasync),
    ("flock", libc::SYS_flock),
    ("fcntl", libc::SYS_fcntl),
    ("ioctl", libc::SYS_ioctl),
    ("madvise", libc::SYS_madvise),
];

fn options() -> OpenOptions {
    OpenOptions::new().create(true).max_slots(100).max_size(32 << 20).sync_every(None).clone()
}

/// The message is one line, and does not speak of damage, since there is none.
fn is_clear(what: &str, error: &Error) {
    let message = error.to_string();
    assert!(message.len() > 20 && !message.contains('\n'), "{what}: {message}");
    let damage = matches!(error, Error::Corrupt { .. } | Error::Truncated { .. });
    assert!(!damage && !matches!(error, Error::NotAStore { .. }), "{what}: {message}");
}

/// Notes that this was done, for the test outside of the sandbox.
fn note(path: &Path, what: &str) {
    // Makes a folder, which needs no call that is refused here.
    std::fs::create_dir(path.with_extension(what)).unwrap();
}

/// What a program in the sandbox does.
fn inside(path: &Path) {
    match options().open(path) {
        Ok(store) => {
            let value = store.value::<u64>("value").unwrap();
            assert_eq!(value.load(), 6, "what was committed");
            match value.store(7) {
                Ok(()) => note(path, "stored"),
                Err(error) => is_clear("store", &error),
            }
            match store.array::<u64>("new", 10_000).and_then(|new| new.set(9_999, 1)) {
                Ok(()) => {}
                Err(error) => is_clear("define", &error),
            }
            match store.sync() {
                Ok(()) => note(path, "synced"),
                Err(error) => is_clear("sync", &error),
            }
            match store.copy_to(path.with_extension("copy")) {
                Ok(()) => note(path, "copied"),
                Err(error) => is_clear("copy", &error),
            }
        }
        Err(error) => is_clear("open", &error),
    }
    match Store::open_read_only(path) {
        Ok(store) => drop(store.value::<u64>("value").unwrap().load()),
        Err(error) => is_clear("open to read", &error),
    }
    match options().create_new(true).open(path.with_extension("created")) {
        Ok(store) => store.value::<u64>("value").unwrap().store(1).unwrap(),
        Err(error) => is_clear("create", &error),
    }
    match options().open_temporary() {
        Ok(store) => {
            store.value::<u64>("value").unwrap().store(1).unwrap();
            note(path, "temporary");
        }
        Err(error) => is_clear("create in memory", &error),
    }
}

fn value_of(path: &Path) -> u64 {
    options().open(path).unwrap().value::<u64>("value").unwrap().load()
}

#[test]
fn row_39_a_missing_call_is_done_without_or_is_a_clear_error() {
    const NAME: &str = "row_39_a_missing_call_is_done_without_or_is_a_clear_error";
    with_all_refused(NAME, libc::ENOSYS);
}

#[test]
fn row_39_a_forbidden_call_is_done_without_or_a_clear_error() {
    const NAME: &str = "row_39_a_forbidden_call_is_done_without_or_a_clear_error";
    with_all_refused(NAME, libc::EPERM);
}

fn with_all_refused(test: &str, error: i32) {
    if let Some(role) = common::role() {
        // Rust's std remembers which calls work, so the refusal needs a new process.
        if role == "inside" {
            return inside(&common::path());
        }
        let call = DONE_WITHOUT.iter().chain(NEEDED).nth(common::number() as usize).unwrap().1;
        return match os::deny(&[call], error) {
            true => Child::spawn(test, "inside", &common::path()).join(),
            false => {
                note(&common::path(), "skipped");
                eprintln!("skipped: no seccomp");
            }
        };
    }
    let folder = folder();
    for (number, (call, _)) in DONE_WITHOUT.iter().chain(NEEDED).enumerate() {
        println!("{call}");
        let path: PathBuf = folder.path().join(call);
        let store = options().open(&path).unwrap();
        store.value::<u64>("value").unwrap().store(5).unwrap();
        store.sync().unwrap();
        store.value::<u64>("value").unwrap().store(6).unwrap();
        drop(store);
        Child::spawn_with(test, "sandbox", &path, number as u64).join();
        let done = |what: &str| path.with_extension(what).exists();
        assert_eq!(value_of(&path), if done("stored") { 7 } else { 6 }, "{call}");
        if done("copied") {
            assert_eq!(value_of(&path.with_extension("copy")), 7, "{call}");
        }
        if number < DONE_WITHOUT.len() && !done("skipped") {
            for what in ["stored", "synced", "copied", "created", "temporary"] {
                assert!(done(what), "{call}: not {what}");
            }
        }
        for made in ["copy", "created"] {
            let made = path.with_extension(made);
            assert!(!made.exists() || Store::open(&made).is_ok(), "{call}: half a store");
        }
        restart(&path);
        // A sync that failed may have written its record.
        let after = value_of(&path);
        assert!(after == 7 || after == 5 && !done("synced"), "{call}: {after}");
        let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let litter = left.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
        assert!(*call == "unlinkat" || litter.count() == 0, "{call}: litter");
    }
}

/// Without the calls that write out and flush a part of the file, a sync flushes all of it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn row_39_without_a_flush_of_ranges_a_sync_flushes_the_file() {
    if !common::apart_to_trace("row_39_without_a_flush_of_ranges_a_sync_flushes_the_file") {
        return;
    }
    let folder = folder();
    for refused in [libc::SYS_sync_file_range, libc::SYS_msync] {
        for error in [libc::ENOSYS, libc::EPERM] {
            let path = folder.path().join(format!("{refused} {error}"));
            let deny = || assert!(os::deny(&[refused], error), "no seccomp");
            let calls = common::trace::calls_of_a_sync(&options(), &path, deny);
            assert!(calls.contains(&libc::SYS_fdatasync), "{refused}, {error}: {calls:?}");
        }
    }
}
