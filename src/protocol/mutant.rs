//! Bugs planted in the protocol, for the tests to find. Each is one that an
//! earlier form of the design had, or that would be easy to make.

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
    /// A recovery does not hold the dead one's byte.
    RecoverWithoutByte,
    /// An entry is claimed without settling what its last holder left.
    ClaimWithoutRecovery,
    /// The stale ranges are noted after the area was written.
    NoteStaleLate,
    /// The commit comes before the area is whole.
    CommitEarly,
    /// A reader accepts an area that may be being written.
    ReaderAcceptsTorn,
    /// The stale range of the area that was current is not set.
    CurrentNotStale,
    /// A draft is believed without a second look at the control word.
    DraftWithoutRecheck,
    /// A waiter sleeps without saying so.
    SleepWithoutW,
    /// W is set on whatever the control word is by now, not on the one that was looked at.
    AnnounceUnseen,
    /// Who clears W wakes nobody.
    ClearWithoutWake,
    /// A lock that is let go of is recognised by its owner, not by its control word.
    DropByOwner,
    /// A removal leaves the version.
    RemoveKeepsVersion,
    /// A transaction that is undone lets go of what is under a guard.
    UndoFreesGuard,
    /// Who wants a lock that is free, and is always late, never gives up.
    NoTimeoutWhileLosing,
    /// A reader's lock is waited for as a writer's.
    ReadersAreWaitedFor,
    /// What was read under a reader's lock is taken for whole.
    ReadLockIsTrusted,
    /// Who lets go of a lock wakes anyone who sleeps, be it one who waits for a change.
    WakeAnyone,
    /// Who was woken and takes the lock does not set L, though others sleep still.
    TakeWithoutL,
    /// Who was woken and gives up does not have another woken.
    GiveUpSilently,
    /// A commit under a guard clears L.
    GuardClearsL,
    /// Who lets go of a lock clears W, and wakes none of those who wait for a change.
    LockClearsW,
    /// No lock is handed over to who was overtaken.
    NoHandOver,
    /// The bell is rung before the slot has changed.
    RingEarly,
    /// Who follows the updates does not copy again what they have changed.
    FollowerMissesChange,
    /// Who follows the updates takes the range of the last one for that of all that it has missed.
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
