//! What each worker of the demo does, in its own process.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use slotfile::Store;
use sysinfo::System;

use super::slots::{ADDED_BY_EACH, ELEMENTS, Machine, Slots};
use crate::cli::Role;
use crate::exit::{Exit, Failure};

pub(super) fn run(role: Role, store: &Store) -> Result<Exit, Failure> {
    let slots = Slots::open(store)?;
    say("ready")?;
    let mut line = String::new();
    // No line: the demo is gone.
    if !io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        return Ok(Exit::NO);
    }
    match role {
        Role::Adder => add(&slots)?,
        Role::Mirror => mirror(&slots)?,
        Role::Reader => read(&slots)?,
        Role::Sampler => sample(store)?,
        Role::Victim => stop_half_way(&slots)?,
    }
    Ok(Exit::DONE)
}

fn add(slots: &Slots) -> Result<(), Failure> {
    for _ in 0..ADDED_BY_EACH {
        slots.counter.fetch_add(1)?;
        for element in 0..ELEMENTS {
            slots.elements.fetch_add(element, 1)?;
        }
        // Without a pause, all would be done before the last has begun.
        thread::sleep(Duration::from_millis(1));
    }
    say(&ADDED_BY_EACH.to_string())
}

fn mirror(slots: &Slots) -> Result<(), Failure> {
    let stop = when_told()?;
    let mut numbers = slots.mirror.load();
    let mut written = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let next = numbers[0] + 1;
        numbers.fill(next);
        slots.mirror.store(&numbers)?;
        written += 1;
    }
    say(&written.to_string())
}

fn read(slots: &Slots) -> Result<(), Failure> {
    let stop = when_told()?;
    let (mut reads, mut torn, mut backward, mut seen) = (0u64, 0u64, 0u64, 0u64);
    let mut last = slots.mirror.get(0)?;
    while !stop.load(Ordering::Relaxed) {
        let numbers = slots.mirror.load();
        let first = numbers[0];
        reads += 1;
        torn += u64::from(numbers.iter().any(|number| *number != first));
        backward += u64::from(first < last);
        seen += u64::from(first != last);
        last = first;
    }
    say(&format!("{reads} {torn} {backward} {seen}"))
}

fn sample(store: &Store) -> Result<(), Failure> {
    let stop = when_told()?;
    let mut system = System::new();
    system.refresh_cpu_usage();
    let machine = Machine::open(store, system.cpus().len().max(1))?;
    let mut samples = 0u64;
    // The usage is that since the previous refresh, so each round begins with a pause.
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        system.refresh_cpu_usage();
        system.refresh_memory();
        let cpu: Vec<f32> = system.cpus().iter().map(|cpu| cpu.cpu_usage()).collect();
        machine.cpu.store(&cpu)?;
        let memory = [system.total_memory(), system.used_memory(), system.available_memory()];
        machine.memory.store(&memory)?;
        let load = System::load_average();
        machine.load.store(&[load.one, load.five, load.fifteen])?;
        machine.samples.fetch_add(1)?;
        samples += 1;
    }
    // The demo needs the array's length to open it.
    say(&format!("{samples} {}", system.cpus().len().max(1)))
}

fn stop_half_way(slots: &Slots) -> Result<(), Failure> {
    slots.victim.update(|numbers| {
        let half = numbers.len() / 2;
        numbers[..half].fill(u64::MAX);
        // SIGKILL comes while this waits. If the input ends instead, the demo is gone.
        let said = say("half");
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(said);
        std::process::exit(1);
    })?;
    Ok(())
}

/// A flag that is set once standard input is closed.
fn when_told() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let waiting = thread::Builder::new().spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    let cannot = |error| Failure::new(Exit::IO, format!("cannot start a thread: {error}"));
    waiting.map(|_| stop).map_err(cannot)
}

/// One line to the demo.
fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
