//! Bugs that tests plant, to show that they would notice them. Those of the protocol are in
//! `protocol/mutant.rs`.
//!
//! A bug stands beside the code that it breaks, as `planted!(Name)`. That is constant `false` in
//! what ships. Tests of the library plant one by `plant`. In a build with `--cfg planted` the
//! environment variable `SLOTFILE_PLANTED` names the one that is planted: `tests/mutants.sh` runs
//! the tests named here with each, and they must fail. It reads the lines `Name => "BINARY
//! FILTER",` of both files.

/// Whether this bug is planted; constant `false` in what ships.
macro_rules! planted {
    ($name:ident) => {{
        #[cfg(any(test, planted))]
        {
            crate::mutant::is_planted(crate::mutant::Mutant::$name)
        }
        #[cfg(not(any(test, planted)))]
        {
            false
        }
    }};
}
pub(crate) use planted;

/// An enum of bugs, and what plants them in this thread or, in a build for that, in this process.
#[cfg(any(test, planted))]
macro_rules! mutants {
    (
        explored { $($(#[doc = $bug:literal])+ $explored:ident $(=> $tests:literal)?,)+ }
        run { $($(#[doc = $other_bug:literal])+ $other:ident => $other_tests:literal,)* }
    ) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mutant {
            $($(#[doc = $bug])+ $explored,)+
            $($(#[doc = $other_bug])+ $other,)*
        }

        impl Mutant {
            #[cfg(test)]
            pub(crate) const EXPLORED: &'static [Mutant] = &[$(Mutant::$explored,)+];
            #[cfg(planted)]
            const ALL: &'static [Mutant] = &[$(Mutant::$explored,)+ $(Mutant::$other,)*];
        }

        #[cfg(test)]
        thread_local! {
            static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
        }

        /// Plants this bug, and no other, in what the calling thread runs.
        #[cfg(test)]
        pub(crate) fn plant(mutant: Option<Mutant>) {
            PLANTED.set(mutant);
        }

        /// The bug that the environment names, here and in the processes that this one starts.
        #[cfg(planted)]
        fn named() -> Option<Mutant> {
            static NAMED: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
            *NAMED.get_or_init(|| {
                let name = std::env::var("SLOTFILE_PLANTED").ok()?;
                Mutant::ALL.iter().copied().find(|mutant| format!("{mutant:?}") == name)
            })
        }

        #[cfg(any(test, planted))]
        pub(crate) fn is_planted(mutant: Mutant) -> bool {
            #[cfg(planted)]
            if named() == Some(mutant) {
                return true;
            }
            #[cfg(test)]
            if PLANTED.get() == Some(mutant) {
                return true;
            }
            false
        }
    };
}
#[cfg(any(test, planted))]
pub(crate) use mutants;

#[cfg(any(test, planted))]
mutants! {
    // Syncing and recovery: `tests/power/simulated/` finds each on a disk that loses, tears and
    // reorders writes. Some have a test in real processes besides.
    explored {
        /// The commit is not flushed.
        NoFlush,
        /// The copies are not written out before the flush of the record.
        NoWriteOut,
        /// A range is flushed where the file system does not commit ranges.
        RangeFlushAnywhere => "system a_sync_flushes_the_whole_file",
        /// A flush that failed is tried again, without writing again.
        FlushAgain,
        /// A sync whose flush failed is acknowledged.
        AcknowledgeFailed,
        /// After a sync that failed, the next one goes on with what it remembers, and by the marks.
        RemembersAFailedSync,
        /// After a sync that failed, the next one writes into pages that the kernel could not
        /// write.
        WritesAgainWhatFailed => "durability a_full_device",
        /// A sync builds on the newest record that it sees, not on the acknowledged one.
        BuildsOnTheNewest,
        /// Where no record is acknowledged, the newest one is built on as it is, without a flush.
        LoadsWithoutFlush,
        /// A record is built on though its copies are not those that it was made of.
        SumNotCompared,
        /// A copy that could not be read, and has no part in the sum, is in use again when it can
        /// be.
        LostCopyIsFound,
        /// A sync may get the number of one that was acknowledged, and cannot be read.
        NumberTwice,
        /// The record to write is chosen by the epoch's parity.
        RecordByParity,
        /// The copy to write is chosen by the epoch's parity.
        CopyByParity,
        /// A segment counts as clean if any of its copies has its content, not only the one in use.
        CleanByAnyCopy,
        /// A small segment's unchanged slots are taken from the copy that is overwritten.
        StaleNeighbour,
        /// A slot's bytes are copied though they are others than in its last copy, at one version.
        FlippedBitCopied,
        /// The mark is written before the sync.
        MarkEarly => "processes of_sync",
        /// There is no mark. Matters where the disk rots.
        NoMark,
        /// A damaged mark counts as none at all. Likewise.
        DamagedMarkIsNone,
        /// The newest record is restored, whether it is whole or not.
        RestoresTheNewest,
        /// A record is not compared with the copies that it was made of.
        NoSum,
        /// A copy that lies beyond the file's end is an error, not a copy that is not there.
        ShortReadFails,
        /// A copy that cannot be read is an error, not a copy that is not there.
        UnreadableFails,
        /// After a restart the live area is taken for whole.
        TrustsTheLiveArea,
        /// The directory is not restored; the pages are taken that are there.
        DirectoryStays,
        /// Restoring begins with noting the identity.
        IdentityFirst => "processes of_restoring",
        /// Restoring leaves the record that it did not choose. Rare: see the history made for it.
        NoErase,
        /// Restoring ends without a flush.
        NoFlushInRestore,
        /// A restore that failed is repeated without writing the copies again.
        RestoreTrustsTheCache,
        /// A restore that failed is repeated, and what it wrote is not read back from the disk.
        BelievesASecondRestore,
        /// Restoring leaves what was defined after the sync in the space beyond the ends.
        LeavesWhatIsBeyond,
    }

    run {
        // os
        /// The times of the file are looked at, so each flush has to write new ones.
        TheTimesAreAskedFor => "durability a_sync_of_one_value",
        /// A waiter is hidden from other processes.
        TheFutexIsPrivate => "promises a_change_wakes_sleepers",
        /// Whichever file was exchanged for the new one is removed.
        TheFileAtThePathIsNotComparedAgain => "system replaces_its_own_file",
        /// A descriptor has no anchor.
        LocksEndWithTheDescriptor => "processes row_51_a_lock",
        /// A forked child keeps the locks of its parent.
        ChildrenKeepTheAnchor => "processes row_51_a_lock",
        /// A number is used though the program has closed it.
        TheNumberIsNotLookedAt => "processes row_51_a_sync",
        /// Another description of the same file passes for ours.
        TheDescriptionIsNotLookedAt => "processes another_description",
        /// Whichever file has the number passes for ours.
        TheFileBehindTheNumberIsNotCompared => "processes row_51_a_sync",
        /// A forked child that cannot open the file uses its parent's description.
        AChildKeepsItsParentsDescription => "processes a_child_that_may_not",
        /// Whichever file is at the path now is opened again.
        AnotherFileAtThePathIsTaken => "processes nowhere_says_so",
        /// A read that failed is not tried again.
        OneFailedReadRestores => "system any_fault_in_opening",
        /// Each read is a call of its own.
        NothingIsReadAhead => "lib disk::",
        /// Shared blocks are looked for in the first pieces of the file only.
        OnlyTheFirstExtentsAreLookedAt => "system many_pieces",
        /// Unsharing blocks also allocates the holes.
        HolesAreUnshared => "system blocks::row_22_a_restore_leaves_holes",
        /// A file system that cannot allocate blocks passes for one that has.
        BlocksThatCannotBeAllocatedCountAsAllocated => "system cannot_be_allocated",
        /// A sync fails where a sandbox refuses `sync_file_range`.
        NoOtherWayWithoutSyncFileRange => "system flushes_the_file",
        /// No file is made in memory where a sandbox refuses `memfd_create`.
        NoOtherWayWithoutMemfdCreate => "system a_missing_call",
        /// A compaction replaces a symbolic link, not the file.
        LinksAreNotFollowed => "system a_symbolic_link",
        /// A path changes its meaning with the working folder.
        APathIsRelative => "system a_relative_path",
        /// Another file at the path passes for the store's.
        AReplacedFileIsNotNoticed => "system whose_file_is_gone",
        /// The handler of SIGBUS knows no store's mapping.
        MappingsAreNotNoted => "system row_24",
        /// What is locked by a thread of the parent stays locked in the child of a fork.
        AChildHasItsParentsMutexes => "processes forks_in_mid_sync::",
        // mapping
        /// A sync fails where a sandbox refuses `msync`.
        NoOtherWayWithoutMsync => "system flushes_the_file",
        /// One mapping takes all addresses that are left.
        AllAddressesAreReserved => "system leaves_addresses",
        /// A change does not advance the store's event count.
        TheEventCountStays => "promises a_change_wakes_sleepers",
        /// A copy past the caches leaves out the bytes after its last whole lines.
        StreamedEndMissing => "lib past_the_caches",
        // attachment
        /// A thread keeps any entry that it gets.
        NoEntryIsLent => "processes row_52",
        /// A thread that has released its last lock keeps a lent entry.
        LoansDoNotEnd => "processes row_52",
        /// A thread that did not get a lock keeps a lent entry.
        WhatIsWaitedForInVainIsKept => "processes of_one_process",
        /// An entry is given back free though a slot still names it.
        AllEntriesAreGivenBackFree => "processes outlives_its_thread",
        /// An entry is given back as one whose locks are to be recovered.
        NoEntryIsGivenBackFree => "processes without_a_lock",
        /// An update that is over passes for the one under the lock.
        AnyUpdateIsThatOfTheLock => "processes whose_guard_is_gone",
        /// A copy of a guard passes for the one that holds the lock.
        AnyGuardIsThatOfTheLock => "processes copies_are_told",
        /// An entry passes to another process while its locks are recovered.
        AnEntryThatIsBeingSettledIsTaken => "processes being_settled",
        /// A lock that outlives its process is recovered from the process that has it.
        ALockThatWasHandedOnIsRecovered => "processes handed_on",
        /// The locks of a dead process stay until the kernel has torn it down.
        ADyingProcessIsWaitedFor => "processes handed_on",
        /// A flipped bit makes a file pass for one that was replaced.
        AnyWordSaysCompacted => "format no_flipped_bit_of_the_live_area",
        /// What the ends say is free is given out, though it is taken.
        TheEndsAreBelieved => "format no_flipped_bit_of_the_allocation_ends",
        // directory
        /// A slot is there before its space is taken.
        TheEndsAreStoredAfterTheCount => "processes of_define",
        /// A slot is there before its first content.
        TheFirstContentIsWrittenAfterTheCount => "processes of_define",
        /// A line counts before it is written.
        TheCountIsStoredBeforeTheDescriptor => "processes of_define",
        /// A slot that the index does not lead to does not exist.
        TheIndexIsBelieved => "format no_flipped_byte_of_the_index",
        /// A new slot may lie upon another one.
        WhatIsTakenIsGivenOut => "format lead_to_what_is_taken",
        /// Blocks that the call for it does not unshare stay shared.
        WhatBtrfsDoesNotUnshareStaysShared => "system blocks_shared_with_a_copy",
        // durability
        /// A sync writes over the copy that the last record names.
        TheCopyInUseIsOverwritten => "processes of_sync",
        /// A sync is acknowledged before its record is written.
        AcknowledgesEarly => "processes of_sync",
        /// A sync that has what came after a definition may lack the definition.
        NewSlotsAreMissed => "durability row_19",
        /// A sync begins anew for ever, if slots are defined all the time.
        DefinitionsAreNeverKeptOut => "durability whatever_is_defined",
        /// A page of the directory that differs from its copy is not noticed.
        TheDirectoryIsBelieved => "durability of_a_descriptor_is_believed",
        /// A check accepts a slot that differs from its copy, and that no mark leads to.
        UnmarkedChangesAreAccepted => "format no_flipped_bit_of_a_mark",
        /// A new slot exists before its segments are marked.
        ANewSlotIsMarkedLate => "processes each_change_beside_syncs",
        /// A copy that could not be read counts as read by a process that looks at marks.
        AFailedReadIsRemembered => "lib could_not_be_read_for_a_moment",
        /// A sync clears a mark without having looked at a segment that it stands for.
        MarksOfNothingAreCleared => "lib given_out_since_the_look",
        /// A sync makes slots clean in a segment that may get more slots at any moment.
        SegmentsAreCleanedTooEarly => "lib a_slot_that_is_defined_before_the_marks",
        /// A sync makes buffers clean, which change without their control word.
        BuffersAreMadeClean => "durability a_buffer_is_found",
        /// A sync clears a mark that stands for a new segment, too.
        SharedMarksAreForgotten => "lib a_mark_that_also_stands_for_a_new_segment",
        /// What was copied of one segment of a large slot counts for all of them.
        OneSegmentStandsForAll => "lib a_segment_that_is_marked_late",
        /// A check that finds copies damaged leaves it at that: no sync writes them anew.
        ADamagedCheckpointIsKept => "durability the_disk_has_lost",
        /// A sync in the background writes to the file though nothing has changed.
        AnIdleSyncWrites => "durability idle_store",
        /// The sync lock of a killed process keeps others from syncing in the background.
        TheLockOfTheDeadStays => "durability stopped_inside_a_sync",
        /// An error of the process that syncs is told to all that have joined its sync.
        EveryErrorIsOfTheFile => "lib an_error_of_one_process",
        /// The live header does not say that a sync has failed.
        AFailedSyncIsNotNoted => "durability heard_once",
        /// A file in a snapshot of btrfs passes for the one that it is a snapshot of.
        ASnapshotIsTheStore => "durability a_snapshot_of_btrfs",
        /// An unknown boot is taken for another one: the live area is thrown away.
        AnUnknownBootIsAnother => "durability without_a_boot_id",
        /// An unknown mount is taken for another one: the live area is thrown away.
        AnUnknownMountIsAnother => "durability without_sys",
        /// A part of its identity that is not known makes it another file.
        WhatIsUnknownDiffers => "durability each_part_of_the_identity",
        /// The inode in memory does not say that the live area is intact.
        TheInodeIsNotMarked => "durability without_a_boot_id",
        /// The live area counts as intact after its file system was mounted anew.
        AnyMountIsSame => "durability mounted_anew_is_noticed",
        /// The device number of an overlay, which is new with each mount, makes it another file.
        TheNumberOfAnOverlayCounts => "durability overlay_that_is_mounted_anew",
        /// The live area keeps blocks that it shares with a copy of the file.
        SharedBlocksStayShared => "system blocks_shared_with_a_copy",
        /// A check does not compare small slots with their copies.
        SmallSlotsAreNotCompared => "format bit_of_the_last_update",
        /// A check does not compare large slots with their copies.
        LargeSlotsAreNotCompared => "format bit_of_the_last_update",
        /// A check accepts a slot that is older than its copy.
        VersionsAreNotCompared => "format a_version_before",
        /// A check does not compare the areas of an array with each other.
        AreasAreNotCompared => "format no_flipped_bit_of_the_live_area",
        /// A check accepts an index that does not lead to a slot.
        IndexIsNotCompared => "format no_flipped_bit_of_the_live_area",
        /// A check of many damaged locks pauses for each of them.
        EachOddLockHasItsOwnPause => "format many_locks",
        /// A check looks for each name in all of a damaged index.
        AllOfTheIndexForEachName => "format index_of_rubbish",
        /// A check looks at the contents of slots that overlap, however many there are.
        OverlappingSlotsAreAllLookedAt => "format one_place",
        /// A check accepts copies that are not those that the record was made of.
        ALostWriteIsNotNoted => "durability the_disk_has_lost",
        /// A check accepts a lock of a reader that cannot exist.
        AnyReaderCanExist => "format a_reader_that_is_none",
        /// An entry of the process table is taken before it has a block.
        TheTableHasNoBlocks => "system process_table_does_not_grow",
        /// The index of a further tier gets no blocks.
        ATierHasNoBlocks => "system each_tier_has_all_its_blocks",
        /// A tier is noted before the allocation ends say that its space is taken.
        ATierIsNamedBeforeTheEnds => "processes defining_into_a_further_tier",
        /// A slot of a further tier exists before it is noted where that tier is.
        TheCountIsStoredBeforeTheTier => "processes names_in_further_tiers",
        /// The blocks of a tier count as there, if its definer died before its first line.
        ATierWithoutLinesKeepsItsHoles => "system a_tier_without_lines",
        /// The check of a tier's entry is not compared.
        TheEntryOfATierIsBelieved => "format row_28_nor_in_a_further_tier",
        /// A record does not say where the directory's further tiers are.
        ARecordNamesNoTiers => "format many_slots",
        /// A descriptor does not go on in the next tier.
        ATierHasNoEnd => "format many_slots",
        /// A name takes the place of another one whose hash has the same upper bits.
        NamesOfOneHashAreOne => "lib names_of_one_hash",
        /// A name is looked for in the index of the newest tier alone.
        OnlyTheNewestIndexIsProbed => "format many_slots",
        // store
        /// A store on an overlay is not asked to be written in place, as btrfs below it must be.
        AnOverlayIsNotAskedForWritingInPlace => "system on_an_overlay_on_btrfs",
        /// No store is created where files cannot be linked.
        NoOtherWayWithoutLinkat => "system a_missing_call",
        /// No store is created where `O_TMPFILE` is refused.
        NoOtherWayWithoutNamelessFiles => "system a_missing_call",
        /// A store is written though btrfs writes each change elsewhere.
        WhatBtrfsDoesNotWriteInPlaceIsWritten => "system does_not_write_in_place",
        /// The file that a compaction has replaced can be opened again.
        TheOldFileIsNotMarked => "system old_file_of_a_compacted",
        /// A compaction leaves the old content under a hard link.
        ASecondNameIsNotLookedAt => "system two_names",
        /// A compaction fails at once while others have the store open.
        ACompactionDoesNotWait => "system waits_for_others",
        /// Others in this process get the session of a file that a compaction replaces.
        AStoreThatIsBeingReplacedIsShared => "system opening_during_a_compaction",
        /// Stores that are open at `exit` are not synced.
        NothingIsLeftAtExit => "durability wherever_it_is",
        /// An opening waits for itself, as it may have to open the file again.
        AFileIsLookedAtWithinAnOpening => "system row_51",
        /// A read-only opener cannot open what cannot be restored in place.
        ReadersHaveNoCopyInMemory => "system cannot_be_allocated",
        /// The file that a compaction has replaced is opened.
        ASupersededFileIsOpened => "system old_file_of_a_compacted",
        /// A copy of a replaced file cannot be opened either.
        ACopyOfASupersededFileIsRefused => "system old_file_of_a_compacted",
        /// A store that is left does not wait for its own background sync.
        LeavingDoesNotWaitForItself => "lib leaving_waits_for_a_sync",
        /// A process that leaves the store does not sync.
        LeavingDoesNotSync => "durability wherever_it_is",
        /// Nobody is told of a background sync that failed.
        FailuresInTheBackgroundAreNotReported => "durability heard_once",
        /// A thread that ends syncs by itself, which it can no longer do.
        AThreadThatEndsSyncsByItself => "durability wherever_it_is",
        /// A process that is stopped inside a sync keeps all others from syncing, in silence.
        AStoppedSyncerIsNotNoticed => "durability stopped_inside_a_sync",
        /// To wait in vain for another process, at leaving, counts as a failed sync.
        LeavingInVainIsAFailedSync => "processes row_08_leaving_beside",
        /// Each task has a sync of its own.
        EachTaskHasItsOwnSync => "lib a_thousand_tasks_share_a_sync",
        /// A task is told of a sync in which its update may not be.
        AnySyncIsThatOfATask => "lib a_thousand_tasks_share_a_sync",
        /// An error reaches only one of the tasks for which the sync was made.
        OneTaskIsToldOfAnError => "lib an_error_reaches_each_task",
        /// A task that is dropped goes on waiting for a sync.
        ADroppedTaskStaysOnTheList => "lib a_dropped_task_is_forgotten",
        /// The thread that syncs for tasks goes on when the store has been left.
        TheTasksThreadOutlivesTheStore => "lib the_thread_ends_with_the_store",
        /// A task that the child of a fork has inherited waits for its parent's thread.
        AnInheritedTaskWaits => "promises a_forked_child_syncs_by_itself",
        /// A period of zero has the store synced without a pause.
        APeriodMayBeZero => "durability a_period_of_zero",
        /// A store counts as detached though another of its paths still leads to it.
        OnlyTheFirstPathCounts => "system all_of_its_names",
        /// `close` does not report that its sync failed.
        AFailedCloseIsNotReported => "durability closing_a_store",
        // slots
        /// A process goes on knowing each slot of a list.
        ListedSlotsAreKept => "promises lists::",
        /// A counter's first stripe is not part of its sum.
        AStripeIsNotSummed => "promises counters::it_counts",
        /// A counter that is watched by its name is not refused: nobody wakes the watcher.
        ACounterIsWatchedInSilence => "promises counters::what_it_cannot_do_is_refused",
        /// A sync that remembers a counter's copy does not look whether it was added to.
        AnAddIsNotLookedFor => "promises counters::a_sync_copies_what_was_added_since_the_last",
        /// A counter that is replaced forgets what was added meanwhile.
        ASwapOverwrites => "promises counters::no_add_is_lost_to_a_swap",
        /// A waiter sleeps long, even if it has just begun to wait and nobody is left to wake it.
        EachSleepIsLong => "processes killed_wakers::",
        /// A waiter does not notice that the file was deleted or replaced.
        AWaiterLooksForNoFile => "system a_wait_ends_when",
        // transactions
        /// A closure that goes on after a conflict, without passing it on, commits.
        ASwallowedConflictIsNone => "processes conflict_that_is_swallowed",
        /// A transaction that lost a lock waits no longer for it the next time.
        PatienceNeverGrows => "promises beside_guards_that_are_held_long",
        /// A transaction waits for a lock without a limit while it has others.
        TransactionsWaitWithLocks => "processes a_transaction_does_not_wait",
        // waiting
        /// Who waits for definitions counts them before it sets W: it misses some.
        CountsTooEarly => "lib watch::",
        /// The thread that waits for all tasks is not told of a new one.
        TheReactorIsNotWoken => "promises many_tasks",
        /// That thread does not notice that a file was deleted or replaced.
        TheReactorLooksForNoFile => "promises file_is_deleted",
    }
}
