//! Under loom: every promise holds in every execution that the memory model allows, and
//! every single ordering is needed for one.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::loom_scenarios::{SCENARIOS, Scenario};
use super::loom_store::{take_used, weaken};
use super::long;

/// Runs every execution; the number of them, or what went wrong.
fn explore((_, run): Scenario, preemptions: usize) -> Result<u64, String> {
    let executions = Arc::new(AtomicU64::new(0));
    let count = executions.clone();
    let result = catch_unwind(move || {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.max_branches = 10_000;
        builder.check(move || {
            count.fetch_add(1, Relaxed);
            run();
        });
    });
    match result {
        Ok(()) => Ok(executions.load(Relaxed)),
        Err(payload) => Err(payload
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| payload.downcast_ref::<&str>().map(|why| why.to_string()))
            .unwrap_or_default()),
    }
}

#[test]
fn loom_all() {
    let bound = std::env::var("BOUND").map_or(2, |b| b.parse().unwrap());
    for s in SCENARIOS {
        let t = Instant::now();
        let r = explore(*s, bound);
        let used = take_used().len();
        println!("Explored {}: {r:?} parts {used} {:.1?}", s.0, t.elapsed());
    }
}

#[test]
fn loom_weak() {
    let mut all = std::collections::BTreeMap::new();
    for (i, s) in SCENARIOS.iter().enumerate() {
        let _ = explore(*s, 1);
        for p in take_used() { all.entry(p).or_insert(Vec::new()).push(i); }
    }
    let bound = std::env::var("BOUND").map_or(2, |b| b.parse().unwrap());
    for (p, ss) in all {
        weaken(Some(p));
        let t = Instant::now();
        let mut red = Vec::new();
        for i in ss { if let Err(why) = explore(SCENARIOS[i], bound) { red.push((i, why.chars().take(60).collect::<String>())); break; } }
        weaken(None);
        println!("Explored {p}: {red:?} {:.1?}", t.elapsed());
    }
}
