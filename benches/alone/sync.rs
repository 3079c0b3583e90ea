//! The cost of durability: `cargo bench --bench sync`. Each figure beside the bare limit of the
//! disk, measured in the same run. A word after `--` selects the lines that begin with it.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use slotfile::{OpenOptions, Store};

const ROUNDS: usize = 5;
const COMMITS: u64 = 300;

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let is_wanted = |what: &str| wanted.as_ref().is_none_or(|wanted| what.starts_with(wanted));
    println!("| one changed value made durable | commits/s | of the limit | bytes to disk |");
    println!("| --- | --- | --- | --- |");
    let limit = || {
        let file = File::create(folder.path().join("limit")).unwrap();
        file.write_all_at(&[0; 4096], 0).unwrap();
        file.sync_all().unwrap();
        commits(folder.path(), |i| {
            file.write_all_at(&[i as u8; 4096], 0).unwrap();
            file.sync_data().unwrap();
        })
    };
    for (what, slots, array) in [
        ("10 slots", 10, 0),
        ("10,000", 10_000, 0),
        ("100,000", 100_000, 0),
        ("10 and a 1 GiB array", 10, 1 << 30),
    ] {
        if !is_wanted(what) {
            continue;
        }
        let path = folder.path().join(format!("{slots}-{array}.slots"));
        let store = new_store(&path);
        for i in 0..slots {
            store.value::<u64>(&format!("slot/{i}")).unwrap();
        }
        if array > 0 {
            store.array::<u8>("array", array).unwrap().set(5, 1).unwrap();
        }
        store.sync().unwrap();
        let value = store.value::<u64>("slot/3").unwrap();
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(limit());
            ours.push(commits(folder.path(), |_| {
                value.fetch_add(1).unwrap();
                store.sync().unwrap();
            }));
        }
        let (ours, bare) = (median(ours), median(bare));
        println!("| {what} | {:.0} | {:.2} | {:.0} |", ours.0, ours.0 / bare.0, ours.1);
        if slots == 10 && array == 0 {
            println!("| limit: pwrite + fdatasync | {:.0} | 1 | {:.0} |", bare.0, bare.1);
        }
        std::fs::remove_file(path).unwrap();
    }

    if is_wanted("open") {
        open(&folder.path().join("open.slots"));
    }
    if is_wanted("wait") {
        wait(&folder.path().join("large.slots"));
    }
}

/// How long opening takes.
fn open(path: &Path) {
    println!("\n| 100,000 slots | |\n| --- | --- |");
    let store = new_store(path);
    for i in 0..100_000 {
        store.value::<u64>(&format!("slot/{i}")).unwrap();
    }
    store.sync().unwrap();
    drop(store);
    println!("| open, as it was left | {:?} |", time_to_open(path));
    let file = File::options().write(true).open(path).unwrap();
    // A dead process's entry in the table: what a kill leaves.
    file.write_all_at(&1u64.to_le_bytes(), 128 * 1024).unwrap();
    println!("| open, after a kill | {:?} |", time_to_open(path));
    file.write_all_at(&[9; 64], 64 * 1024).unwrap();
    println!("| open, after a power cut | {:?} |", time_to_open(path));
}

/// The longest wait of a writer during a large sync.
fn wait(path: &Path) {
    let store = new_store(path);
    let large = store.array::<u8>("large", 100 << 20).unwrap();
    let hits = store.value::<u64>("hits").unwrap();
    large.update(|bytes| bytes.fill(1)).unwrap();
    let done = AtomicBool::new(false);
    let worst = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut worst = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                hits.fetch_add(1).unwrap();
                large.set(7, 3).unwrap();
                worst = worst.max(start.elapsed());
            }
            worst
        });
        let start = Instant::now();
        store.sync().unwrap();
        println!("\nsync of 100 MiB beside a writer without pause: {:?}", start.elapsed());
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    println!("worst wait of that writer: {worst:?}");
}

fn new_store(path: &Path) -> Store {
    OpenOptions::new().create_new(true).max_slots(200_000).sync_every(None).open(path).unwrap()
}

fn time_to_open(path: &Path) -> Duration {
    let start = Instant::now();
    let store = OpenOptions::new().sync_every(None).open(path).unwrap();
    assert_eq!(store.value::<u64>("slot/99999").unwrap().load(), 0);
    start.elapsed()
}

/// Commits per second, and bytes that each writes to the disk.
fn commits(folder: &Path, mut commit: impl FnMut(u64)) -> (f64, f64) {
    let written = disk_writes(folder);
    let start = Instant::now();
    for i in 0..COMMITS {
        commit(i);
    }
    let rate = COMMITS as f64 / start.elapsed().as_secs_f64();
    (rate, (disk_writes(folder) - written) as f64 / COMMITS as f64)
}

/// Bytes written to the disk of this folder, by the disk's own count.
fn disk_writes(folder: &Path) -> u64 {
    let dev = std::fs::metadata(folder).unwrap().dev();
    let (major, minor) = ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"));
    let stat = stat.unwrap_or_default();
    // Field 7: sectors of 512 bytes written (Documentation/block/stat.rst).
    512 * stat.split_whitespace().nth(6).map_or(0, |n| n.parse().unwrap_or(0))
}

fn median(mut results: Vec<(f64, f64)>) -> (f64, f64) {
    results.sort_by(|a, b| a.0.total_cmp(&b.0));
    results[results.len() / 2]
}
