use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Curve, memory};
use crate::contestant::{Contestant, Keep};
use crate::figure::{Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::work::add_two::adds_until;
use crate::work::{About, Work};

/// More and more processes that add to one number.
pub struct Processes;

const ABOUT: About = About {
    id: "processes",
    title: "many processes at one number",
    limit: "`lock xadd`",
    figures: &[
        figure("added by all together", Unit::PerSecond),
        figure("memory of one", Unit::Bytes),
    ],
    ..About::NONE
};

impl Curve for Processes {
    fn axis(&self) -> &'static str {
        "processes"
    }
    fn sizes(&self) -> &'static [u64] {
        &[1, 2, 4, 8, 16, 32, 64]
    }
}

impl Work for Processes {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        who.sharing().enough_for(2)?;
        let mut number = who.number(&scene.path("number"), Keep::Running)?;
        let side = scene.with_partners(scene.size as usize - 1)?;
        side.begin();
        let start = Instant::now();
        let (own, _) = adds_until(&mut *number, || start.elapsed() >= scene.effort);
        let used = memory()? as f64;
        let (others, _) = side.end()?;
        let took = start.elapsed().as_secs_f64();
        let there = number.read();
        ensure!(there == own + others, "{own} + {others} added, {there} there");
        Ok(vec![there as f64 / took, used].into())
    }

    fn partner(&self, who: &dyn Contestant, scene: &Scene) -> Result<()> {
        let mut number = who.number(&scene.path("number"), Keep::Running)?;
        let side = scene.as_partner()?;
        let (count, time) = adds_until(&mut *number, || side.over());
        side.report(count, time);
        Ok(())
    }
}
