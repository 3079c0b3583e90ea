//! Opening, listing, reading and updating any file, however damaged, ends in a clear error or a
//! working store: never in a panic, a hang, or wrong values.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common;
use crate::common::raw::{self, Raw};
use crate::common::{Child, folder, long, path, role, rounds, store_in, within};
use slotfile::{Data, Define, Error, OpenOptions, Store};

/// Slots and their contents. Each descriptor has one line.
fn contents() -> Vec<(&'static str, Data)> {
    vec![
        ("value", Data::from(0x0123_4567_89ab_cdef_u64)),
        ("array", Data::from([1.5f64, -2.5, 3.5])),
        ("text", Data::from("some text")),
        ("bytes", Data::Bytes(vec![7; 20])),
        ("large", Data::from(vec![0x5a_u8; 6_000])),
    ]
}

/// A small store with these slots, closed.
fn pristine(path: &Path) {
    let mut options = OpenOptions::new();
    options.create_new(true).max_slots(16).max_size(64 << 20).sync_every(None);
    let store = options.open(path).unwrap();
    store.value::<u64>("value").unwrap();
    store.array::<f64>("array", 3).unwrap();
    store.text("text", 30).unwrap();
    store.bytes("bytes", 30).unwrap();
    store.array_with::<u8>("large", 6_000, Define::new().areas(4)).unwrap();
    for (name, content) in contents() {
        store.slot(name).unwrap().store(content).unwrap();
    }
    store.sync().unwrap();
}

pub(super) fn open(path: &Path) -> Result<Store, Error> {
    // No syncs: the sync thread would have an entry of its own.
    OpenOptions::new().lock_timeout(Some(Duration::from_millis(50))).sync_every(None).open(path)
}

/// Checks that an error is one line that begins with the file.
fn assert_clear(path: &Path, error: &Error) {
    let message = error.to_string();
    assert!(message.starts_with(&path.display().to_string()), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

/// Errors that say that the file is damaged, or not a store.
pub(super) fn assert_found(path: &Path, error: &Error) {
    assert_clear(path, error);
    let found = matches!(
        error,
        Error::NotAStore { .. }
            | Error::Version { .. }
            | Error::Corrupt { .. }
            | Error::Truncated { .. }
    );
    assert!(found, "{error:?}");
}

/// Does every operation with a store. Each result is an error or, if `strict` says that no content
/// was damaged, correct.
fn use_it(path: &Path, strict: bool) -> Result<(), Error> {
    let store = open(path).inspect_err(|e| assert_found(path, e))?;
    let reader = Store::open_read_only(path).inspect_err(|e| assert_found(path, e))?;
    let clear = |e: &Error| assert_clear(path, e);
    let info = store.info().inspect_err(clear).map(drop);
    let listed = reader.slots().inspect_err(clear).map(|slots| {
        for slot in slots {
            slot.load();
            slot.version();
        }
    });
    let each = reader
        .list("*")
        .and_then(|mut list| list.try_for_each(|slot| slot?.try_load_versioned().map(drop)));
    assert_eq!(each.is_ok(), listed.is_ok(), "{each:?}, {listed:?}");
    let mut outcome = info.and(listed);
    let mut kept = Vec::new();
    for (name, content) in contents() {
        match store.slot(name).inspect_err(clear) {
            Ok(slot) => {
                let loaded = slot.load();
                assert!(!strict || loaded == content, "{name}: {loaded:?}");
                let stored = slot.store(content.clone()).inspect_err(clear);
                if stored.is_ok() {
                    assert_eq!(slot.load(), content);
                    kept.push((slot, content));
                }
                outcome = outcome.and(stored);
            }
            Err(error) => outcome = Err(error),
        }
    }
    // A new slot must not overlap others.
    for n in 0..3 {
        let new =
            store.array_with::<u64>(&format!("new {n}"), 700, Define::new().initial([!n; 700]));
        outcome = outcome.and(new.inspect_err(clear).map(|new| {
            assert_eq!(new.load(), [!n; 700]);
            assert!(new.fetch_add(0, 1).is_ok());
        }));
    }
    for (slot, content) in kept {
        assert_eq!(slot.load(), content, "{:?} was overwritten", slot.name());
        assert!(slot.is_removed() || slot.store(content).is_ok());
    }
    for name in ["value", "new 0"] {
        outcome = outcome.and(store.remove(name).inspect_err(clear));
    }
    outcome
}

/// Damages a copy of the pristine file, and uses it in all ways, within a time limit: each of a
/// few locks may cost 50 ms.
fn with_damage(folder: &Path, strict: bool, damage: impl FnOnce(&Raw)) -> Result<(), Error> {
    let original = folder.join("pristine");
    if !original.exists() {
        pristine(&original);
    }
    let copy = folder.join("damaged");
    raw::copy(&original, &copy);
    damage(&Raw::open(&copy));
    within(Duration::from_secs(5), "using it", || use_it(&copy, strict))
}

#[test]
fn an_undamaged_copy_is_used_without_errors() {
    with_damage(folder().path(), true, |_| {}).unwrap();
}

/// Each byte of the structure, one at a time: a flip is found, or it changes nothing.
#[test]
fn row_28_each_flipped_byte_of_the_structure_is_refused_or_harmless() {
    let folder = folder();
    let original = folder.path().join("pristine");
    pristine(&original);
    let raw = Raw::open(&original);
    let header = (0..152).chain([152, 1_000, 4_091]).chain(4_092..4_096);
    let live_header = raw::LIVE_HEADER..raw::LIVE_HEADER + 8 * 40;
    let table = raw::TABLE..raw::TABLE + 2 * raw::TABLE_ENTRY;
    let directory = raw.directory()..raw.line(5);
    let places: Vec<u64> =
        header.chain(live_header.clone()).chain(table).chain(directory.clone()).collect();
    for at in places {
        let masks = [0xff, 1 << (at % 8), 1 << ((at + 3) % 8)];
        let few = if live_header.contains(&at) { 2 } else { 1 };
        for mask in &masks[..if long() { 3 } else { few }] {
            let result = with_damage(folder.path(), true, |raw| raw.flip(at, *mask));
            // Under a CRC: every flip is found.
            if at < 4_096 || directory.contains(&at) {
                assert!(result.is_err(), "byte {at:#x} ^ {mask:#x} was not noticed");
            }
            // And no flip makes a slot disappear.
            let lost = matches!(result, Err(Error::NotFound { .. }));
            assert!(!lost, "byte {at:#x} ^ {mask:#x}: {result:?}");
            if at < 4_096 {
                assert_found(&folder.path().join("damaged"), &result.unwrap_err());
            }
        }
    }
}

/// The index has no CRC: a name that it does not lead to is found through the directory.
#[test]
fn row_28_no_flipped_byte_of_the_index_hides_its_slot() {
    let folder = folder();
    let original = folder.path().join("pristine");
    pristine(&original);
    let raw = Raw::open(&original);
    let mut found = 0;
    let (index, words) = (raw.index(), raw.index_len() / 8);
    // In the normal run, words that lead to slots, and those beside them.
    let is_near = |at: &u64| {
        let word = (at - index) / 8;
        [word, word + 1, word + words - 1].iter().any(|w| raw.word(index + 8 * (w % words)) != 0)
    };
    for at in (index..index + 8 * words).filter(|at| long() || is_near(at)) {
        let mask = 1 << (at % 8);
        with_damage(folder.path(), true, |raw| raw.flip(at, mask)).unwrap();
        raw::copy(&original, &folder.path().join("damaged"));
        Raw::open(&folder.path().join("damaged")).flip(at, mask);
        let store = open(&folder.path().join("damaged")).unwrap();
        found += usize::from(!store.check().unwrap().is_ok());
    }
    assert!(found > 20, "check found {found} of them");
}

/// The ends of the allocation have no CRC either: after each bit flip, a definition is refused, or
/// all slots stay intact, the new one too, now and after a sync and a restart.
#[test]
fn row_28_no_flipped_bit_of_the_allocation_ends_gives_out_space_that_is_taken() {
    let folder = folder();
    let mut refused = 0;
    for bit in (0..8 * 64).filter(|bit| long() || bit % 3 == 0 || bit / 64 < 3) {
        let copy = copy_of_pristine(folder.path());
        Raw::open(&copy).flip(raw::ENDS + bit / 8, 1 << (bit % 8));
        let Ok(store) = open(&copy).inspect_err(|e| assert_found(&copy, e)) else {
            refused += 1;
            continue;
        };
        let new: Vec<u16> = vec![9_999; 300];
        let define = Define::new().initial(new.clone());
        match store.array_with::<u16>("new", 300, define) {
            Err(error) => {
                assert_found(&copy, &error);
                refused += 1;
            }
            Ok(_) => {
                store.value_with::<u64>("one more", Define::new().initial(7u64)).unwrap();
                store.sync().unwrap();
                let compare = |store: &Store| {
                    for (name, content) in contents() {
                        assert_eq!(store.slot(name).unwrap().load(), content, "bit {bit}");
                    }
                    assert_eq!(store.array::<u16>("new", 300).unwrap().load(), new, "bit {bit}");
                    assert_eq!(store.value::<u64>("one more").unwrap().load(), 7, "bit {bit}");
                };
                compare(&store);
                drop(store);
                Raw::open(&copy).restart();
                compare(&open(&copy).unwrap());
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

/// Ends that have all that is taken before them, and lead to it all the same: a slot's among the
/// copies.
#[test]
fn row_28_ends_that_lead_to_what_is_taken_are_refused() {
    let folder = folder();
    let copy = copy_of_pristine(folder.path());
    let raw = Raw::open(&copy);
    let (live, copies) = (raw::ENDS + 8, raw.word(raw.line(4) + 64));
    assert!(copies > raw.word(live), "copies are in a later run");
    raw.set_word(live, copies);
    let store = open(&copy).unwrap();
    let error = store.array::<u16>("new", 300).unwrap_err();
    assert_found(&copy, &error);
    assert!(error.to_string().contains("space that is taken"), "{error}");
    drop(store);
    raw.restart();
    let store = open(&copy).unwrap();
    for (name, content) in contents() {
        assert_eq!(store.slot(name).unwrap().load(), content);
    }
}

/// A handle that was opened before the damage keeps working, but damage is reported to it, too.
#[test]
fn row_28_damage_of_the_index_is_found_by_who_knows_the_names() {
    let folder = folder();
    let copy = copy_of_pristine(folder.path());
    let store = open(&copy).unwrap();
    for _ in 0..2 {
        contents().iter().for_each(|(name, _)| drop(store.slot(name).unwrap()));
    }
    assert!(store.check().unwrap().is_ok());
    let raw = Raw::open(&copy);
    let index = (raw.index()..raw.index() + raw.index_len()).step_by(8);
    index.for_each(|at| raw.set_word(at, 0));
    for (name, content) in contents() {
        assert_eq!(store.slot(name).unwrap().load(), content);
    }
    let problems = format!("{:?}", store.check().unwrap());
    assert_eq!(problems.matches("the index does not lead to it").count(), 5, "{problems}");
    // An entirely damaged directory leads to none of them.
    raw.set_word(raw::COUNT, 7);
    assert_found(&copy, &store.slot("value").unwrap_err());
}

/// The ends of the allocation have no CRC: earlier slots are correct all the same, and later
/// definitions are refused, or work.
#[test]
fn rubbish_in_the_allocation_ends_harms_no_old_slot_that_is_read() {
    let folder = folder();
    for word in 0..8 {
        for rubbish in [0, 1, 64, 1 << 20, 1 << 21, 5 << 20, 64 << 20, 1 << 45, 1 << 63, !0] {
            let copy = copy_of_pristine(folder.path());
            Raw::open(&copy).set_word(raw::ENDS + 8 * word, rubbish);
            if let Ok(store) = open(&copy).inspect_err(|e| assert_found(&copy, e)) {
                for (name, content) in contents() {
                    assert_eq!(store.slot(name).unwrap().load(), content);
                }
            }
            within(Duration::from_secs(5), "using it", || _ = use_anything(&copy));
        }
    }
}

#[test]
fn row_24_a_truncated_file_is_refused_or_its_slots_are() {
    let folder = folder();
    let original = folder.path().join("pristine");
    pristine(&original);
    let raw = Raw::open(&original);
    let len = raw.len();
    let mut cuts = vec![0, 1, 7, 8, 152, 4_095, 4_096, raw::TABLE, raw.directory(), len - 1];
    cuts.extend((0..6).map(|n| n << 20));
    cuts.extend((0..5).flat_map(|line| [raw.slot(line), raw.slot(line) + 16]));
    cuts.extend((0..rounds(20, 500)).map(|_| fastrand::u64(0..len)));
    for cut in cuts.into_iter().filter(|cut| *cut < len) {
        let result = with_damage(folder.path(), false, |raw| raw.cut(cut));
        if cut <= raw.slot(0) {
            let error = result.unwrap_err();
            let said = matches!(&error, Error::Truncated { have, need, .. } if have < need);
            assert!(said || cut < 8, "cut to {cut}: {error}");
        }
    }
}

#[test]
fn row_29_offsets_out_of_the_store_are_refused() {
    let folder = folder();
    let runs = {
        let original = folder.path().join("pristine");
        pristine(&original);
        Raw::open(&original).word(144)
    };
    let bad = [0, 64, runs - 64, runs + 8, (64 << 20) - 8, 64 << 20, 1 << 62, !0, !63];
    for offset in bad {
        for line in 0..5 {
            let result = with_damage(folder.path(), true, |raw| {
                raw.set_word(raw.line(line) + 48, offset);
                raw.seal_line(line);
            });
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{offset:#x}: {error:?}");
        }
    }
    // The other numbers of a descriptor: lines, kind, scalar, areas, rank, name's length.
    for at in [4, 5, 6, 7, 8] {
        for byte in [0, 3, 7, 12, 33, 0x80, 0xff] {
            let result = with_damage(folder.path(), false, |raw| {
                raw.write(raw.line(4) + at, &[byte]);
                raw.seal_line(4);
            });
            drop(result);
        }
    }
    for dim in [0, 1 << 32, 1 << 62, !0] {
        let result = with_damage(folder.path(), true, |raw| {
            raw.set_word(raw.line(4) + 16, dim);
            raw.seal_line(4);
        });
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{dim:#x}: {result:?}");
    }
    // A header with a correct CRC and wrong numbers.
    for at in (40..176).step_by(8) {
        for word in [0, 1, 64, 1 << 40, 1 << 62, !0] {
            let mut changed = true;
            let result = with_damage(folder.path(), true, |raw| {
                changed = raw.word(at) != word;
                raw.set_word(at, word);
                raw.seal_header();
            });
            // 48: flags, of which only one is defined.
            assert!(
                at == 48 && word <= 1 || result.is_err() || !changed,
                "header {at}: {word:#x} was not noticed"
            );
        }
    }
}

#[test]
fn row_33_another_version_is_refused_with_both_versions_named() {
    let folder = folder();
    for (major, minor) in [(0u32, 1u32), (1, 2), (7, 3), (u32::MAX, 0), (1 << 24, 0)] {
        for seal in [true, false] {
            let result = with_damage(folder.path(), true, |raw| {
                raw.write(8, &major.to_le_bytes());
                raw.write(12, &minor.to_le_bytes());
                if seal {
                    raw.seal_header();
                }
            });
            match result {
                Err(error @ Error::Version { found, .. }) => {
                    assert_eq!(found, (major, minor));
                    let message = error.to_string();
                    assert!(message.contains(&format!("format {major}.{minor}")), "{message}");
                    assert!(message.contains("reads 1.0 to 1.1"), "{message}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // Written by a machine of the other byte order.
    let result = with_damage(folder.path(), true, |raw| {
        raw.write(8, &1u32.to_be_bytes());
        raw.write(12, &0u32.to_be_bytes());
        raw.seal_header();
    });
    assert!(matches!(result, Err(Error::Version { .. })), "{result:?}");
}

/// An owner's number + 1, as it stands in a control word; with T and W.
pub(super) fn control(owner: u64, flags: u64) -> u64 {
    5 << 17 | owner << 2 | flags
}

const REMOVED: u64 = 32_767;

/// Control words of a slot that is locked, or in a transaction, by an owner that does not exist.
#[test]
fn row_31_rubbish_in_control_words_is_settled() {
    let folder = folder();
    let path = store_in(&folder);
    for attached in [false, true] {
        for owner in [0, 1, 2, 5, 4_095, 4_096, 4_097, 8_188, 8_192, 16_384, 20_000, 24_576, 32_766]
        {
            for flags in 0..4 {
                std::fs::remove_file(&path).unwrap_or_default();
                pristine(&path);
                // While a process is attached, the store is not recovered as a whole.
                let reader = attached.then(|| Store::open_read_only(&path).unwrap());
                let raw = Raw::open(&path);
                for line in 0..5 {
                    raw.set_word(raw.control(line), control(owner, flags));
                }
                raw.set_word(raw::DIRECTORY_LOCK + 8, control(owner, flags));
                within(Duration::from_secs(3), "using it", || {
                    let store = open(&path).unwrap();
                    let mut errors = Vec::new();
                    for (name, content) in contents() {
                        let slot = store.slot(name).unwrap();
                        slot.load();
                        errors.extend(slot.store(content.clone()).err());
                        if errors.is_empty() {
                            assert_eq!(slot.load(), content);
                        }
                    }
                    errors.extend(store.value::<u8>("new").err());
                    // This thread's own entry: a lock that it does not remember is reported at
                    // once. Those of others are taken over.
                    let own = owner == 1 || owner == 4_097; // with L
                    let told = errors.iter().all(|e| matches!(e, Error::Deadlock { .. }));
                    assert!(errors.is_empty() || own && told, "owner {owner}: {errors:?}");
                });
                drop(reader);
            }
        }
    }
    // Removed for good: only reads work, and the name is free.
    std::fs::remove_file(&path).unwrap();
    pristine(&path);
    let raw = Raw::open(&path);
    raw.set_word(raw.control(0), control(REMOVED, 3));
    let store = open(&path).unwrap();
    assert!(matches!(store.slot("value"), Err(Error::NotFound { .. })));
    store.value::<i8>("value").unwrap();
}

#[test]
fn row_31_rubbish_in_the_process_table_is_settled() {
    const NAME: &str = "row_31_rubbish_in_the_process_table_is_settled";
    if role().is_some() {
        let store = open(&path()).unwrap();
        let array = store.array::<f64>("array", 3).unwrap();
        array.fetch_add(0, 1.0).unwrap();
        drop(store.value::<u64>("value").unwrap().lock().unwrap());
        store.info().unwrap();
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    for attached in [false, true] {
        for word in [Some(1), Some(2), Some(3), Some(!0), None] {
            std::fs::remove_file(&path).unwrap_or_default();
            pristine(&path);
            let reader = attached.then(|| Store::open_read_only(&path).unwrap());
            let raw = Raw::open(&path);
            for entry in 0..4_096 {
                let at = raw::TABLE + entry * raw::TABLE_ENTRY;
                let mut bytes = [0; raw::TABLE_ENTRY as usize];
                bytes.fill_with(|| fastrand::u8(..));
                raw.write(at, &bytes);
                word.inspect(|word| raw.set_word(at, *word));
            }
            // And slots that name entries of it, in committed transactions, too.
            for line in 0..5 {
                raw.set_word(raw.control(line), control(line * 1_000 + 7, line % 4));
            }
            within(Duration::from_secs(10), "using it", || {
                let child = Child::spawn(NAME, "user", &path);
                let store = open(&path).unwrap();
                for (name, content) in contents() {
                    store.slot(name).unwrap().store(content).unwrap();
                }
                child.join();
                for opener in store.info().unwrap().open_by {
                    assert_eq!(opener.pid, std::process::id());
                }
            });
            drop(reader);
        }
    }
}

/// A text with bytes, or a length, that the library does not write.
#[test]
fn text_that_is_not_utf_8_is_read_lossily() {
    let folder = folder();
    let path = store_in(&folder);
    pristine(&path);
    let store = open(&path).unwrap();
    let (text, bytes) = (store.text("text", 30).unwrap(), store.bytes("bytes", 30).unwrap());
    let raw = Raw::open(&path);
    let all = raw.bytes(raw.slot(2), 512);
    let at = raw.slot(2) + all.windows(9).position(|w| w == b"some text").unwrap() as u64;
    raw.write(at, b"\xff\xfe");
    assert_eq!(text.load(), "\u{fffd}\u{fffd}me text");
    assert_eq!(store.slot("text").unwrap().load(), Data::from("\u{fffd}\u{fffd}me text"));
    // A length beyond the capacity counts as the capacity.
    for length in [31, 1 << 20, 1 << 40, !0] {
        raw.set_word(at - 8, length);
        assert_eq!(text.load().chars().count(), 30);
    }
    raw.set_word(at - 8, 0);
    assert_eq!(text.load(), "");
    text.store("whole again").unwrap();
    assert_eq!((text.load(), bytes.load()), ("whole again".into(), vec![7; 20]));
}

/// Bytes of an array of bool that are neither 0 nor 1.
#[test]
fn any_byte_reads_as_a_bool() {
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let (array, value) =
        (store.array::<bool>("array", 5).unwrap(), store.value::<bool>("value").unwrap());
    let raw = Raw::open(&path);
    raw.write(raw.slot(0) + 64, &[0, 1, 2, 0x80, 0xff]);
    raw.set_word(raw.slot(1), 0xabcd_ef00);
    assert_eq!(array.load(), [false, true, true, true, true]);
    assert!(array.fetch_xor(2, true).unwrap());
    assert!(!value.load(), "what lies beyond its byte is not part of it");
}

/// A copy of a store that is made once.
pub(super) fn copy_of_pristine(folder: &Path) -> PathBuf {
    static PRISTINE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let original = PRISTINE.get_or_init(|| {
        let folder = common::folder();
        pristine(&folder.path().join("pristine"));
        folder
    });
    let copy = folder.join("damaged");
    raw::copy(&original.path().join("pristine"), &copy);
    copy
}

/// As `use_it`, but without checks that stored content is kept, since damaged slots may overlap.
pub(super) fn use_anything(path: &Path) -> Result<(), Error> {
    let store = open(path).inspect_err(|e| assert_clear(path, e))?;
    let clear = |e: &Error| assert_clear(path, e);
    let _ = store.info().inspect_err(clear);
    for slot in store.slots().inspect_err(clear).unwrap_or_default() {
        let content = slot.load();
        let _ = slot.load_versioned();
        let _ = slot.store(content).inspect_err(clear);
        let _ = slot.lock().map(drop).inspect_err(clear);
    }
    for (name, content) in contents() {
        let _ = store.slot(name).and_then(|slot| slot.store(content)).inspect_err(clear);
    }
    for n in 0..3u64 {
        let _ = store.array::<u64>(&format!("new {n}"), 700).inspect_err(clear);
    }
    let _ = store.remove("array").inspect_err(clear);
    let _ = store.slots().inspect_err(clear);
    Ok(())
}
