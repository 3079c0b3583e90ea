//! Runs a child of this process one instruction, or one system call, at a time.
//!
//! The child prepares, then calls [`mark`] right before the operation under test, and again
//! right after it. In between, the parent decides how far the child gets.

#![allow(unsafe_code)]

use std::io;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slotfile::OpenOptions;

use super::os;

/// The exit code of a child that may not be traced.
const NOT_PERMITTED: i32 = 77;

/// Marks the beginning or the end of the operation, in the child.
pub fn mark() {
    // SAFETY: raise touches no memory; the tracer of this process sees the signal first.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// The numbers of the system calls of a store's first sync, which comes after `before`.
pub fn calls_of_a_sync(options: &OpenOptions, path: &Path, before: impl FnOnce()) -> Vec<i64> {
    let mut child = Traced::start(|| {
        let store = options.open(path).unwrap();
        store.value::<u64>("value").unwrap().store(5).unwrap();
        before();
        mark();
        store.sync().unwrap();
        mark();
        os::exit_at_once(0);
    });
    let calls = std::iter::from_fn(|| child.next_call()).map(|call| call.number).collect();
    assert_eq!(child.end(), 0);
    calls
}

/// Whether a process may trace its children here; prints that the test is skipped if not.
pub fn is_permitted() -> bool {
    stay_on_one_processor();
    let permitted = Traced::try_start(mark).is_some();
    if !permitted {
        eprintln!("skipped: this process may not trace its children (ptrace)");
    }
    permitted
}

/// Keeps this thread, and the children that it starts from here on, on one processor. Otherwise
/// switching between two processors would take most of the time.
fn stay_on_one_processor() {
    // SAFETY: the set is plain bits, so zeros are one of its values; the calls read it, or
    // take numbers. If they fail, the test is only slower.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if let Ok(processor) = usize::try_from(libc::sched_getcpu()) {
            libc::CPU_SET(processor, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &set);
        }
    }
}

/// A stopped child made by fork. Killed when this is dropped.
pub struct Traced {
    pid: libc::pid_t,
    reaped: bool,
    /// Stopped at the entry of a system call, before the kernel has done anything.
    in_call: bool,
    at_end: bool,
}

/// How many times children were resumed, and after how many times this process sleeps. Two
/// processes that hand over to each other without a pause can starve all others on their
/// processor, the kernel's own threads too: with Linux 6.18, for over a minute. While both
/// sleep, others run.
static TIMES: AtomicU64 = AtomicU64::new(0);
const TIMES_WITHOUT_SLEEP: u64 = 1_000;
const SLEEP: Duration = Duration::from_millis(1);

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub number: i64,
    /// For `mmap`: whether it maps a file.
    pub maps_file: bool,
}

/// Why a child stopped.
enum Stop {
    Step,
    Call,
    Mark,
}

impl Traced {
    /// Forks; the child runs `f`, and has stopped at its first [`mark`] when this returns. What
    /// it does after its second mark is not waited for.
    #[track_caller]
    pub fn start(f: impl FnOnce()) -> Traced {
        Traced::try_start(f).expect("tracing is permitted")
    }

    fn try_start(f: impl FnOnce()) -> Option<Traced> {
        // SAFETY: the child has a copy of this one thread and of all memory. It runs `f`,
        // which the tests limit to what works after a fork, and ends by `_exit`.
        let pid = match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", io::Error::last_os_error()),
            0 => {
                os::die_with_parent();
                // SAFETY: PTRACE_TRACEME ignores all other arguments.
                if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, null_mut::<u8>(), 0) } != 0 {
                    os::exit_at_once(NOT_PERMITTED);
                }
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
                os::exit_at_once(i32::from(result.is_err()));
            }
            pid => pid,
        };
        let mut child = Traced { pid, reaped: false, in_call: false, at_end: false };
        let status = child.wait();
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == NOT_PERMITTED {
            return None;
        }
        assert!(
            libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGSTOP,
            "the child failed before its mark, with status {status:#x}"
        );
        // Distinguish system calls from other stops; kill the child if this process dies.
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        child.request(libc::PTRACE_SETOPTIONS, options as usize);
        Some(child)
    }

    fn request(&self, request: libc::c_uint, data: usize) {
        // SAFETY: the requests used here take a number, and touch no memory of ours.
        let result = unsafe { libc::ptrace(request, self.pid, null_mut::<u8>(), data) };
        assert_eq!(result, 0, "ptrace: {}", io::Error::last_os_error());
    }

    fn wait(&mut self) -> libc::c_int {
        let mut status = 0;
        // SAFETY: fills the number that it is given.
        let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) };
        assert_eq!(pid, self.pid, "waitpid: {}", io::Error::last_os_error());
        self.reaped = !libc::WIFSTOPPED(status);
        status
    }

    /// Resumes it until it stops again.
    #[track_caller]
    fn go_on(&mut self, request: libc::c_uint) -> Stop {
        let mut signal = 0;
        loop {
            if TIMES.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIMES_WITHOUT_SLEEP) {
                std::thread::sleep(SLEEP);
            }
            self.request(request, signal as usize);
            let status = self.wait();
            assert!(
                libc::WIFSTOPPED(status),
                "the child failed in its operation, with status {status:#x}"
            );
            match libc::WSTOPSIG(status) {
                libc::SIGTRAP => return Stop::Step,
                libc::SIGSTOP => {
                    self.at_end = true;
                    return Stop::Mark;
                }
                stop if stop == libc::SIGTRAP | 0x80 => return Stop::Call,
                other => signal = other, // a signal of the child's own
            }
        }
    }

    /// Runs this many instructions, or fewer if it reaches its second mark. Returns how many it
    /// has run.
    #[track_caller]
    pub fn step(&mut self, instructions: u64) -> u64 {
        for done in 0..instructions {
            if let Stop::Mark = self.go_on(libc::PTRACE_SINGLESTEP) {
                return done;
            }
        }
        instructions
    }

    /// Runs until this many of its system calls are done, or fewer if it reaches its second
    /// mark. Returns how many.
    #[track_caller]
    pub fn skip_calls(&mut self, calls: u64) -> u64 {
        for done in 0..calls {
            if self.next_call().is_none() {
                return done;
            }
            self.end_call();
        }
        calls
    }

    /// Runs it to its second mark.
    #[track_caller]
    pub fn finish(&mut self) {
        self.in_call = false;
        if !self.at_end {
            self.go_on(libc::PTRACE_CONT);
        }
    }

    /// Runs it to the entry of its next system call. `None`: it reached its second mark.
    #[track_caller]
    pub fn next_call(&mut self) -> Option<Call> {
        if self.in_call {
            self.end_call();
        }
        match self.go_on(libc::PTRACE_SYSCALL) {
            Stop::Call => {
                self.in_call = true;
                let registers = self.registers();
                let number = registers.orig_rax.cast_signed();
                // The fifth argument is the file, or -1.
                let maps_file = number == libc::SYS_mmap && registers.r8 as i32 >= 0;
                Some(Call { number, maps_file })
            }
            Stop::Mark => None,
            Stop::Step => unreachable!("it is not stepped"),
        }
    }

    /// Lets the kernel do the system call at whose entry it is stopped; then it stops at its exit.
    #[track_caller]
    pub fn end_call(&mut self) {
        assert!(std::mem::take(&mut self.in_call), "it stands before a call");
        assert!(matches!(self.go_on(libc::PTRACE_SYSCALL), Stop::Call), "a call ends");
    }

    /// Makes the system call at whose entry it is stopped fail with this error, and do nothing.
    #[track_caller]
    pub fn fail_call(&mut self, error: i32) {
        let mut registers = self.registers();
        registers.orig_rax = u64::MAX; // no call at all
        self.set_registers(&mut registers);
        self.end_call();
        let mut registers = self.registers();
        registers.rax = i64::from(-error).cast_unsigned();
        self.set_registers(&mut registers);
    }

    /// The second argument of the system call in which it is stopped.
    pub fn second_argument(&self) -> u64 {
        self.registers().rsi
    }

    /// Writes a word of its memory.
    pub fn write_word(&self, at: u64, word: u64) {
        // SAFETY: writes into the child's memory, not into ours.
        let result = unsafe { libc::ptrace(libc::PTRACE_POKEDATA, self.pid, at, word) };
        assert_eq!(result, 0, "ptrace: {}", io::Error::last_os_error());
    }

    fn registers(&self) -> libc::user_regs_struct {
        let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
        // SAFETY: fills the struct, which is plain numbers, so zeros are one of its values.
        unsafe {
            let result = libc::ptrace(
                libc::PTRACE_GETREGS,
                self.pid,
                null_mut::<u8>(),
                registers.as_mut_ptr(),
            );
            assert_eq!(result, 0, "ptrace: {}", io::Error::last_os_error());
            registers.assume_init()
        }
    }

    fn set_registers(&self, registers: &mut libc::user_regs_struct) {
        let registers: *mut libc::user_regs_struct = registers;
        // SAFETY: reads the struct, which outlives the call.
        let result =
            unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, null_mut::<u8>(), registers) };
        assert_eq!(result, 0, "ptrace: {}", io::Error::last_os_error());
    }

    /// Runs it until it is about to end by itself, and stops it there: it runs no more code, but
    /// still has all its locks and files.
    #[track_caller]
    pub fn begin_to_end(&mut self) {
        let options =
            libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXIT;
        self.request(libc::PTRACE_SETOPTIONS, options as usize);
        assert!(matches!(self.go_on(libc::PTRACE_CONT), Stop::Step), "it ends");
    }

    /// Whether it has reached its second mark.
    pub fn is_over(&self) -> bool {
        self.at_end
    }

    /// Lets it run freely from its second mark on; returns its exit code.
    #[track_caller]
    pub fn end(mut self) -> i32 {
        assert!(self.at_end, "it stands at its second mark");
        self.request(libc::PTRACE_CONT, 0);
        let status = self.wait();
        assert!(libc::WIFEXITED(status), "the child failed at its end, with status {status:#x}");
        libc::WEXITSTATUS(status)
    }

    /// Kills it where it is stopped (SIGKILL), and returns when it is gone.
    pub fn kill(self) {}
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !self.reaped {
            os::signal(self.pid.cast_unsigned(), libc::SIGKILL);
            // If it has begun to end, the kill alone does not resume it.
            // SAFETY: the request takes a number, and touches no memory of ours. It fails if
            // the child is not stopped any more.
            unsafe { libc::ptrace(libc::PTRACE_CONT, self.pid, null_mut::<u8>(), 0) };
            // There may be another stop to be seen first.
            while !self.reaped {
                self.wait();
            }
        }
    }
}
