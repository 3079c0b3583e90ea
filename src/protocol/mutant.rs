//! Bugs planted in the protocol, for the tests to find. An earlier form of the design had them, or
//! they would be easy to make. The exhaustive checker finds each (`tests/protocol/`); the tests
//! named here find some in real processes, as `src/mutant.rs` says.

#[cfg(any(test, planted))]
use crate::mutant::mutants;

/// Whether this bug is planted; constant `false` in what ships.
macro_rules! planted {
    ($name:ident) => {{
        #[cfg(any(test, planted))]
        {
            crate::protocol::mutant::is_planted(crate::protocol::mutant::Mutant::$name)
        }
        #[cfg(not(any(test, planted)))]
        {
            false
        }
    }};
}
pub(super) use planted;

#[cfg(any(test, planted))]
mutants! {
    explored {
        /// A stale range is cleared once the update is committed: the next writer's is lost.
        ClearStaleAfterCommit,
        /// A lock that ends without a commit leaves the version: a torn read passes.
        RecoveryKeepsVersion => "processes half_written",
        /// The transaction word is IDLE again before its slots are settled.
        IdleBeforeSettling => "processes of_burying_a_transaction",
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
        NoteStaleLate => "processes array_update",
        /// The commit comes before the area is whole.
        CommitEarly => "processes array_update",
        /// A reader accepts an area that is perhaps being written.
        ReaderAcceptsTorn,
        /// The stale range of the area that was current is not set.
        CurrentNotStale => "processes array_update",
        /// A draft is believed without a second look at the control word.
        DraftWithoutRecheck,
        /// A waiter sleeps without setting W.
        SleepWithoutW => "promises a_change_wakes_sleepers",
        /// W is set on the current control word, not on the one that was looked at.
        AnnounceUnseen,
        /// A thread that clears W wakes nobody.
        ClearWithoutWake => "promises a_change_wakes_sleepers",
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
        /// The event count advances before the slot has changed.
        EventCountedEarly,
        /// A reader that follows the updates does not copy again what they have changed.
        FollowerMissesChange,
        /// A reader that follows the updates takes the last one's range for those of all it has
        /// missed.
        FollowerTrustsRange,
        /// A reader that may not lock copies all again after each update.
        LargeReadsBeginAnew,
        /// The transaction word is COMMITTED before its slots name it.
        CommittedBeforeT => "processes of_a_transaction_of_three_slots",
        /// A transaction commits before its areas are whole.
        AreasFilledAfterTheCommit => "processes of_a_transaction_of_three_slots",
        /// A sync gets its number after it has looked at the slots.
        NumberAfterLook,
        /// A caller joins the sync that has begun before it came.
        JoinsInFlight,
        /// Callers are told of success before the sync is durable.
        DoneBeforeFlush => "processes those_who_have_joined",
        /// Callers are told that a failed sync was done.
        FailureCountsAsDone => "lib an_error_of_the_file",
        /// Callers are not told that the sync which they have joined has failed.
        FailureUntold => "lib an_error_of_the_file",
        /// The end of a sync wakes none of those that wait for it.
        LeaderWakesNobody,
        /// The first update after a sync marks its segment after it has committed.
        MarkedAfterTheCommit,
        /// An update of a clean slot marks its segment without touching the slot.
        CleanIsNotTouched,
        /// A slot that was touched looks dirty: others commit before its segment is marked.
        TouchedLooksDirty,
        /// A slot that another thread has touched counts as marked.
        TouchedCountsAsMarked,
        /// A mark that was seen before the touch counts.
        MarkSeenBeforeTheTouch,
        /// A commit leaves the slot clean.
        CommitKeepsState,
        /// The recovery of a lock marks nothing.
        RecoveryMarksNothing,
        /// The recovery of the lock of a slot with segments of its own marks none of them.
        RecoveryMarksNoneOfItsOwn,
        /// A removal marks nothing.
        RemovalMarksNothing,
        /// A transaction marks its slots after its commit point.
        TransactionMarksLate,
        /// A dirty slot with segments of its own counts as marked, in all of them.
        DirtyCountsAsMarked,
        /// A sync takes a slot that was removed for what its copy says.
        RemovedCountsAsCopied,
        /// Later looks of a sync are at the marks of the first.
        MarksOfTheFirstLook,
        /// Marks are cleared when a sync looks at them, not when it has succeeded.
        MarksClearedByTheLook,
        /// Marks are cleared after the slots were made clean.
        MarksClearedLast,
        /// A sync does not note which marks it is clearing.
        CleaningIsNotNoted,
        /// A sync notes that it has cleared the marks before all slots are clean.
        CleaningEndsEarly,
        /// Who follows a killed sync forgets what that was clearing before it has set the marks.
        CleaningForgottenFirst,
        /// A slot is made clean though it has changed since it was copied.
        CleanWithoutTheVersion,
        /// A slot is made clean in a transaction.
        CleanInTransaction,
        /// A slot that was touched is made clean.
        TouchedIsMadeClean,
        /// A slot that was touched does not get its mark back.
        TouchedIsNotMarkedAgain,
        /// Of a slot's own segments, one alone gets its mark back.
        OneSegmentIsMarkedAgain,
        /// Of segments that share a mark, those with greater numbers do not get it back.
        SharersAreForgotten,
    }

    run {
        /// A reader keeps its lock for as long as it is stopped.
        AStoppedReaderIsWaitedFor => "processes stopped_readers::",
    }
}
