//! What README.md and docs/guide.md show of the shell: each command runs, ends by itself, and
//! prints what the page says. (Their Rust runs as documentation tests, their Python in
//! `python/tests`.)

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Folder, SLOTFILE};

/// Commands of README.md that others run: `demo.rs` and CI the first two, `python/tests/run` the
/// last one, and the long form of this file the third.
const ELSEWHERE: [&str; 4] = [
    "cargo run --release -- demo",
    "bash tests/run",
    "cargo install --locked --path .",
    "pip install ./python",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of a page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let begin = format!("```{language}\n");
    let found = text.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    found.collect()
}

impl Folder {
    /// What a shell prints for these commands.
    fn shell(&self, commands: &str) -> String {
        let bin = Path::new(SLOTFILE).parent().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let begun = Instant::now();
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", commands])
            .current_dir(self.path(""))
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{commands}\n{told}");
        assert_eq!(told, "", "{commands}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{commands}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn the_readme_runs_in_a_shell() {
    let (folder, mut ran) = (Folder::new(), 0);
    for block in blocks("README.md", "sh") {
        let commands = block.lines().map(|line| line.split('#').next().unwrap().trim());
        for command in commands.filter(|command| !ELSEWHERE.contains(command)) {
            folder.shell(command);
            ran += 1;
        }
    }
    assert!(ran >= 4, "{ran}");
    assert_eq!(folder.ok(&["get", "state.slots", "hits"]), "5\n");
}

/// A new user may paste them again: they do not fail then.
#[test]
fn the_readme_runs_twice() {
    let folder = Folder::new();
    let blocks = blocks("README.md", "sh");
    let block = blocks.iter().find(|block| block.starts_with("slotfile ")).unwrap();
    assert!(folder.shell(block).contains("hits  u64           1  5\n"));
    assert!(folder.shell(block).contains("hits  u64           2  10\n"));
}

/// The README's program is an example, which `examples.rs` runs.
#[test]
fn the_readme_shows_the_first_example() {
    let example = std::fs::read_to_string(root().join("examples/first_steps.rs")).unwrap();
    let (_, program) = example.split_once("\n\n").unwrap();
    assert_eq!(blocks("README.md", "rust,no_run"), [program]);
}

#[test]
fn the_guide_prints_what_it_says() {
    let blocks = blocks("docs/guide.md", "console");
    assert!(!blocks.is_empty());
    for block in blocks {
        let folder = Folder::new();
        for step in format!("\n{block}").split("\n$ ").skip(1) {
            let (command, said) = step.split_once('\n').unwrap_or((step, ""));
            assert_eq!(folder.shell(command).trim_end(), said.trim_end(), "{command}");
        }
    }
}

/// What the pages say of a Rust program of one's own.
#[test]
fn the_library_is_added_to_a_program() {
    let folder = Folder::new();
    let program = folder.path("program");
    std::fs::create_dir_all(program.join("src")).unwrap();
    std::fs::write(program.join("src/main.rs"), "fn main() {}").unwrap();
    let manifest = "[package]\nname = \"program\"\nedition = \"2024\"\n[workspace]\n";
    std::fs::write(program.join("Cargo.toml"), manifest).unwrap();
    let said = "cargo add --path ../slotfile --no-default-features";
    for page in ["README.md", "docs/guide.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        assert!(text.contains(&format!("`{said}`")), "{page}");
    }
    let mut words = said.split(' ').skip(1).map(String::from).collect::<Vec<_>>();
    words.iter_mut().filter(|word| *word == "../slotfile").for_each(|word| {
        *word = root().display().to_string();
    });
    let mut add = Command::new(env!("CARGO"));
    add.args(words).args(["--offline", "--quiet"]).current_dir(&program);
    // Afterwards cargo resolves the versions of all crates, which may need the network: that is not
    // our matter.
    let told = add.output().unwrap();
    let manifest = std::fs::read_to_string(program.join("Cargo.toml")).unwrap();
    let line = manifest.lines().find(|line| line.starts_with("slotfile = ")).unwrap_or_default();
    assert!(line.contains("default-features = false"), "{manifest}\n{told:?}");
}

#[test]
#[ignore = "in the long form: it builds all that the command line needs anew"]
fn the_command_line_can_be_installed() {
    let folder = Folder::new();
    let mut install = Command::new(env!("CARGO"));
    install.args(["install", "--quiet", "--debug", "--locked", "--path", "."]).current_dir(root());
    install.arg("--root").arg(folder.path("installed"));
    assert!(install.status().unwrap().success());
    let installed = Command::new(folder.path("installed/bin/slotfile")).arg("--version").output();
    assert!(installed.unwrap().status.success());
}
