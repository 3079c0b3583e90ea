//! A name found again, beside a `HashMap`: `cargo bench --bench names`. Both in turns, in short
//! batches, by the processor time of this thread: so other programs disturb both alike.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slotfile::OpenOptions;

const BATCH: usize = 1_000;
const ROUNDS: usize = 600;

fn main() {
    println!("| names | `HashMap` | slotfile | ratio | `slots()`, each, the first time | again |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for count in [1_000, 100_000, 1_000_000] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("names.slots");
        let mut options = OpenOptions::new();
        options.create(true).max_slots(count.max(65_536)).sync_every(None);
        let mut names: Vec<String> =
            (0..count).map(|i| format!("group/{}/slot{i}", i % 100)).collect();
        let store = options.open(&path).unwrap();
        names.iter().for_each(|name| drop(store.value::<u64>(name).unwrap()));
        drop(store);
        let store = options.open(&path).unwrap();
        let list = || {
            let start = cpu_time();
            let slots = store.slots().unwrap();
            (cpu_time() - start).as_nanos() as f64 / slots.len() as f64
        };
        let listed = [list(), list()];
        let map: HashMap<String, AtomicU64> =
            names.iter().map(|name| (name.clone(), AtomicU64::new(0))).collect();
        // In an order that is not that of the definitions, and copied into it.
        let mut random = 7u64;
        for at in (1..names.len()).rev() {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            names.swap(at, (random >> 33) as usize % (at + 1));
        }
        let names: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
        let find = |name: &String| store.value::<u64>(name).unwrap().load();
        for name in &names {
            black_box(find(name));
        }
        let look = |name: &String| map[name].load(Ordering::Acquire);
        let (mut ours, mut limit) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let start = round * BATCH % names.len();
            let batch = &names[start..start + BATCH];
            let other = (round + ROUNDS / 2) * BATCH % names.len();
            limit.push(time(&names[other..other + BATCH], look));
            ours.push(time(batch, find));
        }
        let (ours, limit) = (median(ours), median(limit));
        let [first, again] = listed;
        println!(
            "| {count} | {limit:.1} | {ours:.1} | {:.2} | {first:.1} | {again:.1} |",
            ours / limit
        );
    }
}

fn time(names: &[String], mut find: impl FnMut(&String) -> u64) -> f64 {
    let start = cpu_time();
    for name in names {
        black_box(find(black_box(name)));
    }
    (cpu_time() - start).as_nanos() as f64 / names.len() as f64
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The processor time that this thread has used.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to `time`, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
