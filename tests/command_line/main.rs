//! The command line as people and scripts use it: the real executable, real files.

#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod demo;
mod errors;
mod examples;
mod lists;
mod lock;
mod messages;
mod pages;
mod sitting;
mod streams;
mod txn;
mod values;
mod waiting;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The executable under test.
const SLOTFILE: &str = env!("CARGO_BIN_EXE_slotfile");

/// A temporary folder in which the executable runs.
struct Folder {
    folder: tempfile::TempDir,
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        Folder { folder }
    }

    /// A folder with a store `F`.
    fn with_store() -> Folder {
        let folder = Folder::new();
        folder.ok(&["create", "F"]);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(SLOTFILE);
        command.args(words).current_dir(self.folder.path());
        command
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, b"")
    }

    /// Runs it with this on standard input.
    fn run_with(&self, words: &[&str], input: &[u8]) -> Ended {
        let ended = self.run_bytes(words, input);
        Ended { code: ended.0, out: String::from_utf8(ended.1).unwrap(), err: ended.2 }
    }

    fn run_bytes(&self, words: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
        let mut child = self
            .command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end without having read, which is not tested here.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap_or(-1), output.stdout, err)
    }

    /// Runs it; it must succeed without messages. Returns its output.
    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{words:?}: {ended:?}");
        ended.out
    }

    /// Runs it; it must fail with this code and one line that contains all of these.
    #[track_caller]
    fn fails(&self, code: i32, words: &[&str], said: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!(ended.code, code, "{words:?}: {ended:?}");
        assert!(ended.err.starts_with("slotfile: "), "{words:?}: {ended:?}");
        assert_eq!(ended.err.matches('\n').count(), 1, "{words:?}: {ended:?}");
        for part in said {
            assert!(ended.err.contains(part), "{words:?}: {part:?} in {ended:?}");
        }
        ended.out
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }
}
