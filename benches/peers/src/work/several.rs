use anyhow::{Result, ensure};

use super::{About, Work};
use crate::contestant::Contestant;
use crate::figure::{Figure, Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::per_operation;

/// Several numbers as one.
pub struct Several {
    about: About,
    numbers: usize,
}

pub static OF_10: Several = Several {
    about: About {
        id: "several-10",
        title: "10 numbers as one",
        limit: LIMIT,
        figures: FIGURES,
        ..About::NONE
    },
    numbers: 10,
};

pub static OF_64: Several = Several {
    about: About {
        id: "several-64",
        title: "64 numbers as one",
        limit: LIMIT,
        figures: FIGURES,
        ..About::NONE
    },
    numbers: 64,
};

const LIMIT: &str = "`lock xadd` of each, and loads, not at one instant";
const FIGURES: &[Figure] =
    &[figure("add 1 to each", Unit::Nanoseconds), figure("read", Unit::Nanoseconds)];

impl Work for Several {
    fn about(&self) -> &About {
        &self.about
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let mut numbers = who.numbers(&scene.path("numbers"), self.numbers)?;
        let mut out = vec![0; self.numbers];
        let mut added = 0;
        let add = per_operation(scene.effort, |count| {
            added += count;
            numbers.adds(count)
        });
        let read = per_operation(scene.effort, |count| numbers.reads(&mut out, count));
        ensure!(out.iter().all(|number| *number == added), "{added} added, {out:?} there");
        Ok(vec![add, read].into())
    }
}
