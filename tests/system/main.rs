//! The system beneath: paths, file systems, limits, refused and failed system calls, clocks.

#[path = "../common/mod.rs"]
mod common;

mod blocks;
mod bus_errors;
mod clocks;
mod denied_calls;
mod file_systems;
mod limits;
mod opening;
mod small_stores;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod system_call_faults;
mod which_file;
