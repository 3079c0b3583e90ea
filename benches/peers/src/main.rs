//! slotfile beside the bare limit of the machine, and beside what one would pick instead, on the
//! same work in the same run: `cargo run --release --manifest-path benches/peers/Cargo.toml`.
//!
//! Each measurement is a process of its own in a folder of its own, so that nobody inherits what
//! another one left, and one that crashes or hangs costs its cell of the table. The rounds are
//! interleaved: whatever the machine does meanwhile, it does to all.

mod contestant;
mod contestants;
mod figure;
mod measure;
mod report;
mod rounds;
mod scene;
mod shared;
mod stats;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::contestant::Contestant;
use crate::scene::Scene;
use crate::work::Work;

#[derive(Parser)]
#[command(about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Hidden>,
}

/// slotfile beside its peers: writes report.md, report.json and charts.
#[derive(Args)]
pub struct Options {
    /// Only these works, by the names that --list shows
    #[arg(long, value_delimiter = ',')]
    works: Vec<String>,
    /// Only these contestants
    #[arg(long, value_delimiter = ',')]
    contestants: Vec<String>,
    /// How often everything is measured
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of one measurement, about
    #[arg(long, default_value_t = 0.25)]
    effort: f64,
    /// Three short rounds: for a look, not for figures to keep
    #[arg(long)]
    quick: bool,
    /// Where the report goes
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/report"))]
    out: PathBuf,
    /// Where the stores are made: on the disk that is to be measured [default: that of the program]
    #[arg(long)]
    on: Option<PathBuf>,
    /// Shows the works and the contestants
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum Hidden {
    /// One measurement
    #[command(hide = true)]
    Measure(Place),
    /// The second process of one
    #[command(hide = true)]
    Partner(Place),
}

#[derive(Args)]
struct Place {
    contestant: String,
    work: String,
    folder: PathBuf,
    seconds: f64,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Hidden::Measure(place)) => {
            let (who, work, scene) = place.find()?;
            measure::here(who, work, &scene)
        }
        Some(Hidden::Partner(place)) => {
            let (who, work, scene) = place.find()?;
            work.partner(who, &scene)
        }
        None => cli.options.run(),
    }
}

impl Place {
    fn find(self) -> Result<(&'static dyn Contestant, &'static dyn Work, Scene)> {
        let who = find("contestant", contestants::ALL, |c| c.name(), &self.contestant)?;
        let work = find("work", work::ALL, |w| w.about().id, &self.work)?;
        let effort = Duration::from_secs_f64(self.seconds);
        let scene =
            Scene { contestant: who.name(), work: work.about().id, folder: self.folder, effort };
        Ok((who, work, scene))
    }
}

impl Options {
    fn run(mut self) -> Result<()> {
        if self.list {
            work::ALL
                .iter()
                .for_each(|work| println!("{:<16} {}", work.about().id, work.about().title));
            contestants::ALL.iter().for_each(|who| println!("{}", who.name()));
            return Ok(());
        }
        if self.quick {
            (self.rounds, self.effort) = (3, 0.05);
        }
        if cfg!(debug_assertions) {
            bail!("a debug build measures nothing: run it with --release");
        }
        let works = choose("work", work::ALL, |w| w.about().id, &self.works)?;
        let whos = choose("contestant", contestants::ALL, |c| c.name(), &self.contestants)?;
        let report = rounds::run(&self, &works, &whos)?;
        report.write(&self.out)
    }
}

/// Those named, or all.
fn choose<T: Copy>(
    what: &str,
    all: &[T],
    name: impl Fn(&T) -> &'static str,
    wanted: &[String],
) -> Result<Vec<T>> {
    if wanted.is_empty() {
        return Ok(all.to_vec());
    }
    wanted.iter().map(|wanted| find(what, all, &name, wanted)).collect()
}

fn find<T: Copy>(
    what: &str,
    all: &[T],
    name: impl Fn(&T) -> &'static str,
    wanted: &str,
) -> Result<T> {
    let found = all.iter().find(|one| name(one).eq_ignore_ascii_case(wanted));
    found.copied().with_context(|| format!("no {what} {wanted:?}; --list shows them"))
}
