//! Files with any damage at all, and any bytes as a file: never a panic, or a hang.

use std::time::Duration;

use crate::common::raw::{self, Raw};
use crate::common::{folder, long, store_in, within};
use crate::damaged_files::{assert_found, copy_of_pristine, open, use_anything};
use proptest::prelude::*;
use slotfile::Store;

#[derive(Clone, Debug)]
enum Damage {
    Cut(u64),
    Flip(u64, u8),
    Fill(u64, usize, u8),
    Rubbish(u64, Vec<u8>),
}

impl Damage {
    fn apply(&self, raw: &Raw) {
        match self {
            Damage::Cut(len) => raw.cut(*len),
            Damage::Flip(at, mask) if *at < raw.len() => raw.flip(*at, *mask),
            Damage::Flip(..) => {}
            Damage::Fill(at, len, byte) => raw.write(*at, &vec![*byte; *len]),
            Damage::Rubbish(at, bytes) => raw.write(*at, bytes),
        }
    }
}

/// A place in the file, usually one that is in use.
fn place() -> impl Strategy<Value = u64> {
    // In a store of this size: header, live header, table, index, directory, first run.
    let regions = prop_oneof![
        Just(0u64),
        Just(raw::LIVE_HEADER),
        Just(raw::TABLE),
        Just(384 * 1024),
        Just(448 * 1024),
        Just(4 << 20),
        Just(6 << 20),
    ];
    prop_oneof![
        9 => (regions, 0u64..2_048).prop_map(|(region, at)| region + at),
        1 => 0u64..(8 << 20),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        1 => (0u64..(8 << 20)).prop_map(Damage::Cut),
        5 => (place(), 1u8..).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        2 => (place(), 1usize..5_000, any::<u8>()).prop_map(|(at, n, b)| Damage::Fill(at, n, b)),
        2 => (place(), prop::collection::vec(any::<u8>(), 1..200))
            .prop_map(|(at, bytes)| Damage::Rubbish(at, bytes)),
    ]
}

fn cases(few: u32, many: u32) -> ProptestConfig {
    let cases = if long() { many } else { few };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300, 20_000))]

    /// Any damage at all, content included: no panic, no hang.
    #[test]
    fn any_damage_ends_in_an_error_or_a_store_that_works(
        all in prop::collection::vec(damage(), 1..5),
    ) {
        let folder = folder();
        // In its own folder, with a new pristine file, since nothing is shared.
        let copy = copy_of_pristine(folder.path());
        let raw = Raw::open(&copy);
        all.iter().for_each(|damage| damage.apply(&raw));
        within(Duration::from_secs(5), "using it", || _ = use_anything(&copy));
    }

    /// Any bytes as a file, with and without the magic bytes of a store.
    #[test]
    fn any_bytes_are_refused(
        magic in any::<bool>(),
        version in any::<bool>(),
        rest in prop::collection::vec(any::<u8>(), 0..6_000),
    ) {
        let folder = folder();
        let path = store_in(&folder);
        let mut bytes = Vec::new();
        if magic {
            bytes.extend_from_slice(b"SLOTFILE");
            if version {
                bytes.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
            }
        }
        bytes.extend_from_slice(&rest);
        std::fs::write(&path, bytes).unwrap();
        for result in [open(&path), Store::open_read_only(&path), Store::open_or_create(&path)] {
            assert_found(&path, &result.unwrap_err());
        }
    }
}
