//! The machine of the measurement, and how busy it was with other work.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::contestants::postgres;
use crate::disk::FileSystem;

#[derive(Serialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub kernel: String,
    /// The file system, and its disk.
    pub stores_on: String,
    /// Seconds since 1970, at the beginning.
    pub begun: u64,
    pub seconds: u64,
    /// How many processes were running or waiting for the disk, averaged over a minute.
    pub load_before: f64,
    /// The fraction of processor time that the host of a virtual machine gave to others.
    pub stolen: f64,
    /// The versions of the contestants, as built.
    pub versions: BTreeMap<String, String>,
    #[serde(skip)]
    ticks: Ticks,
}

#[derive(Default, Clone, Copy)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl Machine {
    /// Before the measurements, whose stores will be in a folder.
    pub fn before(on: &Path) -> Machine {
        let cpus = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
        let load = read_to_string("/proc/loadavg").unwrap_or_default();
        Machine {
            processor: model.unwrap_or("unknown").trim_start_matches([' ', '\t', ':']).to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            stores_on: FileSystem::of(on)
                .map_or_else(|_| "an unknown file system".to_owned(), |on| on.to_string()),
            begun: seconds_now(),
            seconds: 0,
            load_before: load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN),
            stolen: 0.0,
            versions: versions(),
            ticks: Ticks::now(),
        }
    }

    pub fn after(self) -> Machine {
        let now = Ticks::now();
        let all = (now.all - self.ticks.all).max(1) as f64;
        let stolen = (now.stolen - self.ticks.stolen) as f64 / all;
        Machine { seconds: seconds_now() - self.begun, stolen, ..self }
    }
}

fn seconds_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

impl Ticks {
    /// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
    fn now() -> Ticks {
        let stat = read_to_string("/proc/stat").unwrap_or_default();
        let first = stat.lines().next().unwrap_or_default();
        let numbers: Vec<u64> =
            first.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
        Ticks { all: numbers.iter().sum(), stolen: numbers.get(7).copied().unwrap_or(0) }
    }
}

/// The versions in Cargo.lock, and those of installed programs.
fn versions() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let lock = include_str!("../../Cargo.lock");
    let lines: Vec<&str> = lock.lines().collect();
    let text = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("name = ")) {
        let name = text(pair[0]);
        let peers = ["fjall", "heed", "iceoryx2", "mmap-sync", "redb", "rusqlite", "slotfile"];
        if peers.contains(&name.as_str()) {
            found.insert(name, text(pair[1]));
        }
    }
    let postgres = postgres::program("postgres").unwrap_or_default();
    let programs: [(PathBuf, &str); 3] =
        [("redis-server".into(), "Redis"), ("python3".into(), "Python"), (postgres, "PostgreSQL")];
    for (program, name) in programs {
        let output = std::process::Command::new(program).arg("--version").output();
        let said =
            output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let number =
            |word: &&str| word.trim_start_matches("v=").starts_with(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(number).unwrap_or("not installed");
        found.insert(name.to_owned(), version.trim_start_matches("v=").to_owned());
    }
    found
}
