//! A contestant: a name, and the measured operations that it offers.

use std::any::Any;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::scene::{Outcome, Scene};

/// One way of sharing state. An operation that it does not offer keeps the default answer, and
/// the table shows the reason.
///
/// The state lives at a path, where nothing exists before the first opening; two processes that
/// open the path share it.
pub trait Contestant: Sync {
    fn name(&self) -> &'static str;

    /// Another form of a contestant, which the table shows only for the works that it can do.
    fn is_variant(&self) -> bool {
        false
    }

    fn sharing(&self) -> Sharing {
        Sharing::Full
    }

    /// One number, zero at first.
    fn number(&self, _path: &Path, _keep: Keep) -> Result<Box<dyn Number>> {
        Err(not_offered("no numbers"))
    }

    /// So many numbers, zero at first.
    fn numbers(&self, _path: &Path, _count: usize) -> Result<Box<dyn Numbers>> {
        Err(not_offered("no several numbers as one"))
    }

    /// One block of `words` words, zero at first.
    fn block(&self, _path: &Path, _words: usize) -> Result<Box<dyn Block>> {
        Err(not_offered("no blocks"))
    }

    /// Makes a store that holds these names.
    fn define(&self, _path: &Path, _names: &[Name]) -> Result<Box<dyn Names>> {
        Err(not_offered("no names"))
    }

    /// Opens what [`define`](Contestant::define) made.
    fn open(&self, _path: &Path) -> Result<Box<dyn Names>> {
        Err(not_offered("no names"))
    }

    /// Whether what was defined is still there after the last process has closed it.
    fn lasts(&self) -> bool {
        true
    }

    /// A signal that one process announces and another waits for.
    fn signal(&self, _path: &Path, _name: &str, _end: End) -> Result<Box<dyn Signal>> {
        Err(not_offered("no waiting for an update: one has to poll"))
    }

    /// Numbers that survive a power cut once an addition has returned.
    fn durable(&self) -> Result<&dyn Durable> {
        Err(not_offered("nothing survives a power cut"))
    }

    /// For a contestant not written in Rust: does the whole work itself.
    fn elsewhere(&self, _work: &str, _scene: &Scene) -> Option<Result<Outcome>> {
        None
    }
}

/// How many processes may use it at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    Full,
    OneWriter,
    OneProcess,
}

impl Sharing {
    /// For the works of two processes, `writers` of which write.
    pub fn enough_for(self, writers: usize) -> Result<()> {
        match self {
            Sharing::OneProcess => Err(not_offered("one process at a time")),
            Sharing::OneWriter if writers > 1 => Err(not_offered("one process writes")),
            _ => Ok(()),
        }
    }
}

/// How durable an update is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// As fast as the contestant can; a power cut may lose it.
    Running,
    /// On the disk when the update returns.
    Durable,
}

/// Which end of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Sends,
    Waits,
}

/// The loops are compiled for each contestant, so that the call through the trait object is paid
/// once per loop, not once per operation.
pub trait Number {
    fn read(&mut self) -> u64;
    fn add(&mut self);

    fn reads(&mut self, count: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            black_box(black_box(&mut *self).read());
        }
        start.elapsed()
    }

    fn adds(&mut self, count: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            black_box(&mut *self).add();
        }
        start.elapsed()
    }
}

/// Many numbers in a store, each addition to which is on the disk when it returns.
pub trait Durable {
    /// Makes a store of these names, and closes it. What is returned is kept as long as the store
    /// is used: a server.
    fn make(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Any>>;

    /// Opens it in this process, for as many threads as there are names: each adds to one of them.
    fn open(&self, path: &Path, names: &[&str]) -> Result<Vec<Box<dyn Number + Send>>>;

    /// One process and one thread do the work, whatever was asked for.
    fn is_alone(&self) -> bool {
        false
    }
}

/// One number of a [`Durable`] store, which `opened` reaches.
pub struct Own<O> {
    pub opened: O,
    pub name: String,
}

impl<O> Own<O> {
    pub fn of(opened: O, name: &str) -> Own<O> {
        Own { opened, name: name.to_owned() }
    }
}

/// Several numbers, as one.
pub trait Numbers {
    /// Adds 1 to each, all at one instant.
    fn add(&mut self);
    /// As of one instant.
    fn read(&mut self, out: &mut [u64]);

    fn adds(&mut self, count: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            black_box(&mut *self).add();
        }
        start.elapsed()
    }

    fn reads(&mut self, out: &mut [u64], count: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            black_box(&mut *self).read(black_box(&mut *out));
        }
        start.elapsed()
    }
}

pub trait Block {
    fn replace(&mut self, content: &[u64]);
    fn read(&mut self, out: &mut [u64]);

    /// Changes one word; `false` if there is no such operation.
    fn set(&mut self, _index: usize, _word: u64) -> bool {
        false
    }

    fn replaces(&mut self, content: &[u64], count: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            black_box(&mut *self).replace(black_box(content));
        }
        start.elapsed()
    }

    fn reads(&mut self, out: &mut [u64], count: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            black_box(&mut *self).read(black_box(&mut *out));
        }
        start.elapsed()
    }
}

/// A name, and the number behind it.
pub struct Name {
    pub name: String,
    pub value: u64,
}

pub trait Names {
    fn read(&mut self, name: &str) -> u64;

    /// Reads them all; returns how many were wrong.
    fn wrong(&mut self, names: &[Name]) -> usize {
        let mut wrong = 0;
        for name in names {
            wrong += usize::from(black_box(&mut *self).read(&name.name) != name.value);
        }
        wrong
    }
}

/// Announcements are numbered from 1, and come one at a time.
pub trait Signal {
    fn send(&mut self, number: u64);
    fn wait(&mut self, number: u64);
}

/// Why a contestant is missing in a row.
#[derive(Debug)]
pub struct NotOffered(pub &'static str);

impl std::fmt::Display for NotOffered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotOffered {}

pub fn not_offered(reason: &'static str) -> anyhow::Error {
    NotOffered(reason).into()
}
