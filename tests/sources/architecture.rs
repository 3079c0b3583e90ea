//! What the layout of the sources promises: imports run one way, unsafe code is only in a few
//! files, and no file grows too long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders of `src`, and the files beside them. Each imports only from those before it.
const ORDER: [&str; 15] = [
    "mutant",
    "types",
    "error",
    "os",
    "protocol",
    "mapping",
    "format",
    "attachment",
    "directory",
    "durability",
    "store",
    "slots",
    "transactions",
    "waiting",
    "lib",
];

/// The only files that may allow unsafe code.
const UNSAFE: [&str; 21] = [
    "bin/slotfile/streams.rs",
    "src/mapping/address_space.rs",
    "src/mapping/cell.rs",
    "src/mapping/copy.rs",
    "src/mapping/map.rs",
    "src/mapping/new_memory.rs",
    "src/mapping/vectors.rs",
    "src/os/bus_error.rs",
    "src/os/descriptor.rs",
    "src/os/fork.rs",
    "src/os/futex.rs",
    "src/os/sys/blocks.rs",
    "src/os/sys/file_system.rs",
    "src/os/sys/locks.rs",
    "src/os/sys/names.rs",
    "src/os/sys/process.rs",
    "src/os/sys/stat.rs",
    "src/os/thread.rs",
    "src/types/bool_bytes.rs",
    "tests/common/os.rs",
    "tests/common/trace.rs",
];

const LONGEST: usize = 620;

pub(super) fn sources(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut found) = (vec![root.join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

pub(super) fn relative(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string()
}

/// The folder of `src` or of `bin/slotfile` that a file is in, or its own name if it is in none.
fn module_of(path: &Path) -> String {
    let name = relative(path);
    let inner = name.trim_start_matches("src/").trim_start_matches("bin/slotfile/");
    let first = inner.split('/').next().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// What is compiled: no comments, and nothing from the first test module on.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules named by `crate::module`, also in `crate::{a, b::c}`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in code.split("crate::").skip(1) {
        if let Some(group) = part.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut name)),
                    c if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            found.push(name);
        } else {
            found.push(part.to_owned());
        }
    }
    let first = |path: String| {
        let word = path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next();
        word.unwrap_or_default().to_owned()
    };
    found.into_iter().map(first).filter(|name| !name.is_empty()).collect()
}

/// For each folder, and each file beside them: what it imports from the others.
fn imported() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources("src") {
        let module = module_of(&path);
        let others = imports(&code(&path)).into_iter().filter(|import| *import != module);
        found.entry(module.clone()).or_default().extend(others);
    }
    found
}

#[test]
fn imports_run_one_way() {
    let place = |name: &str| ORDER.iter().position(|other| *other == name);
    let mut wrong = Vec::new();
    for (module, others) in imported() {
        let Some(own) = place(&module) else {
            wrong.push(format!("{module} has no place in the order"));
            continue;
        };
        let forbidden = others.iter().filter(|other| place(other).is_none_or(|of| of >= own));
        wrong.extend(forbidden.map(|other| format!("{module} imports {other}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// In the command line no modules import each other in a circle, and no verb another verb.
#[test]
fn the_command_line_has_no_circles() {
    let mut modules = BTreeMap::<String, BTreeSet<String>>::new();
    for path in sources("bin/slotfile") {
        let (module, code) = (module_of(&path), code(&path));
        let is_verb = module == "commands" && path.file_name() != Some("mod.rs".as_ref());
        let in_demo = relative(&path).contains("/demo/");
        assert!(!is_verb || !code.contains("crate::commands"), "{}", relative(&path));
        assert!(!is_verb || in_demo || !code.contains("super::"), "{}", relative(&path));
        let mut others = imports(&code);
        others.retain(|import| *import != module);
        modules.entry(module).or_default().extend(others);
    }
    assert!(modules.len() > 10 && modules["commands"].contains("context"), "{modules:?}");
    assert_eq!(in_circles(modules), BTreeSet::new());
}

/// The same for the Python module, and for the programs that compare slotfile with its peers.
#[test]
fn other_programs_have_no_circles() {
    for folder in ["python/src", "benches/peers/src"] {
        let mut modules = BTreeMap::<String, BTreeSet<String>>::new();
        for path in sources(folder) {
            let inner = relative(&path).replace(&format!("{folder}/"), "");
            let module = inner.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
            let mut others = imports(&code(&path));
            others.retain(|import| *import != module);
            modules.entry(module).or_default().extend(others);
        }
        assert!(modules.len() > 5, "{folder}: {modules:?}");
        assert_eq!(in_circles(modules), BTreeSet::new(), "{folder}");
    }
}

/// The modules that are in a circle of imports, or that import one that is.
fn in_circles(mut modules: BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    loop {
        let names: BTreeSet<String> = modules.keys().cloned().collect();
        modules.retain(|_, imports| !imports.is_disjoint(&names));
        if modules.len() == names.len() {
            return names;
        }
    }
}

#[test]
fn circles_are_recognized() {
    let modules = |all: &[(&str, &[&str])]| {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        all.iter().map(|(name, imports)| (name.to_string(), owned(imports))).collect()
    };
    assert!(in_circles(modules(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &["std"])])).is_empty());
    let circle = modules(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &[])]);
    assert_eq!(in_circles(circle), BTreeSet::from(["a", "b", "c"].map(String::from)));
}

/// The words in backquotes after "May use:", up to the end of the sentence.
fn may_use(head: &str) -> BTreeSet<String> {
    let text: String = head.lines().map(|line| line.trim_start_matches("//!")).collect();
    let list = text.split("May use:").nth(1).unwrap_or_default();
    let list = list.split('.').next().unwrap_or_default();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn each_folder_says_what_it_may_use() {
    for (folder, others) in imported() {
        let head = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&folder).join("mod.rs");
        let Ok(head) = fs::read_to_string(head) else { continue };
        assert_eq!(
            may_use(&head),
            others,
            "src/{folder}/mod.rs: what it may use, and what it uses"
        );
        assert!(head.contains("Begin with"), "src/{folder}/mod.rs: where to begin reading");
    }
}

#[test]
fn unsafe_code_is_only_in_the_listed_files() {
    let allow = ["allow(", "unsafe_code"].concat();
    let mut found: Vec<String> = [sources("src"), sources("tests"), sources("bin")]
        .concat()
        .iter()
        .filter(|path| code(path).contains(&allow))
        .map(|path| relative(path))
        .collect();
    found.sort();
    assert_eq!(found, UNSAFE);
}

/// Rows whose tests are not in Rust, and where those are.
const ELSEWHERE: [(&str, &str); 1] = [("42", "python/tests")];

#[test]
fn each_row_of_the_faults_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let faults = fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let rows: Vec<&str> = faults
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|number| number.parse::<u32>().is_ok())
        .collect();
    assert!(rows.len() >= 44, "{rows:?}");
    let mut found = Vec::new();
    for path in sources("tests") {
        let text = fs::read_to_string(&path).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let name = line.strip_prefix("fn row_").filter(|_| is_test);
            found.extend(name.and_then(|name| name.get(..2)).map(str::to_owned));
            is_test = line == "#[test]" || is_test && line.starts_with("#[");
        }
    }
    let missing: Vec<_> = rows
        .iter()
        .filter(|row| !found.contains(&format!("{row:0>2}")))
        .filter(|row| {
            let elsewhere = ELSEWHERE.iter().find(|(number, _)| number == *row);
            elsewhere.is_none_or(|(_, folder)| !root.join(folder).exists())
        })
        .collect();
    assert!(missing.is_empty(), "no test of rows {missing:?}");
    let unknown: Vec<_> =
        found.iter().filter(|row| !rows.contains(&row.trim_start_matches('0'))).collect();
    assert!(unknown.is_empty(), "tests of rows that do not exist: {unknown:?}");
}

#[test]
fn no_file_is_too_long() {
    for path in sources("src") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LONGEST, "{}: {lines} lines", relative(&path));
    }
}

#[test]
fn imports_are_recognized() {
    assert_eq!(imports("use crate::a::b; use crate::{c, d::{e, f}, g};"), ["a", "c", "d", "g"]);
    assert_eq!(imports("pub(crate) fn x() -> crate::a::B { crate::m!() }"), ["a", "m"]);
}
