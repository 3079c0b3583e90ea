//! A slot's doc and unit of measure: they stay with the slot through every copy.

use std::path::Path;

use crate::common::raw::Raw;
use crate::common::{folder, store_in};
use slotfile::{Define, Error, OpenOptions, Store};

fn open(path: &Path) -> Store {
    OpenOptions::new().create(true).max_slots(64).sync_every(None).open(path).unwrap()
}

/// The slots: name, doc, unit.
fn said(store: &Store) -> Vec<(String, Option<String>, Option<String>)> {
    let slots = store.slots().unwrap();
    let own = |text: Option<&str>| text.map(str::to_owned);
    slots.iter().map(|s| (s.name().to_owned(), own(s.doc()), own(s.unit()))).collect()
}

/// The directory's lines are for docs of a usual length. What is left is told as it is, and what is
/// full is named.
#[test]
fn long_docs_use_up_the_directory() {
    let folder = folder();
    let store = open(&store_in(&folder));
    let long = "x".repeat(3000);
    let mut defined = 0;
    let error = loop {
        let before = store.info().unwrap();
        let define = Define::new().doc(long.as_str());
        match store.value_with::<u8>(&format!("s{defined}"), define) {
            Ok(_) => defined += 1,
            Err(error) => break error,
        }
        let after = store.info().unwrap();
        assert!(after.definitions_left < before.definitions_left);
        assert_eq!((after.slots, after.removed), (defined, 0));
    };
    assert!(defined < 64, "there is room for that many long docs");
    let message = error.to_string();
    assert!(matches!(error, Error::Full { limit: "lines", .. }), "{error:?}");
    assert!(
        message.contains("lines of its directory") && message.contains("shorter doc"),
        "{message}"
    );
    // With short ones, so many more fit as was said.
    let left = store.info().unwrap().definitions_left;
    assert!(defined + left < 64, "{defined} and {left}");
    for i in 0..left {
        store.value::<u8>(&format!("t{i}")).unwrap();
    }
    assert_eq!(store.info().unwrap().definitions_left, 0);
    store.remove("s0").unwrap();
    assert_eq!(store.info().unwrap().removed, 1);
    let message = store.value::<u8>("no").unwrap_err().to_string();
    assert!(message.contains("of 1 removed slots"), "{message}");
}

#[test]
fn they_survive_reopening_restoring_copying_and_compacting() {
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let long = "Größe ".repeat(400); // several lines of the directory
    store.value::<u8>("gone").unwrap();
    let define = Define::new().initial(1.5).doc("of the robot\nover ground").unit("m/s");
    store.value_with("speed", define).unwrap();
    store.array_with::<f32>("long", 3, Define::new().doc(long.as_str())).unwrap();
    store.text_with("name", 9, Define::new().unit("µ")).unwrap();
    store.buffer_with::<u8>("frame", 9, Define::new().doc("raw")).unwrap();
    store.value::<u8>("plain").unwrap();
    store.remove("gone").unwrap();
    let some = |text: &str| Some(text.to_owned());
    let expected = vec![
        ("speed".to_owned(), some("of the robot\nover ground"), some("m/s")),
        ("long".to_owned(), Some(long), None),
        ("name".to_owned(), None, some("µ")),
        ("frame".to_owned(), some("raw"), None),
        ("plain".to_owned(), None, None),
    ];
    assert_eq!(said(&store), expected);
    // Those of the first definition stay.
    store.value_with::<f64>("speed", Define::new().doc("another").unit("km/h")).unwrap();
    assert_eq!(said(&store), expected);
    let copy = path.with_extension("copy");
    store.copy_to(&copy).unwrap();
    assert_eq!(said(&open(&copy)), expected);
    store.sync().unwrap();
    drop(store);
    Raw::open(&path).restart();
    assert_eq!(said(&open(&path)), expected);
    let store = open(&path).compact().unwrap();
    assert_eq!(said(&store), expected);
    drop(store);
    Raw::open(&path).restart();
    let store = open(&path);
    assert_eq!(said(&store), expected);
    assert_eq!(store.value::<f64>("speed").unwrap().load(), 1.5);
    assert!(store.check().unwrap().is_ok());
}

/// A descriptor has 32 lines of 128 bytes, 88 of which are numbers.
#[test]
fn what_is_too_long_is_refused_and_what_just_fits_is_not() {
    let store = Store::temporary().unwrap();
    let most = 32 * 128 - 88 - "name".len() - "m/s".len();
    let define = |len: usize| Define::new().doc("x".repeat(len)).unit("m/s");
    let error = store.value_with::<u8>("name", define(most + 1)).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("4009") && message.contains("4008"), "{message}");
    let error = store.value_with::<u8>("name", define(70_000)).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "not cut to 16 bits");
    let error = store.value_with::<u8>("name", Define::new().unit("m\ns")).unwrap_err();
    assert!(error.to_string().contains("control character"), "{error}");
    assert_eq!(store.slots().unwrap().len(), 0);
    store.value_with::<u8>("name", define(most)).unwrap();
    assert_eq!(store.slot("name").unwrap().doc().map(str::len), Some(most));
    assert_eq!(store.slot("name").unwrap().unit(), Some("m/s"));
}

/// The directory has four lines per slot; longer descriptors take those of others.
#[test]
fn docs_can_fill_the_directory() {
    let folder = folder();
    let store = OpenOptions::new().create(true).max_slots(16).open(store_in(&folder)).unwrap();
    let define = || Define::new().doc("x".repeat(4_000));
    store.value_with::<u8>("0", define()).unwrap();
    store.value_with::<u8>("1", define()).unwrap();
    let error = store.value_with::<u8>("2", define()).unwrap_err();
    assert!(matches!(error, Error::Full { limit: "lines", size: 64, .. }), "{error:?}");
    assert_eq!(store.slots().unwrap().len(), 2);
    assert!(store.check().unwrap().is_ok());
}

#[test]
fn damaged_ones_are_refused() {
    let folder = folder();
    let path = store_in(&folder);
    open(&path).value_with::<u8>("name", Define::new().doc("abc").unit("m/s")).unwrap();
    let raw = Raw::open(&path);
    let line = raw.line(0);
    let intact = raw.bytes(line, 128);
    assert_eq!(&intact[88..100], b"nameabcm/s\0\0");
    let fields: [(u64, &[u8]); 6] = [
        (12, &[200, 0]),     // a doc beyond the line
        (14, &[200, 0]),     // a unit beyond it
        (12, &[0xff, 0xff]), // beyond all lines
        (88 + 4, &[0xff]),   // a doc that is not UTF-8
        (88 + 7, &[0xc3]),   // a unit that is not
        (88 + 7, &[0x1b]),   // a control character
    ];
    for (at, bytes) in fields {
        raw.write(line, &intact);
        raw.write(line + at, bytes);
        raw.seal_line(0);
        let error = open(&path).slot("name").unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{at}: {error:?}");
    }
}
