//! Bugs that tests plant, to show that they would notice them. Those of the protocol are in
//! `protocol/mutant.rs`.
//!
//! A bug stands beside the code that it breaks, as `planted!(Name)`. That is constant `false` in
//! what ships. Tests of the library plant one by `plant`. In a build with `--cfg planted` the
//! environment variable `SLOTFILE_PLANTED` names the one that is planted: `tests/mutants.sh` runs
//! the tests named here with each, and they must fail. It reads the lines `Name => "BINARY FILTER",`
//! of both files.

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
    };
}

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
        RangeFlushAnywhere,
        /// A flush that failed is tried again, without writing again.
        FlushAgain,
        /// A sync whose flush failed is acknowledged.
        AcknowledgeFailed,
        /// After a sync that failed, the next one goes on with what it remembers.
        RemembersAFailedSync,
        /// After a sync that failed, the next one writes into pages that the kernel could not write.
        WritesAgainWhatFailed,
        /// A sync builds on the newest record that it sees, not on the acknowledged one.
        BuildsOnTheNewest,
        /// Where no record is acknowledged, the newest one is built on as it is, without a flush.
        LoadsWithoutFlush,
        /// A record is built on though its copies are not those that it was made of.
        SumNotCompared,
        /// A copy that could not be read, and has no part in the sum, is in use again when it can be.
        LostCopyIsFound,
        /// A sync may get the number of one that was acknowledged, and cannot be read.
        NumberTwice,
        /// The record to write is chosen by the epoch's parity.
        RecordByParity,
        /// The copy to write is chosen by the epoch's parity.
        CopyByParity,
        /// A unit counts as clean if any of its copies has its content, not only the one in use.
        CleanByAnyCopy,
        /// A small unit's unchanged slots are taken from the copy that is overwritten.
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
        // mapping
        // attachment
        // directory
        // durability
        // store
        // slots
        // transactions
        // waiting
    }
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
