//! A restart of the machine leaves the last acknowledged sync, or a refusal.

#[path = "../common/mod.rs"]
mod common;

mod boot_ids;
mod boots_and_mounts;
mod copied_stores;
mod damaged_checkpoints;
mod failed_syncs;
mod restored_after_a_restart;
mod syncing;
