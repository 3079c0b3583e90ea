//! `ls` of many slots: it prints while it reads, and its memory does not grow with their number.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use slotfile::{OpenOptions, Store};

use super::Folder;

const MANY: usize = 50_000;

/// Every way to list.
const LISTS: [&[&str]; 5] = [
    &["ls", "F"],
    &["ls", "--long", "F"],
    &["ls", "--names", "F", "g*"],
    &["ls", "--json", "F"],
    &["ls", "F", "none*"],
];

/// A folder with a store `F` of so many slots; its limits are the same for any number.
fn with_slots(count: usize) -> (Folder, Store) {
    let f = Folder::new();
    let mut options = OpenOptions::new();
    options.create(true).max_slots(MANY as u64).sync_every(None);
    let store = options.open(f.path("F")).unwrap();
    for i in 0..count {
        store.value::<u64>(&format!("group/{}/slot{i:05}", i % 100)).unwrap();
    }
    (f, store)
}

#[test]
fn a_list_of_many_slots_takes_no_more_memory_than_one_of_few() {
    let ((few, _), (many, _)) = (with_slots(2_000), with_slots(MANY));
    // Limits anonymous memory, not the mapped file.
    let limited = |f: &Folder, kilobytes: usize, words: &[&str]| {
        let script = format!("ulimit -c 0; ulimit -d {kilobytes}; exec \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh", super::SLOTFILE]).args(words);
        shell.current_dir(f.path("")).output().unwrap()
    };
    for words in LISTS {
        let enough = (1..200).map(|step| 256 * step);
        let enough = enough.clone().find(|k| limited(&few, *k, words).status.success()).unwrap();
        let output = limited(&many, enough + 256, words);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}, {enough} KiB: {err}");
        assert_eq!(output.stdout, many.run_bytes(words, b"").1, "{words:?}");
    }
}

#[test]
fn slots_are_printed_while_they_are_read() {
    let (f, store) = with_slots(MANY);
    for (words, last) in LISTS[..4].iter().zip([49_999, 49_998, 49_997, 49_996]) {
        let last = format!("group/{}/slot{last}", last % 100);
        let mut child = f.command(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut listed = String::new();
        out.read_line(&mut listed).unwrap();
        // The pipe holds a small part of the list. So it has not come to the last slots yet.
        store.remove(&last).unwrap();
        out.read_to_string(&mut listed).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(listed.contains("slot49980") && !listed.contains(&last), "{words:?}");
    }
}

#[test]
fn row_41_a_closed_pipe_ends_a_long_list_quietly() {
    let (f, _) = with_slots(MANY);
    for words in &LISTS[..4] {
        let mut child =
            f.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""), "{words:?}");
    }
}

/// The first 1,000 slots decide how wide the columns are. Later ones can only make them wider, from
/// the next 1,000 on.
#[test]
fn columns_become_wider_and_never_narrower() {
    let (f, store) = with_slots(1_500);
    let long = "x".repeat(30);
    store.value::<u64>(&long).unwrap();
    for i in 0..1_000 {
        store.value::<u64>(&format!("{i}")).unwrap();
    }
    let list = f.ok(&["ls", "F"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2_502);
    assert_eq!(lines.iter().filter(|line| line.starts_with("NAME")).count(), 1);
    let place = |line: &str| line.find("TYPE").or(line.find("u64")).unwrap();
    assert!(lines[..=1_000].iter().all(|line| place(line) == "group/99/slot00000  ".len()));
    assert!(lines[1_001..].iter().all(|line| place(line) == long.len() + 2));
    assert_eq!(lines[1], "group/0/slot00000   u64         0  0");
    let words: Vec<&str> = lines[1_501].split_whitespace().collect();
    assert_eq!(words, [long.as_str(), "u64", "0", "0"]);
    // Titles are left out of the widths, too.
    assert_eq!(f.ok(&["ls", "--no-header", "F", "7"]), "7  u64  0  0\n");
}
