use anyhow::Result;

use super::Curve;
use crate::contestant::Contestant;
use crate::crowd::Size;
use crate::figure::{Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::work::commit::Load;
use crate::work::{About, Chapter, Work};

/// Durable commits, while something grows.
pub struct Commits {
    about: About,
    axis: &'static str,
    sizes: &'static [u64],
    load: fn(usize) -> Load,
}

const ABOUT: About = About {
    limit: "`pwrite` and `fdatasync` of 4 KiB by one process",
    figures: &[figure("commits", Unit::PerSecond)],
    chapter: Chapter::Commits,
    ..About::NONE
};

pub static SLOTS: Commits = Commits {
    about: About { id: "commit-slots", title: "commits of one process in larger stores", ..ABOUT },
    axis: "slots",
    sizes: &[10, 1_000, 100_000, 1_000_000],
    load: |slots| Load { slots, size: Size::ONE, efforts: 1 },
};

pub static PROCESSES: Commits = Commits {
    about: About { id: "commit-processes", title: "commits of more processes", ..ABOUT },
    axis: "processes",
    sizes: SOME,
    load: |processes| Load { slots: AMONG, size: Size { processes, threads: 1 }, efforts: 1 },
};

pub static THREADS: Commits = Commits {
    about: About { id: "commit-threads", title: "commits of more threads", ..ABOUT },
    axis: "threads",
    sizes: SOME,
    load: |threads| Load { slots: AMONG, size: Size { processes: 1, threads }, efforts: 1 },
};

const SOME: &[u64] = &[1, 2, 4, 8, 16];

/// A slot for each.
const AMONG: usize = 16;

impl Curve for Commits {
    fn axis(&self) -> &'static str {
        self.axis
    }
    fn sizes(&self) -> &'static [u64] {
        self.sizes
    }
}

impl Work for Commits {
    fn about(&self) -> &About {
        &self.about
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let rates = (self.load)(scene.size as usize).measure(who, scene)?;
        Ok(vec![rates.per_second].into())
    }

    fn partner(&self, who: &dyn Contestant, scene: &Scene) -> Result<()> {
        (self.load)(scene.size as usize).partner(who, scene)
    }
}
