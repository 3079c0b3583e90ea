//! The examples run, end by themselves, and print what they say they do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// An example, run as its head says.
struct Example {
    name: String,
    arguments: Vec<String>,
    last_line: String,
    leaves: Vec<String>,
}

impl Example {
    fn read(path: &Path) -> Example {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(path).unwrap();
        let told = |what: &str| {
            let begin = format!("//! {what}: `");
            let told = text.lines().find_map(|line| line.strip_prefix(&begin)?.strip_suffix('`'));
            told.unwrap_or_else(|| panic!("{name}: no line {begin}...` in its head")).to_owned()
        };
        let (run, last_line) = (told("Run it"), told("Its last line"));
        let command = format!("cargo run --example {name}");
        let rest = run.strip_prefix(&command).unwrap_or_else(|| panic!("{name}: {run}"));
        let arguments = rest.trim_start_matches(" --").split_whitespace().map(str::to_owned);
        let arguments: Vec<String> = arguments.collect();
        // The requests to it, and its answers.
        let said = text.lines().filter_map(|line| {
            Some(line.strip_prefix("//! It leaves: `")?.strip_suffix('`')?.to_owned())
        });
        let leaves = arguments.iter().cloned().chain(said).collect();
        Example { arguments, last_line, leaves, name }
    }
}

/// All examples.
fn examples() -> Vec<Example> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let sources = std::fs::read_dir(folder).unwrap();
    sources.map(|entry| Example::read(&entry.unwrap().path())).collect()
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
    assert!(examples.len() >= 4);
    for Example { name, arguments, last_line, leaves } in examples {
        let start = Instant::now();
        let scratch = tempfile::tempdir().unwrap();
        let mut command = Command::new(folder.join(&name));
        command.args(&arguments).current_dir(scratch.path()).env("TMPDIR", scratch.path());
        let output = command.output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{name}, {:.1?}:\n{out}", start.elapsed());
        assert!(output.status.success(), "{name}: {}\n{out}{err}", output.status);
        assert_eq!(out.lines().last(), Some(last_line.as_str()), "{name}");
        assert_eq!(err, "", "{name}");
        assert!(!out.contains("Scalar("), "{name} shows a value as Rust's `Debug` does: {out}");
        assert!(start.elapsed() < Duration::from_secs(60), "{name} takes too long");
        let left: Vec<_> =
            std::fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        let is_known = |file: &OsString| leaves.iter().any(|known| file == known.as_str());
        assert!(left.iter().all(is_known), "{name} leaves {left:?}");
    }
}
