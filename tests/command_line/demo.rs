//! The demo is correct and quick, and continues where it stopped.

use std::time::{Duration, Instant};

use super::Folder;

#[test]
fn the_demo_runs_twice() {
    let f = Folder::new();
    let begun = Instant::now();
    let first = f.ok(&["demo"]);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(first.contains("The file is new"), "{first}");
    assert!(!first.contains("WRONG"), "{first}");
    assert!(first.contains("0 + 10 x 100 = 1000"), "{first}");
    assert!(first.contains("ls demo.slots"), "{first}");
    assert_eq!(f.ok(&["get", "demo.slots", "demo/counter"]), "1000\n");

    let second = f.ok(&["demo"]);
    assert!(second.contains("Found 1 earlier run"), "{second}");
    assert!(second.contains("1000 + 10 x 100 = 2000"), "{second}");
    assert_eq!(
        f.ok(&["get", "demo.slots", "demo/elements"]),
        "2000 ".repeat(10).trim().to_owned() + "\n"
    );
    let info = f.json(&["info", "--json", "demo.slots"]);
    assert_eq!(info["open_by"].as_array().unwrap().len(), 0, "no worker is left: {info}");
}

#[test]
fn the_demo_takes_another_file() {
    let f = Folder::new();
    assert!(f.ok(&["demo", "it's here"]).contains(r#"ls "it's here""#));
    f.fails(2, &["demo", "a", "b"], &["one FILE"]);
    f.fails(8, &["demo", "no/such/file"], &["folder"]);
}

/// The demo's checks work: a total that is not exact makes it fail.
#[test]
fn a_wrong_total_is_found() {
    let f = Folder::new();
    let mut demo = f.command(&["demo"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Another process adds to the same counter meanwhile.
    while demo.try_wait().unwrap().is_none() {
        f.run(&["add", "-q", "demo.slots", "demo/counter"]);
    }
    let output = demo.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("WRONG  counter"), "{said}");
    assert!(!said.contains("All totals are exact"), "{said}");
}
