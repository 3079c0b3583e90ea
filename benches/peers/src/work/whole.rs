use anyhow::{Result, ensure};

use super::{About, Work};
use crate::contestant::Contestant;
use crate::figure::{Bound, Figure, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::per_operation;

/// Replacing a whole block, and reading it.
pub struct Whole {
    about: About,
    words: usize,
}

pub static KIB: Whole = Whole {
    about: About {
        id: "whole-1k",
        title: "1 KiB as a whole",
        limit: LIMIT,
        figures: FIGURES,
        goals: &[
            Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(2.0, "limit") },
            Goal { who: "slotfile", figure: 1, bound: Bound::AtMost(2.0, "limit") },
        ],
        ..About::NONE
    },
    words: 128,
};

pub static KIB_64: Whole = Whole {
    about: About {
        id: "whole-64k",
        title: "64 KiB as a whole",
        limit: LIMIT,
        figures: FIGURES,
        goals: &[
            Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(1.1, "limit") },
            Goal { who: "slotfile", figure: 1, bound: Bound::AtMost(1.1, "limit") },
        ],
        ..About::NONE
    },
    words: 8192,
};

const LIMIT: &str = "memcpy";
const FIGURES: &[Figure] =
    &[figure("replace", Unit::Nanoseconds), figure("read", Unit::Nanoseconds)];

impl Work for Whole {
    fn about(&self) -> &About {
        &self.about
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let mut block = who.block(&scene.path("block"), self.words)?;
        let content: Vec<u64> = (1..=self.words as u64).collect();
        let mut out = vec![0; self.words];
        let replace = per_operation(scene.effort, |count| block.replaces(&content, count));
        let read = per_operation(scene.effort, |count| block.reads(&mut out, count));
        ensure!(out == content, "what was read is not what was written");
        Ok(vec![replace, read].into())
    }
}
