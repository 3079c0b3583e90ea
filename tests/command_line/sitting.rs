//! One session that uses every verb.

use serde_json::json;

use super::Folder;

#[test]
fn a_sitting() {
    let f = Folder::new();
    assert_eq!(f.ok(&["create", "--max-slots", "100", "--max-size", "64M", "F"]), "");
    assert_eq!(f.ok(&["create", "--if-missing", "F"]), "");

    f.ok(&["define", "F", "hits", "u64"]);
    f.ok(&["define", "F", "pose", "f64[6]", "0", "0.5", "1", "-1", "nan", "inf"]);
    f.ok(&["define", "F", "grid", "u8[2,3]"]);
    f.ok(&["define", "F", "robot/name", "text[64]", "Karel"]);
    f.ok(&["define", "F", "blob", "bytes[16]", "00ff"]);
    f.ok(&["define", "F", "on", "bool", "true"]);
    // Already exists: succeeds, and does not touch the value.
    assert_eq!(f.run(&["define", "F", "robot/name", "text[64]", "Other"]).code, 0);
    assert_eq!(f.ok(&["get", "F", "robot/name"]), "Karel\n");

    assert_eq!(f.ok(&["get", "F", "hits"]), "0\n");
    assert_eq!(f.ok(&["add", "F", "hits"]), "1\n");
    assert_eq!(f.ok(&["add", "F", "hits", "9"]), "10\n");
    assert_eq!(f.ok(&["add", "F", "hits", "-5"]), "5\n");
    assert_eq!(f.ok(&["cas", "F", "hits", "5", "7"]), "");
    let lost = f.run(&["cas", "F", "hits", "5", "8"]);
    assert_eq!((lost.code, lost.out.as_str(), lost.err.as_str()), (1, "7\n", ""));
    f.ok(&["cas", "F", "robot/name", "Karel", "R2"]);
    assert_eq!(f.ok(&["get", "F", "robot/name"]), "R2\n");

    assert_eq!(f.ok(&["get", "F", "pose"]), "0.0 0.5 1.0 -1.0 nan inf\n");
    assert_eq!(f.ok(&["get", "--index", "1", "F", "pose"]), "0.5\n");
    assert_eq!(f.ok(&["get", "--index", "2..4", "F", "pose"]), "1.0 -1.0\n");
    f.ok(&["set", "F", "grid", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(f.ok(&["get", "F", "grid"]), "1 2 3\n4 5 6\n");
    assert_eq!(f.ok(&["get", "--index", "1,2", "F", "grid"]), "6\n");
    assert_eq!(f.ok(&["get", "--index", "1", "F", "grid"]), "4 5 6\n");
    f.ok(&["set", "--index", "1,0..2", "F", "grid", "40", "50"]);
    f.ok(&["set", "--index", "0,0", "F", "grid", "0x0a"]);
    assert_eq!(f.ok(&["add", "--index", "1,2", "F", "grid", "54"]), "60\n");
    assert_eq!(f.ok(&["get", "F", "grid"]), "10 2 3\n40 50 60\n");
    assert_eq!(f.ok(&["get", "F", "blob"]), "00ff\n");
    assert_eq!(f.ok(&["get", "F", "on"]), "true\n");

    assert_eq!(f.ok(&["lock", "F", "job", "--", "echo", "held"]), "held\n");
    assert_eq!(f.ok(&["get", "F", "job"]), "false\n");

    f.ok(&["rm", "F", "job", "on"]);
    let list = f.ok(&["ls", "F"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "TYPE", "VERSION", "VALUE"]);
    assert_eq!(lines[1], ["hits", "u64", "4", "7"]);
    assert_eq!(lines.len(), 6);
    assert!(list.contains("\"R2\""));
    let info = f.ok(&["info", "F"]);
    assert!(info.contains("5 of 100"), "{info}");
}

#[test]
fn define_can_make_the_store_and_insist() {
    let f = Folder::new();
    f.fails(8, &["define", "F", "a", "u8"], &["F", "no such file"]);
    f.ok(&["define", "--create", "F", "a", "u8", "200"]);
    assert_eq!(f.run(&["define", "--create", "F", "a", "u8", "100"]).code, 0);
    assert_eq!(f.ok(&["get", "F", "a"]), "200\n");
    f.fails(1, &["define", "--new", "F", "a", "u8"], &["F", "\"a\""]);
    f.ok(&["define", "--new", "--areas", "4", "F", "b", "u8[9]"]);
    let long = f.ok(&["ls", "--long", "F"]);
    let b: Vec<&str> = long.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(b[..4], ["b", "u8[9]", "9", "4"]);
}

#[test]
fn json_has_the_documented_fields() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "max", "u64", "18446744073709551615"]);
    f.ok(&["define", "F", "tenth", "f32", "0.1"]);
    f.ok(&["define", "F", "odd", "f64[2,2]", "nan", "inf", "-inf", "-0.0"]);
    f.ok(&["define", "F", "text", "text[20]", "a\"\u{1b}b"]);
    f.ok(&["define", "F", "bytes", "bytes[20]", "00ff"]);

    let max = f.json(&["get", "--json", "F", "max"]);
    assert_eq!(max["name"], "max");
    assert_eq!(max["type"], "u64");
    assert!(max["version"].is_u64());
    assert_eq!(max["value"], json!(u64::MAX));
    assert!(f.ok(&["get", "--json", "F", "tenth"]).contains("\"value\":0.1}"));
    let odd = f.json(&["get", "--json", "F", "odd"]);
    assert_eq!(odd["value"], json!([["NaN", "Infinity"], ["-Infinity", -0.0]]));
    assert_eq!(
        f.json(&["get", "--json", "--index", "0", "F", "odd"])["value"],
        json!(["NaN", "Infinity"])
    );
    assert_eq!(
        f.json(&["get", "--json", "--index", "1,0", "F", "odd"])["value"],
        json!("-Infinity")
    );
    assert_eq!(f.json(&["get", "--json", "F", "text"])["value"], "a\"\u{1b}b");
    assert_eq!(f.json(&["get", "--json", "F", "bytes"])["value"], "AP8=");

    let list = f.json(&["ls", "--json", "F"]);
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["max", "tenth", "odd", "text", "bytes"]);
    assert!(list[2]["bytes"].is_u64());
    assert_eq!(list[2]["value"], odd["value"]);
    assert_eq!(f.json(&["ls", "--json", "F", "none*"]), json!([]));

    let info = f.json(&["info", "--json", "F"]);
    for number in ["size", "allocated", "max_size", "slots", "max_slots", "free"] {
        assert!(info[number].is_u64(), "{number} in {info}");
    }
    assert!(info["format"].is_string() && info["open_by"].is_array(), "{info}");
    assert_eq!(info["slots"], 5);
}

#[test]
fn what_get_prints_set_reads() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "f32[2,3]", "0.1", "-0.0", "nan", "inf", "-inf", "3.4028235e38"]);
    f.ok(&["define", "F", "t", "text[64]", "two lines\n and spaces "]);
    f.ok(&["define", "F", "b", "bytes[8]", "0102fe"]);
    f.ok(&["define", "F", "n", "i64", "-9223372036854775808"]);
    for (name, zero) in [("a", "0 0 0 0 0 0"), ("t", ""), ("b", ""), ("n", "0")] {
        for form in ["plain", "--json", "--raw"] {
            let option: &[&str] = if form == "plain" { &[] } else { &[form] };
            let get = [&["get"], option, &["F", name]].concat();
            let (code, printed, _) = f.run_bytes(&get, b"");
            assert_eq!(code, 0);
            let input = match form {
                "--json" => {
                    let object: serde_json::Value = serde_json::from_slice(&printed).unwrap();
                    object["value"].to_string().into_bytes()
                }
                _ => printed.clone(),
            };
            assert_eq!(f.run_with(&["set", "F", name, "-"], zero.as_bytes()).code, 0);
            let from_input: &[&str] =
                if form == "--raw" { &["F", name] } else { &["F", name, "-"] };
            let ended = f.run_with(&[&["set"], option, from_input].concat(), &input);
            assert_eq!(ended.code, 0, "{name} {form}: {ended:?}");
            let again = f.run_bytes(&get, b"").1;
            // The version has grown; all else is the same.
            let value = |bytes: &[u8]| match form {
                "--json" => serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["value"]
                    .to_string()
                    .into_bytes(),
                _ => bytes.to_vec(),
            };
            assert_eq!(value(&again), value(&printed), "{name} {form}");
        }
    }
}

#[test]
fn raw_is_little_endian_and_nothing_else() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u16[2]", "1", "258"]);
    assert_eq!(f.run_bytes(&["get", "--raw", "F", "a"], b"").1, [1, 0, 2, 1]);
    assert_eq!(f.run_bytes(&["get", "--raw", "--index", "1", "F", "a"], b"").1, [2, 1]);
    assert_eq!(f.run_with(&["set", "--raw", "--index", "0", "F", "a"], &[0, 255]).code, 0);
    assert_eq!(f.ok(&["get", "F", "a"]), "65280 258\n");
}

#[test]
fn globs_choose() {
    let f = Folder::with_store();
    for name in ["a", "ab", "robot/a", "robot/arm/x", "[x]", "*"] {
        f.ok(&["define", "F", name, "u8"]);
    }
    let names = |glob: &str| {
        let list = f.json(&["ls", "--json", "F", glob]);
        list.as_array()
            .unwrap()
            .iter()
            .map(|s| s["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names("robot/*"), "robot/a robot/arm/x");
    assert_eq!(names("*a"), "a robot/a");
    assert_eq!(names("a?"), "ab");
    assert_eq!(names("\\*"), "*");
    assert_eq!(names("\\[x\\]"), "[x]");
    assert_eq!(names("[!ar]*"), "[x] *");
    f.fails(2, &["ls", "F", "["], &["F", "\\["]);
}

#[test]
fn a_list_stays_short_and_fools_no_terminal() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "big", "f64[100000]"]);
    f.ok(&["define", "F", "text", "text[1000]", &format!("\u{1b}[31mred\n{}", "x".repeat(500))]);
    f.ok(&["define", "F", "bytes", "bytes[1000]", &"ab".repeat(500)]);
    let list = f.ok(&["ls", "F"]);
    assert_eq!(list.lines().count(), 4, "{list}");
    assert!(list.contains("... (100000 elements)") && list.contains("... (500 bytes)"), "{list}");
    assert!(!list.contains('\u{1b}'), "{list:?}");
    assert!(list.lines().all(|line| line.chars().count() < 110), "{list}");
}
