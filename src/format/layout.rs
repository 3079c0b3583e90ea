//! The format: where everything lies in the file, as offsets and plain structs. `docs/format.md`
//! says the same in prose. Little-endian, no `usize`.

use bytemuck::{Pod, Zeroable};

use crate::format::regions::Regions;

#[cfg(target_endian = "big")]
compile_error!("the format is little-endian, and so must the processor be");

/// The first eight bytes of every store.
pub(crate) const MAGIC: [u8; 8] = *b"SLOTFILE";
/// The newest format that this build reads, and the one it writes: major and minor.
pub(crate) const FORMAT: (u32, u32) = (1, 1);

/// Regions start on a multiple of this and are allocated in multiples of it.
pub(crate) const GRANULE: u64 = 64 * 1024;
/// Live slots and copies never share an aligned run of this size. So the kernel never keeps both in
/// one large page.
pub(crate) const RUN: u64 = 2 * 1024 * 1024;

/// Bytes of the static header, including its CRC. It has a page of its own.
pub(crate) const HEADER_LEN: usize = 4096;
/// Where the live header is.
pub(crate) const LIVE_HEADER: u64 = GRANULE;
/// Where the process table is.
pub(crate) const TABLE: u64 = 2 * GRANULE;
/// Entries of the process table.
pub(crate) const TABLE_ENTRIES: u16 = 4096;
/// Bytes of one.
pub(crate) const TABLE_ENTRY_LEN: u64 = 64;

/// The byte that every attached process read-locks. It is the same in every format version.
pub(crate) const COMMON_BYTE: u64 = 1 << 62;

/// The byte that stands for an entry of the process table.
pub(crate) const fn entry_byte(entry: u16) -> u64 {
    COMMON_BYTE + 1 + entry as u64
}

/// The byte that is locked while an entry changes hands. A process that recovers a dying owner's
/// locks read-locks it, because the kernel has not yet released the owner's own byte.
pub(crate) const fn claim_byte(entry: u16) -> u64 {
    entry_byte(TABLE_ENTRIES) + entry as u64
}

/// Bytes of a line of the directory.
pub(crate) const LINE: usize = 128;
/// The most lines that one descriptor takes.
pub(crate) const MAX_LINES: u8 = 32;

/// Bytes of a checkpoint segment's head.
pub(crate) const SEGMENT_HEAD: u64 = 64;
/// Bytes of a segment of small slots, including its head.
pub(crate) const SMALL_SEGMENT: u64 = 4096;
/// The largest entry that shares a segment with others.
pub(crate) const SMALL_ENTRY: u64 = 1008;
/// Bytes of data in a segment of a large slot; its head has a page of its own.
pub(crate) const LARGE_SEGMENT: u64 = 64 * 1024;
/// Bytes of a page: also what a large segment's head takes.
pub(crate) const PAGE: u64 = 4096;

/// Words of the live header, by their index. Each group has a cache line of its own.
pub(crate) mod live {
    /// Eight words that tell whether the live area belongs to this boot.
    pub(crate) const IDENTITY: usize = 0;
    /// The epoch of the last acknowledged sync, then its complement.
    pub(crate) const ACKED: usize = 8;
    /// When a compaction put a new file in this one's place, in seconds since 1970, with its
    /// complement. From 1.1 on.
    pub(crate) const SUPERSEDED: usize = 10;
    /// The last sync that failed, unless one has been acknowledged since: the system's error
    /// number, then when, in seconds since 1970. From 1.1 on.
    pub(crate) const FAILED_SYNC: usize = 11;
    /// Counts the steps of the process that syncs. From 1.1 on.
    pub(crate) const SYNC_PROGRESS: usize = 13;
    /// Lines of the directory in use, then its complement.
    pub(crate) const COUNT: usize = 16;
    /// In the low half, the event count, see [`EventCount`](crate::protocol::EventCount). From 1.1
    /// on.
    pub(crate) const EVENT_COUNT: usize = 17;
    /// The interval in which a lock was last handed over: intervals of 2^20 ns, counted from boot.
    /// From 1.1 on.
    pub(crate) const LAST_HANDOVER: usize = 18;
    /// The directory's lock: a slot without content.
    pub(crate) const DIRECTORY_LOCK: usize = 24;
    /// The lock of the one process that may sync.
    pub(crate) const SYNC_LOCK: usize = 32;
    /// When the last sync began, in nanoseconds since boot. Then when it finished, in seconds since
    /// 1970; for display.
    pub(crate) const LAST_SYNC: usize = 34;
    /// Group commit, see [`Number`](crate::protocol::Number). From 1.1 on, as all words of it.
    pub(crate) const SYNCS_BEGUN: usize = 36;
    pub(crate) const SYNCS_DONE: usize = 37;
    pub(crate) const SYNC_FAILED: usize = 38;
    /// How often anybody has asked for a sync.
    pub(crate) const SYNC_CALLS: usize = 39;
    /// The allocation ends, see [`Ends`](super::Ends).
    pub(crate) const ENDS: usize = 40;
    /// Counts the steps of the holder of the open lock, for those who wait for it.
    pub(crate) const PROGRESS: usize = 48;
    /// The number + 1 of the word of segment marks that a sync is clearing; 0: none. From 1.1 on.
    pub(crate) const CLEANING: usize = 49;
    /// How many calls to expect before the next sync begins.
    pub(crate) const GATHER_TARGET: usize = 50;
    /// How many there were when the last one began.
    pub(crate) const GATHERED_CALLS: usize = 51;
    /// The last restore, for display: which sync it returned to, then when, in seconds since 1970.
    /// 0: there was none.
    pub(crate) const LAST_RECOVERY: usize = 52;
    /// How long the last flush took, in nanoseconds.
    pub(crate) const FLUSH_TIME: usize = 54;
    /// How many of the next syncs wait for nobody.
    pub(crate) const UNGATHERED: usize = 55;
    /// How many entries of the process table have blocks, then in the upper half its complement; 0:
    /// as in a new store. From 1.1 on.
    pub(crate) const TABLE_BLOCKS: usize = 80;
    /// Not 0: a check has found that the last sync is not what it should be, so the next one looks at
    /// all slots. From 1.1 on.
    pub(crate) const LOOK_AT_ALL: usize = 81;
    /// Where the parts of each further tier are: two words, and a third one with their check. From
    /// 1.1 on.
    pub(crate) const TIERS: usize = 128;
    /// How many words the live header has: a page of them.
    pub(crate) const WORDS: usize = 512;
}

/// Where [`live::PROGRESS`] is in any store, for a process that has not mapped it.
pub(crate) const PROGRESS_AT: u64 = LIVE_HEADER + 8 * live::PROGRESS as u64;

/// The static header: what never changes once the store is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 8],
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Random; distinguishes stores.
    pub(crate) store_id: [u8; 16],
    pub(crate) max_slots: u64,
    pub(crate) max_size: u64,
    /// Bit 0: no checkpoints.
    pub(crate) flags: u64,
    pub(crate) regions: Regions,
}

/// The flag of a store without checkpoints. It is the only flag.
pub(crate) const FLAG_NO_CHECKPOINT: u64 = 1;

impl Header {
    /// Whether the store keeps a checkpoint, to which a power cut returns.
    #[inline]
    pub(crate) fn has_checkpoint(&self) -> bool {
        self.flags & FLAG_NO_CHECKPOINT == 0
    }

    /// The header's page, with its CRC in the last four bytes.
    pub(crate) fn to_page(self) -> Vec<u8> {
        let mut page = vec![0; HEADER_LEN];
        page[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&self));
        let crc = crc32fast::hash(&page[..HEADER_LEN - 4]);
        page[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// The header of a page that came from a file, if its CRC is correct.
    pub(crate) fn from_page(page: &[u8; HEADER_LEN]) -> Option<Header> {
        let (content, crc) = page.split_at(HEADER_LEN - 4);
        (crc32fast::hash(content).to_le_bytes() == crc)
            .then(|| bytemuck::pod_read_unaligned(&content[..size_of::<Header>()]))
    }
}

const _: () = assert!(size_of::<Header>() == 192);

/// Where the allocation of each kind of space ends. The ends only ever move up. Each moves before a
/// descriptor names anything below it, so a process that dies in between leaves at worst a gap.
/// Beyond the ends the file is all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Ends {
    /// The end of the last run.
    pub(crate) runs: u64,
    /// The end of the last live slot; 0: there is none.
    pub(crate) live: u64,
    /// The end of the last copy; 0: there is none.
    pub(crate) copies: u64,
    /// The number of the next new segment.
    pub(crate) segments: u64,
    /// Slots defined so far, removed ones too.
    pub(crate) defined: u64,
    /// The segment of small slots that is being filled: number * 4,096 + bytes used;
    /// 0: there is none.
    pub(crate) small: u64,
    /// Where that segment's two copies are.
    pub(crate) small_copies: u64,
    /// Bytes of disk allocated in total, at least. A file that takes less has lost some: it is a
    /// copy with holes.
    pub(crate) allocated: u64,
}

const _: () = assert!(size_of::<Ends>() == 8 * (live::PROGRESS - live::ENDS));
