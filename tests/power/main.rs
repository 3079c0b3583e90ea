//! Power cuts on real file systems: the parts of `run.sh`, which says how they are used.
//! (The same code on a simulated disk: `simulated/`, which is compiled into the library's
//! own tests, as it looks into it.)

mod replay;
mod workload;

/// Not a test of its own: `run.sh` starts this program again for its parts.
#[test]
fn part_of_a_power_cut_run() {
    match std::env::var("SLOTFILE_POWER").as_deref() {
        Ok("run") => workload::run(),
        Ok("write") => workload::write(),
        Ok("noise") => workload::make_noise(),
        Ok("replay") => replay::replay(),
        _ => {}
    }
}
