use std::time::Instant;

use anyhow::{Result, ensure};

use super::{About, Work};
use crate::contestant::Contestant;
use crate::figure::{Bound, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::quantile;

/// Whole copies of 64 KiB, beside a process that replaces them without pause.
pub struct BesideAWriter;

const WORDS: usize = 8192;

/// One in this many words is marked with the number of the replacement, to detect torn copies.
/// (Marking all would give the readers a pause in which to recover.)
const MARKED: usize = 128;

/// The bare memcpy of two versions is torn beside a writer.
const FOUR_VERSIONS: &str = "limit (4 versions)";

const ABOUT: About = About {
    id: "beside-a-writer",
    title: "64 KiB read whole beside a process that replaces it without pause",
    limit: "memcpy between four versions",
    figures: &[
        figure("reads", Unit::PerSecond),
        figure("99.9th percentile of a read", Unit::Nanoseconds),
        figure("writes meanwhile", Unit::PerSecond),
    ],
    goals: &[
        Goal { who: "slotfile", figure: 0, bound: Bound::AtLeast(0.35, FOUR_VERSIONS) },
        Goal { who: "slotfile (4 areas)", figure: 0, bound: Bound::AtLeast(0.8, FOUR_VERSIONS) },
        Goal { who: "slotfile", figure: 1, bound: Bound::AtMost(2.0, FOUR_VERSIONS) },
        Goal { who: "slotfile (4 areas)", figure: 1, bound: Bound::AtMost(2.0, FOUR_VERSIONS) },
        Goal { who: "slotfile", figure: 2, bound: Bound::AtLeast(2.0, "LMDB") },
    ],
    same_if: Some(2),
    ..About::NONE
};

impl Work for BesideAWriter {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        who.sharing().enough_for(1)?;
        let mut block = who.block(&scene.path("block"), WORDS)?;
        let mut out = vec![0; WORDS];
        let side = scene.with_partner()?;
        side.begin();
        // Enough for a meaningful percentile.
        let (start, effort) = (Instant::now(), 4 * scene.effort);
        let (mut times, mut last) = (Vec::new(), 0);
        let (mut torn, mut backwards) = (0, 0);
        while start.elapsed() < effort {
            let begun = Instant::now();
            block.read(&mut out);
            times.push(begun.elapsed().as_nanos() as f64);
            torn += u64::from(out.iter().step_by(MARKED).any(|word| *word != out[0]));
            backwards += u64::from(out[0] < last);
            last = out[0];
        }
        let took = start.elapsed().as_secs_f64();
        let (writes, time) = side.end()?;
        ensure!(torn == 0, "{torn} of {} copies were torn", times.len());
        ensure!(
            backwards == 0,
            "{backwards} of {} copies were older than the one before",
            times.len()
        );
        ensure!(last > 0, "no write was seen");
        let reads = times.len() as f64 / took;
        times.sort_by(f64::total_cmp);
        Ok(vec![reads, quantile(&times, 0.999), writes as f64 / time.as_secs_f64()].into())
    }

    fn partner(&self, who: &dyn Contestant, scene: &Scene) -> Result<()> {
        let mut block = who.block(&scene.path("block"), WORDS)?;
        let mut content = vec![0; WORDS];
        let side = scene.as_partner()?;
        let (start, mut count) = (Instant::now(), 0);
        while !side.over() {
            count += 1;
            content.iter_mut().step_by(MARKED).for_each(|word| *word = count);
            block.replace(&content);
        }
        side.report(count, start.elapsed());
        Ok(())
    }
}
