//! The rounds: in each, every contestant does every work once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Options;
use crate::contestant::Contestant;
use crate::measure::{self, Told};
use crate::report::{Machine, Report};
use crate::scene::Outcome;
use crate::stats::Summary;
use crate::work::{About, Work};

/// What the rounds of one contestant at one work came to.
#[derive(Default)]
pub struct Cell {
    outcomes: Vec<Outcome>,
    /// Why there are none; of the last one that failed.
    pub absent: Option<String>,
    /// What to know of them, and of how many.
    pub notes: BTreeMap<String, usize>,
    /// No more rounds.
    done: bool,
}

/// One that takes longer than this is measured once.
const LONG: Duration = Duration::from_secs(20);

/// A curve has many points, and its form is what counts.
const CURVE_ROUNDS: usize = 3;

/// A work, at a size if it is measured at several.
pub struct Task {
    pub work: &'static dyn Work,
    pub size: u64,
    /// In the order of the contestants.
    pub cells: Vec<Cell>,
}

impl Task {
    pub fn new(work: &'static dyn Work, size: u64) -> Task {
        Task { work, size, cells: Vec::new() }
    }
}

pub fn run(
    options: &Options,
    mut tasks: Vec<Task>,
    whos: &[&'static dyn Contestant],
) -> Result<Report> {
    let machine = Machine::before();
    let on = options.on.clone().map_or_else(folder_of_the_program, Ok)?;
    for task in &mut tasks {
        task.cells = whos.iter().map(|_| Cell::default()).collect();
    }
    for round in 1..=options.rounds() {
        for task in tasks.iter_mut().filter(|task| task.size == 0 || round <= CURVE_ROUNDS) {
            let work = task.work.about();
            for (who, cell) in whos.iter().zip(&mut task.cells).filter(|(_, cell)| !cell.done) {
                let start = Instant::now();
                let effort = options.effort();
                let told = measure::elsewhere(who.name(), work.id, &on, effort, task.size)?;
                let size = if task.size > 0 { format!(" {}", task.size) } else { String::new() };
                let what = format!("{}{size}  {}: {}", work.id, who.name(), show(work, &told));
                eprintln!("round {round}/{}  {what}", options.rounds());
                cell.take(told);
                if start.elapsed() > LONG {
                    cell.done = true;
                    cell.note(format!("measured once, as it took {} s", start.elapsed().as_secs()));
                }
            }
        }
    }
    Ok(Report::new(options, machine.after(), whos, &tasks))
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

impl Cell {
    fn take(&mut self, told: Told) {
        match told {
            Told::Done(outcome) => {
                outcome.notes.iter().for_each(|note| self.note(note.clone()));
                self.outcomes.push(outcome);
            }
            Told::NotOffered(reason) => {
                self.absent = Some(reason);
                self.done = true;
            }
            Told::Failed(reason) => {
                self.absent = Some(format!("failed: {reason}"));
                self.note(format!("failed: {reason}"));
            }
        }
    }

    /// Of one figure, if there are outcomes.
    pub fn summary(&self, figure: usize) -> Option<Summary> {
        let values: Vec<f64> = self.good().map(|outcome| outcome.figures[figure]).collect();
        (!values.is_empty()).then(|| Summary::of(values))
    }

    /// The outcomes to use: those in doubt only if there are no others.
    fn good(&self) -> impl Iterator<Item = &Outcome> {
        let all_in_doubt = self.outcomes.iter().all(|outcome| outcome.doubtful);
        self.outcomes.iter().filter(move |outcome| all_in_doubt || !outcome.doubtful)
    }

    fn note(&mut self, note: String) {
        *self.notes.entry(note).or_default() += 1;
    }
}
