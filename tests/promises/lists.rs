//! [`Store::list`]: the same as `slots`, in turn, without keeping anything.

use crate::common::{folder, store_in};
use slotfile::{Data, Define, OpenOptions, Store};

/// What can be known of a slot.
type Known = (String, String, Option<String>, Option<String>, usize, usize, u64, (Data, usize));

/// By [`Store::list`].
fn listed(store: &Store, pattern: &str) -> Vec<Known> {
    let known = |slot: slotfile::Result<slotfile::ListedSlot>| {
        let slot = slot.unwrap();
        let (content, version) = slot.try_load_versioned().unwrap();
        assert_eq!(version, slot.version());
        assert!(slot.load_beginning(usize::MAX).0 == content);
        let own = |text: Option<&str>| text.map(str::to_owned);
        let (name, slot_type) = (slot.name().to_owned(), slot.slot_type().to_string());
        let (doc, unit) = (own(slot.doc()), own(slot.unit()));
        let beginning = slot.load_beginning(2);
        (name, slot_type, doc, unit, slot.areas(), slot.size(), version, beginning)
    };
    store.list(pattern).unwrap().map(known).collect()
}

/// The same by [`Store::slots_matching`].
fn opened(store: &Store, pattern: &str) -> Vec<Known> {
    let known = |slot: slotfile::Slot| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let (name, slot_type) = (slot.name().to_owned(), slot.slot_type().to_string());
        let (doc, unit) = (own(slot.doc()), own(slot.unit()));
        let beginning = slot.load_beginning(2);
        (name, slot_type, doc, unit, slot.areas(), slot.size(), slot.version(), beginning)
    };
    store.slots_matching(pattern).unwrap().into_iter().map(known).collect()
}

#[test]
fn a_list_says_the_same_as_the_slots() {
    let store = Store::temporary().unwrap();
    store.value_with("speed", Define::new().initial(1.5).doc("over\nground").unit("m/s")).unwrap();
    store.value::<u8>("gone").unwrap();
    let long = Define::new().initial([1u64, 2, 3]).doc("Größe ".repeat(400));
    store.array_with::<u64>("arm/long", 3, long).unwrap();
    store.array_with::<u8>("arm/areas", [2, 2], Define::new().areas(4)).unwrap();
    store.text_with("text", 64, Define::new().initial("Karel")).unwrap();
    store.bytes("bytes", 9).unwrap().store(b"\x00\xff").unwrap();
    store.buffer::<f32>("buffer", 70_000).unwrap().set(0, 2.5).unwrap();
    store.counter("counter").unwrap().add(7).unwrap();
    store.remove("gone").unwrap();
    store.value::<bool>("gone").unwrap().store(true).unwrap();
    for pattern in ["*", "arm/*", "?????", "gone", "none"] {
        assert_eq!(listed(&store, pattern), opened(&store, pattern), "{pattern}");
    }
    assert_eq!(listed(&store, "*").len(), 8);
    let sorted = store.list("[!a]*").unwrap().sorted_by_name().unwrap();
    let sorted: Vec<_> = sorted.map(|slot| slot.unwrap().name().to_owned()).collect();
    assert_eq!(sorted, ["buffer", "bytes", "counter", "gone", "speed", "text"]);
    assert!(store.list("[").is_err());
}

#[test]
fn a_list_shows_each_slot_as_it_is_when_the_list_gets_there() {
    let store = Store::temporary().unwrap();
    for name in ["a", "b", "c"] {
        store.value::<u64>(name).unwrap();
    }
    let mut list = store.list("*").unwrap();
    assert_eq!(list.next().unwrap().unwrap().name(), "a");
    store.value::<u64>("later").unwrap();
    store.remove("b").unwrap();
    store.value::<u64>("c").unwrap().store(5).unwrap();
    let last = list.next().unwrap().unwrap();
    assert_eq!((last.name(), last.try_load_versioned().unwrap()), ("c", (5u64.into(), 1)));
    assert!(list.next().is_none() && list.next().is_none());
}

#[test]
fn a_list_of_many_slots_takes_no_more_memory_than_one_of_few() {
    let folder = folder();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    options.create(true).max_slots(20_000).sync_every(None);
    let store = options.open(&path).unwrap();
    for i in 0..20_000 {
        let doc = Define::new().initial(i).doc("one of many");
        store.value_with(&format!("a slot with a long name, number {i:5}"), doc).unwrap();
    }
    // Whoever opens it again does not know the slots.
    drop(store);
    let store = options.open(&path).unwrap();
    let mut list = store.list("a*").unwrap();
    let mut allocated = |slots: usize| {
        let mut sum = 0u64;
        let allocated = allocation_counter::measure(|| {
            for slot in list.by_ref().take(slots) {
                let slot = slot.unwrap();
                let Data::Scalar(value) = slot.try_load_versioned().unwrap().0 else { panic!() };
                sum += u64::try_from(value.get::<i32>().unwrap()).unwrap();
                assert_eq!(slot.doc(), Some("one of many"));
            }
        });
        (allocated.bytes_current, allocated.bytes_max, sum)
    };
    let (few, many) = (allocated(10), allocated(usize::MAX));
    assert_eq!((few.0, many.0), (0, 0), "bytes that were kept");
    assert_eq!(few.1, many.1, "bytes at most");
    assert_eq!(few.2 + many.2, (0..20_000).sum::<u64>());
}
