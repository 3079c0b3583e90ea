//! A program may close descriptors that it does not know. Its locks last all the same, and nothing
//! is written into the file that gets the descriptor's number.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::common;
use crate::common::{Child, folder, os, role, store_in, until, within};
use slotfile::{Error, OpenOptions, Store};

const NOBODY: u32 = 65_534;

fn unsynced() -> OpenOptions {
    OpenOptions::new().create(true).sync_every(None).clone()
}

fn hasty() -> OpenOptions {
    OpenOptions::new().sync_every(None).lock_timeout(Some(Duration::from_millis(300))).clone()
}

/// Reports its own pid in a slot, and waits to be killed.
fn report_and_wait(store: &Store) -> ! {
    store.value::<u64>("ready").unwrap().store(std::process::id().into()).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A child's part: locks `array`, closes everything, and reports.
fn lock_and_close_all() -> ! {
    let store = Store::open(common::path()).unwrap();
    let array = store.array::<u64>("array", 4).unwrap();
    let _guard = array.lock().unwrap();
    os::close_all_from(3);
    report_and_wait(&store)
}

#[test]
fn row_51_a_lock_outlives_its_closed_descriptor_and_not_its_process() {
    const NAME: &str = "row_51_a_lock_outlives_its_closed_descriptor_and_not_its_process";
    match role().as_deref() {
        Some("holder") => lock_and_close_all(),
        Some("parent") => {
            // The guard is the parent's; the child outlives it.
            let store = Store::open(common::path()).unwrap();
            let array = store.array::<u64>("array", 4).unwrap();
            let _guard = array.lock().unwrap();
            os::close_all_from(3);
            let _child = os::fork(|| report_and_wait(&store));
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        _ => {}
    }
    if !common::apart(NAME) {
        return;
    }
    for role in ["holder", "parent"] {
        let folder = folder();
        let path = store_in(&folder);
        let store = unsynced().open(&path).unwrap();
        let ready = store.value::<u64>("ready").unwrap();
        store.array::<u64>("array", 4).unwrap();
        let holder = Child::spawn(NAME, role, &path);
        until("the lock is held", || ready.load() != 0);
        // From an unrelated process.
        os::fork(|| {
            let array = hasty().open(&path).unwrap().array::<u64>("array", 4).unwrap();
            let result = array.set(0, 1);
            assert!(matches!(result, Err(Error::LockTimeout { .. })), "{role}: {result:?}");
        })
        .join();
        holder.kill();
        drop(holder);
        let array = store.array::<u64>("array", 4).unwrap();
        let taken = array.with_lock_timeout(Some(Duration::from_secs(5))).set(0, 7);
        if role == "parent" {
            os::signal(ready.load() as u32, libc::SIGKILL);
        }
        taken.unwrap();
    }
}

#[test]
fn a_writer_that_has_closed_everything_tears_nothing() {
    const NAME: &str = "a_writer_that_has_closed_everything_tears_nothing";
    const LEN: usize = 1 << 17;
    if let Some(role) = role() {
        let store = unsynced().open(common::path()).unwrap();
        let array = store.array::<u64>("array", LEN).unwrap();
        drop(array.lock().unwrap());
        if role == "closer" {
            os::close_all_from(3);
        }
        let stored = store.value::<u64>(&role).unwrap();
        for number in 0.. {
            array.store(&vec![2 * number + u64::from(role == "closer"); LEN]).unwrap();
            stored.store(number + 1).unwrap();
        }
    }
    let folder = common::folder_in_memory();
    let path = store_in(&folder);
    let store = unsynced().open(&path).unwrap();
    let array = store.array::<u64>("array", LEN).unwrap();
    let roles = ["closer", "other"];
    let stored = roles.map(|role| store.value::<u64>(role).unwrap());
    let writers = roles.map(|role| Child::spawn(NAME, role, &path));
    let enough = || stored.iter().all(|stored| stored.load() >= 100);
    until("both have written", || {
        let content = array.load();
        assert!(content.iter().all(|x| *x == content[0]), "torn");
        enough()
    });
    drop(writers);
    let content = array.load();
    assert!(content.iter().all(|x| *x == content[0]), "torn for good");
}

/// All operations that need the descriptor, in a program whose number is now another file.
#[test]
fn row_51_a_sync_never_writes_into_the_file_that_got_the_number() {
    if !common::apart("row_51_a_sync_never_writes_into_the_file_that_got_the_number") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    os::fork(|| {
        let store = unsynced().open(&path).unwrap();
        let value = store.value::<u64>("value").unwrap();
        value.store(1).unwrap();
        store.sync().unwrap();
        let number = store.as_fd().as_raw_fd();
        os::close_all_from(3);
        let users = folder.path().join("users");
        let open = || {
            let mut options = std::fs::File::options();
            options.read(true).write(true).create(true).truncate(false).open(&users).unwrap()
        };
        // The lowest free number is given out first.
        let mut files: Vec<_> = (0..8).map(|_| open()).collect();
        assert!(files.iter().any(|file| file.as_raw_fd() == number));
        files[0].write_all(b"the user's own").unwrap();
        assert_eq!(store.check().unwrap().problems, [], "it reads the user's file");
        value.store(2).unwrap();
        store.sync().unwrap();
        // Growing, locking, and a thread's first lock, too.
        let array = store.array::<u64>("array", 1 << 18).unwrap();
        std::thread::scope(|scope| scope.spawn(|| array.set(0, 9).unwrap()).join().unwrap());
        drop(array.lock().unwrap());
        store.sync().unwrap();
        let mut content = String::new();
        open().read_to_string(&mut content).unwrap();
        assert_eq!(content, "the user's own");
        // The child of a fork leaves the number alone.
        os::fork(|| {
            for file in &files {
                assert_eq!(file.metadata().unwrap().len(), 14, "it is the user's still");
            }
            array.set(1, 10).unwrap();
            store.sync().unwrap();
        })
        .join();
        drop((array, value, store));
        assert!(files.iter().all(|file| file.metadata().is_ok_and(|m| m.len() == 14)));
    })
    .join();
    let store = hasty().open(&path).unwrap();
    assert_eq!(store.value::<u64>("value").unwrap().load(), 2);
    assert_eq!(store.array::<u64>("array", 1 << 18).unwrap().load()[..2], [9, 10]);
    assert!(store.check().unwrap().problems.is_empty());
}

/// The number may stand for the very same file, opened by the program itself.
#[test]
fn another_description_of_the_same_file_is_not_taken_for_ours() {
    if !common::apart("another_description_of_the_same_file_is_not_taken_for_ours") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    os::fork(|| {
        let store = unsynced().open(&path).unwrap();
        let array = store.array::<u64>("array", 4).unwrap();
        let number = store.as_fd().as_raw_fd();
        os::close_all_from(3);
        let copies: Vec<_> = (0..8).map(|_| std::fs::File::open(&path).unwrap()).collect();
        assert!(copies.iter().any(|file| file.as_raw_fd() == number));
        let _guard = array.lock().unwrap();
        assert_ne!(store.as_fd().as_raw_fd(), number);
        store.sync().unwrap();
        drop(copies);
        // Their closing has released no lock.
        os::fork(|| {
            let array = hasty().open(&path).unwrap().array::<u64>("array", 4).unwrap();
            assert!(matches!(array.set(0, 1), Err(Error::LockTimeout { .. })));
        })
        .join();
    })
    .join();
}

/// Entries taken before the descriptor was closed serve all later threads; the locks that these
/// leave are recovered, and all is free at the end.
#[test]
fn threads_come_and_go_after_the_descriptor_was_closed() {
    if !common::apart("threads_come_and_go_after_the_descriptor_was_closed") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let other = unsynced().open(&path).unwrap();
    let array = other.array::<u64>("array", 4).unwrap();
    os::fork(|| {
        let store = unsynced().open(&path).unwrap();
        let array = store.array::<u64>("array", 4).unwrap();
        std::thread::scope(|scope| {
            for round in 0..3 {
                let before = scope.spawn(|| {
                    array.set(0, 1).unwrap();
                    std::mem::forget(array.lock().unwrap());
                });
                if round == 1 {
                    array.set(0, 1).unwrap();
                    os::close_all_from(3);
                }
                before.join().unwrap();
                // Leaked by a thread that has ended.
                within(Duration::from_secs(1), "the lock", || array.set(0, 2)).unwrap();
            }
        });
    })
    .join();
    within(Duration::from_secs(1), "the lock", || array.set(0, 3)).unwrap();
}

/// If the file cannot be reopened, that is an error, and what needs no descriptor works. Another
/// file that has its name now is not touched.
#[test]
fn a_store_that_is_nowhere_says_so() {
    if !common::apart("a_store_that_is_nowhere_says_so") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    for replaced in [false, true] {
        nowhere(&path, replaced);
        assert_eq!(std::fs::read(&path).ok().is_some_and(|c| c == b"another file"), replaced);
    }
}

fn nowhere(path: &Path, replaced: bool) {
    os::fork(|| {
        let store = unsynced().open(path).unwrap();
        let (value, array) =
            (store.value::<u64>("v").unwrap(), store.array::<u64>("a", 4).unwrap());
        array.set(0, 1).unwrap();
        std::fs::remove_file(path).unwrap();
        if replaced {
            std::fs::write(path, "another file").unwrap();
            for (at, mode) in [(path, 0o666), (path.parent().unwrap(), 0o755)] {
                std::fs::set_permissions(at, Permissions::from_mode(mode)).unwrap();
            }
        }
        if os::is_root() {
            os::become_user(NOBODY); // root may follow the kernel's link to a mapped file
        }
        os::close_all_from(3);
        value.store(2).unwrap();
        array.set(0, 2).unwrap();
        let error = store.sync().unwrap_err().to_string();
        assert!(error.contains("this program has closed it"), "{error}");
        let unlocked = std::thread::scope(|s| s.spawn(|| array.set(0, 3)).join().unwrap());
        let error = unlocked.unwrap_err().to_string();
        assert!(error.contains("this program has closed it"), "{error}");
    })
    .join();
}

/// A file that was moved is found by its new name.
#[test]
fn a_file_that_moved_is_opened_anew_where_it_is() {
    if !common::apart("a_file_that_moved_is_opened_anew_where_it_is") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    os::fork(|| {
        let store = unsynced().open(&path).unwrap();
        let value = store.value::<u64>("value").unwrap();
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        std::fs::write(&path, "another file").unwrap();
        os::close_all_from(3);
        value.store(5).unwrap();
        // Synced, and its path leads elsewhere.
        let error = store.sync().unwrap_err();
        assert!(matches!(error, slotfile::Error::Detached { .. }), "{error}");
        assert_eq!(store.info().unwrap().unsynced, Some(0));
        assert_eq!(std::fs::read(&path).unwrap(), b"another file");
    })
    .join();
}

#[test]
fn a_child_that_may_not_open_the_file_says_so() {
    if !common::apart("a_child_that_may_not_open_the_file_says_so") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = unsynced().open(&path).unwrap();
    let (value, array) = (store.value::<u64>("v").unwrap(), store.array::<u64>("a", 4).unwrap());
    if !os::is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    os::fork(|| {
        os::become_user(NOBODY);
        array.set(0, 1).unwrap();
        os::fork(|| {
            value.store(2).unwrap();
            assert_eq!((value.load(), array.get(0).unwrap()), (2, 1));
            for error in [array.set(0, 2).unwrap_err(), store.sync().unwrap_err()] {
                let error = error.to_string();
                assert!(
                    error.contains("the child of a fork") && error.contains("denied"),
                    "{error}"
                );
            }
        })
        .join();
        // The parent's own has not changed.
        array.set(0, 3).unwrap();
        store.sync().unwrap();
    })
    .join();
    assert_eq!(array.get(0).unwrap(), 3);
}

/// With one descriptor left, the file cannot be mapped apart from its locks. That is an error;
/// otherwise a killed parent's locks would last as long as its child.
#[test]
fn row_11_a_store_that_cannot_be_mapped_apart_from_its_locks_is_refused() {
    if !common::apart("row_11_a_store_that_cannot_be_mapped_apart_from_its_locks_is_refused") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    unsynced().open(&path).unwrap().value::<u64>("value").unwrap();
    os::fork(|| {
        os::limit(libc::RLIMIT_NOFILE, 64);
        let mut files: Vec<_> =
            std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        for _ in 0..3 {
            match unsynced().open(&path) {
                Ok(_) => return,
                Err(Error::Io { source, .. }) => {
                    assert_eq!(source.raw_os_error(), Some(libc::EMFILE), "{source}");
                }
                Err(other) => panic!("{other:?}"),
            }
            files.pop();
        }
        // Three descriptors are enough.
        unsynced().open(&path).unwrap();
    })
    .join();
}
