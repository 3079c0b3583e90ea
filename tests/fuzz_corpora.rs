//! Every input that the fuzz targets of `fuzz/` have kept, through the same functions.

mod common;

use std::path::Path;

/// Runs each file of a corpus; a failure says which one it was.
fn each(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "{} has only {} inputs", folder.display(), paths.len());
    for path in paths {
        let input = std::fs::read(&path).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&input)));
        if let Err(panic) = result {
            eprintln!("with {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn any_bytes_as_a_store_end_in_an_error_or_in_a_store_that_works() {
    each("any_bytes", common::mangled::run);
}

#[test]
fn any_operations_are_as_a_map_says() {
    each("operations", common::model::run);
}
