//! Processes that have a store open, to show to people: what they recorded of themselves in the
//! process table, and what this system says of them now.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::os::descriptor::FileId;
use crate::types::attached_process::{AttachedProcess, ProcessState};

/// The other processes that have a file open, as far as this one may see them.
pub(crate) fn having_open(file: FileId) -> Vec<AttachedProcess> {
    let has_it = |folder: &std::path::Path| {
        // A mapped file is open, too, though its descriptor may be closed.
        ["fd", "map_files"].iter().any(|links| {
            let links = fs::read_dir(folder.join(links)).into_iter().flatten().flatten();
            let mut files = links.filter_map(|link| fs::metadata(link.path()).ok());
            files.any(|there| FileId::of(&there) == file)
        })
    };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = processes.flatten().filter_map(|process| {
        let pid = process.file_name().to_str()?.parse::<u32>().ok()?;
        let folder = process.path();
        (pid != std::process::id() && has_it(&folder)).then(|| {
            let command = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            AttachedProcess {
                pid,
                command: command.trim_end().to_owned(),
                state: ProcessState::Running,
            }
        })
    });
    let mut found: Vec<AttachedProcess> = processes.collect();
    found.sort();
    found
}

/// Identifies a process among all of this boot, as recorded in the process table. Zeros stand for
/// unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Inode number of its PID namespace.
    pub(crate) namespace: u32,
    /// When it started, in the kernel's ticks since the boot.
    pub(crate) began: u64,
}

impl Identity {
    /// The identity of this process.
    pub(crate) fn own() -> Identity {
        let pid = std::process::id();
        let namespace = fs::metadata("/proc/self/ns/pid").ok();
        let namespace = namespace.and_then(|there| u32::try_from(there.ino()).ok()).unwrap_or(0);
        let began = stat("self").map_or(0, |stat| stat.began);
        Identity { pid, namespace, began }
    }

    /// Whether it certainly no longer runs its program. Cheaper than [`Identity::state`] for a
    /// process that does.
    pub(crate) fn is_dying(self) -> bool {
        stat(&self.pid.to_string()).is_some_and(|stat| stat.flags & PAST_ITS_PROGRAM != 0)
            && self.state() == ProcessState::Dying
    }

    /// What this system says of the process now.
    pub(crate) fn state(self) -> ProcessState {
        let own = Identity::own();
        if self.namespace == 0 || own.namespace == 0 || self.began == 0 {
            return ProcessState::Unknown;
        }
        if self.namespace != own.namespace {
            return ProcessState::Elsewhere;
        }
        // A /proc of another namespace has other process IDs.
        if fs::read_link("/proc/self").ok() != Some(PathBuf::from(own.pid.to_string())) {
            return ProcessState::Unknown;
        }
        match stat(&self.pid.to_string()) {
            Some(stat) if stat.began == self.began && !stat.ended => {
                match all_threads_are_past_their_program(self.pid) {
                    true => ProcessState::Dying,
                    false => ProcessState::Running,
                }
            }
            Some(stat) if stat.began != self.began && may_have_another_clock(self.pid) => {
                ProcessState::Unknown
            }
            Some(_) => ProcessState::Ended,
            // It exists, but is hidden from us (hidepid).
            None if fs::exists(format!("/proc/{}", self.pid)).is_ok_and(|there| there) => {
                ProcessState::Unknown
            }
            None if is_hiding() => ProcessState::Unknown,
            None => ProcessState::Ended,
        }
    }
}

/// Whether /proc shows only some processes: then one that it does not show may be alive. The first
/// process of a namespace always exists.
fn is_hiding() -> bool {
    !fs::exists("/proc/1").is_ok_and(|there| there)
}

/// Whether a process may be in another time namespace than this one: then the two see different
/// start times.
fn may_have_another_clock(pid: u32) -> bool {
    let clock = |of: &str| fs::read_link(format!("/proc/{of}/ns/time"));
    match (clock("self"), clock(&pid.to_string())) {
        (Ok(own), Ok(there)) => own != there,
        // Before Linux 5.6 there are no time namespaces.
        (Err(error), _) => error.kind() != std::io::ErrorKind::NotFound,
        (_, Err(_)) => true,
    }
}

struct Stat {
    /// Dead, but its parent has not yet collected its exit code.
    ended: bool,
    /// As [`Identity::began`].
    began: u64,
    /// Those of its first thread, see [`PAST_ITS_PROGRAM`].
    flags: u64,
}

/// The flags of a thread that no longer runs its program: PF_EXITING, PF_POSTCOREDUMP, PF_DUMPCORE
/// (linux/sched.h).
const PAST_ITS_PROGRAM: u64 = 0x4 | 0x8 | 0x200;

/// The content of a file like /proc/PID/stat: see proc_pid_stat(5).
fn stat(of: &str) -> Option<Stat> {
    let text = fs::read(format!("/proc/{of}/stat")).ok()?;
    // The program's name, in parentheses, may contain any byte.
    let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let text = str::from_utf8(&text[after_name..]).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    // The first thread may have ended before the others.
    let ended = matches!(*fields.first()?, "Z" | "X") && number(20)? <= 1;
    Some(Stat { ended, began: number(22)?, flags: number(9)? })
}

/// Whether no thread of a process runs its program any more, so that none can start another
/// process. False if that cannot be found out.
fn all_threads_are_past_their_program(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let past = |thread: String| {
        stat(&format!("{pid}/task/{thread}")).is_some_and(|s| s.flags & PAST_ITS_PROGRAM != 0)
    };
    threads.flatten().all(|thread| past(thread.file_name().to_string_lossy().into_owned()))
}

/// This process.
pub(crate) fn own() -> AttachedProcess {
    let command = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let command = command.trim_end().to_owned();
    AttachedProcess { pid: std::process::id(), command, state: ProcessState::Running }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let own = Identity::own();
        if own.namespace == 0 {
            eprintln!("skipped: there is no /proc");
            return;
        }
        assert_eq!(own.state(), ProcessState::Running);
        // An earlier process with the same ID.
        let before = Identity { began: own.began - 1, ..own };
        assert_eq!(before.state(), ProcessState::Ended);
        let elsewhere = Identity { namespace: own.namespace ^ 1, ..own };
        assert_eq!(elsewhere.state(), ProcessState::Elsewhere);
        assert_eq!(Identity { namespace: 0, ..own }.state(), ProcessState::Unknown);
        assert_eq!(Identity { began: 0, ..own }.state(), ProcessState::Unknown);
    }

    #[test]
    fn a_zombie_has_ended() {
        if Identity::own().namespace == 0 {
            eprintln!("skipped: there is no /proc");
            return;
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let stat = stat(&pid.to_string()).unwrap();
        let identity = Identity { pid, began: stat.began, ..Identity::own() };
        assert_eq!(identity.state(), ProcessState::Running);
        child.kill().unwrap();
        let ended = (0..10_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            identity.state() == ProcessState::Ended
        });
        assert!(ended, "{:?}", identity.state());
        child.wait().unwrap();
        assert_eq!(identity.state(), ProcessState::Ended);
    }
}
