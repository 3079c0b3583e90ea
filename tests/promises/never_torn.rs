//! A reader is never blocked by a writer and never sees a torn value, even while that
//! writer is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common;
use crate::common::{Child, folder, long, number, os, path, role, store_in, until};
use slotfile::{Define, Error, OpenOptions, Store};

const SIZES: [usize; 6] = [2, 3, 64, 1_000, 8_192, 131_072]; // words: 16 bytes to 1 MiB

/// In every version, all elements follow from the first.
fn pattern(seed: u64, out: &mut [u64]) {
    for (i, x) in out.iter_mut().enumerate() {
        *x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(i as u64);
    }
}

fn assert_whole(elements: &[u64]) {
    let first = elements[0];
    let torn = elements.iter().enumerate().find(|(i, x)| **x != first.wrapping_add(*i as u64));
    assert_eq!(torn, None, "torn: the first element is {first}");
}

#[test]
fn row_15_readers_beside_a_writer_without_pause_see_whole_arrays() {
    const NAME: &str = "row_15_readers_beside_a_writer_without_pause_see_whole_arrays";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let array = store.array::<u64>("array", number() as usize).unwrap();
        let mut elements = vec![0; array.len()];
        let done = store.value::<bool>("done").unwrap();
        let mut seed = 0u64;
        while !done.load() {
            seed += 1;
            match () {
                // Either stores all, or adds 1 to each; a mix of both leaves stale ranges of all
                // kinds.
                _ if !seed.is_multiple_of(3) => {
                    pattern(seed, &mut elements);
                    array.store(&elements).unwrap();
                }
                _ => {
                    array.update(|a| a.iter_mut().for_each(|x| *x = x.wrapping_add(1))).unwrap();
                }
            }
        }
        return;
    }
    let time = Duration::from_millis(if long() { 5_000 } else { 250 });
    for areas in [2, 4, 8] {
        for size in SIZES {
            let folder = folder();
            let path = store_in(&folder);
            let store = Store::create(&path).unwrap();
            let define = Define::new().areas(areas);
            let array = store.array_with::<u64>("array", size, define).unwrap();
            let mut elements = vec![0; size];
            pattern(0, &mut elements);
            array.store(&elements).unwrap();
            let done = store.value::<bool>("done").unwrap();
            let begun = array.version();
            let writer = Child::spawn_with(NAME, "writer", &path, size as u64);
            until("the writer writes", || array.version() > begun);
            let (start, mut reads, mut versions) = (Instant::now(), 0, 0);
            let mut last = 0;
            // At least a few, on a slow machine: reads must end, too.
            while start.elapsed() < time || reads < 10 {
                let version = array.load_into(&mut elements);
                assert_whole(&elements);
                assert!(version >= last, "from version {last} back to {version}");
                versions += u64::from(version != last);
                last = version;
                // A range is not torn either, at both of its ends.
                let (from, to) = (size / 3, size / 3 + size.min(1_000) / 2 + 1);
                assert_whole(&array.load_range(from..to.min(size)).unwrap());
                reads += 1;
            }
            done.store(true).unwrap();
            writer.join();
            // The writer's first update alone makes 1.
            assert!(versions > 1, "{size} words: {reads} reads saw {versions} versions");
        }
    }
}

/// A text must not tear, including its length.
#[test]
fn texts_beside_a_writer_are_whole() {
    const NAME: &str = "texts_beside_a_writer_are_whole";
    let text_of = |n: usize| char::from(b'a' + (n % 26) as u8).to_string().repeat(n % 301);
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let text = store.text("text", 300).unwrap();
        let done = store.value::<bool>("done").unwrap();
        let mut n = 0;
        while !done.load() {
            n += 7;
            text.store(&text_of(n)).unwrap();
        }
        return;
    }
    let folder = folder();
    let store = Store::create(store_in(&folder)).unwrap();
    let text = store.text("text", 300).unwrap();
    let done = store.value::<bool>("done").unwrap();
    let writer = Child::spawn(NAME, "writer", &store_in(&folder));
    until("the writer writes", || text.version() > 10);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        let now = text.load();
        let mut of = now.chars();
        let first = of.next();
        assert!(of.all(|c| Some(c) == first), "torn: {now:?}");
        // The letter determines the possible lengths.
        if let Some(first) = first {
            let mut lengths = (0..26 * 301).filter(|n| text_of(*n).starts_with(first));
            assert!(lengths.any(|n| n % 301 == now.len()));
        }
    }
    done.store(true).unwrap();
    writer.join();
}

/// A value and its version are read together.
#[test]
fn a_value_and_its_version_belong_together() {
    let store = Store::temporary().unwrap();
    let value = store.value::<u64>("value").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _finally = common::Finally(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                value.fetch_add(1).unwrap();
            }
        });
        for _ in 0..200_000 {
            let (x, version) = value.load_versioned();
            assert_eq!(x, version);
        }
    });
}

/// Readers run at full speed beside a writer stopped inside an update. Other writers are told the
/// holder's pid at their timeout, and the lock is not stolen.
#[test]
fn row_08_a_stopped_writer_holds_up_no_reader_and_is_named_to_writers() {
    const NAME: &str = "row_08_a_stopped_writer_holds_up_no_reader_and_is_named_to_writers";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let array = store.array::<u64>("array", 1_000).unwrap();
        let inside = store.value::<u64>("inside").unwrap();
        array
            .update(|a| {
                a.fill(1);
                inside.store(1).unwrap();
                // Stopped here until the test resumes it.
                until("the test says so", || inside.load() == 2);
            })
            .unwrap();
        let value = store.value::<u64>("value").unwrap();
        let _guard = value.lock().unwrap();
        inside.store(3).unwrap();
        until("the test says so", || inside.load() == 4);
        value.store(4).unwrap();
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    Store::create(&path).unwrap();
    let timeout = Duration::from_millis(150);
    let store = OpenOptions::new().lock_timeout(Some(timeout)).open(&path).unwrap();
    let array = store.array::<u64>("array", 1_000).unwrap();
    let value = store.value::<u64>("value").unwrap();
    let inside = store.value::<u64>("inside").unwrap();
    let mut out = vec![0; 1_000];
    let mut reads = |for_time: Duration| {
        let start = Instant::now();
        let mut reads = 0u32;
        while start.elapsed() < for_time {
            array.load_into(&mut out);
            assert_eq!(out, [0; 1_000]);
            reads += 1;
        }
        f64::from(reads) / start.elapsed().as_secs_f64()
    };
    let free = reads(Duration::from_millis(200));
    let writer = Child::spawn(NAME, "writer", &path);
    until("the writer is inside", || inside.load() == 1);
    os::stop(writer.pid());
    let beside = reads(Duration::from_millis(200));
    // Full speed, with room for other load on the machine: a reader that waited or took the lock
    // would be slower by orders of magnitude.
    assert!(beside > free / 10.0, "{beside} reads/s beside it, {free} alone");
    for _ in 0..2 {
        let start = Instant::now();
        match array.set(0, 7) {
            Err(Error::LockTimeout { holder, slot, waited, .. }) => {
                let holder = holder.map(|holder| holder.pid);
                assert_eq!((holder, slot.as_str()), (Some(writer.pid()), "array"));
                assert_eq!(waited, timeout);
            }
            other => panic!("{other:?}"),
        }
        let took = start.elapsed();
        assert!(took >= timeout && took < timeout + Duration::from_secs(2), "{took:?}");
    }
    assert_eq!(array.load(), [0; 1_000], "no lock was stolen");
    // Other slots are not affected.
    store.value::<u64>("another").unwrap().fetch_add(1).unwrap();
    os::resume(writer.pid());
    inside.store(2).unwrap();
    until("the update is through", || array.get(0).unwrap() == 1);
    array.set(0, 7).unwrap();
    // The same for a value under a guard.
    until("the writer has the guard", || inside.load() == 3);
    os::stop(writer.pid());
    assert_eq!(value.load(), 0);
    let refused = value.fetch_add(1);
    let is_writer = |holder: &slotfile::AttachedProcess| holder.pid == writer.pid();
    let named = matches!(&refused, Err(Error::LockTimeout { holder: Some(p), .. }) if is_writer(p));
    assert!(named, "{refused:?}");
    os::resume(writer.pid());
    inside.store(4).unwrap();
    writer.join();
    assert_eq!(value.fetch_add(1).unwrap(), 4);
}

/// A writer stopped at random moments, not at places chosen by the test.
#[test]
fn a_writer_stopped_at_random_moments_leaves_readers_alone() {
    const NAME: &str = "a_writer_stopped_at_random_moments_leaves_readers_alone";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let array = store.array::<u64>("array", 2_000).unwrap();
        let value = store.value::<u64>("value").unwrap();
        let mut elements = vec![0; 2_000];
        for seed in 0.. {
            pattern(seed, &mut elements);
            array.store(&elements).unwrap();
            value.fetch_add(1).unwrap();
        }
    }
    let folder = folder();
    let path = store_in(&folder);
    Store::create(&path).unwrap();
    let timeout = Some(Duration::from_millis(20));
    let store = OpenOptions::new().lock_timeout(timeout).open(&path).unwrap();
    let mut elements = vec![0; 2_000];
    pattern(0, &mut elements);
    let define = Define::new().initial(elements.as_slice());
    let array = store.array_with::<u64>("array", 2_000, define).unwrap();
    let value = store.value::<u64>("value").unwrap();
    let writer = Child::spawn(NAME, "writer", &path);
    until("the writer writes", || value.load() > 0);
    let mut held_up = 0;
    for _ in 0..common::rounds(200, 2_000) {
        os::stop(writer.pid());
        for _ in 0..3 {
            array.load_into(&mut elements);
            assert_whole(&elements);
        }
        // A value's update is lock-free: no other thread can block it.
        value.fetch_add(1).unwrap();
        match array.set(0, array.get(0).unwrap()) {
            Ok(()) => {}
            Err(Error::LockTimeout { holder, .. }) => {
                assert_eq!(holder.map(|holder| holder.pid), Some(writer.pid()));
                held_up += 1;
            }
            Err(other) => panic!("{other}"),
        }
        os::resume(writer.pid());
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..500)));
    }
    assert!(held_up > 0, "it was never stopped inside an update");
}

/// A reader that may not lock, and needs longer to copy an array than others need to change it
/// twice, keeps up with the changes.
#[test]
fn a_read_only_opener_reads_a_large_array_beside_a_writer() {
    const NAME: &str = "a_read_only_opener_reads_a_large_array_beside_a_writer";
    const ELEMENTS: usize = 8 << 20; // 64 MiB: many changes while it is copied
    const PAUSE: Duration = Duration::from_millis(1);
    if role().is_some() {
        let store = OpenOptions::new().sync_every(None).open(path()).unwrap();
        let array = store.array::<u64>("array", ELEMENTS).unwrap();
        let done = store.value::<bool>("done").unwrap();
        for round in 1.. {
            // First the last element, then the one in the middle, then the first.
            for at in [ELEMENTS - 1, ELEMENTS / 2, 0] {
                array.set(at, round).unwrap();
                std::thread::sleep(PAUSE);
            }
            if done.load() {
                return;
            }
        }
    }
    let folder = common::folder_in_memory();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    let store = options.create(true).checkpoint(false).sync_every(None).open(&path).unwrap();
    let array = store.array::<u64>("array", ELEMENTS).unwrap();
    let done = store.value::<bool>("done").unwrap();
    let child = Child::spawn(NAME, "writer", &path);
    until("it writes", || array.version() > 3);
    let reader = OpenOptions::new().read_only(true).open(&path).unwrap();
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let array = reader.array::<u64>("array", ELEMENTS).unwrap();
        let mut elements = vec![1; ELEMENTS];
        for _ in 0..3 {
            let before = array.version();
            array.load_into(&mut elements);
            let (first, middle, last) =
                (elements[0], elements[ELEMENTS / 2], elements[ELEMENTS - 1]);
            assert!(last >= middle && middle >= first && last - first <= 1, "{first} {last}");
            assert!(first * 3 >= before.saturating_sub(3), "{first} is older than {before}");
            elements[ELEMENTS / 2] = 0;
            assert!(elements[1..ELEMENTS - 1].iter().all(|x| *x == 0));
        }
        // The same with an untyped handle.
        let data = reader.slot("array").unwrap().load();
        assert!(matches!(data, slotfile::Data::Array(all) if all.len() == ELEMENTS));
        ended.send(()).unwrap();
    });
    end.recv_timeout(Duration::from_secs(60)).expect("it ends");
    done.store(true).unwrap();
    child.join();
}
