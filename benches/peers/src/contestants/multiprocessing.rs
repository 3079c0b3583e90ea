//! Python's `multiprocessing`: the works that it can do, in `multiprocessing.py`.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::contestant::{Contestant, not_offered};
use crate::scene::{Outcome, Scene};

pub struct Multiprocessing;

const SCRIPT: &str = include_str!("multiprocessing.py");

impl Contestant for Multiprocessing {
    fn name(&self) -> &'static str {
        "multiprocessing"
    }

    fn elsewhere(&self, work: &str, scene: &Scene) -> Option<Result<Outcome>> {
        Some(match work {
            "durable" => Err(not_offered("nothing outlives the processes")),
            "open" | "define" => Err(not_offered("no names")),
            _ if work.starts_with("commit-") => Err(not_offered("nothing outlives the processes")),
            _ if work.starts_with("several-") => Err(not_offered("no several numbers as one")),
            _ if work.starts_with("name-") => Err(not_offered("no names")),
            _ => run(work, scene),
        })
    }
}

fn run(work: &str, scene: &Scene) -> Result<Outcome> {
    // A file, since the other process must import it.
    let script = scene.path("peer.py");
    std::fs::write(&script, SCRIPT)?;
    let python = Command::new("python3")
        .arg(&script)
        .arg(work)
        .arg(scene.effort.as_secs_f64().to_string())
        .stderr(Stdio::inherit())
        .output();
    let output = match python {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(not_offered("python3 is not installed"));
        }
        other => other.context("python3")?,
    };
    ensure!(output.status.success(), "python3: {}", output.status);
    serde_json::from_slice(&output.stdout).context("what multiprocessing.py printed")
}
