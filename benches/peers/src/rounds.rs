//! The rounds: in each, every contestant does every work once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::contestant::Contestant;
use crate::measure::{self, Told};
use crate::options::Options;
use crate::report::{Machine, Report};
use crate::task::{Cell, Task};
use crate::work::About;

/// A work that takes longer than this is measured once.
const LONG: Duration = Duration::from_secs(20);

/// Fewer for a curve, which has many points, and only its shape matters.
const CURVE_ROUNDS: usize = 3;

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
