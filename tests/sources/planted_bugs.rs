//! Each bug of `tests/mutants.sh` can still be planted: the code that it changes is there.

use std::path::Path;
use std::process::Command;

/// The rows of the table: name, file, what is there, what is put there.
fn rows(script: &str) -> Vec<[&str; 4]> {
    let table = script.split("mutants() {").nth(1).unwrap().split("\nEND\n").next().unwrap();
    let rows = table.lines().filter(|line| line.contains('|') && !line.starts_with('#'));
    let rows = rows.map(|line| line.split('|').take(4).collect::<Vec<_>>().try_into().unwrap());
    rows.collect()
}

#[test]
fn each_bug_can_be_planted() {
    if Command::new("perl").arg("-v").output().is_err() {
        println!("skipped: each_bug_can_be_planted, as there is no perl");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(root.join("tests/mutants.sh")).unwrap();
    let rows = rows(&script);
    assert!(rows.len() > 100, "{} rows", rows.len());
    let mut cannot = Vec::new();
    for [name, file, from, to] in rows {
        let source = std::fs::read(root.join("src").join(file)).unwrap_or_default();
        let planted = Command::new("perl")
            .args(["-0777", "-pe", &format!("s~{from}~{to}~gs")])
            .arg(root.join("src").join(file))
            .output()
            .unwrap();
        if !planted.status.success() || planted.stdout == source {
            cannot.push(format!("{name} in src/{file}"));
        }
    }
    assert!(cannot.is_empty(), "the source has changed: {cannot:#?}");
}
