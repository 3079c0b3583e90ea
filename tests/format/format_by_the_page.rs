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
