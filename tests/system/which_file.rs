//! Which file a store is, when its file is moved, replaced or deleted, and when a compaction puts a
//! new one in its place.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::Duration;

use crate::common;
use crate::common::{Child, folder, store_in, until};
use slotfile::{Detached, Error, OpenOptions, Store};

fn hits(store: &Store) -> slotfile::Value<u64> {
    store.value::<u64>("hits").unwrap()
}

fn with_hits(path: &Path, content: u64) -> Store {
    let store = Store::create(path).unwrap();
    store.value::<u64>("removed").unwrap();
    store.remove("removed").unwrap();
    hits(&store).store(content).unwrap();
    store
}

fn at(path: &Path) -> u64 {
    hits(&Store::open(path).unwrap()).load()
}

fn names(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn opening_during_a_compaction_gets_the_new_file() {
    let folder = folder();
    let path = store_in(&folder);
    let store = with_hits(&path, 1);
    store.array::<u64>("big", 1 << 16).unwrap();
    std::thread::scope(|scope| {
        let other = RefCell::new(None);
        let store = store.compact_with(|_| {
            // Another thread of this program opens the store, at any moment of the compaction.
            other.borrow_mut().get_or_insert_with(|| {
                let opening = scope.spawn(|| Store::open(&path).unwrap());
                std::thread::sleep(Duration::from_millis(50));
                assert!(!opening.is_finished(), "it did not wait");
                opening
            });
        });
        let (store, other) = (store.unwrap(), other.take().unwrap().join().unwrap());
        hits(&other).store(77).unwrap();
        other.sync().unwrap();
        assert_eq!(hits(&store).load(), 77);
        assert!(!other.is_detached() && !store.is_detached());
    });
    assert_eq!(at(&path), 77);
}

#[test]
fn after_a_failed_compaction_this_program_can_open_the_store_again() {
    let folder = folder();
    let path = store_in(&folder);
    let store = with_hits(&path, 1).with_lock_timeout(Some(Duration::from_millis(20)));
    // A stranger keeps the open lock.
    let file = fs::File::open(&path).unwrap();
    fs2::FileExt::lock_exclusive(&file).unwrap();
    assert!(matches!(store.compact(), Err(Error::InUse { .. })));
    fs2::FileExt::unlock(&file).unwrap();
    let (one, two) = (Store::open(&path).unwrap(), Store::open(&path).unwrap());
    hits(&one).store(5).unwrap();
    assert_eq!(hits(&two).load(), 5);
}

/// The new file is already in place. The error says so, and names the file that is left.
#[test]
fn a_compaction_that_cannot_remove_the_old_file_says_that_it_was_done() {
    const NAME: &str = "a_compaction_that_cannot_remove_the_old_file_says_that_it_was_done";
    if common::role().is_some() {
        let path = common::path();
        let store = Store::open(&path).unwrap();
        let removing = [
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink,
            libc::SYS_unlinkat,
        ];
        if !common::os::deny(&removing, libc::EPERM) {
            return fs::write(path.with_extension("skipped"), "").unwrap();
        }
        let error = store.compact().unwrap_err().to_string();
        return fs::write(path.with_extension("error"), error).unwrap();
    }
    let folder = folder();
    let path = store_in(&folder);
    drop(with_hits(&path, 7));
    let inode = path.metadata().unwrap().ino();
    Child::spawn(NAME, "apart", &path).join();
    if path.with_extension("skipped").exists() {
        return eprintln!("skipped: no seccomp");
    }
    let error = fs::read_to_string(path.with_extension("error")).unwrap();
    assert!(error.contains("the store was compacted"), "{error}");
    assert_ne!(path.metadata().unwrap().ino(), inode, "it was not compacted");
    assert_eq!(at(&path), 7);
    let left = Path::new(error.split(':').next().unwrap());
    assert_eq!(left.metadata().unwrap().ino(), inode, "{error}");
    assert!(matches!(Store::open(left), Err(Error::Detached { how: Detached::Compacted, .. })));
}

/// The file at the path may now be anything, and belong to anybody.
#[test]
fn a_compaction_replaces_its_own_file_or_none() {
    let folder = folder();
    let path = store_in(&folder);
    let moved = folder.path().join("moved");
    let swap = || {
        fs::rename(&path, &moved).unwrap();
        with_hits(&path, 222)
    };
    // The file is swapped before the compaction begins, or during it.
    for early in [true, false] {
        let store = with_hits(&path, 1);
        let inode = path.metadata().unwrap().ino();
        let other = RefCell::new(None);
        if early {
            other.replace(Some(swap()));
        }
        let error = store.compact_with(|_| {
            other.borrow_mut().get_or_insert_with(swap);
        });
        let error = error.unwrap_err();
        let replaced = matches!(error, Error::Detached { how: Detached::Replaced, .. });
        assert!(replaced, "{error}");
        assert_eq!(names(folder.path()), 2, "another file is left behind");
        let other = other.take().unwrap();
        hits(&other).store(223).unwrap();
        assert!(!other.is_detached());
        other.sync().unwrap();
        drop(other);
        assert_eq!((at(&path), at(&moved)), (223, 1));
        assert_eq!(moved.metadata().unwrap().ino(), inode);
        fs::remove_file(&path).unwrap();
        fs::remove_file(&moved).unwrap();
    }
    // There is no file at the path.
    let store = with_hits(&path, 1);
    fs::rename(&path, &moved).unwrap();
    let error = store.compact().unwrap_err();
    assert!(matches!(error, Error::Detached { how: Detached::Moved, .. }), "{error}");
    assert_eq!((names(folder.path()), at(&moved)), (1, 1));
}

#[test]
fn a_relative_path_means_what_it_meant_when_the_store_was_opened() {
    const NAME: &str = "a_relative_path_means_what_it_meant_when_the_store_was_opened";
    if common::role().is_some() {
        let folder = common::path();
        let (a, b) = (folder.join("a"), folder.join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        std::env::set_current_dir(&a).unwrap();
        let store = with_hits(Path::new("t"), 1);
        let inode = fs::metadata("t").unwrap().ino();
        // As a daemon does.
        std::env::set_current_dir(&b).unwrap();
        assert!(!store.is_detached());
        let store = store.compact().unwrap();
        hits(&store).store(2).unwrap();
        drop(store);
        assert_eq!(at(&a.join("t")), 2);
        assert_ne!(a.join("t").metadata().unwrap().ino(), inode, "it was not compacted");
        assert!(!b.join("t").exists());
        return;
    }
    let folder = folder();
    Child::spawn(NAME, "moves", folder.path()).join();
}

#[test]
fn a_symbolic_link_leads_to_the_compacted_store() {
    let folder = folder();
    fs::create_dir(folder.path().join("data")).unwrap();
    let (real, link) = (folder.path().join("data/real"), folder.path().join("link"));
    drop(with_hits(&real, 1));
    symlink("data/real", &link).unwrap();
    let inode = real.metadata().unwrap().ino();
    let store = Store::open(&link).unwrap().compact().unwrap();
    hits(&store).store(2).unwrap();
    assert!(link.is_symlink());
    assert_ne!(real.metadata().unwrap().ino(), inode);
    assert_eq!((at(&link), at(&real)), (2, 2));
    assert_eq!((names(folder.path()), names(&folder.path().join("data"))), (2, 1));
}

#[test]
fn a_store_with_two_names_is_not_compacted() {
    let folder = folder();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    drop(with_hits(&one, 1));
    let link = || fs::hard_link(&one, &two).unwrap();
    for early in [true, false] {
        if early {
            link();
        }
        let error = Store::open(&one).unwrap().compact_with(|_| {
            if !two.exists() {
                link();
            }
        });
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("2 names (hard links)"), "{error}");
        hits(&Store::open(&one).unwrap()).store(2).unwrap();
        assert_eq!((at(&two), names(folder.path())), (2, 2));
        fs::remove_file(&two).unwrap();
    }
    Store::open(&one).unwrap().compact().unwrap();
}

/// The file alone is mounted into a container, so a compaction outside does not reach it.
#[test]
fn the_old_file_of_a_compacted_store_is_refused_where_it_is_mounted() {
    const NAME: &str = "the_old_file_of_a_compacted_store_is_refused_where_it_is_mounted";
    if common::role().is_some() {
        let (real, inside) = (common::path(), common::path().with_extension("inside"));
        fs::write(&inside, "").unwrap();
        let mounted = common::os::have_own_mounts()
            && common::os::mount("none", &real, &inside, libc::MS_BIND, "");
        if !mounted {
            eprintln!("skipped: this process may not mount");
            return;
        }
        let error = Store::open(&inside).unwrap().compact().unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("mounted"), "{error}");
        assert_eq!(at(&inside), 1);
        drop(Store::open(&real).unwrap().compact().unwrap());
        for read_only in [false, true] {
            let error = OpenOptions::new().read_only(read_only).open(&inside).unwrap_err();
            let compacted = matches!(error, Error::Detached { how: Detached::Compacted, .. });
            assert!(compacted, "{error}");
        }
        // A copy of the old file is a store by itself.
        let copy = real.with_extension("copy");
        fs::copy(&inside, &copy).unwrap();
        for read_only in [true, false] {
            drop(OpenOptions::new().read_only(read_only).open(&copy).unwrap());
        }
        assert_eq!(at(&real), 1);
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    drop(with_hits(&path, 1));
    Child::spawn(NAME, "container", &path).join();
}

#[test]
fn a_compaction_waits_for_others_and_names_them() {
    const NAME: &str = "a_compaction_waits_for_others_and_names_them";
    if common::role().is_some() {
        // Opened read-only, it has no entry in the process table.
        let store = Store::open_read_only(common::path()).unwrap();
        fs::write(common::path().with_extension("there"), "").unwrap();
        until("it is to go", || common::path().with_extension("go").exists());
        return drop(store);
    }
    let folder = folder();
    let path = store_in(&folder);
    drop(with_hits(&path, 1));
    let child = Child::spawn(NAME, "reader", &path);
    until("it has it open", || path.with_extension("there").exists());
    let open = |timeout| OpenOptions::new().lock_timeout(timeout).open(&path).unwrap();
    let error = open(Some(Duration::from_millis(100))).compact().unwrap_err();
    let Error::InUse { by, waited, .. } = &error else { panic!("{error}") };
    assert!(by.iter().any(|opener| opener.pid == child.pid()), "{error}");
    assert!(*waited >= Duration::from_millis(100));
    assert!(error.to_string().contains(&format!("pid {} (", child.pid())), "{error}");
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| drop(open(None).compact().unwrap()));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!compacting.is_finished());
        fs::write(path.with_extension("go"), "").unwrap();
    });
    child.join();
    assert_eq!(at(&path), 1);
}

#[track_caller]
fn assert_detached(store: &Store, how: Detached) {
    assert!(store.is_detached());
    assert_eq!(store.info().unwrap().detached, Some(how));
    let error = store.sync().unwrap_err();
    assert!(matches!(error, Error::Detached { how: found, .. } if found == how), "{error}");
    let problems = store.check().unwrap().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].what, how.to_string());
}

#[test]
fn row_25_a_store_whose_file_is_gone_says_so() {
    let folder = folder();
    fs::create_dir(folder.path().join("data")).unwrap();
    let (path, other) = (folder.path().join("data/s"), folder.path().join("other"));
    let store = with_hits(&path, 1);
    store.sync().unwrap();
    assert!(!store.is_detached());
    assert_eq!(store.info().unwrap().detached, None);

    fs::rename(&path, &other).unwrap();
    assert_detached(&store, Detached::Moved);
    fs::rename(&other, &path).unwrap();
    assert!(!store.is_detached());
    store.sync().unwrap();

    // The folder is moved, as when a backup is put back.
    let (data, old) = (folder.path().join("data"), folder.path().join("old"));
    fs::rename(&data, &old).unwrap();
    assert_detached(&store, Detached::Moved);
    fs::create_dir(&data).unwrap();
    fs::copy(old.join("s"), &path).unwrap();
    assert_detached(&store, Detached::Replaced);
    fs::remove_dir_all(&old).unwrap();
    assert_detached(&store, Detached::Replaced);
    fs::remove_file(&path).unwrap();
    assert_detached(&store, Detached::Deleted);
    fs::remove_dir(&data).unwrap();
    fs::write(&data, "").unwrap();
    assert_detached(&store, Detached::Deleted);

    // Its content can still be saved.
    hits(&store).store(9).unwrap();
    store.copy_to(&other).unwrap();
    assert_eq!(at(&other), 9);
    assert!(!Store::temporary().unwrap().is_detached());
}

#[test]
fn a_watch_whose_file_is_replaced_does_not_wait_for_ever() {
    let folder = folder();
    let path = store_in(&folder);
    let store = with_hits(&path, 1);
    let mut watch = store.watch("*").unwrap();
    assert!(watch.next(Some(Duration::ZERO)).unwrap().is_none());
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch.next(Some(Duration::from_secs(30))));
        fs::remove_file(&path).unwrap();
        let other = with_hits(&path, 2);
        let error = watching.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Detached { how: Detached::Replaced, .. }), "{error}");
        assert!(!other.is_detached());
    });
    // A change in the old file is still reported.
    hits(&store).store(3).unwrap();
    assert!(watch.next(Some(Duration::ZERO)).unwrap().is_some());
}

/// The same holds for all other waiters, for one slot or for several.
#[test]
fn a_wait_ends_when_the_file_is_deleted() {
    let folder = folder();
    let path = store_in(&folder);
    let store = with_hits(&path, 1);
    let hits = hits(&store);
    let seen = hits.version();
    let timeout = Some(Duration::from_secs(30));
    let is_deleted = |error: Error| {
        assert!(matches!(error, Error::Detached { how: Detached::Deleted, .. }), "{error}");
    };
    std::thread::scope(|scope| {
        let change = scope.spawn(|| hits.wait_for_change(seen, timeout).unwrap_err());
        let until = scope.spawn(|| hits.wait_until(|hits| hits == 5, timeout).unwrap_err());
        let any = scope.spawn(|| store.wait_any(&[(&hits, seen)], timeout).unwrap_err());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!change.is_finished() && !until.is_finished() && !any.is_finished());
        fs::remove_file(&path).unwrap();
        for waiting in [change, until, any] {
            is_deleted(waiting.join().unwrap());
        }
    });
    // A handle alone, without the store.
    drop(store);
    is_deleted(hits.wait_for_change(seen, timeout).unwrap_err());
    // A change is still reported.
    hits.store(5).unwrap();
    assert!(hits.wait_for_change(seen, timeout).unwrap().is_some());
}

/// As long as one of the paths by which it was opened leads to the file, others can find it.
#[test]
fn a_waiter_knows_the_file_by_all_of_its_names() {
    let folder = folder();
    let path = store_in(&folder);
    let other = folder.path().join("other");
    let store = with_hits(&path, 1);
    fs::hard_link(&path, &other).unwrap();
    let again = Store::open(&other).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(store.is_detached() && !again.is_detached());
    let hits = hits(&store);
    let wait = || hits.wait_for_change(hits.version(), Some(Duration::from_millis(10)));
    assert_eq!(wait().unwrap(), None);
    fs::remove_file(&other).unwrap();
    assert!(matches!(wait().unwrap_err(), Error::Detached { .. }));
}

#[test]
fn a_store_is_not_copied_to_itself() {
    let folder = folder();
    let path = store_in(&folder);
    let (soft, hard) = (folder.path().join("soft"), folder.path().join("hard"));
    let store = with_hits(&path, 1);
    symlink(&path, &soft).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    for to in [&path, &soft, &hard] {
        let error = store.copy_to(to).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(error.to_string().contains("is this very store"), "{error}");
    }
    assert_eq!(at(&path), 1);
}
