//! What is to be measured, and how.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// slotfile beside its peers: writes report.md, report.json and charts.
#[derive(Args)]
pub struct Options {
    /// Only these works and curves, by the names that --list shows; `commit` means all whose names
    /// begin with `commit-`, and so for others
    #[arg(long, value_delimiter = ',')]
    pub works: Vec<String>,
    /// Only these contestants
    #[arg(long, value_delimiter = ',')]
    pub contestants: Vec<String>,
    /// How many times everything is measured
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Approximate seconds of one measurement
    #[arg(long, default_value_t = 0.25)]
    pub seconds: f64,
    /// At most three short rounds: for a quick look, not for figures to keep
    #[arg(long)]
    pub quick: bool,
    /// Also measure how the cost grows with slots, bytes, processes, threads and stores
    #[arg(long)]
    pub curves: bool,
    /// Measure only that
    #[arg(long)]
    pub only_curves: bool,
    /// Where the report goes
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/report"))]
    pub out: PathBuf,
    /// Write the report into docs/performance.md instead, and its files beside that
    #[arg(long, conflicts_with = "out")]
    pub docs: bool,
    /// Where to make the stores: on the disk to measure [default: that of the program]
    #[arg(long)]
    pub on: Option<PathBuf>,
    /// List the works and the contestants
    #[arg(long)]
    pub list: bool,
}

impl Options {
    pub fn rounds(&self) -> usize {
        if self.quick { self.rounds.min(3) } else { self.rounds }
    }

    pub fn effort(&self) -> Duration {
        Duration::from_secs_f64(if self.quick { 0.05 } else { self.seconds })
    }
}
