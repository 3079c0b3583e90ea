//! A store beside a reference model, a plain map. Each operation is done to both, and they are
//! compared after it. A source of choices picks the operations: a random generator, or a
//! fuzzer's bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slotfile::{Data, Define, Elements, Error, OpenOptions, Recovery, Scalar, SlotType, Store};

use super::raw::Raw;

/// The source of choices.
pub trait Source {
    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize;
}

/// A fuzzer's bytes, then zeros.
#[derive(Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Source for Bytes<'_> {
    fn below(&mut self, n: usize) -> usize {
        let mut take = || match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                usize::from(*byte)
            }
            None => 0,
        };
        let (low, high) = (take(), if n > 256 { take() } else { 0 });
        (low | high << 8) % n
    }
}

/// What the store must hold for one slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    pub slot_type: SlotType,
    pub data: Data,
    /// `None`: any.
    pub version: Option<u64>,
}

pub type Slots = BTreeMap<String, Expected>;

#[derive(Clone, Debug)]
pub enum Op {
    Define {
        name: String,
        slot_type: SlotType,
        areas: usize,
        initial: Option<Data>,
    },
    Remove(String),
    Store(String, Data),
    Add(String, usize, u8),
    Sync,
    Reopen,
    Restart,
    Copy,
    Compact,
    /// An operation that is refused, and changes nothing.
    Refused(usize),
}

/// Types of all kinds, small and large.
const TYPES: [&str; 12] = [
    "u8",
    "u64",
    "f64[6]",
    "i32[300]",
    "u16[40000]",
    "text[20]",
    "bytes[2000]",
    "bool[3,2]",
    // The smallest that begins on a page, the largest that shares a checkpoint segment.
    "i32[1024]",
    "u8[1000]",
    // One element, since storing more is not atomic.
    "buffer:i32[1]",
    "counter",
];

/// An operation: any, or only one in which a child may be killed.
pub fn some_op(source: &mut impl Source, slots: &Slots, any: bool) -> Op {
    let kind = source.below(if any { 112 } else { 88 });
    let new = format!("slot{}", source.below(12));
    let known: Vec<&String> = slots.keys().collect();
    let name = match known.len() {
        0 => None,
        n => Some(known[source.below(n)].clone()),
    };
    match (kind, name) {
        (0..26, _) | (26..80, None) => {
            let slot_type: SlotType = TYPES[source.below(TYPES.len())].parse().unwrap();
            let areas = [2, 4, 8][source.below(3)];
            let initial = (source.below(2) == 1).then(|| some_data(&slot_type, source));
            Op::Define { name: new, slot_type, areas, initial }
        }
        (26..34, Some(name)) => Op::Remove(name),
        (34..60, Some(name)) => {
            let data = some_data(&slots[&name].slot_type, source);
            Op::Store(name, data)
        }
        (60..80, Some(name)) => Op::Add(name, source.below(3), source.below(200) as u8),
        (80..88, _) => Op::Sync,
        (88..94, _) => Op::Reopen,
        (94..100, _) => Op::Restart,
        (100..104, _) => Op::Copy,
        (104..107, _) => Op::Compact,
        _ => Op::Refused(source.below(6)),
    }
}

fn some_data(slot_type: &SlotType, source: &mut impl Source) -> Data {
    match slot_type {
        SlotType::Value(t) => Scalar::from_integer(source.below(128) as i128, *t).unwrap().into(),
        SlotType::Array(t, shape) | SlotType::Buffer(t, shape) => {
            let len = shape.len() * t.size();
            let mut bytes = vec![0; len];
            // Mostly zeros, so that some checkpoint segments of a large array do not change.
            for _ in 0..3 {
                let most = if t.size() == 1 { 2 } else { 64 };
                bytes[source.below(len)] = source.below(most) as u8;
            }
            Elements::from_bytes(*t, bytes).unwrap().into()
        }
        SlotType::Text(most) => "x".repeat(source.below(*most + 1)).into(),
        SlotType::Bytes(most) => {
            Data::Bytes(vec![source.below(256) as u8; source.below(*most + 1)])
        }
        SlotType::Counter => (source.below(128) as i64 - 64).into(),
        _ => unreachable!("no other type is defined here"),
    }
}

/// A store, and what it must hold.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    store: Option<Store>,
    pub now: Slots,
    /// The states that a restart may restore: several if a process was killed in a sync.
    pub synced: Vec<Slots>,
}

/// How many slots can be defined before a compaction.
const MAX_SLOTS: u64 = 48;

pub fn open(path: &Path) -> Store {
    let mut options = OpenOptions::new();
    options.create(true).max_slots(MAX_SLOTS).max_size(128 << 20).sync_every(None);
    options.lock_timeout(Some(Duration::from_secs(20))).open(path).unwrap()
}

impl Model {
    pub fn new(path: &Path) -> Model {
        let store = Some(open(path));
        Model { path: path.to_owned(), store, now: Slots::new(), synced: vec![Slots::new()] }
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    pub fn close(&mut self) {
        self.store = None;
    }

    pub fn reopen(&mut self) {
        self.close();
        self.store = Some(open(&self.path));
    }

    /// Applies the operation to the store and to the map.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Restart => {
                self.close();
                Raw::open(&self.path).restart();
                self.reopen();
                assert!(matches!(self.store().recovery(), Recovery::Restored { .. }));
                let there = contents(self.store());
                let synced = self.synced.iter().find(|synced| is_as_expected(&there, synced));
                let Some(synced) = synced else {
                    panic!("{there:?}\nis none of\n{:?}", self.synced)
                };
                self.now = synced.clone();
                self.synced = vec![self.now.clone()];
            }
            Op::Reopen => self.reopen(),
            Op::Copy => {
                let copy = self.path.with_extension("copy");
                self.store().copy_to(&copy).unwrap();
                let there = contents(&open(&copy));
                assert!(is_as_expected(&there, &self.now), "{there:?}\nis not\n{:?}", self.now);
                std::fs::remove_file(&copy).unwrap();
            }
            Op::Compact => {
                let store = self.store.take().expect("it is open").compact().unwrap();
                let left = MAX_SLOTS - self.now.len() as u64;
                assert_eq!(store.info().unwrap().definitions_left, left);
                self.store = Some(store);
                self.synced = vec![self.now.clone()];
            }
            op => {
                let mut left = self.store().info().unwrap().definitions_left;
                apply_to_map(op, &mut self.now, &mut left);
                apply_to_store(op, self.store());
                if let Op::Sync = op {
                    self.synced = vec![contents(self.store())];
                }
            }
        }
        self.compare();
    }

    /// Panics unless the store holds what it must, and is in order.
    pub fn compare(&mut self) {
        let there = contents(self.store());
        assert!(is_as_expected(&there, &self.now), "{there:?}\nis not\n{:?}", self.now);
        self.now = there;
        let check = self.store().check().unwrap();
        assert!(check.is_ok(), "{check:?}");
    }
}

/// All that a store holds.
pub fn contents(store: &Store) -> Slots {
    let slots = store.slots().unwrap();
    let slots = slots.iter().map(|slot| {
        let (data, version) = slot.load_versioned();
        let slot_type = slot.slot_type().clone();
        (slot.name().to_owned(), Expected { slot_type, data, version: Some(version) })
    });
    slots.collect()
}

pub fn is_as_expected(there: &Slots, expected: &Slots) -> bool {
    let same = |a: &Expected, b: &Expected| {
        a.slot_type == b.slot_type
            && a.data == b.data
            && b.version.is_none_or(|version| a.version == Some(version))
    };
    there.len() == expected.len()
        && there.iter().zip(expected).all(|((a, x), (b, y))| a == b && same(x, y))
}

/// Applies the operation to the map; `left` is the number of slots that can still be defined.
pub fn apply_to_map(op: &Op, slots: &mut Slots, left: &mut u64) {
    match op {
        Op::Define { name, slot_type, initial, .. } if !slots.contains_key(name) && *left > 0 => {
            *left -= 1;
            let data = initial.clone().unwrap_or_else(|| zero(slot_type));
            let slot_type = slot_type.clone();
            slots.insert(name.clone(), Expected { slot_type, data, version: None });
        }
        Op::Remove(name) => _ = slots.remove(name),
        Op::Store(name, data) => {
            let slot = slots.get_mut(name).unwrap();
            (slot.data, slot.version) = (data.clone(), None);
        }
        Op::Add(name, index, n) => {
            let slot = slots.get_mut(name).unwrap();
            if let Some(sum) = added(&slot.data, *index, *n) {
                (slot.data, slot.version) = (sum, None);
            }
        }
        _ => {}
    }
}

fn zero(slot_type: &SlotType) -> Data {
    match slot_type {
        SlotType::Value(t) => Scalar::zero(*t).into(),
        SlotType::Array(t, shape) | SlotType::Buffer(t, shape) => {
            Elements::zeros(*t, shape.len()).into()
        }
        SlotType::Text(_) => "".into(),
        SlotType::Counter => 0i64.into(),
        _ => Data::Bytes(Vec::new()),
    }
}

/// A content with `n` added to an element; `None` if nothing can be added.
fn added(data: &Data, index: usize, n: u8) -> Option<Data> {
    match data {
        Data::Scalar(Scalar::U8(x)) => Some(x.wrapping_add(n).into()),
        Data::Scalar(Scalar::U64(x)) => Some(x.wrapping_add(n.into()).into()),
        Data::Scalar(Scalar::I64(x)) => Some(x.wrapping_add(n.into()).into()),
        Data::Array(elements) => {
            let mut elements = elements.clone();
            let sum = match elements.get(index)? {
                Scalar::F64(x) => Scalar::F64(x + f64::from(n)),
                Scalar::I32(x) => Scalar::I32(x.wrapping_add(n.into())),
                Scalar::U16(x) => Scalar::U16(x.wrapping_add(n.into())),
                _ => return None,
            };
            elements.set(index, sum);
            Some(elements.into())
        }
        _ => None,
    }
}

/// Applies the operation to the store alone, also in a child that will be killed.
pub fn apply_to_store(op: &Op, store: &Store) {
    match op {
        Op::Define { name, slot_type, areas, initial } => {
            let before = store.slot(name).ok().map(|slot| slot.slot_type().clone());
            let mut define = Define::new().areas(*areas);
            if let Some(initial) = initial {
                define = define.initial(initial.clone());
            }
            match (store.define(name, slot_type, define), before) {
                (Ok(_), None) => {}
                (Ok(_), Some(before)) => assert_eq!(before, *slot_type),
                (Err(Error::Type { .. }), Some(before)) => assert_ne!(before, *slot_type),
                (Err(Error::Full { .. }), None) => {
                    assert_eq!(store.info().unwrap().definitions_left, 0);
                }
                (Err(error), _) => panic!("{error:?}"),
            }
        }
        Op::Remove(name) => {
            let slot = store.slot(name).unwrap();
            store.remove(name).unwrap();
            assert!(slot.is_removed());
            let error = slot.store(zero(slot.slot_type())).unwrap_err();
            assert!(matches!(error, Error::Removed { .. }), "{error:?}");
        }
        Op::Store(name, data) => store.slot(name).unwrap().store(data.clone()).unwrap(),
        Op::Add(name, index, n) => add(store, name, *index, *n),
        Op::Sync => store.sync().unwrap(),
        Op::Refused(which) => be_refused(store, *which),
        op => unreachable!("{op:?} is for the whole store"),
    }
}

fn add(store: &Store, name: &str, index: usize, n: u8) {
    let slot = store.slot(name).unwrap();
    if let SlotType::Buffer(_, shape) = slot.slot_type() {
        if index < shape.len() {
            store.buffer::<i32>(name, *shape).unwrap().fetch_add(index, n.into()).unwrap();
        }
        return;
    }
    match slot.load() {
        Data::Scalar(Scalar::U8(_)) => _ = store.value::<u8>(name).unwrap().fetch_add(n).unwrap(),
        Data::Scalar(Scalar::U64(x)) => {
            let old = store.value::<u64>(name).unwrap().fetch_add(n.into()).unwrap();
            assert_eq!(old, x);
        }
        Data::Scalar(Scalar::I64(_)) => store.counter(name).unwrap().add(n.into()).unwrap(),
        Data::Array(elements) => match elements.get(index) {
            Some(Scalar::F64(_)) => {
                let array = store.array::<f64>(name, elements.len()).unwrap();
                array.fetch_add(index, f64::from(n)).unwrap();
            }
            Some(Scalar::I32(_)) => {
                let array = store.array::<i32>(name, elements.len()).unwrap();
                array.fetch_add(index, n.into()).unwrap();
            }
            Some(Scalar::U16(_)) => {
                let array = store.array::<u16>(name, elements.len()).unwrap();
                array.fetch_add(index, n.into()).unwrap();
            }
            _ => {}
        },
        _ => {}
    }
}

/// Row 40: typed errors, and nothing is written.
fn be_refused(store: &Store, which: usize) {
    let long = "x".repeat(256);
    let name = ["", &long, "a\0b", "a\nb", "\u{85}", "\u{7f}"][which];
    let error = store.value::<u64>(name).unwrap_err();
    assert!(matches!(error, Error::BadName { .. }), "{name:?}: {error:?}");
    for slot in store.slots().unwrap() {
        let error = match slot.slot_type() {
            SlotType::Text(most) | SlotType::Bytes(most) => {
                let too_long = match slot.load() {
                    Data::Text(_) => Data::from("y".repeat(most + 1)),
                    _ => Data::Bytes(vec![1; most + 1]),
                };
                let error = slot.store(too_long).unwrap_err();
                assert!(matches!(error, Error::TooLong { .. }), "{error:?}");
                continue;
            }
            SlotType::Value(_) | SlotType::Counter => slot.store(Data::from("text")).unwrap_err(),
            _ => slot.store(Data::from(vec![1u8; 7])).unwrap_err(),
        };
        let refused = matches!(error, Error::Type { .. } | Error::Length { .. });
        assert!(refused, "{error:?}");
    }
}

/// A fuzzer's input: operations for as long as it lasts.
pub fn run(input: &[u8]) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut model = Model::new(&folder.path().join("state.slots"));
    let mut source = Bytes(input);
    while !source.0.is_empty() {
        let op = some_op(&mut source, &model.now, true);
        model.apply(&op);
    }
}
