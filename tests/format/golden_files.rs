//! Stores as the first build of format 1.0 wrote them: every later build must read all of
//! them. The files are kept as the runs of their bytes that are not zero, and never rewritten;
//! a new minor version of the format gets its own files
//! (`SLOTFILE_GOLDEN=write cargo test --test format golden_files` writes those that are missing).

use std::path::{Path, PathBuf};

use crate::common;
use crate::common::raw::{self, Image, Raw};
use crate::common::reader::{Reader, Slot};
use crate::common::{folder, store_in};
use slotfile::{Data, Define, Elements, Error, OpenOptions, Recovery, Scalar, SlotType, Store};

/// A store with everything in it.
const ALL: &str = "v1.0.runs";
/// The same without checkpoints.
const UNSYNCED: &str = "v1.0-without-checkpoints.runs";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format/golden").join(name)
}

fn open(path: &Path) -> Result<Store, Error> {
    OpenOptions::new().sync_every(None).open(path)
}

/// Every type of slot, each with its own content. Round 3 is the last sync; round 4 is only in the
/// live area.
fn contents(round: u8) -> Vec<(String, SlotType, Data)> {
    let mut slots = Vec::new();
    let mut add = |name: &str, slot_type: &str, data: Data| {
        slots.push((name.to_owned(), slot_type.parse::<SlotType>().unwrap(), data));
    };
    for (i, of) in slotfile::ScalarType::ALL.into_iter().enumerate() {
        let number = |n: usize| match of {
            slotfile::ScalarType::Bool => Scalar::Bool(n % 2 == 1),
            _ => Scalar::parse(&n.to_string(), of).unwrap(),
        };
        let first = number(usize::from(round) + i);
        add(&format!("value/{of}"), of.name(), first.into());
        let six = || (0..6).map(|n| number(usize::from(round) + n));
        let elements = || Data::from(Elements::from_scalars(of, six()).unwrap());
        add(&format!("array/{of}"), &format!("{of}[2,3]"), elements());
        add(&format!("buffer/{of}"), &format!("buffer:{of}[3,2,1,1]"), elements());
    }
    let odd = [f64::NAN, -0.0, f64::INFINITY, f64::MIN_POSITIVE / 2.0, -1.5, round.into()];
    add("odd numbers", "f64[6]", Data::from(odd));
    add("text", "text[64]", format!("Grüße, {round}").into());
    add("bytes", "bytes[16]", Data::Bytes(vec![round; 9]));
    add("empty", "bytes[2000]", Data::Bytes(Vec::new()));
    // With segments of their own. The second one is not written after the first sync.
    for (name, slot_type) in [("large", "u8[150000]"), ("large buffer", "buffer:u8[150000]")] {
        let mut bytes = vec![0; 150_000];
        (bytes[0], bytes[70_000], bytes[149_999]) = (round, 1, round);
        add(name, slot_type, Elements::from(bytes.as_slice()).into());
    }
    // The sizes at which a slot gets its own segment, begins on a page, fills its segment.
    for len in [1000, 1001, 4095, 4096, 65_536] {
        let mut bytes = vec![0; len];
        (bytes[0], bytes[len - 1]) = (round, round);
        add(&format!("of {len}"), &format!("u8[{len}]"), Elements::from(bytes.as_slice()).into());
    }
    add(&"x".repeat(255), "text[3]", "abc".into());
    slots
}

/// How the slot of this number is defined: areas, doc, unit.
fn settings(number: usize) -> (usize, String, String) {
    let doc = match number % 5 {
        0 => String::new(),
        1 => "Größe".repeat(60), // several lines of the directory
        _ => format!("slot {number}\nof many"),
    };
    ([2, 4, 8][number % 3], doc, ["", "m/s", "µ"][number % 3].to_owned())
}

/// Writes the golden files that are missing, if this run was asked to.
fn write_if_asked() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("SLOTFILE_GOLDEN").is_some_and(|what| what == "write") {
        ONCE.call_once(|| {
            for name in [ALL, UNSYNCED] {
                if !golden(name).exists() {
                    write(name);
                }
            }
        });
    }
}

fn write(name: &str) {
    let folder = folder();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    options.create_new(true).max_slots(64).max_size(32 << 20).sync_every(None);
    let store = options.checkpoint(name == ALL).open(&path).unwrap();
    for (i, (name, slot_type, _)) in contents(0).iter().enumerate() {
        let (areas, doc, unit) = settings(i);
        store.define(name, slot_type, Define::new().areas(areas).doc(doc).unit(unit)).unwrap();
        if i == 4 {
            store.value::<u64>("removed").unwrap();
            store.array::<u8>("removed and large", 100_000).unwrap();
            store.buffer::<u8>("removed buffer", 9).unwrap();
            store.text("removed and back", 9).unwrap();
        }
    }
    for round in 1..=4 {
        for (name, _, content) in contents(round) {
            store.slot(&name).unwrap().store(content).unwrap();
        }
        if round == 2 {
            for removed in ["removed", "removed and large", "removed buffer", "removed and back"] {
                store.remove(removed).unwrap();
            }
            store.value::<u16>("removed and back").unwrap().store(777).unwrap();
        }
        if round < 4 && name == ALL {
            store.sync().unwrap();
        }
    }
    drop(store);
    let runs = Image::of(&path).to_runs();
    assert!(runs.len() < 128 << 10, "{} bytes", runs.len());
    std::fs::create_dir_all(golden(name).parent().unwrap()).unwrap();
    std::fs::write(golden(name), runs).unwrap();
}

/// Places the golden file there, as if it had been written in this boot.
fn put_as_of_now(name: &str, path: &Path) {
    write_if_asked();
    drop(OpenOptions::new().create_new(true).sync_every(None).open(path).unwrap());
    let identity = Raw::open(path).bytes(raw::IDENTITY, raw::IDENTITY_LEN);
    put(name, path);
    Raw::open(path).write(raw::IDENTITY, &identity);
}

/// Places it there as it is: of another boot, and another file.
fn put(name: &str, path: &Path) {
    write_if_asked();
    Image::put_runs(&std::fs::read(golden(name)).unwrap(), path);
}

/// Bit by bit: a NaN is the NaN that was stored.
fn same(a: &Data, b: &Data) -> bool {
    match (a, b) {
        (Data::Array(a), Data::Array(b)) => {
            a.scalar_type() == b.scalar_type() && a.as_bytes() == b.as_bytes()
        }
        (a, b) => a == b,
    }
}

fn assert_holds(store: &Store, round: u8) {
    assert_eq!(store.info().unwrap().format, (1, 0));
    let expected = contents(round);
    for (i, (name, slot_type, content)) in expected.iter().enumerate() {
        let slot = store.slot(name).unwrap();
        let (areas, doc, unit) = settings(i);
        assert_eq!(slot.slot_type(), slot_type);
        let areas = match slot_type {
            SlotType::Value(_) => 0,
            SlotType::Buffer(..) => 1,
            _ => areas,
        };
        assert_eq!(slot.areas(), areas);
        assert_eq!(slot.doc().unwrap_or_default(), doc);
        assert_eq!(slot.unit().unwrap_or_default(), unit);
        assert!(same(&slot.load(), content), "{name}: {:?}", slot.load());
        assert_eq!(slot.version(), round.into(), "{name}");
    }
    for removed in ["removed", "removed and large", "removed buffer"] {
        assert!(matches!(store.slot(removed), Err(Error::NotFound { .. })), "{removed}");
    }
    assert_eq!(store.value::<u16>("removed and back").unwrap().load(), 777);
    assert_eq!(store.slots().unwrap().len(), expected.len() + 1);
    assert_eq!(store.info().unwrap().definitions_left, 64 - expected.len() as u64 - 5);
    let check = store.check().unwrap();
    assert!(check.is_ok(), "{check:?}");
}

/// It is used as well as read.
fn assert_works(store: &Store) {
    store.value::<u64>("value/u64").unwrap().fetch_add(1).unwrap();
    store.buffer::<u64>("buffer/u64", [3, 2, 1, 1]).unwrap().fetch_add(0, 1).unwrap();
    store.array::<u8>("large", 150_000).unwrap().set(1, 1).unwrap();
    store.value_with::<u64>("new", Define::new().doc("new")).unwrap().store(1).unwrap();
    if store.info().unwrap().unsynced.is_some() {
        store.sync().unwrap();
    }
    assert!(store.check().unwrap().is_ok());
}

#[test]
fn a_store_of_version_1_0_is_restored_and_read() {
    let folder = folder();
    let path = store_in(&folder);
    put(ALL, &path);
    let store = open(&path).unwrap();
    assert_eq!(store.recovery(), Recovery::Restored { epoch: 4, newer_dropped: false });
    assert_holds(&store, 3);
    assert_works(&store);
}

#[test]
fn the_live_area_of_version_1_0_is_read() {
    for name in [ALL, UNSYNCED] {
        let folder = folder();
        let path = store_in(&folder);
        put_as_of_now(name, &path);
        let store = open(&path).unwrap();
        assert_eq!(store.recovery(), Recovery::Resumed);
        assert_holds(&store, 4);
        assert_works(&store);
    }
}

#[test]
fn a_store_of_version_1_0_without_checkpoints_is_emptied() {
    let folder = folder();
    let path = store_in(&folder);
    put(UNSYNCED, &path);
    let store = open(&path).unwrap();
    assert_eq!(store.recovery(), Recovery::Emptied);
    assert_eq!(store.slots().unwrap().len(), 0);
    store.value::<u64>("new").unwrap().store(1).unwrap();
}

/// The reader by `docs/format.md` finds all content, without the library.
#[test]
fn the_page_says_what_is_in_version_1_0() {
    let folder = folder();
    let path = store_in(&folder);
    for name in [ALL, UNSYNCED] {
        put(name, &path);
        let reader = Reader::open(&path);
        assert_read(reader.live(), 4);
        if name == ALL {
            let (epoch, slots) = reader.checkpoint();
            assert_eq!(epoch, 4);
            assert_read(slots, 3);
        }
    }
}

fn assert_read(slots: Vec<Slot>, round: u8) {
    let expected = contents(round);
    assert_eq!(slots.len(), expected.len() + 5);
    for (i, (name, slot_type, data)) in expected.into_iter().enumerate() {
        let slot = slots.iter().find(|slot| slot.name == name).unwrap();
        let (_, doc, unit) = settings(i);
        assert_eq!((&slot.doc, &slot.unit), (&doc, &unit));
        assert_eq!(slot.slot_type, slot_type.to_string());
        assert_eq!((slot.version, slot.removed), (round.into(), false), "{name}");
        let content = match data {
            Data::Scalar(x) => common::bytes_of(x),
            Data::Array(elements) => elements.as_bytes().to_vec(),
            Data::Text(text) => text.into_bytes(),
            Data::Bytes(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        assert!(slot.content == content, "{name}");
    }
    for name in ["removed", "removed and large", "removed buffer"] {
        assert!(slots.iter().find(|slot| slot.name == name).unwrap().removed, "{name}");
    }
    let both = slots.iter().filter(|slot| slot.name == "removed and back");
    let both: Vec<_> = both.map(|s| (s.slot_type.as_str(), s.removed, s.version)).collect();
    assert_eq!(both, [("text[9]", true, 2), ("u16", false, 1)]);
}

/// Its live header has no words for group commit: they stay zero, and processes take turns.
#[test]
fn threads_and_processes_commit_to_a_store_of_version_1_0() {
    const NAME: &str = "threads_and_processes_commit_to_a_store_of_version_1_0";
    const COMMITS: u64 = 20;
    let commit = |path: &Path| {
        let store = open(path).unwrap();
        let value = store.value::<u64>("value/u64").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..COMMITS {
                        let before = value.fetch_add(1).unwrap();
                        store.sync().unwrap();
                        assert!(value.load() > before);
                    }
                });
            }
        });
    };
    if common::role().is_some() {
        return commit(&common::path());
    }
    let folder = folder();
    let path = store_in(&folder);
    put_as_of_now(ALL, &path);
    let first = open(&path).unwrap().value::<u64>("value/u64").unwrap().load();
    let children = [0, 1].map(|_| common::Child::spawn(NAME, "commits", &path));
    commit(&path);
    children.into_iter().for_each(common::Child::join);
    let raw = Raw::open(&path);
    for word in [36, 37, 38, 39, 50, 51, 54, 55] {
        assert_eq!(raw.word(raw::LIVE_HEADER + 8 * word), 0, "word {word}");
    }
    raw.restart();
    let store = open(&path).unwrap();
    assert_eq!(
        store.value::<u64>("value/u64").unwrap().load(),
        first.wrapping_add(3 * 4 * COMMITS)
    );
    assert!(store.check().unwrap().is_ok());
}

/// The numbers of group commit are then the process's own.
#[cfg(feature = "tokio")]
#[test]
fn tasks_sync_a_store_of_version_1_0() {
    const TASKS: u64 = 100;
    let folder = folder();
    let path = store_in(&folder);
    put_as_of_now(ALL, &path);
    let store = open(&path).unwrap();
    let value = store.value::<u64>("value/u64").unwrap();
    let epoch = |store: &Store| store.info().unwrap().last_sync.unwrap().epoch;
    let (first, before) = (value.load(), epoch(&store));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let begin = |_| {
            let (store, value) = (store.clone(), value.clone());
            tokio::task::spawn_local(async move {
                value.fetch_add(1).unwrap();
                store.sync_async().await.unwrap();
            })
        };
        for task in (0..TASKS).map(begin).collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    let flushes = epoch(&store) - before;
    assert!(flushes < 20, "{flushes} flushes");
    drop((value, store));
    Raw::open(&path).restart();
    let store = open(&path).unwrap();
    assert_eq!(store.value::<u64>("value/u64").unwrap().load(), first.wrapping_add(TASKS));
}

/// Locks of a dead process, and its committed but unfinished transaction.
#[test]
fn what_the_dead_left_in_version_1_0_is_settled() {
    let folder = folder();
    let path = store_in(&folder);
    put_as_of_now(ALL, &path);
    let raw = Raw::open(&path);
    let owner = |owner: u64| owner << 2;
    let (value, array, buffer) = (raw.control(0), raw.control(1), raw.control_of("buffer/bool"));
    // Entry 2 (owner 3) holds two locks; entry 7 (owner 8) has committed a new value.
    for control in [array, buffer] {
        raw.set_word(control, raw.word(control) | owner(3));
    }
    raw.set_word(raw::TABLE + 2 * raw::TABLE_ENTRY, 1);
    raw.set_word(value, raw.word(value) | owner(8) | 1);
    raw.set_word(value + 8, 1);
    raw.set_word(raw::TABLE + 7 * raw::TABLE_ENTRY, 2);
    let store = open(&path).unwrap();
    assert_eq!(store.recovery(), Recovery::Resumed);
    let version = |name: &str| store.slot(name).unwrap().version();
    assert!(store.value::<bool>("value/bool").unwrap().load(), "it was false");
    assert_eq!(version("value/bool"), 4 + 1);
    assert_eq!(version("array/bool"), 4 + 4, "as many on as it has areas");
    assert_eq!(version("buffer/bool"), 4 + 1);
    drop(store);
    for control in [value, array, buffer] {
        assert_eq!(raw.word(control) & 0x1_ffff, 0, "free, not in a transaction");
    }
    assert_eq!(raw.word(raw::TABLE + 7 * raw::TABLE_ENTRY), 0);
}

#[test]
fn row_33_a_store_of_another_version_is_refused_with_both_versions_named() {
    let folder = folder();
    let path = store_in(&folder);
    for (major, minor) in [(0u32, 1u32), (1, 2), (2, 0), (u32::MAX, u32::MAX)] {
        put(ALL, &path);
        let raw = Raw::open(&path);
        raw.write(8, &major.to_le_bytes());
        raw.write(12, &minor.to_le_bytes());
        raw.seal_header();
        let before = Image::of(&path);
        for opened in [open(&path), Store::open_read_only(&path)] {
            let error = opened.unwrap_err();
            assert!(matches!(error, Error::Version { .. }), "{error:?}");
            let message = error.to_string();
            assert!(message.contains(&format!("format {major}.{minor}")), "{message}");
            assert!(message.contains("reads 1.0 to 1.1"), "{message}");
            assert_eq!(message.contains("never released"), major == 0, "{message}");
        }
        assert!(Image::of(&path) == before, "something was written to it");
    }
}
