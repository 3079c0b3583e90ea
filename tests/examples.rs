//! The examples run, end by themselves, and print what they say they do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// All that are there, with the last line that each names in its head.
fn examples() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let sources = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let last = text.lines().find_map(|line| line.strip_prefix("//! Its last line: `"));
        let last = last.and_then(|line| line.strip_suffix('`'));
        let last = last.unwrap_or_else(|| panic!("{name}: no `//! Its last line: ` in its head"));
        (name, last.to_owned())
    };
    sources.map(named).collect()
}

/// Builds them as this test was built, and returns the folder they are in.
fn build() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--examples", "--profile", "test"]);
    if !cfg!(feature = "cli") {
        cargo.arg("--no-default-features");
    }
    if cfg!(feature = "tokio") {
        cargo.args(["--features", "tokio"]);
    }
    assert!(cargo.status().unwrap().success(), "the examples cannot be built");
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples")
}

#[test]
fn every_example_ends_with_the_line_that_it_names() {
    let (examples, folder) = (examples(), build());
    assert!(examples.len() >= 3, "{examples:?}");
    for (name, last) in examples {
        let start = Instant::now();
        let scratch = tempfile::tempdir().unwrap();
        let output =
            Command::new(folder.join(&name)).env("TMPDIR", scratch.path()).output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{name}, {:.1?}:\n{out}", start.elapsed());
        assert!(output.status.success(), "{name}: {}\n{out}{err}", output.status);
        assert_eq!(out.lines().last(), Some(last.as_str()), "{name}");
        assert_eq!(err, "", "{name}");
        assert!(start.elapsed() < Duration::from_secs(60), "{name} takes too long");
        let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
        assert!(left.is_empty(), "{name} leaves {left:?}");
    }
}
