//! How long a change takes to reach a waiting process: `cargo bench --bench waiting`. Beside a
//! bare futex and a bare spinning loop, measured in turns in the same run. Compare ratios, not
//! nanoseconds. It needs two idle processors.

use std::hint::spin_loop;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slotfile::{OpenOptions, Store, Value};

const ROUNDS: usize = 3;
/// Nanoseconds.
const BUSY: u64 = 1_000_000_000;
/// Messages.
const IDLE: u64 = 300;

/// One direction, or the other.
trait Channel {
    fn send(&self, message: u64);
    fn receive(&self, last: u64) -> u64;
}

struct Slotfile(Value<u64>);

impl Channel for Slotfile {
    fn send(&self, message: u64) {
        self.0.store(message).unwrap();
    }

    fn receive(&self, last: u64) -> u64 {
        self.0.wait_until(|now| now != last, None).unwrap().unwrap()
    }
}

/// A message, and a futex word that changes with it.
struct Bare<'a> {
    message: &'a AtomicU64,
    word: &'a AtomicU32,
    sleeps: bool,
}

impl Channel for Bare<'_> {
    fn send(&self, message: u64) {
        self.message.store(message, Ordering::Release);
        self.word.fetch_add(1, Ordering::Release);
        if self.sleeps {
            // SAFETY: the kernel uses the address only to find the sleepers there.
            unsafe { libc::syscall(libc::SYS_futex, self.word, libc::FUTEX_WAKE, i32::MAX) };
        }
    }

    fn receive(&self, last: u64) -> u64 {
        loop {
            let word = self.word.load(Ordering::Acquire);
            let message = self.message.load(Ordering::Acquire);
            if message != last {
                return message;
            }
            if self.sleeps {
                let limit: *const libc::timespec = std::ptr::null();
                // SAFETY: the kernel reads the word, which is mapped; null means no time limit.
                unsafe { libc::syscall(libc::SYS_futex, self.word, libc::FUTEX_WAIT, word, limit) };
            } else {
                spin_loop();
            }
        }
    }
}

/// Runs `f` with the two directions: of a store, or of bare memory.
fn with_channels<R>(
    store: &Store,
    kind: &str,
    f: impl FnOnce(&dyn Channel, &dyn Channel) -> R,
) -> R {
    if kind == "slotfile" {
        let channel = |name| Slotfile(store.value(name).unwrap());
        return f(&channel("there"), &channel("back"));
    }
    let words = store.buffer::<u64>("words", 64).unwrap();
    let words = words.as_ptr();
    let channel = |at: usize| {
        // SAFETY: the buffer has 64 aligned words, which stay mapped while the store is open;
        // here all of them are used as atomics.
        let (message, word) = unsafe { (&*words.add(at).cast(), &*words.add(at + 1).cast()) };
        Bare { message, word, sleeps: kind == "bare futex" }
    };
    f(&channel(0), &channel(32))
}

fn nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// Back and forth as fast as possible: nanoseconds each way. The median, since on a loaded
/// machine the other process may be stopped.
fn busy(there: &dyn Channel, back: &dyn Channel) -> u64 {
    let (end, mut last) = (nanos() + BUSY, back.receive(u64::MAX));
    let mut times = Vec::new();
    while times.is_empty() || nanos() < end {
        let start = nanos();
        for _ in 0..10 {
            there.send(last + 1);
            last = back.receive(last);
        }
        times.push((nanos() - start) / 20);
    }
    median(times)
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort();
    times[times.len() / 2]
}

/// With pauses long enough that the other process has fallen asleep. The message is the time,
/// the answer how long it took.
fn idle(there: &dyn Channel, back: &dyn Channel) -> u64 {
    let mut last = back.receive(u64::MAX);
    let times = (0..IDLE)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(1));
            there.send(nanos());
            // Not at once: if the other process is woken on this processor, it would have to
            // wait until this one stops spinning.
            std::thread::sleep(Duration::from_millis(1));
            last = back.receive(last);
            last - (n << 40)
        })
        .collect();
    median(times)
}

fn echo(path: &Path, kind: &str, how: &str) {
    let store = OpenOptions::new().sync_every(None).open(path).unwrap();
    with_channels(&store, kind, |there, back| {
        let mut last = 0;
        for n in 0.. {
            last = there.receive(last);
            let answer = if how == "idle" { nanos() - last + (n << 40) } else { last };
            back.send(answer);
        }
    });
}

fn measure(kind: &str, how: &str) -> u64 {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("bench.slots");
    let store = OpenOptions::new().create(true).sync_every(None).open(&path).unwrap();
    let me = std::env::current_exe().unwrap();
    let mut other: Child =
        Command::new(me).env("ECHO", kind).env("HOW", how).arg(&path).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let nanos = with_channels(&store, kind, |there, back| match how {
        "busy" => busy(there, back),
        _ => idle(there, back),
    });
    other.kill().unwrap();
    other.wait().unwrap();
    nanos
}

fn main() {
    if let (Ok(kind), Ok(how)) = (std::env::var("ECHO"), std::env::var("HOW")) {
        return echo(Path::new(&std::env::args().nth(1).unwrap()), &kind, &how);
    }
    for (how, kinds) in [
        ("busy", ["bare spinning", "bare futex", "slotfile"]),
        ("idle", ["bare futex", "slotfile", "bare futex"]),
    ] {
        for round in 1..=ROUNDS {
            let times = kinds.map(|kind| format!("{kind} {} ns", measure(kind, how)));
            println!("{how}, round {round}: {}", times.join(", "));
        }
    }
}
