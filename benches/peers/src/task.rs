//! What is measured, and what came of it.

use std::collections::BTreeMap;

use crate::measure::Told;
use crate::scene::Outcome;
use crate::stats::Summary;
use crate::work::Work;

/// The results of one contestant at one work.
#[derive(Default)]
pub struct Cell {
    outcomes: Vec<Outcome>,
    /// Why there are none: the reason of the last failure.
    pub absent: Option<String>,
    /// Notes about the outcomes, and how many each concerns.
    pub notes: BTreeMap<String, usize>,
    /// No more rounds.
    pub done: bool,
}

/// A work, with a size if it is measured at several.
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

impl Cell {
    pub fn take(&mut self, told: Told) {
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

    /// The statistics of one figure, if there are outcomes.
    pub fn summary(&self, figure: usize) -> Option<Summary> {
        let values: Vec<f64> = self.good().map(|outcome| outcome.figures[figure]).collect();
        (!values.is_empty()).then(|| Summary::of(values))
    }

    /// The outcomes to use: doubtful ones only if there are no others.
    fn good(&self) -> impl Iterator<Item = &Outcome> {
        let all_in_doubt = self.outcomes.iter().all(|outcome| outcome.doubtful);
        self.outcomes.iter().filter(move |outcome| all_in_doubt || !outcome.doubtful)
    }

    pub fn note(&mut self, note: String) {
        *self.notes.entry(note).or_default() += 1;
    }
}
