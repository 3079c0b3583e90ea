//! Messages name the true cause, and advise what helps.

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
    says(&full, 6, &["3 removed slots", r"`slotfile compact 'it'\''s F'`"], &["with a larger"]);
    let info = f.json(&["info", "--json", "it's F"]);
    assert_eq!((&info["slots"], &info["definitions_left"]), (&0.into(), &0.into()));
    assert!(f.ok(&["info", "it's F"]).contains("compact"));
    f.ok(&["compact", "it's F"]);
    for name in ["a", "b", "c"] {
        f.ok(&["define", "it's F", name, "u8"]);
    }
    says(&f.run(&["define", "it's F", "d", "u8"]), 6, &["with a larger max_slots"], &["compact"]);
}

/// `ls` used to say "create it", and `create` "it already exists, open it".
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
    says(&f.run(&["create", "F"]), 1, &["already exists; open it", "--if-missing"], &[]);
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
    says(&small, 2, &["too small", "use at least 8 MiB"], &[]);
    f.ok(&["create", "--max-size", "8M", "F"]);
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
        ("text", "text needs a capacity, such as text[64]"),
        ("bytes[0]", "a capacity is at least 1"),
        ("text[1,2]", "one capacity"),
        ("f64[1,1,1,1,1]", "it has 5 dimensions, but at most 4 are possible"),
        ("buffer:u8", "needs a shape"),
        ("Counter", "did you mean counter?"),
        ("counter[8]", "a counter is one number"),
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
    assert!(said.is_empty() || said.contains("/proc"), "{said}");
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

#[test]
fn the_right_verb_is_suggested_and_help_is_there() {
    let f = Folder::with_store();
    for (typed, meant) in
        [("del", "rm"), ("put", "set"), ("delete", "rm"), ("list", "ls"), ("chekc", "check")]
    {
        let said = f.run(&[typed, "F", "x"]);
        says(&said, 2, &[typed, &format!("did you mean {meant:?}? Usage: slotfile {meant}")], &[]);
    }
    says(&f.run(&["frobnicate"]), 2, &["`slotfile help`"], &["did you mean"]);
    says(&f.run(&["version"]), 2, &["slotfile --version"], &[]);
    says(&f.run(&["F", "get", "x"]), 2, &["\"F\" is a file", "command comes first"], &[]);
    let help = f.ok(&["help"]);
    assert!(help.contains("\n  set ") && help.contains("\n  demo "), "{help}");
    assert_eq!(help, f.ok(&["--help"]));
    assert_eq!(f.ok(&["help", "set"]), f.ok(&["set", "--help"]));
}

#[test]
fn words_that_are_missing_or_too_many_show_the_usage() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "hits", "u64"]);
    for (words, said) in [
        (&["get"][..], "FILE is missing. Usage: slotfile get [OPTIONS] FILE NAME\n"),
        (&["get", "F"], "NAME is missing. Usage: slotfile get [OPTIONS] FILE NAME\n"),
        (&["cas", "F", "hits", "1"], "NEW is missing. Usage: slotfile cas"),
        (
            &["get", "F", "a", "b"],
            "get takes one NAME; `slotfile ls FILE GLOB` shows several. Usage",
        ),
        (&["ls", "F", "a", "b"], "ls takes one GLOB; quote it"),
        (&["get", "", "a"], "FILE is empty"),
        (&["get", "-", "a"], "`-` cannot be FILE: a store is a file; write ./-"),
        (&["copy", "F", "-"], "`-` cannot be DEST"),
        (&["copy", "F", ""], "DEST is empty"),
    ] {
        says(&f.run(words), 2, &[said], &[]);
    }
    // The low exit codes of `lock` belong to the command that it runs.
    for words in [&["lock"][..], &["lock", "F"], &["lock", "--bogus", "F"], &["-q", "lock", "F"]] {
        assert_eq!(f.run(words).code, 125, "{words:?}");
    }
    let swapped = f.run(&["get", "hits", "F"]);
    says(&swapped, 8, &["hits: no such file", "FILE comes first, and \"F\" is"], &[]);
}

#[test]
fn times_take_units_and_for_ever() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "hits", "u64", "1"]);
    for time in ["0", "50ms", "1s", "2m", "inf"] {
        f.ok(&["wait", "--timeout", time, "F", "hits", "eq", "1"]);
        f.ok(&["set", "--lock-timeout", time, "F", "hits", "1"]);
        f.ok(&["lock", "--timeout", time, "F", "hits", "true"]);
        f.ok(&["watch", "--timeout", time, "--count", "1", "--initial", "F"]);
    }
    for time in ["soon", "-1", "nan", ""] {
        says(&f.run(&["wait", "--timeout", time, "F", "hits", "eq", "1"]), 2, &["--timeout"], &[]);
    }
}

/// A user who repeats it because it failed would count twice.
#[test]
fn what_was_done_is_said_though_the_output_is_lost() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64"]);
    let full = |words: &[&str]| {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = f.command(words).stdout(full).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = full(&["add", "F", "n", "5"]);
    assert_eq!((code, said.matches('\n').count()), (Some(7), 1), "{said}");
    assert!(said.ends_with("; F: slot \"n\" WAS changed: it is 5 now\n"), "{said}");
    assert_eq!(f.ok(&["get", "F", "n"]), "5\n");
    let (code, said) = full(&["cas", "F", "n", "1", "2"]);
    assert!(code == Some(7) && !said.contains("WAS"), "{code:?} {said}");
    assert_eq!(f.ok(&["get", "F", "n"]), "5\n");
}

/// Properties given to `define` that the existing slot does not have.
#[test]
fn what_define_does_not_do_is_said() {
    let f = Folder::with_store();
    f.ok(&["define", "--doc", "A", "F", "d", "f64[2]"]);
    let again = f.run(&[
        "define", "--doc", "B", "--unit", "m", "--areas", "8", "F", "d", "f64[2]", "7", "8",
    ]);
    let said = ["\"d\" already exists", "value 0.0 0.0", "doc \"A\"", "no unit", "2 areas"];
    says(&again, 0, &said, &[]);
    let both = "`slotfile set` changes the value; to change the rest, remove it";
    says(&again, 0, &[both, "`slotfile rm`, and define it again"], &[]);
    // Only what helps is advised.
    let value = f.run(&["define", "F", "d", "f64[2]", "7", "8"]);
    says(&value, 0, &["value 0.0 0.0; `slotfile set` changes it\n"], &["slotfile rm"]);
    let unit = f.run(&["define", "--unit", "m", "F", "d", "f64[2]"]);
    says(&unit, 0, &["no unit; to change that, remove it with `slotfile rm`"], &["slotfile set"]);
    assert_eq!(f.run(&["-q", "define", "--unit", "m", "F", "d", "f64[2]"]).err, "");
    // Nothing is said if all is as asked for.
    f.ok(&["define", "--doc", "A", "--areas", "2", "F", "d", "f64[2]"]);
    f.ok(&["define", "F", "d", "f64[2]", "0", "0"]);
}

#[test]
fn a_store_that_was_emptied_names_the_way_to_copy() {
    let f = Folder::new();
    f.ok(&["create", "--no-checkpoint", "F"]);
    f.ok(&["define", "F", "n", "u64", "4"]);
    fs::copy(f.path("F"), f.path("G")).unwrap();
    let emptied = f.run(&["ls", "G"]);
    assert!(
        emptied.err.contains("or the file copied; `slotfile copy` makes copies"),
        "{emptied:?}"
    );
    f.ok(&["copy", "F", "H"]);
    assert_eq!(f.ok(&["get", "H", "n"]), "4\n");
}

#[test]
fn copies_go_where_they_can_go() {
    use std::os::unix::ffi::OsStrExt;
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64", "4"]);
    says(&f.run(&["copy", "F", "F"]), 1, &["the same file"], &["open it"]);
    says(&f.run(&["copy", "F", "./F"]), 1, &["the same file"], &[]);
    says(&f.run(&["copy", "F", "no/such"]), 8, &["no/such", "folder"], &[]);
    let name = std::ffi::OsStr::from_bytes(b"m\xff");
    assert!(f.command(&["copy", "F"]).arg(name).status().unwrap().success());
    let get = f.command(&["get"]).arg(name).arg("n").output().unwrap();
    assert_eq!(get.stdout, b"4\n");
}

#[test]
fn the_demo_leaves_other_stores_alone() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "orders", "u64", "7"]);
    says(&f.run(&["demo", "F"]), 1, &["F", "none of them the demo's"], &[]);
    assert_eq!(f.ok(&["ls", "--names", "F"]), "orders\n");
    let quiet = f.run(&["-q", "demo", "G"]);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (0, "", ""), "{quiet:?}");
}

#[test]
fn numbers_say_what_they_take() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "hits", "u64"]);
    f.ok(&["define", "F", "x", "f64"]);
    assert_eq!(f.ok(&["add", "F", "hits", "+1"]), "1\n");
    assert_eq!(f.ok(&["add", "F", "x", "+1.5"]), "1.5\n");
    says(&f.run(&["add", "F", "hits", "1.5"]), 2, &["it is u64, so it takes whole numbers"], &[]);
    for words in [&["set", "F", "hits", "-"][..], &["set", "F", "x", "-"]] {
        says(&f.run(words), 2, &["standard input was empty"], &["quote"]);
    }
}

/// Direction-changing and invisible characters make one name look like another.
#[test]
fn names_are_shown_as_they_are() {
    let f = Folder::with_store();
    let (turned, filler) = ("a\u{202e}b", "hits\u{3164}");
    for name in [turned, filler, "two  spaces"] {
        f.ok(&["define", "F", name, "u8"]);
    }
    let seen = |text: &str| !text.contains(['\u{202e}', '\u{3164}']);
    let list = f.ok(&["ls", "F"]);
    assert!(seen(&list) && list.contains(r#""a\u{202e}b""#), "{list}");
    assert!(list.contains(r#""hits\u{3164}""#) && list.contains(r#""two  spaces""#), "{list}");
    for words in [
        &["add", "F", turned, "x"][..],
        &["rm", "F", filler, "hits"],
        &["get", "F", "hots\u{3164}"],
    ] {
        let ended = f.run(words);
        assert!(ended.code != 0 && seen(&ended.err), "{ended:?}");
    }
    let watched = f.ok(&["watch", "--initial", "--count", "3", "F"]);
    assert!(seen(&watched) && watched.contains(r#""a\u{202e}b"  0  0"#), "{watched}");
    // JSON has its own rules; `--names` is for programs.
    assert!(f.ok(&["ls", "--json", "F"]).contains(turned));
    assert!(f.ok(&["ls", "--names", "F"]).contains(turned));
    let missing = f.run(&["ls", "no\nsuch\u{1b}[31m"]);
    says(&missing, 8, &[r"no\nsuch\u{1b}[31m"], &["\u{1b}"]);
}

#[test]
fn lists_are_for_scripts_too() {
    let f = Folder::with_store();
    for name in ["b", "a", "c"] {
        f.ok(&["define", "F", name, "u8"]);
    }
    f.ok(&["define", "F", "t", "text[20]", "two words"]);
    assert_eq!(f.ok(&["ls", "--names", "F"]), "b\na\nc\nt\n");
    assert_eq!(f.ok(&["ls", "--names", "--sort", "name", "F", "?"]), "a\nb\nc\nt\n");
    let list = f.ok(&["ls", "--no-header", "--sort", "name", "F"]);
    let versions: Vec<&str> =
        list.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(versions, ["0"; 4], "{list}");
    says(&f.run(&["ls", "F", "absent"]), 8, &["\"absent\""], &[]);
    says(&f.run(&["ls", "F", "ab*"]), 0, &["no slot matches \"ab*\""], &[]);
    f.fails(2, &["ls", "--names", "--json", "F"], &["--names"]);
}

#[test]
fn transactions_take_elements_and_json() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8[2,2]", "1", "2", "3", "4"]);
    f.ok(&["define", "F", "t", "text[9]"]);
    let lines = "set --index 0 a 10 20\nadd --index 1,1 a 5\nset --json t '\"-\"'\n\
                 set --json --index 1,0 a 30\n";
    let ended = f.run_with(&["txn", "F"], lines.as_bytes());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert_eq!(f.ok(&["get", "F", "a"]), "10 20\n30 9\n");
    assert_eq!(f.ok(&["get", "F", "t"]), "-\n");
    for (line, code, said) in [
        ("set t -", 2, "`-` would read standard input"),
        ("set a - ", 2, "`-` would read standard input"),
        ("add --index 0 a", 2, "spans 2 elements"),
        ("add a", 2, "say which element"),
        ("add --index 1,1 a 250", 1, "overflow"),
        ("set --index 5 a 1 2", 2, "outside"),
        ("set --bogus t x", 2, "no option \"--bogus\""),
    ] {
        let ended = f.run_with(&["txn", "F"], line.as_bytes());
        says(&ended, code, &["line 1: ", said], &[]);
    }
    assert_eq!(f.ok(&["get", "F", "a"]), "10 20\n30 9\n");
}

#[test]
fn check_says_unverified_only_of_what_is() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64", "1"]);
    f.ok(&["sync", "F"]);
    assert_eq!(f.ok(&["check", "F"]), "ok          nothing is wrong\n");
    f.ok(&["add", "--no-sync", "F", "n"]);
    assert!(
        f.ok(&["check", "--read-only", "F"]).contains("unverified  contents that have changed")
    );
}

/// A value has no copies: a new one was reported to exist already, with 0 of them.
#[test]
fn copies_of_what_has_none_are_refused() {
    let f = Folder::with_store();
    for slot_type in ["u8", "buffer:u8[2]"] {
        let words = ["define", "--areas", "2", "F", "n", slot_type];
        says(&f.run(&words), 2, &["\"n\"", slot_type, "--areas"], &["already"]);
    }
    assert_eq!(f.ok(&["ls", "--names", "F"]), "");
}

#[test]
fn what_create_does_not_do_is_said() {
    let f = Folder::new();
    let again =
        ["create", "--if-missing", "--max-slots", "5", "--max-size", "64M", "--mode", "640"];
    f.ok(&[&again[..], &["F"]].concat());
    f.ok(&[&again[..], &["F"]].concat());
    let other = [
        "create",
        "--if-missing",
        "--max-slots",
        "6",
        "--max-size",
        "1G",
        "--mode",
        "600",
        "--no-checkpoint",
        "F",
    ];
    let said = ["already exists", "5 slots", "67108864 bytes", "mode 640", "checkpoints"];
    says(&f.run(&other), 0, &said, &[]);
    f.ok(&["create", "--if-missing", "F"]);
    for mode in ["0", "400", "077"] {
        says(&f.run(&["create", "--mode", mode, "G"]), 2, &["G", "600 to 777"], &[]);
    }
    assert!(!f.path("G").exists());
}

/// Standard input is read only until it is known to be too long. The message does not take that
/// part for the whole, nor a cut character for invalid UTF-8.
#[test]
fn an_input_that_is_too_long_is_called_so() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "t", "text[4]"]);
    f.ok(&["define", "F", "b", "bytes[4]"]);
    let much = "é".repeat(100_000);
    for (words, input) in [
        (&["set", "F", "t", "-"][..], format!("x{much}")),
        (&["set", "F", "t", "-"], much.clone()),
        (&["set", "--raw", "F", "t"], format!("x{much}")),
        (&["set", "--raw", "F", "b"], much.clone()),
        (&["set", "F", "b", "-"], "00".repeat(100_000)),
    ] {
        let said = ["holds at most 4 bytes, and more were given"];
        says(&f.run_with(words, input.as_bytes()), 2, &said, &["UTF-8"]);
    }
    let ended = f.run_with(&["set", "--json", "F", "t", "-"], format!("\"{much}\"").as_bytes());
    says(&ended, 2, &["more than 100024 bytes, which no text[4] takes"], &["EOF"]);
    assert_eq!(f.run_with(&["set", "F", "t", "-"], b"four\n").code, 0);
    says(&f.run_with(&["set", "F", "t", "-"], b"fours"), 2, &["5 bytes are too long"], &[]);
}

#[test]
fn a_slot_named_twice_is_removed_once() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8"]);
    f.ok(&["rm", "F", "a", "a"]);
    assert_eq!(f.ok(&["ls", "--names", "F"]), "");
}

#[test]
fn a_type_that_is_too_large_is_called_so() {
    let f = Folder::with_store();
    for too_large in [
        "u8[99999999999999999999]",
        "u8[4294967296,4294967296]",
        "bytes[99999999999999999999]",
        "u8[40000000000]",
    ] {
        says(&f.run(&["define", "F", "n", too_large]), 2, &["too large", "32 GiB"], &["write"]);
    }
    says(&f.run(&["define", "F", "n", "u8[2,0]"]), 2, &["at least 1"], &[]);
    says(&f.run(&["define", "F", "n", "u8[]"]), 2, &["write a scalar"], &[]);
    says(&f.run(&["define", "F", "n", "buffer"]), 2, &["buffer:u8[480,640]"], &["write"]);
}

/// `slotfile set FILE NAME VALUE --no-sync`: the option is taken for a value.
#[test]
fn an_option_among_the_values_is_pointed_at() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u8"]);
    for words in [
        &["set", "F", "n", "--raw"][..],
        &["add", "F", "n", "--no-sync"],
        &["define", "F", "m", "u8", "--doc", "what it is for"],
    ] {
        f.fails(2, words, &["F: slot", "options come before FILE"]);
    }
    says(&f.run(&["set", "F", "n", "300"]), 2, &["0 to 255"], &["options"]);
}

/// `slotfile get FILE NAME[0]`, `get FILE --json NAME`, `rm FILE 'h*'`: what is meant is not a name.
#[test]
fn a_name_that_is_none_says_what_was_meant() {
    let f = Folder::with_store();
    for (name, of) in [("hits", "u64"), ("pose", "f64[3]")] {
        f.ok(&["define", "F", name, of]);
    }
    let options = "options come before FILE";
    let element = "--index 0 before FILE means an element of \"pose\"";
    let glob = "this takes a name; `slotfile ls FILE GLOB` lists several";
    for (words, said) in [
        (&["get", "F", "--json"][..], options),
        (&["ls", "F", "--json"], options),
        (&["set", "F", "--index", "0", "pose", "1"], options),
        (&["get", "F", "pose[0]"], element),
        (&["set", "F", "pose[0]", "5"], element),
        (&["rm", "F", "h*"], glob),
        (&["get", "F", "none[0]"], glob),
    ] {
        says(&f.run(words), 8, &["no slot", said], &[]);
    }
    says(&f.run(&["get", "F", "--json", "hits"]), 2, &["one word too many", options], &[]);
    says(&f.run(&["get", "F", "hits", "more"]), 2, &["one word too many"], &[options]);
    let values = f.run(&["set", "F", "pose", "1,2,3"]);
    says(&values, 2, &["takes exactly 3 values, not 1; each is a word of its own"], &[]);
    let compared = f.run(&["cas", "F", "pose", "1", "2"]);
    says(&compared, 5, &["it is f64[3]", "`slotfile lock` of another slot"], &[]);
    fs::create_dir(f.path("folder")).unwrap();
    let path = "it is a folder; give the path of a store, or of a new file";
    says(&f.run(&["ls", "folder"]), 3, &[path], &[]);
    for count in ["x", "-1", "1.5"] {
        let words = ["watch", "--count", count, "F"];
        says(&f.run(&words), 2, &[count, "write a whole number, such as 10"], &[]);
        let words = ["create", "--max-slots", count, "G"];
        says(&f.run(&words), 2, &[count, "write a whole number, such as 10"], &[]);
    }
}

#[test]
fn counts_and_texts_read_well() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u8"]);
    f.fails(2, &["set", "--raw", "F", "n"], &["u8 takes exactly 1 byte, not 0"]);
    f.fails(2, &["define", "F", "a", "f64[2]", "1"], &["takes exactly 2 values, not 1"]);
    f.fails(2, &["set", "--json", "F", "n", "\"5\""], &["the text \"5\" is not of type u8"]);
}
