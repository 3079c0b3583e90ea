//! Under loom: every promise holds in every execution that the memory model allows, and every
//! ordering is needed for one of them.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::long;
use super::loom_marks;
use super::loom_scenarios::{self, Scenario};
use super::weaken::{Part, take_used, weaken};
use crate::protocol::mutant::{Mutant, plant};

/// Orderings that no execution needs, and why they are there.
const REDUNDANT: [(&str, &str); 5] = [
    ("settle: control Acquire", ORDERED_BY_THE_BYTE),
    ("settle_seen: txn_word Acquire", ORDERED_BY_THE_BYTE),
    ("claim: txn_word Acquire", ORDERED_BY_THE_BYTE),
    ("clean: clear_marks Release", AHEAD_OF_A_KILL),
    ("clean: set_cleaning Release", AHEAD_OF_A_KILL),
];

/// The kernel passes a byte from its exclusive holder to those that share it, so they see all that
/// the dead process did. The orderings cost nothing beside a death, and state in the protocol what
/// it relies on.
const ORDERED_BY_THE_BYTE: &str = "ordered by the byte of the entry";

/// Whoever comes after a sync that was killed must find either the marks or the note of what it was
/// clearing. No living thread reads the note.
const AHEAD_OF_A_KILL: &str = "a kill may come between the stores";

/// Of these, either alone suffices: a thread that sees T sees the draft, and so does one that sees
/// COMMITTED. Without both, a test fails.
const EITHER: [&str; 2] =
    ["sample_in_transaction: txn_word Acquire", "set_transaction: swap_control Release"];

impl Scenario {
    /// Runs every execution. Returns their number, or what went wrong.
    fn explore(&self) -> Result<u64, String> {
        let executions = Arc::new(AtomicU64::new(0));
        let count = executions.clone();
        let run = self.run;
        let preemptions = self.preemptions + usize::from(long());
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
            Err(payload) => {
                let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
                let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
                Err(text.unwrap_or_default().lines().next().unwrap_or_default().to_string())
            }
        }
    }
}

fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    loom_scenarios::SCENARIOS.iter().chain(loom_marks::SCENARIOS)
}

/// The first of these scenarios that fails, and its error.
fn first_red<'s>(scenarios: &[&'s Scenario]) -> Option<(&'s str, String)> {
    scenarios.iter().find_map(|s| s.explore().err().map(|why| (s.name, why)))
}

/// Every half of an ordering, and the scenarios that use it.
fn parts() -> BTreeMap<Part, Vec<&'static Scenario>> {
    let mut parts = BTreeMap::<_, Vec<_>>::new();
    for scenario in scenarios() {
        let once = Scenario { preemptions: 1, ..*scenario };
        once.explore().expect("green");
        for part in take_used() {
            parts.entry(part).or_default().push(scenario);
        }
    }
    parts
}

#[test]
fn every_promise_holds_in_every_execution() {
    for scenario in scenarios() {
        let started = Instant::now();
        let executions =
            scenario.explore().unwrap_or_else(|why| panic!("{}: {why}", scenario.name));
        println!("{}: {executions} executions, {:.1?}", scenario.name, started.elapsed());
        // A handful of executions would mean that loom sees no race at all.
        assert!(executions > 100, "{}: only {executions} executions", scenario.name);
    }
}

#[test]
fn every_ordering_is_needed() {
    let parts = parts();
    let mut wrong = Vec::new();
    for (part, users) in &parts {
        let name = part.name();
        let excuse = REDUNDANT.iter().find(|(redundant, _)| *redundant == name);
        let excused = excuse.is_some() || EITHER.contains(&name.as_str());
        if excused && !long() {
            continue; // to tell whether it is still redundant takes every execution
        }
        weaken(&[*part]);
        let red = first_red(users);
        weaken(&[]);
        println!("without {name}: {red:?}");
        match red {
            None if !excused => wrong.push(format!("no scenario needs {name}")),
            Some((scenario, _)) if excused => {
                wrong.push(format!("{scenario} needs {name}, which is listed as redundant"));
            }
            _ => {}
        }
    }
    let either: Vec<_> = parts.keys().filter(|p| EITHER.contains(&p.name().as_str())).collect();
    weaken(&either.into_iter().copied().collect::<Vec<_>>());
    let red = first_red(&scenarios().collect::<Vec<_>>());
    weaken(&[]);
    println!("without either of {EITHER:?}: {red:?}");
    if red.is_none() {
        wrong.push(format!("no scenario needs either of {EITHER:?}"));
    }
    assert!(parts.len() > 20, "only {} orderings were found", parts.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The bugs that two or three threads can show. (The others need a death in the middle of an
/// update, or more steps: `exhaustive.rs` has them all.)
#[test]
fn planted_bugs_are_found_under_loom() {
    use Mutant::*;
    let visible = [
        IdleBeforeSettling,
        NoSecondLookAtControl,
        SnapshotComparesControls,
        SnapshotWithoutRecheck,
        ClaimWithoutRecovery,
        CommitEarly,
        ReaderAcceptsTorn,
        CurrentNotStale,
        DraftWithoutRecheck,
        SleepWithoutW,
        AnnounceUnseen,
        ClearWithoutWake,
        TakeWithoutL,
    ];
    for mutant in visible {
        plant(Some(mutant));
        let red = first_red(&scenarios().collect::<Vec<_>>());
        plant(None);
        println!("{mutant:?}: {red:?}");
        assert!(red.is_some(), "{mutant:?} survives");
    }
}
