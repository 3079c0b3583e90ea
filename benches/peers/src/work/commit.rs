//! Durable commits: each of several threads or processes adds 1 to a slot of its own and makes
//! that durable, again and again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{About, Chapter, Work, names};
use crate::contestant::{Contestant, Name, Number, not_offered};
use crate::crowd::{Crowd, Done, Size};
use crate::disk::{FileSystem, settle};
use crate::figure::{At, Bound, Figure, Goal, Unit, figure};
use crate::scene::{Outcome, Scene, now};

pub struct Commit {
    about: About,
    load: Load,
}

/// What is committed, and by how many.
#[derive(Clone, Copy)]
pub struct Load {
    pub slots: usize,
    pub size: Size,
    /// How long, as a multiple of the effort of the scene.
    pub efforts: u64,
}

/// What came of it, by all together.
pub struct Rates {
    pub per_second: f64,
    /// The count of the slowest, as a share of the mean.
    pub slowest: f64,
    /// The nanoseconds of the longest commit of all.
    pub longest: f64,
}

const ONE: Size = Size::ONE;
const PROCESSES: Size = Size { processes: 8, threads: 1 };
const THREADS: Size = Size { processes: 1, threads: 8 };

/// As `Durable`, so that what the rest of the machine writes matters less.
const EFFORTS: u64 = 2;

const ABOUT: About = About {
    limit: "`pwrite` and `fdatasync` of 4 KiB by one process, however many the others are",
    figures: OF_SEVERAL,
    chapter: Chapter::Commits,
    ..About::NONE
};

/// The last figure is the share, which one alone has not.
const OF_SEVERAL: &[Figure] = &[
    figure("commits", Unit::PerSecond),
    figure("longest", Unit::Nanoseconds),
    figure("slowest to mean", Unit::Share),
];
const OF_ONE: &[Figure] =
    &[figure("commits", Unit::PerSecond), figure("longest", Unit::Nanoseconds)];

const fn at_least(n: f64, work: &'static str, called: &'static str) -> Goal {
    let at = At { work, called };
    Goal { who: "slotfile", figure: 0, bound: Bound::OwnAtLeast(n, at) }
}

const AS_OF_10: Goal = at_least(0.9, "commit-10", "that of 10 slots");

pub static OF_10: Commit = Commit {
    about: About {
        id: "commit-10",
        title: "commits, 10 slots, one process",
        figures: OF_ONE,
        goals: &[Goal { who: "slotfile", figure: 0, bound: Bound::AtLeast(0.9, "limit") }],
        ..ABOUT
    },
    load: Load { slots: 10, size: ONE, efforts: EFFORTS },
};

pub static OF_10_BY_PROCESSES: Commit = Commit {
    about: About {
        id: "commit-10-processes",
        title: "commits, 10 slots, 8 processes",
        goals: &[
            at_least(4.0, "commit-10", "one process"),
            // The longest of some thousand flushes takes 0.5 to 3 ms.
            Goal { who: "slotfile", figure: 1, bound: Bound::AtMost(10.0, "limit") },
        ],
        ..ABOUT
    },
    load: Load { slots: 10, size: PROCESSES, efforts: EFFORTS },
};

pub static OF_10_BY_THREADS: Commit = Commit {
    about: About { id: "commit-10-threads", title: "commits, 10 slots, 8 threads", ..ABOUT },
    load: Load { slots: 10, size: THREADS, efforts: EFFORTS },
};

pub static OF_100_000: Commit = Commit {
    about: About {
        id: "commit-100000",
        title: "commits, 100,000 slots, one process",
        figures: OF_ONE,
        goals: &[AS_OF_10],
        ..ABOUT
    },
    load: Load { slots: 100_000, size: ONE, efforts: EFFORTS },
};

pub static OF_100_000_BY_PROCESSES: Commit = Commit {
    about: About {
        id: "commit-100000-processes",
        title: "commits, 100,000 slots, 8 processes",
        goals: &[at_least(4.0, "commit-100000", "one process")],
        ..ABOUT
    },
    load: Load { slots: 100_000, size: PROCESSES, efforts: EFFORTS },
};

pub static OF_100_000_BY_THREADS: Commit = Commit {
    about: About {
        id: "commit-100000-threads",
        title: "commits, 100,000 slots, 8 threads",
        ..ABOUT
    },
    load: Load { slots: 100_000, size: THREADS, efforts: EFFORTS },
};

pub static OF_1_000_000: Commit = Commit {
    about: About {
        id: "commit-1000000",
        title: "commits, 1,000,000 slots, one process",
        figures: OF_ONE,
        goals: &[AS_OF_10],
        ..ABOUT
    },
    load: Load { slots: 1_000_000, size: ONE, efforts: EFFORTS },
};

impl Work for Commit {
    fn about(&self) -> &About {
        &self.about
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let rates = self.load.measure(who, scene)?;
        let mut figures = vec![rates.per_second, rates.longest, rates.slowest];
        figures.truncate(self.about.figures.len());
        Ok(figures.into())
    }

    fn partner(&self, who: &dyn Contestant, scene: &Scene) -> Result<()> {
        self.load.partner(who, scene)
    }
}

impl Load {
    /// Makes the store, lets the processes commit, and checks that all commits are there.
    pub fn measure(self, who: &dyn Contestant, scene: &Scene) -> Result<Rates> {
        let durable = who.durable()?;
        let load = self.of(who)?;
        let file_system = FileSystem::of(&scene.folder)?;
        if file_system.is_memory() {
            return Err(not_offered("in memory nothing is durable: --on names a folder on a disk"));
        }
        let (names, path) = (names(load.slots as u64), scene.path("store"));
        let server = durable.make(&path, &names)?;
        let crowd = Crowd::start(scene, load.size)?;
        // What making the store and opening it has written.
        settle(&scene.folder)?;
        let begun = crowd.begin();
        let done = crowd.end()?;
        load.check(who, &path, &names, &done)?;
        drop(server);
        Ok(rates(begun, &done))
    }

    /// What this contestant does of it.
    fn of(self, who: &dyn Contestant) -> Result<Load> {
        if who.durable()?.is_alone() {
            return Ok(Load { size: Size::ONE, ..self });
        }
        if self.size.processes > 1 {
            who.sharing().enough_for(2)?;
        }
        Ok(self)
    }

    /// The name of a worker's slot. They are far from each other, as those of different programs.
    fn own(self, names: &[Name], worker: usize) -> &str {
        &names[worker * names.len() / self.size.workers()].name
    }

    /// What each worker saw last is what is there now.
    fn check(self, who: &dyn Contestant, path: &Path, names: &[Name], done: &[Done]) -> Result<()> {
        let own: Vec<&str> = (0..done.len()).map(|worker| self.own(names, worker)).collect();
        let numbers = who.durable()?.open(path, &own)?;
        for ((mut number, done), name) in numbers.into_iter().zip(done).zip(own) {
            let there = number.read();
            ensure!(there == done.last, "{name}: {} committed, {there} there", done.last);
        }
        Ok(())
    }

    /// One of the processes.
    pub fn partner(self, who: &dyn Contestant, scene: &Scene) -> Result<()> {
        let load = self.of(who)?;
        let (crowd, process) = Crowd::join(scene, load.size)?;
        let names = names(load.slots as u64);
        let first = process * load.size.threads;
        let workers = first..first + load.size.threads;
        let own: Vec<&str> = workers.map(|worker| load.own(&names, worker)).collect();
        let mut numbers = who.durable()?.open(&scene.path("store"), &own)?;
        // The first commit of a process does more, and is not measured.
        numbers.iter_mut().for_each(|number| number.add());
        let begun = crowd.wait_to_begin();
        std::thread::scope(|scope| {
            for (worker, number) in (first..).zip(&mut numbers) {
                let crowd = &crowd;
                let until = begun + load.efforts * scene.effort.as_nanos() as u64;
                scope.spawn(move || crowd.tell(worker, commit_until(until, &mut **number)));
            }
        });
        Ok(())
    }
}

fn commit_until(until: u64, number: &mut dyn Number) -> Done {
    let before = number.read();
    let (mut count, mut longest) = (0, Duration::ZERO);
    while now() < until {
        let start = Instant::now();
        number.add();
        longest = longest.max(start.elapsed());
        count += 1;
    }
    let end = now();
    let last = number.read();
    assert_eq!(last - before, count, "another number than was committed");
    Done { count, longest: longest.as_nanos() as u64, end, last }
}

/// Of all workers, by the time from the beginning to the end of the last.
fn rates(begun: u64, done: &[Done]) -> Rates {
    let all: u64 = done.iter().map(|done| done.count).sum();
    let least = done.iter().map(|done| done.count).min().unwrap_or(0);
    let end = done.iter().map(|done| done.end).max().unwrap_or(begun);
    Rates {
        per_second: all as f64 * 1e9 / (end - begun) as f64,
        slowest: least as f64 * done.len() as f64 / all.max(1) as f64,
        longest: done.iter().map(|done| done.longest).max().unwrap_or(0) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rates_are_those_of_all() {
        let done = |count, longest, end| Done { count, longest, end, last: 0 };
        let rates = rates(1_000, &[done(30, 7, 1_500), done(10, 9, 2_000)]);
        assert_eq!((rates.per_second, rates.slowest, rates.longest), (4e7, 0.5, 9.0));
    }

    #[test]
    fn each_worker_has_a_slot_of_its_own() {
        let names = names(10);
        for workers in [1, 3, 8, 10] {
            let load =
                Load { slots: 10, size: Size { processes: workers, threads: 1 }, efforts: 1 };
            let mut own: Vec<&str> = (0..workers).map(|worker| load.own(&names, worker)).collect();
            own.dedup();
            assert_eq!(own.len(), workers);
        }
    }
}
