//! A store as an earlier build wrote it: this build must read all of it. The file is kept
//! as the runs of its bytes that are not zero. While the format has version 0 it may be
//! written anew: `SLOTFILE_GOLDEN=write cargo test --test golden_files`.

mod common;

use std::path::{Path, PathBuf};

use common::raw::{self, Image, Raw};
use common::{folder, store_in};
use slotfile::{Data, Define, Elements, Error, OpenOptions, Recovery, Scalar, SlotType, Store};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v0.1.runs")
}

fn open(path: &Path) -> Result<Store, Error> {
    OpenOptions::new().sync_every(None).open(path)
}

/// Every type of slot, each with a content of its own; round 3 is the last sync, and round
/// 4 stands only in the live area.
fn contents(round: u8) -> Vec<(String, SlotType, Data)> {
    let mut slots = Vec::new();
    let scalars = ["bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64"];
    for (i, name) in scalars.into_iter().enumerate() {
        let value: SlotType = name.parse().unwrap();
        let SlotType::Value(of) = value else { unreachable!("a scalar's name") };
        let number = |n: usize| match of {
            slotfile::ScalarType::Bool => Some(Scalar::Bool(n % 2 == 1)),
            _ => Scalar::parse(&n.to_string(), of).ok(),
        };
        let first = number(usize::from(round) + i).unwrap();
        slots.push((format!("value/{name}"), value, first.into()));
        let all = (0..6).map(|n| number(usize::from(round) + n).unwrap());
        let bytes: Vec<u8> = all.flat_map(bytes_of).collect();
        let elements = Elements::from_bytes(of, bytes).unwrap();
        slots.push((
            format!("array/{name}"),
            format!("{name}[2,3]").parse().unwrap(),
            elements.into(),
        ));
    }
    let text = format!("Grüße, {round}");
    slots.push(("text".into(), "text[64]".parse().unwrap(), text.as_str().into()));
    slots.push(("bytes".into(), "bytes[16]".parse().unwrap(), Data::Bytes(vec![round; 9])));
    // One with units of its own, the second of which is never written after the first sync.
    let mut large = vec![0; 70_000];
    (large[0], large[69_999]) = (round, 1);
    let large = Elements::from_bytes(slotfile::ScalarType::U8, large).unwrap();
    slots.push(("large".into(), "u8[70000]".parse().unwrap(), large.into()));
    let long = "x".repeat(200);
    slots.push((long, "text[3]".parse().unwrap(), "abc".into()));
    slots
}

/// The bytes that the format gives a scalar.
fn bytes_of(scalar: Scalar) -> Vec<u8> {
    match scalar {
        Scalar::Bool(x) => vec![x.into()],
        Scalar::I8(x) => x.to_le_bytes().into(),
        Scalar::I16(x) => x.to_le_bytes().into(),
        Scalar::I32(x) => x.to_le_bytes().into(),
        Scalar::I64(x) => x.to_le_bytes().into(),
        Scalar::U8(x) => x.to_le_bytes().into(),
        Scalar::U16(x) => x.to_le_bytes().into(),
        Scalar::U32(x) => x.to_le_bytes().into(),
        Scalar::U64(x) => x.to_le_bytes().into(),
        Scalar::F32(x) => x.to_le_bytes().into(),
        Scalar::F64(x) => x.to_le_bytes().into(),
    }
}

/// Writes the golden file, if this run was asked to. Otherwise it is only looked at.
fn write_if_asked() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("SLOTFILE_GOLDEN").is_some_and(|what| what == "write") {
        ONCE.call_once(write);
    }
}

fn write() {
    let folder = folder();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    options.create_new(true).max_slots(64).max_size(32 << 20).sync_every(None);
    let store = options.open(&path).unwrap();
    for (i, (name, slot_type, _)) in contents(0).iter().enumerate() {
        store.define(name, slot_type, Define::new().areas([2, 4, 8][i % 3])).unwrap();
        if i == 4 {
            store.value::<u64>("removed").unwrap();
            store.text("removed and back", 9).unwrap();
        }
    }
    for round in 1..=4 {
        for (name, _, content) in contents(round) {
            store.slot(&name).unwrap().store(content).unwrap();
        }
        if round == 2 {
            store.remove("removed").unwrap();
            store.remove("removed and back").unwrap();
            store.value::<u16>("removed and back").unwrap().store(777).unwrap();
        }
        if round < 4 {
            store.sync().unwrap();
        }
    }
    drop(store);
    let runs = Image::of(&path).to_runs();
    assert!(runs.len() < 64 << 10, "{} bytes", runs.len());
    std::fs::create_dir_all(golden().parent().unwrap()).unwrap();
    std::fs::write(golden(), runs).unwrap();
}

fn assert_holds(store: &Store, round: u8) {
    let expected = contents(round);
    for (i, (name, slot_type, content)) in expected.iter().enumerate() {
        let slot = store.slot(name).unwrap();
        assert_eq!(slot.slot_type(), slot_type);
        assert_eq!(
            slot.areas(),
            if matches!(slot_type, SlotType::Value(_)) { 0 } else { [2, 4, 8][i % 3] }
        );
        assert!(slot.load() == *content, "{name}: {:?}", slot.load());
        assert_eq!(slot.version(), round.into(), "{name}");
    }
    assert!(matches!(store.slot("removed"), Err(Error::NotFound { .. })));
    assert_eq!(store.value::<u16>("removed and back").unwrap().load(), 777);
    assert_eq!(store.slots().unwrap().len(), expected.len() + 1);
    assert_eq!(store.info().unwrap().definitions_left, 64 - 29);
    let check = store.check().unwrap();
    assert!(check.is_ok(), "{check:?}");
}

/// It is used as well as read.
fn assert_works(store: &Store) {
    store.value::<u64>("value/u64").unwrap().fetch_add(1).unwrap();
    store.value::<u64>("new").unwrap().store(1).unwrap();
    store.sync().unwrap();
    assert!(store.check().unwrap().is_ok());
}

#[test]
fn a_store_of_version_0_1_is_restored_and_read() {
    write_if_asked();
    let folder = folder();
    let path = store_in(&folder);
    Image::put_runs(&std::fs::read(golden()).unwrap(), &path);
    let store = open(&path).unwrap();
    assert_eq!(store.recovery(), Recovery::Restored { epoch: 4, newer_dropped: false });
    assert_holds(&store, 3);
    assert_works(&store);
}

/// As if it had been written in this boot: what stands in its live area.
#[test]
fn the_live_area_of_version_0_1_is_read() {
    write_if_asked();
    let folder = folder();
    let path = store_in(&folder);
    drop(OpenOptions::new().create_new(true).sync_every(None).open(&path).unwrap());
    let identity = Raw::open(&path).bytes(raw::IDENTITY, raw::IDENTITY_LEN);
    Image::put_runs(&std::fs::read(golden()).unwrap(), &path);
    Raw::open(&path).write(raw::IDENTITY, &identity);
    let store = open(&path).unwrap();
    assert_eq!(store.recovery(), Recovery::Resumed);
    assert_holds(&store, 4);
    assert_works(&store);
}

#[test]
fn row_33_a_golden_file_of_a_newer_version_is_refused_with_both_versions_named() {
    let folder = folder();
    let path = store_in(&folder);
    write_if_asked();
    for (major, minor) in [(0u32, 2u32), (1, 0), (2, 1)] {
        Image::put_runs(&std::fs::read(golden()).unwrap(), &path);
        let raw = Raw::open(&path);
        raw.write(8, &major.to_le_bytes());
        raw.write(12, &minor.to_le_bytes());
        raw.seal_header();
        let before = Image::of(&path);
        for opened in [open(&path), Store::open_read_only(&path)] {
            let error = opened.unwrap_err();
            assert!(matches!(error, Error::Version { .. }), "{error:?}");
            let message = error.to_string();
            assert!(message.contains(&format!("{major}.{minor}")), "{message}");
            assert!(message.contains("0.1"), "{message}");
        }
        assert!(Image::of(&path) == before, "something was written to it");
    }
}
