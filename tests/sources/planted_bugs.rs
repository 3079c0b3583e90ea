//! Each planted bug stands in the code, and `tests/mutants.sh` can run its tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::architecture::{relative, sources};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
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
    assert!(all.len() > 150, "{} bugs", all.len());
}

/// The tests that a bug names are there: `tests/mutants.sh` would otherwise run none.
#[test]
fn each_bug_names_tests() {
    for (name, tests) in [declared("src/mutant.rs"), declared("src/protocol/mutant.rs")].concat() {
        let Some(tests) = tests else { continue };
        let (binary, filter) = tests.split_once(' ').expect(&name);
        let folder = if binary == "lib" { "src".to_owned() } else { format!("tests/{binary}") };
        let (modules, test) = filter.rsplit_once("::").unwrap_or(("", filter));
        let is_there = sources(&folder).iter().any(|path| {
            let text = fs::read_to_string(path).unwrap();
            let mut functions = text.lines().filter_map(|line| line.trim().strip_prefix("fn "));
            relative(path).contains(modules) && functions.any(|function| function.contains(test))
        });
        assert!(is_there, "{name}: {binary} has no test {filter}");
    }
}
