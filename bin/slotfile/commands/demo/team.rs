//! Worker processes, seen from the demo: each is this executable, started again.
//!
//! They talk over pipes. A worker says `ready`, and begins when a line comes in on its
//! standard input. When that is closed, it prints its figures and ends, so that none is left
//! behind if the demo itself is killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use clap::ValueEnum;

use crate::cli::Role;
use crate::exit::{Exit, Failure};

/// A running worker, killed when dropped.
pub(super) struct Worker {
    role: Role,
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts it, and waits until it has opened the store.
    pub(super) fn start(role: Role, file: &Path) -> Result<Worker, Failure> {
        let failed = |error| {
            let what = format!("cannot start a worker of the demo: {error}");
            Failure::new(Exit::IO, what)
        };
        let name = role.to_possible_value().map(|value| value.get_name().to_owned());
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["demo", "--worker", name.as_deref().unwrap_or_default(), "--"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new(Exit::IO, "a worker of the demo has no pipes"));
        };
        let mut worker = Worker { role, child, to: Some(to), from: BufReader::new(from) };
        worker.wait_for("ready")?;
        Ok(worker)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn go(&mut self) -> Result<(), Failure> {
        let sent = self.to.as_mut().map(|to| to.write_all(b"go\n"));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.ended_early()),
        }
    }

    /// Waits until it has said `word`.
    pub(super) fn wait_for(&mut self, word: &str) -> Result<(), Failure> {
        match self.line()? == word {
            true => Ok(()),
            false => Err(self.ended_early()),
        }
    }

    /// Tells it to end, waits until it has, and returns its figures.
    pub(super) fn finish(mut self) -> Result<Vec<u64>, Failure> {
        drop(self.to.take());
        let line = self.line()?;
        let ended_well = self.child.wait().is_ok_and(|status| status.success());
        let figures = line.split_whitespace().map(|word| word.parse().ok()).collect();
        match (ended_well, figures) {
            (true, Some(figures)) => Ok(figures),
            _ => Err(self.ended_early()),
        }
    }

    /// SIGKILL: it gets no chance to clean up.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        self.child
            .kill()
            .map_err(|error| Failure::new(Exit::IO, format!("cannot kill a worker: {error}")))
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        match self.from.read_line(&mut line) {
            Ok(1..) => Ok(line.trim_end().to_owned()),
            _ => Err(self.ended_early()),
        }
    }

    fn ended_early(&self) -> Failure {
        let what = format!("the demo's {:?} worker ended early; see its own line above", self.role);
        Failure::new(Exit::IO, what)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both do nothing if it has ended, and a failure cannot be reported here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
