//! `txn`: all of its lines or none; a failure names its line.

use super::{Ended, Folder};

fn store() -> Folder {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "i64", "10"]);
    f.ok(&["define", "F", "b", "u8", "250"]);
    f.ok(&["define", "F", "x", "f64", "0.5"]);
    f.ok(&["define", "F", "t", "text[20]", "start"]);
    f.ok(&["define", "F", "v", "u8[3]", "1", "2", "3"]);
    f.ok(&["define", "F", "on", "bool"]);
    f.ok(&["define", "F", "bytes", "bytes[4]"]);
    f
}

fn txn(f: &Folder, input: &str) -> Ended {
    f.run_with(&["txn", "F"], input.as_bytes())
}

#[track_caller]
fn does(f: &Folder, input: &str) {
    let ended = txn(f, input);
    assert_eq!((ended.code, &*ended.out, &*ended.err), (0, "", ""), "{input}");
}

/// It fails with this code and one line that contains all of these, and changes nothing.
#[track_caller]
fn refuses(f: &Folder, code: i32, input: &str, said: &[&str]) {
    let before = f.ok(&["ls", "--json", "F"]);
    let ended = txn(f, input);
    assert_eq!((ended.code, &*ended.out), (code, ""), "{input}: {ended:?}");
    assert_eq!(ended.err.matches('\n').count(), 1, "{input}: {ended:?}");
    for part in said {
        assert!(ended.err.contains(part), "{input}: {part:?} in {ended:?}");
    }
    assert_eq!(f.ok(&["ls", "--json", "F"]), before, "{input}");
}

#[test]
fn all_lines_are_done() {
    let f = store();
    does(
        &f,
        "# pay five\ncheck a ge 5\nadd a -5\n\nadd b\ncheck a eq 5\nset t \"a 'text' of\nlines\"\n\
         set v 7 8 0x9\nset on true\nset bytes 00ff\nadd x 0.25\ncheck x lt 1\ncheck t gt a\n",
    );
    assert_eq!(f.ok(&["get", "F", "a"]), "5\n");
    assert_eq!(f.ok(&["get", "F", "b"]), "251\n");
    assert_eq!(f.ok(&["get", "F", "t"]), "a 'text' of\nlines\n");
    assert_eq!(f.ok(&["get", "F", "v"]), "7 8 9\n");
    assert_eq!(f.ok(&["get", "F", "on"]), "true\n");
    assert_eq!(f.ok(&["get", "F", "bytes"]), "00ff\n");
    assert_eq!(f.ok(&["get", "F", "x"]), "0.75\n");
    // One transaction makes one version; checks make none.
    does(&f, "add a\nadd a\ncheck b eq 251\nadd a -2");
    assert_eq!(f.json(&["get", "--json", "F", "a"])["version"], 2);
    assert_eq!(f.json(&["get", "--json", "F", "b"])["version"], 1);
    does(&f, "");
    does(&f, "# nothing to do");
}

#[test]
fn the_line_that_said_no_is_named() {
    let f = store();
    refuses(&f, 1, "set t new\nadd a -4\ncheck a ge 7", &["line 3: ", "F", "\"a\"", "\"6\"", "ge"]);
    refuses(&f, 1, "add a\nadd b 5\nadd b", &["line 3: ", "\"b\"", "overflow", "0 to 255"]);
    refuses(&f, 1, "set t new\n\n# no\ncheck on eq true", &["line 4: ", "\"on\""]);
    refuses(&f, 1, "check x gt nan", &["line 1: ", "\"x\""]);
    refuses(&f, 1, "add x 1\ncheck t eq other", &["line 2: ", "start", "other"]);
}

#[test]
fn a_line_that_cannot_be_understood_is_named() {
    let f = store();
    refuses(&f, 2, "add a\nset t", &["line 2: ", "NAME VALUE..."]);
    refuses(&f, 2, "add a\nfrobnicate", &["line 2: ", "set, add or check"]);
    refuses(&f, 2, "check a > 5", &["line 1: ", "eq, ne"]);
    refuses(&f, 2, "add a\nset b 256", &["line 2: ", "\"b\"", "0 to 255"]);
    refuses(&f, 2, "add a\nset v 1 2", &["line 2: ", "\"v\"", "3"]);
    refuses(&f, 2, "add a\nadd b 1.5", &["line 2: ", "\"b\""]);
    refuses(&f, 2, "add a\nset t 'much too long for twenty bytes'", &["line 2: ", "\"t\"", "20"]);
    refuses(&f, 2, "add a\nset t 'open", &["line 2: ", "quote"]);
    refuses(&f, 2, "check b eq 300", &["line 1: ", "0 to 255"]);
    refuses(&f, 5, "add a\nadd t 1", &["line 2: ", "\"t\"", "text[20]"]);
    refuses(&f, 5, "add on", &["line 1: ", "bool"]);
    refuses(&f, 5, "add a\ncheck v eq 1", &["line 2: ", "\"v\"", "u8[3]"]);
    refuses(&f, 8, "add a\nset nosuch 1", &["line 2: ", "nosuch"]);
    f.fails(8, &["txn", "nosuchfile"], &["nosuchfile"]);
    f.fails(2, &["txn"], &["FILE"]);
    f.fails(2, &["txn", "F", "x"], &["too many"]);
    f.fails(7, &["txn", "--read-only", "F"], &["read-only"]);
    let (code, _, err) = f.run_bytes(&["txn", "F"], b"set t \xff");
    assert!(code == 2 && err.contains("UTF-8"), "{err}");
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let endless = f.command(&["txn", "F"]).stdin(zeros).output().unwrap();
    assert_eq!(endless.status.code(), Some(2));
}

/// Ten processes, each moving 1 from `a` to `b` while any are left.
#[test]
fn many_at_once_move_what_there_is() {
    let f = store();
    f.ok(&["set", "F", "b", "0"]);
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let one = || txn(&f, "check a gt 0\nadd b\nadd a -1\n").code;
        let all: Vec<_> = (0..14).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 10, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 1).count(), 4, "{codes:?}");
    assert_eq!((f.ok(&["get", "F", "a"]), f.ok(&["get", "F", "b"])), ("0\n".into(), "10\n".into()));
}

/// A quoted text of many lines took quadratic time, and lost white space before each newline.
#[test]
fn a_text_of_many_lines_is_taken_as_it_is() {
    let f = store();
    f.ok(&["define", "F", "long", "text[1000000]"]);
    let text: String = (0..40_000).map(|n| format!("line {n}\r\n")).collect();
    let begun = std::time::Instant::now();
    does(&f, &format!("add a # it's\nset long '{text}'\nadd a\n"));
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(f.run_bytes(&["get", "--raw", "F", "long"], b"").1, text.as_bytes());
    assert_eq!(f.ok(&["get", "F", "a"]), "12\n");
    // The line ends of other systems.
    does(&f, "set t x\\\ny\r\nadd a -2\r\n");
    assert_eq!(
        (f.ok(&["get", "F", "t"]), f.ok(&["get", "F", "a"])),
        ("xy\n".into(), "10\n".into())
    );
    refuses(&f, 2, "set t \"a\nb\" x\nadd a\n", &["line 1: "]);
    refuses(&f, 2, "set t \"a\nb\"\nadd", &["line 3: "]);
}
