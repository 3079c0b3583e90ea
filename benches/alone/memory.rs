//! The private memory of an open store, and of each slot that a process knows:
//! `cargo bench --bench memory`. Each line is measured in a process of its own.
//!
//! "Allocated" is what the program's allocator has given out and not got back, on the thread that
//! measures. "Anonymous" is what the kernel counts as memory of this process alone (`Anonymous` in
//! /proc/self/smaps_rollup). Pages of the file are shared, so they are in neither.

use std::process::Command;

use slotfile::{OpenOptions, Store};

const SLOTS: usize = 100_000;
const STORES: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if let [folder, what] = &args[..] {
        return measure(folder, what);
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let names = names(SLOTS);
    let store = open(&folder.path().join("full.slots").to_string_lossy(), SLOTS);
    names.iter().for_each(|name| drop(store.value::<u64>(name).unwrap()));
    for i in 0..STORES {
        let one = open(&format!("{}/{i}.slots", folder.path().display()), 65_536);
        names[..10].iter().for_each(|name| drop(one.value::<u64>(name).unwrap()));
    }
    println!("| | allocated | anonymous | page tables |\n| --- | --- | --- | --- |");
    for (what, _) in KINDS {
        let me = std::env::current_exe().unwrap();
        let status = Command::new(me).arg(folder.path()).arg(what).status().unwrap();
        assert!(status.success());
    }
}

const KINDS: [(&str, usize); 12] = [
    ("a store, opened", STORES),
    ("a store, opened to read", STORES),
    ("a store, and a slot found", STORES),
    ("a store, and 10 slots found", STORES),
    ("a store, and a number added", STORES),
    ("a store that syncs in the background", STORES),
    ("a slot, found by name", SLOTS),
    ("a slot, named in a list", SLOTS),
    ("a slot, its name asked for", SLOTS),
    ("a slot, of which one was absent", SLOTS),
    ("a slot, defined", SLOTS),
    ("a slot, synced", SLOTS),
];

fn measure(folder: &str, what: &str) {
    let (_, count) = *KINDS.iter().find(|(kind, _)| kind == &what).unwrap();
    let names = names(SLOTS);
    let mut stores: Vec<Store> = Vec::with_capacity(STORES);
    let full = format!("{folder}/full.slots");
    let mut options = OpenOptions::new();
    options.sync_every(None);
    // What a process has only once.
    let first = options.open(format!("{folder}/0.slots")).unwrap();
    first.value::<u64>(&names[0]).unwrap().fetch_add(1).unwrap();
    if what.starts_with("a slot") {
        stores.push(match what {
            "a slot, defined" => open(&format!("{folder}/new.slots"), SLOTS),
            _ => open(&full, SLOTS),
        });
    }
    let before = [kernel("Anonymous:"), page_tables()];
    let allocated = allocation_counter::measure(|| {
        if let Some(kind) = what.strip_prefix("a store") {
            if kind.ends_with("background") {
                options.sync_every(Some(std::time::Duration::from_secs(3600)));
            }
            options.read_only(kind.ends_with("to read"));
            for i in 0..STORES {
                let store = options.open(format!("{folder}/{i}.slots")).unwrap();
                match kind {
                    ", and a slot found" => drop(store.value::<u64>(&names[3]).unwrap()),
                    ", and 10 slots found" => {
                        names[..10].iter().for_each(|n| drop(store.value::<u64>(n).unwrap()));
                    }
                    ", and a number added" => {
                        store.value::<u64>(&names[3]).unwrap().fetch_add(1).unwrap();
                    }
                    _ => {}
                }
                stores.push(store);
            }
            return;
        }
        let store = &stores[0];
        match what {
            "a slot, found by name" | "a slot, defined" => {
                names.iter().for_each(|name| drop(store.value::<u64>(name).unwrap()));
            }
            "a slot, named in a list" => drop(store.slots().unwrap()),
            "a slot, its name asked for" => {
                names.iter().for_each(|name| assert_eq!(store.slot(name).unwrap().name(), name));
            }
            "a slot, of which one was absent" => {
                names.iter().for_each(|name| drop(store.value::<u64>(name).unwrap()));
                assert!(store.slot("absent").is_err());
            }
            _ => {
                names.iter().for_each(|name| drop(store.value::<u64>(name).unwrap()));
                store.sync().unwrap();
            }
        }
    });
    // The thread that syncs has touched its stack by then.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let grown = [kernel("Anonymous:") - before[0], page_tables() - before[1]];
    let each = |bytes: i64| bytes as f64 / count as f64;
    println!(
        "| {what} | {:.1} | {:.1} | {:.1} |",
        each(allocated.bytes_current),
        each(grown[0]),
        each(grown[1])
    );
    std::process::exit(0);
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("group/{}/slot{i}", i % 100)).collect()
}

fn open(path: &str, slots: usize) -> Store {
    OpenOptions::new().create(true).max_slots(slots as u64).sync_every(None).open(path).unwrap()
}

/// Bytes, from a line of the kernel's summary.
fn kernel(line: &str) -> i64 {
    number("/proc/self/smaps_rollup", line)
}

fn page_tables() -> i64 {
    number("/proc/self/status", "VmPTE:")
}

fn number(path: &str, name: &str) -> i64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    1024 * line.trim().trim_end_matches(" kB").trim().parse::<i64>().unwrap()
}
