//! Names: valid and invalid ones, racing definitions and removals, growth while others read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common;
use crate::common::{Child, folder, number, os, path, role, rounds, store_in, until};
use slotfile::{Data, Define, Error, OpenOptions, Scalar, ScalarType, Shape, SlotType, Store};

#[test]
fn row_40_names_types_and_shapes_that_do_not_fit_are_refused_and_change_nothing() {
    let store = Store::temporary().unwrap();
    let bad_name = |name: &str| {
        let refused = store.value::<u64>(name).unwrap_err();
        assert!(matches!(refused, Error::BadName { .. }), "{name:?}: {refused}");
    };
    let long = "x".repeat(256);
    for name in ["", &long, &"é".repeat(128), "a\0b", "a\nb", "\u{7f}", "\u{85}"] {
        bad_name(name);
    }
    let names = ["x", &"x".repeat(255), &"é".repeat(127), " ", "a/b", "日本", "\u{feff}"];
    for (n, name) in names.iter().enumerate() {
        store.value::<u64>(name).unwrap().store(n as u64).unwrap();
    }
    for (n, name) in names.iter().enumerate() {
        assert_eq!(store.value::<u64>(name).unwrap().load(), n as u64);
    }
    let image = store.array::<f32>("image", [4, 6]).unwrap();
    let text = store.text("text", 10).unwrap();
    store.bytes("bytes", 10).unwrap();
    let before = store.info().unwrap().slots;
    let types: Vec<Error> = vec![
        store.value::<i64>("x").unwrap_err(),
        store.value::<f64>("x").unwrap_err(),
        store.array::<u64>("x", 1).unwrap_err(),
        store.text("x", 8).unwrap_err(),
        store.value::<f32>("image").unwrap_err(),
        store.array::<f64>("image", [4, 6]).unwrap_err(),
        store.array::<i32>("image", [4, 6]).unwrap_err(),
        store.array::<f32>("image", [6, 4]).unwrap_err(),
        store.array::<f32>("image", 24).unwrap_err(),
        store.array::<f32>("image", [4, 6, 1]).unwrap_err(),
        store.text("text", 11).unwrap_err(),
        store.bytes("text", 10).unwrap_err(),
        store.array::<u8>("bytes", 10).unwrap_err(),
        store.slot("x").unwrap().store(1i64).unwrap_err(),
        store.slot("x").unwrap().store("1").unwrap_err(),
        store.slot("image").unwrap().store([0f64; 24]).unwrap_err(),
    ];
    for error in types {
        assert!(matches!(error, Error::Type { .. }), "{error:?}");
        assert!(error.to_string().contains("(temporary)"), "{error}");
    }
    assert_eq!(store.text("text", 3).unwrap().capacity(), 10, "at most what is there");
    let lengths = [
        image.store(&[0.0; 23]).unwrap_err(),
        image.store(&[0.0; 25]).unwrap_err(),
        image.store_range(3..5, &[0.0; 3]).unwrap_err(),
        store.slot("image").unwrap().store([0f32; 23]).unwrap_err(),
    ];
    for error in lengths {
        assert!(matches!(error, Error::Length { .. }), "{error:?}");
    }
    #[allow(clippy::reversed_empty_ranges, reason = "that is the point")]
    let indices = [
        image.get(24).unwrap_err(),
        image.get(usize::MAX).unwrap_err(),
        image.get([4, 0]).unwrap_err(),
        image.get([0, 6]).unwrap_err(),
        image.get([0, 0, 0]).unwrap_err(),
        image.set([3, 7], 1.0).unwrap_err(),
        image.load_range(20..25).unwrap_err(),
        image.load_range(5..4).unwrap_err(),
        image.load_range(0..=usize::MAX).unwrap_err(),
        image.update_range(24..=24, |_| ()).unwrap_err(),
        image.fetch_add(24, 1.0).unwrap_err(),
    ];
    for error in indices {
        assert!(matches!(error, Error::Index { .. }), "{error:?}");
    }
    assert!(matches!(text.store("12345678901"), Err(Error::TooLong { capacity: 10, .. })));
    let invalid = [
        store.array::<u8>("new", 0).unwrap_err(),
        store.array::<u8>("new", [3, 0]).unwrap_err(),
        store.array::<u64>("new", usize::MAX).unwrap_err(),
        store.array::<u64>("new", [usize::MAX, usize::MAX]).unwrap_err(),
        store.array::<u64>("new", [1 << 16; 4]).unwrap_err(),
        store.text("new", 0).unwrap_err(),
        store.bytes("new", usize::MAX).unwrap_err(),
        store.array_with::<u8>("new", 1, Define::new().areas(3)).unwrap_err(),
        store.array_with::<u8>("new", 1, Define::new().areas(256 + 2)).unwrap_err(),
    ];
    for error in invalid {
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }
    let full = store.array::<u64>("new", 1 << 31).unwrap_err();
    assert!(matches!(full, Error::Full { limit: "max_size", .. }), "{full:?}");
    let (u64, initial) = ("u64".parse().unwrap(), Define::new().initial(Scalar::I64(1)));
    let content_error = store.define("new", &u64, initial).unwrap_err();
    assert!(matches!(content_error, Error::Type { .. }), "{content_error:?}");
    let content_error =
        store.array_with::<u64>("new", 2, Define::new().initial([1u64])).unwrap_err();
    assert!(matches!(content_error, Error::Length { .. }), "{content_error:?}");
    let content_error = store.text_with("new", 2, Define::new().initial("long")).unwrap_err();
    assert!(matches!(content_error, Error::TooLong { .. }), "{content_error:?}");
    assert_eq!(store.info().unwrap().slots, before, "a refusal defines nothing");
    assert_eq!(image.load(), [0.0; 24], "and stores nothing");
    assert_eq!((image.version(), text.version()), (0, 0));
    store.value::<bool>("new").unwrap();
}

#[test]
fn an_absent_slot_is_named_where_nothing_may_be_defined() {
    let folder = folder();
    let path = store_in(&folder);
    Store::create(&path).unwrap().value::<u64>("temperature").unwrap();
    let store = OpenOptions::new().define(false).open(&path).unwrap();
    match store.value::<u64>("temprature") {
        Err(Error::NotFound { slot, .. }) => assert_eq!(slot.as_deref(), Some("temprature")),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.closest_name("temprature", 1).as_deref(), Some("temperature"));
    assert_eq!(store.closest_name("temprature", 0), None);
    assert_eq!(store.closest_name("quite another", 1), None);
    assert!(matches!(store.slot("quite another"), Err(Error::NotFound { .. })));
    assert!(matches!(store.remove("absent"), Err(Error::NotFound { .. })));
    store.value::<u64>("temperature").unwrap();
    let again = store.value_with::<u64>("temperature", Define::new().create_new(true));
    assert!(matches!(again, Err(Error::Exists { slot: Some(_), .. })));
}

/// The first definition's settings stay; its initial value is visible before its name.
#[test]
fn definers_that_race_all_get_one_slot_with_its_initial_value() {
    const NAME: &str = "definers_that_race_all_get_one_slot_with_its_initial_value";
    let processes = 4;
    if role().is_some() {
        let me = number();
        let store = Store::open(path()).unwrap();
        let arrived = store.value::<u64>("arrived").unwrap();
        let new = store.value::<u64>("new").unwrap();
        for round in 0..rounds(300, 3_000) as u64 {
            arrived.fetch_add(1).unwrap();
            while arrived.load() < processes * (round + 1) {
                std::hint::spin_loop();
            }
            // Each has another initial content, and another name in between, so that they are
            // not all at the same point.
            store.value::<u64>(&format!("{round} of {me}")).unwrap();
            let define = Define::new().initial([100 * me; 5]);
            let define = if round % 2 == 0 { define } else { define.create_new(true) };
            match store.array_with::<u64>(&format!("{round}"), 5, define) {
                Ok(array) => {
                    new.fetch_add(round % 2).unwrap();
                    let now = array.load();
                    assert!(now[0].is_multiple_of(100) && now == [now[0]; 5], "{now:?}");
                }
                Err(Error::Exists { slot: Some(_), .. }) => assert_eq!(round % 2, 1),
                Err(other) => panic!("{other}"),
            }
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let (arrived, new) =
        (store.value::<u64>("arrived").unwrap(), store.value::<u64>("new").unwrap());
    let children: Vec<_> =
        (0..processes).map(|me| Child::spawn_with(NAME, "definer", &path, me)).collect();
    children.into_iter().for_each(Child::join);
    let rounds = arrived.load() / processes;
    assert_eq!(store.info().unwrap().slots, 2 + rounds * (1 + processes), "each name once");
    assert_eq!(new.load(), rounds / 2, "create_new has one winner");
}

/// Defined, updated and removed by all at once: an update goes to an existing slot, or fails
/// with `Removed`; it never lands in a slot of another type that took the name.
#[test]
fn definitions_removals_and_updates_race() {
    const NAME: &str = "definitions_removals_and_updates_race";
    if role().is_some() {
        let me = number();
        let store = Store::open(path()).unwrap();
        for round in 0..rounds(2_000, 10_000) {
            // Whose turn it is decides the type; half of the names are fought for.
            let name = format!("slot {}", fastrand::u64(0..4));
            if (round as u64 + me).is_multiple_of(2) {
                match store.array::<u32>(&name, 3) {
                    Ok(array) => {
                        let now = array.load();
                        assert!(now.iter().all(|x| *x == now[0]), "{now:?}");
                        match array.update(|a| a.iter_mut().for_each(|x| *x += 1)) {
                            Ok(()) => {}
                            Err(Error::Removed { .. }) => {
                                assert!(array.is_removed());
                                let last = array.load();
                                assert!(last.iter().all(|x| *x == last[0]), "{last:?}");
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                    Err(Error::Type { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            } else {
                match store.value_with::<f64>(&name, Define::new().initial(0.5)) {
                    Ok(value) => match value.fetch_add(1.0) {
                        Ok(before) => assert_eq!(before.fract(), 0.5),
                        Err(Error::Removed { .. }) => assert_eq!(value.load().fract(), 0.5),
                        Err(other) => panic!("{other}"),
                    },
                    Err(Error::Type { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            if fastrand::u64(0..3) == 0 {
                match store.remove(&name) {
                    Ok(()) | Err(Error::NotFound { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let children: Vec<_> = (0..3).map(|me| Child::spawn_with(NAME, "fighter", &path, me)).collect();
    children.into_iter().for_each(Child::join);
    let slots = store.slots().unwrap();
    let mut names: Vec<_> = slots.iter().map(|s| s.name().to_owned()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), slots.len(), "no name twice");
    for slot in slots {
        let name = slot.name().to_owned();
        store.remove(&name).unwrap();
        assert!(matches!(store.slot(&name), Err(Error::NotFound { .. })));
    }
}

/// Handles of a removed slot can read the last value; nothing else works.
#[test]
fn a_removed_slot_keeps_its_last_value_and_takes_no_more() {
    if !common::apart("a_removed_slot_keeps_its_last_value_and_takes_no_more") {
        return;
    }
    let store = Store::temporary().unwrap();
    let value = store.value::<u64>("value").unwrap();
    let array = store.array::<u64>("array", 3).unwrap();
    value.store(5).unwrap();
    array.store(&[1, 2, 3]).unwrap();
    // A process that always wants the lock, also at the moment of the removal.
    let begun = array.version();
    let other = os::fork(|| {
        loop {
            match array.set(0, 9) {
                Ok(()) => {}
                Err(Error::Removed { .. }) => return,
                Err(other) => panic!("{other}"),
            }
        }
    });
    until("the other one is at it", || array.version() > begun);
    {
        let _guard = array.lock().unwrap();
        assert!(matches!(store.remove("array"), Err(Error::Deadlock { .. })));
    }
    store.remove("array").unwrap();
    other.join();
    store.remove("value").unwrap();
    assert!(value.is_removed() && array.is_removed());
    assert_eq!((value.load(), array.load()), (5, vec![9, 2, 3]));
    assert_eq!(value.load_versioned().0, 5);
    let refused = [
        value.store(1).unwrap_err(),
        value.lock().unwrap_err(),
        array.set(0, 1).unwrap_err(),
        array.update(|_| ()).unwrap_err(),
        array.lock().unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::Removed { .. }), "{error:?}");
    }
    let text = store.text("value", 30).unwrap();
    text.store("the name is free").unwrap();
    assert_eq!((value.load(), text.load()), (5, "the name is free".into()));
    assert!(value.is_removed() && !text.is_removed());
}

/// A process killed while defining or removing: the slot exists, whole, or it does not. Either
/// way it can be defined, without waiting.
#[test]
fn definers_and_removers_killed_at_random_moments_leave_the_names_usable() {
    if !common::apart("definers_and_removers_killed_at_random_moments_leave_the_names_usable") {
        return;
    }
    let store = Store::temporary().unwrap();
    let begun = store.value::<u64>("begun").unwrap();
    for round in 0..rounds(250, 3_000) as u64 {
        let victim = os::fork(|| {
            begun.store(round + 1).unwrap();
            for n in 0u64.. {
                let name = format!("{}", n % 7);
                let define = Define::new().initial([n; 40]);
                drop(store.array_with::<u64>(&name, 40, define).unwrap());
                store.remove(&name).unwrap();
            }
        });
        until("it works", || begun.load() == round + 1);
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..500)));
        victim.kill();
        victim.reap();
        common::within(Duration::from_secs(1), "defining", || {
            store.value::<u64>(&format!("after {round}")).unwrap().store(round).unwrap();
        });
        for slot in store.slots().unwrap() {
            if let Data::Array(elements) = slot.load() {
                let elements = elements.to_vec::<u64>().unwrap();
                assert_eq!(elements, [elements[0]; 40], "its initial content is whole");
                slot.update(|_| Ok::<_, Error>(())).unwrap();
                let name = slot.name().to_owned();
                store.remove(&name).unwrap();
            }
        }
        // The new slot contains nothing of the half-defined one.
        let name = format!("{}", round % 7);
        assert_eq!(store.array::<u64>(&name, 40).unwrap().load(), [0; 40]);
        store.remove(&name).unwrap();
        if store.info().unwrap().definitions_left < 5_000 {
            break;
        }
    }
    for (round, slot) in store.slots().unwrap().iter().skip(1).enumerate() {
        assert_eq!(slot.name(), format!("after {round}"));
        assert_eq!(slot.load(), Data::from(round as u64));
    }
}

/// The file grows while processes have it open: their handles stay valid, and they see what
/// others define later.
#[test]
fn the_store_grows_while_others_read() {
    const NAME: &str = "the_store_grows_while_others_read";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let grown = store.value::<u64>("grown").unwrap();
        for n in 0..number() {
            let len = 1 + fastrand::usize(0..100_000);
            let array = store.array::<u64>(&format!("grown {n}"), len).unwrap();
            array.store(&vec![n; len]).unwrap();
            grown.store(n + 1).unwrap();
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let old = store.array::<u64>("old", 1_000).unwrap();
    old.store(&[3; 1_000]).unwrap();
    let grown = store.value::<u64>("grown").unwrap();
    let size = store.info().unwrap().size;
    let target = 150;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _finally = common::Finally(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(old.load(), [3; 1_000]);
            }
        });
        let grower = Child::spawn_with(NAME, "grower", &path, target);
        let mut seen = 0;
        while seen < target {
            until("it grows", || grown.load() > seen);
            seen = grown.load();
            let slot = store.slot(&format!("grown {}", seen - 1)).unwrap();
            let Data::Array(elements) = slot.load() else { panic!("an array") };
            assert!(elements.to_vec::<u64>().unwrap().iter().all(|x| *x == seen - 1));
        }
        grower.join();
    });
    assert!(store.info().unwrap().size > size + (16 << 20));
    for n in 0..target {
        let slot = store.slot(&format!("grown {n}")).unwrap();
        let Data::Array(elements) = slot.load() else { panic!("an array") };
        assert!(elements.to_vec::<u64>().unwrap().iter().all(|x| *x == n));
    }
}

/// No two slots share a byte, whatever their sizes: each is filled with its own pattern.
#[test]
fn slots_of_all_sizes_do_not_touch_each_other() {
    let store = Store::temporary().unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut expected = Vec::new();
    for n in 0..400u32 {
        let scalar_type = ScalarType::ALL[rng.usize(0..11)];
        let slot_type = match rng.u8(0..5) {
            0 => SlotType::Value(scalar_type),
            1 => SlotType::Bytes(1 + rng.usize(0..70)),
            2 => SlotType::Array(scalar_type, Shape::from(1 + rng.usize(0..50))),
            3 => SlotType::Buffer(scalar_type, Shape::from(1 + rng.usize(0..5_000))),
            _ => SlotType::Array(scalar_type, Shape::from(1 + rng.usize(0..30_000))),
        };
        let areas = [2, 4, 8][rng.usize(0..3)];
        let slot = store.define(&format!("{n}"), &slot_type, Define::new().areas(areas)).unwrap();
        expected.push((slot, n as u8 | 1));
    }
    for round in 0..3 {
        for (slot, seed) in &expected {
            let fill = seed.wrapping_add(round);
            let content = match slot.slot_type() {
                SlotType::Bytes(capacity) => Data::Bytes(vec![fill; *capacity]),
                SlotType::Value(ScalarType::Bool) => Data::from(fill & 1 == 1),
                SlotType::Value(t) => {
                    let e = slotfile::Elements::from_bytes(*t, vec![fill; t.size()]).unwrap();
                    e.get(0).unwrap().into()
                }
                SlotType::Array(t, shape) | SlotType::Buffer(t, shape) => {
                    let fill = if *t == ScalarType::Bool { fill & 1 } else { fill };
                    let bytes = vec![fill; t.size() * shape.len()];
                    slotfile::Elements::from_bytes(*t, bytes).unwrap().into()
                }
                other => panic!("{other}"),
            };
            slot.store(content).unwrap();
        }
        for (slot, seed) in &expected {
            let fill = seed.wrapping_add(round);
            let all = |bytes: &[u8]| bytes.iter().all(|b| *b == fill || *b == fill & 1);
            match slot.load() {
                Data::Bytes(bytes) => assert!(all(&bytes), "{}", slot.name()),
                Data::Array(elements) => assert!(all(elements.as_bytes()), "{}", slot.name()),
                _ => {}
            }
        }
    }
}
