use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{About, Work};
use crate::contestant::{Contestant, Keep, Number};
use crate::figure::{Bound, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};

pub struct AddTwo;

/// Tries to get a run in which neither side did more than this fraction of the work. On a virtual
/// machine, a processor is stopped now and then, and there is no contention to measure.
const TRIES: usize = 5;
const EQUAL: f64 = 0.6;

const ABOUT: About = About {
    id: "add-two",
    title: "add 1, two processes, none lost",
    limit: "`lock xadd`",
    figures: &[figure("", Unit::PerSecond)],
    goals: &[
        Goal { who: "slotfile", figure: 0, bound: Bound::AtLeast(0.45, "limit") },
        Goal {
            who: "slotfile (counter)",
            figure: 0,
            bound: Bound::AtLeast(0.6, "limit (own lines)"),
        },
    ],
    ..About::NONE
};

impl Work for AddTwo {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        who.sharing().enough_for(2)?;
        let mut number = who.number(&scene.path("number"), Keep::Running)?;
        let mut runs = Vec::new();
        for _ in 0..TRIES {
            let before = number.read();
            let side = scene.with_partner()?;
            side.begin();
            let start = Instant::now();
            let (own, own_time) = adds_until(&mut *number, || start.elapsed() >= scene.effort);
            let (others, others_time) = side.end()?;
            let there = number.read() - before;
            ensure!(there == own + others, "{own} + {others} added, {there} there");
            let rate =
                own as f64 / own_time.as_secs_f64() + others as f64 / others_time.as_secs_f64();
            let share = own.max(others) as f64 / there as f64;
            runs.push((share, rate));
            if share <= EQUAL {
                break;
            }
        }
        let tries = runs.len();
        let (share, rate) = runs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("a try");
        let mut outcome = Outcome::from(vec![rate]);
        if share > EQUAL {
            outcome.doubtful = true;
            outcome.notes.push(format!("unequal shares in each of {tries} tries"));
        } else if tries > 1 {
            outcome.notes.push("repeated for unequal shares".to_owned());
        }
        Ok(outcome)
    }

    fn partner(&self, who: &dyn Contestant, scene: &Scene) -> Result<()> {
        let mut number = who.number(&scene.path("number"), Keep::Running)?;
        let side = scene.as_partner()?;
        let (count, time) = adds_until(&mut *number, || side.over());
        side.report(count, time);
        Ok(())
    }
}

/// Adds until told to end; checks that about every 20 us.
pub fn adds_until(number: &mut dyn Number, over: impl Fn() -> bool) -> (u64, Duration) {
    let (start, mut count, mut batch) = (Instant::now(), 0, 1);
    while !over() {
        if number.adds(batch) < Duration::from_micros(10) {
            batch *= 2;
            count += batch / 2;
        } else {
            count += batch;
        }
    }
    (count, start.elapsed())
}
