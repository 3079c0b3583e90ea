//! The file format: every byte as `docs/format.md` says, and damaged files.

#[path = "../common/mod.rs"]
mod common;

mod any_damage;
mod checked_in_time;
mod damaged_files;
mod flipped_bits;
mod format_by_the_page;
mod fuzz_corpora;
mod golden_files;
mod hostile_peers;
mod marks;
