//! What each error says. Every message names the file, the slot, what was expected and what was
//! found, and what to do about it.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use super::Error;
use crate::types::attached_process::ProcessState;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Error::*;
        match self {
            Io { path, doing, source } if source.raw_os_error() == Some(libc::ENOSYS) => write!(
                f,
                "{}: {doing}: {source}; allow the call in the sandbox, or use a newer kernel",
                path.display()
            ),
            Io { path, doing, source } => write!(f, "{}: {doing}: {source}", path.display()),
            PermissionDenied { path, source, .. } if source.raw_os_error() == Some(libc::EROFS) => {
                write!(f, "{}: the file system is mounted read-only", path.display())
            }
            PermissionDenied { path, doing, source }
                if source.raw_os_error() == Some(libc::EPERM) =>
            {
                write!(
                    f,
                    "{}: {doing}: not allowed; check the owner, mode and attributes of the file \
                     and its folder, and what the sandbox forbids",
                    path.display()
                )
            }
            PermissionDenied { path, doing, .. } => write!(
                f,
                "{}: {doing}: not allowed; check the owner and mode of the file and its folder",
                path.display()
            ),
            ReadOnly { path } => write!(
                f,
                "{}: the store was opened read-only; open it for writing to change it",
                path.display()
            ),
            NotFound { path, slot: None, link: Some(link), .. } => {
                write!(f, "{}: it is {}", path.display(), link_to_nowhere(link))
            }
            NotFound { path, slot: None, folder: Some(folder), .. } => write!(
                f,
                "{}: its folder does not exist; create that first, with `mkdir -p {}`",
                path.display(),
                shell_word(folder)
            ),
            NotFound { path, slot: None, .. } => write!(
                f,
                "{}: no such file; create the store first, with `slotfile create {}`",
                path.display(),
                shell_word(path)
            ),
            NotFound { path, slot: Some(slot), .. } => write!(
                f,
                "{}: no slot {slot:?}; `slotfile ls {}` lists the slots",
                path.display(),
                shell_word(path)
            ),
            Exists { path, slot: Some(slot), .. } => {
                write!(f, "{}: slot {slot:?} already exists", path.display())
            }
            Exists { path, slot: None, found: Some(found) } => {
                write!(f, "{}: it is {found}; choose another name", path.display())
            }
            Exists { path, slot: None, found: None } => write!(
                f,
                "{}: the file already exists; open it, or choose another name",
                path.display()
            ),
            NotAStore { path, why } => write!(
                f,
                "{}: not a store: {why}; give the path of a store, or of a new file",
                path.display()
            ),
            Version { path, found, supported } => {
                let remedy = match found.0 {
                    0 => "that format was never released: create the store again",
                    _ => "use a slotfile at least as new as the one that wrote it",
                };
                let (path, (major, minor)) = (path.display(), found);
                let (our_major, our_minor) = supported;
                write!(
                    f,
                    "{path}: format {major}.{minor}, but this build reads {our_major}.0 to \
                     {our_major}.{our_minor}; {remedy}"
                )
            }
            Corrupt { path, slot: None, what } => {
                write!(f, "{}: damaged: {what}; restore it from a copy", path.display())
            }
            Corrupt { path, slot: Some(slot), what } => write!(
                f,
                "{}: slot {slot:?} is damaged: {what}; restore the file from a copy",
                path.display()
            ),
            Truncated { path, have, need } => write!(
                f,
                "{}: truncated: it has {have} bytes and should have at least {need}; restore it \
                 from a copy",
                path.display()
            ),
            NoSpace { path, need, source } => write!(
                f,
                "{}: no room for {need} more bytes ({source}); free some space and try again",
                path.display()
            ),
            Full { path, limit: Error::LINES, size, removed } => {
                let path = path.display();
                write!(
                    f,
                    "{path}: full: the {size} lines of its directory are used up, as long docs, units \
                     and names take several each; define with a shorter doc, or copy what you need \
                     into a store with a larger max_slots"
                )?;
                match removed {
                    0 => Ok(()),
                    _ => {
                        write!(f, "; `slotfile compact` reclaims those of {removed} removed slots")
                    }
                }
            }
            Full { path, limit, size, removed: 0 } => write!(
                f,
                "{}: full: {limit} is {size}; copy what you need into a store with a larger \
                 {limit}",
                path.display()
            ),
            Full { path, limit, size, removed } => write!(
                f,
                "{}: full: {limit} is {size}, and {removed} removed slots still count; reclaim \
                 them with `slotfile compact {}`",
                path.display(),
                shell_word(path)
            ),
            OutOfMemory { path, slot, need } => write!(
                f,
                "{}: slot {slot:?}: no memory for {need} bytes; raise the limit (ulimit -v), or \
                 read the slot in parts",
                path.display()
            ),
            AddressSpace { path, need, reserved } => write!(
                f,
                "{}: the file has grown to {need} bytes, but this process can map only {reserved}: \
                 its address space is limited, or other mappings lie directly behind this one; \
                 raise the limit (ulimit -v), or close the store and open it again",
                path.display()
            ),
            TooManyProcesses { path, size } => write!(
                f,
                "{}: all {size} entries of the process table are taken by threads that hold locks \
                 or wait for them; try again when they are done",
                path.display()
            ),
            LockTimeout { path, slot, holder, waited } => {
                write!(f, "{}: {slot:?} is locked; gave up after {waited:.1?}; ", path.display())?;
                let Some(holder) = holder else {
                    return write!(f, "its holder is unknown: wait for it");
                };
                write!(f, "its holder is {holder}: ")?;
                match holder.state {
                    ProcessState::Running if holder.pid == std::process::id() => {
                        write!(f, "wait for this process's other thread")
                    }
                    // Only if it was seen alive: another process may have the number.
                    ProcessState::Running => write!(f, "wait for it, or end it"),
                    ProcessState::Dying => write!(
                        f,
                        "wait until the kernel has written its core dump, if any, and freed its \
                         memory"
                    ),
                    ProcessState::Ended => {
                        write!(f, "a process that it started still has the lock")
                    }
                    _ => write!(f, "wait for it"),
                }
            }
            NotSynced { path, source } => write!(
                f,
                "{}: nothing was changed: the last background sync failed, so the changes since \
                 the sync before it would not survive a power cut; fix the cause, and try again: \
                 {source}",
                path.display()
            ),
            Detached { path, how } => write!(
                f,
                "{}: {how}; what is stored in it cannot be found by its path: open the path again, \
                 and copy (copy_to) what only the open file has",
                path.display()
            ),
            InUse { path, by, waited } => {
                let path = path.display();
                if by.iter().any(|opener| opener.pid == std::process::id()) {
                    return write!(
                        f,
                        "{path}: this program has another handle to it; drop all of them"
                    );
                }
                write!(f, "{path}: it is open elsewhere")?;
                for (at, opener) in by.iter().enumerate() {
                    write!(f, "{} {opener}", if at == 0 { ":" } else { "," })?;
                }
                if by.is_empty() {
                    write!(f, ", by processes that cannot be seen from here")?;
                }
                write!(
                    f,
                    "; close it there, or wait longer (lock_timeout, --lock-timeout); gave up \
                     after {waited:.1?}"
                )
            }
            KeepsChanging { path, what, waited } => write!(
                f,
                "{}: {what} kept changing for {waited:.1?}, so nothing could be copied as of one \
                 instant; allow more time (lock_timeout, --lock-timeout), or pause whatever \
                 changes it",
                path.display()
            ),
            Deadlock { path, slot: Some(slot) } => write!(
                f,
                "{}: slot {slot:?} is locked by this thread, which would wait for itself; release \
                 the lock first, or use what the open update or transaction hands out",
                path.display()
            ),
            Deadlock { path, slot: None } => write!(
                f,
                "{}: a transaction inside another one of this thread; do everything in one, or one \
                 after the other",
                path.display()
            ),
            Conflict { path, slot } => write!(
                f,
                "{}: slot {slot:?} was changed or locked by others meanwhile; return this error \
                 with `?`, and the closure runs again (or begin a new transaction)",
                path.display()
            ),
            Removed { path, slot } => write!(
                f,
                "{}: slot {slot:?} was removed; define it again, or open the new one",
                path.display()
            ),
            Evicted { path, slot } => write!(
                f,
                "{}: slot {slot:?}: the lock was lost before the update was committed (it was \
                 released, its thread ended, it was taken before a fork, or its process was taken \
                 for dead); nothing was changed; try again",
                path.display()
            ),
            Type { path, slot, asked, found } => write!(
                f,
                "{}: slot {slot:?} is {found}, not {asked}; open it as {found}, or `slotfile rm \
                 {} {}` and define it again",
                path.display(),
                shell_word(path),
                shell_word(slot)
            ),
            TooLong { path, slot, capacity, length } => write!(
                f,
                "{}: slot {slot:?} holds at most {capacity} bytes, not {length}; shorten it, or \
                 define a larger slot",
                path.display()
            ),
            Length { path, slot, expected, found } => write!(
                f,
                "{}: slot {slot:?}: {expected} elements expected, {found} given",
                path.display()
            ),
            Index { path, slot, index, shape } => write!(
                f,
                "{}: slot {slot:?}: index {index} is outside its shape [{shape}]",
                path.display()
            ),
            BadName { path, name, why } => write!(
                f,
                "{}: {name:?} cannot name a slot: {why}; a name is 1 to 255 bytes of UTF-8 \
                 without control characters",
                path.display()
            ),
            Invalid { path, slot: None, what } => write!(f, "{}: {what}", path.display()),
            Invalid { path, slot: Some(slot), what } => {
                write!(f, "{}: slot {slot:?}: {what}", path.display())
            }
            Unsupported { path, what } => write!(f, "{}: not supported: {what}", path.display()),
        }
    }
}

/// Describes a symbolic link whose target does not exist.
pub(crate) fn link_to_nowhere(target: &Path) -> String {
    format!("a symbolic link to {target:?}, which does not exist")
}

/// The word as it has to be typed in a shell, quoted if necessary.
fn shell_word(word: &(impl AsRef<OsStr> + ?Sized)) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,@%=:".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
