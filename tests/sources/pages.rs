//! The pages match the sources: they list each dependency and each folder, and no link leads
//! nowhere.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The crates that a manifest names, except those of this project.
fn dependencies(manifest: &str) -> Vec<String> {
    let (mut found, mut inside) = (Vec::new(), false);
    for line in read(manifest).lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| inside) {
            found.push(name.to_owned());
        }
    }
    found.retain(|name| name != "slotfile");
    assert!(!found.is_empty(), "{manifest}");
    found
}

#[test]
fn each_dependency_has_its_reason() {
    let page = read("CONTRIBUTING.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let explained: Vec<&str> = rows.flat_map(|crates| crates.split(", ")).collect();
    let benches =
        ["alone", "copies", "instructions", "peers"].map(|name| format!("benches/{name}"));
    for package in [".", "python", "fuzz"].map(str::to_owned).into_iter().chain(benches) {
        for name in dependencies(&format!("{package}/Cargo.toml")) {
            assert!(explained.contains(&name.as_str()), "CONTRIBUTING.md: why {name}?");
        }
    }
}

#[test]
fn each_folder_has_its_line() {
    let (design, picture) = (read("docs/design.md"), read("docs/ARCHITECTURE.md"));
    for entry in fs::read_dir(root().join("src")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            assert!(design.contains(&format!("\n| `{name}/`")), "docs/design.md, 2a: {name}");
            assert!(picture.contains(&format!("\n   {name} ")), "docs/ARCHITECTURE.md: {name}");
        }
    }
}

/// What CI runs, without what a machine without the tools needs first, and where things are built.
#[test]
fn what_ci_runs_is_what_contributing_says() {
    let of_ci = read(".ci/run");
    let begins = of_ci.find("cargo fmt").unwrap();
    let commands = |script: &str| -> Vec<String> {
        let lines = script.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let without_target = |line: &str| match line.split_once(" cargo ") {
            Some((before, rest)) if before.starts_with("CARGO_TARGET_DIR=") => {
                format!("cargo {rest}")
            }
            _ => line.to_owned(),
        };
        lines.map(without_target).collect()
    };
    let page = read("CONTRIBUTING.md");
    let block = page.split("Its parts are\n\n```sh\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    assert_eq!(commands(block), commands(&of_ci[begins..]));
}

#[test]
fn no_link_leads_nowhere() {
    let mut pages: Vec<PathBuf> = ["", "docs", "tests", "python"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    pages.sort();
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        for link in read(&page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            let is_there = file.contains("://") || page.parent().unwrap().join(file).exists();
            assert!(is_there, "{}: {link}", page.display());
        }
    }
}
