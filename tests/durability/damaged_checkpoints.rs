//! A damaged checkpoint: after a restart, the store is refused, or it is exactly the last
//! acknowledged sync. It is never silently an older one, and there is no panic or hang.
//! `check` finds the same damage while the store is in use.

use std::path::Path;
use std::time::Duration;

use crate::common;
use crate::common::raw::{Image, Raw};
use crate::common::{long, rounds, store_in, within};
use proptest::prelude::*;
use slotfile::{Data, Error, OpenOptions, Recovery, Store};

/// A place where a flush costs nothing, if there is one: the flips stand for what the disk
/// holds, and each of thousands of openings flushes.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| common::folder())
}

/// The slots' contents in round `n`: small slots that share a segment, and a large one of two
/// segments, of which only the second changes from round to round.
fn contents(n: u8) -> Vec<(&'static str, Data)> {
    let mut large = vec![0x5a_u8; 70_000];
    large[69_000] = n;
    vec![
        ("value", Data::from(u64::from(n) + 1)),
        ("array", Data::from([f64::from(n), -2.5, 3.5])),
        ("text", Data::from("x".repeat(usize::from(n)).as_str())),
        ("bytes", Data::Bytes(vec![n; 20])),
        ("large", Data::from(large)),
    ]
}

fn open(path: &Path) -> Result<Store, Error> {
    let mut options = OpenOptions::new();
    options.lock_timeout(Some(Duration::from_millis(200))).sync_every(None);
    options.open(path)
}

fn fill(store: &Store, n: u8) {
    for (name, content) in contents(n) {
        store.slot(name).unwrap().store(content).unwrap();
    }
}

/// The last acknowledged sync of [`prepared`]: three after that of the empty store.
const LAST: u64 = 4;

/// A store that was synced three times, then changed, then went through a restart. Rounds 1 to 3
/// are in syncs, of which 2 and 3 still have a record; round 4 is only in the live area.
fn prepared(path: &Path) -> Image {
    let mut options = OpenOptions::new();
    options.create_new(true).max_slots(16).max_size(64 << 20).sync_every(None);
    let store = options.open(path).unwrap();
    store.value::<u64>("value").unwrap();
    store.array::<f64>("array", 3).unwrap();
    store.text("text", 30).unwrap();
    store.bytes("bytes", 30).unwrap();
    store.array::<u8>("large", 70_000).unwrap();
    for n in 1..=3 {
        fill(&store, n);
        store.sync().unwrap();
    }
    fill(&store, 4);
    drop(store);
    Raw::open(path).restart();
    Image::of(path)
}

/// Opens the store after its restart. If it opens, it must be as of the last sync, and intact;
/// if not, one line that begins with the file must say that it is damaged. Returns whether a
/// newer sync was dropped, or may have been.
fn last_sync_or_refused(path: &Path) -> Result<bool, Error> {
    let store = within(Duration::from_secs(5), "opening", || open(path)).inspect_err(|e| {
        let message = e.to_string();
        assert!(matches!(e, Error::Corrupt { .. }), "{e:?}");
        assert!(message.starts_with(&path.display().to_string()), "{message}");
        assert!(!message.contains('\n'), "{message}");
    })?;
    let Recovery::Restored { epoch: LAST, newer_dropped } = store.recovery() else {
        panic!("{:?}", store.recovery());
    };
    for (name, content) in contents(3) {
        assert!(store.slot(name).unwrap().load() == content, "{name} is not as it was synced");
    }
    assert_eq!(store.check().unwrap().problems, []);
    Ok(newer_dropped)
}

/// All bytes worth flipping, with the part they belong to.
fn places(raw: &Raw) -> Vec<(&'static str, u64)> {
    let newest = raw.newest_record();
    let mut places = Vec::new();
    let mut add = |what, from: u64, to: u64, step: usize| {
        places.extend((from..to).step_by(step).map(|at| (what, at)));
    };
    add("mark", raw.mark(), raw.mark() + 16, 1);
    for number in [newest, 1 - newest] {
        let at = raw.record(number);
        let what = if number == newest { "record" } else { "older record" };
        add(what, at, at + raw.record_used(number), 1);
    }
    for copy in raw.copies_in_use(newest) {
        let what = if copy.slot_line.is_some() { "slot" } else { "directory" };
        add(what, copy.head, copy.head + 64, 1);
        let step = if copy.len > 4_096 && !long() { 997 } else { 1 };
        add(what, copy.data, copy.data + copy.len, step);
        add(what, copy.data + copy.len - 1, copy.data + copy.len, 1);
    }
    places
}

#[test]
fn row_30_each_flipped_byte_of_a_checkpoint_is_refused_or_harmless_after_a_restart() {
    let folder = folder();
    let path = store_in(&folder);
    let image = prepared(&path);
    last_sync_or_refused(&path).unwrap();
    image.put(&path);
    let places = places(&Raw::open(&path));
    assert!(places.len() > 1_000, "only {} bytes of it", places.len());
    for (what, at) in places {
        for mask in [0xff, 1 << (at % 8)] {
            if mask != 0xff && !long() && at % 4 != 0 {
                continue;
            }
            image.put(&path);
            Raw::open(&path).flip(at, mask);
            let result = last_sync_or_refused(&path);
            let context = || format!("{what}, byte {at:#x} ^ {mask:#x}: {result:?}");
            match what {
                // Not needed as long as the newest record is intact.
                "mark" => assert!(matches!(result, Ok(false)), "{}", context()),
                // Which sync the record belonged to is unknown.
                "older record" => assert!(matches!(result, Ok(true)), "{}", context()),
                "slot" => {
                    let named = matches!(&result, Err(Error::Corrupt { slot: Some(_), .. }));
                    assert!(named, "{}", context());
                }
                _ => assert!(result.is_err(), "{}", context()),
            }
        }
    }
}

/// Two bytes at once: then the mark says less, and a damaged record must not be taken for that
/// of an interrupted sync.
#[test]
fn row_30_each_pair_of_a_damaged_mark_and_a_damaged_record_or_copy_is_refused() {
    let folder = folder();
    let path = store_in(&folder);
    let image = prepared(&path);
    let places = places(&Raw::open(&path));
    let (mark, other): (Vec<_>, Vec<_>) = places.into_iter().partition(|(what, _)| *what == "mark");
    assert_eq!(mark.len(), 16);
    let step = if long() { 1 } else { 7 };
    for (i, (what, at)) in other.into_iter().step_by(step).enumerate() {
        for (_, mark) in mark.iter().skip(i % step).step_by(step) {
            image.put(&path);
            let raw = Raw::open(&path);
            raw.flip(at, 1 << (i % 8));
            raw.flip(*mark, 1 << (mark % 8));
            let result = last_sync_or_refused(&path);
            assert!(result.is_err(), "mark {mark:#x}, {what} {at:#x}: {result:?}");
        }
    }
}

/// A power cut may lose the mark. Without it, a damaged newest record cannot be told from an
/// interrupted sync: the store returns to the sync before, and says so.
#[test]
fn row_30_with_the_mark_lost_and_the_newest_record_damaged_the_sync_before_is_restored_and_says_so()
{
    let folder = folder();
    let path = store_in(&folder);
    let image = prepared(&path);
    for rotten in ["record", "slot", "directory"] {
        image.put(&path);
        let raw = Raw::open(&path);
        let copies = raw.copies_in_use(raw.newest_record());
        raw.write(raw.mark(), &[0; 16]);
        // The large slot's second segment, since both records name the same copy of the first.
        match rotten {
            "record" => raw.flip(raw.record(raw.newest_record()) + 60, 1),
            "slot" => raw.flip(copies.last().unwrap().data, 1),
            _ => raw.flip(copies[0].data, 1),
        }
        if rotten == "directory" {
            // Both records name the same copy of it.
            let store = open(&path);
            assert!(matches!(store, Err(Error::Corrupt { .. })), "{store:?}");
            continue;
        }
        let store = open(&path).unwrap();
        let found = store.recovery();
        assert_eq!(found, Recovery::Restored { epoch: LAST - 1, newer_dropped: true });
        for (name, content) in contents(2) {
            assert!(store.slot(name).unwrap().load() == content, "{name}");
        }
        assert!(store.check().unwrap().is_ok());
        drop(store);
        // The unreadable record is gone, so the next restart reports nothing.
        Raw::open(&path).restart();
        let found = open(&path).unwrap().recovery();
        assert_eq!(found, Recovery::Restored { epoch: LAST - 1, newer_dropped: false });
    }
}

/// The other record is all zero in a new or just restored store. Then the one that exists is the
/// newest, with or without the mark.
#[test]
fn row_30_a_damaged_mark_beside_an_erased_record_is_harmless() {
    let folder = folder();
    let path = store_in(&folder);
    prepared(&path);
    drop(open(&path).unwrap());
    for at in 0..16 {
        let raw = Raw::open(&path);
        assert_eq!(raw.word(raw.record(1 - raw.newest_record())), 0, "restoring erases it");
        raw.flip(raw.mark() + at, 0x81);
        raw.restart();
        assert!(matches!(last_sync_or_refused(&path), Ok(false)), "byte {at} of the mark");
    }
    let new = folder.path().join("new.slots");
    let create = || OpenOptions::new().create_new(true).sync_every(None).open(&new).unwrap();
    drop(create());
    let raw = Raw::open(&new);
    raw.write(raw.mark(), b"rubbish");
    raw.restart();
    let found = open(&new).unwrap().recovery();
    assert_eq!(found, Recovery::Restored { epoch: 1, newer_dropped: false });
}

#[test]
fn row_30_with_both_commit_records_damaged_the_store_is_refused() {
    let folder = folder();
    let path = store_in(&folder);
    let image = prepared(&path);
    for (first, second) in [(0, 0), (0, 60), (8, 33), (60, 60), (64, 72)] {
        image.put(&path);
        let raw = Raw::open(&path);
        raw.flip(raw.record(0) + first, 0x10);
        raw.flip(raw.record(1) + second, 0x10);
        let error = last_sync_or_refused(&path).unwrap_err();
        assert!(error.to_string().contains("both of its commit records"), "{error}");
        // A reader gets the same error, and nothing has changed meanwhile.
        let reader = Store::open_read_only(&path).unwrap_err();
        assert_eq!(reader.to_string(), error.to_string());
    }
}

/// A restore erases the other record. If the remaining one is damaged later, no sync can build on
/// it, but the store's live content is intact.
#[test]
fn row_30_without_any_commit_record_a_sync_names_the_way_out() {
    let folder = folder();
    let path = store_in(&folder);
    prepared(&path);
    Raw::open(&path).restart();
    let store = open(&path).unwrap();
    assert!(matches!(store.recovery(), Recovery::Restored { .. }), "{:?}", store.recovery());
    fill(&store, 7);
    drop(store);
    let raw = Raw::open(&path);
    raw.flip(raw.record(raw.newest_record()), 0x10);
    let store = open(&path).unwrap();
    let error = store.sync().unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("save them now with `slotfile copy`"), "{error}");
    let saved = folder.path().join("saved");
    store.copy_to(&saved).unwrap();
    let saved = open(&saved).unwrap();
    saved.sync().unwrap();
    for (name, content) in contents(7) {
        assert_eq!(saved.slot(name).unwrap().load(), content);
    }
}

#[test]
fn row_30_check_finds_each_flipped_byte_of_a_checkpoint_in_use() {
    let folder = folder();
    let path = store_in(&folder);
    prepared(&path);
    let store = open(&path).unwrap();
    fill(&store, 5);
    store.sync().unwrap();
    fill(&store, 6);
    store.sync().unwrap();
    // Changed since, which is not damage.
    fill(&store, 7);
    let raw = Raw::open(&path);
    assert_eq!(store.check().unwrap().problems, []);
    for (what, at) in places(&raw) {
        let mask = if at % 2 == 0 { 0xff } else { 1 << (at / 2 % 8) };
        raw.flip(at, mask);
        let check = store.check().unwrap();
        raw.flip(at, mask);
        let context = format!("{what}, byte {at:#x} ^ {mask:#x}: {check:?}");
        match what {
            // An interrupted sync leaves the same there.
            "older record" => assert!(check.is_ok(), "{context}"),
            "slot" => assert!(check.problems.iter().any(|p| p.slot.is_some()), "{context}"),
            _ => assert!(!check.is_ok(), "{context}"),
        }
    }
    assert_eq!(store.check().unwrap().problems, []);
    // The next sync of that slot replaces the damaged copy.
    for copy in raw.copies_in_use(raw.newest_record()) {
        raw.flip(copy.data, 1);
    }
    assert!(!store.check().unwrap().is_ok());
}

/// What follows the mark, up to the runs; and the copies in the runs.
/// A write that the disk has acknowledged and lost: the copy is intact by its CRC, but of an
/// earlier sync. The record's own sum shows that, before and after a restart; and the next sync,
/// of any process, does not take it for right.
#[test]
fn row_30_an_older_copy_that_the_disk_has_lost_the_newer_one_of_is_found() {
    let folder = folder();
    let path = store_in(&folder);
    let image = prepared(&path);
    let raw = Raw::open(&path);
    let newest = raw.newest_record();
    let copies = raw.copies_in_use(newest);
    // The same places, two syncs later, as the newest record names them then.
    let sync = |n| {
        let store = open(&path).unwrap();
        fill(&store, n);
        store.sync().unwrap();
    };
    last_sync_or_refused(&path).unwrap();
    sync(5);
    sync(6);
    let later = Image::of(&path);
    let mut tried = 0;
    for copy in &copies {
        later.put(&path);
        let len = (copy.data - copy.head + copy.len).next_multiple_of(8) as usize;
        let lost = image_bytes(&image, copy.head, len);
        if raw.bytes(copy.head, len) == lost {
            continue; // it has not changed since
        }
        tried += 1;
        raw.write(copy.head, &lost);
        let store = open(&path).unwrap();
        let problems = store.check().unwrap().problems;
        let says_so = |what: &str| what.contains("not those that it was made of");
        assert!(problems.iter().any(|p| says_so(&p.what)), "{copy:?}: {problems:?}");
        // All of it is written again.
        store.value::<u64>("value").unwrap().store(1).unwrap();
        store.sync().unwrap();
        assert_eq!(store.check().unwrap().problems, [], "{copy:?}");
        drop(store);
        Raw::open(&path).restart();
        let store = open(&path).unwrap();
        for (name, content) in contents(6).into_iter().filter(|(name, _)| *name != "value") {
            assert!(store.slot(name).unwrap().load() == content, "{name}: {copy:?}");
        }
        drop(store);
        // If the power fails before that, there is no intact sync.
        later.put(&path);
        raw.write(copy.head, &lost);
        raw.restart();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    }
    assert!(tried > 1, "{tried} of {}", copies.len());
}

/// A process that has just opened the store trusts directory pages that equal their copies. A
/// changed descriptor is found even if its slot is never opened.
#[test]
fn row_28_no_flipped_byte_of_a_descriptor_is_believed_by_a_first_sync() {
    let folder = folder();
    let path = store_in(&folder);
    prepared(&path);
    last_sync_or_refused(&path).unwrap();
    let raw = Raw::open(&path);
    let sync = |n: u64| {
        let store = open(&path)?;
        store.value::<u64>("value")?.store(n)?;
        store.sync()
    };
    sync(0).unwrap();
    // Of the slot "large".
    for at in raw.line(4)..raw.line(5) {
        let mask = 1 << (at % 8);
        raw.flip(at, mask);
        let synced = sync(at);
        assert!(matches!(synced, Err(Error::Corrupt { .. })), "{at:#x} ^ {mask:#x}: {synced:?}");
        raw.flip(at, mask);
    }
    sync(1).unwrap();
    assert_eq!(open(&path).unwrap().check().unwrap().problems, []);
}

/// Bytes of an image.
fn image_bytes(image: &Image, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (i, byte) in (at..).zip(&mut bytes) {
        if let Some((_, page)) = image.pages.iter().find(|(from, _)| *from == i / 4096 * 4096) {
            *byte = page[(i % 4096) as usize];
        }
    }
    bytes
}

fn checkpoint_ranges(raw: &Raw) -> Vec<(u64, u64)> {
    let copies = raw.word(raw.line(0) + 64);
    vec![
        (raw.mark(), raw.mark() + 16),
        (raw.record(0), raw.record(0) + 96),
        (raw.record(1), raw.record(1) + 96),
        (raw.word(136), raw.word(136) + 4 * 4_096),
        (copies, copies + 8_192),
        (copies + 8_192, copies + 300_000),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: rounds(150, 5_000) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn row_30_random_bytes_over_a_checkpoint_are_refused_or_harmless(
        damage in proptest::collection::vec(
            (0usize..6, any::<u64>(), proptest::collection::vec(any::<u8>(), 1..600)),
            1..5,
        ),
    ) {
        let folder = folder();
        let path = store_in(&folder);
        let image = IMAGE.get_or_init(|| prepared(&path));
        image.put(&path);
        let raw = Raw::open(&path);
        let ranges = checkpoint_ranges(&raw);
        for (range, at, bytes) in damage {
            let (from, to) = ranges[range];
            let at = from + at % (to - from);
            let len = bytes.len().min((to - at) as usize);
            raw.write(at, &bytes[..len]);
        }
        match last_sync_or_refused_or_cut_off(&path, &raw) {
            Ok(_) | Err(Error::Corrupt { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

static IMAGE: std::sync::OnceLock<Image> = std::sync::OnceLock::new();

/// A lost mark together with a lost newest record looks like an interrupted sync.
fn last_sync_or_refused_or_cut_off(path: &Path, raw: &Raw) -> Result<bool, Error> {
    if raw.bytes(raw.mark(), 16) != [0; 16] {
        return last_sync_or_refused(path);
    }
    let store = open(path)?;
    let Recovery::Restored { epoch, newer_dropped } = store.recovery() else { panic!("{store:?}") };
    assert!(newer_dropped || epoch == LAST, "an older sync in silence");
    for (name, content) in contents(epoch as u8 - 1) {
        assert!(store.slot(name).unwrap().load() == content, "{name} is not as it was synced");
    }
    Ok(newer_dropped)
}

/// While a process has it open, all its pages are there, whatever the identity says.
#[test]
fn row_34_another_boot_id_while_somebody_is_attached_is_joined_and_not_restored() {
    const NAME: &str =
        "row_34_another_boot_id_while_somebody_is_attached_is_joined_and_not_restored";
    if common::role().is_some() {
        let store = open(&common::path()).unwrap();
        assert_eq!(store.recovery(), Recovery::Joined);
        let slot = store.slot("value").unwrap();
        assert_eq!(slot.load(), contents(9)[0].1);
        slot.store(contents(11)[0].1.clone()).unwrap();
        assert_eq!(Store::open_read_only(common::path()).unwrap().recovery(), Recovery::Joined);
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    prepared(&path);
    let store = open(&path).unwrap();
    fill(&store, 9);
    Raw::open(&path).restart();
    common::Child::spawn(NAME, "joins", &path).join();
    assert_eq!(store.slot("value").unwrap().load(), contents(11)[0].1);
    store.sync().unwrap();
    drop(store);
    // No process has it open any more: it is restored, and says so.
    let store = open(&path).unwrap();
    assert!(matches!(store.recovery(), Recovery::Restored { newer_dropped: false, .. }));
    assert_eq!(store.slot("value").unwrap().load(), contents(11)[0].1);
    assert_eq!(store.slot("array").unwrap().load(), contents(9)[1].1);
    drop(store);
    assert_eq!(open(&path).unwrap().recovery(), Recovery::Resumed);
}
