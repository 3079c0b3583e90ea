//! `demo`: shows what slotfile is for, with real processes.
//!
//! The demo starts its own executable again as workers (`workers.rs`) that share one store,
//! checks what they leave there, and prints the result. It can be run again on the same file.

mod slots;
mod team;
mod workers;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use slotfile::Store;

use self::slots::{ADDED_BY_EACH, ADDERS, ELEMENTS, Machine, Slots};
use self::team::Worker;
use crate::cli::{Demo, Role};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::listing::{self, Columns};

/// How long the reader, the mirror and the sampler work.
const WATCHED: Duration = Duration::from_secs(2);

pub(super) fn run(context: &mut Context, args: Demo) -> Result<Exit, Failure> {
    let mut words = args.file.into_iter();
    let file = PathBuf::from(words.next().unwrap_or_else(|| "demo.slots".into()));
    if let Some(word) = words.next() {
        let what = format!("{word:?} is one word too many; demo takes one FILE");
        return Err(Failure::new(Exit::USAGE, what));
    }
    if let Some(role) = args.worker {
        let store = context.open(&file)?;
        return workers::run(role, &store);
    }
    let mut options = context.options();
    let store = context.open_with(&file, options.create(true), None)?;
    refuse_a_store_in_use(&store, &file)?;
    let slots = Slots::open(&store)?;
    // Two demos on one file would count each other's additions.
    let running = store.value::<bool>(slots::RUNNING)?;
    let guard = running.lock()?;

    let mut show = Show { context, wrong: 0 };
    greet(&mut show, &file, &slots)?;
    work_together(&mut show, &file, &store, &slots)?;
    a_killed_writer(&mut show, &file, &slots)?;
    slots.runs.fetch_add(1)?;
    drop(guard);
    what_is_there(&mut show, &file, &store)?;
    Ok(if show.wrong == 0 { Exit::DONE } else { Exit::NO })
}

/// The demo's slots do not belong in a store that is used for something else.
fn refuse_a_store_in_use(store: &Store, file: &Path) -> Result<(), Failure> {
    let slots = store.slots()?;
    if slots.is_empty() || slots.iter().any(|slot| slot.name() == slots::RUNS) {
        return Ok(());
    }
    let what = format!(
        "{}: a store of {} slots, none of them the demo's; name a file that does not exist, and \
         the demo makes it",
        file.display(),
        slots.len()
    );
    Err(Failure::new(Exit::NO, what))
}

/// Prints, and counts the checks that failed.
struct Show<'a> {
    context: &'a mut Context,
    wrong: u32,
}

impl Show<'_> {
    fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        if self.context.everywhere.quiet {
            return Ok(());
        }
        let out = &mut self.context.out;
        writeln!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }

    fn title(&mut self, text: &str) -> Result<(), Failure> {
        let title = self.context.out.bold(text);
        self.line(format_args!("\n{title}"))
    }

    /// Prints one fact that was checked.
    fn check(&mut self, holds: bool, fact: impl std::fmt::Display) -> Result<(), Failure> {
        let mark = match holds {
            true => self.context.out.bold("ok"),
            false => self.context.out.red("WRONG"),
        };
        self.wrong += u32::from(!holds);
        self.line(format_args!("   {mark}  {fact}"))
    }
}

fn greet(show: &mut Show<'_>, file: &Path, slots: &Slots) -> Result<(), Failure> {
    let title =
        format!("slotfile demo: processes that share the numbers in one file, {}", file.display());
    let title = show.context.out.bold(&title);
    show.line(title)?;
    let (runs, counter) = (slots.runs.load(), slots.counter.load());
    match (runs, counter) {
        (0, 0) => {
            show.line("The file is new. Run the demo again, and it goes on where this run stops.")
        }
        _ => show.line(format_args!(
            "Found {runs} earlier {}: the counter stands at {counter}. Going on from there.",
            if runs == 1 { "run" } else { "runs" }
        )),
    }
}

/// Thirteen processes at once: the first three sections.
fn work_together(
    show: &mut Show<'_>,
    file: &Path,
    store: &Store,
    slots: &Slots,
) -> Result<(), Failure> {
    let mut mirror = Worker::start(Role::Mirror, file)?;
    let mut reader = Worker::start(Role::Reader, file)?;
    let mut sampler = Worker::start(Role::Sampler, file)?;
    let begun = Instant::now();
    for worker in [&mut mirror, &mut reader, &mut sampler] {
        worker.go()?;
    }
    ten_adders(show, file, slots)?;
    std::thread::sleep(WATCHED.saturating_sub(begun.elapsed()));
    let written = mirror.finish()?;
    let read = reader.finish()?;
    let sampled = sampler.finish()?;
    a_reader(show, &written, &read)?;
    figures(show, store, &sampled)
}

fn ten_adders(show: &mut Show<'_>, file: &Path, slots: &Slots) -> Result<(), Failure> {
    show.title(&format!("1. {ADDERS} processes add to the same numbers at the same time"))?;
    show.line(format_args!(
        "   Each adds 1 to a counter and to each of {ELEMENTS} array elements, {ADDED_BY_EACH} \
         times."
    ))?;
    let (counter, elements) = (slots.counter.load(), slots.elements.load());
    let mut adders =
        (0..ADDERS).map(|_| Worker::start(Role::Adder, file)).collect::<Result<Vec<_>, _>>()?;
    // All have started before the first begins.
    let begun = Instant::now();
    for adder in &mut adders {
        adder.go()?;
    }
    for adder in adders {
        adder.finish()?;
    }
    let took = begun.elapsed().as_millis();
    let is_exact = |before: u64, after: u64| after == before + ADDERS * ADDED_BY_EACH;
    let sum = |before, after| format!("{before} + {ADDERS} x {ADDED_BY_EACH} = {after}");
    let now = slots.counter.load();
    show.check(is_exact(counter, now), format_args!("counter       {}", sum(counter, now)))?;
    let pairs: Vec<(u64, u64)> = elements.into_iter().zip(slots.elements.load()).collect();
    let exact = pairs.iter().filter(|(before, after)| is_exact(*before, *after));
    let exact = exact.count();
    // All elements are equal, unless an earlier run was interrupted.
    let (before, after) = pairs.first().copied().unwrap_or_default();
    show.check(exact == ELEMENTS, format_args!("{exact} elements   {}", sum(before, after)))?;
    show.line(format_args!("       in {took} ms"))
}

fn a_reader(show: &mut Show<'_>, written: &[u64], read: &[u64]) -> Result<(), Failure> {
    show.title("2. A reader beside a writer that never pauses")?;
    show.line(
        "   One process writes 4,096 equal numbers, again and again; another reads them all",
    )?;
    show.line("   and checks that they are equal. A mixture would be half an update.")?;
    let ([written], [reads, torn, backward, seen]) = (written, read) else {
        return show.check(false, "the reader said how many reads it checked");
    };
    show.check(*written > 0, format_args!("{written} updates written"))?;
    show.check(
        *reads > 0 && *torn == 0,
        format_args!("{reads} reads checked, {torn} of them mixtures"),
    )?;
    show.check(
        *seen > 0 && *backward == 0,
        format_args!("{seen} different states seen, {backward} older than the one before"),
    )
}

fn figures(show: &mut Show<'_>, store: &Store, sampled: &[u64]) -> Result<(), Failure> {
    show.title("3. Real figures: a process of its own samples this machine into arrays")?;
    let [samples, processors] = sampled else {
        return show.check(false, "the sampler said how many samples it took");
    };
    let machine = Machine::open(store, *processors as usize)?;
    let (cpu, memory, load) = (machine.cpu.load(), machine.memory.load(), machine.load.load());
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    show.check(*samples > 0, format_args!("{samples} samples"))?;
    let percents: Vec<String> = cpu.iter().take(8).map(|x| format!("{x:.0} %")).collect();
    let more = if cpu.len() > 8 { ", ..." } else { "" };
    show.line(format_args!("       processors   {}{more}", percents.join(", ")))?;
    show.line(format_args!(
        "       memory       {:.1} of {:.1} GiB used",
        gib(memory[1]),
        gib(memory[0])
    ))?;
    show.line(format_args!(
        "       load         {:.2}, {:.2}, {:.2} (1, 5, 15 minutes)",
        load[0], load[1], load[2]
    ))
}

fn a_killed_writer(show: &mut Show<'_>, file: &Path, slots: &Slots) -> Result<(), Failure> {
    show.title("4. A writer killed with SIGKILL in the middle of an update")?;
    let (before, version) = slots.victim.load_versioned();
    let mut victim = Worker::start(Role::Victim, file)?;
    let pid = victim.pid();
    victim.go()?;
    victim.wait_for("half")?;
    show.line(format_args!(
        "   Process {pid} holds the array's lock and has changed half of its 4,096 numbers."
    ))?;
    let reading = Instant::now();
    let meanwhile = slots.victim.load();
    let took = reading.elapsed();
    show.check(
        meanwhile == before,
        format_args!("a read at this moment does not wait ({took:.1?}) and shows the old state"),
    )?;

    victim.kill()?;
    let killed = Instant::now();
    // The next state differs from the one before, to tell them apart.
    let next = before[0].wrapping_add(1);
    let mut found = Vec::new();
    slots.victim.update(|numbers| {
        found = numbers.to_vec();
        numbers.fill(next);
    })?;
    let took = killed.elapsed();
    show.line(format_args!("   Killed it."))?;
    show.check(
        found == before,
        "the array holds the old state, whole: nothing of the half update",
    )?;
    show.check(
        took < Duration::from_millis(500),
        format_args!(
            "another process had the lock {:.1} ms later, and updated it",
            took.as_secs_f64() * 1e3
        ),
    )?;
    let (after, now) = slots.victim.load_versioned();
    show.check(after.iter().all(|x| *x == next) && now > version, "the new state is whole too")
}

fn what_is_there(show: &mut Show<'_>, file: &Path, store: &Store) -> Result<(), Failure> {
    show.title("What is in the file now, for any process that opens it")?;
    if !show.context.everywhere.quiet {
        let columns = Columns { long: false, titles: true };
        listing::table(&mut show.context.out, store.list("*")?, columns)?;
    }
    let verdict = match show.wrong {
        0 => "All totals are exact.".to_owned(),
        wrong => show.context.out.red(&format!("{wrong} of the checks failed: see WRONG above.")),
    };
    show.line(format_args!("\n{verdict} To look at it yourself:\n"))?;
    let file = in_a_shell(file);
    let me = own_name();
    show.line(format_args!("   {me} ls {file}"))?;
    show.line(format_args!("   {me} add {file} {} 1", slots::COUNTER))
}

/// How this executable can be called from here.
fn own_name() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if called.components().count() == 1 {
        return in_a_shell(&called);
    }
    let path = std::env::current_exe().unwrap_or(called);
    let here = std::env::current_dir().unwrap_or_default();
    let relative = path.strip_prefix(&here).unwrap_or(&path);
    in_a_shell(relative)
}

/// A path as it has to be typed in a shell, quoted if necessary.
fn in_a_shell(path: &Path) -> String {
    let path = path.to_string_lossy();
    shlex::try_quote(&path).unwrap_or_else(|_| path.clone()).into_owned()
}
