//! The descriptors that this process has read and checked. A defined descriptor never changes, so
//! each is read once, however often its slot is opened.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use once_cell::race::OnceBox;

use crate::attachment::lazy_array::LazyArray;
use crate::attachment::name_cache::{Hash, NameCache};
use crate::error::Result;
use crate::format::descriptor::{Descriptor, VALUE_LEN};
use crate::protocol::Form;
use crate::types::slot_type::SlotType;

/// Found by their first line, and by name.
#[derive(Debug)]
pub(crate) struct DescriptorCache {
    chunks: LazyArray<Chunk>,
    names: NameCache,
}

#[derive(Debug)]
struct Chunk {
    /// Where each slot is in the file, in cells, truncated: used to prefetch the slot while its
    /// entry is checked. Packed so closely, these stay in the processor's cache; the entries of
    /// many slots do not.
    cells: [AtomicU32; CHUNK],
    entries: [Entry; CHUNK],
}

/// Lines of a chunk.
const CHUNK: usize = 256;

/// Bytes of a cell. A slot starts at a multiple of it.
const CELL: u64 = 16;

impl DescriptorCache {
    /// An empty cache for a directory of this many lines and slots.
    pub(crate) fn new(lines: u64, slots: u64) -> DescriptorCache {
        DescriptorCache {
            chunks: LazyArray::new(lines.div_ceil(CHUNK as u64)),
            names: NameCache::new(slots),
        }
    }

    /// The descriptor at this line of the directory. Calls `read` if it is not known yet.
    #[inline]
    pub(crate) fn get(
        &self,
        line: u32,
        read: impl FnOnce() -> Result<Descriptor>,
    ) -> Result<&Entry> {
        self.entry(line).map_or_else(|| self.enter(line, read), Ok)
    }

    #[inline]
    fn entry(&self, line: u32) -> Option<&Entry> {
        let (chunk, at) = place(line);
        self.chunks.get(chunk).map(|chunk| &chunk.entries[at]).filter(|entry| entry.is_ready())
    }

    #[cold]
    fn enter(&self, line: u32, read: impl FnOnce() -> Result<Descriptor>) -> Result<&Entry> {
        let (chunk, at) = place(line);
        let chunk = self.chunks.get_or_make(chunk, Chunk::empty);
        let entry = &chunk.entries[at];
        let descriptor = entry.descriptor.get_or_try_init(|| read().map(Box::new))?;
        chunk.cells[at].store((descriptor.live / CELL) as u32, Relaxed);
        entry.fill(descriptor);
        Ok(entry)
    }

    /// The descriptor at a line that was [`get`](DescriptorCache::get).
    pub(crate) fn descriptor(&self, line: u32) -> &Descriptor {
        self.entry(line).expect("what is known stays so").descriptor()
    }

    /// What was [noted](DescriptorCache::note) for a name with this hash: the lines, and their
    /// cached descriptors. First calls `fetch` with the slot's probable place in the file.
    #[inline]
    pub(crate) fn noted(
        &self,
        hash: Hash,
        fetch: impl Fn(u64),
    ) -> impl Iterator<Item = (u32, &Entry)> {
        self.names.lines(hash).filter_map(move |line| {
            let (chunk, at) = place(line);
            // Relaxed: nothing depends on it.
            fetch(u64::from(self.chunks.get(chunk)?.cells[at].load(Relaxed)) * CELL);
            Some((line, self.entry(line)?))
        })
    }

    /// Notes that a name with this hash was found on this line.
    #[cold]
    pub(crate) fn note(&self, hash: Hash, line: u32) {
        self.names.note(hash, line);
    }
}

/// A line's chunk, and its place in that chunk.
#[inline]
fn place(line: u32) -> (usize, usize) {
    (line as usize / CHUNK, line as usize % CHUNK)
}

impl Chunk {
    const fn empty() -> Chunk {
        Chunk {
            cells: [const { AtomicU32::new(0) }; CHUNK],
            entries: [const { Entry::empty() }; CHUNK],
        }
    }
}

/// What is known of one line. One cache line holds all that it takes to open a value with a name
/// that is not long. It is filled from `descriptor`, which only one of several racing threads sets:
/// so all of them store the same.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Entry {
    /// [`READY`], a value's scalar type (else 0), the length of the name, each in one byte. 0 until
    /// everything else is there.
    brief: AtomicU64,
    live: AtomicU64,
    /// The beginning of the name, followed by zeros.
    name: [AtomicU64; INLINE / 8],
    descriptor: OnceBox<Descriptor>,
}

const READY: u64 = 1;

/// Bytes of a name that the entry holds: as many as fit into a descriptor of one line.
const INLINE: usize = 40;

const _: () = assert!(size_of::<Entry>() == 64);

impl Entry {
    const fn empty() -> Entry {
        Entry {
            brief: AtomicU64::new(0),
            live: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; INLINE / 8],
            descriptor: OnceBox::new(),
        }
    }

    /// Acquire: a thread that sees the entry ready sees all of it.
    #[inline]
    fn is_ready(&self) -> bool {
        self.brief.load(Acquire) != 0
    }

    fn fill(&self, descriptor: &Descriptor) {
        let scalar = match descriptor.slot_type {
            SlotType::Value(scalar_type) => scalar_type as u64,
            _ => 0,
        };
        // Relaxed, then Release at the end: see `is_ready`.
        self.live.store(descriptor.live, Relaxed);
        for (word, bytes) in self.name.iter().zip(words(descriptor.name.as_bytes())) {
            word.store(bytes, Relaxed);
        }
        let brief = READY | scalar << 8 | (descriptor.name.len() as u64) << 16;
        self.brief.store(brief, Release);
    }

    /// Whether it is the descriptor of this name.
    #[inline(always)]
    pub(crate) fn is_named(&self, name: &str) -> bool {
        // Relaxed, here and below: the caller has already seen the entry ready.
        let len = (self.brief.load(Relaxed) >> 16) as usize;
        let mut words = words(name.as_bytes()).zip(&self.name);
        len == name.len()
            && words.all(|(bytes, word)| word.load(Relaxed) == bytes)
            && (len <= INLINE || self.descriptor().name == name)
    }

    /// Where the slot is in the file.
    #[inline]
    pub(crate) fn live(&self) -> u64 {
        self.live.load(Relaxed)
    }

    /// Bytes it takes there.
    #[inline]
    pub(crate) fn live_len(&self) -> u64 {
        if self.value_type() != 0 { VALUE_LEN } else { self.descriptor().live_len() }
    }

    /// What follows its control word.
    #[inline]
    pub(crate) fn form(&self) -> Form {
        if self.value_type() != 0 { Form::Scalar } else { self.descriptor().form() }
    }

    /// Whether it can be opened as this type.
    #[inline]
    pub(crate) fn opens_as(&self, slot_type: &SlotType) -> bool {
        match slot_type {
            SlotType::Value(scalar_type) => self.value_type() == *scalar_type as u64,
            other => self.descriptor().slot_type.opens_as(other),
        }
    }

    #[inline]
    fn value_type(&self) -> u64 {
        self.brief.load(Relaxed) >> 8 & 0xff
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        self.descriptor.get().expect("filled from it")
    }
}

/// The bytes in words of eight; zeros fill the last one.
#[inline]
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (whole, rest) = bytes.as_chunks::<8>();
    let last = match bytes.last_chunk::<8>() {
        _ if rest.is_empty() => None,
        // Rereads some bytes instead of going byte by byte.
        Some(last) => Some(u64::from_le_bytes(*last) >> (64 - 8 * rest.len())),
        None => Some(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))),
    };
    whole.iter().map(|bytes| u64::from_le_bytes(*bytes)).chain(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::descriptor::Outline;
    use crate::types::scalar_type::ScalarType;

    fn descriptor(name: &str) -> Descriptor {
        Descriptor {
            name: name.to_owned(),
            doc: String::new(),
            unit: String::new(),
            slot_type: SlotType::Value(ScalarType::U64),
            outline: Outline {
                areas: 0,
                content_len: 8,
                live: 64 * name.len() as u64,
                first_segment: 0,
                copies: 0,
                offset_in_segment: 0,
            },
        }
    }

    #[test]
    fn a_name_is_told_from_all_that_differ_in_a_byte() {
        let cache = DescriptorCache::new(600, 600);
        for len in (1..=60).chain([255]) {
            let name: String = ('a'..='z').cycle().take(len).collect();
            let line = 2 * len as u32;
            let entry = cache.get(line, || Ok(descriptor(&name))).unwrap();
            assert!(entry.is_named(&name), "{len} bytes");
            for at in 0..len {
                let mut other = name.clone().into_bytes();
                other[at] = b'_';
                assert!(!entry.is_named(&String::from_utf8(other).unwrap()), "{at} of {len}");
            }
            assert!(!entry.is_named(&name[1..]) && !entry.is_named(&format!("{name}a")));
            assert!(!entry.is_named(&format!("{name}\0")) && !entry.is_named(""));
            assert_eq!(entry.live(), 64 * len as u64);
            assert_eq!(cache.descriptor(line).name, name);
            assert!(entry.opens_as(&SlotType::Value(ScalarType::U64)));
            assert!(!entry.opens_as(&SlotType::Value(ScalarType::I64)));
            assert!(!entry.opens_as(&SlotType::Text(8)));
        }
    }

    /// Two threads read different descriptors, which only a damaged file can cause: one wins, and
    /// nobody sees parts of both.
    #[test]
    fn those_who_race_agree() {
        for round in 0..if cfg!(miri) { 10 } else { 2_000 } {
            let cache = DescriptorCache::new(1, 1);
            let seen = std::thread::scope(|scope| {
                let racers = ["one name", "another, longer name"].map(|name| {
                    let cache = &cache;
                    scope.spawn(move || {
                        let entry = cache.get(0, || Ok(descriptor(name))).unwrap();
                        let found = entry.descriptor();
                        assert!(entry.is_named(&found.name), "round {round}");
                        assert_eq!(entry.live(), found.live);
                        found.name.clone()
                    })
                });
                racers.map(|racer| racer.join().unwrap())
            });
            assert_eq!(seen[0], seen[1]);
        }
    }
}
