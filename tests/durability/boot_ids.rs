//! The boot id that the kernel shows, or a different one in a container. It decides only while
//! no process has the store open.

use std::path::Path;

use crate::common;
use crate::common::{Child, folder_in_memory, os, store_in};
use slotfile::{OpenOptions, Recovery, Store};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn open(path: &Path) -> Store {
    OpenOptions::new().create(true).sync_every(None).open(path).unwrap()
}

/// Shows this process another boot id, or none, from here on; false if that is not permitted.
fn change_boot_id(folder: &Path, role: &str) -> bool {
    let content = match role.contains("another") {
        true => folder.join("boot_id"),
        false => "/dev/null".into(),
    };
    let changed =
        os::have_own_mounts() && os::mount("none", &content, Path::new(BOOT_ID), libc::MS_BIND, "");
    if !changed {
        eprintln!("skipped: this process may not mount a file over another");
    }
    changed
}

/// Joins, since another process has it open.
fn join(path: &Path) {
    let store = open(path);
    assert_eq!(store.recovery(), Recovery::Joined);
    assert!(store.value::<u64>("value").unwrap().fetch_add(1).unwrap() >= 6);
}

/// Restores, since no process has it open; but not the next time, in the same boot.
fn restore(path: &Path) {
    for known in [false, true] {
        let store = open(path);
        match store.recovery() {
            Recovery::Resumed => assert!(known),
            Recovery::Restored { newer_dropped: false, .. } => assert!(!known),
            other => panic!("{other:?}"),
        }
        let value = store.value::<u64>("value").unwrap();
        assert_eq!(value.load(), if known { 9 } else { 5 });
        value.store(9).unwrap();
    }
}

#[test]
fn row_34_another_boot_id_restores_what_nobody_has_open_and_joins_what_somebody_has() {
    const NAME: &str =
        "row_34_another_boot_id_restores_what_nobody_has_open_and_joins_what_somebody_has";
    if let Some(role) = common::role() {
        let path = common::path();
        if change_boot_id(path.parent().unwrap(), &role) {
            if role.starts_with("join") { join(&path) } else { restore(&path) }
        }
        return;
    }
    if !os::is_root() {
        eprintln!("skipped: another boot id needs root");
        return;
    }
    let folder = folder_in_memory();
    let path = store_in(&folder);
    std::fs::write(folder.path().join("boot_id"), "11111111-2222-3333-4444-555555555555\n")
        .unwrap();
    let store = open(&path);
    let value = store.value::<u64>("value").unwrap();
    value.store(5).unwrap();
    store.sync().unwrap();
    value.store(6).unwrap();
    for role in ["joins with another", "joins with none"] {
        Child::spawn(NAME, role, &path).join();
    }
    let last = value.load();
    drop((store, value));
    // In this boot, nothing has changed.
    assert_eq!(open(&path).value::<u64>("value").unwrap().load(), last);
    Child::spawn(NAME, "restores with another", &path).join();
}
