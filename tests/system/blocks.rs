//! Blocks of the disk: blocks that a store shares with a copy, and file systems that cannot
//! allocate blocks before they are used.

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

/// Makes a store in whose file every block of a large array is used.
fn make_store(path: &Path) {
    let store = options().open(path).unwrap();
    store.array::<u64>("large", ELEMENTS).unwrap().update(|all| all.fill(5)).unwrap();
    store.sync().unwrap();
    store.array::<u64>("large", ELEMENTS).unwrap().update(|all| all.fill(6)).unwrap();
}

/// Fills the disk to the last block.
fn fill(folder: &Path) {
    let mut file = File::create(folder.join("fill")).unwrap();
    // In the end the written data may take less room than was set aside for it.
    for len in [1 << 20, 1 << 20, 4096, 4096] {
        while file.write_all(&vec![1; len]).is_ok() {}
        let _ = file.sync_all();
    }
}

/// P6: when the store is opened, blocks that a copy shares are given to the store alone, or it is
/// refused. Otherwise, on a full disk, the first write to each block would be a SIGBUS.
#[test]
fn row_22_blocks_shared_with_a_copy_are_no_danger_on_a_full_disk() {
    if !common::apart("row_22_blocks_shared_with_a_copy_are_no_danger_on_a_full_disk") {
        return;
    }
    for kind in ["xfs", "btrfs"] {
        on(kind, |Disk { at, .. }| {
            let path = at.join("state.slots");
            make_store(&path);
            // On btrfs a file that is written in place shares blocks only with a copy that is, too.
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
            // If the disk is full before the store is opened, there is no room to unshare.
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

/// The kernel lists a file's pieces in parts. All parts must be asked for.
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
        // From here on, every other page belongs to the copy alone.
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

/// A restore unshares the blocks that it keeps. A hole has no blocks, and must stay a hole.
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

/// btrfs does not write a file that `cp` has made in place: each change goes to another block. So
/// no block is ever safe.
#[test]
fn row_22_a_file_that_btrfs_does_not_write_in_place_can_only_be_read() {
    if !common::apart("row_22_a_file_that_btrfs_does_not_write_in_place_can_only_be_read") {
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

/// Only one thing shows that an overlay is on btrfs: a file can be told to be written in place.
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
        // A file that `cp` has made is not written in place.
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

/// No store can be created or written there. A store that is there can be read, and copied to a
/// file system that works.
#[test]
fn row_22_where_blocks_cannot_be_allocated_a_store_can_only_be_read() {
    if !common::apart("row_22_where_blocks_cannot_be_allocated_a_store_can_only_be_read") {
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
