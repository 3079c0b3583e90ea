//! Helpers of the tests: child processes, waiting, folders.
//!
//! A test that needs other processes starts itself again. It begins with the child's part,
//! `if let Some(role) = common::role() { ...; return }`; its own part calls [`Child::spawn`]
//! with its name and a role.

#![allow(dead_code, reason = "no test file uses all of it")]
#![allow(unreachable_pub, reason = "a module of several test crates")]

pub mod kinds;
pub mod mangled;
pub mod model;
pub mod mounts;
pub mod os;
pub mod place;
pub mod raw;
pub mod reader;
pub mod state;
pub mod subjects;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod trace;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The role of this process, if it is a child of a test.
pub fn role() -> Option<String> {
    let role = std::env::var("SLOTFILE_ROLE").ok()?;
    os::die_with_parent();
    Some(role)
}

/// The store that the child was given.
pub fn path() -> PathBuf {
    std::env::var_os("SLOTFILE_PATH").expect("a child has a path").into()
}

/// The number that the child was given.
pub fn number() -> u64 {
    std::env::var("SLOTFILE_NUMBER").expect("a child has a number").parse().unwrap()
}

/// Whether to run the longer forms (`SLOTFILE_LONG=1`).
pub fn long() -> bool {
    std::env::var_os("SLOTFILE_LONG").is_some_and(|v| v == "1")
}

/// How many rounds to run: a few, or many in the longer form.
pub fn rounds(short: usize, many: usize) -> usize {
    if long() { many } else { short }
}

/// A folder for one test, removed with all its content.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The same on a file system in memory, if there is one. For tests that measure how soon a death is
/// noticed, which must not depend on the disk.
pub fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| folder())
}

/// A path for a store that does not exist yet.
pub fn store_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("state.slots")
}

/// Another process that runs one part of a test. Killed when this is dropped.
pub struct Child {
    process: std::process::Child,
}

impl Child {
    /// Starts the test of this name again, in this role, on this store.
    pub fn spawn(test: &str, role: &str, path: &Path) -> Child {
        Child::spawn_with(test, role, path, 0)
    }

    /// The same, with a number for the child.
    pub fn spawn_with(test: &str, role: &str, path: &Path, number: u64) -> Child {
        Child::of(command(test, role, path).env("SLOTFILE_NUMBER", number.to_string()))
    }

    /// Starts a command made by [`command`].
    pub fn of(command: &mut Command) -> Child {
        Child { process: command.spawn().unwrap() }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it (SIGKILL), without waiting for its end.
    pub fn kill(&self) {
        os::signal(self.pid(), libc::SIGKILL);
    }

    /// Waits for its end; panics unless its part went well, within two minutes.
    #[track_caller]
    pub fn join(mut self) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                assert!(status.success(), "a child process failed: {status}");
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(120), "a child process hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail if it has already ended, which does not matter.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command that starts the test of this name again, for tests that change the command first.
pub fn command(test: &str, role: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = full_name(test);
    command
        .args([test.as_str(), "--exact", "--nocapture"])
        .env("SLOTFILE_TEST", &test)
        .env("SLOTFILE_ROLE", role)
        .env("SLOTFILE_PATH", path)
        .stdout(Stdio::null());
    command
}

/// The name of a test with its modules. There must be exactly one test of that name.
fn full_name(test: &str) -> String {
    let is_it = |name: &str| name == test || name.ends_with(&format!("::{test}"));
    // A child gets its name from its parent, as a sandbox may keep it from listing the tests.
    if let Some(own) = std::env::var("SLOTFILE_TEST").ok().filter(|own| is_it(own)) {
        return own;
    }
    let list = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
    let mut found = names.filter(|name| is_it(name));
    match (found.next(), found.next()) {
        (Some(name), None) => name.to_owned(),
        (None, _) => panic!("there is no test {test}"),
        (Some(one), Some(other)) => panic!("{one} or {other}?"),
    }
}

/// Runs the test of this name again in a process of its own, and waits for it. Returns true in
/// that process, which then does the test, and false in this one. For tests that fork, since
/// the child of a fork inherits the open stores of the tests beside it, and for tests that
/// count what a process has.
pub fn apart(test: &str) -> bool {
    if role().is_some() {
        return true;
    }
    let output = command(test, "apart", Path::new("")).stdout(Stdio::piped()).output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test}: {}", output.status);
    false
}

/// The same for tests that trace their children; false also if that is not permitted.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn apart_to_trace(test: &str) -> bool {
    apart(test) && trace::is_permitted()
}

/// Waits until the condition holds; panics after half a minute, far more than any machine needs.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Sets a flag when dropped, also in a panic, so that threads that run until then do not keep a
/// failed test from ending.
pub struct Finally<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The median.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Runs `f`, which must end within `limit`, a bound that the promises give.
#[track_caller]
pub fn within<R>(limit: Duration, what: &str, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    let took = start.elapsed();
    assert!(took < limit, "{what} took {took:?}");
    result
}

/// The bytes of a scalar in the format.
pub fn bytes_of(scalar: slotfile::Scalar) -> Vec<u8> {
    use slotfile::Scalar;
    match scalar {
        Scalar::Bool(x) => vec![x.into()],
        Scalar::I8(x) => x.to_le_bytes().into(),
        Scalar::I16(x) => x.to_le_bytes().into(),
        Scalar::I32(x) => x.to_le_bytes().into(),
        Scalar::I64(x) => x.to_le_bytes().into(),
        Scalar::U8(x) => x.to_le_bytes().into(),
        Scalar::U16(x) => x.to_le_bytes().into(),
        Scalar::U32(x) => x.to_le_bytes().into(),
        Scalar::U64(x) => x.to_le_bytes().into(),
        Scalar::F32(x) => x.to_le_bytes().into(),
        Scalar::F64(x) => x.to_le_bytes().into(),
    }
}
