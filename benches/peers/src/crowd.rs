//! Several processes that work at once, each with some threads. They begin together, and each
//! thread tells what it did. Unlike two that contend for memory, they are not bound to processors:
//! they sleep most of the time, until the disk or another one is done.

use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::scene::{Scene, now};
use crate::shared::Shared;

/// How many work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub processes: usize,
    /// Of each process.
    pub threads: usize,
}

impl Size {
    pub const ONE: Size = Size { processes: 1, threads: 1 };

    pub fn workers(self) -> usize {
        self.processes * self.threads
    }
}

/// What one thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// How often it did its work.
    pub count: u64,
    /// The nanoseconds of the longest time.
    pub longest: u64,
    /// When it ended, in nanoseconds of the shared clock.
    pub end: u64,
    /// The last number that it saw.
    pub last: u64,
}

#[derive(Clone, Copy)]
enum Word {
    /// How many processes have begun to prepare.
    Joined,
    /// How many processes are ready.
    Ready,
    /// When all began, by the shared clock; 0 before.
    Begun,
    /// The first of those of the workers, of which each has four.
    Workers,
}

/// The memory through which they talk, and, in the process that started them, the processes.
pub struct Crowd {
    words: Shared,
    size: Size,
    processes: Vec<Child>,
}

const PAUSE: Duration = Duration::from_micros(200);

impl Crowd {
    fn of(scene: &Scene, size: Size) -> Result<Crowd> {
        let words = Word::Workers as usize + 4 * size.workers();
        let words = Shared::open(&scene.path("crowd"), words)?;
        Ok(Crowd { words, size, processes: Vec::new() })
    }

    /// Starts the processes, and returns when they are ready.
    pub fn start(scene: &Scene, size: Size) -> Result<Crowd> {
        let mut crowd = Crowd::of(scene, size)?;
        for _ in 0..size.processes {
            let process = scene.command("partner")?.spawn().context("a process")?;
            crowd.processes.push(process);
        }
        while crowd.word(Word::Ready).load(Ordering::SeqCst) < size.processes as u64 {
            for process in &mut crowd.processes {
                ensure!(process.try_wait()?.is_none(), "a process ended before it was ready");
            }
            std::thread::sleep(PAUSE);
        }
        Ok(crowd)
    }

    /// For one of the processes; returns its number, too.
    pub fn join(scene: &Scene, size: Size) -> Result<(Crowd, usize)> {
        let crowd = Crowd::of(scene, size)?;
        let number = crowd.word(Word::Joined).fetch_add(1, Ordering::SeqCst);
        Ok((crowd, number as usize))
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        self.words.word(word as usize)
    }

    /// Lets all begin; returns when that was.
    pub fn begin(&self) -> u64 {
        let begun = now();
        self.word(Word::Begun).store(begun, Ordering::SeqCst);
        begun
    }

    /// For one of the processes: reports that it is ready, and returns when all have begun.
    pub fn wait_to_begin(&self) -> u64 {
        self.word(Word::Ready).fetch_add(1, Ordering::SeqCst);
        loop {
            match self.word(Word::Begun).load(Ordering::SeqCst) {
                0 => std::thread::sleep(PAUSE),
                begun => return begun,
            }
        }
    }

    fn word_of(&self, worker: usize, which: usize) -> &AtomicU64 {
        self.words.word(Word::Workers as usize + 4 * worker + which)
    }

    /// What a worker did; the workers are numbered through all processes.
    pub fn tell(&self, worker: usize, done: Done) {
        for (which, number) in [done.count, done.longest, done.end, done.last].iter().enumerate() {
            self.word_of(worker, which).store(*number, Ordering::SeqCst);
        }
    }

    /// Waits for the end of the processes; returns what each worker did.
    pub fn end(mut self) -> Result<Vec<Done>> {
        for process in &mut self.processes {
            ensure!(process.wait()?.success(), "a process failed");
        }
        let number = |worker, which| self.word_of(worker, which).load(Ordering::SeqCst);
        let done = |worker| Done {
            count: number(worker, 0),
            longest: number(worker, 1),
            end: number(worker, 2),
            last: number(worker, 3),
        };
        Ok((0..self.size.workers()).map(done).collect())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
