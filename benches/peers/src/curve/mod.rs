//! How cost grows: works that are measured at several sizes.

mod bytes;
mod commits;
mod processes;
mod slots;
mod stores;

use std::path::Path;

use anyhow::Result;

use crate::work::Work;

pub trait Curve: Work {
    /// What the size counts.
    fn axis(&self) -> &'static str;
    fn sizes(&self) -> &'static [u64];
}

pub static ALL: &[&dyn Curve] = &[
    &slots::Slots,
    &bytes::Bytes,
    &processes::Processes,
    &stores::Stores,
    &commits::SLOTS,
    &commits::PROCESSES,
    &commits::THREADS,
];

/// Bytes of disk that a file takes, or all files of a folder.
fn on_disk(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata(path)?;
    if !own.is_dir() {
        return Ok(512 * own.blocks());
    }
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        sum += on_disk(&entry?.path())?;
    }
    Ok(sum)
}

/// Bytes of memory that this process uses, with its share of what others use too.
fn memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(1024 * kib.unwrap_or(0))
}
