//! SIGBUS: a program that has asked for it ends with a message that says why a part of the file
//! cannot be accessed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common;
use crate::common::mounts::{on, with_own_mounts};
use crate::common::{folder, os, path, role, store_in};
use slotfile::{OpenOptions, Store, exit_on_bus_error};

const NAME: &str = "row_24_a_program_that_meets_a_bus_error_says_why";
/// 8 MiB.
const ELEMENTS: usize = 1 << 20;

fn make_store(path: &Path) {
    let store =
        OpenOptions::new().create_new(true).max_slots(100).max_size(64 << 20).open(path).unwrap();
    store.array::<u64>("large", ELEMENTS).unwrap().store(&vec![5; ELEMENTS]).unwrap();
}

/// Opens the store in another process, which reads everything once `harm` has been done to the
/// file. Returns the exit code of the process and its message.
fn told(path: &Path, harm: impl FnOnce()) -> (Option<i32>, String) {
    let mut command = common::command(NAME, "reader", path);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().ends_with("it is open")));
    harm();
    let output = child.wait_with_output().unwrap(); // closes its input
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Makes the kernel drop its cache of the file.
fn forget(path: &Path) {
    let of = format!("of={}", path.display());
    let dd = ["conv=notrunc,fdatasync", "oflag=nocache", "count=0", "status=none"];
    assert!(Command::new("dd").arg(of).args(dd).status().unwrap().success());
}

#[test]
fn row_24_a_program_that_meets_a_bus_error_says_why() {
    if role().as_deref() == Some("reader") {
        exit_on_bus_error(|why| format!("{why:?}"), 77).unwrap();
        let store = Store::open(path()).unwrap();
        let large = store.array::<u64>("large", ELEMENTS).unwrap();
        println!("it is open");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        large.load();
        large.store(&vec![6; ELEMENTS]).unwrap();
        return;
    }
    if !common::apart(NAME) {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    make_store(&path);
    let cut = || File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    assert_eq!(told(&path, cut), (Some(77), "Truncated".into()));
    with_own_mounts(|| {
        let at = folder.path().join("at");
        std::fs::create_dir(&at).unwrap();
        // The disk is full, and the file has a hole.
        if os::mount("tmpfs", Path::new("tmpfs"), &at, 0, "size=64m") {
            let path = at.join("s");
            make_store(&path);
            let hole = || {
                let sparse = ["--punch-hole", "--offset", "4MiB", "--length", "60MiB"];
                let punched = Command::new("fallocate").args(sparse).arg(&path).status();
                assert!(punched.unwrap().success());
                let fill = std::fs::write(at.join("fill"), vec![1; 64 << 20]);
                assert!(fill.is_err(), "the disk is not full");
            };
            assert_eq!(told(&path, hole), (Some(77), "NoBlock".into()));
        }
    });
    // A disk that ends before the file's data.
    on("ext4", |disk| {
        let path = disk.at.join("s");
        make_store(&path);
        forget(&path);
        let cut = || File::options().write(true).open(&disk.image).unwrap().set_len(0).unwrap();
        assert_eq!(told(&path, cut), (Some(77), "Unreadable".into()));
    });
}
