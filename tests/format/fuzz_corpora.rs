//! Runs every input that the fuzz targets of `fuzz/` have kept through the same functions.

use crate::common;
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
    if !common::apart("any_bytes_as_a_store_end_in_an_error_or_in_a_store_that_works") {
        return;
    }
    each("any_bytes", common::mangled::run);
}

#[test]
fn any_operations_are_as_a_map_says() {
    each("operations", common::model::run);
}

/// The same without a fuzzer: inputs from a random generator.
#[test]
fn random_edits_of_a_store_end_in_an_error_or_in_a_store_that_works() {
    if !common::apart("random_edits_of_a_store_end_in_an_error_or_in_a_store_that_works") {
        return;
    }
    for seed in 0..common::rounds(400, 50_000) as u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut input = vec![random.u8(0..16)];
        for _ in 0..random.usize(1..6) {
            let len = random.usize(4..30);
            input.extend(std::iter::repeat_with(|| random.u8(..)).take(len));
        }
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| common::mangled::run(&input)));
        if let Err(panic) = result {
            eprintln!("with seed {seed}: {input:?}");
            std::panic::resume_unwind(panic);
        }
    }
}
