use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Curve, on_disk};
use crate::contestant::{Contestant, Keep};
use crate::figure::{Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::per_operation;
use crate::work::by_name::read_names;
use crate::work::{About, Work, names};

/// A store that holds more and more names.
pub struct Slots;

const ABOUT: About = About {
    id: "slots",
    title: "many slots in a store",
    limit: "`HashMap`, and a mapped file of numbers",
    figures: &[
        figure("to define one", Unit::Nanoseconds),
        figure("to find one by name and read it", Unit::Nanoseconds),
        figure("to add 1 through a handle", Unit::Nanoseconds),
        figure("to open the store and read one", Unit::Nanoseconds),
        figure("on the disk for one", Unit::Bytes),
    ],
    ..About::NONE
};

impl Curve for Slots {
    fn axis(&self) -> &'static str {
        "slots"
    }
    fn sizes(&self) -> &'static [u64] {
        &[10, 100, 1_000, 10_000, 100_000, 1_000_000]
    }
}

impl Work for Slots {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let (mut names, path) = (names(scene.size), scene.path("store"));
        let start = Instant::now();
        let mut store = who.define(&path, &names)?;
        let define = start.elapsed().as_nanos() as f64 / scene.size as f64;
        let find = read_names(&mut *store, &mut names, scene.effort)?;
        drop(store);
        let size = on_disk(&path)? as f64 / scene.size as f64;

        let start = Instant::now();
        let mut store = who.open(&path)?;
        ensure!(store.read(&names[0].name) == names[0].value, "another value");
        let open = start.elapsed().as_nanos() as f64;
        drop(store);

        let mut number = who.number(&path, Keep::Running)?;
        let add = per_operation(scene.effort, |count| number.adds(count));
        Ok(vec![define, find, add, open, size].into())
    }
}
