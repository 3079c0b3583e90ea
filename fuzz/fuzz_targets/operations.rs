//! Any sequence of operations against a map, see `tests/common/model.rs`.
#![no_main]
#![allow(dead_code)]

#[path = "../../tests/common/model.rs"]
mod model;
#[path = "../../tests/common/raw.rs"]
mod raw;

libfuzzer_sys::fuzz_target!(|input: &[u8]| model::run(input));
