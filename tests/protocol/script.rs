//! What the virtual threads do. Each operation runs functions that ship, and knows what they change
//! and what they may return.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::Failure;
use super::model::Waiter;
use super::replay::Run;
use super::sync::View;
use super::update;
use super::world::{Instant, SLOTS, Slot, WIDTH, World};
use crate::protocol::{
    Change, Deadline, Form, Held, Memory as _, Peers as _, REMOVED, Replacement, Sample, TxnState,
    VALUE, claim, commit_all, have_changed, load_scalar, load_scalar_versioned, lock, read,
    read_by_pieces, settle, snapshot, wait_any,
};

/// A range of bytes of Y, and the new value of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patch {
    at: usize,
    len: usize,
    to: u8,
}

/// Sets every byte of the first word of Y to this.
pub(super) const fn first(to: u8) -> Patch {
    Patch { at: 0, len: 8, to }
}

pub(super) const fn second(to: u8) -> Patch {
    Patch { at: 8, len: 8, to }
}

pub(super) const fn both(to: u8) -> Patch {
    Patch { at: 0, len: 16, to }
}

/// Half of the first word and half of the second.
pub(super) const fn middle(to: u8) -> Patch {
    Patch { at: 4, len: 8, to }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// Takes this entry once its holder is gone; if refused, the spare one.
    Claim(u8),
    /// Gives the entry back.
    Release,
    /// Locks Y and commits.
    Update(Patch),
    /// Adds to X.
    Add(u64),
    /// Adds to X and changes Y, both at once.
    Transaction(u64, Patch),
    /// Changes X alone, in a transaction.
    TransactionOfX(u64),
    /// Locks Y and unlocks it.
    Guard,
    /// Locks Y, gives the entry back, and only then unlocks Y, as a thread that ends may do.
    GuardBeyondEntry,
    /// As `Guard`, but gives up if it was woken once and another thread has the lock.
    GuardOnce,
    /// Changes Y and adds to X under guards of both.
    UnderGuards(u64, Patch),
    /// The same in a transaction, with a guard of Y alone.
    TransactionUnderGuard(u64, Patch),
    /// Removes this slot.
    Remove(Slot),
    Load,
    LoadVersioned,
    Read,
    /// Reads by pieces, as a reader that may not lock does after losses.
    Follow,
    Snapshot,
    /// Loads this slot, then the other one, then checks the first again.
    SnapshotByLoads(Slot),
    /// Waits until one of these slots has another version than at the beginning of the program.
    Await(&'static [Slot]),
    /// The first part of a sync: finds what has changed and saves it, with the sync lock, which it
    /// keeps.
    Cut,
    /// The same, but the flush fails: nothing is saved, and the lock is released.
    CutInVain,
    /// The second part, after a `Cut`.
    Clean,
}

/// The entry that no thread begins with.
const SPARE: u8 = 3;

#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing was read.
    Done,
    Removed(Slot),
    Failed(Failure),
    X(u64),
    VersionedX(u64, u64),
    VersionedY([u64; WIDTH], u64),
    Both(u64, [u64; WIDTH]),
    /// These slots have another version than at the beginning of the program.
    Changed(Vec<Slot>),
    /// A sync has found something new, and must look again.
    Found(View),
}

impl Op {
    /// Runs the operation.
    pub(super) fn perform<const LOSSES: u32>(&self, run: &Run<'_>) -> Outcome {
        let x = run.memory::<LOSSES>(Slot::X);
        let y = run.memory::<LOSSES>(Slot::Y);
        let (x, y) = (&x, &y);
        let Form::Areas(areas) = y.form() else { unreachable!("Y has areas") };
        let deadline = &mut Deadline::new(None);
        let held_x = |deadline: &mut Deadline| -> Result<Held<(&_, &_)>, Outcome> {
            let held = run.locking(|| lock((x, run), deadline));
            held.map_err(|failure| Outcome::of_failure(Slot::X, failure))
        };
        let held_y = |deadline: &mut Deadline| -> Result<Held<(&_, &_)>, Outcome> {
            let held = run.locking(|| lock((y, run), deadline));
            held.map_err(|failure| Outcome::of_failure(Slot::Y, failure))
        };
        let mut perform = || -> Result<Outcome, Outcome> {
            match *self {
                Op::Claim(wanted) => {
                    let settle_all = |owner| {
                        settle(x, run, owner);
                        settle(y, run, owner);
                    };
                    let claimed = [wanted, SPARE].into_iter().find(|entry| {
                        let owner = u16::from(*entry) + 1;
                        run.claim(|| {
                            run.one_at_a_time(|| {
                                claim(run, owner, || {
                                    settle_all(owner);
                                    true
                                })
                            })
                        })
                    });
                    run.entry_is(claimed.expect("no other thread claims the spare entry"));
                }
                Op::Release => {
                    // Release: a thread that sees FREE sees that no slot names the entry.
                    run.set_txn_word(run.owner(), TxnState::Free, Release);
                    run.let_go_of_entry();
                }
                Op::Update(patch) => {
                    let held = held_y(deadline)?;
                    held.commit(&areas, patch.at, &vec![patch.to; patch.len])
                        .map_err(Outcome::Failed)?;
                }
                Op::Add(n) => {
                    let add = |value: u64| Some(value + n);
                    let added = run.looping(|| update(x, run, deadline, false, add));
                    added.map_err(|failure| Outcome::of_failure(Slot::X, failure))?.ok();
                }
                Op::Transaction(n, patch) => {
                    let held_x = held_x(deadline)?;
                    let value = x.load(VALUE, Relaxed) + n;
                    let held_y = held_y(deadline)?;
                    let data = vec![patch.to; patch.len];
                    let change =
                        Change::Area(Replacement { areas: &areas, at: patch.at, data: &data });
                    let changes = [(held_x, Change::Scalar(value)), (held_y, change)];
                    commit_all(run, run.owner(), &changes[..]).map_err(Outcome::Failed)?;
                }
                Op::TransactionOfX(n) => {
                    let held = held_x(deadline)?;
                    let value = x.load(VALUE, Relaxed) + n;
                    let changes = [(held, Change::Scalar(value))];
                    commit_all(run, run.owner(), &changes[..]).map_err(Outcome::Failed)?;
                }
                Op::Guard => drop(held_y(deadline)?),
                Op::GuardBeyondEntry => {
                    let held = held_y(deadline)?;
                    run.let_go_of_byte();
                    drop(held);
                }
                Op::GuardOnce => {
                    let has_slept = run.world.borrow().threads[run.thread].has_slept;
                    let looks = if has_slept { 1 } else { 3 };
                    match held_y(&mut Deadline::of_looks(looks)) {
                        Err(Outcome::Failed(Failure::Timeout(_))) => {}
                        held => drop(held?),
                    }
                }
                Op::UnderGuards(n, patch) => {
                    let mut guard_x = held_x(deadline)?;
                    let mut guard_y = held_y(deadline)?;
                    // A second lock is refused; the holder's own updates go through.
                    let again = lock((y, run), deadline);
                    assert!(matches!(again, Err(Failure::Deadlock)));
                    let add = |value: u64| Some(value + n);
                    let added = update(x, run, deadline, true, add);
                    added.map_err(Outcome::Failed)?.expect("add always stores");
                    let data = vec![patch.to; patch.len];
                    let nested = Held::under_guard((y, run), 1).expect("it is locked");
                    nested.commit(&areas, patch.at, &data).map_err(Outcome::Failed)?;
                    guard_y.follow_updates();
                    drop(guard_y);
                    guard_x.follow_updates();
                    drop(guard_x);
                }
                Op::TransactionUnderGuard(n, patch) => {
                    let held_x = held_x(deadline)?;
                    let value = x.load(VALUE, Relaxed) + n;
                    let mut guard_y = held_y(deadline)?;
                    let data = vec![patch.to; patch.len];
                    let change =
                        Change::Area(Replacement { areas: &areas, at: patch.at, data: &data });
                    let nested = Held::under_guard((y, run), 1).expect("it is locked");
                    let changes = [(held_x, Change::Scalar(value)), (nested, change)];
                    commit_all(run, run.owner(), &changes[..]).map_err(Outcome::Failed)?;
                    // The guard still holds.
                    let again = lock((y, run), deadline);
                    assert!(matches!(again, Err(Failure::Deadlock)));
                    guard_y.follow_updates();
                    drop(guard_y);
                }
                Op::Remove(Slot::X) => {
                    held_x(deadline)?.remove().map_err(Outcome::Failed)?;
                }
                Op::Remove(Slot::Y) => {
                    held_y(deadline)?.remove().map_err(Outcome::Failed)?;
                }
                Op::Cut | Op::CutInVain => {
                    let fails = matches!(self, Op::CutInVain);
                    if let Some(view) = run.cut([x, y], &areas, fails) {
                        return Ok(Outcome::Found(view));
                    }
                }
                Op::Clean => run.clean([x, y]),
                Op::Load => return Ok(Outcome::X(load_scalar(x, run))),
                Op::LoadVersioned => {
                    let (value, version) = load_scalar_versioned(x, run);
                    return Ok(Outcome::VersionedX(value, version));
                }
                Op::Read => {
                    let mut content = [0; WIDTH];
                    let version = read(y, run, &areas, |y, area| content = content_of(y, area));
                    return Ok(Outcome::VersionedY(content, version));
                }
                Op::Follow => {
                    let mut bytes = [[0; 8]; WIDTH];
                    let version = read_by_pieces(y, run, &areas, 0, bytes.as_flattened_mut());
                    return Ok(Outcome::VersionedY(bytes.map(u64::from_le_bytes), version));
                }
                Op::Snapshot => {
                    let mut both = (0, [0; WIDTH]);
                    snapshot(
                        run,
                        &mut [0; 2],
                        |place| [x, y][place],
                        |place, memory, sample| {
                            match sample {
                                Sample::Scalar(value) => both.0 = value,
                                Sample::Area(area) => both.1 = content_of(memory, area),
                            }
                            run.has_read(SLOTS[place]);
                        },
                    );
                    return Ok(Outcome::Both(both.0, both.1));
                }
                Op::SnapshotByLoads(first) => loop {
                    let load_x = || load_scalar_versioned(x, run);
                    let load_y = || {
                        let mut content = [0; WIDTH];
                        let version = read(y, run, &areas, |y, area| content = content_of(y, area));
                        (content, version)
                    };
                    let (value, content, seen) = match first {
                        Slot::X => {
                            let ((value, version), (content, _)) = (load_x(), load_y());
                            (value, content, (x, version))
                        }
                        Slot::Y => {
                            let ((content, version), (value, _)) = (load_y(), load_x());
                            (value, content, (y, version))
                        }
                    };
                    if !have_changed(run, [seen].into_iter(), |_| ()) {
                        return Ok(Outcome::Both(value, content));
                    }
                    x.relax();
                },
                Op::Await(slots) => {
                    let memory = |slot: &Slot| if *slot == Slot::X { x } else { y };
                    let awaited: Vec<_> =
                        slots.iter().map(|slot| (memory(slot), run.scenario.version)).collect();
                    let mut waiter = Waiter { run, slots, heard: 0 };
                    let changed = run.looping(|| wait_any(&awaited, deadline, &mut waiter));
                    let changed =
                        changed.map_err(|(at, failure)| Outcome::of_failure(slots[at], failure))?;
                    return Ok(Outcome::Changed(changed.into_iter().map(|at| slots[at]).collect()));
                }
            }
            Ok(Outcome::Done)
        };
        perform().unwrap_or_else(|failed| failed)
    }

    /// What the operation adds to X, and what it changes in Y.
    fn changes(&self) -> (Option<u64>, Option<Patch>) {
        match *self {
            Op::Update(patch) => (None, Some(patch)),
            Op::Add(n) | Op::TransactionOfX(n) => (Some(n), None),
            Op::Transaction(n, patch)
            | Op::UnderGuards(n, patch)
            | Op::TransactionUnderGuard(n, patch) => (Some(n), Some(patch)),
            _ => (None, None),
        }
    }

    pub(super) fn writes(&self, slot: Slot) -> bool {
        let (n, patch) = self.changes();
        match slot {
            Slot::X => n.is_some(),
            Slot::Y => patch.is_some(),
        }
    }

    /// Applies to `now` what the operation does to this slot when it commits.
    pub(super) fn change(&self, slot: Slot, now: &mut Instant) {
        let (n, patch) = self.changes();
        match slot {
            Slot::X => now.x += n.unwrap_or(0),
            Slot::Y => {
                if let Some(Patch { at, len, to }) = patch {
                    let mut bytes = now.y.map(u64::to_le_bytes);
                    bytes.as_flattened_mut()[at..at + len].fill(to);
                    now.y = bytes.map(u64::from_le_bytes);
                }
            }
        }
    }

    pub(super) fn waits_for_change(&self) -> bool {
        matches!(self, Op::Await(_))
    }

    pub(super) fn reads(&self) -> bool {
        matches!(
            self,
            Op::Load
                | Op::LoadVersioned
                | Op::Read
                | Op::Follow
                | Op::Snapshot
                | Op::SnapshotByLoads(_)
                | Op::Cut
                | Op::CutInVain
        )
    }

    /// Whether the operation may return this: for a read, what was committed at some instant since
    /// it began.
    pub(super) fn check(
        &self,
        outcome: &Outcome,
        world: &World,
        thread: usize,
        begin: u64,
    ) -> Result<(), String> {
        let seen = world.seen_by(thread);
        let among = |what: String, is: &dyn Fn(&Instant) -> bool| {
            if seen.iter().any(is) {
                Ok(())
            } else {
                Err(format!("never was {what}, only {seen:?}"))
            }
        };
        match *outcome {
            Outcome::Done | Outcome::Found(_) => Ok(()),
            Outcome::Removed(slot) if world.control(slot).owner() == REMOVED => Ok(()),
            Outcome::Removed(slot) => Err(format!("{slot:?} is not removed")),
            Outcome::Failed(ref failure) => Err(format!("{self:?} failed: {failure:?}")),
            Outcome::X(x) => among(format!("X = {x}"), &|i| i.x == x),
            Outcome::VersionedX(x, v) => {
                among(format!("X = {x}, version {v}"), &|i| (i.x, i.versions[0]) == (x, v))
            }
            Outcome::VersionedY(y, v) => {
                among(format!("Y = {y:x?}, version {v}"), &|i| (i.y, i.versions[1]) == (y, v))
            }
            Outcome::Changed(ref slots) if slots.is_empty() => Err("woken for nothing".into()),
            Outcome::Changed(ref slots) => {
                let has_changed = |slot: &Slot| world.now().versions[*slot as usize] != begin;
                let all = slots.iter().all(has_changed);
                if all { Ok(()) } else { Err(format!("{slots:?} have not all changed")) }
            }
            Outcome::Both(x, y) => among(format!("X = {x}, Y = {y:x?}"), &|i| (i.x, i.y) == (x, y)),
        }
    }
}

impl Outcome {
    fn of_failure(slot: Slot, failure: Failure) -> Outcome {
        match failure {
            Failure::Removed => Outcome::Removed(slot),
            failure => Outcome::Failed(failure),
        }
    }
}

fn content_of(memory: &impl crate::protocol::Memory, area: usize) -> [u64; WIDTH] {
    let mut bytes = [[0; 8]; WIDTH];
    memory.read(area, 0, bytes.as_flattened_mut());
    bytes.map(u64::from_le_bytes)
}
