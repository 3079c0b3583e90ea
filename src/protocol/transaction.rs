//! Several slots at once: committing them by one word, and reading them as of one
//! instant.

#![cfg_attr(not(test), expect(dead_code, reason = "public with Store::transaction"))]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::array::effective_version;
use super::lock::{lock, publish, settle_draft};
use super::scalar::sample;
use super::{Areas, Control, DRAFT, Failure, Form, Held, Memory, Patience, Peers, Word, planted};

/// What a transaction does to one slot.
pub(crate) enum Change<'d> {
    /// Replaces a scalar.
    Scalar(u64),
    /// Replaces the bytes from byte `at` of the current area.
    Area { areas: Areas, at: usize, data: &'d [u8] },
}

/// Commits the changes of all these slots, which this thread has locked, at once.
/// From here on nothing but death can fail, and if it comes, those who bury finish.
/// (The child of a fork has no locks to commit under: [`Failure::Evicted`], at once.)
pub(crate) fn commit_all<M: Memory, P: Peers>(
    peers: &P,
    me: super::Owner,
    changes: Vec<(Held<'_, M, P>, Change<'_>)>,
) -> Result<(), Failure> {
    if changes.iter().any(|(held, _)| held.is_of_parent()) {
        return Err(Failure::Evicted);
    }
    for (held, change) in &changes {
        match change {
            Change::Area { areas, at, data } => held.fill(areas, *at, data),
            Change::Scalar(value) => {
                // Release: who sees the draft sees the lock under which it was stored.
                held.memory.fence(Release);
                held.memory.store(DRAFT, *value, Relaxed);
            }
        }
    }
    for (held, _) in &changes {
        set_transaction(held.memory, held.control);
    }
    // The one commit point. Release: who sees it sees every draft and every area.
    peers.set_word(me, Word::Committed, Release);
    if planted!(IdleBeforeSettling) {
        peers.set_word(me, Word::Idle, Release);
    }
    for (held, change) in &changes {
        let old = held.control.with_transaction(true);
        let new = held.committed();
        match change {
            Change::Scalar(_) => settle_draft(held.memory, old, new),
            Change::Area { .. } => {
                publish(held.memory, old, new);
            }
        }
    }
    // Release: who sees IDLE sees every slot settled.
    peers.set_word(me, Word::Idle, Release);
    Ok(())
}

/// Sets T; W may be set by others at any time, and stays.
fn set_transaction<M: Memory>(memory: &M, locked: Control) {
    let mut seen = locked;
    // Release: who sees T sees the draft, or the area, it announces.
    while let Err(now) = memory.swap_control(seen, seen.with_transaction(true), Release) {
        if !now.same(locked) {
            return; // evicted: those who buried us have settled it
        }
        seen = now;
    }
}

/// Where a snapshot finds a slot's content.
pub(crate) enum Sample {
    /// The value itself.
    Scalar(u64),
    /// The first word of the area to copy.
    Area(usize),
}

/// Reads all these slots as they were at one instant. `copy` is called for each of
/// them, in order, and for all of them again whenever one has changed meanwhile.
pub(crate) fn snapshot<M: Memory, P: Peers>(
    peers: &P,
    slots: &[(&M, Form)],
    patience: &mut Patience,
    mut copy: impl FnMut(usize, &M, Sample),
) -> Result<(), Failure> {
    let mut versions = vec![0; slots.len()];
    let look = |memory: &M| -> u64 {
        if planted!(SnapshotComparesControls) {
            memory.control(Acquire).with_waiters(false).bits()
        } else {
            effective_version(memory, peers)
        }
    };
    for _ in 0..M::LOSSES_BEFORE_LOCK {
        for (i, (memory, form)) in slots.iter().enumerate() {
            let control = planted!(SnapshotComparesControls).then(|| look(memory));
            match form {
                Form::Areas(areas) => {
                    versions[i] = effective_version(*memory, peers);
                    copy(i, memory, Sample::Area(areas.of(versions[i])));
                }
                Form::Scalar | Form::Lock => {
                    let (value, version) = sample(*memory, peers);
                    versions[i] = version;
                    copy(i, memory, Sample::Scalar(value));
                }
            }
            versions[i] = control.unwrap_or(versions[i]);
        }
        // Acquire: each version is looked at again after everything was copied.
        if let Some((memory, _)) = slots.first() {
            memory.fence(Acquire);
        }
        // All unchanged: at the moment this check began, all of them were current.
        if slots.iter().zip(&versions).all(|((memory, _), version)| look(memory) == *version) {
            return Ok(());
        }
        if let Some((memory, _)) = slots.first() {
            memory.relax();
        }
    }
    let mut held = Vec::with_capacity(slots.len());
    for (memory, form) in slots {
        held.push(lock(*memory, peers, *form, patience)?);
    }
    for (i, ((memory, form), held)) in slots.iter().zip(&held).enumerate() {
        let sample = match form {
            Form::Areas(areas) => Sample::Area(areas.of(held.version())),
            // Relaxed: under the lock nothing changes.
            Form::Scalar | Form::Lock => Sample::Scalar(memory.load(super::VALUE, Relaxed)),
        };
        copy(i, memory, sample);
    }
    Ok(())
}
