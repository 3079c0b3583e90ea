//! Copies into the map and out of it, beside the machine's `memcpy` at the same addresses:
//! `cargo run --release --manifest-path benches/copies/Cargo.toml`. Fails if a copy takes more than
//! [`BOUND`] of its time at any size and any offset of source and destination. Sizes in bytes after
//! `--` choose.
//!
//! `memcpy` itself takes 10 to 20 times as long at some offsets on some processors. So the table also
//! has the time beside that of `memcpy` at its best offset of this size.
//!
//! The code is that of the library, included here: an array would add its lock and its version.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use mapping::copy;

#[allow(dead_code, reason = "this program uses some of it")]
#[path = "../../../src/mapping"]
mod mapping {
    pub(crate) mod copy;
    mod vectors;
}

/// No bug is planted here.
mod mutant {
    macro_rules! planted {
        ($name:ident) => {
            false
        };
    }
    pub(crate) use planted;
}

/// How many times as long as `memcpy` a copy may take.
const BOUND: f64 = 1.25;
const OFFSETS: [usize; 6] = [0, 1, 8, 16, 32, 2048];
const SIZES: [usize; 13] = [
    64,
    128,
    256,
    1 << 10,
    4 << 10,
    8 << 10,
    32 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    6 << 20,
    16 << 20,
    64 << 20,
];
/// Of each, the least time of so many rounds counts: so many for sizes up to 64 KiB, and above.
const ROUNDS: [usize; 2] = [99, 9];
/// What is over the bound is measured again, up to so many times: the machine may have been busy.
const TRIES: usize = 50;
/// A round copies at least so many bytes: that takes long enough for the clock not to matter.
const ROUND: usize = 512 << 10;

#[derive(Clone, Copy, Debug)]
enum Direction {
    IntoTheMap,
    OutOfTheMap,
}

/// Memory that both copy, in turn.
struct Memory<'a> {
    map: &'a [AtomicU64],
    private: &'a mut [u8],
}

/// One size and one pair of offsets. Nanoseconds, the least of all rounds.
struct Cell {
    size: usize,
    source: usize,
    destination: usize,
    ours: f64,
    memcpy: f64,
}

impl Cell {
    fn ratio(&self) -> f64 {
        self.ours / self.memcpy
    }

    /// Also if it has not been measured.
    fn over(&self) -> bool {
        self.ours == f64::MAX || self.ratio() > BOUND
    }
}

fn main() -> ExitCode {
    let wanted: Vec<usize> = std::env::args().skip(1).map(|size| size.parse().unwrap()).collect();
    let sizes = if wanted.is_empty() { SIZES.to_vec() } else { wanted };
    let most = sizes.iter().max().unwrap() + OFFSETS.iter().max().unwrap();
    let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).unwrap();
    file.set_len(most as u64).unwrap();
    // SAFETY: nobody else has the file.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    map.fill(1);
    // SAFETY: any bytes are atomics, and nothing else accesses the map while these live.
    let (_, words, _) = unsafe { map.align_to_mut::<AtomicU64>() };
    // It begins at a page, so that the offsets mean the same on both sides.
    let mut private = vec![2u8; most + 4096];
    let begin = private.as_ptr().align_offset(4096);
    let mut memory = Memory { map: words, private: &mut private[begin..begin + most] };

    let mut over = Vec::new();
    for direction in [Direction::IntoTheMap, Direction::OutOfTheMap] {
        over.extend(table(direction, &mut memory, &sizes));
    }
    for worst in &over {
        println!("over the bound of {BOUND}: {worst}");
    }
    if over.is_empty() {
        println!("all are within {BOUND} times memcpy at the same offsets");
    }
    if over.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the ratios of all sizes and offsets; returns what is over the bound.
fn table(direction: Direction, memory: &mut Memory, sizes: &[usize]) -> Vec<String> {
    let columns = OFFSETS.map(|to| format!(" to {to}")).join(" |");
    println!("\n{direction:?}: time of a copy, memcpy at the same offsets being 1\n");
    println!("| size | from |{columns} | memcpy | at most, memcpy at its best offsets being 1 |");
    println!("|{}", " --- |".repeat(OFFSETS.len() + 4));
    let mut cells = Vec::new();
    for &size in sizes {
        for source in OFFSETS {
            for destination in OFFSETS {
                let (ours, memcpy) = (f64::MAX, f64::MAX);
                cells.push(Cell { size, source, destination, ours, memcpy });
            }
        }
    }
    // What is over the bound is measured again, after all the others.
    for _ in 0..TRIES {
        for cell in cells.iter_mut().filter(|cell| cell.over()) {
            measure(direction, memory, cell);
        }
    }
    let mut over = Vec::new();
    for cells in cells.chunks(OFFSETS.len() * OFFSETS.len()) {
        let size = cells[0].size;
        let best = cells.iter().map(|cell| cell.memcpy).fold(f64::MAX, f64::min);
        for row in cells.chunks(OFFSETS.len()) {
            let ratios = row.iter().map(|cell| format!(" {:.2}", cell.ratio()));
            let ratios = ratios.collect::<Vec<_>>().join(" |");
            let all = row.iter().map(|cell| cell.memcpy);
            let (least, longest) = (all.clone().fold(f64::MAX, f64::min), all.fold(0.0, f64::max));
            let ours = row.iter().map(|cell| cell.ours).fold(0.0, f64::max);
            println!(
                "| {} | {} |{ratios} | {least:.0} to {longest:.0} ns | {:.2} |",
                name(size),
                row[0].source,
                ours / best
            );
        }
        let worst = cells.iter().max_by(|a, b| a.ratio().total_cmp(&b.ratio())).unwrap();
        if worst.over() {
            over.push(format!(
                "{direction:?}, {} from {} to {}: {:.2} ({:.1} ns, memcpy {:.1} ns)",
                name(size),
                worst.source,
                worst.destination,
                worst.ratio(),
                worst.ours,
                worst.memcpy
            ));
        }
    }
    over
}

fn name(size: usize) -> String {
    match size {
        0..1024 => format!("{size} B"),
        1024..0x10_0000 => format!("{} KiB", size >> 10),
        _ => format!("{} MiB", size >> 20),
    }
}

/// Measures both in turn, and keeps the least times.
fn measure(direction: Direction, memory: &mut Memory, cell: &mut Cell) {
    let Cell { size, source, destination, .. } = *cell;
    let map: *mut u8 = memory.map.as_ptr().cast_mut().cast();
    let repeats = (ROUND / size).clamp(1, 4_096);
    let rounds = if size <= 64 << 10 { ROUNDS[0] } else { ROUNDS[1] };
    for _ in 0..rounds {
        let (ours, memcpy) = match direction {
            Direction::IntoTheMap => {
                let data = &memory.private[source..source + size];
                let to = map.wrapping_add(destination);
                let ours = each(repeats, || {
                    copy::write(memory.map, black_box(destination), black_box(data));
                });
                (ours, each(repeats, || memcpy(to, data.as_ptr(), size)))
            }
            Direction::OutOfTheMap => {
                let out = &mut memory.private[destination..destination + size];
                let from = map.wrapping_add(source);
                let ours = each(repeats, || {
                    copy::read(memory.map, black_box(source), black_box(&mut *out));
                });
                (ours, each(repeats, || memcpy(out.as_mut_ptr(), from, size)))
            }
        };
        (cell.ours, cell.memcpy) = (cell.ours.min(ours), cell.memcpy.min(memcpy));
    }
}

fn memcpy(to: *mut u8, from: *const u8, size: usize) {
    // SAFETY: both are longer than the largest size with the largest offset, and no other thread uses
    // them. The map is of atomics, which may be written through a shared reference.
    unsafe { black_box(from).copy_to_nonoverlapping(black_box(to), black_box(size)) };
}

/// Nanoseconds of each of so many copies.
fn each(times: usize, mut copy: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        copy();
    }
    start.elapsed().as_secs_f64() * 1e9 / times as f64
}
