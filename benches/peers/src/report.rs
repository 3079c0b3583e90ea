//! The results of the rounds as numbers (JSON); `markdown.rs` and `chart.rs` show them.

mod chart;
mod curve;
mod machine;
mod markdown;

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use self::curve::Curve;
pub use self::machine::Machine;
use crate::contestant::Contestant;
use crate::figure::Unit;
use crate::options::Options;
use crate::stats::Summary;
use crate::task::Task;
use crate::work::{About, Chapter};

const LIMIT: &str = "limit";
const OURS: &str = "slotfile";

#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    rounds: usize,
    seconds_each: f64,
    #[serde(skip)]
    parts: Vec<Part>,
}

/// What belongs to one chapter: a table, or curves.
struct Part {
    name: &'static str,
    /// Of the file of its numbers, and of the picture of a table.
    file: &'static str,
    shown: Shown,
}

enum Shown {
    Table(Vec<Row>),
    Curves(Vec<Curve>),
}

/// One figure of one work.
#[derive(Serialize)]
struct Row {
    work: &'static str,
    title: &'static str,
    limit: &'static str,
    /// Empty if the work has only one.
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
    /// It has done too little of the work to count as near.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    other_work: bool,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct GoalMet {
    who: &'static str,
    goal: String,
    /// `None` if one of the two is missing.
    holds: Option<bool>,
}

impl Report {
    pub fn new(
        options: &Options,
        machine: Machine,
        whos: &[&'static dyn Contestant],
        tasks: &[Task],
    ) -> Report {
        let results = Results { whos, tasks };
        let parts = Chapter::ALL.into_iter().flat_map(|chapter| {
            let works = tasks.iter().filter(|task| task.size == 0);
            let works = works.filter(|task| task.work.about().chapter == chapter);
            let table = Shown::Table(works.flat_map(|task| Row::of(task, &results)).collect());
            let curves = Shown::Curves(Curve::of(whos, tasks, chapter));
            match chapter {
                Chapter::Works => [
                    Part { name: "the table", file: "table", shown: table },
                    Part { name: "the curves", file: "curves", shown: curves },
                ],
                Chapter::Commits => [
                    Part { name: "the commits", file: "commits", shown: table },
                    Part { name: "the curves of commits", file: "commit-curves", shown: curves },
                ],
            }
        });
        let seconds_each = options.effort().as_secs_f64();
        let parts = parts.collect();
        Report { machine, rounds: options.rounds(), seconds_each, parts }
    }

    /// Writes the numbers and the pictures to `folder`, and the text that shows them to `text`,
    /// between its marks or at its end. What was not measured is not changed.
    pub fn write(&self, folder: &Path, text: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let pictures = folder.strip_prefix(text.parent().unwrap_or(folder)).unwrap_or(folder);
        let mut whole = std::fs::read_to_string(text).unwrap_or_default();
        for part in &self.parts {
            let numbers = folder.join(part.file).with_extension("json");
            let written = match &part.shown {
                Shown::Table(rows) if !rows.is_empty() => {
                    write_json(&numbers, &Numbers { report: self, rows })?;
                    let picture = part.picture();
                    chart::draw(rows, &folder.join(&picture))?;
                    println!("{}", markdown::goals(rows));
                    markdown::table(self, rows, &pictures.join(&picture))
                }
                Shown::Curves(curves) if !curves.is_empty() => {
                    write_json(&numbers, &Numbers { report: self, rows: curves })?;
                    for curve in curves {
                        curve.draw(&folder.join(format!("{}.svg", curve.id)))?;
                    }
                    markdown::curves(self, curves, pictures)
                }
                _ => continue,
            };
            put(&mut whole, part.name, &written);
        }
        std::fs::write(text, whole)?;
        println!("written to {} and {}", text.display(), folder.display());
        Ok(())
    }
}

impl Part {
    fn picture(&self) -> String {
        // The picture of the first table is older than the other tables.
        let name = if self.file == "table" { "peers" } else { self.file };
        format!("{name}.svg")
    }
}

/// The numbers of one part, with the machine they were measured on.
#[derive(Serialize)]
struct Numbers<'a, R> {
    #[serde(flatten)]
    report: &'a Report,
    rows: &'a [R],
}

fn write_json(path: &Path, numbers: &impl Serialize) -> Result<()> {
    Ok(std::fs::write(path, serde_json::to_string_pretty(numbers)? + "\n")?)
}

/// Replaces the text between the marks of this part, or adds marks and text.
fn put(whole: &mut String, part: &str, written: &str) {
    let begin = format!("<!-- {part}, written by benches/peers -->\n");
    let end = format!("<!-- end of {part} -->\n");
    *whole = match whole.split_once(&begin).zip(whole.split_once(&end)) {
        Some(((head, _), (_, tail))) => format!("{head}{begin}{written}{end}{tail}"),
        None => format!("{whole}{begin}{written}{end}"),
    };
}

/// All that was measured.
struct Results<'a> {
    whos: &'a [&'static dyn Contestant],
    tasks: &'a [Task],
}

impl Results<'_> {
    /// Of a contestant's figure at a work of a table.
    fn median(&self, work: &str, who: &str, figure: usize) -> Option<f64> {
        let task = self.tasks.iter().find(|t| t.size == 0 && t.work.about().id == work)?;
        let who = self.whos.iter().position(|one| one.name() == who)?;
        Some(task.cells[who].summary(figure)?.median)
    }
}

impl Row {
    /// One per figure of a work.
    fn of(task: &Task, results: &Results) -> Vec<Row> {
        let (work, whos) = (task.work.about(), results.whos);
        let mut rows: Vec<Row> =
            (0..work.figures.len()).map(|at| Row::of_figure(task, work, at, results)).collect();
        if let Some(same) = work.same_if {
            let least = rows[same].median(OURS).unwrap_or(0.0) / 100.0;
            let enough = |who: &str| rows[same].median(who).is_some_and(|median| median >= least);
            let short: Vec<bool> = whos.iter().map(|who| !enough(who.name())).collect();
            for (row, at) in rows.iter_mut().flat_map(|row| row.results.iter_mut().zip(&short)) {
                row.other_work = *at;
            }
        }
        rows
    }

    fn of_figure(task: &Task, work: &About, at: usize, all: &Results) -> Row {
        let figure = work.figures[at];
        let mut results: Vec<Entry> = Vec::new();
        for (who, cell) in all.whos.iter().zip(&task.cells) {
            let summary = cell.summary(at);
            if summary.is_none() && who.is_variant() {
                continue;
            }
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
                other_work: false,
                notes: cell.notes.iter().map(rounds).collect(),
            });
        }
        let mut row = Row {
            work: work.id,
            title: work.title,
            limit: work.limit,
            figure: figure.what,
            unit: figure.unit,
            results,
            goals: Vec::new(),
        };
        let (limit, ours) = (row.limit_median(), row.median(OURS));
        for entry in &mut row.results {
            let ratio = |to: Option<f64>| Some(entry.summary.as_ref()?.median / to?);
            (entry.to_limit, entry.to_slotfile) = (ratio(limit), ratio(ours));
        }
        let goals = work.goals.iter().filter(|goal| goal.figure == at);
        row.goals = goals
            .map(|goal| GoalMet {
                who: goal.who,
                goal: goal.show(),
                holds: goal.holds(work.id, |work, who| all.median(work, who, at)),
            })
            .collect();
        row
    }

    /// The plain limit's; the other limit's if the plain one cannot do the work.
    fn limit_median(&self) -> Option<f64> {
        let limits = self.results.iter().filter(|e| e.contestant.starts_with(LIMIT));
        limits.filter_map(|e| Some(e.summary.as_ref()?.median)).next()
    }

    fn median(&self, who: &str) -> Option<f64> {
        Some(self.results.iter().find(|e| e.contestant == who)?.summary.as_ref()?.median)
    }

    /// The best peer: neither a limit nor slotfile.
    fn nearest(&self) -> Option<(&'static str, f64)> {
        let peer = |e: &&Entry| {
            !e.contestant.starts_with(LIMIT) && !e.contestant.starts_with(OURS) && !e.other_work
        };
        let peers = self.results.iter().filter(peer);
        let medians = peers.filter_map(|e| Some((e.contestant, e.summary.as_ref()?.median)));
        let better = |a: &(_, f64), b: &(_, f64)| {
            let order = a.1.total_cmp(&b.1);
            if self.unit.less_is_better() { order } else { order.reverse() }
        };
        medians.min_by(better)
    }

    /// The cost of `value` as a multiple of slotfile's, whether the figure is a time or a rate.
    fn cost(&self, value: f64) -> Option<f64> {
        let ours = self.median(OURS)?;
        Some(if self.unit.less_is_better() { value / ours } else { ours / value })
    }
}

#[cfg(test)]
mod tests {
    use super::put;

    #[test]
    fn a_part_is_replaced_and_nothing_else() {
        let mut text = String::from("before\n");
        put(&mut text, "a", "1\n");
        text += "between\n";
        put(&mut text, "b", "2\n");
        text += "after\n";
        let with_a = text.clone();
        put(&mut text, "a", "3\n");
        assert_eq!(text, with_a.replace("1\n", "3\n"));
        assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text}");
    }
}
