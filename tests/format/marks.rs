//! Bits that flip in the segment marks, and in the table of first lines: a check finds them, and the
//! next sync makes good what they would have hidden.

use crate::common::raw::Raw;
use crate::common::state::{open, restart};
use crate::common::{self, store_in};

/// Where the marks and the first lines are, as the page says.
const MARKS: u64 = 400 << 10;
const FIRST_LINES: u64 = 512 << 10;

#[test]
fn no_flipped_bit_of_a_mark_hides_a_change_from_a_check() {
    let folder = common::folder_in_memory();
    let path = store_in(&folder);
    let store = open(&path);
    // More than a segment holds, so that the first one is complete.
    for number in 0..300 {
        store.value::<u64>(&format!("value/{number}")).unwrap();
    }
    store.sync().unwrap();
    let raw = Raw::open(&path);
    assert_eq!(raw.word(MARKS) & 1, 0, "the first segment is clean");
    store.value::<u64>("value/7").unwrap().store(7).unwrap();
    assert_eq!(raw.word(MARKS) & 1, 1);
    raw.flip(MARKS, 1);
    let problems = store.check().unwrap().problems;
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.slot.as_deref(), Some("value/7"));
    assert!(problem.what.contains("the next one looks at all slots"), "{problem:?}");
    store.sync().unwrap();
    assert_eq!(store.check().unwrap().problems, []);
    drop(store);
    restart(&path);
    assert_eq!(open(&path).value::<u64>("value/7").unwrap().load(), 7);
}

/// A line that leads nowhere, to another slot, or beyond the directory: the sync looks at the
/// directory.
#[test]
fn no_first_line_hides_a_change() {
    for wrong in [0, 1, 5, 290, 10_000, u32::MAX] {
        let folder = common::folder_in_memory();
        let path = store_in(&folder);
        let store = open(&path);
        for number in 0..300 {
            store.value::<u64>(&format!("value/{number}")).unwrap();
        }
        store.array::<u8>("large", 100_000).unwrap();
        store.sync().unwrap();
        let raw = Raw::open(&path);
        let numbers = raw.bytes(FIRST_LINES, 16);
        for segment in 0..4 {
            raw.write(FIRST_LINES + 4 * segment, &wrong.to_le_bytes());
        }
        store.value::<u64>("value/7").unwrap().store(7).unwrap();
        store.array::<u8>("large", 100_000).unwrap().set(70_000, 7).unwrap();
        drop(store);
        let store = open(&path);
        store.sync().unwrap();
        let problems = store.check().unwrap().problems;
        let leads = |what: &str| what.contains("the table of first lines does not lead to it");
        assert!(!problems.is_empty() && problems.iter().all(|p| leads(&p.what)), "{problems:?}");
        raw.write(FIRST_LINES, &numbers);
        let check = store.check().unwrap();
        assert_eq!((check.problems, check.unverified), (vec![], vec![]), "{wrong}");
    }
}
