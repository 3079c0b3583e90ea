//! One flipped bit anywhere in the live area of a store that has been synced: it is refused, or
//! found by `check`, or it changes nothing, neither now nor after a definition, a sync and a
//! restart. And `check` finds nothing where nothing is wrong, whatever others do meanwhile.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::raw::{self, Raw};
use common::state::State;
use common::{Finally, folder_in_memory, long, rounds};
use slotfile::{Define, Error, OpenOptions, Recovery};

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.max_slots(16).max_size(32 << 20).sync_every(None);
    options.lock_timeout(Some(Duration::from_millis(10)));
    options
}

/// Slots of each kind, updated a few times so that areas have stale ranges; one removed.
fn pristine(path: &Path) {
    let store = options().create_new(true).open(path).unwrap();
    store.value_with::<u64>("balance", Define::new().initial(1_000u64)).unwrap();
    store.value::<bool>("gone").unwrap();
    store.remove("gone").unwrap();
    let array = store.array::<u16>("array", 20).unwrap();
    let many = store.array_with::<u8>("four areas", 90, Define::new().areas(4)).unwrap();
    let large = store.array::<u32>("large", 300).unwrap();
    store.text("text", 30).unwrap().store("some text").unwrap();
    for n in 0..5u8 {
        array.set(usize::from(n), 7 + u16::from(n)).unwrap();
        many.set(usize::from(n) * 9, n).unwrap();
        large.set(usize::from(n) * 50, n.into()).unwrap();
    }
    store.sync().unwrap();
}

/// What came of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Refused,
    Found,
    /// It was taken for another boot's store, and said so.
    Restored,
    Harmless,
}

/// Panics if the flip is none of these.
fn judge(path: &Path, expected: &State, what: &str) -> Outcome {
    let store = match options().open(path) {
        Ok(store) => store,
        // Nor one that nobody can open, and that says something else than that it is damaged.
        Err(
            error @ (Error::LockTimeout { .. } | Error::NotFound { .. } | Error::Detached { .. }),
        ) => {
            panic!("{what}: {error}")
        }
        Err(_) => return Outcome::Refused,
    };
    if !store.check().unwrap().is_ok() {
        return Outcome::Found;
    }
    assert!(State::of(&store) == *expected, "{what}: {:?}", State::of(&store));
    let restored = matches!(store.recovery(), Recovery::Restored { .. });
    let with_new = expected.with("new", 77u64);
    match store.value_with::<u64>("new", Define::new().initial(77u64)) {
        Ok(_) => {}
        Err(Error::Corrupt { .. } | Error::Full { .. } | Error::LockTimeout { .. }) => {
            return Outcome::Refused;
        }
        Err(error) => panic!("{what}: {error}"),
    }
    assert!(State::of(&store) == with_new, "{what}: {:?}", State::of(&store));
    // Each area becomes the current one, and has of the others what is not stored.
    let updates = if what.starts_with("slot") { 4 } else { 0 };
    for _ in 0..updates {
        let updated = store
            .array::<u16>("array", 20)
            .and_then(|a| a.set(19, a.get(19)?))
            .and_then(|()| store.array::<u8>("four areas", 90))
            .and_then(|a| a.set(89, a.get(89)?))
            .and_then(|()| store.array::<u32>("large", 300))
            .and_then(|a| a.set(299, a.get(299)?));
        match updated {
            Ok(()) => assert!(State::of(&store) == with_new, "{what}: {:?}", State::of(&store)),
            Err(Error::Corrupt { .. } | Error::LockTimeout { .. }) => return Outcome::Refused,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    match store.sync() {
        Ok(()) => {}
        Err(Error::Corrupt { .. } | Error::LockTimeout { .. }) => return Outcome::Refused,
        Err(error) => panic!("{what}: {error}"),
    }
    drop(store);
    Raw::open(path).restart();
    let store = options().open(path).unwrap();
    assert!(State::of(&store) == with_new, "{what}, restarted: {:?}", State::of(&store));
    assert!(store.check().unwrap().is_ok(), "{what}, restarted");
    if restored { Outcome::Restored } else { Outcome::Harmless }
}

#[test]
fn row_28_no_flipped_bit_of_the_live_area_is_silent() {
    let folder = folder_in_memory();
    let (original, copy) = (folder.path().join("original"), folder.path().join("copy"));
    pristine(&original);
    let expected = State::of(&options().read_only(true).open(&original).unwrap());
    let raw = Raw::open(&original);
    let lines = 6;
    let mut regions = vec![
        ("live header", raw::LIVE_HEADER, 448, 1),
        ("process table", raw::TABLE, 3 * raw::TABLE_ENTRY, 3),
        ("index", raw.index(), raw.index_len(), 3),
        ("directory", raw.directory(), lines * raw::LINE, 7),
    ];
    // Control word, stale ranges, and the areas.
    regions
        .extend((0..lines).map(|line| {
            ("slot", raw.slot(line), [64, 64, 256, 512, 2_500, 256][line as usize], 5)
        }));
    let mut seen = std::collections::BTreeMap::new();
    for (region, from, len, step) in regions {
        let step = if long() { 1 } else { step * 13 };
        for bit in (0..8 * len).step_by(step) {
            raw::copy(&original, &copy);
            Raw::open(&copy).flip(from + bit / 8, 1 << (bit % 8));
            let what = format!("{region}: byte {} bit {}", bit / 8, bit % 8);
            *seen.entry((region, judge(&copy, &expected, &what))).or_insert(0) += 1;
        }
    }
    println!("{seen:?}");
    assert!(seen[&("slot", Outcome::Found)] > 40, "{seen:?}");
    assert!(seen[&("index", Outcome::Found)] > 2, "{seen:?}");
}

/// Versions only grow: one that is before that of the copy was not that of an update.
#[test]
fn row_28_a_version_before_that_of_its_copy_is_found() {
    let folder = folder_in_memory();
    let path = folder.path().join("state.slots");
    pristine(&path);
    let store = options().open(&path).unwrap();
    let balance = store.value::<u64>("balance").unwrap();
    balance.fetch_add(1).unwrap();
    store.sync().unwrap();
    assert!(store.check().unwrap().is_ok());
    let raw = Raw::open(&path);
    let at = raw.control_of("balance");
    raw.set_word(at, raw.word(at) - (1 << 17));
    let problems = store.check().unwrap().problems;
    assert!(problems.iter().any(|p| p.slot.as_deref() == Some("balance")), "{problems:?}");
}

/// Others update, define, remove, sync meanwhile; from here, and by a second, read-only opener.
#[test]
fn check_finds_nothing_while_others_write() {
    let folder = folder_in_memory();
    let path = folder.path().join("state.slots");
    let mut options = OpenOptions::new();
    options.max_slots(4_000).max_size(64 << 20).sync_every(None);
    let store = options.clone().create(true).open(&path).unwrap();
    let (hits, array) =
        (store.value::<u64>("hits").unwrap(), store.array::<u64>("a", 700).unwrap());
    let text = store.text("text", 100).unwrap();
    let stop = AtomicBool::new(false);
    let until_stopped = |f: &mut dyn FnMut(u64)| {
        (0..).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(f);
    };
    std::thread::scope(|scope| {
        let _stop = Finally(&stop);
        scope.spawn(|| {
            until_stopped(&mut |n| {
                hits.fetch_add(1).unwrap();
                array.set(n as usize % 700, n).unwrap();
            })
        });
        scope.spawn(|| {
            until_stopped(&mut |n| {
                store
                    .transaction(|t| {
                        t.store(&hits, n)?;
                        t.store(&text, "ä".repeat(n as usize % 50).as_str())
                    })
                    .unwrap();
            })
        });
        scope.spawn(|| {
            until_stopped(&mut |n| {
                if n < 1_500 {
                    store.value::<u32>("again").unwrap();
                    store.remove("again").unwrap();
                    store.array::<u8>(&format!("new {n}"), 100).unwrap();
                }
                store.sync().unwrap();
            })
        });
        let reader = OpenOptions::new().read_only(true).open(&path).unwrap();
        for _ in 0..rounds(60, 2_000) {
            for opener in [&store, &reader] {
                let check = opener.check().unwrap();
                assert!(check.is_ok(), "{check:?}");
            }
        }
    });
}
