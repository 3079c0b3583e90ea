//! The speed of the store, each figure beside the bare limit of the machine, measured in the
//! same run: `cargo bench --bench slots`. Compare ratios, not nanoseconds.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use slotfile::{OpenOptions, Store};

/// A store on the file system of the build, as users have theirs on a disk.
fn store(folder: &tempfile::TempDir) -> Store {
    let path = folder.path().join("bench.slots");
    OpenOptions::new().create(true).max_slots(200_000).sync_every(None).open(path).unwrap()
}

/// Without syncs, whose cost `sync.rs` measures.
fn open(path: &Path) -> Store {
    OpenOptions::new().sync_every(None).open(path).unwrap()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn scalars(c: &mut Criterion) {
    let folder = folder();
    let store = store(&folder);
    let value = store.value::<u64>("hits").unwrap();
    let bare = AtomicU64::new(0);

    let mut group = c.benchmark_group("read one u64");
    group.bench_function("limit: atomic load", |b| {
        b.iter(|| black_box(&bare).load(Ordering::Acquire));
    });
    group.bench_function("slotfile", |b| b.iter(|| black_box(&value).load()));
    group.finish();

    let mut group = c.benchmark_group("add 1, one process");
    group.bench_function("limit: lock xadd", |b| {
        b.iter(|| black_box(&bare).fetch_add(1, Ordering::AcqRel));
    });
    group.bench_function("slotfile", |b| b.iter(|| black_box(&value).fetch_add(1).unwrap()));
    group.finish();
}

fn names(c: &mut Criterion) {
    for count in [1_000u64, 100_000] {
        let folder = folder();
        let store = store(&folder);
        let names: Vec<String> = (0..count).map(|i| format!("group/{}/slot{i}", i % 100)).collect();
        let mut map = HashMap::new();
        for name in &names {
            store.value::<u64>(name).unwrap();
            map.insert(name.clone(), AtomicU64::new(0));
        }
        // A prime stride, so that the caches do not see them in their order of definition.
        let at = |i: &mut usize| {
            *i = (*i + 7_919) % names.len();
            &names[*i]
        };
        let mut group = c.benchmark_group(format!("read one u64 by name, of {count}"));
        let mut i = 0;
        group.bench_function("limit: HashMap", |b| {
            b.iter(|| map[at(&mut i)].load(Ordering::Acquire));
        });
        group.bench_function("slotfile", |b| {
            b.iter(|| store.value::<u64>(at(&mut i)).unwrap().load());
        });
        group.finish();
    }
}

/// Starts both sides at once, with `count` each; returns the time until both are done.
fn contended(count: u64, path: &Path, what: &str) -> Duration {
    let store = open(path);
    let gate = store.value::<u64>("gate").unwrap();
    gate.store(0).unwrap();
    let mut other = spawn(path, what, count);
    while gate.load() == 0 {
        std::hint::spin_loop();
    }
    let start = Instant::now();
    gate.store(2).unwrap();
    work(&store, what, count);
    while gate.load() != 3 {
        std::hint::spin_loop();
    }
    let time = start.elapsed();
    assert!(other.wait().unwrap().success());
    time
}

/// Starts this benchmark again, as the other process.
fn spawn(path: &Path, what: &str, count: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env("SLOTFILE_BENCH", format!("{what} {count}"))
        .env("SLOTFILE_PATH", path)
        .spawn()
        .unwrap()
}

fn work(store: &Store, what: &str, count: u64) {
    match what {
        "slotfile" => {
            let hits = store.value::<u64>("hits").unwrap();
            for _ in 0..count {
                hits.fetch_add(1).unwrap();
            }
        }
        // Every access to the map is through the library, so the limit is what two
        // threads do to one word; as fast as two processes would be.
        "limit" => {
            static BARE: AtomicU64 = AtomicU64::new(0);
            for _ in 0..count {
                BARE.fetch_add(1, Ordering::AcqRel);
            }
        }
        other => panic!("{other} is no work"),
    }
}

fn contended_adds(c: &mut Criterion) {
    let folder = folder();
    let store = store(&folder);
    let path = store.path().to_owned();
    let mut group = c.benchmark_group("add 1, two at once, none lost");
    // Two adds per iteration, one of each side.
    group.throughput(Throughput::Elements(2)).sample_size(10);
    group.bench_function("limit: lock xadd, two threads", |b| {
        b.iter_custom(|count| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                scope.spawn(|| work(&store, "limit", count));
                work(&store, "limit", count);
            });
            start.elapsed()
        });
    });
    group.bench_function("slotfile, two processes", |b| {
        b.iter_custom(|count| {
            let hits = store.value::<u64>("hits").unwrap();
            let before = hits.load();
            let time = contended(count, &path, "slotfile");
            assert_eq!(hits.load() - before, 2 * count, "none lost");
            time
        });
    });
    group.finish();
}

fn arrays(c: &mut Criterion) {
    let folder = folder();
    let store = store(&folder);
    for bytes in [1 << 10, 64 << 10] {
        let words = bytes / 8;
        let array = store.array::<u64>(&format!("array{bytes}"), words).unwrap();
        let (content, mut out) = (vec![7u64; words], vec![0u64; words]);
        for what in ["replace", "read"] {
            let mut group = c.benchmark_group(format!("{what} {} KiB, whole", bytes >> 10));
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function("limit: memcpy", |b| {
                b.iter(|| black_box(&mut out).copy_from_slice(black_box(&content)));
            });
            group.bench_function("slotfile", |b| match what {
                "replace" => b.iter(|| array.store(black_box(&content)).unwrap()),
                _ => b.iter(|| {
                    array.load_into(black_box(&mut out));
                }),
            });
            group.finish();
        }
    }
    let array = store.array::<u64>("array1024", 128).unwrap();
    c.bench_function("add 1 to an element of 1 KiB/slotfile", |b| {
        b.iter(|| array.fetch_add(black_box(3), 1).unwrap());
    });
}

/// Whole copies of 64 KiB beside a writer that never pauses.
fn readers_beside_a_writer(c: &mut Criterion) {
    let folder = folder();
    let store = store(&folder);
    let mut group = c.benchmark_group("read 64 KiB beside a writer without pause");
    for areas in [2, 4] {
        let name = format!("storm{areas}");
        let define = slotfile::Define::new().areas(areas);
        let array = store.array_with::<u64>(&name, 8192, define).unwrap();
        let (stop, mut out) = (AtomicBool::new(false), vec![0u64; 8192]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut content = vec![0u64; 8192];
                for i in 1.. {
                    content.fill(i);
                    array.store(&content).unwrap();
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            group.bench_with_input(BenchmarkId::new("slotfile, areas", areas), &(), |b, ()| {
                b.iter(|| {
                    array.load_into(&mut out);
                    assert_eq!(out[0], out[8191], "torn");
                });
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = scalars, names, contended_adds, arrays, readers_beside_a_writer
}
criterion_main!(run_or_help);

/// Runs the benchmarks, or, in the process that [`spawn`] started, its share of the work.
fn run_or_help() {
    let Ok(work_line) = std::env::var("SLOTFILE_BENCH") else { return benches() };
    let (what, count) = work_line.split_once(' ').unwrap();
    let store = open(Path::new(&std::env::var_os("SLOTFILE_PATH").unwrap()));
    let gate = store.value::<u64>("gate").unwrap();
    gate.store(1).unwrap();
    while gate.load() != 2 {
        std::hint::spin_loop();
    }
    work(&store, what, count.parse().unwrap());
    gate.store(3).unwrap();
}
