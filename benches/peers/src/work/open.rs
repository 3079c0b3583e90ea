use std::time::Instant;

use anyhow::{Result, ensure};

use super::{About, Work, names};
use crate::contestant::Contestant;
use crate::figure::{Bound, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::Summary;

/// Opening a store that holds much, and reading one number of it.
pub struct Open;

const TIMES: usize = 9;

const ABOUT: About = About {
    id: "open",
    title: "open a store of 100,000 slots and read one",
    limit: "open + mmap",
    figures: &[figure("", Unit::Nanoseconds)],
    goals: &[
        Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(1.0, "LMDB") },
        Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(1.0, "mmap-sync") },
    ],
    ..About::NONE
};

impl Work for Open {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let (names, path) = (names(100_000), scene.path("names"));
        let defined = who.define(&path, &names)?;
        let kept = (!who.lasts()).then_some(defined);
        let mut times = Vec::new();
        for i in 0..TIMES {
            let name = &names[(i + 1) * 7919];
            let start = Instant::now();
            let mut store = who.open(&path)?;
            let read = store.read(&name.name);
            times.push(start.elapsed().as_nanos() as f64);
            ensure!(read == name.value, "{} was {read}, not {}", name.name, name.value);
        }
        drop(kept);
        Ok(vec![Summary::of(times).median].into())
    }
}
