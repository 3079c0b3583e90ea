use anyhow::{Result, ensure};

use super::{About, Work};
use crate::contestant::{Contestant, Keep};
use crate::figure::{Bound, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::per_operation;

pub struct Add;

const ABOUT: About = About {
    id: "add",
    title: "add 1, one process",
    limit: "`lock xadd`",
    figures: &[figure("", Unit::Nanoseconds)],
    goals: &[Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(2.0, "limit") }],
    ..About::NONE
};

impl Work for Add {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let mut number = who.number(&scene.path("number"), Keep::Running)?;
        let mut added = 0;
        let each = per_operation(scene.effort, |count| {
            added += count;
            number.adds(count)
        });
        ensure!(number.read() == added, "{added} added, {} there", number.read());
        Ok(vec![each].into())
    }
}
