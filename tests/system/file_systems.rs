//! Unsuitable file systems are refused by their type, with the reason; read-only ones and
//! overlayfs work as far as they can.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common;
use crate::common::mounts::{mount_overlay, with_own_mounts};
use crate::common::raw::Raw;
use crate::common::{folder, os, store_in, until, within};
use slotfile::{Error, OpenOptions, Recovery, Store};

fn unsynced() -> OpenOptions {
    OpenOptions::new().create(true).sync_every(None).clone()
}

fn refused(result: Result<Store, Error>, said: &str) {
    let Err(error @ Error::Unsupported { .. }) = result else { panic!("{result:?}") };
    let message = error.to_string();
    assert!(message.contains(said) && message.contains("--any-file-system"), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn row_36_on_a_read_only_file_system_reads_work_and_writes_are_refused() {
    if !common::apart("row_36_on_a_read_only_file_system_reads_work_and_writes_are_refused") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    with_own_mounts(|| {
        assert!(os::mount("tmpfs", Path::new("tmpfs"), folder.path(), 0, "size=64m"));
        let store = unsynced().open(&path).unwrap();
        store.value::<u64>("value").unwrap().store(5).unwrap();
        store.sync().unwrap();
        store.value::<u64>("value").unwrap().store(6).unwrap();
        drop(store);
        for (restart, expected) in [(false, 6), (true, 5)] {
            if restart {
                Raw::open(&path).restart();
            }
            let read_only = |on: bool| {
                let flags = libc::MS_REMOUNT | if on { libc::MS_RDONLY } else { 0 };
                assert!(os::mount("tmpfs", Path::new("tmpfs"), folder.path(), flags, "size=64m"));
            };
            read_only(true);
            let store = Store::open_read_only(&path).unwrap();
            assert_eq!(matches!(store.recovery(), Recovery::Frozen { epoch: 2, .. }), restart);
            let value = store.value::<u64>("value").unwrap();
            assert_eq!(value.load(), expected);
            assert!(matches!(value.store(7), Err(Error::ReadOnly { .. })));
            drop((store, value));
            let error = Store::open(&path).unwrap_err();
            assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
            assert!(error.to_string().ends_with("the file system is mounted read-only"), "{error}");
            let new = Store::create(path.with_file_name("new"));
            let new = new.unwrap_err();
            assert!(matches!(new, Error::PermissionDenied { .. }), "{new:?}");
            assert!(new.to_string().ends_with("the file system is mounted read-only"), "{new}");
            read_only(false);
        }
    });
}

/// A file of the lower layer is copied to the upper one when it is first written. A process that
/// has opened the lower file would see only that one forever.
#[test]
fn row_37_on_overlayfs_a_reader_sees_what_a_later_writer_writes_or_is_refused() {
    if !common::apart("row_37_on_overlayfs_a_reader_sees_what_a_later_writer_writes_or_is_refused")
    {
        return;
    }
    let folder = folder();
    with_own_mounts(|| {
        // The layers are on a file system that can have layers, whatever the folder is on.
        assert!(os::mount("tmpfs", Path::new("tmpfs"), folder.path(), 0, "size=256m,mode=755"));
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("lower")).unwrap();
        let small = unsynced().max_slots(100).max_size(32 << 20).clone();
        for name in ["one", "two"] {
            let store = small.open(at("lower").join(name)).unwrap();
            store.value::<u64>("value").unwrap().store(5).unwrap();
            store.sync().unwrap();
        }
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(at("lower").join("two"), all).unwrap();
        if !mount_overlay(folder.path(), folder.path(), &at("merged")) {
            return;
        }
        let one = at("merged").join("one");
        let reader = Store::open_read_only(&one).unwrap();
        let seen = reader.value::<u64>("value").unwrap();
        assert_eq!(seen.load(), 5);
        unsynced().open(&one).unwrap().value::<u64>("value").unwrap().store(6).unwrap();
        assert_eq!(seen.load(), 6, "the reader sees the lower file");
        // A process that may not write cannot make the kernel copy it.
        os::fork(|| {
            os::become_user(65_534);
            refused_on_overlayfs(Store::open_read_only(at("merged").join("two")));
        })
        .join();
    });
}

/// On overlayfs a flush of a range reaches no page of the file, so a sync flushes the whole file.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn row_37_on_overlayfs_a_sync_flushes_the_whole_file() {
    if !common::apart_to_trace("row_37_on_overlayfs_a_sync_flushes_the_whole_file") {
        return;
    }
    let folder = folder();
    with_own_mounts(|| {
        assert!(os::mount("tmpfs", Path::new("tmpfs"), folder.path(), 0, "size=256m,mode=755"));
        let merged = folder.path().join("merged");
        if !mount_overlay(folder.path(), folder.path(), &merged) {
            return;
        }
        let options = unsynced().max_slots(100).max_size(32 << 20).clone();
        let calls = common::trace::calls_of_a_sync(&options, &merged.join("store"), || {});
        assert!(calls.contains(&libc::SYS_fdatasync), "{calls:?}");
    });
}

fn refused_on_overlayfs(result: Result<Store, Error>) {
    let Err(error @ Error::Unsupported { .. }) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("overlayfs"), "{error}");
}

/// A real file on FUSE: an image that qemu's storage daemon exports.
#[test]
fn row_37_a_store_on_fuse_is_refused_unless_forced() {
    let folder = folder();
    let (path, exported) = (store_in(&folder), folder.path().join("exported"));
    let store = unsynced().max_slots(100).max_size(32 << 20).open(&path).unwrap();
    store.value::<u64>("value").unwrap().store(5).unwrap();
    drop(store);
    std::fs::write(&exported, "").unwrap();
    let daemon = Command::new("qemu-storage-daemon")
        .arg("--blockdev")
        .arg(format!("driver=file,node-name=f,filename={}", path.display()))
        .arg("--export")
        .arg(format!("fuse,id=e,node-name=f,mountpoint={},writable=on", exported.display()))
        .stderr(Stdio::null())
        .spawn();
    let Ok(daemon) = daemon else {
        eprintln!("skipped: qemu-storage-daemon is not installed");
        return;
    };
    let mut daemon = Ended(daemon);
    until("it is mounted, or cannot be", || {
        std::fs::metadata(&exported).is_ok_and(|m| m.len() > 0)
            || daemon.0.try_wait().unwrap().is_some()
    });
    if daemon.0.try_wait().unwrap().is_some() {
        eprintln!("skipped: nothing can be mounted by FUSE here");
        return;
    }
    let refusal = || {
        refused(Store::open(&exported), "FUSE");
        refused(Store::open_read_only(&exported), "FUSE");
    };
    within(Duration::from_secs(20), "refusing", refusal);
    let forced = OpenOptions::new().any_file_system(true).sync_every(None).open(&exported);
    // It may fail, but not because of its type.
    let by_its_type = forced.as_ref().is_err_and(|error| error.to_string().contains("FUSE"));
    assert!(!by_its_type, "{forced:?}");
}

/// Ends a process that was started, and what it has mounted.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        os::signal(self.0.id(), libc::SIGTERM);
        let _ = self.0.wait();
    }
}

/// The kernel says which kind of file system a file is on. The test makes it say another kind.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn row_37_each_unsuitable_kind_of_file_system_is_refused_unless_forced() {
    use crate::common::trace::{Traced, mark};
    if !common::apart_to_trace(
        "row_37_each_unsuitable_kind_of_file_system_is_refused_unless_forced",
    ) {
        return;
    }
    // statfs(2).
    const NFS: u64 = 0x6969;
    const CIFS: u64 = 0xff53_4d42;
    let sign_extended = CIFS | 0xffff_ffff_0000_0000;
    let kinds = [
        (NFS, "NFS"),
        (0x517b, "SMB"),
        (CIFS, "CIFS"),
        (sign_extended, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x0102_1997, "9p"),
        (0x6573_5546, "FUSE"),
        (0x5346_414f, "AFS"),
        (0x00c3_6400, "Ceph"),
    ];
    let folder = common::folder_in_memory();
    let path = store_in(&folder);
    drop(Store::create(&path).unwrap());
    let on = |kind: u64, operation: &dyn Fn()| {
        let mut child = Traced::start(|| {
            mark();
            operation();
            mark();
            os::exit_at_once(0);
        });
        while let Some(call) = child.next_call() {
            child.end_call();
            if call.number == libc::SYS_fstatfs {
                // The kind is the first word of what the call fills.
                child.write_word(child.second_argument(), kind);
            }
        }
        assert_eq!(child.end(), 0, "on {kind:#x}");
    };
    for (kind, name) in kinds {
        on(kind, &|| {
            refused(Store::open(&path), name);
            refused(Store::open_read_only(&path), name);
            let new = path.with_file_name("new");
            refused(Store::create(&new), name);
            assert!(!new.exists(), "half a store");
            let forced = OpenOptions::new().any_file_system(true).sync_every(None).clone();
            forced.open(&path).unwrap().value::<u64>("value").unwrap().fetch_add(1).unwrap();
        });
    }
    // ext4, and an unknown kind.
    for kind in [0xef53, 0x1234_5678] {
        on(kind, &|| drop(Store::open(&path).unwrap()));
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.value::<u64>("value").unwrap().load(), kinds.len() as u64);
}
