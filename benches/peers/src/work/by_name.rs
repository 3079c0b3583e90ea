use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{About, Work, names};
use crate::contestant::{Contestant, Name, Names};
use crate::figure::{Bound, Figure, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::per_operation;

pub struct ByName {
    about: About,
    count: u64,
}

pub static OF_1_000: ByName = ByName {
    about: About {
        id: "name-1000",
        title: "read one u64 by name, of 1,000",
        limit: LIMIT,
        figures: FIGURES,
        goals: &[Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(2.0, "limit") }],
        ..About::NONE
    },
    count: 1_000,
};

pub static OF_100_000: ByName = ByName {
    about: About {
        id: "name-100000",
        title: "read one u64 by name, of 100,000",
        limit: LIMIT,
        figures: FIGURES,
        goals: &[Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(2.0, "limit") }],
        ..About::NONE
    },
    count: 100_000,
};

const LIMIT: &str = "`HashMap`";
const FIGURES: &[Figure] = &[figure("", Unit::Nanoseconds)];

impl Work for ByName {
    fn about(&self) -> &About {
        &self.about
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let mut names = names(self.count);
        let mut store = who.define(&scene.path("names"), &names)?;
        Ok(vec![read_names(&mut *store, &mut names, scene.effort)?].into())
    }
}

/// The most time to find all names once before the measurement, as a multiple of its time.
const WARM_UP: u32 = 8;

/// Nanoseconds to find a name again and read its number, in an order unknown to the store.
pub fn read_names(store: &mut dyn Names, names: &mut Vec<Name>, effort: Duration) -> Result<f64> {
    shuffle(names);
    let (mut at, mut wrong) = (0, 0);
    let begun = Instant::now();
    for part in names.chunks(1_000) {
        if begun.elapsed() < WARM_UP * effort {
            wrong += store.wrong(part);
        }
    }
    let each = per_operation(effort, |count| {
        let (start, mut left) = (Instant::now(), count as usize);
        while left > 0 {
            let part = &names[at..names.len().min(at + left)];
            wrong += store.wrong(part);
            left -= part.len();
            at = (at + part.len()) % names.len();
        }
        start.elapsed()
    });
    ensure!(wrong == 0, "{wrong} reads were of another value");
    Ok(each)
}

/// A fixed order that differs from that of the definitions. The names are copied into it, so
/// that finding the next name is not measured.
fn shuffle(names: &mut Vec<Name>) {
    let mut random = fastrand::Rng::with_seed(7);
    random.shuffle(names);
    *names = names.iter().map(|n| Name { name: n.name.clone(), value: n.value }).collect();
}
