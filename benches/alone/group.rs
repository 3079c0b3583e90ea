//! Commits of several threads and processes at once: `cargo bench --bench group`. Each adds 1 to a
//! slot of its own and syncs, again and again. A number after `--` is the number of slots (10).

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use slotfile::{OpenOptions, Store};

const TIME: Duration = Duration::from_secs(1);

fn main() {
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let [path, process, threads] = &words[..] {
        return commit(Path::new(path), process.parse().unwrap(), threads.parse().unwrap());
    }
    let slots = words.first().map_or(10, |slots| slots.parse().unwrap());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("state.slots");
    let store = open(&path);
    for i in 0..slots {
        store.value::<u64>(&format!("slot/{i}")).unwrap();
    }
    store.sync().unwrap();
    println!(
        "| {slots} slots: processes x threads | commits/s | of the slowest | longest commit |"
    );
    println!("| --- | --- | --- | --- |");
    for (processes, threads) in [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (1, 8)] {
        println!("| {processes} x {threads} | {} |", run(&path, processes, threads));
    }
}

fn open(path: &Path) -> Store {
    OpenOptions::new().create(true).max_slots(2_000_000).sync_every(None).open(path).unwrap()
}

fn run(path: &Path, processes: usize, threads: usize) -> String {
    let start = |process: usize| -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(path).args([process.to_string(), threads.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut children: Vec<Child> = (0..processes).map(start).collect();
    let mut lines: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().unwrap()).lines())
        .collect();
    // All are ready before any begins.
    for lines in &mut lines {
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
    }
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"g").unwrap();
    }
    let (mut all, mut slowest, mut longest) = (0, u64::MAX, 0);
    for line in lines.into_iter().flatten() {
        let line = line.unwrap();
        let (count, micros) = line.split_once(' ').unwrap();
        let count = count.parse().unwrap();
        (all, slowest) = (all + count, slowest.min(count));
        longest = longest.max(micros.parse().unwrap());
    }
    for mut child in children {
        child.wait().unwrap();
    }
    let per_second = |count: u64| count as f64 / TIME.as_secs_f64();
    let longest = Duration::from_micros(longest);
    format!("{:.0} | {:.0} | {longest:.1?}", per_second(all), per_second(slowest))
}

/// One of the processes.
fn commit(path: &Path, process: usize, threads: usize) {
    let store = open(path);
    let value =
        |thread| store.value::<u64>(&format!("slot/{}", process * threads + thread)).unwrap();
    let values: Vec<_> = (0..threads).map(value).collect();
    store.sync().unwrap();
    println!("ready");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    std::thread::scope(|scope| {
        for value in &values {
            scope.spawn(|| {
                let begin = Instant::now();
                let (mut count, mut longest) = (0, Duration::ZERO);
                while begin.elapsed() < TIME {
                    let start = Instant::now();
                    value.fetch_add(1).unwrap();
                    store.sync().unwrap();
                    longest = longest.max(start.elapsed());
                    count += 1;
                }
                println!("{count} {}", longest.as_micros());
            });
        }
    });
}
