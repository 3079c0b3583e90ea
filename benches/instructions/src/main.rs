//! The number of instructions of the hot paths, counted by valgrind:
//! `cargo run --release --manifest-path benches/instructions/Cargo.toml`. The counts do not depend
//! on the machine's load, so a path that has become longer differs from noise, and fails the run.
//! Without valgrind, it says so and counts nothing.
//!
//! The counts are compared with `baseline.json`; after an intended change, `--renew` rewrites it.
//! A package of its own, so that it is built in seconds.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};
use slotfile::{OpenOptions, Store};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json");

/// A path: given a store, the code to repeat.
type Prepare = fn(&Store) -> Box<dyn FnMut(u64)>;

const PATHS: [(&str, Prepare); 18] = [
    ("read a value", |store| {
        let value = store.value::<u64>("value").unwrap();
        repeat(move || black_box(&value).load())
    }),
    ("add to a value", |store| {
        let value = store.value::<u64>("value").unwrap();
        repeat(move || black_box(&value).fetch_add(1).unwrap())
    }),
    ("replace a value", |store| {
        let value = store.value::<u64>("value").unwrap();
        repeat(move || black_box(&value).store(black_box(7)).unwrap())
    }),
    ("add to a counter", |store| {
        let counter = store.counter("counter").unwrap();
        repeat(move || black_box(&counter).add(black_box(1)).unwrap())
    }),
    ("read a counter", |store| {
        let counter = store.counter("counter").unwrap();
        repeat(move || black_box(&counter).load())
    }),
    ("find a value by name, of 1,000", |store| {
        let names: Vec<String> = (0..1000).map(|i| format!("group/{}/slot{i}", i % 100)).collect();
        names.iter().for_each(|name| drop(store.value::<u64>(name).unwrap()));
        let (store, mut at) = (store.clone(), 0);
        repeat(move || {
            at = (at + 7) % names.len();
            store.value::<u64>(&names[at]).unwrap().load()
        })
    }),
    ("read an element", |store| {
        let array = store.array::<u64>("array", 128).unwrap();
        repeat(move || black_box(&array).get(black_box(3)).unwrap())
    }),
    ("set an element of 1 KiB", |store| {
        let array = store.array::<u64>("array", 128).unwrap();
        repeat(move || black_box(&array).set(black_box(3), 7).unwrap())
    }),
    ("read 1 KiB", |store| {
        let array = store.array::<u64>("array", 128).unwrap();
        let mut out = [0; 128];
        repeat(move || black_box(&array).load_into(black_box(&mut out)))
    }),
    ("replace 1 KiB", |store| {
        let array = store.array::<u64>("array", 128).unwrap();
        let content = [7; 128];
        repeat(move || black_box(&array).store(black_box(&content)).unwrap())
    }),
    ("update 1 KiB", |store| {
        let array = store.array::<u64>("array", 128).unwrap();
        repeat(move || black_box(&array).update(|all| all[black_box(3)] += 1).unwrap())
    }),
    ("add to 64 values at once", |store| {
        let (store, values) = (store.clone(), values(store));
        repeat(move || {
            let add = store.transaction(|tx| {
                values.iter().try_for_each(|value| tx.fetch_add(value, 1).map(drop))
            });
            add.unwrap();
        })
    }),
    ("add to 10 values at once", |store| {
        let (store, values) = (store.clone(), values(store));
        repeat(move || {
            let add = store.transaction(|tx| {
                values[..10].iter().try_for_each(|value| tx.fetch_add(value, 1).map(drop))
            });
            add.unwrap();
        })
    }),
    ("update a group of 10 values", |store| {
        let group = store.group(some_values::<10>(store)).unwrap();
        repeat(move || group.update(|all| all.iter_mut().for_each(|one| *one += 1)).unwrap())
    }),
    ("update a group of 64 values", |store| {
        let group = store.group(some_values::<64>(store)).unwrap();
        repeat(move || group.update(|all| all.iter_mut().for_each(|one| *one += 1)).unwrap())
    }),
    ("load a group of 64 values", |store| {
        let group = store.group(values(store)).unwrap();
        let mut contents = group.load().unwrap();
        repeat(move || group.load_into(black_box(&mut contents)).unwrap())
    }),
    ("a snapshot of 64 values", |store| {
        drop(values(store));
        let (store, slots) = (store.clone(), store.slots().unwrap());
        repeat(move || store.snapshot_of(&slots).unwrap())
    }),
    ("a snapshot of 8 values by a closure", |store| {
        let (store, values) = (store.clone(), values(store));
        repeat(move || {
            let mut sum = 0;
            store
                .snapshot(|s| {
                    values[..8].iter().try_for_each(|v| {
                        sum += s.load(v)?;
                        Ok(())
                    })
                })
                .unwrap();
            sum
        })
    }),
];

/// A sync by a process that has just opened the store, like that of the command line, looks at
/// every slot. Counts the instructions per slot.
const FIRST_SYNC: &str = "the first sync of a process, for each slot";
/// In stores of this many slots, and of twice as many: the difference is the cost of the slots.
const SLOTS: u64 = 5_000;

fn values(store: &Store) -> Vec<slotfile::Value<u64>> {
    (0..64).map(|i| store.value(&format!("value{i}")).unwrap()).collect()
}

fn some_values<const N: usize>(store: &Store) -> [slotfile::Value<u64>; N] {
    std::array::from_fn(|i| store.value(&format!("value{i}")).unwrap())
}

fn repeat<T>(mut once: impl FnMut() -> T + 'static) -> Box<dyn FnMut(u64)> {
    Box::new(move |times| (0..times).for_each(|_| drop(black_box(once()))))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["fill", slots, store] => {
            let store = open(store, 2 * SLOTS);
            let slots = 0..slots.parse::<u64>().unwrap();
            slots.for_each(|i| drop(store.value::<u64>(&format!("slot{i:05}")).unwrap()));
            store.sync().unwrap();
            ExitCode::SUCCESS
        }
        ["sync", store] => {
            let store = open(store, 2 * SLOTS);
            // Not by a call that is counted: a second caller changes how that is compiled.
            store.slot("slot00000").unwrap().store(1u64).unwrap();
            store.sync().unwrap();
            ExitCode::SUCCESS
        }
        ["path", name, times, store] => {
            let store = open(store, 2_000);
            let prepare = PATHS.iter().find(|path| path.0 == name).unwrap().1;
            prepare(&store)(times.parse().unwrap());
            ExitCode::SUCCESS
        }
        [] => guard(false),
        ["--renew"] => guard(true),
        _ => {
            eprintln!("usage: instructions [--renew]");
            ExitCode::from(2)
        }
    }
}

fn open(path: &str, max_slots: u64) -> Store {
    let mut options = OpenOptions::new();
    // Small, since valgrind cannot reserve as much memory as the kernel can.
    options.create(true).max_slots(max_slots).max_size(64 << 20).sync_every(None);
    options.open(path).unwrap()
}

fn guard(renew: bool) -> ExitCode {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed: the instructions of the hot paths are not counted");
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let mut baseline: Value = std::fs::read_to_string(BASELINE)
        .map_or_else(|_| json!({}), |text| serde_json::from_str(&text).unwrap());
    let tolerance = baseline["tolerance"].as_f64().unwrap_or(0.05);
    let expected = baseline[std::env::consts::ARCH].take();
    if expected.is_null() && !renew {
        println!("no counts to compare with for {}: --renew makes them", std::env::consts::ARCH);
        return ExitCode::SUCCESS;
    }
    let (mut counts, mut longer) = (serde_json::Map::new(), Vec::new());
    println!("| path | instructions | expected | |\n| --- | --- | --- | --- |");
    for name in PATHS.iter().map(|(name, _)| *name).chain([FIRST_SYNC]) {
        let found = match name {
            FIRST_SYNC => instructions_of_a_slot(folder.path()),
            _ => instructions(name, folder.path()),
        };
        counts.insert(name.to_owned(), json!(found));
        let Some(before) = expected[name].as_f64() else {
            println!("| {name} | {found} | | new |");
            continue;
        };
        // What costs nothing is counted as a few instructions more or less.
        let verdict = match (found - before) / before.max(100.0) {
            more if more > tolerance => {
                longer.push(format!("{name}: {found} instructions, expected {before}"));
                "**longer**"
            }
            more if more < -tolerance => "shorter: --renew keeps it so",
            _ => "",
        };
        println!("| {name} | {found} | {before} | {verdict} |");
    }
    if renew {
        baseline = json!({
            "tolerance": tolerance,
            "rustc": rustc(),
            std::env::consts::ARCH: counts,
        });
        std::fs::write(BASELINE, serde_json::to_string_pretty(&baseline).unwrap() + "\n").unwrap();
        return ExitCode::SUCCESS;
    }
    if longer.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("\nhot paths have become longer by more than {:.0} %:", 100.0 * tolerance);
    longer.iter().for_each(|path| eprintln!("  {path}"));
    eprintln!(
        "counted with {}, expected from {}\nif it is meant, give --renew",
        rustc(),
        baseline["rustc"].as_str().unwrap_or("an unknown compiler"),
    );
    ExitCode::FAILURE
}

/// The instructions of one pass through a path: two runs differ by that and nothing else.
fn instructions(path: &str, folder: &Path) -> f64 {
    const TIMES: u64 = 2_000;
    let store = folder.join("counted.slots");
    let count_of = |times: u64| {
        let count = count(&["path", path, &times.to_string()], &store);
        std::fs::remove_file(&store).unwrap();
        count
    };
    each(count_of(TIMES), count_of(2 * TIMES), TIMES)
}

/// The instructions per slot in the first sync of a process.
fn instructions_of_a_slot(folder: &Path) -> f64 {
    let store = folder.join("filled.slots");
    let count_of = |slots: u64| {
        let mut fill = Command::new(std::env::current_exe().unwrap());
        let status = fill.args(["fill", &slots.to_string()]).arg(&store).status().unwrap();
        assert!(status.success(), "{status}");
        let count = count(&["sync"], &store);
        std::fs::remove_file(&store).unwrap();
        count
    };
    each(count_of(SLOTS), count_of(2 * SLOTS), SLOTS)
}

fn each(few: u64, many: u64, times: u64) -> f64 {
    (10.0 * (many as f64 - few as f64) / times as f64).round() / 10.0
}

/// All instructions of this program with these arguments and a store.
fn count(args: &[&str], store: &Path) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(args)
        .arg(store)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}, under valgrind: {}\n{said}", output.status);
    // ==123== Collected : 4567
    let count = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    count.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("no count in:\n{said}"))
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(|_| "rustc".into(), |o| String::from_utf8_lossy(&o.stdout).trim().into())
}
