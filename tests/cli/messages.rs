//! What a message says of the cause, and what it advises: the true cause, and what helps.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Ended, Folder};

#[track_caller]
fn says(ended: &Ended, code: i32, said: &[&str], unsaid: &[&str]) {
    assert_eq!((ended.code, ended.err.matches('\n').count()), (code, 1), "{ended:?}");
    for part in said {
        assert!(ended.err.contains(part), "{part:?} in {ended:?}");
    }
    for part in unsaid {
        assert!(!ended.err.contains(part), "{part:?} in {ended:?}");
    }
}

#[test]
fn what_removed_slots_take_is_given_back_by_compact() {
    let f = Folder::new();
    f.ok(&["create", "--max-slots", "3", "it's F"]);
    for _ in 0..3 {
        f.ok(&["define", "it's F", "a", "u8"]);
        f.ok(&["rm", "it's F", "a"]);
    }
    let full = f.run(&["define", "it's F", "a", "u8"]);
    says(&full, 6, &["3 removed slots", r"`slotfile compact 'it'\''s F'`"], &["created with more"]);
    let info = f.json(&["info", "--json", "it's F"]);
    assert_eq!((&info["slots"], &info["definitions_left"]), (&0.into(), &0.into()));
    assert!(f.ok(&["info", "it's F"]).contains("compact"));
    f.ok(&["compact", "it's F"]);
    for name in ["a", "b", "c"] {
        f.ok(&["define", "it's F", name, "u8"]);
    }
    says(&f.run(&["define", "it's F", "d", "u8"]), 6, &["created with more"], &["compact"]);
}

/// `ls` used to say "create it", and `create` "it is there already, open it".
#[test]
fn a_link_that_leads_nowhere_is_called_so() {
    let f = Folder::with_store();
    symlink("nowhere", f.path("dang")).unwrap();
    let link = "a symbolic link to \"nowhere\", which does not exist";
    says(&f.run(&["ls", "dang"]), 8, &["dang", link], &["create", "open"]);
    says(&f.run(&["create", "--if-missing", "dang"]), 3, &["dang", link], &["create", "open"]);
    for words in [&["create", "dang"][..], &["copy", "F", "dang"]] {
        says(&f.run(words), 1, &["dang", link], &["open it"]);
    }
    fs::create_dir(f.path("folder")).unwrap();
    says(&f.run(&["create", "folder"]), 1, &["it is a folder"], &["open it"]);
    says(&f.run(&["create", "F"]), 1, &["there already; open it"], &[]);
}

#[test]
fn a_file_that_is_no_store_says_what_it_is() {
    let f = Folder::new();
    for file in ["/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"] {
        if fs::exists(file).unwrap() {
            says(&f.run(&["ls", file]), 3, &["does not begin with SLOTFILE"], &["empty", "buffer"]);
        }
    }
}

#[test]
fn limits_name_the_one_that_is_wrong() {
    let f = Folder::new();
    says(&f.run(&["create", "--max-size", "100T", "F"]), 2, &["at most 32 TiB"], &["max_slots"]);
    says(&f.run(&["create", "--max-slots", "0", "F"]), 2, &["at least 1"], &["max_size"]);
    let many = f.run(&["create", "--max-slots", "999999999", "F"]);
    says(&many, 2, &["at most 268435456"], &["max_size"]);
    let small = f.run(&["create", "--max-size", "1M", "F"]);
    says(&small, 2, &["too small", "take 128 MiB"], &[]);
    f.ok(&["create", "--max-size", "128M", "F"]);
}

#[test]
fn types_say_what_was_meant() {
    let f = Folder::with_store();
    for (slot_type, said) in [
        ("f64[0]", "each dimension is at least 1"),
        ("int", "did you mean i64?"),
        ("Double", "did you mean f64?"),
        ("uint8[3]", "did you mean u8?"),
        ("U64", "did you mean u64?"),
        ("text", "text needs a capacity, as text[64]"),
        ("bytes[0]", "a capacity is at least 1"),
        ("text[1,2]", "one capacity"),
        ("f64[1,1,1,1,1]", "it has 5 dimensions, and 4 is the most"),
        ("buffer:u8", "needs a shape"),
        ("f64[99999999999]", "at most 32 GiB"),
        ("f64[3", "write a scalar"),
        ("frob", "write a scalar"),
    ] {
        says(&f.run(&["define", "F", "a", slot_type]), 2, &["F", "\"a\"", slot_type, said], &[]);
    }
}

#[test]
fn suggestions_are_near() {
    let f = Folder::with_store();
    for name in ["n", " ", "a\u{202e}b", "hits", "robot/arm/x"] {
        f.ok(&["define", "F", name, "u8"]);
    }
    for (asked, meant) in
        [("HITS", "hits"), ("hist", "hits"), ("N", "n"), ("Robot/arm/X", "robot/arm/x")]
    {
        let meant = format!("did you mean {meant:?}?");
        says(&f.run(&["get", "F", asked]), 8, &[&meant], &[]);
    }
    for asked in ["a", "é", "zz", "m", "x", "robot"] {
        says(&f.run(&["get", "F", asked]), 8, &["`slotfile ls F`"], &["did you mean"]);
    }
}

/// As in a chroot or a container without /proc.
#[test]
fn without_proc_it_is_not_the_folder_that_is_missing() {
    let f = Folder::new();
    let script =
        format!("mount -t tmpfs none /proc && touch ready && exec {} create S", super::SLOTFILE);
    let mut unshare = std::process::Command::new("unshare");
    let output = unshare.args(["-m", "sh", "-c", &script]).current_dir(f.path("")).output();
    if !f.path("ready").exists() {
        eprintln!("skipped: `unshare -m` needs root: {output:?}");
        return;
    }
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(said.is_empty() || said.contains("/proc is not mounted"), "{said}");
    assert!(!said.contains("mkdir"), "{said}");
}

#[test]
fn a_read_only_mount_is_called_so() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u8"]);
    let script = format!(
        "mkdir ro && mount --bind . ro && mount -o remount,ro,bind ro && touch ready && \
         {0} add ro/F n; {0} create ro/G; {0} get ro/F n",
        super::SLOTFILE
    );
    let mut unshare = std::process::Command::new("unshare");
    let output = unshare.args(["-m", "sh", "-c", &script]).current_dir(f.path("")).output();
    if !f.path("ready").exists() {
        eprintln!("skipped: `unshare -m` needs root: {output:?}");
        return;
    }
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("the file system is mounted read-only\n").count(), 2, "{said}");
    assert!(!said.contains("owner and mode"), "{said}");
    assert_eq!(output.stdout, b"0\n");
}
