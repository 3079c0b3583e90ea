//! What an open store, and each slot that a process knows, takes of its private memory.

use slotfile::{Define, OpenOptions, Store};

/// Bytes that this thread has allocated meanwhile, and not freed.
fn kept<R>(f: impl FnOnce() -> R) -> i64 {
    let mut result = None;
    let allocated = allocation_counter::measure(|| result = Some(f()));
    // What `f` returns is dropped only here.
    drop(result);
    allocated.bytes_current
}

fn open(options: &mut OpenOptions, path: &std::path::Path) -> Store {
    options.create(true).sync_every(None).open(path).unwrap()
}

/// Just so many that the tables of names have all been doubled.
const SLOTS: usize = 3 * 4096 + 12;

#[test]
fn a_known_slot_takes_64_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.slots");
    let mut options = OpenOptions::new();
    options.max_slots(2 * SLOTS as u64);
    let names: Vec<String> = (0..SLOTS).map(|i| format!("group/{}/slot{i}", i % 100)).collect();
    let store = open(&mut options, &path);
    let of_each = |bytes: i64| bytes as f64 / SLOTS as f64;
    let defined = of_each(kept(|| {
        for (at, name) in names.iter().enumerate() {
            match at % 4 {
                0 => drop(store.array::<f32>(name, 3).unwrap()),
                1 => drop(store.text(name, 16).unwrap()),
                _ => drop(store.value::<u64>(name).unwrap()),
            }
        }
    }));
    assert!(defined <= 64.0, "defined: {defined}");
    drop(store);

    let store = open(&mut options, &path);
    let find = || {
        for (at, name) in names.iter().enumerate() {
            match at % 4 {
                0 => drop(store.array::<f32>(name, 3).unwrap()),
                1 => drop(store.text(name, 16).unwrap()),
                _ => drop(store.value::<u64>(name).unwrap()),
            }
        }
    };
    let found = of_each(kept(find));
    let absent = of_each(kept(|| assert!(store.slot("absent").is_err())));
    assert!(found + absent <= 64.0, "found: {found}, and {absent} to know that one is absent");
    assert_eq!(kept(find), 0, "found again");
    let listed = of_each(kept(|| drop(store.slots().unwrap())));
    assert_eq!(listed, 0.0, "listed");
}

#[test]
fn an_open_store_takes_64_kib() {
    for most in [65_536, 1_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.slots");
        let mut options = OpenOptions::new();
        options.max_slots(most);
        let names: Vec<String> = (0..100).map(|i| format!("group/{i}")).collect();
        let store = open(&mut options, &path);
        for name in &names {
            store.value_with::<u64>(name, Define::new()).unwrap();
        }
        drop(store);
        let mut stores = Vec::with_capacity(1);
        let taken = kept(|| {
            let store = open(&mut options, &path);
            for name in &names {
                store.value::<u64>(name).unwrap().fetch_add(1).unwrap();
            }
            store.sync().unwrap();
            stores.push(store);
        });
        assert!(taken <= 64 << 10, "of at most {most} slots: {taken}");
    }
}
