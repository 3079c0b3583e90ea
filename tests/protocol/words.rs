//! The bulk operations of `Memory`, word by word, for memories made of words.
//!
//! Each word is one access: the protocol may rely on nothing more.

/// Fills `out` from `skip` bytes after `word`.
pub(super) fn read(word: usize, skip: usize, out: &mut [u8], load: impl Fn(usize) -> u64) {
    let mut at = skip;
    let mut left = out;
    while !left.is_empty() {
        let (begin, end) = (at % 8, (at % 8 + left.len()).min(8));
        let (part, rest) = left.split_at_mut(end - begin);
        part.copy_from_slice(&load(word + at / 8).to_le_bytes()[begin..end]);
        at += end - begin;
        left = rest;
    }
}

/// Stores `data` from `skip` bytes after `word`. A word that is only partly covered is loaded
/// first, and keeps its other bytes.
pub(super) fn write(
    word: usize,
    skip: usize,
    data: &[u8],
    load: impl Fn(usize) -> u64,
    store: impl Fn(usize, u64),
) {
    let mut at = skip;
    let mut left = data;
    while !left.is_empty() {
        let (begin, end) = (at % 8, (at % 8 + left.len()).min(8));
        let (part, rest) = left.split_at(end - begin);
        let index = word + at / 8;
        let mut bytes = if part.len() == 8 { [0; 8] } else { load(index).to_le_bytes() };
        bytes[begin..end].copy_from_slice(part);
        store(index, u64::from_le_bytes(bytes));
        at += end - begin;
        left = rest;
    }
}

/// Copies `count` words.
pub(super) fn copy(
    from: usize,
    to: usize,
    count: usize,
    load: impl Fn(usize) -> u64,
    store: impl Fn(usize, u64),
) {
    for i in 0..count {
        store(to + i, load(from + i));
    }
}

#[test]
fn bulk_operations_change_exactly_the_given_bytes() {
    use std::cell::RefCell;
    let words = RefCell::new([u64::MAX; 3]);
    let load = |i: usize| words.borrow()[i];
    let store = |i: usize, value| words.borrow_mut()[i] = value;
    write(0, 6, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], load, store);
    let mut out = [0; 14];
    read(0, 5, &mut out, load);
    assert_eq!(out, [255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255, 255]);
    copy(1, 0, 2, load, store);
    read(0, 0, &mut out, load);
    assert_eq!(out[..9], [3, 4, 5, 6, 7, 8, 9, 10, 11]);
}
