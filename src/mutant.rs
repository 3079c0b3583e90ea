//! Bugs that tests plant into syncing and recovery: `tests/power/` must find each. Those of the
//! protocol are in `protocol/mutant.rs`.

/// Whether a bug planted for a test is switched on; constant `false` in what ships.
macro_rules! planted {
    ($mutant:ident) => {{
        #[cfg(test)]
        {
            crate::mutant::is_planted(crate::mutant::Mutant::$mutant)
        }
        #[cfg(not(test))]
        {
            false
        }
    }};
}
pub(crate) use planted;

#[cfg(test)]
macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mutant { $($(#[doc = $what])+ $name,)+ }

        impl Mutant {
            pub(crate) const ALL: &'static [Mutant] = &[$(Mutant::$name,)+];
        }
    };
}

#[cfg(test)]
mutants! {
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
    MarkEarly,
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
    IdentityFirst,
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

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Plants this bug, and no other, in what the calling thread runs.
#[cfg(test)]
pub(crate) fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

#[cfg(test)]
pub(crate) fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}
