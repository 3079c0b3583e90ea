//! Values are parsed strictly, so that nothing is stored by mistake.

use super::Folder;

/// Words that a slot of this type must refuse, without a change of its value.
#[track_caller]
fn refuses(f: &Folder, name: &str, words: &[&str], said: &[&str]) {
    let before = f.ok(&["get", "--json", "F", name]);
    let said = [&["F", name], said].concat();
    f.fails(2, &[&["set", "F", name], words].concat(), &said);
    assert_eq!(f.ok(&["get", "--json", "F", name]), before, "{name} {words:?}");
}

#[test]
fn row_41_numbers_are_parsed_strictly() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "byte", "u8", "7"]);
    f.ok(&["define", "F", "max", "u64", "0"]);
    f.ok(&["define", "F", "float", "f64", "1"]);
    f.ok(&["define", "F", "narrow", "f32", "1"]);
    f.ok(&["define", "F", "flag", "bool"]);
    refuses(&f, "byte", &["300"], &["300", "0 to 255"]);
    refuses(&f, "byte", &["-1"], &["0 to 255"]);
    refuses(&f, "byte", &["18446744073709551615"], &["0 to 255"]);
    for word in
        ["nan", "0x", "+1", "", " 1", "1 ", "1.0", "1e2", "0X10", "--5", "0b1", "1_000", "٣"]
    {
        refuses(&f, "byte", &[word], &[]);
    }
    refuses(&f, "max", &["18446744073709551616"], &["18446744073709551615"]);
    for word in ["1e999", "-1e999", "0x10", "+1.5", "", "infinity", "NAN", "1,5", "."] {
        refuses(&f, "float", &[word], &[]);
    }
    refuses(&f, "narrow", &["1e39"], &["3.4028235e38"]);
    for word in ["1", "TRUE", "yes", ""] {
        refuses(&f, "flag", &[word], &["true or false"]);
    }
    for (name, word, printed) in [
        ("max", "18446744073709551615", "18446744073709551615"),
        ("byte", "0xff", "255"),
        ("float", "-0.0", "-0.0"),
        ("float", "nan", "nan"),
        ("float", "-inf", "-inf"),
        ("float", "1e308", "1e308"),
        ("narrow", "0.1", "0.1"),
        ("flag", "true", "true"),
    ] {
        f.ok(&["set", "F", name, word]);
        assert_eq!(f.ok(&["get", "F", name]), format!("{printed}\n"));
    }
}

#[test]
fn options_after_the_file_are_data() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "t", "text[20]"]);
    f.ok(&["define", "F", "i", "i8[2]"]);
    f.ok(&["define", "F", "--odd", "i8", "-3"]);
    for word in ["-5", "--json", "--", "--help"] {
        f.ok(&["set", "F", "t", word]);
        assert_eq!(f.ok(&["get", "F", "t"]), format!("{word}\n"));
    }
    f.ok(&["set", "F", "i", "-5", "-6"]);
    assert_eq!(f.ok(&["get", "F", "i"]), "-5 -6\n");
    assert_eq!(f.ok(&["get", "F", "--odd"]), "-3\n");
    f.fails(2, &["get", "F", "t", "--json"], &["options come before FILE"]);
}

#[test]
fn counts_and_lengths() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8[3]", "1", "2", "3"]);
    f.ok(&["define", "F", "t", "text[4]", "abcd"]);
    f.ok(&["define", "F", "b", "bytes[2]", "0102"]);
    refuses(&f, "a", &["1", "2"], &["3", "2"]);
    refuses(&f, "a", &["1", "2", "3", "4"], &["3", "4"]);
    refuses(&f, "a", &[], &["VALUE is missing"]);
    refuses(&f, "t", &["abcde"], &["5", "4"]);
    refuses(&f, "t", &["a", "b"], &["2"]);
    refuses(&f, "b", &["010203"], &["3", "2"]);
    refuses(&f, "b", &["01x3"], &["hex"]);
    refuses(&f, "b", &["010"], &["hex"]);
    for index in ["3", "1..4", "2..2", "2..1", "0,0", "-1", "x", ""] {
        f.fails(2, &["get", "--index", index, "F", "a"], &["F", "\"a\""]);
        f.fails(2, &["set", "--index", index, "F", "a", "9"], &["F", "\"a\""]);
    }
    f.fails(2, &["set", "--index", "0..2", "F", "a", "9"], &["2", "1"]);
    f.fails(2, &["get", "--index", "0", "F", "t"], &["no elements"]);
    assert_eq!(f.ok(&["get", "F", "a"]), "1 2 3\n");

    // An umlaut is two bytes, and the capacity counts bytes.
    refuses(&f, "t", &["äöü"], &["6", "4"]);
}

#[test]
fn row_41_from_standard_input() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8[3]"]);
    f.ok(&["define", "F", "t", "text[8]"]);
    let set = |name: &str, input: &[u8]| f.run_with(&["set", "F", name, "-"], input).code;
    assert_eq!(set("a", b" 1\n2\t3\n\n"), 0);
    assert_eq!(f.ok(&["get", "F", "a"]), "1 2 3\n");
    assert_eq!(set("a", b"1 2"), 2);
    assert_eq!(set("a", b""), 2);
    assert_eq!(set("a", b"1 2 \xff"), 2);
    assert_eq!(set("t", b"12345678\n"), 0);
    assert_eq!(set("t", b"12345678\n\n"), 2);
    assert_eq!(set("t", b"1\n\n"), 0);
    assert_eq!(f.ok(&["get", "F", "t"]), "1\n\n");
    assert_eq!(set("t", b"\xff"), 2);
    let raw = |name: &str, input: &[u8]| f.run_with(&["set", "--raw", "F", name], input).code;
    assert_eq!(raw("a", &[1, 2]), 2);
    assert_eq!(raw("a", &[1, 2, 3, 4]), 2);
    assert_eq!(raw("a", &[1, 2, 3]), 0);
    f.fails(2, &["set", "--raw", "F", "a", "1"], &["standard input"]);
}

#[test]
fn row_41_an_input_without_end_is_refused() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "u8[3]"]);
    f.ok(&["define", "F", "t", "text[8]"]);
    f.ok(&["define", "F", "n", "u64"]);
    f.ok(&["define", "F", "b", "bytes[8]"]);
    // A memory limit, so that a failing test does not exhaust the machine.
    let limited = |input: &str, words: &str| {
        let script = format!("ulimit -v 20000000; {input} | {} {words}", super::SLOTFILE);
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-c", &script]).current_dir(f.path("")).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{input} {words} {output:?}");
    };
    for input in ["cat /dev/zero", "yes 1", "yes '' | tr '\\n' '[' ", "yes '\"a' | tr -d '\\n'"] {
        for words in [
            "set --raw F a",
            "set F t -",
            "set F a -",
            "set F n -",
            "set F b -",
            "set --json F n -",
            "set --json F a -",
            "set --json F t -",
        ] {
            limited(input, words);
        }
    }
    assert_eq!(f.ok(&["get", "F", "n"]), "0\n");
}

#[test]
fn json_in() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "a", "f64[2,2]"]);
    f.ok(&["define", "F", "t", "text[8]"]);
    f.ok(&["set", "--json", "F", "a", r#"[[1,"NaN"],[-0.5,"-Infinity"]]"#]);
    assert_eq!(f.ok(&["get", "F", "a"]), "1.0 nan\n-0.5 -inf\n");
    f.ok(&["set", "--json", "--index", "0", "F", "a", "[7,8]"]);
    f.ok(&["set", "--json", "--index", "1,1", "F", "a", "9"]);
    assert_eq!(f.ok(&["get", "F", "a"]), "7.0 8.0\n-0.5 9.0\n");
    f.ok(&["set", "--json", "F", "t", r#""-""#]);
    assert_eq!(f.ok(&["get", "F", "t"]), "-\n");
    // `set` takes what `get` prints, with all digits.
    f.ok(&["define", "F", "n", "u64", "9007199254740993"]);
    f.ok(&["define", "F", "m", "u64"]);
    let printed = f.ok(&["get", "--json", "F", "n"]);
    assert_eq!(f.run_with(&["set", "--json", "F", "m", "-"], printed.as_bytes()).code, 0);
    assert_eq!(f.ok(&["get", "F", "m"]), "9007199254740993\n");
    f.fails(2, &["set", "--json", "F", "t", &printed], &["of type \"u64\", not text[8]"]);
    for bad in ["[1,2,3,4]", "[[1,2],[3]]", "1", "[[1,2],[3,\"x\"]]", "[[1,2],[3,4]", ""] {
        f.fails(2, &["set", "--json", "F", "a", bad], &["F", "\"a\""]);
    }
}

#[test]
fn additions_overflow_into_nothing() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "u", "u64", "5"]);
    f.ok(&["define", "F", "i", "i8", "-128"]);
    f.ok(&["define", "F", "x", "f32", "3e38"]);
    f.ok(&["define", "F", "t", "text[8]"]);
    f.ok(&["define", "F", "a", "u8[2]", "1", "2"]);
    assert_eq!(f.ok(&["add", "F", "u", "-1"]), "4\n");
    f.fails(1, &["add", "F", "u", "-5"], &["F", "\"u\"", "0 to 18446744073709551615"]);
    f.fails(1, &["add", "F", "u", "18446744073709551615"], &["overflow"]);
    f.fails(1, &["add", "F", "i", "-1"], &["-128 to 127"]);
    assert_eq!(f.ok(&["add", "F", "i", "255"]), "127\n");
    f.fails(1, &["add", "F", "x", "3e38"], &["f32"]);
    assert_eq!(f.ok(&["add", "F", "x", "-3e38"]), "0.0\n");
    for word in ["", "+-1", "nan", "1.5", "0x", "--1"] {
        f.fails(2, &["add", "F", "u", word], &["F", "\"u\""]);
    }
    f.fails(5, &["add", "F", "t", "1"], &["text[8]"]);
    f.fails(2, &["add", "F", "a", "1"], &["--index"]);
    f.fails(2, &["add", "--index", "0..2", "F", "a", "1"], &["2 elements"]);
    f.fails(1, &["add", "--index", "0", "F", "a", "255"], &["0 to 255"]);
    assert_eq!(f.ok(&["get", "F", "u"]), "4\n");
    assert_eq!(f.ok(&["get", "F", "a"]), "1 2\n");
}

#[test]
fn compare_and_swap_compares_bits() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "x", "f64", "nan"]);
    f.ok(&["cas", "F", "x", "nan", "0.0"]);
    assert_eq!(f.run(&["cas", "F", "x", "-0.0", "1"]).code, 1);
    f.ok(&["cas", "F", "x", "0.0", "-0.0"]);
    let before = f.json(&["get", "--json", "F", "x"]);
    assert_eq!(f.run(&["cas", "F", "x", "5", "6"]).out, "-0.0\n");
    assert_eq!(f.json(&["get", "--json", "F", "x"]), before, "a lost compare leaves no version");
    f.fails(2, &["cas", "F", "x", "a", "6"], &["F", "\"x\""]);
    f.ok(&["define", "F", "a", "u8[2]"]);
    f.fails(5, &["cas", "F", "a", "1", "2"], &["u8[2]"]);
}

/// A buffer is used like an array.
#[test]
fn buffers() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "b", "buffer:i16[2,3]", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(f.ok(&["get", "F", "b"]), "1 2 3\n4 5 6\n");
    f.ok(&["set", "--index", "1,0..2", "F", "b", "-4", "-5"]);
    assert_eq!(f.ok(&["add", "--index", "1,2", "F", "b", "10"]), "16\n");
    f.fails(1, &["add", "--index", "1,2", "F", "b", "32767"], &["F", "overflow"]);
    assert_eq!(f.json(&["get", "--json", "F", "b"])["type"], "buffer:i16[2,3]");
    let row = f.json(&["get", "--json", "--index", "1", "F", "b"]);
    assert_eq!(row["value"], serde_json::json!([-4, -5, 16]));
    let raw = f.run_bytes(&["get", "--raw", "F", "b"], b"").1;
    assert_eq!(raw, [1, 0, 2, 0, 3, 0, 0xfc, 0xff, 0xfb, 0xff, 16, 0]);
    assert_eq!(f.run_with(&["set", "--raw", "F", "b"], &raw).code, 0);
    f.ok(&["set", "--json", "F", "b", "[[1,2,3],[4,5,6]]"]);
    f.ok(&["set", "F", "b", "6", "5", "4", "3", "2", "1"]);
    let list = f.json(&["ls", "--json", "F"]);
    assert_eq!(list[0]["value"], serde_json::json!([[6, 5, 4], [3, 2, 1]]));
    assert_eq!(list[0]["version"], 5);
    f.fails(2, &["set", "F", "b", "1"], &["F", "b", "6 values"]);
    f.fails(5, &["cas", "F", "b", "1", "2"], &["buffer:i16[2,3]"]);
    f.fails(5, &["define", "F", "b", "i16[2,3]"], &["is buffer:i16[2,3], not i16[2,3]"]);
    f.ok(&["rm", "F", "b"]);
}

/// A counter is used like an `i64`, whatever its stripes hold.
#[test]
fn counters() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "c", "counter", "5"]);
    assert_eq!(f.ok(&["get", "F", "c"]), "5\n");
    assert_eq!(f.ok(&["add", "F", "c"]), "6\n");
    assert_eq!(f.ok(&["add", "F", "c", "-8"]), "-2\n");
    let listed = f.ok(&["ls", "F"]);
    let words: Vec<&str> = listed.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(words, ["c", "counter", "0", "-2"], "an add has no version");
    f.ok(&["set", "F", "c", "9223372036854775807"]);
    let object = f.ok(&["get", "--json", "F", "c"]);
    assert!(object.contains(r#""type":"counter","version":1,"value":9223372036854775807}"#));
    assert_eq!(f.ok(&["add", "F", "c"]), "-9223372036854775808\n", "it wraps around");
    f.ok(&["set", "F", "c", "-1"]);
    assert_eq!(f.ok(&["get", "F", "c"]), "-1\n");
    let raw = f.run_bytes(&["get", "--raw", "F", "c"], b"").1;
    assert_eq!(raw, [0xff; 8]);
    f.ok(&["define", "F", "other", "counter"]);
    assert_eq!(f.run_with(&["set", "--raw", "F", "other"], &raw).code, 0);
    assert_eq!(f.ok(&["get", "F", "other"]), "-1\n");
    assert_eq!(f.run_with(&["set", "F", "other", "-"], b"12\n").code, 0);
    f.ok(&["set", "--json", "F", "c", &f.ok(&["get", "--json", "F", "other"])]);
    assert_eq!(f.ok(&["get", "F", "c"]), "12\n");
    f.ok(&["copy", "F", "G"]);
    assert_eq!(f.ok(&["get", "G", "c"]), "12\n");
    f.ok(&["rm", "F", "other"]);
    f.ok(&["compact", "F"]);
    f.ok(&["check", "F"]);
    assert_eq!(f.ok(&["add", "F", "c", "3"]), "15\n");
    f.fails(2, &["get", "--index", "0", "F", "c"], &["no elements"]);
    f.fails(2, &["define", "--areas", "4", "F", "d", "counter"], &["no areas"]);
    f.fails(2, &["wait", "F", "c", "ge", "5"], &["wakes nobody"]);
    f.fails(5, &["define", "F", "c", "i64"], &["is counter, not i64"]);
    let txn = f.run_with(&["txn", "F"], b"add c 1\n");
    assert!(txn.err.contains("use a value"), "{}", txn.err);
    assert_eq!(f.ok(&["get", "F", "c"]), "15\n");
}

#[test]
fn docs_and_units_are_shown() {
    let f = Folder::with_store();
    f.ok(&["define", "--doc", "over\n\"ground\"\x1b", "--unit", "m/s", "F", "speed", "f64"]);
    f.ok(&["define", "F", "hits", "u64"]);
    let list = f.ok(&["ls", "--long", "F"]);
    assert!(list.lines().next().unwrap().ends_with("UNIT  DOC"), "{list}");
    assert!(list.contains("m/s   over \"ground\"\\u{1b}\n"), "{list}");
    assert!(!f.ok(&["ls", "F"]).contains("m/s"));
    let list = f.json(&["ls", "--json", "F"]);
    assert_eq!(list[0]["doc"], "over\n\"ground\"\u{1b}");
    assert_eq!(list[0]["unit"], "m/s");
    assert!(list[1]["doc"].is_null() && list[1]["unit"].is_null());
    f.fails(2, &["define", "--doc", &"x".repeat(5000), "F", "x", "u8"], &["F", "x", "4008"]);
}

/// Nobody knows the number of a counter at one instant.
#[test]
fn a_counter_is_added_to_and_not_compared() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "c", "counter"]);
    assert_eq!(f.ok(&["add", "F", "c", "5"]), "5\n");
    assert_eq!(f.ok(&["add", "F", "c", "-7"]), "-2\n");
    f.fails(5, &["cas", "F", "c", "-2", "9"], &["\"c\"", "counter", "use a value"]);
    f.fails(2, &["add", "F", "c", "18446744073709551615"], &["\"c\"", "exceeds an i64"]);
    assert_eq!(f.ok(&["get", "F", "c"]), "-2\n");
}

#[test]
fn a_store_that_was_never_synced_says_so() {
    let f = Folder::with_store();
    f.ok(&["--no-sync", "create", "G"]);
    let info = f.ok(&["info", "G"]);
    assert!(info.contains("last sync  none since it was created"), "{info}");
}
