//! Runs every reading verb on damaged files, those that fuzzing has kept: each ends with a
//! documented exit code and a line that says why, without a signal or a hang.

use std::path::Path;
use std::time::Duration;

use super::Folder;
use super::common::raw::Raw;
use super::common::{apart, long, mangled, within};

/// The reading verbs, with their arguments for the file `F` (and `C` for `copy`).
const VERBS: [&str; 16] = [
    "ls F",
    "ls --long F *a*",
    "ls --json F",
    "get F value",
    "get --json F array",
    "get --index 1 F array",
    "get F text",
    "get --raw F bytes",
    "get F large",
    "info F",
    "info --json F",
    "check F",
    "check --json F",
    "copy F C",
    "watch --count 1 --timeout 0.05 F",
    "wait --timeout 0.05 F value eq 77",
];

/// The exit codes of docs/errors.md.
const CODES: std::ops::RangeInclusive<i32> = 0..=8;

fn run(f: &Folder, verb: &str, file: &Path, copy: &Path, read_only: bool) -> i32 {
    let file = file.to_str().unwrap();
    let mut words: Vec<&str> = verb.split(' ').collect();
    for word in &mut words {
        match *word {
            "F" => *word = file,
            "C" => *word = copy.to_str().unwrap(),
            _ => {}
        }
    }
    words.splice(1..1, ["--lock-timeout", "0.1"]);
    if read_only {
        words.insert(1, "--read-only");
    }
    let ended = within(Duration::from_secs(30), verb, || f.run_bytes(&words, b""));
    let (code, _, said) = ended;
    assert!(CODES.contains(&code), "{words:?}: {code}: {said}");
    // Each line is one of ours; after a failure, the last one says why.
    assert!(said.lines().all(|line| line.starts_with("slotfile: ")), "{words:?}: {said}");
    assert!(said.lines().count() <= 2, "{words:?}: {said}");
    // 1 is an answer: no.
    let explained = said.lines().last().is_some_and(|line| line.contains(file));
    assert!(code <= 1 || explained || verb.starts_with("check"), "{words:?}: {code}: {said}");
    code
}

#[test]
fn row_28_any_bytes_as_a_store_through_every_verb_that_reads() {
    if !apart("row_28_any_bytes_as_a_store_through_every_verb_that_reads") {
        return;
    }
    let f = Folder::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/any_bytes");
    let mut inputs: Vec<_> =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() > 50);
    let mut codes = std::collections::BTreeMap::new();
    for (number, input) in inputs.iter().enumerate() {
        let input = std::fs::read(input).unwrap();
        // One verb per file, so each verb gets a sixteenth of the files; or all of them.
        let chosen = |i: usize| long() || (i + number).is_multiple_of(VERBS.len());
        for (_, verb) in VERBS.iter().enumerate().filter(|(i, _)| chosen(*i)) {
            mangled::with_store(&input, |path, copy, flags| {
                let code = run(&f, verb, path, copy, flags & 8 == 0);
                assert_eq!(verb.starts_with("copy") && code == 0, copy.exists(), "half a copy");
                let _ = std::fs::remove_file(copy);
                *codes.entry(code).or_insert(0) += 1;
            });
        }
    }
    println!("{codes:?}");
    assert!(codes[&0] > 10 && codes[&3] > 10, "{codes:?}");
}

/// A size that a damaged file claims takes no memory: these runs have a memory limit.
fn with_little_memory(f: &Folder, words: &str) -> (i32, String, String) {
    let script = format!("ulimit -d 1000000; exec \"$0\" --lock-timeout 0.1 {words}");
    let mut command = std::process::Command::new("sh");
    let command = command.args(["-c", &script, super::SLOTFILE]).current_dir(f.path(""));
    let ended = within(Duration::from_secs(60), words, || command.output().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code().unwrap_or(-1), text(ended.stdout), text(ended.stderr))
}

/// Texts of 4 GiB in a file of holes: listing and checking them once ended in an abort.
#[test]
fn row_28_a_text_that_claims_more_than_there_is_memory_is_listed_and_checked() {
    const CLAIMED: u64 = 4 << 30;
    let f = Folder::new();
    f.ok(&["create", "--no-checkpoint", "--max-slots", "8", "--max-size", "64G", "F"]);
    for kind in ["text", "bytes"] {
        f.ok(&["define", "F", kind, &format!("{kind}[100000]")]);
    }
    let raw = Raw::open(&f.path("F"));
    raw.cut(40 << 30);
    for line in 0..2 {
        raw.set_word(raw.line(line) + 16, CLAIMED);
        raw.set_word(raw.line(line) + 48, (4 + 16 * line) << 30);
        raw.seal_line(line);
        raw.set_word(raw.slot(line) + 4_096, CLAIMED);
    }
    let (code, listed, said) = with_little_memory(&f, "ls F");
    assert_eq!((code, &*said), (0, ""), "{listed}");
    assert_eq!(listed.matches("... (4294967296 bytes)").count(), 2, "{listed}");
    if long() {
        let (code, checked, said) = with_little_memory(&f, "check F");
        assert_eq!((code, &*said), (3, ""), "{checked}");
        assert!(checked.contains("the allocation ends"), "{checked}");
    }
    // Shorter, so that checking it ends in time, but still larger than the memory.
    raw.set_word(raw.line(0) + 16, CLAIMED / 2);
    raw.seal_line(0);
    raw.set_word(raw.slot(0) + 4_096, CLAIMED / 2);
    raw.set_word(raw.line(1) + 16, 100_000);
    raw.seal_line(1);
    let (code, checked, said) = with_little_memory(&f, "check F");
    assert_eq!((code, &*said), (3, ""), "{checked}");
}

/// The number of a checkpoint segment was taken for their count: hundreds of gigabytes.
#[test]
fn row_29_a_segment_of_a_great_number_is_out_of_place() {
    let f = Folder::new();
    f.ok(&["create", "--max-slots", "8", "--max-size", "32T", "F"]);
    f.ok(&["define", "F", "n", "u64"]);
    let raw = Raw::open(&f.path("F"));
    raw.set_word(raw.line(0) + 56, (1 << 32) - 2);
    raw.seal_line(0);
    for (words, expected) in
        [("info F", 3), ("sync F", 3), ("add F n", 3), ("define F x u8", 3), ("get F n", 0)]
    {
        let (code, _, said) = with_little_memory(&f, words);
        assert_eq!(code, expected, "{words}: {said}");
        assert!(code == 0 || said.contains("out of place"), "{words}: {said}");
    }
}
