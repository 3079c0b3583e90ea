//! Taking away one ordering after the other.
//!
//! Every access of loom's memory passes through [`weakened`], which knows the place in
//! `src/protocol/` that it comes from. So each ordering can be taken away by itself, and the
//! scenarios run again to see whether one fails without it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

/// Half of one ordering of the protocol, and its place in the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    file: &'static str,
    line: u32,
    column: u32,
    access: &'static str,
    half: Half,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Half {
    Acquire,
    Release,
    /// A fence that is in one order with all others of its kind.
    Total,
}

/// The sources, to find the function that a line is in.
const SOURCES: [(&str, &str); 17] = [
    ("array.rs", include_str!("../../src/protocol/array.rs")),
    ("clean.rs", include_str!("../../src/protocol/clean.rs")),
    ("marks.rs", include_str!("../../src/protocol/marks.rs")),
    ("group_commit.rs", include_str!("../../src/protocol/group_commit.rs")),
    ("pieces.rs", include_str!("../../src/protocol/pieces.rs")),
    ("lock.rs", include_str!("../../src/protocol/lock.rs")),
    ("recover.rs", include_str!("../../src/protocol/recover.rs")),
    ("update.rs", include_str!("../../src/protocol/update.rs")),
    ("mod.rs", include_str!("../../src/protocol/mod.rs")),
    ("queue.rs", include_str!("../../src/protocol/queue.rs")),
    ("read_lock.rs", include_str!("../../src/protocol/read_lock.rs")),
    ("scalar.rs", include_str!("../../src/protocol/scalar.rs")),
    ("snapshot.rs", include_str!("../../src/protocol/snapshot.rs")),
    ("transaction.rs", include_str!("../../src/protocol/transaction.rs")),
    ("wait.rs", include_str!("../../src/protocol/wait.rs")),
    ("loom_group.rs", include_str!("loom_group.rs")),
    ("loom_store.rs", include_str!("loom_store.rs")),
];

impl Part {
    /// A name that stays the same when other lines change: function, access, half.
    pub(super) fn name(&self) -> String {
        let file = self.file.rsplit('/').next().unwrap_or_default();
        let source = SOURCES.iter().find(|(name, _)| *name == file).map_or("", |(_, text)| text);
        let before: Vec<&str> = source.lines().take(self.line as usize).collect();
        let function = before.iter().rev().find_map(|line| line.split_once("fn "));
        let name = function.map_or("?", |(_, rest)| rest.split(['(', '<']).next().unwrap_or("?"));
        format!("{name}: {} {:?}", self.access, self.half)
    }
}

// Loom runs all threads of a model on the thread that checks it.
thread_local! {
    static WEAKENED: RefCell<Vec<Part>> = const { RefCell::new(Vec::new()) };
    static USED: RefCell<BTreeSet<Part>> = const { RefCell::new(BTreeSet::new()) };
}

/// From now on, the models that this thread runs do without these parts.
pub(super) fn weaken(parts: &[Part]) {
    WEAKENED.set(parts.to_vec());
}

/// Every part that this thread's models have used since the last call.
pub(super) fn take_used() -> Vec<Part> {
    USED.take().into_iter().collect()
}

/// The ordering, without the halves that are taken away.
#[track_caller]
pub(super) fn weakened(access: &'static str, order: Ordering) -> Ordering {
    let at = Location::caller();
    let keeps = |half| {
        let (file, line, column) = (at.file(), at.line(), at.column());
        let part = Part { file, line, column, access, half };
        USED.with_borrow_mut(|used| used.insert(part));
        !WEAKENED.with_borrow(|weakened| weakened.contains(&part))
    };
    if order == SeqCst {
        return if keeps(Half::Total) { SeqCst } else { AcqRel };
    }
    let acquires = matches!(order, Acquire | AcqRel) && keeps(Half::Acquire);
    let releases = matches!(order, Release | AcqRel) && keeps(Half::Release);
    match (acquires, releases) {
        (true, true) => AcqRel,
        (true, false) => Acquire,
        (false, true) => Release,
        (false, false) => Relaxed,
    }
}
