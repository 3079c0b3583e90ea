//! A store with a few slots.

use slotfile::Store;

/// A few slots of every kind.
pub struct Slots {
    pub store: Store,
    pub a: slotfile::Value<i64>,
    pub b: slotfile::Value<u8>,
    pub array: slotfile::Array<f64>,
    pub text: slotfile::Text,
    pub bytes: slotfile::Bytes,
}

pub fn slots() -> Slots {
    let store = Store::temporary().unwrap();
    Slots {
        a: store.value("a").unwrap(),
        b: store.value("b").unwrap(),
        array: store.array("array", [4, 5]).unwrap(),
        text: store.text("text", 12).unwrap(),
        bytes: store.bytes("bytes", 8).unwrap(),
        store,
    }
}
