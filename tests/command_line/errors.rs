//! Each exit code, with one line that names the file, the slot and the remedy.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{Folder, SLOTFILE};

#[test]
fn one_is_no() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8"]);
    f.fails(1, &["create", "F"], &["F", "already exists"]);
    f.fails(1, &["define", "--new", "F", "a", "u8"], &["F", "\"a\"", "already exists"]);
    assert_eq!(f.run(&["cas", "F", "a", "1", "2"]).code, 1);
}

#[test]
fn two_is_wrong_usage() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8"]);
    assert_eq!(f.run(&[]).code, 2);
    for words in [
        &["frobnicate"][..],
        &["get", "--bogus", "F", "a"],
        &["get"],
        &["get", "F"],
        &["get", "F", "a", "b"],
        &["get", "--json", "--raw", "F", "a"],
        &["set", "F"],
        &["rm", "F"],
        &["cas", "F", "a", "1"],
        &["create", "F", "G"],
        &["create", "--mode", "999", "G"],
        &["create", "--max-size", "1X", "G"],
        &["get", "--lock-timeout", "soon", "F", "a"],
        &["get", "--lock-timeout", "-1", "F", "a"],
        &["get", "--color", "blue", "F", "a"],
        &["define", "F", "b", "u65"],
        &["define", "F", "b", "u8[0]"],
        &["define", "F", "b", "f64[1,2,3,4,5]"],
        &["define", "F", "b", "text"],
        &["define", "F", "b", "u8", "300"],
        &["define", "F", "b", "u8[2]", "1"],
        &["define", "--areas", "3", "F", "b", "u8[2]"],
        &["define", "F", "", "u8"],
        &["define", "F", "a\nb", "u8"],
        &["define", "F", &"x".repeat(256), "u8"],
    ] {
        f.fails(2, words, &[]);
    }
    assert_eq!(f.json(&["ls", "--json", "F"]).as_array().unwrap().len(), 1, "nothing was defined");
}

#[test]
fn a_slip_in_an_option_is_one_line_with_the_right_name() {
    let f = Folder::with_store();
    let said = f.run(&["get", "--jsn", "F", "a"]).err;
    assert!(said.contains("'--json'") && !said.contains("tip: to pass"), "{said}");
    f.fails(2, &["get"], &["FILE is missing. Usage: slotfile get [OPTIONS] FILE NAME"]);
}

#[test]
fn three_is_damaged_or_not_a_store() {
    let f = Folder::new();
    fs::write(f.path("empty"), "").unwrap();
    fs::write(f.path("prose"), "slotfile, in the beginning. ".repeat(1000)).unwrap();
    fs::create_dir(f.path("folder")).unwrap();
    for name in ["empty", "prose", "folder"] {
        for verb in [&["ls", name][..], &["info", name], &["get", name, "a"], &["add", name, "a"]] {
            f.fails(3, verb, &[name]);
        }
    }
    f.ok(&["create", "F"]);
    let whole = fs::read(f.path("F")).unwrap();
    fs::write(f.path("short"), &whole[..whole.len() / 2]).unwrap();
    f.fails(3, &["ls", "short"], &["short"]);
}

/// Truncated before it is opened; while it is open, which would be a SIGBUS; and while `lock`
/// waits for its command, to which the low exit codes belong.
#[test]
fn row_24_a_truncated_file_is_three_and_a_line() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "big", "f64[2000000]"]);
    let cut = |to: u64| fs::File::options().write(true).open(f.path("F")).unwrap().set_len(to);
    let whole = fs::metadata(f.path("F")).unwrap().len();
    // It prints more than a pipe holds, so it waits until the pipe is read.
    let mut child = f
        .command(&["get", "F", "big"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    cut(4_096).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // It may have copied the content before the truncation, or not.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?} {said}", output.status);
    f.fails(3, &["get", "F", "big"], &["F", "truncated", "4096"]);
    fs::remove_file(f.path("F")).unwrap();
    f.ok(&["create", "F"]);
    f.ok(&["define", "F", "big", "f64[2000000]"]);
    f.fails(125, &["lock", "F", "big", "--", "truncate", "--size", "0", "F"], &["F", "truncated"]);
    // Truncated during a wait: the slot vanishes.
    fs::remove_file(f.path("F")).unwrap();
    f.ok(&["create", "F"]);
    f.ok(&["define", "F", "value", "u64"]);
    let mut child =
        f.command(&["wait", "F", "value", "eq", "1"]).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    assert!(cut(whole / 1_000).is_ok());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.starts_with("slotfile: ") && said.contains("truncated"), "{said}");
    assert_eq!(said.matches('\n').count(), 1, "{said}");
}

#[test]
fn five_is_another_type() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8[3]"]);
    f.fails(5, &["define", "F", "a", "u8"], &["F", "\"a\"", "u8[3]"]);
    f.fails(5, &["define", "F", "a", "u8[4]"], &["u8[3]", "u8[4]"]);
}

#[test]
fn six_is_no_space() {
    let f = Folder::new();
    f.ok(&["create", "--max-slots", "2", "F"]);
    let full = |i: u32| f.run(&["define", "F", &format!("slot{i}"), "u8"]).code == 6;
    // A store may round its limits up, but not without bound.
    assert!((0..100_000).step_by(1).take(1000).any(full), "never full");
    f.fails(6, &["define", "F", "one more", "u8"], &["F", "full"]);
}

#[test]
fn seven_is_not_allowed() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8"]);
    f.fails(7, &["add", "--read-only", "F", "a"], &["F", "read-only"]);
    f.fails(7, &["define", "--read-only", "F", "b", "u8"], &["F", "read-only"]);
    f.ok(&["get", "--read-only", "F", "a"]);
    // Root may read every file.
    fs::set_permissions(f.path("F"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(f.path("F")).is_err() {
        f.fails(7, &["get", "F", "a"], &["F", "not allowed"]);
    }
}

#[test]
fn eight_is_not_there() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "counter", "u8"]);
    f.fails(8, &["ls", "G"], &["G", "slotfile create"]);
    let folder = "no/such/G: its folder does not exist; create that first, with `mkdir -p no/such`";
    for words in [
        &["create", "no/such/G"][..],
        &["define", "--create", "no/such/G", "a", "u8"],
        &["copy", "F", "no/such/G"],
        &["demo", "no/such/G"],
    ] {
        f.fails(8, words, &[folder]);
    }
    f.fails(8, &["get", "F", "countr"], &["F", "\"countr\"", "did you mean", "\"counter\""]);
    f.fails(8, &["set", "F", "x", "1"], &["F", "\"x\""]);
    f.fails(8, &["rm", "F", "counter", "x"], &["F", "\"x\""]);
    assert_eq!(f.ok(&["get", "F", "counter"]), "0\n", "nothing was removed");
}

#[test]
fn quiet_says_nothing() {
    let f = Folder::with_store();
    let ended = f.run(&["get", "--quiet", "F", "x"]);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (8, "", ""));
    let ended = f.run(&["-q", "get", "F", "x"]);
    assert_eq!((ended.code, ended.err.as_str()), (8, ""));
}

#[test]
fn help_and_version_are_not_errors() {
    let f = Folder::new();
    assert!(f.ok(&["--help"]).contains("demo"));
    assert!(f.ok(&["--version"]).starts_with("slotfile "));
    for verb in ["create", "define", "ls", "get", "set", "add", "cas", "rm", "lock", "info", "demo"]
    {
        assert!(f.ok(&[verb, "--help"]).contains(&format!("Usage: slotfile {verb}")));
    }
}

#[test]
fn the_mode_is_as_asked() {
    let f = Folder::new();
    f.ok(&["create", "F"]);
    f.ok(&["create", "--mode", "664", "G"]);
    let mode = |name: &str| fs::metadata(f.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("F"), mode("G")), (0o600, 0o664));
}

/// A container limits the number of processes and threads.
#[test]
fn without_a_thread_to_be_had_copying_and_compacting_work() {
    let f = Folder::new();
    fs::set_permissions(f.path("."), fs::Permissions::from_mode(0o777)).unwrap();
    // One process, of an unused user.
    let alone = |words: &[&str]| {
        let user = ["--nproc=1", "setpriv", "--reuid=61234", "--regid=61234", "--clear-groups"];
        let mut command = Command::new("prlimit");
        command.args(user).arg(SLOTFILE).args(words).current_dir(f.path(".")).output()
    };
    if !alone(&["create", "F"]).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: limiting a user needs root, prlimit and setpriv");
        return;
    }
    for words in [&["define", "F", "hits", "u64"][..], &["copy", "F", "G"], &["compact", "F"]] {
        let output = alone(words).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*err), (Some(0), ""), "{words:?}");
    }
}

/// A read-only file could be copied only by root: the copy's own maker could not open it.
#[test]
fn a_store_that_may_only_be_read_is_copied() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64", "5"]);
    fs::set_permissions(f.path("F"), fs::Permissions::from_mode(0o440)).unwrap();
    let is_root = fs::metadata(f.path("F")).unwrap().uid() == 0;
    if is_root {
        for path in [f.path(""), f.path("F")] {
            chown(path, Some(65534), Some(65534)).unwrap();
        }
    }
    let run = |words: &[&str]| {
        let mut command = f.command(words);
        if is_root {
            command.uid(65534).gid(65534);
        }
        command.output()
    };
    let Ok(copied) = run(&["copy", "F", "G"]) else {
        eprintln!("skipped: another user cannot run {SLOTFILE}");
        return;
    };
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    assert_eq!(fs::metadata(f.path("G")).unwrap().permissions().mode() & 0o777, 0o440);
    assert_eq!(run(&["get", "G", "n"]).unwrap().stdout, b"5\n");
}

/// A slot that is larger than memory, or claims to be in a damaged file.
#[test]
fn row_23_without_memory_for_a_content_it_is_six_and_a_line() {
    const LEN: usize = 40_000_000;
    let f = Folder::new();
    f.ok(&["create", "--no-checkpoint", "F"]);
    for (name, of) in [("array", "u8"), ("text", "text"), ("bytes", "bytes")] {
        f.ok(&["define", "F", name, &format!("{of}[{LEN}]")]);
    }
    f.ok(&["define", "F", "n", "u64"]);
    let content = vec![b'x'; LEN];
    for name in ["text", "bytes"] {
        assert_eq!(f.run_bytes(&["set", "--raw", "F", name], &content).0, 0);
    }
    let limited = |kilobytes: usize, words: &[&str]| {
        let script = format!("ulimit -v {kilobytes}; exec \"$@\"");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script, "sh", super::SLOTFILE]).args(words);
        let ended = shell.current_dir(f.path("")).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    // The least memory to open it with, and half of a content more.
    let enough = (1..).map(|step| step * 8_000);
    let enough = enough.take(200).find(|k| limited(*k, &["set", "F", "n", "1"]).0 == Some(0));
    let enough = enough.unwrap() + 8_000;
    for name in ["array", "text", "bytes"] {
        let update: &[&str] = match name {
            "array" => &["get", "--index", "0..40000000", "F", "array"],
            _ => &["cas", "F", name, "00", "11"],
        };
        for words in [
            update,
            &["get", "F", name],
            &["get", "--json", "F", name],
            &["get", "--raw", "F", name],
            &["ls", "--json", "F", name],
            &["watch", "--initial", "--count", "1", "F", name],
        ] {
            let (code, said) = limited(enough, words);
            assert_eq!((code, said.lines().count()), (Some(6), 1), "{words:?}: {said}");
            assert!(said.contains("no memory for 40000000 bytes"), "{words:?}: {said}");
        }
    }
    for words in [&["wait", "F", "text", "eq", "x"][..], &["wait", "F", "bytes", "eq", "00"]] {
        let (code, said) = limited(enough, words);
        assert_eq!((code, said.lines().count()), (Some(6), 1), "{words:?}: {said}");
    }
    // Showing its beginning takes no more.
    assert_eq!(limited(enough, &["ls", "F"]), (Some(0), String::new()));
    assert_eq!(limited(enough, &["check", "F"]).0, Some(0));
}
