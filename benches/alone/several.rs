//! The cost of several slots at once: `cargo bench --bench several`. Transactions that add to n
//! values, beside n single additions; snapshots of n values, idle and beside writers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use slotfile::{Error, OpenOptions, Slot, Store, Value};

const ROUNDS: usize = 7;

fn main() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("state.slots");
    let store = OpenOptions::new().create(true).sync_every(None).open(path).unwrap();
    let values: Vec<Value<u64>> =
        (0..10_000).map(|n| store.value(&format!("value/{n}")).unwrap()).collect();
    let slots = store.slots().unwrap();

    println!("| slots | transaction | single additions | of them |");
    println!("| --- | --- | --- | --- |");
    for count in [2, 8, 64] {
        let some = &values[..count];
        let (mut at_once, mut single) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            at_once.push(each(200_000 / count, || transaction(&store, some)));
            single.push(each(2_000_000 / count, || {
                for value in some {
                    std::hint::black_box(value.fetch_add(1).unwrap());
                }
            }));
        }
        let (at_once, single) = (median(at_once), median(single));
        println!("| {count} | {at_once:.0} ns | {single:.0} ns | {:.1} |", at_once / single);
    }

    println!(
        "\n| snapshot of | snapshot_of, idle | beside two writers | by closure, idle | beside |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for count in [2, 64, 10_000] {
        let of = |slots: &[Slot]| {
            let (mut whole, mut closure) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let times = (100_000 / count).max(5);
                whole.push(each(times, || drop(store.snapshot_of(slots).unwrap())));
                // Each load validates all before it, so not for thousands.
                if count <= 64 {
                    closure.push(each(times, || sum(&store, &values[..count])));
                }
            }
            (median(whole), median(closure))
        };
        let idle = of(&slots[..count]);
        let stop = AtomicBool::new(false);
        let beside = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        transaction(&store, &values[..2]);
                    }
                });
            }
            let beside = of(&slots[..count]);
            stop.store(true, Ordering::Relaxed);
            beside
        });
        println!(
            "| {count} | {:.0} ns | {:.0} ns | {:.0} ns | {:.0} ns |",
            idle.0, beside.0, idle.1, beside.1
        );
    }
}

fn transaction(store: &Store, values: &[Value<u64>]) {
    let add = store.transaction(|tx| {
        for value in values {
            tx.fetch_add(value, 1)?;
        }
        Ok::<_, Error>(())
    });
    add.unwrap();
}

fn sum(store: &Store, values: &[Value<u64>]) {
    let sum = store.snapshot(|s| {
        let mut sum = 0;
        for value in values {
            sum += s.load(value)?;
        }
        Ok(sum)
    });
    std::hint::black_box(sum.unwrap());
}

/// Nanoseconds for one of `n`.
fn each(times: usize, mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..times).for_each(|_| f());
    let took: Duration = start.elapsed();
    took.as_nanos() as f64 / times as f64
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}
