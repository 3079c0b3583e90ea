//! Closed and full outputs, colour.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use super::Folder;

#[test]
fn row_41_a_closed_pipe_ends_it_quietly() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "f64[200000]"]);
    for words in [
        &["get", "F", "a"][..],
        &["get", "--json", "F", "a"],
        &["get", "--raw", "F", "a"],
        &["ls", "F"],
        &["info", "F"],
    ] {
        let mut child =
            f.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{words:?} {err}");
        assert_eq!(err, "", "{words:?}");
    }
}

/// The exit code of an answer is the same if the reader has closed the pipe.
#[test]
fn row_41_a_closed_pipe_does_not_change_the_exit_code() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64", "1"]);
    f.ok(&["define", "F", "t", "text[100000]", &"x".repeat(100_000)]);
    let unread = |words: &[&str]| {
        let mut child = f.command(words).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        child.wait().unwrap().code()
    };
    assert_eq!(unread(&["cas", "F", "n", "7", "2"]), Some(1));
    assert_eq!(unread(&["cas", "F", "t", "y", "z"]), Some(1));
    assert_eq!(unread(&["cas", "F", "n", "1", "2"]), Some(0));
    f.ok(&["sync", "F"]);
    let raw = super::common::raw::Raw::open(&f.path("F"));
    raw.flip(raw.mark(), 1);
    assert_eq!(f.run(&["check", "F"]).code, 3);
    assert_eq!(unread(&["check", "F"]), Some(3));
    assert_eq!(unread(&["check", "--json", "F"]), Some(3));
}

#[test]
fn row_41_a_full_output_is_an_error() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u64"]);
    for words in PRINT {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = f.command(words).stdout(full).output().unwrap();
        output_is_refused(words, &output);
    }
}

/// Everything that prints.
const PRINT: [&[&str]; 20] = [
    &["ls", "F"],
    &["ls", "--json", "F"],
    &["ls", "--names", "F"],
    &["ls", "--long", "F", "a"],
    &["get", "F", "a"],
    &["get", "--json", "F", "a"],
    &["get", "--raw", "F", "a"],
    &["add", "F", "a"],
    &["cas", "F", "a", "77", "2"],
    &["info", "F"],
    &["info", "--json", "F"],
    &["check", "F"],
    &["check", "--json", "F"],
    &["watch", "--initial", "--count", "1", "F"],
    &["watch", "--initial", "--count", "1", "--json", "F"],
    &["demo"],
    &["help"],
    &["help", "set"],
    &["set", "--help"],
    &["--version"],
];

#[track_caller]
fn output_is_refused(words: &[&str], output: &Output) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{words:?} {err}");
    let said = err.starts_with("slotfile: standard output: ") && err.matches('\n').count() == 1;
    assert!(said, "{words:?} {err}");
}

/// Runs it from a shell that redirects its streams, or closes some, as in `>&-`.
fn run_with_redirection(f: &Folder, words: &[&str], streams: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {streams}"), "sh", super::SLOTFILE]).args(words);
    shell.current_dir(f.path("")).output().unwrap()
}

/// Rust's runtime opens /dev/null in the place of a closed stream, where all is lost in silence.
#[test]
fn row_41_a_closed_output_is_an_error() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u64"]);
    for words in PRINT {
        output_is_refused(words, &run_with_redirection(&f, words, ">&-"));
    }
    // What waits would never end.
    output_is_refused(&["watch"], &run_with_redirection(&f, &["watch", "F"], ">&-"));
    // What prints nothing needs no output.
    for words in [&["set", "F", "a", "5"][..], &["sync", "F"], &["wait", "F", "a", "eq", "5"]] {
        let output = run_with_redirection(&f, words, ">&-");
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?} {output:?}");
    }
}

/// Else a text would be emptied, and a transaction do nothing, as if that had been asked for.
#[test]
fn row_41_an_input_that_cannot_be_read_is_an_error() {
    let f = Folder::with_store();
    fs::create_dir(f.path("folder")).unwrap();
    f.ok(&["define", "F", "t", "text[9]", "kept"]);
    for words in [
        &["set", "F", "t", "-"][..],
        &["set", "--raw", "F", "t"],
        &["set", "--json", "F", "t", "-"],
        &["define", "F", "new", "text[9]", "-"],
        &["txn", "F"],
    ] {
        for input in ["<&-", "<folder"] {
            let output = run_with_redirection(&f, words, input);
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(7), "{words:?} {err}");
            let said = ["slotfile: standard input: ", "; nothing was changed\n"];
            assert!(err.starts_with(said[0]) && err.ends_with(said[1]), "{words:?} {err}");
        }
    }
    assert_eq!(f.ok(&["get", "F", "t"]), "kept\n");
    assert_eq!(f.ok(&["ls", "--names", "F"]), "t\n");
}

#[test]
fn row_41_closed_streams_do_no_harm() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u64[1]"]);
    let output = run_with_redirection(&f, &["set", "F", "a", "-"], "<&- >&- 2>&-");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(f.ok(&["get", "F", "a"]), "0\n");
}

#[test]
fn colour_only_where_it_is_wanted() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u64"]);
    let is_coloured = |words: &[&str]| f.ok(words).contains('\u{1b}');
    assert!(!is_coloured(&["ls", "F"]));
    assert!(is_coloured(&["ls", "--color", "always", "F"]));
    assert!(!is_coloured(&["ls", "--color", "never", "F"]));
}

/// A change that a power cut would undo is reported as a failure.
#[test]
fn row_41_a_sync_that_fails_at_the_end_is_the_exit_code() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64", "1"]);
    let limited = |words: &str| {
        let script = format!("trap '' XFSZ; ulimit -f 8; exec \"$0\" {words}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, super::SLOTFILE]).current_dir(f.folder.path());
        command.output().unwrap()
    };
    let ended = limited("add F n 5");
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(6), "{said}");
    assert_eq!(ended.stdout, b"6\n");
    assert!(
        said.contains("not synced: the changes were made") && said.lines().count() == 1,
        "{said}"
    );
    assert!(!said.contains("nothing was changed"), "{said}");
    assert_eq!(f.ok(&["get", "F", "n"]), "6\n");
    let told = f.ok(&["info", "F"]);
    assert!(told.contains("failed     ") && told.contains("File too large"), "{told}");
    assert!(f.json(&["info", "--json", "F"])["failed_sync"].is_string());
    let check = f.run(&["check", "F"]);
    assert!(check.code == 3 && check.out.contains("the last sync failed"), "{check:?}");
    assert_eq!(limited("add --no-sync F n 1").status.code(), Some(0));
    assert_eq!(limited("get F n").status.code(), Some(0));
    f.ok(&["sync", "F"]);
    assert!(!f.ok(&["info", "F"]).contains("failed"));
}

/// A run needs no background thread to sync.
#[test]
fn without_a_thread_to_be_had_changes_are_made_and_synced() {
    const NAME: &str = "streams::without_a_thread_to_be_had_changes_are_made_and_synced";
    if super::common::role().is_some() {
        super::common::os::have_no_more_threads(true);
        let mut add = Command::new(super::SLOTFILE);
        let error = add.arg("add").arg(super::common::path()).args(["n", "5"]).exec();
        eprintln!("skipped: {}: {error}", super::SLOTFILE);
        std::process::exit(77);
    }
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64", "1"]);
    for path in [f.path(""), f.path("F")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut run = super::common::command(NAME, "add", &f.path("F"));
    let ended = run.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    if ended.status.code() == Some(77) {
        return;
    }
    assert!(ended.status.success(), "{said}");
    assert_eq!(f.ok(&["get", "F", "n"]), "6\n");
    assert!(!f.ok(&["info", "F"]).contains("failed"));
}
