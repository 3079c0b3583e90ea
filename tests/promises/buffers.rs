//! Buffers: many processes update elements and lose nothing, the raw memory stays at its address,
//! and a sync finds changes although the version has not changed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::common::raw::Raw;
use crate::common::{
    Child, Finally, folder, long, number, os, path, role, store_in, until, within,
};
use slotfile::{
    Buffer, Data, Define, Elements, Error, OpenOptions, Recovery, Scalar, SlotType, Store,
};

/// Syncs only when told.
fn open(path: &Path) -> Store {
    OpenOptions::new().create(true).max_slots(64).sync_every(None).open(path).unwrap()
}

/// Adjacent elements of every size: an operation on one must not touch the others.
#[test]
fn updates_of_elements_by_several_processes_are_not_lost() {
    const NAME: &str = "updates_of_elements_by_several_processes_are_not_lost";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let bytes = store.buffer::<u8>("u8", 3).unwrap();
        let shorts = store.buffer::<i16>("i16", 3).unwrap();
        let words = store.buffer::<u32>("u32", 3).unwrap();
        let longs = store.buffer::<i64>("i64", 3).unwrap();
        let floats = store.buffer::<f32>("f32", 3).unwrap();
        let doubles = store.buffer::<f64>("f64", 3).unwrap();
        let flags = store.buffer::<bool>("bool", 3).unwrap();
        let compared = store.buffer::<u16>("compared", 3).unwrap();
        for _ in 0..number() {
            for k in 0..3 {
                bytes.fetch_add(k, 1).unwrap();
                shorts.fetch_sub(k, 1).unwrap();
                words.fetch_add(k, 1).unwrap();
                longs.fetch_add(k, -1).unwrap();
                floats.fetch_add(k, 1.0).unwrap();
                doubles.fetch_add(k, 0.5).unwrap();
                flags.fetch_xor(k, true).unwrap();
                let mut seen = compared.get(k).unwrap();
                while let Err(now) = compared.compare_exchange(k, seen, seen + 1).unwrap() {
                    seen = now;
                }
            }
        }
        return;
    }
    let folder = folder();
    let store = Store::create(store_in(&folder)).unwrap();
    let bytes = store.buffer::<u8>("u8", 3).unwrap();
    let shorts = store.buffer::<i16>("i16", 3).unwrap();
    let words = store.buffer::<u32>("u32", 3).unwrap();
    let longs = store.buffer::<i64>("i64", 3).unwrap();
    let floats = store.buffer::<f32>("f32", 3).unwrap();
    let doubles = store.buffer::<f64>("f64", 3).unwrap();
    let flags = store.buffer::<bool>("bool", 3).unwrap();
    let compared = store.buffer::<u16>("compared", 3).unwrap();
    let adds = if long() { 50_001 } else { 4_001 };
    let path = store_in(&folder);
    let children: Vec<_> = (0..3).map(|_| Child::spawn_with(NAME, "adder", &path, adds)).collect();
    children.into_iter().for_each(Child::join);
    let total = 3 * adds;
    assert_eq!(bytes.load(), [total as u8; 3]);
    assert_eq!(shorts.load(), [(total as i16).wrapping_neg(); 3]);
    assert_eq!(words.load(), [total as u32; 3]);
    assert_eq!(longs.load(), [-(total as i64); 3]);
    assert_eq!(floats.load(), [total as f32; 3]);
    assert_eq!(doubles.load(), [total as f64 / 2.0; 3]);
    assert_eq!(flags.load(), [total % 2 == 1; 3]);
    assert_eq!(compared.load(), [total as u16; 3]);
}

/// Tools change an element only if it is still what they saw.
#[test]
fn what_tools_add_is_not_lost_beside_others() {
    let store = Store::temporary().unwrap();
    let buffer = store.buffer::<u64>("buffer", 2).unwrap();
    let adds = if long() { 2_000_000 } else { 200_000 };
    std::thread::scope(|scope| {
        scope.spawn(|| (0..adds).for_each(|_| _ = buffer.fetch_add(1, 1).unwrap()));
        let slot = store.slot("buffer").unwrap();
        for _ in 0..adds {
            let add = |elements: &mut Elements| {
                let sum = elements.get(0).unwrap().checked_add(Scalar::U64(1)).unwrap();
                elements.set(0, sum);
                Ok::<_, Error>(())
            };
            slot.update_range(1..2, add).unwrap();
        }
    });
    assert_eq!(buffer.load(), [0, 2 * adds]);
}

#[test]
fn every_operation_on_an_element_returns_the_one_before() {
    let store = Store::temporary().unwrap();
    let b = store.buffer_with("b", [2, 3], Define::new().initial([1i16, -2, 3, 4, 5, 6])).unwrap();
    assert_eq!((b.shape().dims(), b.len()), (&[2, 3][..], 6));
    assert_eq!(b.get([0, 1]).unwrap(), -2);
    assert_eq!(b.swap(1, 7).unwrap(), -2);
    assert_eq!(b.fetch_add(1, i16::MAX).unwrap(), 7);
    assert_eq!(b.fetch_sub(1, 1).unwrap(), i16::MIN + 6);
    assert_eq!(b.fetch_min([1, 2], -9).unwrap(), 6);
    assert_eq!(b.fetch_max([1, 2], 9).unwrap(), -9);
    assert_eq!(b.fetch_and(5, 0b1010).unwrap(), 9);
    assert_eq!(b.fetch_or(5, 0b0001).unwrap(), 8);
    assert_eq!(b.fetch_xor(5, 0b1111).unwrap(), 9);
    assert_eq!(b.compare_exchange(5, 6, 1).unwrap(), Ok(6));
    assert_eq!(b.compare_exchange(5, 6, 2).unwrap(), Err(1));
    assert_eq!(b.load(), [1, i16::MIN + 5, 3, 4, 5, 1]);
    b.store(&[9; 6]).unwrap();
    let mut out = [0; 6];
    assert_eq!(b.load_into(&mut out), 0, "no version has moved");
    assert_eq!(out, [9; 6]);

    let f = store.buffer::<f64>("f", 1).unwrap();
    assert_eq!(f.compare_exchange(0, -0.0, 1.0).unwrap(), Err(0.0), "bit by bit");
    f.set(0, f64::NAN).unwrap();
    assert_eq!(f.compare_exchange(0, f64::NAN, 1.0).unwrap().map(f64::is_nan), Ok(true));
    assert_eq!(f.get(0).unwrap(), 1.0);

    for error in [b.get(6).unwrap_err(), b.set([2, 0], 1).unwrap_err(), b.get([1]).unwrap_err()] {
        assert!(matches!(error, Error::Index { .. }), "{error:?}");
    }
    assert!(matches!(b.store(&[0; 5]).unwrap_err(), Error::Length { expected: 6, found: 5, .. }));
}

/// A byte that is neither 0 nor 1, which only raw memory can hold, counts as true, and can be
/// replaced.
#[test]
fn a_bool_is_any_byte() {
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let flags = store.buffer::<bool>("flags", 8).unwrap();
    let raw = Raw::open(&path);
    raw.write(raw.slot(0) + 64, &[7; 8]);
    assert_eq!(flags.load(), [true; 8]);
    assert!(flags.get(0).unwrap());
    assert_eq!(flags.compare_exchange(0, true, false).unwrap(), Ok(true));
    let slot = store.slot("flags").unwrap();
    let clear = |elements: &mut Elements| {
        elements.set(0, Scalar::Bool(false));
        Ok::<_, Error>(())
    };
    within(Duration::from_secs(20), "an update", || slot.update_range(1..2, clear)).unwrap();
    assert_eq!(flags.load()[..3], [false, false, true]);
}

#[test]
fn what_one_process_stores_others_see_and_notify_tells_them() {
    const NAME: &str = "what_one_process_stores_others_see_and_notify_tells_them";
    if role().is_some() {
        let frame = Store::open(path()).unwrap().buffer::<u32>("frame", [100, 100]).unwrap();
        for n in 1..=number() {
            until("the last frame was seen", || frame.get(0).unwrap() == 0);
            frame.store(&vec![n as u32; 10_000]).unwrap();
            frame.notify().unwrap();
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let frame = open(&path).buffer::<u32>("frame", [100, 100]).unwrap();
    let child = Child::spawn_with(NAME, "camera", &path, 200);
    for n in 1..=200 {
        let timeout = Some(Duration::from_secs(60));
        let version = if n % 2 == 0 {
            frame.wait_for_change(n - 1, timeout).unwrap()
        } else {
            let seen = frame.wait_until(|f| u64::from(f[0]) == n, timeout).unwrap();
            seen.map(|_| frame.wait_for_change(n - 1, timeout).unwrap().unwrap())
        };
        assert_eq!(version, Some(n));
        // A thread that sees the version sees all that was stored before it.
        assert!(frame.load().iter().all(|x| u64::from(*x) == n));
        frame.set(0, 0).unwrap();
    }
    child.join();
    assert_eq!(frame.version(), 200);
}

#[test]
fn raw_writes_survive_a_restart_once_they_are_synced() {
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let small = store.buffer::<u16>("small", 3).unwrap();
    let large = store.buffer::<f32>("large", [480, 640]).unwrap();
    let gone = store.buffer::<u8>("gone", 3).unwrap();
    store.sync().unwrap();
    assert_eq!(large.as_ptr().addr() % 4096, 0);
    assert_eq!(small.as_ptr().addr() % 64, 0);
    os::poke(&small, 2, 77);
    os::poke(&large, 0, 1.5);
    os::poke(&large, 480 * 640 - 1, 2.5);
    os::poke(&gone, 0, 1);
    assert_eq!(store.info().unwrap().unsynced, Some(3), "found by comparing");
    store.remove("gone").unwrap();
    store.sync().unwrap();
    assert_eq!(store.info().unwrap().unsynced, Some(0));
    os::poke(&small, 1, 99);
    drop((small, large, gone, store));

    Raw::open(&path).restart();
    let store = open(&path);
    assert_eq!(store.recovery(), Recovery::Restored { epoch: 3, newer_dropped: false });
    assert_eq!(store.buffer::<u16>("small", 3).unwrap().load(), [0, 0, 77]);
    let large = store.buffer::<f32>("large", [480, 640]).unwrap().load();
    assert_eq!((large[0], large[1], large[480 * 640 - 1]), (1.5, 0.0, 2.5));
    assert!(matches!(store.slot("gone"), Err(Error::NotFound { .. })));
    assert!(store.check().unwrap().is_ok());
}

/// A sync writes only the changed segments of a large buffer, and nothing if nothing changed.
#[test]
fn a_sync_writes_only_what_has_changed() {
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let small = store.buffer::<u8>("small", 8).unwrap();
    let large = store.buffer::<u8>("large", 200_000).unwrap();
    let raw = Raw::open(&path);
    // The epochs of all copies in use: of the directory's page, of `small`, of the four segments
    // of `large`, wherever they are.
    let epochs = || {
        let copies = raw.copies_in_use(raw.newest_record());
        let mut epochs: Vec<u64> = copies.iter().map(|copy| raw.word(copy.head + 8)).collect();
        epochs.sort();
        epochs
    };
    store.sync().unwrap();
    assert_eq!(epochs(), [2; 6]);
    store.sync().unwrap();
    assert_eq!(raw.word(raw.record(raw.newest_record())), 2, "no sync was written");
    os::poke(&large, 131_072, 5);
    store.sync().unwrap();
    assert_eq!(epochs(), [2, 2, 2, 2, 2, 3]);
    os::poke(&small, 7, 5);
    store.sync().unwrap();
    assert_eq!(epochs(), [2, 2, 2, 2, 3, 4]);
    // The same content with another version: only the first segment, which has the version.
    large.set(131_072, 5).unwrap();
    large.notify().unwrap();
    store.sync().unwrap();
    assert_eq!(epochs(), [2, 2, 2, 3, 4, 5]);
    assert!(store.check().unwrap().is_ok());
}

/// In the background, and when the last handle leaves, although no version has changed.
#[test]
fn raw_writes_are_synced_in_the_background_and_on_leaving() {
    let folder = folder();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    options.create(true).max_slots(64).sync_every(Some(Duration::from_millis(20)));
    let store = options.open(&path).unwrap();
    let buffer = store.buffer::<u64>("buffer", 3).unwrap();
    store.sync().unwrap();
    os::poke(&buffer, 1, 5);
    until("it is synced", || store.info().unwrap().unsynced == Some(0));
    drop((buffer, store));

    let store = options.sync_every(Some(Duration::from_secs(1000))).open(&path).unwrap();
    let buffer = store.buffer::<u64>("buffer", 3).unwrap();
    os::poke(&buffer, 2, 6);
    drop((buffer, store));
    Raw::open(&path).restart();
    assert_eq!(open(&path).buffer::<u64>("buffer", 3).unwrap().load(), [0, 5, 6]);
}

/// A sync takes a buffer as it is, with all that was stored before. If a value says how far the
/// buffer was filled, it is filled that far, also after a restart.
#[test]
fn what_a_synced_value_says_of_a_buffer_holds() {
    const LEN: usize = 10_000;
    for round in 0..if long() { 200 } else { 10 } {
        let folder = folder();
        let path = store_in(&folder);
        let store = open(&path);
        let (buffer, filled) = (store.buffer::<u64>("buffer", LEN), store.value::<u64>("filled"));
        let (buffer, filled) = (buffer.unwrap(), filled.unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1.. {
                    buffer.store(&[n; LEN]).unwrap();
                    filled.store(n).unwrap();
                    if done.load(Relaxed) {
                        return;
                    }
                }
            });
            let _done = Finally(&done);
            until("the writer is at it", || filled.load() > 2);
            store.sync().unwrap();
            store.copy_to(path.with_extension("copy")).unwrap();
        });
        drop((buffer, filled, store));
        Raw::open(&path).restart();
        for path in [&path, &path.with_extension("copy")] {
            let store = open(path);
            let filled = store.value::<u64>("filled").unwrap().load();
            let least = *store.buffer::<u64>("buffer", LEN).unwrap().load().iter().min().unwrap();
            assert!(filled > 0 && least >= filled, "round {round}: {least} < {filled}");
        }
    }
}

#[test]
fn a_sync_ends_beside_one_who_notifies_without_pause() {
    let folder = folder();
    let store = open(&store_in(&folder));
    let buffer = store.buffer::<u64>("buffer", 100).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                buffer.notify().unwrap();
            }
        });
        let _done = Finally(&done);
        until("it is notified", || buffer.version() > 100);
        within(Duration::from_secs(20), "ten syncs", || {
            for n in 0..10 {
                buffer.set(n, 1).unwrap();
                store.sync().unwrap();
            }
        });
    });
}

#[test]
fn the_lock_of_one_who_was_killed_is_free() {
    const NAME: &str = "the_lock_of_one_who_was_killed_is_free";
    if role().is_some() {
        let buffer = Store::open(path()).unwrap().buffer::<u8>("buffer", 10).unwrap();
        let _guard = buffer.lock().unwrap();
        buffer.set(0, 1).unwrap();
        buffer.notify().unwrap(); // the holder's own goes through
        buffer.set(1, 1).unwrap();
        std::thread::sleep(Duration::from_secs(100));
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    options.create(true).sync_every(None).lock_timeout(Some(Duration::from_millis(20)));
    let store = options.open(&path).unwrap();
    let buffer = store.buffer::<u8>("buffer", 10).unwrap();
    let child = Child::spawn(NAME, "holder", &path);
    until("it is locked", || buffer.get(1).unwrap() == 1);
    assert!(matches!(buffer.lock().unwrap_err(), Error::LockTimeout { .. }));
    assert!(matches!(buffer.notify().unwrap_err(), Error::LockTimeout { .. }));
    buffer.set(2, 1).unwrap(); // elements ignore the lock
    assert_eq!(buffer.version(), 1);
    child.kill();
    drop(child);
    drop(buffer.lock().unwrap());
    assert_eq!(buffer.version(), 2, "a recovery moves it by one");
    assert_eq!(buffer.load()[..4], [1, 1, 1, 0]);
    buffer.notify().unwrap();
    assert_eq!(buffer.version(), 3);
}

#[test]
fn a_removed_buffer_stays_readable_at_its_address() {
    let store = Store::temporary().unwrap();
    let buffer = store.buffer::<u8>("buffer", 5_000).unwrap();
    buffer.store(&[7; 5_000]).unwrap();
    let address = buffer.as_ptr();
    store.remove("buffer").unwrap();
    let next = store.buffer::<u8>("buffer", 5_000).unwrap();
    next.store(&[8; 5_000]).unwrap();
    assert!(buffer.is_removed() && !next.is_removed());
    assert_eq!(buffer.as_ptr(), address);
    assert_eq!(buffer.load(), [7; 5_000]);
    os::poke(&buffer, 0, 9);
    assert_eq!((buffer.get(0).unwrap(), next.get(0).unwrap()), (9, 8));
    let slot = store.slot("buffer").unwrap();
    store.remove("buffer").unwrap();
    for error in [
        buffer.set(0, 1).unwrap_err(),
        buffer.store(&[1; 5_000]).unwrap_err(),
        buffer.fetch_add(0, 1).unwrap_err(),
        buffer.notify().unwrap_err(),
        buffer.lock().unwrap_err(),
        slot.store(vec![1u8; 5_000]).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Removed { .. }), "{error:?}");
    }
}

#[test]
fn a_buffer_opens_only_as_what_it_is() {
    let store = Store::temporary().unwrap();
    store.buffer::<f32>("buffer", [2, 3]).unwrap();
    store.array::<f32>("array", [2, 3]).unwrap();
    let errors = [
        (store.buffer::<u32>("buffer", [2, 3]).unwrap_err(), "buffer:u32[2,3]"),
        (store.buffer::<f32>("buffer", [3, 2]).unwrap_err(), "buffer:f32[3,2]"),
        (store.buffer::<f32>("buffer", 6).unwrap_err(), "buffer:f32[6]"),
        (store.array::<f32>("buffer", [2, 3]).unwrap_err(), "not f32[2,3]"),
        (store.value::<f32>("buffer").unwrap_err(), "not f32;"),
    ];
    for (error, asked) in errors {
        assert!(matches!(error, Error::Type { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("is buffer:f32[2,3]"), "{message}");
        assert!(message.contains(asked), "{message}");
    }
    let error = store.buffer::<f32>("array", [2, 3]).unwrap_err().to_string();
    assert!(error.contains("is f32[2,3], not buffer:f32[2,3]"), "{error}");
    for bad in [store.buffer::<u8>("x", [0]), store.buffer::<u8>("x", [1 << 40])] {
        assert!(matches!(bad.unwrap_err(), Error::Invalid { .. }));
    }
}

#[test]
fn one_who_only_reads_cannot_write() {
    let folder = folder();
    let path = store_in(&folder);
    let written = open(&path).buffer::<i32>("buffer", 3).unwrap();
    let store = Store::open_read_only(&path).unwrap();
    let buffer: Buffer<i32> = store.buffer("buffer", 3).unwrap();
    written.set(1, -5).unwrap();
    assert_eq!((buffer.get(1).unwrap(), buffer.load()), (-5, vec![0, -5, 0]));
    for error in [
        buffer.set(0, 1).unwrap_err(),
        buffer.fetch_add(0, 1).unwrap_err(),
        buffer.compare_exchange(0, 0, 1).unwrap_err(),
        buffer.store(&[1; 3]).unwrap_err(),
        buffer.notify().unwrap_err(),
        buffer.lock().unwrap_err(),
        store.slot("buffer").unwrap().store([1, 2, 3]).unwrap_err(),
    ] {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    }
    assert_eq!(written.load(), [0, -5, 0]);
}

#[test]
fn tools_use_a_buffer_as_any_slot() {
    let store = Store::temporary().unwrap();
    let slot_type: SlotType = "buffer:u16[2,2]".parse().unwrap();
    assert_eq!(slot_type.to_string(), "buffer:u16[2,2]");
    let define = Define::new().initial(Data::from([1u16, 2, 3, 4])).areas(8);
    let slot = store.define("buffer", &slot_type, define).unwrap();
    assert_eq!((slot.areas(), slot.size(), slot.version()), (1, 8, 0));
    slot.store([5u16, 6, 7, 8]).unwrap();
    assert_eq!(slot.load_versioned(), (Data::from([5u16, 6, 7, 8]), 1), "who watches sees it");
    slot.store_range(1, &Elements::from([60u16, 70])).unwrap();
    assert_eq!(slot.load_range_versioned(1..).unwrap(), (Elements::from([60u16, 70, 8]), 2));
    let undone = slot.update(|content| {
        *content = Data::from([0u16; 4]);
        Err::<(), _>(Error::Invalid { path: "".into(), slot: None, what: "no".into() })
    });
    assert!(undone.is_err());
    slot.update(|content| {
        let Data::Array(elements) = content else { panic!("elements") };
        elements.set(3, Scalar::U16(80));
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(slot.load_versioned(), (Data::from([5u16, 60, 70, 80]), 3));
    assert!(matches!(slot.store([1u16; 3]).unwrap_err(), Error::Length { .. }));
    assert!(matches!(slot.store([1u32; 4]).unwrap_err(), Error::Type { .. }));
    assert!(matches!(slot.load_range(3..5).unwrap_err(), Error::Index { .. }));
    for bad in ["buffer:u16", "buffer:[4]", "buffer:u16[]", "buffer:text[4]", "buffer:u16[0]"] {
        assert!(bad.parse::<SlotType>().is_err(), "{bad}");
    }
}

#[test]
fn copies_and_compacted_stores_have_the_buffers() {
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    store.buffer::<u8>("gone", 70_000).unwrap();
    let buffer = store.buffer::<u16>("buffer", 70_000).unwrap();
    store.remove("gone").unwrap();
    os::poke(&buffer, 69_999, 5);
    buffer.notify().unwrap();
    let copy = path.with_extension("copy");
    store.copy_to(&copy).unwrap();
    drop(buffer);
    drop(store.compact().unwrap());
    for path in [path, copy] {
        for restarted in [false, true] {
            if restarted {
                Raw::open(&path).restart();
            }
            let store = open(&path);
            let buffer = store.buffer::<u16>("buffer", 70_000).unwrap();
            assert_eq!((buffer.get(69_999).unwrap(), buffer.get(0).unwrap()), (5, 0));
            assert_eq!(buffer.version(), 1);
            assert_eq!(store.info().unwrap().unsynced, Some(0));
            assert!(store.check().unwrap().is_ok());
        }
    }
}

/// Every field of its descriptor with a value that no buffer can have.
#[test]
fn damaged_descriptors_of_buffers_are_refused() {
    let folder = folder();
    let path = store_in(&folder);
    drop(open(&path).buffer::<u8>("buffer", [30, 40]).unwrap());
    let raw = Raw::open(&path);
    let line = raw.line(0);
    let intact = raw.bytes(line, 128);
    let fields: [(u64, &[u8]); 12] = [
        (5, &[5]),           // a record
        (5, &[7]),           // no kind
        (6, &[0]),           // no scalar
        (6, &[12]),          // none that there is
        (7, &[0]),           // no area
        (7, &[2]),           // two
        (8, &[0]),           // no dimensions
        (8, &[5]),           // too many
        (10, &[1, 0]),       // fields of a record
        (16, &[0; 8]),       // a dimension of nothing
        (16, &[0xff; 8]),    // more than a store
        (80, &[1, 0, 0, 0]), // in place of another slot
    ];
    for (at, bytes) in fields {
        raw.write(line, &intact);
        raw.write(line + at, bytes);
        raw.seal_line(0);
        let store = open(&path);
        for error in [store.slot("buffer").unwrap_err(), store.slots().unwrap_err()] {
            assert!(matches!(error, Error::Corrupt { .. }), "{at}: {error:?}");
        }
        assert!(!store.check().unwrap().is_ok());
    }
    raw.write(line, &intact);
    assert!(open(&path).check().unwrap().is_ok());
}
