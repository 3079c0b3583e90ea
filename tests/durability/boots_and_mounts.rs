//! Which boot and mount the live area belongs to, with each source of that failing, one by one.
//! The live area is discarded only if the machine was certainly restarted, or the file system
//! mounted again.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::common;
use crate::common::mounts::{Disk, mount_overlay, on, with_own_mounts};
use crate::common::raw::{IDENTITY, Raw};
use crate::common::{Child, folder, folder_in_memory, os, store_in};
use slotfile::{Error, OpenOptions, Recovery, Store};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn options() -> OpenOptions {
    OpenOptions::new().create(true).sync_every(None).clone()
}

/// A store with 5 in its last sync, and 6 committed after it.
fn unsynced(path: &Path) {
    let store = options().open(path).unwrap();
    let value = store.value::<u64>("value").unwrap();
    value.store(5).unwrap();
    store.sync().unwrap();
    value.store(6).unwrap();
}

/// Opens it; nothing must be lost.
#[track_caller]
fn resumes(options: &OpenOptions, path: &Path) {
    let store = options.open(path).unwrap();
    assert_eq!(store.recovery(), Recovery::Resumed);
    assert_eq!(store.value::<u64>("value").unwrap().load(), 6);
}

/// Opens it; it must be as of its last sync.
#[track_caller]
fn restores(path: &Path) {
    let store = options().open(path).unwrap();
    assert!(matches!(store.recovery(), Recovery::Restored { .. }), "{:?}", store.recovery());
    assert_eq!(store.value::<u64>("value").unwrap().load(), 5);
}

/// Opening is refused, also read-only, with this reason and remedy; nothing is lost.
#[track_caller]
fn is_refused(path: &Path, said: [&str; 2]) {
    for options in [options(), options().create(false).read_only(true).clone()] {
        let error = options.open(path).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert!(said.iter().all(|said| message.contains(said)), "{message}");
    }
}

/// Shows something else at this path.
fn cover(path: &str, by: &str) {
    assert!(os::mount("none", Path::new(by), Path::new(path), libc::MS_BIND, ""));
}

/// Leaves this process this many more descriptors, while the result lives.
fn few_descriptors(left: usize) -> Vec<File> {
    os::limit(libc::RLIMIT_NOFILE, 64);
    let mut open: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    open.truncate(open.len() - left);
    open
}

#[test]
fn row_34_without_free_descriptors_nothing_is_thrown_away() {
    if !common::apart("row_34_without_free_descriptors_nothing_is_thrown_away") {
        return;
    }
    let folder = folder();
    for checkpoint in [true, false] {
        let path = folder.path().join(format!("checkpoint {checkpoint}"));
        // All in that process: a child that another test forks here would have the store open.
        os::fork(|| {
            let store = options().checkpoint(checkpoint).open(&path).unwrap();
            store.value::<u64>("value").unwrap().store(6).unwrap();
            drop(store);
            let mut refused = 0;
            for (left, unmarked) in (0..4).flat_map(|left| [(left, false), (left, true)]) {
                if unmarked {
                    os::unmark(&path);
                }
                let open = few_descriptors(left);
                let opened = options().open(&path);
                drop(open);
                match &opened {
                    Ok(store) => assert_eq!(store.recovery(), Recovery::Resumed),
                    Err(error) => assert!(error.to_string().contains("open files"), "{error}"),
                }
                refused += u32::from(opened.is_err());
                drop(opened);
                resumes(&options(), &path);
            }
            assert!((2..8).contains(&refused));
        })
        .join();
    }
}

#[test]
fn row_34_without_a_boot_id_nothing_is_thrown_away() {
    if !common::apart("row_34_without_a_boot_id_nothing_is_thrown_away") {
        return;
    }
    let folder = folder_in_memory();
    let path = store_in(&folder);
    with_own_mounts(|| {
        unsynced(&path);
        cover(BOOT_ID, "/dev/null");
        resumes(&options(), &path);
        os::unmark(&path);
        is_refused(&path, [BOOT_ID, "where /proc is mounted"]);
        assert!(os::unmount(Path::new(BOOT_ID)));
        resumes(&options(), &path);
        // Without /proc at all.
        cover("/proc", "/sys/fs");
        resumes(&options(), &path);
        os::unmark(&path);
        is_refused(&path, [BOOT_ID, "where /proc is mounted"]);
        let error = Store::create(folder.path().join("new")).unwrap_err();
        assert!(error.to_string().contains("mount /proc"), "{error}");
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        let error = Store::temporary().unwrap_err();
        assert!(error.to_string().contains("/proc"), "{error}");
    });
}

/// A folder on a file system that shows its mounts in /sys/fs.
fn shown_in_sysfs() -> Option<tempfile::TempDir> {
    let folder = folder();
    let path = store_in(&folder);
    unsynced(&path);
    let shown = Raw::open(&path).word(IDENTITY + 8 * 5) != 0;
    std::fs::remove_file(path).unwrap();
    if !shown {
        eprintln!("skipped: the file system of {} shows no mounts", folder.path().display());
    }
    shown.then_some(folder)
}

#[test]
fn row_34_without_sys_nothing_is_thrown_away() {
    if !common::apart("row_34_without_sys_nothing_is_thrown_away") {
        return;
    }
    let Some(folder) = shown_in_sysfs() else { return };
    let path = store_in(&folder);
    with_own_mounts(|| {
        unsynced(&path);
        assert!(os::mount("tmpfs", Path::new("tmpfs"), Path::new("/sys"), 0, ""));
        resumes(&options(), &path);
        os::unmark(&path);
        is_refused(&path, ["/sys", "where /sys is mounted"]);
        resumes(options().any_file_system(true), &path);
        // If everything was synced, a restore loses nothing.
        options().open(&path).unwrap().sync().unwrap();
        os::unmark(&path);
        let store = options().open(&path).unwrap();
        assert!(matches!(store.recovery(), Recovery::Restored { .. }));
        assert_eq!(store.value::<u64>("value").unwrap().load(), 6);
        drop(store);
        // Now it was recovered by a process that did not see /sys.
        options().open(&path).unwrap().value::<u64>("value").unwrap().store(6).unwrap();
        os::unmark(&path);
        assert!(os::unmount(Path::new("/sys")));
        is_refused(&path, ["could not read /sys", "--any-file-system"]);
        resumes(options().any_file_system(true), &path);
    });
}

/// An old sandbox: the birth time of a file is not available.
#[test]
fn row_34_without_statx_nothing_is_thrown_away() {
    const NAME: &str = "row_34_without_statx_nothing_is_thrown_away";
    if let Some(role) = common::role() {
        let path = common::path();
        // Rust's std remembers that the call works, so the refusal needs a new process.
        if role == "sandbox" {
            return match os::deny(&[libc::SYS_statx], common::number() as i32) {
                true => Child::spawn(NAME, "inside", &path).join(),
                false => eprintln!("skipped: no seccomp"),
            };
        }
        assert!(path.metadata().unwrap().created().is_err(), "its birth is known");
        resumes(&options(), &path);
        os::unmark(&path);
        return resumes(&options(), &path);
    }
    let folder = folder();
    let path = store_in(&folder);
    for error in [libc::ENOSYS, libc::EPERM] {
        unsynced(&path);
        Child::spawn_with(NAME, "sandbox", &path, error as u64).join();
        os::unmark(&path);
        resumes(&options(), &path);
        std::fs::remove_file(&path).unwrap();
    }
}

/// A live area known to be of another boot, mount or file is restored; an unknown source counts
/// neither for nor against that.
#[test]
fn row_34_each_part_of_the_identity_is_compared_if_it_is_known() {
    if !common::apart("row_34_each_part_of_the_identity_is_compared_if_it_is_known") {
        return;
    }
    let Some(folder) = shown_in_sysfs() else { return };
    let path = store_in(&folder);
    let at = |word: u64| IDENTITY + 8 * word;
    // Boot, boot, device, inode, birth, generation; the mount.
    for (word, may_be_unknown) in
        [(0, false), (1, false), (2, false), (3, false), (4, true), (7, true)]
    {
        unsynced(&path);
        let raw = Raw::open(&path);
        let known = raw.word(at(word));
        if may_be_unknown {
            raw.set_word(at(word), 0);
            os::unmark(&path);
            resumes(&options(), &path);
        }
        raw.set_word(at(word), known + 1);
        restores(&path);
        assert_eq!(raw.word(at(word)), known, "word {word} is noted anew");
        std::fs::remove_file(&path).unwrap();
    }
    unsynced(&path);
    let raw = Raw::open(&path);
    raw.set_word(at(5), raw.word(at(5)) + 1);
    resumes(&options(), &path);
    os::unmark(&path);
    restores(&path);
}

/// A new mount is noticed on each kind of file system.
#[test]
fn row_34_a_file_system_that_was_mounted_anew_is_noticed() {
    if !common::apart("row_34_a_file_system_that_was_mounted_anew_is_noticed") {
        return;
    }
    for kind in ["ext4", "xfs", "btrfs"] {
        on(kind, |disk| {
            let path = disk.at.join("state.slots");
            unsynced(&path);
            disk.mount_anew();
            restores(&path);
            // Synced content is there.
            options().open(&path).unwrap().value::<u64>("value").unwrap().store(5).unwrap();
            options().open(&path).unwrap().sync().unwrap();
            disk.mount_anew();
            restores(&path);
        });
    }
}

/// A snapshot has files with the same inode number, birth time and generation. If it was made to
/// replace its deleted subvolume, to go back to an earlier state, it gets the same device number.
#[test]
fn row_34_a_snapshot_of_btrfs_is_a_copy_whatever_its_numbers_are() {
    if !common::apart("row_34_a_snapshot_of_btrfs_is_a_copy_whatever_its_numbers_are") {
        return;
    }
    on("btrfs", |Disk { at, .. }| {
        let [used, saved] = ["used", "saved"].map(|name| at.join(name));
        let subvolume = |doing: &[&str], paths: &[&Path]| {
            let output = Command::new("btrfs").arg("subvolume").args(doing).args(paths).output();
            assert!(output.unwrap().status.success(), "{doing:?}");
        };
        let path = used.join("state.slots");
        subvolume(&["create"], &[&used]);
        unsynced(&path);
        resumes(&options(), &path);
        let device = path.metadata().unwrap().dev();
        subvolume(&["snapshot"], &[&used, &saved]);
        subvolume(&["delete", "-c"], &[&used]);
        subvolume(&["sync"], &[at]);
        // Until one gets the number, which other programs of the machine may take, too.
        for number in 0..50 {
            let back = at.join(number.to_string());
            subvolume(&["snapshot"], &[&saved, &back]);
            let path = back.join("state.slots");
            if path.metadata().unwrap().dev() == device {
                restores(&path);
                return;
            }
        }
        eprintln!("skipped: no snapshot got the number of the subvolume that was deleted");
    });
}

/// A restarted container has its files on an overlay with another device number; if not all of
/// its layers are on one file system, they have that file system's number.
#[test]
fn row_37_an_overlay_that_is_mounted_anew_loses_nothing_while_its_layer_stays_mounted() {
    if !common::apart(
        "row_37_an_overlay_that_is_mounted_anew_loses_nothing_while_its_layer_stays_mounted",
    ) {
        return;
    }
    on("ext4", |disk| {
        let layers = &disk.at;
        let [at, other] = ["overlay", "other"].map(|name| disk.beside.join(name));
        for lower in [layers, &other] {
            let overlay = || mount_overlay(lower, layers, &at);
            if !overlay() {
                return;
            }
            let path = at.join("state.slots");
            unsynced(&path);
            let number = || at.metadata().unwrap().dev();
            let before = number();
            while number() == before {
                assert!(os::unmount(&at));
                // Takes the number, if no other program does.
                let taken = disk.beside.join("taken");
                std::fs::create_dir_all(&taken).unwrap();
                assert!(os::mount("tmpfs", Path::new("tmpfs"), &taken, 0, "size=1m"));
                assert!(overlay());
            }
            resumes(&options(), &path);
            // The file system below was mounted again.
            assert!(os::unmount(&at));
            disk.mount_anew();
            assert!(overlay());
            restores(&path);
            std::fs::remove_file(&path).unwrap();
            assert!(os::unmount(&at));
        }
    });
}
