//! `wait` and `watch`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use super::Folder;

/// `watch`, running.
struct Watching {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watching {
    /// Starts it with these words. It prints the present states first, and has begun to watch
    /// when this returns.
    fn start(f: &Folder, words: &[&str]) -> Watching {
        let words = [&["watch", "--initial"], words].concat();
        let mut child = f.command(&words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Watching { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn json(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Waits for its end; returns the exit code, and what else it printed.
    fn end(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code().unwrap(), rest)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn wait_ends_when_it_holds() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "hits", "u64", "7"]);
    f.ok(&["define", "F", "name", "text[20]", "Karel"]);
    f.ok(&["wait", "F", "hits", "eq", "7"]);
    f.ok(&["wait", "F", "name", "lt", "Karela"]);
    f.ok(&["wait", "--read-only", "F", "hits", "ge", "7"]);
    for (op, with) in [("ne", "7"), ("lt", "7"), ("gt", "0x7")] {
        let start = Instant::now();
        let ended = f.run(&["wait", "--timeout", "0.1", "F", "hits", op, with]);
        assert_eq!((ended.code, ended.out, ended.err), (1, String::new(), String::new()));
        assert!(start.elapsed() >= Duration::from_millis(100), "too early");
    }
    for read_only in [&["wait"][..], &["wait", "--read-only"]] {
        f.ok(&["set", "F", "hits", "8"]);
        let words = [read_only, &["--timeout", "60", "F", "hits", "gt", "9"]].concat();
        let mut waiting = f.command(&words).spawn().unwrap();
        f.ok(&["set", "F", "hits", "9"]);
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(waiting.try_wait().unwrap(), None, "9 is not greater than 9");
        f.ok(&["set", "F", "hits", "10"]);
        assert_eq!(waiting.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "hits", "u64"]);
    f.ok(&["define", "F", "pose", "f64[2]"]);
    f.fails(8, &["wait", "F", "hit", "eq", "1"], &["F", "\"hit\"", "\"hits\""]);
    f.fails(2, &["wait", "F", "hits", "==", "1"], &["\"hits\"", "==", "eq, ne"]);
    f.fails(2, &["wait", "F", "hits", "eq", "x"], &["\"hits\"", "x"]);
    f.fails(2, &["wait", "F", "hits", "eq"], &["VALUE"]);
    f.fails(2, &["wait", "--timeout", "-1", "F", "hits", "eq", "1"], &["-1"]);
    f.fails(5, &["wait", "F", "pose", "eq", "1"], &["\"pose\"", "f64[2]"]);
    let mut waiting =
        f.command(&["wait", "F", "hits", "eq", "1"]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(waiting.try_wait().unwrap(), None);
    f.ok(&["rm", "F", "hits"]);
    assert_eq!(waiting.wait().unwrap().code(), Some(8));
}

/// Reports present slots, changes, and slots defined later; nothing else.
#[test]
fn watch_prints_a_line_for_each_new_version() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "arm/x", "f64", "0.5"]);
    f.ok(&["define", "F", "leg/x", "f64"]);
    let mut watching = Watching::start(&f, &["--count", "5", "F", "arm/*"]);
    assert_eq!(watching.line(), "arm/x  0  0.5\n");
    f.ok(&["set", "F", "leg/x", "1"]);
    f.ok(&["set", "F", "arm/x", "1.5"]);
    assert_eq!(watching.line(), "arm/x  1  1.5\n");
    f.ok(&["define", "F", "arm/pose", "u8[3]", "1", "2", "3"]);
    assert_eq!(watching.line(), "arm/pose  0  1 2 3\n");
    f.ok(&["rm", "F", "arm/pose"]);
    assert_eq!(watching.line(), "arm/pose  removed\n");
    f.ok(&["define", "F", "arm/pose", "text[9]", "a\nb"]);
    assert_eq!(watching.end(), (0, "arm/pose  0  \"a\\nb\"\n".into()));
}

#[test]
fn watch_prints_objects() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u16[2]", "1", "2"]);
    let mut watching = Watching::start(&f, &["--json", "F"]);
    let first = watching.json();
    assert_eq!((&first["name"], &first["version"]), (&"a".into(), &0.into()));
    f.ok(&["set", "--index", "1", "F", "a", "5"]);
    let second = watching.json();
    assert_eq!((&second["type"], &second["version"]), (&"u16[2]".into(), &1.into()));
    assert_eq!(second["value"], serde_json::json!([1, 5]));
    let time = second["time"].as_str().unwrap();
    assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert!(first["time"].as_str().unwrap() <= time);
    f.ok(&["rm", "F", "a"]);
    let third = watching.json();
    assert_eq!((&third["name"], &third["removed"]), (&"a".into(), &true.into()));
}

#[test]
fn watch_ends_in_time() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8"]);
    assert_eq!(f.ok(&["watch", "--timeout", "0.05", "F"]), "");
    assert_eq!(f.ok(&["watch", "--timeout", "0.05", "--initial", "F"]), "a  0  0\n");
    assert_eq!(f.ok(&["watch", "--count", "0", "F"]), "");
    let ended = f.run(&["watch", "--timeout", "0.05", "--count", "2", "--initial", "F"]);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (1, "a  0  0\n", ""));
    f.fails(2, &["watch", "F", "[a"], &["F", "[a"]);
    f.fails(8, &["watch", "nowhere"], &["nowhere"]);
}

/// It could be one that will be defined, or a slip.
#[test]
fn watch_says_that_a_name_is_not_there_yet() {
    let f = Folder::with_store();
    let watch = |pattern: &[&str]| {
        let ended = f.run(&[&["watch", "--timeout", "0.05", "F"], pattern].concat());
        assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{pattern:?}");
        ended.err
    };
    assert_eq!(watch(&[]), "slotfile: F: no slots yet: waiting until one is defined\n");
    f.ok(&["define", "F", "hits", "u8"]);
    for (pattern, said) in [
        ("hist", "no slot \"hist\" yet: waiting until one is defined; did you mean \"hits\"?\n"),
        ("other", "no slot \"other\" yet: waiting until one is defined\n"),
        ("x*", "no slot matches \"x*\" yet: waiting until one is defined\n"),
        (
            "--json",
            "no slot \"--json\" yet: waiting until one is defined; options come before FILE\n",
        ),
    ] {
        assert_eq!(watch(&[pattern]), format!("slotfile: F: {said}"));
    }
    for there in [&[][..], &["hits"], &["h*"]] {
        assert_eq!(watch(there), "");
    }
    let quiet = f.run(&["watch", "--quiet", "--timeout", "0.05", "F", "hist"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
}

/// Also while nothing changes, so that nothing is printed.
#[test]
fn a_closed_pipe_ends_watch_quietly() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8"]);
    let mut child = f
        .command(&["watch", "--initial", "F"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    drop(lines);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn a_waiter_is_told_that_the_file_is_gone() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64"]);
    for words in [&["wait", "F", "n", "eq", "1"][..], &["watch", "F"]] {
        let mut waiting = f.command(words);
        let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let file = std::fs::File::open(f.path("F")).unwrap();
        super::common::until("it has the store open", || {
            super::common::os::byte_is_locked(&file, 1 << 62)
        });
        std::fs::rename(f.path("F"), f.path("old")).unwrap();
        let ended = waiting.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(8), "{words:?}: {said}");
        assert!(said.contains("moved"), "{words:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
        std::fs::rename(f.path("old"), f.path("F")).unwrap();
    }
    assert_eq!(f.run(&["wait", "--timeout", "0.01", "F", "n", "eq", "1"]).code, 1);
}

/// Adds to a counter wake nobody: a watch of one would wait for ever, in silence.
#[test]
fn a_watch_says_that_it_sees_no_adds() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "hits", "counter"]);
    f.ok(&["define", "F", "x", "u64"]);
    f.fails(2, &["watch", "--timeout", "5", "F", "hits"], &["\"hits\"", "wakes nobody"]);
    let watched = f.run(&["watch", "--timeout", "0.05", "F"]);
    assert_eq!((watched.code, watched.out.as_str()), (0, ""));
    assert!(watched.err.contains("adds to counters print no line"), "{}", watched.err);
    assert!(watched.err.contains("hits"), "{}", watched.err);
    let watched = f.run(&["watch", "--timeout", "0.05", "F", "x*"]);
    assert_eq!(watched.err, "");
    assert!(f.ok(&["help", "watch"]).contains("Adds to a counter wake"));
}
