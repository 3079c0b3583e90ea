//! Bugs that can be planted into the model. Each must be found, or the model says nothing.

macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mutant { $($(#[doc = $what])+ $name,)+ }

        impl Mutant {
            pub(crate) const ALL: &'static [Mutant] = &[$(Mutant::$name,)+];
        }
    };
}

mutants! {
    /// A sync builds on the newest record it sees, not on the acknowledged one.
    BuildsOnTheNewest,
    /// A unit counts as clean if any of its copies has its version, not only the one in use.
    CleanByAnyCopy,
    /// Restoring ends without an fsync.
    NoFsyncInRestore,
    /// A record is not compared with the copies that it was made of.
    NoSum,
    /// The directory is not checkpointed; restoring takes the pages that it finds.
    NoDirectory,
    /// Restoring begins with noting the identity.
    IdentityFirst,
    /// The record to write is chosen by the epoch's parity.
    RecordByParity,
    /// The copy to write is chosen by the epoch's parity.
    CopyByParity,
    /// The flush leaves out the file's length.
    NoSize,
    /// A flush that failed is tried again, without writing again.
    FlushAgain,
    /// A sync whose flush failed is acknowledged.
    AcknowledgeFailed,
    /// The mark is written before the sync.
    MarkEarly,
    /// One who only reads, and has not restored, counts as somebody to join.
    JoinsAReader,
    /// The commit is not flushed.
    NoFlush,
    /// The sync lock is taken from one who was only stopped.
    LockStolen,
    /// A small unit's other slot is taken from the copy that is overwritten.
    StaleNeighbour,
    /// A restore that failed is repeated without writing the copies again.
    RestoreTrustsTheCache,
    /// Restoring leaves the record that it did not choose. Rare: see the history made for it.
    NoErase,
    /// There is no mark. Matters where the disk rots only.
    NoMark,
    /// A damaged mark counts as none at all. Likewise.
    DamagedMarkIsNone,
}
