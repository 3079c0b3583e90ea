use std::time::Instant;

use anyhow::{Result, ensure};

use super::{About, Work};
use crate::contestant::{Contestant, Keep};
use crate::disk::disk_writes;
use crate::figure::{Bound, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};

/// A number that is on the disk when adding to it returns.
pub struct Durable;

const ABOUT: About = About {
    id: "durable",
    title: "one value made durable",
    limit: "pwrite + fdatasync",
    figures: &[figure("commits", Unit::PerSecond), figure("to the disk for each", Unit::Bytes)],
    goals: &[
        Goal { who: "slotfile", figure: 0, bound: Bound::AtLeast(0.85, "limit") },
        Goal { who: "slotfile", figure: 1, bound: Bound::AtMost(2.2, "limit") },
    ],
    ..About::NONE
};

impl Work for Durable {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let path = scene.path("number");
        let mut number = who.number(&path, Keep::Durable)?;
        number.add();
        let (written, start, mut count) = (disk_writes(&scene.folder)?, Instant::now(), 0);
        // Longer than the others, so that what the rest of the machine writes matters less.
        while start.elapsed() < 2 * scene.effort {
            number.add();
            count += 1;
        }
        let took = start.elapsed().as_secs_f64();
        let written = disk_writes(&scene.folder)? - written;
        drop(number);
        let there = who.number(&path, Keep::Durable)?.read();
        ensure!(there == count + 1, "{} made durable, {there} there when opened again", count + 1);
        Ok(vec![count as f64 / took, written as f64 / count as f64].into())
    }
}
