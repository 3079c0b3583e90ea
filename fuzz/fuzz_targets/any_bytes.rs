//! Any bytes as a store, see `tests/common/mangled.rs`.
#![no_main]
#![allow(dead_code)]

#[path = "../../tests/common/mangled.rs"]
mod mangled;
#[path = "../../tests/common/model.rs"]
mod model;
#[path = "../../tests/common/os.rs"]
mod os;
#[path = "../../tests/common/place.rs"]
mod place;
#[path = "../../tests/common/raw.rs"]
mod raw;
#[path = "../../tests/common/subjects.rs"]
mod subjects;

libfuzzer_sys::fuzz_target!(|input: &[u8]| mangled::run_quickly(input));
