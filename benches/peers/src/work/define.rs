use std::time::Instant;

use anyhow::{Result, ensure};

use super::{About, Work, names};
use crate::contestant::Contestant;
use crate::figure::{Bound, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};

/// Making a store of many slots.
pub struct Define;

const ABOUT: About = About {
    id: "define",
    title: "define 100,000 slots",
    limit: "`HashMap`",
    figures: &[figure("", Unit::Nanoseconds)],
    goals: &[Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(1.0, "LMDB") }],
    ..About::NONE
};

impl Work for Define {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let names = names(100_000);
        let start = Instant::now();
        let mut store = who.define(&scene.path("names"), &names)?;
        let took = start.elapsed().as_nanos() as f64;
        // Only some, since looking one up takes some contestants long.
        let wrong = names.iter().step_by(997).filter(|n| store.read(&n.name) != n.value).count();
        ensure!(wrong == 0, "{wrong} of those looked at had another value");
        Ok(vec![took].into())
    }
}
