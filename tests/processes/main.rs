//! Processes that are killed at any instruction, stop, fork, close descriptors that are not theirs,
//! or are many: the others continue, and no lock stays with a dead holder.

#[path = "../common/mod.rs"]
mod common;

mod closed_descriptors;
mod crowded_table;
mod defining;
mod forked_processes;
mod forks_in_mid_sync;
mod found_by_marks;
mod group_commits;
mod killed_processes;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod killed_wakers;
mod lock_identity;
mod open_lock;
mod pid_namespaces;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod single_step;
mod stopped_readers;
