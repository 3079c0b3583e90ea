//! Bugs planted in the protocol, for the tests to find. An earlier form of the design had them, or
//! they would be easy to make.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A stale range is cleared once the update is committed: the next writer's is lost.
    ClearStaleAfterCommit,
    /// A lock that ends without a commit leaves the version: a torn read passes.
    RecoveryKeepsVersion,
    /// The transaction word is IDLE again before its slots are settled.
    IdleBeforeSettling,
    /// The transaction word is believed without a second look at the control word.
    NoSecondLookAtControl,
    /// A snapshot compares control words, not effective versions.
    SnapshotComparesControls,
    /// A snapshot does not look again at what it has read.
    SnapshotWithoutRecheck,
    /// A recovery does not hold the dead owner's byte.
    RecoverWithoutByte,
    /// An entry is claimed without settling what its last holder left.
    ClaimWithoutRecovery,
    /// The stale ranges are stored after the area was written.
    NoteStaleLate,
    /// The commit comes before the area is whole.
    CommitEarly,
    /// A reader accepts an area that is perhaps being written.
    ReaderAcceptsTorn,
    /// The stale range of the area that was current is not set.
    CurrentNotStale,
    /// A draft is believed without a second look at the control word.
    DraftWithoutRecheck,
    /// A waiter sleeps without setting W.
    SleepWithoutW,
    /// W is set on the current control word, not on the one that was looked at.
    AnnounceUnseen,
    /// A thread that clears W wakes nobody.
    ClearWithoutWake,
    /// The lock to release is recognised by its owner, not by its control word.
    DropByOwner,
    /// A removal leaves the version.
    RemoveKeepsVersion,
    /// Undoing a transaction releases a lock that is under a guard.
    UndoFreesGuard,
    /// A waiter for a lock that is free, but always taken first by others, never gives up.
    NoTimeoutWhileLosing,
    /// A reader's lock is waited for like a writer's.
    ReadersAreWaitedFor,
    /// A copy made under a reader's lock is assumed to be whole.
    ReadLockIsTrusted,
    /// A thread that releases a lock wakes any sleeper, even one that waits for a change.
    WakeAnyone,
    /// A woken waiter takes the lock without setting L, though others still sleep.
    TakeWithoutL,
    /// A woken waiter gives up without waking another.
    GiveUpSilently,
    /// A commit under a guard clears L.
    GuardClearsL,
    /// A thread that releases a lock clears W, and wakes none of those that wait for a change.
    LockClearsW,
    /// No lock is handed over to an overtaken waiter.
    NoHandOver,
    /// The bell is rung before the slot has changed.
    RingEarly,
    /// A reader that follows the updates does not copy again what they have changed.
    FollowerMissesChange,
    /// A reader that follows the updates takes the last one's range for those of all it has missed.
    FollowerTrustsRange,
}

impl Mutant {
    pub(crate) const ALL: [Mutant; 31] = [
        Mutant::ClearStaleAfterCommit,
        Mutant::RecoveryKeepsVersion,
        Mutant::IdleBeforeSettling,
        Mutant::NoSecondLookAtControl,
        Mutant::SnapshotComparesControls,
        Mutant::SnapshotWithoutRecheck,
        Mutant::RecoverWithoutByte,
        Mutant::ClaimWithoutRecovery,
        Mutant::NoteStaleLate,
        Mutant::CommitEarly,
        Mutant::ReaderAcceptsTorn,
        Mutant::CurrentNotStale,
        Mutant::DraftWithoutRecheck,
        Mutant::SleepWithoutW,
        Mutant::AnnounceUnseen,
        Mutant::ClearWithoutWake,
        Mutant::DropByOwner,
        Mutant::RemoveKeepsVersion,
        Mutant::UndoFreesGuard,
        Mutant::NoTimeoutWhileLosing,
        Mutant::ReadersAreWaitedFor,
        Mutant::ReadLockIsTrusted,
        Mutant::WakeAnyone,
        Mutant::TakeWithoutL,
        Mutant::GiveUpSilently,
        Mutant::GuardClearsL,
        Mutant::LockClearsW,
        Mutant::NoHandOver,
        Mutant::RingEarly,
        Mutant::FollowerMissesChange,
        Mutant::FollowerTrustsRange,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Plants this bug, and no other, in the protocol as run by the calling thread.
pub(crate) fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

pub(crate) fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}
