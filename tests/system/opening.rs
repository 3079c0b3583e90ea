//! Creating and opening: one process creates, others join, and none ever sees half a store.
//! Whatever cannot be opened is refused in one line.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use crate::common;
use crate::common::{Child, folder, number, os, path, role, rounds, store_in, until, within};
use slotfile::{Error, OpenOptions, Store};

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn row_03_a_create_killed_at_random_moments_leaves_no_file_or_a_valid_store() {
    if !common::apart("row_03_a_create_killed_at_random_moments_leaves_no_file_or_a_valid_store") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let (mut none, mut whole) = (0, 0);
    // Creating takes about this long here. The kills are spread over twice that time.
    let start = std::time::Instant::now();
    drop(Store::create(&path).unwrap());
    let takes = start.elapsed().as_micros() as u64;
    std::fs::remove_file(&path).unwrap();
    for _ in 0..rounds(200, 3_000) {
        let victim = os::fork(|| {
            let store = Store::create(&path).unwrap();
            store.value::<u64>("value").unwrap();
            std::thread::sleep(Duration::from_secs(30));
        });
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..2 * takes)));
        victim.kill();
        victim.reap();
        match names(folder.path()).as_slice() {
            [] => none += 1,
            [name] => {
                assert_eq!(name, "state.slots");
                let store = Store::open(&path).unwrap();
                store.value::<u64>("value").unwrap().fetch_add(1).unwrap();
                whole += 1;
                std::fs::remove_file(&path).unwrap();
            }
            litter => panic!("{litter:?}"),
        }
    }
    println!("no file {none} times, a valid store {whole} times");
    assert!(none > 0 && whole > 0, "all kills came too late, or all came too early");
}

/// With `create_new`, exactly one process creates the store. With `create`, all open the same
/// store.
#[test]
fn row_17_when_creators_race_one_creates_and_the_others_join() {
    const NAME: &str = "row_17_when_creators_race_one_creates_and_the_others_join";
    if let Some(role) = role() {
        let rounds = number() as usize;
        let meeting = Store::open(path()).unwrap();
        let (arrived, created) =
            (meeting.value::<u64>("arrived").unwrap(), meeting.value::<u64>("created").unwrap());
        for round in 0..rounds as u64 {
            let new = path().with_file_name(format!("{round}"));
            // All wait for each other, so that they run at the same time.
            arrived.fetch_add(1).unwrap();
            while arrived.load() < 4 * (round + 1) {
                std::hint::spin_loop();
            }
            let store = if role == "insisting" {
                match Store::create(&new) {
                    Ok(store) => {
                        created.fetch_add(1).unwrap();
                        store
                    }
                    Err(Error::Exists { slot: None, .. }) => Store::open(&new).unwrap(),
                    Err(other) => panic!("{other}"),
                }
            } else {
                Store::open_or_create(&new).unwrap()
            };
            store.value::<u64>("opened").unwrap().fetch_add(1).unwrap();
            // In every other round all leave and return, while others still arrive.
            if round % 2 == 0 {
                drop(store);
                let store = Store::open(&new).unwrap();
                store.value::<u64>("opened").unwrap().fetch_add(1).unwrap();
            }
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let meeting = Store::create(&path).unwrap();
    meeting.value::<u64>("arrived").unwrap();
    let created = meeting.value::<u64>("created").unwrap();
    let rounds = rounds(100, 1_000) as u64;
    for role in ["insisting", "joining"] {
        let children: Vec<_> =
            (0..4).map(|_| Child::spawn_with(NAME, role, &path, rounds)).collect();
        children.into_iter().for_each(Child::join);
        for round in 0..rounds {
            let file = folder.path().join(format!("{round}"));
            let opened = Store::open(&file).unwrap().value::<u64>("opened").unwrap().load();
            assert_eq!(opened, if round % 2 == 0 { 8 } else { 4 }, "round {round}");
            std::fs::remove_file(file).unwrap();
        }
        assert_eq!(created.load(), rounds, "one creator in each round");
        assert_eq!(names(folder.path()), ["state.slots"], "no litter");
        meeting.value::<u64>("arrived").unwrap().store(0).unwrap();
    }
}

#[test]
fn a_new_process_finds_what_was_stored() {
    const NAME: &str = "a_new_process_finds_what_was_stored";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let run = store.value::<u64>("runs").unwrap().fetch_add(1).unwrap();
        assert_eq!(run, number());
        let pose = store.array::<f64>("pose", [2, 3]).unwrap();
        let name = store.text("name", 20).unwrap();
        if run > 0 {
            assert_eq!(pose.load(), [run as f64; 6]);
            assert_eq!(name.load(), format!("run {run}"));
        }
        pose.update(|p| p.iter_mut().for_each(|x| *x += 1.0)).unwrap();
        name.store(&format!("run {}", run + 1)).unwrap();
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    drop(Store::create(&path).unwrap());
    for run in 0..5 {
        Child::spawn_with(NAME, "run", &path, run).join();
    }
    let store = Store::open_read_only(&path).unwrap();
    assert_eq!(store.text("name", 20).unwrap().load(), "run 5");
    assert_eq!(store.slots().unwrap().len(), 3);
}

#[test]
fn row_13_a_store_opened_twice_in_one_process_works_through_both() {
    let folder = folder();
    let path = store_in(&folder);
    let (a, b) = (Store::create(&path).unwrap(), Store::open(&path).unwrap());
    let (x, y) = (a.array::<u64>("x", 3).unwrap(), b.array::<u64>("x", 3).unwrap());
    let reader = Store::open_read_only(&path).unwrap().array::<u64>("x", 3).unwrap();
    drop((a, b)); // handles outlive the store
    // One thread waits for the other: neither takes the other for dead.
    std::thread::scope(|scope| {
        let guard = x.lock().unwrap();
        let waiting = scope.spawn(|| y.fetch_add(0, 1).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "the lock was stolen from a living thread");
        x.store(&[5, 6, 7]).unwrap();
        drop(guard);
        assert_eq!(waiting.join().unwrap(), 5);
    });
    // A single thread would wait for itself.
    let guard = x.lock().unwrap();
    assert!(matches!(y.lock(), Err(Error::Deadlock { .. })));
    y.set(0, 9).unwrap();
    drop(guard);
    let inside = x.update(|_| y.set(0, 1)).unwrap();
    assert!(matches!(inside, Err(Error::Deadlock { .. })), "{inside:?}");
    assert_eq!(reader.load(), [9, 6, 7]);
    drop((x, y));
    assert_eq!(reader.load(), [9, 6, 7]);
}

#[test]
fn row_27_anything_but_a_store_is_refused_without_a_hang() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("text"), "not a store\n").unwrap();
    std::fs::write(at("magic"), "SLOTFILE").unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    os::make_pipe_file(&at("pipe"));
    symlink(at("loop"), at("loop")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let zero = Path::new("/dev/zero").to_owned();
    let null = Path::new("/dev/null").to_owned();
    let cases = ["empty", "text", "magic", "folder", "pipe", "loop", "dangling", "socket"];
    for path in cases.map(at).into_iter().chain([zero, null]) {
        let options = OpenOptions::new();
        for (how, options) in [
            ("open", options.clone()),
            ("read-only", options.clone().read_only(true).clone()),
            ("create", options.clone().create(true).clone()),
            ("create_new", options.clone().create_new(true).clone()),
        ] {
            let error = within(Duration::from_secs(2), "refusing", || options.open(&path))
                .expect_err(&format!("{how} {}", path.display()));
            let message = error.to_string();
            assert!(message.starts_with(&path.display().to_string()), "{message}");
            assert!(!message.contains('\n'), "{message}");
            if how == "create_new" {
                assert!(matches!(error, Error::Exists { slot: None, .. }), "{message}");
            }
        }
    }
    assert!(matches!(Store::open(at("empty")), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::open(at("text")), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::open(at("magic")), Err(Error::Truncated { have: 8, .. })));
    assert!(matches!(Store::open(at("pipe")), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::open(at("folder")), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::open("/dev/zero"), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::open(at("absent")), Err(Error::NotFound { slot: None, .. })));
    assert!(matches!(Store::open(at("dangling")), Err(Error::NotFound { .. })));
    assert!(matches!(Store::open_or_create(at("dangling")), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::create(at("absent/state")), Err(Error::NotFound { .. })));
    assert_eq!(names(folder.path()).len(), cases.len(), "nothing was created");
    // The message for an impossible name does not blame the sizes.
    let message = Store::create(at("a\0b")).unwrap_err().to_string();
    assert!(!message.contains("max_slots"), "{message}");
    // A link to a store works like the store.
    drop(Store::create(at("store")).unwrap());
    symlink(at("store"), at("link")).unwrap();
    Store::open(at("link")).unwrap().value::<u8>("x").unwrap();
    assert_eq!(Store::open(at("store")).unwrap().slots().unwrap().len(), 1);
}

/// Options that no store can have, or that contradict each other.
#[test]
fn impossible_options_are_refused() {
    let folder = folder();
    let path = store_in(&folder);
    let refused = |options: &mut OpenOptions| {
        let error = options.open(&path).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    };
    refused(OpenOptions::new().create(true).read_only(true));
    refused(OpenOptions::new().create(true).max_slots(0));
    refused(OpenOptions::new().create(true).max_slots(u64::MAX));
    refused(OpenOptions::new().create(true).max_size(0));
    refused(OpenOptions::new().create(true).max_size(u64::MAX));
    refused(OpenOptions::new().create(true).max_size(1 << 20));
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn row_36_a_new_store_is_0600_whatever_the_umask() {
    const NAME: &str = "row_36_a_new_store_is_0600_whatever_the_umask";
    if role().is_some() {
        for umask in [0o000, 0o022, 0o077, 0o777] {
            os::set_umask(umask);
            for mode in [None, Some(0o644), Some(0o660)] {
                let path = path().with_file_name(format!("{umask}-{mode:?}"));
                let mut options = OpenOptions::new();
                options.create_new(true);
                mode.inspect(|mode| _ = options.mode(*mode));
                drop(options.open(&path).unwrap());
                let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                assert_eq!(found, mode.unwrap_or(0o600), "umask {umask:o}");
            }
        }
        return;
    }
    // In a process of its own, since all threads share the umask.
    let folder = folder();
    Child::spawn(NAME, "creator", &store_in(&folder)).join();
    assert_eq!(names(folder.path()).len(), 12);
}

#[test]
fn row_36_a_read_only_store_is_read_and_refuses_writes() {
    if !common::apart("row_36_a_read_only_store_is_read_and_refuses_writes") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let (value, array) = (store.value::<u64>("value").unwrap(), store.array("array", 3).unwrap());
    let text = store.text("text", 9).unwrap();
    value.store(5).unwrap();
    array.store(&[1u8, 2, 3]).unwrap();
    text.store("six").unwrap();
    let check = |store: &Store| {
        let (value, array) =
            (store.value::<u64>("value").unwrap(), store.array("array", 3).unwrap());
        let text = store.text("text", 9).unwrap();
        assert_eq!((value.load(), text.load()), (5, "six".into()));
        assert_eq!((array.load(), value.load_versioned().0), (vec![1u8, 2, 3], 5));
        let refused = [
            value.store(6).unwrap_err(),
            value.fetch_add(1).unwrap_err(),
            value.compare_exchange(5, 6).unwrap_err(),
            value.lock().unwrap_err(),
            array.store(&[4, 5, 6]).unwrap_err(),
            array.set(0, 4).unwrap_err(),
            array.update(|_| ()).unwrap_err(),
            array.lock().unwrap_err(),
            text.store("seven").unwrap_err(),
            store.value::<u64>("absent").unwrap_err(),
            store.remove("value").unwrap_err(),
            store.slot("value").unwrap().store(6u64).unwrap_err(),
            store.slot("array").unwrap().update_range(0..1, |_| Ok(())).unwrap_err(),
        ];
        for error in refused {
            assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
        }
        assert_eq!(store.slots().unwrap().len(), 3);
        store.info().unwrap();
    };
    check(&Store::open_read_only(&path).unwrap()); // beside a writer
    drop((store, value, array, text));
    check(&Store::open_read_only(&path).unwrap()); // alone
    if !os::is_root() {
        eprintln!("skipped: another user's file; that needs root");
        return;
    }
    // Another user opens a file, in a folder, that only root may write.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    os::fork(|| {
        os::become_user(65_534);
        check(&Store::open_read_only(&path).unwrap());
        assert!(matches!(Store::open(&path), Err(Error::PermissionDenied { .. })));
        let new = Store::create(folder.path().join("new"));
        assert!(matches!(new, Err(Error::PermissionDenied { .. })), "{new:?}");
    })
    .join();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    os::fork(|| {
        os::become_user(65_534);
        for refused in [Store::open(&path), Store::open_read_only(&path)] {
            assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
        }
    })
    .join();
}

/// Readers attach, too, so a writer that comes later joins them.
#[test]
fn row_17_readers_and_writers_come_and_go_in_any_order() {
    const NAME: &str = "row_17_readers_and_writers_come_and_go_in_any_order";
    if let Some(role) = role() {
        for _ in 0..number() {
            if role == "reader" {
                let store = Store::open_read_only(path()).unwrap();
                let pair = store.array::<u64>("pair", 2).unwrap().load();
                assert_eq!(pair[0], pair[1]);
            } else {
                let store = Store::open(path()).unwrap();
                let pair = store.array::<u64>("pair", 2).unwrap();
                pair.update(|p| p.iter_mut().for_each(|x| *x += 1)).unwrap();
            }
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    Store::create(&path).unwrap().array::<u64>("pair", 2).unwrap();
    let times = rounds(300, 3_000) as u64;
    let children: Vec<_> = ["reader", "writer", "writer", "writer"]
        .map(|role| Child::spawn_with(NAME, role, &path, times))
        .into();
    children.into_iter().for_each(Child::join);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.array::<u64>("pair", 2).unwrap().load(), [3 * times; 2]);
}

/// If the file is renamed or deleted while it is open, processes that have it open keep using it.
#[test]
fn row_25_a_store_replaced_while_it_is_open_is_two_stores() {
    let folder = folder();
    let path = store_in(&folder);
    let first = Store::create(&path).unwrap();
    let old = first.value::<u64>("value").unwrap();
    old.store(1).unwrap();
    assert!(first.check().unwrap().is_ok());
    std::fs::rename(&path, folder.path().join("old")).unwrap();
    let new = Store::create(&path).unwrap().value::<u64>("value").unwrap();
    new.store(2).unwrap();
    old.fetch_add(10).unwrap();
    assert_eq!((old.load(), new.load()), (11, 2));
    let problems = first.check().unwrap().problems;
    assert!(problems.len() == 1 && problems[0].what.starts_with("replaced"), "{problems:?}");
    let renamed = Store::open(folder.path().join("old")).unwrap();
    assert_eq!(renamed.value::<u64>("value").unwrap().load(), 11);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::NotFound { .. })));
    until("the last handle works", || new.fetch_add(1).unwrap() == 2);
}

/// A program that is not a fork of this one opens a nameless store by an inherited descriptor.
#[test]
fn a_temporary_store_is_shared_by_its_descriptor() {
    const NAME: &str = "a_temporary_store_is_shared_by_its_descriptor";
    if role().is_some() {
        let store = Store::open("/proc/self/fd/0").unwrap();
        assert_eq!(store.recovery(), slotfile::Recovery::Joined);
        let turn = store.value::<u32>("turn").unwrap();
        let locked = store.value::<u32>("locked").unwrap();
        let _guard = locked.lock().unwrap();
        turn.wait_until(|turn| turn == 1, None).unwrap();
        store.array::<u64>("new", 3).unwrap().store(&[1, 2, 3]).unwrap();
        turn.store(2).unwrap();
        turn.wait_until(|turn| turn == 3, None).unwrap();
        return;
    }
    let mut options = OpenOptions::new();
    options.max_slots(16).max_size(16 << 20).lock_timeout(Some(Duration::from_millis(50)));
    let store = options.open_temporary().unwrap();
    let (turn, locked) = (store.value::<u32>("turn").unwrap(), store.value::<u32>("locked"));
    let locked = locked.unwrap();
    let by_number = format!("/proc/self/fd/{}", store.as_fd().as_raw_fd());
    let file = std::fs::File::options().read(true).write(true).open(by_number).unwrap();
    let child = Child::of(common::command(NAME, "sharer", Path::new("")).stdin(file));
    turn.store(1).unwrap();
    let timeout = Some(Duration::from_secs(60));
    assert_eq!(turn.wait_until(|turn| turn == 2, timeout).unwrap(), Some(2));
    assert_eq!(store.array::<u64>("new", 3).unwrap().load(), [1, 2, 3]);
    let error = locked.lock().unwrap_err();
    assert!(matches!(error, Error::LockTimeout { holder: Some(by), .. } if by.pid == child.pid()));
    turn.store(3).unwrap();
    child.join();
    drop(locked.lock().unwrap());

    assert_eq!(store.info().unwrap().max_size, 16 << 20);
    let error = options.read_only(true).open_temporary().unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
}
