//! The file: every byte as `docs/format.md` says, and files in which bytes are not as they
//! should be.

#[path = "../common/mod.rs"]
mod common;

mod damaged_files;
mod flipped_bits;
mod format_by_the_page;
mod fuzz_corpora;
mod golden_files;
mod hostile_peers;
