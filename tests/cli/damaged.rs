//! Damaged files, those that fuzzing has kept, through every verb that reads: one of the
//! documented exit codes, a line that says why, no signal and no hang.

use std::path::Path;
use std::time::Duration;

use super::Folder;
use super::common::{long, mangled, within};

/// The verbs that read, as they are called on the file `F` (and for `copy` on `C`).
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
    // Each line is one of ours; where it failed the last one says why.
    assert!(said.lines().all(|line| line.starts_with("slotfile: ")), "{words:?}: {said}");
    assert!(said.lines().count() <= 2, "{words:?}: {said}");
    // 1 is an answer: no.
    let explained = said.lines().last().is_some_and(|line| line.contains(file));
    assert!(code <= 1 || explained || verb.starts_with("check"), "{words:?}: {code}: {said}");
    code
}

#[test]
fn row_28_any_bytes_as_a_store_through_every_verb_that_reads() {
    let f = Folder::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/any_bytes");
    let mut inputs: Vec<_> =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() > 50);
    let mut codes = std::collections::BTreeMap::new();
    for (number, input) in inputs.iter().enumerate() {
        let input = std::fs::read(input).unwrap();
        // Each file through one verb, each verb through a sixteenth of the files; or all.
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
