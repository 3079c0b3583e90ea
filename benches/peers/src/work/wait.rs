use std::time::Duration;

use anyhow::Result;

use super::{About, Work};
use crate::contestant::{Contestant, End};
use crate::figure::{Bound, Figure, Goal, Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::Summary;

/// How long it takes until a waiting process has seen an update: one way.
///
/// The two processes answer each other, so that only one announcement is under way at a time.
pub struct Wait {
    about: About,
    /// The pause before each announcement. If it is long, the other process has gone to sleep.
    pause: Duration,
    /// The approximate time of one announcement and its answer.
    turn: Duration,
}

pub static BUSY: Wait = Wait {
    about: About {
        id: "wait-busy",
        title: "an update seen by a process that waits, while much happens",
        limit: "spinning for 50 µs, then futex",
        figures: FIGURES,
        goals: &[Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(2.0, "limit") }],
        ..About::NONE
    },
    pause: Duration::ZERO,
    turn: Duration::from_micros(50),
};

pub static IDLE: Wait = Wait {
    about: About {
        id: "wait-idle",
        title: "an update seen by a process that waits, after a pause of 1 ms",
        limit: "futex",
        figures: FIGURES,
        goals: &[Goal { who: "slotfile", figure: 0, bound: Bound::AtMost(1.1, "limit") }],
        ..About::NONE
    },
    pause: Duration::from_millis(1),
    turn: Duration::from_millis(1),
};

const FIGURES: &[Figure] = &[figure("", Unit::Nanoseconds)];

impl Wait {
    fn count(&self, scene: &Scene) -> u64 {
        (scene.effort.as_nanos() / self.turn.as_nanos()) as u64 + 1
    }
}

impl Work for Wait {
    fn about(&self) -> &About {
        &self.about
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let mut ping = who.signal(&scene.path("signals"), "ping", End::Sends)?;
        let mut pong = who.signal(&scene.path("signals"), "pong", End::Waits)?;
        let side = scene.with_partner()?;
        side.begin();
        for number in 1..=self.count(scene) {
            if !self.pause.is_zero() {
                std::thread::sleep(self.pause);
            }
            side.stamp();
            ping.send(number);
            pong.wait(number);
        }
        let (median, _) = side.end()?;
        Ok(vec![median as f64].into())
    }

    fn partner(&self, who: &dyn Contestant, scene: &Scene) -> Result<()> {
        let mut ping = who.signal(&scene.path("signals"), "ping", End::Waits)?;
        let mut pong = who.signal(&scene.path("signals"), "pong", End::Sends)?;
        let side = scene.as_partner()?;
        let mut times = Vec::new();
        for number in 1..=self.count(scene) {
            ping.wait(number);
            times.push(side.since_stamp() as f64);
            pong.send(number);
        }
        side.report(Summary::of(times).median as u64, Duration::ZERO);
        Ok(())
    }
}
