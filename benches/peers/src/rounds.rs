//! The rounds: in each, every contestant does every work once.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::contestant::Contestant;
use crate::measure::{self, Told};
use crate::options::Options;
use crate::report::{Machine, Report};
use crate::task::{Cell, Task};
use crate::work::{About, Chapter};

/// A work that takes longer than this is measured once.
const LONG: Duration = Duration::from_secs(20);

/// Fewer for a curve, which has many points, and only its shape matters.
const CURVE_ROUNDS: usize = 3;

/// Fewer for commits, which take longer to prepare.
const COMMIT_ROUNDS: usize = 4;

pub fn run(
    options: &Options,
    mut tasks: Vec<Task>,
    whos: &[&'static dyn Contestant],
) -> Result<Report> {
    let on = options.on.clone().map_or_else(folder_of_the_program, Ok)?;
    let machine = Machine::before(&on);
    eprintln!("the stores of all are in {}, on {}", on.display(), machine.stores_on);
    for task in &mut tasks {
        task.cells = whos.iter().map(|_| Cell::default()).collect();
    }
    let mut progress = Progress::new(tasks.iter().map(|task| rounds_of(task, options)).sum());
    for round in 1..=options.rounds() {
        for task in tasks.iter_mut().filter(|task| round <= rounds_of(task, options)) {
            let work = task.work.about();
            for (who, cell) in whos.iter().zip(&mut task.cells).filter(|(_, cell)| !cell.done) {
                let start = Instant::now();
                let effort = options.effort();
                let size = if task.size > 0 { format!(" {}", task.size) } else { String::new() };
                let what = format!("{}{size}  {}: ", work.id, who.name());
                progress.begins(&what);
                let told = measure::elsewhere(who.name(), work.id, &on, effort, task.size)?;
                let shown = show(work, &told);
                progress.shows(&format!("round {round}/{}  {what}{shown}", options.rounds()));
                cell.take(told);
                if start.elapsed() > LONG {
                    cell.done = true;
                    cell.note(format!("measured once, as it took {} s", start.elapsed().as_secs()));
                }
            }
            progress.done += 1;
        }
    }
    progress.ends();
    Ok(Report::new(options, machine.after(), whos, &tasks))
}

fn rounds_of(task: &Task, options: &Options) -> usize {
    let most = match task.work.about().chapter {
        _ if task.size > 0 => CURVE_ROUNDS,
        Chapter::Commits => COMMIT_ROUNDS,
        Chapter::Works => usize::MAX,
    };
    most.min(options.rounds())
}

/// How far the run is: on a terminal, a line below the results.
struct Progress {
    on_a_terminal: bool,
    start: Instant,
    /// Works, each as often as it is to be measured.
    all: usize,
    done: usize,
}

impl Progress {
    fn new(all: usize) -> Progress {
        let on_a_terminal = std::io::stderr().is_terminal();
        Progress { on_a_terminal, start: Instant::now(), all, done: 0 }
    }

    fn begins(&self, what: &str) {
        if !self.on_a_terminal {
            return;
        }
        let left = (self.done > 0).then(|| {
            let each = self.start.elapsed().as_secs_f64() / self.done as f64;
            each * (self.all - self.done) as f64
        });
        let left =
            left.map_or(String::new(), |s| format!(", about {:.0} min left", (s / 60.0).ceil()));
        eprint!(
            "\r\x1b[K{} of {} works{left}: {} ...",
            self.done,
            self.all,
            what.trim_end_matches([':', ' '])
        );
    }

    fn shows(&self, result: &str) {
        self.ends();
        eprintln!("{result}");
    }

    fn ends(&self) {
        if self.on_a_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn folder_of_the_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("a program in a folder")?.to_owned())
}

fn show(work: &About, told: &Told) -> String {
    match told {
        Told::Done(outcome) => {
            let figures = work.figures.iter().zip(&outcome.figures);
            let shown: Vec<String> =
                figures.map(|(figure, value)| figure.unit.show(*value)).collect();
            shown.join(", ")
        }
        Told::NotOffered(reason) => format!("({reason})"),
        Told::Failed(reason) => format!("failed: {reason}"),
    }
}
