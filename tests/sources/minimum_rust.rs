//! The minimum Rust version that Cargo.toml declares suffices for every dependency, also those of
//! the tests. (Clippy checks our own code: `incompatible_msrv`.)

use std::path::Path;
use std::process::Command;

/// The packages that declare a minimum, and the minimum: first this package, then all that it
/// needs.
fn minimums(manifest: &Path) -> Vec<(String, [u64; 3])> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--all-features"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path"])
        .arg(manifest)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let mut found = Vec::new();
    for package in packages {
        let name = format!("{} {}", package["name"].as_str().unwrap(), package["version"]);
        let Some(version) = package["rust_version"].as_str() else { continue };
        let own = package["manifest_path"].as_str() == manifest.to_str();
        found.insert(if own { 0 } else { found.len() }, (name, numbers(version)));
    }
    found
}

/// `1.89` and `1.89.0` are the same.
fn numbers(version: &str) -> [u64; 3] {
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(version.split('.')) {
        *number = part.parse().unwrap();
    }
    numbers
}

#[test]
fn no_dependency_needs_a_newer_rust_than_is_declared() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for package in ["Cargo.toml", "python/Cargo.toml"] {
        let manifest = root.join(package);
        // The tests may run on a part of the sources.
        if !manifest.exists() {
            continue;
        }
        let minimums = minimums(&manifest);
        let ([own, dependencies @ ..], true) = (&minimums[..], minimums.len() > 1) else {
            panic!("{package} has no dependencies: {minimums:?}");
        };
        assert!(own.0.starts_with("slotfile"), "{own:?} is first");
        let newer: Vec<_> = dependencies.iter().filter(|other| other.1 > own.1).collect();
        assert!(newer.is_empty(), "{package} declares {own:?}; newer are {newer:?}");
    }
}
