//! Safe functions for what the tests need of the operating system, but std does not offer: forks,
//! signals, limits, mounts. The only unsafe code of the tests is here and in `trace`.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Stores an element through a buffer's address, without the library.
pub fn poke<T: slotfile::Element>(buffer: &slotfile::Buffer<T>, at: usize, element: T) {
    assert!(at < buffer.len());
    // SAFETY: the element exists, and is mapped for as long as the buffer's handle lives.
    unsafe { buffer.as_ptr().add(at).write_volatile(element) }
}

/// A child made by fork, killed when this is dropped.
pub struct Forked {
    pid: libc::pid_t,
    reaped: bool,
}

/// Forks; the child runs `f` and exits with 0, or with 1 if it panicked. It never returns to
/// the test harness. Only for a process without other tests.
#[track_caller]
pub fn fork(f: impl FnOnce()) -> Forked {
    must_be_apart();
    // SAFETY: the child has a copy of this one thread and of all memory. It runs `f`, which
    // the tests limit to what works after a fork, and ends by `_exit`. (glibc's malloc works;
    // printing may not if another thread was printing, which only a failing test does.)
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            // SAFETY: ends this process without running any code of the harness.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        pid => Forked { pid, reaped: false },
    }
}

/// Forks, and both processes continue from here, the child with `None`. The child must end by
/// [`exit_at_once`].
#[track_caller]
pub fn fork_and_go_on() -> Option<Forked> {
    must_be_apart();
    // SAFETY: as in `fork`.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => None,
        pid => Some(Forked { pid, reaped: false }),
    }
}

/// Panics unless the test runs apart: the child of a fork inherits the stores that other tests
/// of the process have open, and would count as another process in them.
#[track_caller]
fn must_be_apart() {
    let apart = cfg!(fuzzing) || std::env::var_os("SLOTFILE_ROLE").is_some();
    assert!(apart, "a test that forks begins with `apart`");
}

impl Forked {
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Waits for its end; panics unless it succeeded within a minute.
    #[track_caller]
    pub fn join(mut self) {
        let start = Instant::now();
        loop {
            let mut status = 0;
            // SAFETY: fills the number that it is given.
            let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) };
            if pid == self.pid {
                self.reaped = true;
                let ended_well = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
                assert!(ended_well, "the forked child failed, with status {status:#x}");
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the forked child hangs");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Kills it, without waiting for its end.
    pub fn kill(&self) {
        signal(self.pid(), libc::SIGKILL);
    }

    /// Waits until the killed child is gone. Panics if it ended by itself: then it has failed.
    #[track_caller]
    pub fn reap(mut self) {
        let status = self.wait();
        let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
        assert!(killed, "the victim ended before it was killed, with status {status:#x}");
    }

    fn wait(&mut self) -> libc::c_int {
        let mut status = 0;
        // SAFETY: fills the number that it is given.
        unsafe { libc::waitpid(self.pid, &mut status, 0) };
        self.reaped = true;
        status
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.wait();
        }
    }
}

/// Watches a child, and returns the time of its death: when the kernel has torn it down and closed
/// its files. That is later than the kill: on a virtual machine whose host has stopped a processor,
/// by seconds. Does not reap the child.
pub fn death_of(pid: u32) -> std::thread::JoinHandle<Instant> {
    std::thread::spawn(move || {
        // SAFETY: all zeros is a valid `siginfo_t`, which waitid fills.
        let result = unsafe {
            let mut info = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT)
        };
        assert_eq!(result, 0, "waitid: {}", io::Error::last_os_error());
        Instant::now()
    })
}

/// Ends this process at once, like a crash: no destructor runs.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

pub fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: kill touches no memory; the tests only signal children not yet reaped.
    let result = unsafe { libc::kill(pid.cast_signed(), signal) };
    assert_eq!(result, 0, "kill {pid}: {}", io::Error::last_os_error());
}

/// Stops a child of this process (SIGSTOP), and returns once it is stopped.
pub fn stop(pid: u32) {
    signal(pid, libc::SIGSTOP);
    // SAFETY: a null status is allowed; WUNTRACED also reports a stop, without reaping.
    let seen = unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), libc::WUNTRACED) };
    assert_eq!(seen, pid.cast_signed(), "waitpid: {}", io::Error::last_os_error());
}

pub fn resume(pid: u32) {
    signal(pid, libc::SIGCONT);
}

/// Nanoseconds on the clock that all processes of the machine share (CLOCK_MONOTONIC).
pub fn nanoseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct that it is given, which lives on this stack.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(result, 0, "clock_gettime: {}", io::Error::last_os_error());
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// How long this thread was ready to run but had no processor. (Zero if the kernel does not
/// count that.)
pub fn time_without_processor() -> Duration {
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = counts.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

/// Makes the kernel kill this process when the thread that started it ends, so that an aborted test
/// leaves no process behind.
pub fn die_with_parent() {
    // SAFETY: prctl with this option takes a number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

pub fn is_root() -> bool {
    // SAFETY: returns a number.
    unsafe { libc::geteuid() == 0 }
}

/// Makes this process another user's, permanently.
pub fn become_user(id: u32) {
    // SAFETY: these take numbers and touch no memory.
    let failed = unsafe {
        libc::setgroups(0, std::ptr::null()) != 0 || libc::setgid(id) != 0 || libc::setuid(id) != 0
    };
    assert!(!failed, "setuid: {}", io::Error::last_os_error());
}

/// Forbids this process to start threads, or allows it again. Root always may, so it becomes
/// another user.
pub fn have_no_more_threads(none: bool) {
    if is_root() {
        become_user(65_534);
    }
    limit(libc::RLIMIT_NPROC, if none { 0 } else { u64::MAX });
}

/// Closes all descriptors of this process from this number on.
pub fn close_all_from(first: u32) {
    // SAFETY: touches no memory. The tests take care of descriptors that std believes open.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    assert_eq!(result, 0, "close_range: {}", io::Error::last_os_error());
}

pub fn set_umask(mask: u32) {
    // SAFETY: takes and returns a number.
    unsafe { libc::umask(mask) };
}

/// Whether another open file has a lock on this byte of the file.
pub fn byte_is_locked(file: &std::fs::File, byte: i64) -> bool {
    byte_lock(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte, 1) != libc::F_UNLCK
}

/// Read-locks this many bytes of the file, for as long as it is open.
pub fn read_lock_bytes(file: &std::fs::File, first: i64, count: i64) {
    byte_lock(file, libc::F_OFD_SETLK, libc::F_RDLCK, first, count);
}

fn byte_lock(
    file: &std::fs::File,
    call: libc::c_int,
    kind: libc::c_int,
    first: i64,
    count: i64,
) -> libc::c_int {
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: first,
        l_len: count,
        l_pid: 0,
    };
    // SAFETY: the calls read and fill the struct on this stack.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), call, &mut lock) };
    assert_eq!(result, 0, "fcntl: {}", io::Error::last_os_error());
    lock.l_type.into()
}

/// Sets a soft limit of this process, such as `libc::RLIMIT_FSIZE`.
pub fn limit(resource: libc::__rlimit_resource_t, bytes: u64) {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit fills, and setrlimit reads, the struct on this stack.
    let failed = unsafe {
        let failed = libc::getrlimit(resource, &mut now) != 0;
        now.rlim_cur = bytes.min(now.rlim_max);
        failed || libc::setrlimit(resource, &now) != 0
    };
    assert!(!failed, "setrlimit: {}", io::Error::last_os_error());
}

/// Limits this process to mapping this many more bytes of memory.
pub fn leave_addresses(bytes: u64) {
    let sizes = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = sizes.split(' ').next().unwrap().parse().unwrap();
    limit(libc::RLIMIT_AS, pages * 4096 + bytes);
}

pub fn make_pipe_file(path: &Path) {
    let path = c_string(path);
    // SAFETY: the path ends with NUL and outlives the call.
    let result = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
    assert_eq!(result, 0, "mkfifo: {}", io::Error::last_os_error());
}

/// Gives this process a mount namespace, permanently: no other process sees what it mounts.
/// False if that is not permitted.
pub fn have_own_mounts() -> bool {
    // SAFETY: takes a number and touches no memory.
    let apart = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    // Otherwise, mounts would propagate to the original namespace.
    apart && mount("none", Path::new("none"), Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, "")
}

/// mount(2); false if that is not permitted.
pub fn mount(kind: &str, source: &Path, at: &Path, flags: libc::c_ulong, options: &str) -> bool {
    let (source, at) = (c_string(source), c_string(at));
    let (kind, options) = (CString::new(kind).unwrap(), CString::new(options).unwrap());
    // SAFETY: all of them are strings that end with NUL, and outlive the call.
    let result = unsafe {
        let options = options.as_ptr().cast();
        libc::mount(source.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options)
    };
    result == 0
}

/// umount(2); false if that fails.
pub fn unmount(at: &Path) -> bool {
    let at = c_string(at);
    // SAFETY: the path ends with NUL and outlives the call.
    unsafe { libc::umount2(at.as_ptr(), 0) == 0 }
}

/// Removes the mark from the file's inode in memory, as the kernel does when it needs that memory.
pub fn unmark(path: &Path) {
    const F_SET_RW_HINT: libc::c_int = 1036;
    let (file, none) = (std::fs::File::open(path).unwrap(), 0u64);
    // SAFETY: the call reads its argument, which lives on this stack.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), F_SET_RW_HINT, &none) };
    assert_eq!(result, 0, "fcntl: {}", io::Error::last_os_error());
}

/// Makes these system calls fail with `error` in this process and its children, permanently.
/// False if that is not permitted.
pub fn deny(calls: &[libc::c_long], error: i32) -> bool {
    let step = |code: u32, jt: usize, k: u32| libc::sock_filter {
        code: code as u16,
        jt: jt as u8,
        jf: 0,
        k,
    };
    // seccomp(2): the first word of what a filter sees is the number of the call.
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (at, call) in calls.iter().enumerate() {
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        filter.push(step(equal, calls.len() - at, *call as u32));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | error as u32));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the calls read the program, which lives on this stack, and its filter.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    }
}

/// Uses this much memory, in small pages, so that the kernel takes a while to end the process.
pub fn use_much_memory(bytes: usize) {
    // SAFETY: a new mapping, which is never unmapped; the writes stay within it.
    unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE);
        (0..bytes).step_by(4096).for_each(|byte| at.cast::<u8>().add(byte).write_volatile(1));
    }
}

/// Allows this process to write a core dump, if the machine is configured to.
pub fn dump_core_at(folder: &Path) {
    std::env::set_current_dir(folder).unwrap();
    limit(libc::RLIMIT_CORE, u64::MAX);
}

/// Makes the kernel keep in memory all that this process maps from here on. False if that is not
/// permitted.
pub fn lock_memory() -> bool {
    // SAFETY: takes a number, and touches no memory.
    unsafe { libc::mlockall(libc::MCL_FUTURE) == 0 }
}

/// A file system in memory of this size, mounted on a folder until this is dropped.
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// `None` where this process may not mount.
    pub fn tmpfs(at: &Path, size: u64) -> Option<Mount> {
        let mounted = mount("tmpfs", Path::new("tmpfs"), at, 0, &format!("size={size}"));
        mounted.then(|| Mount { at: at.to_owned() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = c_string(&self.at);
        // SAFETY: the path ends with NUL and outlives the call. Detached, so that it is removed
        // even while a failing test still has a file open there.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    }
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// A mapped file, read and written without system calls, up to the length that it had when it
/// was mapped. A caller that makes it shorter restores its length before using this.
pub struct Mapped(RefCell<memmap2::MmapMut>);

impl Mapped {
    pub fn of(file: &File) -> Mapped {
        // SAFETY: it is accessed only through copies, while no process has the file open.
        Mapped(RefCell::new(unsafe { memmap2::MmapMut::map_mut(file) }.unwrap()))
    }

    /// Passes these bytes to `f`, which may change them.
    pub fn with<R>(&self, range: Range<usize>, f: impl FnOnce(&mut [u8]) -> R) -> R {
        f(&mut self.0.borrow_mut()[range])
    }
}

impl FileExt for Mapped {
    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize> {
        let from = self.0.borrow();
        let from = from.get(at as usize..).unwrap_or_default();
        let len = out.len().min(from.len());
        out[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut to = self.0.borrow_mut();
        let to = to.get_mut(at as usize..).unwrap_or_default();
        let len = bytes.len().min(to.len());
        to[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }
}

impl super::raw::Storage for Mapped {
    fn len(&self) -> u64 {
        self.0.borrow().len() as u64
    }
}

/// The parts of a file that are not holes, in order.
pub fn data_ranges(file: &File) -> Vec<Range<u64>> {
    // SAFETY: lseek touches no memory.
    let seek = |from, to| unsafe { libc::lseek(file.as_raw_fd(), from, to) };
    let (mut ranges, mut end) = (Vec::new(), 0);
    loop {
        let from = seek(end, libc::SEEK_DATA);
        if from < 0 {
            return ranges;
        }
        end = seek(from, libc::SEEK_HOLE);
        ranges.push(from as u64..end as u64);
    }
}

/// Freezes the file system of this folder, so that writes to it wait, until this is dropped.
/// `None` if that is not permitted.
pub fn freeze(folder: &Path) -> Option<Frozen> {
    const FIFREEZE: libc::c_ulong = 0xc004_5877; // linux/fs.h
    let folder = File::open(folder).unwrap();
    // SAFETY: the call reads and writes no memory of this process.
    let frozen = unsafe { libc::ioctl(folder.as_raw_fd(), FIFREEZE as _, 0) } == 0;
    frozen.then_some(Frozen(folder))
}

pub struct Frozen(File);

impl Drop for Frozen {
    fn drop(&mut self) {
        const FITHAW: libc::c_ulong = 0xc004_5878; // linux/fs.h
        // SAFETY: as above.
        unsafe { libc::ioctl(self.0.as_raw_fd(), FITHAW as _, 0) };
    }
}
