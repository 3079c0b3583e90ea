//! The setting of a measurement, and its second process.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::shared::Shared;

/// The outcome of a measurement: one value per figure of its work.
#[derive(Serialize, Deserialize, Debug)]
pub struct Outcome {
    pub figures: Vec<f64>,
    /// A note about this run for the reader of the table.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Used only if there is nothing better.
    #[serde(default)]
    pub doubtful: bool,
}

impl From<Vec<f64>> for Outcome {
    fn from(figures: Vec<f64>) -> Outcome {
        Outcome { figures, notes: Vec::new(), doubtful: false }
    }
}

/// One measurement: of one contestant at one work, in a process and a folder of its own.
pub struct Scene {
    pub contestant: &'static str,
    pub work: &'static str,
    pub folder: PathBuf,
    /// About how long the measured part should take.
    pub effort: Duration,
    /// The size, for works measured at several.
    pub size: u64,
}

/// Words of memory shared by the processes of a measurement.
#[derive(Clone, Copy)]
enum Word {
    /// How many of the other processes are ready.
    Ready,
    /// 1 to begin, 2 to end.
    Go,
    /// The sum of what the other processes report.
    Report,
    /// The nanoseconds of the one that took longest.
    Time,
    /// When the last announcement was made.
    Stamp,
}

/// One side of a measurement by two or more processes. Each is bound to its own processor, since
/// two that take turns on one do not contend.
pub struct Side {
    words: Shared,
    others: Vec<Child>,
}

impl Scene {
    pub fn with_partner(&self) -> Result<Side> {
        self.with_partners(1)
    }

    /// Starts the other processes, and returns when they are ready.
    pub fn with_partners(&self, count: usize) -> Result<Side> {
        let mut side = Side { words: self.words()?, others: Vec::new() };
        // Left from an earlier try.
        for word in [Word::Ready, Word::Go, Word::Report, Word::Time, Word::Stamp] {
            side.word(word).store(0, Ordering::SeqCst);
        }
        for _ in 0..count {
            let child = self.command("partner")?.spawn().context("the second process")?;
            side.others.push(child);
        }
        bind_to(0);
        side.wait_for(Word::Ready, count as u64)?;
        Ok(side)
    }

    /// For the other processes: reports that it is ready, and returns when it must begin.
    pub fn as_partner(&self) -> Result<Side> {
        let mut side = Side { words: self.words()?, others: Vec::new() };
        let before = side.word(Word::Ready).fetch_add(1, Ordering::SeqCst);
        bind_to(before as usize + 1);
        side.wait_for(Word::Go, 1)?;
        Ok(side)
    }

    /// The command that starts this program again for a part of this measurement.
    pub fn command(&self, part: &str) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([part, self.contestant, self.work]).arg(&self.folder);
        command.args([self.effort.as_secs_f64().to_string(), self.size.to_string()]);
        Ok(command)
    }

    fn words(&self) -> Result<Shared> {
        Shared::open(&self.folder.join("two-processes"), 8)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Side {
    fn word(&self, word: Word) -> &AtomicU64 {
        self.words.word(word as usize)
    }

    fn wait_for(&mut self, word: Word, value: u64) -> Result<()> {
        let start = Instant::now();
        while self.word(word).load(Ordering::SeqCst) < value {
            std::hint::spin_loop();
            if start.elapsed() > Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(1));
                for other in &mut self.others {
                    ensure!(other.try_wait()?.is_none(), "the second process ended");
                }
            }
        }
        Ok(())
    }

    pub fn begin(&self) {
        self.word(Word::Go).store(1, Ordering::SeqCst);
    }

    /// Whether it is time to end.
    pub fn over(&self) -> bool {
        self.word(Word::Go).load(Ordering::Relaxed) == 2
    }

    /// The result of one of the other processes.
    pub fn report(&self, number: u64, time: Duration) {
        self.word(Word::Time).fetch_max(time.as_nanos() as u64, Ordering::SeqCst);
        self.word(Word::Report).fetch_add(number, Ordering::SeqCst);
    }

    /// Ends the other processes; returns what they reported.
    pub fn end(mut self) -> Result<(u64, Duration)> {
        self.word(Word::Go).store(2, Ordering::SeqCst);
        for other in &mut self.others {
            ensure!(other.wait()?.success(), "the second process failed");
        }
        let time = Duration::from_nanos(self.word(Word::Time).load(Ordering::SeqCst));
        Ok((self.word(Word::Report).load(Ordering::SeqCst), time))
    }

    /// Notes the moment of an announcement.
    pub fn stamp(&self) {
        self.word(Word::Stamp).store(now(), Ordering::SeqCst);
    }

    /// Nanoseconds since then.
    pub fn since_stamp(&self) -> u64 {
        now().saturating_sub(self.word(Word::Stamp).load(Ordering::SeqCst))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        for other in &mut self.others {
            let _ = other.kill();
            let _ = other.wait();
        }
    }
}

/// Nanoseconds of the clock that all processes share.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to `time`, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Binds this thread to a processor, modulo their number, if that is permitted.
fn bind_to(number: usize) {
    // SAFETY: the call touches no memory.
    let processors = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.max(1) as usize;
    // SAFETY: a set of processors is plain bytes, ours, and of the given size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(number % processors, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}
