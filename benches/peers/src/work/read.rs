use anyhow::{Result, ensure};

use super::{About, Work};
use crate::contestant::{Contestant, Keep};
use crate::figure::{Bound, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::per_operation;

pub struct Read;

const ABOUT: About = About {
    id: "read",
    title: "read one u64 through a handle",
    limit: "atomic load",
    figures: &[figure("", Unit::Nanoseconds)],
    goals: &[Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(2.0, "limit") }],
    ..About::NONE
};

impl Work for Read {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let mut number = who.number(&scene.path("number"), Keep::Running)?;
        for _ in 0..3 {
            number.add();
        }
        let each = per_operation(scene.effort, |count| number.reads(count));
        ensure!(number.read() == 3, "read {} where 3 was written", number.read());
        Ok(vec![each].into())
    }
}
