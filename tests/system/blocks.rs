//! Blocks of the disk: those that a store shares with a copy, and file systems that cannot
//! allocate any before they are used.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::common;
use crate::common::mounts::{Disk, mount_overlay, on};
use crate::common::os;
use crate::common::raw::Raw;
use slotfile::{Error, OpenOptions, Recovery, Store};

fn options() -> OpenOptions {
    OpenOptions::new().create(true).max_slots(100).max_size(64 << 20).sync_every(None).clone()
}

const ELEMENTS: usize = 1 << 18;

/// A store with an array, in whose file every block is used.
fn make_store(path: &Path) {
    let store = options().open(path).unwrap();
    store.array::<u64>("large", ELEMENTS).unwrap().update(|all| all.fill(5)).unwrap();
    store.sync().unwrap();
    store.array::<u64>("large", ELEMENTS).unwrap().update(|all| all.fill(6)).unwrap();
}

/// Fills the disk to the last block.
fn fill(folder: &Path) {
    let mut file = File::create(folder.join("fill")).unwrap();
    // What was written may take less in the end than was set aside for it.
    for len in [1 << 20, 1 << 20, 4096, 4096] {
        while file.write_all(&vec![1; len]).is_ok() {}
        let _ = file.sync_all();
    }
}

/// P6: what a copy shares with the store is given to the store alone when it is opened, or it
/// is refused. Otherwise the first write to each block on a full disk is a SIGBUS.
#[test]
fn row_22_blocks_shared_with_a_copy_are_no_danger_on_a_full_disk() {
    if !common::apart("row_22_blocks_shared_with_a_copy_are_no_danger_on_a_full_disk") {
        return;
    }
    for kind in ["xfs", "btrfs"] {
        on(kind, |Disk { at, .. }| {
            let path = at.join("state.slots");
            make_store(&path);
            // On btrfs a file that is written in place is only copied to such.
            let copies = at.join("copies");
            std::fs::create_dir(&copies).unwrap();
            let _ = Command::new("chattr").arg("+C").arg(&copies).status();
            let copied = Command::new("cp").arg("--reflink=always").args([&path, &copies]).status();
            assert!(copied.is_ok_and(|status| status.success()), "{kind}: cp");
            os::fork(|| {
                let store = options().open(&path).unwrap();
                assert_eq!(store.recovery(), Recovery::Resumed, "{kind}");
                fill(at);
                let large = store.array::<u64>("large", ELEMENTS).unwrap();
                assert_eq!(large.get(ELEMENTS - 1).unwrap(), 6, "{kind}");
                for round in 7..10 {
                    large.update(|all| all.fill(round)).unwrap();
                }
            })
            .join();
            // With the disk full from the beginning there is no room to unshare.
            std::fs::remove_file(copies.join("state.slots")).unwrap();
            std::fs::remove_file(at.join("fill")).unwrap();
            let again = Command::new("cp").arg("--reflink=always").args([&path, &copies]).status();
            assert!(again.is_ok_and(|status| status.success()), "{kind}: cp");
            fill(at);
            let full = options().open(&path);
            assert!(matches!(full, Err(Error::NoSpace { .. })), "{kind}: {full:?}");
        });
    }
}

/// The kernel tells of a file's pieces in parts: all of them are asked for.
#[test]
fn row_22_blocks_that_are_shared_in_many_pieces_are_all_unshared() {
    if !common::apart("row_22_blocks_that_are_shared_in_many_pieces_are_all_unshared") {
        return;
    }
    on("xfs", |Disk { at, .. }| {
        let (path, copy) = (at.join("state.slots"), at.join("copy"));
        make_store(&path);
        let copied = Command::new("cp").arg("--reflink=always").args([&path, &copy]).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp");
        // Every other page is the copy's own from here on.
        let file = File::options().write(true).open(&copy).unwrap();
        for page in (0..file.metadata().unwrap().len() / 4096).step_by(2) {
            file.write_all_at(&[7; 4096], page * 4096).unwrap();
        }
        file.sync_all().unwrap();
        let shared = |path: &Path| {
            let output = Command::new("filefrag").arg("-v").arg(path).output();
            let output = output.map(|output| String::from_utf8(output.stdout).unwrap());
            output.map(|text| text.lines().filter(|line| line.contains("shared")).count())
        };
        match shared(&path) {
            Ok(pieces) => assert!(pieces > 100, "{pieces}"),
            Err(error) => return eprintln!("skipped: filefrag: {error}"),
        }
        let store = options().open(&path).unwrap();
        assert_eq!(shared(&path).unwrap(), 0);
        let large = store.array::<u64>("large", ELEMENTS).unwrap();
        assert_eq!(large.load(), vec![6; ELEMENTS]);
    });
}

/// A restore gives what stays blocks of its own; but a hole has none to share.
#[test]
fn row_22_a_restore_leaves_holes() {
    if !common::apart("row_22_a_restore_leaves_holes") {
        return;
    }
    on("xfs", |Disk { at, .. }| {
        let (path, copy) = (at.join("state.slots"), at.join("copy"));
        let store = OpenOptions::new().create(true).sync_every(None).open(&path).unwrap();
        store.value::<u64>("value").unwrap().store(5).unwrap();
        store.sync().unwrap();
        drop(store);
        assert!(Command::new("cp").args([&path, &copy]).status().unwrap().success());
        let used = |path: &Path| 512 * std::fs::metadata(path).unwrap().blocks();
        let store = OpenOptions::new().sync_every(None).open(&copy).unwrap();
        assert!(matches!(store.recovery(), Recovery::Restored { .. }), "{:?}", store.recovery());
        let (before, after) = (used(&path), used(&copy));
        assert!(after <= before + (1 << 20), "{before} bytes have become {after}");
    });
}

/// btrfs writes a file that `cp` has made elsewhere with each change: no block is ever its own.
#[test]
fn row_22_a_file_that_btrfs_does_not_write_in_place_is_only_read() {
    if !common::apart("row_22_a_file_that_btrfs_does_not_write_in_place_is_only_read") {
        return;
    }
    on("btrfs", |Disk { at, .. }| {
        let (path, copy) = (at.join("state.slots"), at.join("copy"));
        make_store(&path);
        assert!(Command::new("cp").args([&path, &copy]).status().unwrap().success());
        let error = options().open(&copy).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains("`slotfile copy`"), "{error}");
        let store = Store::open_read_only(&copy).unwrap();
        assert!(matches!(store.recovery(), Recovery::Frozen { .. }), "{:?}", store.recovery());
        let anew = at.join("anew");
        store.copy_to(&anew).unwrap();
        let anew = options().open(&anew).unwrap().array::<u64>("large", ELEMENTS).unwrap();
        assert_eq!(anew.get(0).unwrap(), 5);
    });
}

/// On an overlay nothing shows that it is on btrfs, but that a file can be written in place there.
#[test]
fn row_22_on_an_overlay_on_btrfs_a_full_disk_is_no_danger() {
    if !common::apart("row_22_on_an_overlay_on_btrfs_a_full_disk_is_no_danger") {
        return;
    }
    on("btrfs", |Disk { at: layers, beside, .. }| {
        let at = beside.join("overlay");
        if !mount_overlay(layers, layers, &at) {
            return;
        }
        let path = at.join("state.slots");
        make_store(&path);
        // What `cp` makes is not written in place.
        let copy = at.join("copy");
        assert!(Command::new("cp").args([&path, &copy]).status().unwrap().success());
        let error = options().open(&copy).unwrap_err();
        assert!(error.to_string().contains("`slotfile copy`"), "{error}");
        let reading = Store::open_read_only(&copy).unwrap();
        assert!(matches!(reading.recovery(), Recovery::Frozen { .. }), "{:?}", reading.recovery());
        fill(layers);
        os::fork(|| {
            let store = options().open(&path).unwrap();
            let large = store.array::<u64>("large", ELEMENTS).unwrap();
            for round in 7..10 {
                large.update(|all| all.fill(round)).unwrap();
                store.sync().unwrap();
            }
        })
        .join();
    });
}

/// Nothing is written there; what is there can be read, and copied to where it can be used.
#[test]
fn row_22_where_blocks_cannot_be_allocated_a_store_is_only_read() {
    if !common::apart("row_22_where_blocks_cannot_be_allocated_a_store_is_only_read") {
        return;
    }
    on("ext3", |Disk { at, beside, .. }| {
        let (path, copy) = (beside.join("state.slots"), at.join("state.slots"));
        make_store(&path);
        std::fs::copy(&path, &copy).unwrap();
        for refused in [options().open(at.join("new")), options().open(&copy)] {
            let error = refused.unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
            assert!(error.to_string().contains("fallocate"), "{error}");
        }
        assert!(!at.join("new").exists(), "half a store");
        let store = Store::open_read_only(&copy).unwrap();
        assert!(matches!(store.recovery(), Recovery::Frozen { .. }), "{:?}", store.recovery());
        assert!(store.check().unwrap().is_ok(), "{:?}", store.check());
        let again = beside.join("again");
        store.copy_to(&again).unwrap();
        let again = options().open(&again).unwrap().array::<u64>("large", ELEMENTS).unwrap();
        assert_eq!(again.get(ELEMENTS - 1).unwrap(), 5);
        assert!(Raw::open(&copy).len() > 0);
    });
}
