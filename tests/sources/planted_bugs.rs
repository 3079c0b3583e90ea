//! Each bug of `tests/perl_mutants.sh` can still be planted: the code that it changes is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::architecture::{relative, sources};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

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
    let script = std::fs::read_to_string(root.join("tests/perl_mutants.sh")).unwrap();
    let rows = rows(&script);
    assert!(!rows.is_empty(), "{} rows", rows.len());
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

/// The bugs that a file declares: name, and the tests that must notice, where there are such.
fn declared(file: &str) -> Vec<(String, Option<String>)> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let lines = text.split("\nmutants! {\n").nth(1).unwrap().split("\n}\n").next().unwrap().lines();
    let lines = lines.map(str::trim).filter(|line| line.starts_with(char::is_uppercase));
    lines
        .map(|line| match line.strip_suffix(',').unwrap().split_once(" => ") {
            Some((name, tests)) => (name.to_owned(), Some(tests.trim_matches('"').to_owned())),
            None => (line.trim_end_matches(',').to_owned(), None),
        })
        .collect()
}

/// The code names each bug that is declared. (That it names no others, the compiler sees.)
#[test]
fn each_bug_stands_in_the_code() {
    let mut all = BTreeSet::new();
    for file in ["src/mutant.rs", "src/protocol/mutant.rs"] {
        let in_protocol = |path: &str| path.starts_with("src/protocol/");
        let mut code = String::new();
        for path in sources("src") {
            if in_protocol(&relative(&path)) == in_protocol(file) {
                code += &fs::read_to_string(path).unwrap();
            }
        }
        for (name, _) in declared(file) {
            assert!(code.contains(&format!("planted!({name})")), "{file}: {name} is nowhere");
            assert!(all.insert(name.clone()), "there are two bugs named {name}");
        }
    }
    assert!(all.len() > 60, "{} bugs", all.len());
}

/// `tests/mutants.sh` runs each bug that names tests, and its test binary exists.
#[test]
fn each_bug_names_tests() {
    for (name, tests) in [declared("src/mutant.rs"), declared("src/protocol/mutant.rs")].concat() {
        let Some(tests) = tests else { continue };
        let (binary, _) = tests.split_once(' ').expect(&name);
        let main = root().join("tests").join(binary).join("main.rs");
        assert!(binary == "lib" || main.exists(), "{name}: there is no test binary {binary}");
    }
}
