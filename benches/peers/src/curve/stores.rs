use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Curve, memory};
use crate::contestant::{Contestant, Keep};
use crate::figure::{Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::per_operation;
use crate::work::{About, Work};

/// One process that has more and more stores open.
pub struct Stores;

const ABOUT: About = About {
    id: "stores",
    title: "many stores open at once",
    limit: "a mapped file for each",
    figures: &[
        figure("to make one", Unit::Nanoseconds),
        figure("memory for one", Unit::Bytes),
        figure("to add 1, to each in turn", Unit::Nanoseconds),
    ],
    ..About::NONE
};

impl Curve for Stores {
    fn axis(&self) -> &'static str {
        "stores"
    }
    fn sizes(&self) -> &'static [u64] {
        &[1, 4, 16, 64, 256]
    }
}

impl Work for Stores {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let (before, start) = (memory()?, Instant::now());
        let open = |i| who.number(&scene.path(&format!("store{i}")), Keep::Running);
        let mut numbers = (0..scene.size).map(open).collect::<Result<Vec<_>>>()?;
        let each = start.elapsed().as_nanos() as f64 / scene.size as f64;
        let used = memory()?.saturating_sub(before) as f64 / scene.size as f64;
        // The first change of each page costs time in the file system.
        for number in &mut numbers {
            number.adds(1);
        }
        let mut added = scene.size;
        let add = per_operation(scene.effort, |count| {
            let (start, stores) = (Instant::now(), numbers.len() as u64);
            for at in added..added + count {
                numbers[(at % stores) as usize].adds(1);
            }
            added += count;
            start.elapsed()
        });
        let there: u64 = numbers.iter_mut().map(|number| number.read()).sum();
        ensure!(there == added, "{added} added, {there} there");
        Ok(vec![each, used, add].into())
    }
}
