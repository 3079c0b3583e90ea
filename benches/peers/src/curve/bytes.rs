use anyhow::{Result, ensure};

use super::{Curve, on_disk};
use crate::contestant::{Contestant, not_offered};
use crate::figure::{Unit, figure};
use crate::scene::{Outcome, Scene};
use crate::stats::per_operation;
use crate::work::{About, Work};

/// An array that grows.
pub struct Bytes;

const ABOUT: About = About {
    id: "bytes",
    title: "a large array",
    limit: "memcpy",
    figures: &[
        figure("to replace it", Unit::Nanoseconds),
        figure("to read it whole", Unit::Nanoseconds),
        figure("to set one element", Unit::Nanoseconds),
        figure("on the disk", Unit::Bytes),
    ],
    ..About::NONE
};

impl Curve for Bytes {
    fn axis(&self) -> &'static str {
        "bytes"
    }
    fn sizes(&self) -> &'static [u64] {
        &[1 << 3, 1 << 6, 1 << 9, 1 << 12, 1 << 15, 1 << 18, 1 << 21, 1 << 24, 1 << 27, 1 << 30]
    }
}

impl Work for Bytes {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn measure(&self, who: &dyn Contestant, scene: &Scene) -> Result<Outcome> {
        let (words, path) = (scene.size as usize / 8, scene.path("block"));
        let mut block = who.block(&path, words)?;
        if !block.set(0, 1) {
            return Err(not_offered("no change of a part"));
        }
        let content: Vec<u64> = (1..=words as u64).collect();
        let mut out = vec![0; words];
        let replace = per_operation(scene.effort, |count| block.replaces(&content, count));
        let read = per_operation(scene.effort, |count| block.reads(&mut out, count));
        ensure!(out == content, "what was read is not what was written");
        let mut at = 0;
        let set = per_operation(scene.effort, |count| {
            let start = std::time::Instant::now();
            for _ in 0..count {
                at = (at + 7_919) % words;
                block.set(at, 5);
            }
            start.elapsed()
        });
        let size = on_disk(&path)? as f64;
        // Leaving would flush it, which is not measured here. The file goes with its folder.
        std::mem::forget(block);
        Ok(vec![replace, read, set, size].into())
    }
}
