//! The works that are measured: one file per kind, in the order of the table.

mod add;
pub mod add_two;
mod beside_a_writer;
pub mod by_name;
pub mod commit;
mod define;
mod durable;
mod open;
mod read;
mod several;
mod wait;
mod whole;

use anyhow::{Result, bail};

use crate::contestant::{Contestant, Name};
use crate::figure::{Figure, Goal};
use crate::scene::{Outcome, Scene};

/// The description of a work.
pub struct About {
    pub id: &'static str,
    pub title: &'static str,
    /// What the limit is.
    pub limit: &'static str,
    /// Each has a row of the table.
    pub figures: &'static [Figure],
    pub goals: &'static [Goal],
    /// A figure in which a peer must reach a hundredth of slotfile's; otherwise it has not done
    /// the same work, and does not count as near.
    pub same_if: Option<usize>,
    pub chapter: Chapter,
}

/// Where the report shows it: each chapter has a table, curves, and files of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chapter {
    Works,
    Commits,
}

impl Chapter {
    pub const ALL: [Chapter; 2] = [Chapter::Works, Chapter::Commits];
}

impl About {
    /// The base for struct updates.
    pub const NONE: About = About {
        id: "",
        title: "",
        limit: "",
        figures: &[],
        goals: &[],
        same_if: None,
        chapter: Chapter::Works,
    };
}

pub trait Work: Sync {
    fn about(&self) -> &About;

    /// Does the work in `scene`, checks the result, and returns how fast it was.
    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome>;

    /// What the second process does.
    fn partner(&self, _who: &dyn Contestant, _scene: &Scene) -> Result<()> {
        bail!("this work has no second process")
    }
}

pub static ALL: &[&dyn Work] = &[
    &read::Read,
    &by_name::OF_1_000,
    &by_name::OF_100_000,
    &add::Add,
    &add_two::AddTwo,
    &several::OF_10,
    &several::OF_64,
    &whole::KIB,
    &whole::KIB_64,
    &beside_a_writer::BesideAWriter,
    &durable::Durable,
    &wait::BUSY,
    &wait::IDLE,
    &open::Open,
    &define::Define,
    &commit::OF_10,
    &commit::OF_10_BY_PROCESSES,
    &commit::OF_10_BY_THREADS,
    &commit::OF_100_000,
    &commit::OF_100_000_BY_PROCESSES,
    &commit::OF_100_000_BY_THREADS,
    &commit::OF_1_000_000,
];

/// Realistic names, and a value for each.
pub fn names(count: u64) -> Vec<Name> {
    (0..count).map(|i| Name { name: format!("group/{}/slot{i}", i % 100), value: i + 1 }).collect()
}
