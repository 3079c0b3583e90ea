//! What the rounds came to, as numbers (JSON); `markdown.rs` and `chart.rs` show them.

mod chart;
mod machine;
mod markdown;

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

pub use self::machine::Machine;
use crate::Options;
use crate::contestant::Contestant;
use crate::figure::Unit;
use crate::rounds::Cell;
use crate::stats::Summary;
use crate::work::Work;

const LIMIT: &str = "limit";
const OURS: &str = "slotfile";

#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    rounds: usize,
    seconds_each: f64,
    rows: Vec<Row>,
}

/// One figure of one work.
#[derive(Serialize)]
struct Row {
    work: &'static str,
    title: &'static str,
    limit: &'static str,
    /// Empty where the work has only one.
    figure: &'static str,
    unit: Unit,
    results: Vec<Entry>,
    goals: Vec<GoalMet>,
}

#[derive(Serialize)]
struct Entry {
    contestant: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<String>,
    #[serde(flatten)]
    summary: Option<Summary>,
    /// The median's ratio to the limit's, and to slotfile's.
    to_limit: Option<f64>,
    to_slotfile: Option<f64>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct GoalMet {
    who: &'static str,
    goal: String,
    /// `None`: one of those compared is missing.
    holds: Option<bool>,
}

impl Report {
    pub fn new(
        options: &Options,
        machine: Machine,
        works: &[&'static dyn Work],
        whos: &[&'static dyn Contestant],
        cells: &[Vec<Cell>],
    ) -> Report {
        let mut rows = Vec::new();
        for (work, cells) in works.iter().zip(cells) {
            for at in 0..work.about().figures.len() {
                rows.push(Row::new(*work, at, whos, cells));
            }
        }
        Report { machine, rounds: options.rounds, seconds_each: options.effort, rows }
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(self)?)?;
        std::fs::write(folder.join("report.md"), markdown::of(self))?;
        chart::draw(self, &folder.join("peers.svg"))?;
        println!("{}", markdown::goals(self));
        println!("written to {}", folder.display());
        Ok(())
    }
}

impl Row {
    fn new(work: &dyn Work, at: usize, whos: &[&'static dyn Contestant], cells: &[Cell]) -> Row {
        let figure = work.about().figures[at];
        let mut results: Vec<Entry> = Vec::new();
        for (who, cell) in whos.iter().zip(cells) {
            let values = cell.outcomes.iter().map(|outcome| outcome.figures[at]);
            let summary = (values.len() > 0).then(|| Summary::of(values));
            let rounds = |(note, count): (&String, &usize)| match count {
                1 => note.clone(),
                _ => format!("{note} ({count} rounds)"),
            };
            results.push(Entry {
                contestant: who.name(),
                absent: cell.absent.clone().filter(|_| summary.is_none()),
                summary,
                to_limit: None,
                to_slotfile: None,
                notes: cell.notes.iter().map(rounds).collect(),
            });
        }
        let mut row = Row {
            work: work.about().id,
            title: work.about().title,
            limit: work.about().limit,
            figure: figure.what,
            unit: figure.unit,
            results,
            goals: Vec::new(),
        };
        let (limit, ours) = (row.median(LIMIT), row.median(OURS));
        for entry in &mut row.results {
            let ratio = |to: Option<f64>| Some(entry.summary.as_ref()?.median / to?);
            (entry.to_limit, entry.to_slotfile) = (ratio(limit), ratio(ours));
        }
        row.goals = work
            .about()
            .goals
            .iter()
            .filter(|goal| goal.figure == at)
            .map(|goal| GoalMet {
                who: goal.who,
                goal: goal.show(figure.unit),
                holds: goal.holds(|who| row.median(who)),
            })
            .collect();
        row
    }

    fn median(&self, who: &str) -> Option<f64> {
        Some(self.results.iter().find(|e| e.contestant == who)?.summary.as_ref()?.median)
    }

    /// The best of those that are neither the limit nor slotfile.
    fn nearest(&self) -> Option<(&'static str, f64)> {
        let peers = self
            .results
            .iter()
            .filter(|e| !e.contestant.starts_with(LIMIT) && !e.contestant.starts_with(OURS));
        let medians = peers.filter_map(|e| Some((e.contestant, e.summary.as_ref()?.median)));
        let better = |a: &(_, f64), b: &(_, f64)| {
            let order = a.1.total_cmp(&b.1);
            if self.unit.less_is_better() { order } else { order.reverse() }
        };
        medians.min_by(better)
    }

    /// How many times as much as slotfile `value` costs, whichever way the figure counts.
    fn cost(&self, value: f64) -> Option<f64> {
        let ours = self.median(OURS)?;
        Some(if self.unit.less_is_better() { value / ours } else { ours / value })
    }
}
