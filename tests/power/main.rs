//! Power cuts on real file systems: the programs that `run.sh` runs; see there. (`simulated/` tests
//! the same code on a simulated disk. It is compiled into the library's own tests, as it uses
//! private parts of the library.)

mod replay;
mod workload;

/// Not a test by itself: `run.sh` runs it for each part.
#[test]
fn part_of_a_power_cut_run() {
    match std::env::var("SLOTFILE_POWER").as_deref() {
        Ok("run") if workload::is_of_a_group() => workload::run_group(),
        Ok("run") => workload::run(),
        Ok("commit") => workload::commit(),
        Ok("write") => workload::write(),
        Ok("noise") => workload::make_noise(),
        Ok("replay") => replay::replay(),
        _ => {}
    }
}
