//! `docs/format.md` is complete: a reader written from it alone finds in any store what the
//! library finds, live and in the checkpoint.

use std::path::Path;

use crate::common;
use crate::common::model::{self, Model, Source};
use crate::common::raw::Raw;
use crate::common::reader::{Reader, Slot};
use crate::common::{folder, rounds, store_in};
use slotfile::{Data, Define, Store};

struct Random(fastrand::Rng);

impl Source for Random {
    fn below(&mut self, n: usize) -> usize {
        self.0.usize(0..n)
    }
}

/// The slots that the library finds, in the reader's terms.
fn by_the_library(store: &Store) -> Vec<Slot> {
    let slots = store.slots().unwrap();
    let slots = slots.iter().map(|slot| {
        let (data, version) = slot.load_versioned();
        Slot {
            name: slot.name().to_owned(),
            doc: slot.doc().unwrap_or_default().to_owned(),
            unit: slot.unit().unwrap_or_default().to_owned(),
            slot_type: slot.slot_type().to_string(),
            areas: slot.areas() as u8,
            version,
            removed: false,
            content: match data {
                Data::Scalar(x) => common::bytes_of(x),
                Data::Array(elements) => elements.as_bytes().to_vec(),
                Data::Text(text) => text.into_bytes(),
                Data::Bytes(bytes) => bytes,
                other => panic!("{other:?}"),
            },
        }
    });
    slots.collect()
}

/// Panics unless the reader and the library agree on the store, which no process has open. The
/// store is restored to its checkpoint.
fn compare(path: &Path) {
    let reader = Reader::open(path);
    let there = |mut slots: Vec<Slot>| {
        slots.retain(|slot| !slot.removed);
        slots
    };
    let live = there(reader.live());
    assert_eq!(by_the_library(&model::open(path)), live);
    let (epoch, slots) = reader.checkpoint();
    Raw::open(path).restart();
    let store = model::open(path);
    assert_eq!(store.info().unwrap().last_recovery.unwrap().epoch, epoch);
    assert_eq!(by_the_library(&store), there(slots.clone()));
    drop(store);
    assert_eq!(Reader::open(path).live(), slots, "the live area as it was restored");
}

/// A directory of several tiers: names in each, removed ones, some of them again, and descriptors
/// that go on in the next tier.
#[test]
fn a_store_of_many_slots_is_as_the_page_says() {
    for checkpoint in [true, false] {
        let folder = folder();
        let path = store_in(&folder);
        let options = || slotfile::OpenOptions::new().create(true).sync_every(None).to_owned();
        let store = options().checkpoint(checkpoint).open(&path).unwrap();
        let value = |n: usize| store.value::<u64>(&format!("number {n}")).unwrap();
        (0..480).for_each(|n| value(n).store(n as u64).unwrap());
        let doc = "Größe".repeat(400);
        store.value_with::<u8>("of many lines", Define::new().doc(&doc)).unwrap();
        (0..50).for_each(|n| store.remove(&format!("number {n}")).unwrap());
        (480..3_000).for_each(|n| value(n).store(n as u64).unwrap());
        (0..60).for_each(|n| value(n).store(7).unwrap());
        let check = store.check().unwrap();
        assert!(check.is_ok(), "{:?}", check.problems);
        if checkpoint {
            store.sync().unwrap();
            (3_000..4_500).for_each(|n| value(n).store(n as u64).unwrap());
        }
        drop(store);
        let live = Reader::open(&path).live();
        assert_eq!(live.iter().filter(|slot| !slot.removed).count(), live.len() - 50);
        let store = options().open(&path).unwrap();
        for slot in live.iter().filter(|slot| !slot.removed) {
            let found = store.slot(&slot.name).unwrap();
            assert_eq!(found.doc().unwrap_or_default(), slot.doc, "{}", slot.name);
            if let Data::Scalar(now) = found.load() {
                assert_eq!(common::bytes_of(now), slot.content, "{}", slot.name);
            }
        }
        for absent in ["", "number", "number 4500", "number -1"] {
            assert!(store.slot(absent).is_err(), "{absent}");
        }
        drop(store);
        if checkpoint {
            // Fewer tiers than before; then through them again.
            compare(&path);
            let store = options().open(&path).unwrap();
            (3_000..9_000).for_each(|n| drop(store.value::<u64>(&format!("number {n}")).unwrap()));
            let check = store.check().unwrap();
            assert!(check.is_ok(), "{:?}", check.problems);
            drop(store);
            assert_eq!(Reader::open(&path).live().len(), 3_000 + 51 + 6_000);
        }
    }
}

#[test]
fn any_store_is_as_the_page_says() {
    for seed in 0..rounds(12, 400) {
        let folder = folder();
        let path = store_in(&folder);
        let mut source = Random(fastrand::Rng::with_seed(seed as u64));
        let mut model = Model::new(&path);
        for _ in 0..source.below(80) {
            let op = model::some_op(&mut source, &model.now, true);
            model.apply(&op);
        }
        let define = Define::new().doc("Größe".repeat(source.below(90))).unit("m/s");
        model.store().value_with::<u8>("said", define).ok(); // the store may be full
        model.store().sync().unwrap();
        model.close();
        compare(&path);
    }
}
