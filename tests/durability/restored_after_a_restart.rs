//! After a restart of the machine, or in a copied file, all slots of a store are as of the same
//! sync, the last one.
//!
//! A restart is simulated by overwriting the file's identity with that of another boot. What the
//! disk has lost by then is tested in `tests/power/`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use slotfile::{Data, Define, Error, OpenOptions, Recovery, SlotType, Store};

/// Makes the store one of an earlier boot. No process has it open.
fn restart(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x55; 64], 64 * 1024).unwrap();
}

/// Syncs only when told.
fn open(path: &Path) -> Store {
    OpenOptions::new().create(true).max_slots(2_000).sync_every(None).open(path).unwrap()
}

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.slots");
    (folder, path)
}

#[test]
fn row_34_what_was_synced_is_there_and_what_came_after_is_not() {
    let (_folder, path) = folder();
    let store = open(&path);
    assert_eq!(store.recovery(), Recovery::Created);
    let (hits, pose) =
        (store.value::<u64>("hits").unwrap(), store.array::<f64>("pose", 6).unwrap());
    let image = store.array::<u32>("image", 100_000).unwrap();
    let name = store.text("name", 64).unwrap();
    hits.store(5).unwrap();
    pose.store(&[1.0; 6]).unwrap();
    image.update(|p| p.fill(7)).unwrap();
    name.store("Karel").unwrap();
    store.sync().unwrap();
    hits.store(6).unwrap();
    pose.set(0, 2.0).unwrap();
    image.set(99_999, 8).unwrap();
    name.store("another").unwrap();
    store.value::<i8>("later").unwrap().store(1).unwrap();
    drop((hits, pose, image, name, store));

    restart(&path);
    let store = open(&path);
    assert_eq!(store.recovery(), Recovery::Restored { epoch: 2, newer_dropped: false });
    assert_eq!(store.value::<u64>("hits").unwrap().load(), 5);
    assert_eq!(store.array::<f64>("pose", 6).unwrap().load(), [1.0; 6]);
    assert!(store.array::<u32>("image", 100_000).unwrap().load().iter().all(|x| *x == 7));
    assert_eq!(store.text("name", 64).unwrap().load(), "Karel");
    assert!(matches!(store.slot("later"), Err(Error::NotFound { .. })));
    assert_eq!(store.value::<i64>("later").unwrap().load(), 0, "its space is clean again");
}

/// The same content stored again has another version, which others may have seen.
#[test]
fn the_version_is_that_of_the_sync_too() {
    let (_folder, path) = folder();
    let store = open(&path);
    let types =
        ["u8", "u8[3]", "u8[2000]", "u16[100000]", "text[2000]", "buffer:u16[100000]", "counter"];
    for name in types {
        store.define(name, &name.parse().unwrap(), Define::new()).unwrap();
    }
    store.sync().unwrap();
    for synced in 1..4u64 {
        for name in types {
            let slot = store.slot(name).unwrap();
            slot.store(slot.load()).unwrap();
            assert_eq!(slot.version(), synced);
        }
        store.sync().unwrap();
    }
    drop(store);
    restart(&path);
    let store = open(&path);
    for name in types {
        assert_eq!(store.slot(name).unwrap().version(), 3, "{name}");
    }
}

#[test]
fn without_a_restart_all_is_as_it_was_left() {
    let (_folder, path) = folder();
    let store = open(&path);
    store.sync().unwrap();
    store.value::<u64>("hits").unwrap().store(9).unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!(store.recovery(), Recovery::Resumed);
    assert_eq!(store.value::<u64>("hits").unwrap().load(), 9);
}

#[test]
fn the_last_to_leave_syncs() {
    let (_folder, path) = folder();
    let store = Store::create(&path).unwrap();
    store.value::<u64>("hits").unwrap().store(9).unwrap();
    drop(store);
    restart(&path);
    let store = Store::open(&path).unwrap();
    assert!(matches!(store.recovery(), Recovery::Restored { .. }));
    assert_eq!(store.value::<u64>("hits").unwrap().load(), 9);
}

#[test]
fn a_store_without_checkpoints_is_empty_and_cannot_be_synced() {
    let (_folder, path) = folder();
    let store = OpenOptions::new().create(true).checkpoint(false).open(&path).unwrap();
    store.value::<u64>("hits").unwrap().store(9).unwrap();
    let error = store.sync().unwrap_err();
    assert!(error.to_string().contains("without checkpoints"), "{error}");
    drop(store);
    restart(&path);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.recovery(), Recovery::Emptied);
    assert_eq!(store.slots().unwrap().len(), 0);
    assert_eq!(store.value::<u64>("hits").unwrap().load(), 0);
}

#[test]
fn one_who_only_reads_sees_the_restored_state() {
    let (_folder, path) = folder();
    let store = open(&path);
    store.value::<u64>("hits").unwrap().store(5).unwrap();
    store.sync().unwrap();
    store.value::<u64>("hits").unwrap().store(6).unwrap();
    drop(store);
    restart(&path);
    let store = Store::open_read_only(&path).unwrap();
    assert!(matches!(store.recovery(), Recovery::Restored { .. }));
    assert_eq!(store.value::<u64>("hits").unwrap().load(), 5);
}

/// Any history of updates, definitions, removals, syncs and restarts, against a map as the
/// reference. After a restart, the store equals the map at the last sync.
#[test]
fn any_history_returns_to_its_last_sync() {
    let types = "u8 u64 f64[6] i32[300] u16[40000] text[20] bytes[2000] buffer:f64[6] \
                 buffer:u16[40000] counter";
    let types: Vec<SlotType> = types.split(' ').map(|t| t.parse().unwrap()).collect();
    let seeds = if std::env::var_os("SLOTFILE_LONG").is_some() { 400 } else { 40 };
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let (_folder, path) = folder();
        let mut store = open(&path);
        let mut now: BTreeMap<String, (SlotType, Data)> = BTreeMap::new();
        let mut synced = now.clone();
        for step in 0..random.usize(20..120) {
            let context = format!("seed {seed}, step {step}");
            match random.u32(0..100) {
                0..30 => {
                    let name = format!("slot{}", random.u32(0..12));
                    if let Entry::Vacant(vacant) = now.entry(name.clone()) {
                        let slot_type = &types[random.usize(0..types.len())];
                        let areas = [2, 4, 8][random.usize(0..3)];
                        let mut define = Define::new().areas(areas);
                        if random.bool() {
                            define = define.initial(some_data(slot_type, &mut random));
                        }
                        let slot = store.define(&name, slot_type, define).expect(&context);
                        vacant.insert((slot_type.clone(), slot.load()));
                    }
                }
                30..38 => {
                    if let Some(name) = some_name(&now, &mut random) {
                        store.remove(&name).expect(&context);
                        now.remove(&name);
                    }
                }
                38..75 => {
                    if let Some(name) = some_name(&now, &mut random) {
                        let (slot_type, content) = now.get_mut(&name).unwrap();
                        *content = some_data(slot_type, &mut random);
                        store.slot(&name).unwrap().store(content.clone()).expect(&context);
                    }
                }
                75..88 => {
                    store.sync().expect(&context);
                    synced = now.clone();
                }
                88..94 => {
                    drop(store);
                    store = open(&path);
                }
                _ => {
                    drop(store);
                    restart(&path);
                    store = open(&path);
                    now = synced.clone();
                }
            }
            let there: BTreeMap<String, (SlotType, Data)> = store
                .slots()
                .expect(&context)
                .iter()
                .map(|s| (s.name().to_owned(), (s.slot_type().clone(), s.load())))
                .collect();
            assert!(there == now, "{context}: {there:?}\nis not\n{now:?}");
        }
    }
}

fn some_name(
    slots: &BTreeMap<String, (SlotType, Data)>,
    random: &mut fastrand::Rng,
) -> Option<String> {
    random.choice(slots.keys()).cloned()
}

fn some_data(slot_type: &SlotType, random: &mut fastrand::Rng) -> Data {
    use slotfile::{Elements, Scalar};
    match slot_type {
        SlotType::Value(t) => Scalar::from_integer(random.i8(0..).into(), *t).unwrap().into(),
        SlotType::Array(t, shape) | SlotType::Buffer(t, shape) => {
            let len = shape.len() * t.size();
            let mut bytes = vec![0; len];
            // Mostly zeros, so that some checkpoint segments of a large array do not change.
            for _ in 0..3 {
                bytes[random.usize(0..len)] = random.u8(0..64);
            }
            Elements::from_bytes(*t, bytes).unwrap().into()
        }
        SlotType::Text(most) => "x".repeat(random.usize(0..=*most)).into(),
        SlotType::Bytes(most) => Data::Bytes(vec![random.u8(..); random.usize(0..=*most)]),
        SlotType::Counter => random.i64(..).into(),
        _ => unreachable!("no other type is defined here"),
    }
}

/// Zeros in place of the identity mean that a process has begun to restore.
#[test]
fn a_restore_that_was_interrupted_is_done_again() {
    let (_folder, path) = folder();
    let store = open(&path);
    let (hits, image) =
        (store.value::<u64>("hits").unwrap(), store.array::<u32>("image", 100_000).unwrap());
    hits.store(5).unwrap();
    image.update(|p| p.fill(7)).unwrap();
    store.sync().unwrap();
    hits.store(6).unwrap();
    drop((hits, image, store));
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 64], 64 * 1024).unwrap();
    for round in 0..2 {
        let store = open(&path);
        assert_eq!(store.recovery(), Recovery::Restored { epoch: 2, newer_dropped: false });
        assert_eq!(store.value::<u64>("hits").unwrap().load(), 5, "round {round}");
        assert_eq!(store.array::<u32>("image", 100_000).unwrap().get(99_999).unwrap(), 7);
        store.value::<u64>("hits").unwrap().store(6).unwrap();
        drop(store);
        restart(&path);
    }
}
