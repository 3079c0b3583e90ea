//! One measurement, in a process of its own, and its answer to the process that started it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::contestant::{Contestant, NotOffered};
use crate::scene::{Outcome, Scene};
use crate::work::Work;

#[derive(Serialize, Deserialize, Debug)]
pub enum Told {
    Done(Outcome),
    /// The contestant has no such operation.
    NotOffered(String),
    Failed(String),
}

/// Longer than the slowest peer needs: iceoryx2 takes a minute to define 100,000 keys.
const PATIENCE: Duration = Duration::from_secs(240);

/// The measurement itself; prints its outcome.
pub fn here(who: &dyn Contestant, work: &dyn Work, scene: &Scene) -> Result<()> {
    let measured = match who.elsewhere(work.about().id, scene) {
        Some(measured) => measured,
        None => work.measure(who, scene),
    };
    let told = match measured {
        Ok(outcome) => Told::Done(outcome),
        Err(e) => match e.downcast_ref::<NotOffered>() {
            Some(reason) => Told::NotOffered(reason.to_string()),
            None => Told::Failed(format!("{e:#}")),
        },
    };
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

/// Runs it in a process, which is killed with all its children if it takes too long.
pub fn elsewhere(
    contestant: &'static str,
    work: &'static str,
    on: &Path,
    effort: Duration,
    size: u64,
) -> Result<Told> {
    let kept = tempfile::tempdir_in(on).context("a folder to measure in")?;
    let (out, err) = (kept.path().join("out"), kept.path().join("err"));
    let folder = kept.path().join("place");
    std::fs::create_dir(&folder)?;
    let scene = Scene { contestant, work, folder, effort, size };
    let mut process = scene
        .command("measure")?
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .process_group(0)
        .spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > PATIENCE {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // SAFETY: the call touches no memory. The group is that of the process just started; after
    // its end, only what it left running is in it.
    unsafe { libc::kill(-(process.id() as i32), libc::SIGKILL) };
    process.wait()?;
    let Some(status) = status else {
        return Ok(Told::Failed(format!("not done after {} s", PATIENCE.as_secs())));
    };
    let told = std::fs::read_to_string(out)?;
    Ok(match serde_json::from_str(told.lines().last().unwrap_or_default()) {
        Ok(Told::Failed(reason)) => Told::Failed(with_last_words(reason, &err)),
        Ok(told) => told,
        Err(_) => Told::Failed(with_last_words(status.to_string(), &err)),
    })
}

/// Adds the panic message of this process or of its second one.
fn with_last_words(reason: String, err: &Path) -> String {
    let text = std::fs::read_to_string(err).unwrap_or_default();
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at"));
    match (lines.next(), lines.next(), text.lines().last()) {
        (Some(_), Some(words), _) => format!("{reason}: {words}"),
        (_, _, Some(last)) => format!("{reason}: {last}"),
        _ => reason,
    }
}
