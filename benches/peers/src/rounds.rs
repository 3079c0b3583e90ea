//! The rounds: in each, every contestant does every work once.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Options;
use crate::contestant::Contestant;
use crate::measure::{self, Told};
use crate::report::{Machine, Report};
use crate::scene::Outcome;
use crate::work::Work;

/// What the rounds of one contestant at one work came to.
#[derive(Default)]
pub struct Cell {
    pub outcomes: Vec<Outcome>,
    /// Why there are none; of the last one that failed.
    pub absent: Option<String>,
    /// What to know of them, and of how many.
    pub notes: BTreeMap<String, usize>,
    /// No more rounds.
    done: bool,
}

/// One that takes longer than this is measured once.
const LONG: Duration = Duration::from_secs(20);

pub fn run(
    options: &Options,
    works: &[&'static dyn Work],
    whos: &[&'static dyn Contestant],
) -> Result<Report> {
    let machine = Machine::before();
    let on = options.on.clone().map_or_else(folder_of_the_program, Ok)?;
    let effort = Duration::from_secs_f64(options.effort);
    let mut cells: Vec<Vec<Cell>> =
        works.iter().map(|_| whos.iter().map(|_| Cell::default()).collect()).collect();
    for round in 1..=options.rounds {
        for (work, cells) in works.iter().zip(&mut cells) {
            for (who, cell) in whos.iter().zip(cells).filter(|(_, cell)| !cell.done) {
                let what = format!(
                    "round {round}/{}  {}  {}",
                    options.rounds,
                    work.about().id,
                    who.name()
                );
                let start = Instant::now();
                let told = measure::elsewhere(who.name(), work.about().id, &on, effort)?;
                eprintln!("{what}: {}", show(*work, &told));
                std::io::stderr().flush()?;
                cell.take(told);
                if start.elapsed() > LONG {
                    cell.done = true;
                    cell.note(format!("measured once, as it took {} s", start.elapsed().as_secs()));
                }
            }
        }
    }
    Ok(Report::new(options, machine.after(), works, whos, &cells))
}

fn folder_of_the_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("a program in a folder")?.to_owned())
}

fn show(work: &dyn Work, told: &Told) -> String {
    match told {
        Told::Done(outcome) => {
            let figures = work.about().figures.iter().zip(&outcome.figures);
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

    fn note(&mut self, note: String) {
        *self.notes.entry(note).or_default() += 1;
    }
}
