//! slotfile beside the bare limit of the machine, and beside the alternatives, at the same work
//! in the same run: `cargo run --release --manifest-path benches/peers/Cargo.toml`.
//!
//! Each measurement is its own process in its own folder, so that it inherits nothing from
//! another, and a crash or a hang costs one cell of the table. The rounds are interleaved:
//! whatever the machine does meanwhile affects all.

mod contestant;
mod contestants;
mod crowd;
mod curve;
mod disk;
mod figure;
mod measure;
mod options;
mod report;
mod rounds;
mod scene;
mod shared;
mod stats;
mod task;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::contestant::Contestant;
use crate::options::Options;
use crate::scene::Scene;
use crate::task::Task;
use crate::work::Work;

#[derive(Parser)]
#[command(about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Hidden>,
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
    size: u64,
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
        None => run(&cli.options),
    }
}

impl Place {
    fn find(self) -> Result<(&'static dyn Contestant, &'static dyn Work, Scene)> {
        let who = find("contestant", contestants::ALL, |c| c.name(), &self.contestant)?;
        let work = find("work", &all_works(), |w| w.about().id, &self.work)?;
        let scene = Scene {
            contestant: who.name(),
            work: work.about().id,
            folder: self.folder,
            effort: Duration::from_secs_f64(self.seconds),
            size: self.size,
        };
        Ok((who, work, scene))
    }
}

/// The works of the table and those of the curves.
fn all_works() -> Vec<&'static dyn Work> {
    let curves = curve::ALL.iter().map(|curve| *curve as &dyn Work);
    work::ALL.iter().copied().chain(curves).collect()
}

fn run(options: &Options) -> Result<()> {
    if options.list {
        let works = all_works();
        works.iter().for_each(|w| println!("{:<16} {}", w.about().id, w.about().title));
        contestants::ALL.iter().for_each(|who| println!("{}", who.name()));
        return Ok(());
    }
    if cfg!(debug_assertions) {
        bail!("a debug build measures nothing: run it with --release");
    }
    let whos = choose("contestant", contestants::ALL, |c| c.name(), &options.contestants)?;
    let report = rounds::run(options, tasks(options)?, &whos)?;
    if options.docs {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        return report.write(&docs.join("performance"), &docs.join("performance.md"));
    }
    report.write(&options.out, &options.out.join("report.md"))
}

/// What to do. A curve that is named is wanted.
fn tasks(options: &Options) -> Result<Vec<Task>> {
    let named = choose_works(&options.works)?;
    let is = |work: &dyn Work| named.iter().any(|named| named.about().id == work.about().id);
    let mut tasks = Vec::new();
    if !options.only_curves {
        tasks.extend(work::ALL.iter().filter(|w| is(**w)).map(|work| Task::new(*work, 0)));
    }
    if options.curves || options.only_curves || !options.works.is_empty() {
        for curve in curve::ALL.iter().filter(|curve| is(**curve)) {
            tasks.extend(curve.sizes().iter().map(|size| Task::new(*curve, *size)));
        }
    }
    Ok(tasks)
}

/// The named ones, or all. Works of a kind may be named by what comes before a `-`.
fn choose_works(wanted: &[String]) -> Result<Vec<&'static dyn Work>> {
    let all = all_works();
    let mut chosen = Vec::new();
    for wanted in wanted {
        let of_kind =
            |id: &str| id.strip_prefix(wanted.as_str()).is_some_and(|s| s.starts_with('-'));
        let found: Vec<_> = all.iter().copied().filter(|work| of_kind(work.about().id)).collect();
        match find("work", &all, |work| work.about().id, wanted) {
            Err(_) if !found.is_empty() => chosen.extend(found),
            one => chosen.push(one?),
        }
    }
    Ok(if wanted.is_empty() { all } else { chosen })
}

/// The named ones, or all.
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
