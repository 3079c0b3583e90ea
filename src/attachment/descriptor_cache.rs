//! What this process has read and checked of the descriptors: what it takes to open a slot without
//! reading its descriptor again. The numbers are kept in private memory, since they must not change
//! once they have been checked. Names are compared where they are, in the directory.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use once_cell::race::OnceBox;

use crate::attachment::attach::Attachment;
use crate::attachment::lazy_array::LazyArray;
use crate::attachment::name_cache::NameCache;
use crate::error::Result;
use crate::format::descriptor::{
    self, DESCRIPTOR_HEAD, Descriptor, DescriptorHead, KIND_VALUE, Outline, VALUE_LEN,
};
use crate::format::layout::LINE;
use crate::format::regions::MOST_SIZE;
use crate::format::tiers::FIRST_TIER;
use crate::mapping::map::Region;
use crate::protocol::Form;
use crate::types::scalar_type::ScalarType;
use crate::types::slot_type::SlotType;

/// Found by their first line, and by name.
#[derive(Debug)]
pub(crate) struct DescriptorCache {
    chunks: LazyArray<Chunk>,
    pub(crate) names: NameCache,
}

/// Of each line, 16 bytes. A value takes only the first eight, which lie close together: so those
/// of many slots stay in the processor's cache.
#[derive(Debug)]
struct Chunk {
    /// The lines themselves. They are of one tier, which never moves. They have no block as long as
    /// they are not in use, but the slots behind them make the file longer.
    directory: Region,
    /// See [`Brief`]; 0 until everything else is there.
    briefs: [AtomicU64; CHUNK],
    /// Bytes of the content, each bit inverted; 0: unknown.
    content_lens: [AtomicU64; CHUNK],
    /// Whole descriptors, of slots whose texts were asked for.
    copies: OnceBox<[OnceBox<Descriptor>; CHUNK]>,
}

/// Lines of a chunk.
const CHUNK: usize = 256;
const _: () = assert!(FIRST_TIER.is_multiple_of(CHUNK as u64));

impl DescriptorCache {
    /// An empty cache for a directory of this many lines and slots.
    pub(crate) fn new(lines: u64, slots: u64) -> DescriptorCache {
        DescriptorCache {
            chunks: LazyArray::new(lines.div_ceil(CHUNK as u64)),
            names: NameCache::new(slots),
        }
    }

    /// What is known of this line of the directory.
    #[inline]
    pub(crate) fn get(&self, line: u32) -> Option<Entry<'_>> {
        let (chunk, at) = place(line);
        let chunk = self.chunks.get(chunk)?;
        // Acquire: a thread that sees the brief sees the length, too.
        let brief = Brief(chunk.briefs[at].load(Acquire));
        (brief.0 != 0).then_some(Entry { brief, line, chunk })
    }

    /// Notes the descriptor at this line, which was checked. `None`: another thread has read
    /// another one there. Only a damaged file can cause that.
    pub(crate) fn enter(
        &self,
        attachment: &Attachment,
        line: u32,
        descriptor: &Descriptor,
    ) -> Result<Option<Entry<'_>>> {
        let (number, at) = place(line);
        let chunk = match self.chunks.get(number) {
            Some(chunk) => chunk,
            None => {
                let from = attachment.line_at(line)? - (at * LINE) as u64;
                let directory = attachment.region(from, (CHUNK * LINE) as u64)?;
                self.chunks.get_or_make(number, || Chunk::empty(directory))
            }
        };
        let brief = Brief::of(&descriptor.head());
        // Release: see `get`. Acquire: as there, if another thread was first.
        let set = |word: &AtomicU64, value: u64| {
            let before = word.compare_exchange(0, value, Release, Acquire);
            before.is_ok() || before == Err(value)
        };
        // The place and the length were checked together. If another thread has stored one of
        // them, it was the same.
        let same = set(&chunk.content_lens[at], !descriptor.content_len)
            && set(&chunk.briefs[at], brief.0);
        Ok(same.then_some(Entry { brief, line, chunk }))
    }
}

/// A line's chunk, and its place in that chunk.
#[inline]
fn place(line: u32) -> (usize, usize) {
    (line as usize / CHUNK, line as usize % CHUNK)
}

impl Chunk {
    const fn empty(directory: Region) -> Chunk {
        Chunk {
            directory,
            briefs: [const { AtomicU64::new(0) }; CHUNK],
            content_lens: [const { AtomicU64::new(0) }; CHUNK],
            copies: OnceBox::new(),
        }
    }
}

/// The kind and the scalar type in the lowest byte, then the length of the name, the number of
/// lines, the number of areas, and the place in the file in units of 64 bytes. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Brief(u64);

const _: () = assert!(MOST_SIZE / 64 <= 1 << (64 - 25));

impl Brief {
    fn of(head: &DescriptorHead) -> Brief {
        // A checked descriptor has numbers that fit.
        let areas = match head.areas {
            0 => 0,
            areas => u64::from(areas.ilog2()),
        };
        let kind = u64::from(head.kind) << 4 | u64::from(head.scalar);
        let (lines, live) = (u64::from(head.lines - 1), head.live / 64);
        Brief(kind | u64::from(head.name_len) << 8 | lines << 16 | areas << 21 | live << 25)
    }
}

/// What is known of the descriptor at one line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    brief: Brief,
    line: u32,
    chunk: &'a Chunk,
}

impl<'a> Entry<'a> {
    /// Whether the directory has this name there.
    #[inline(always)]
    pub(crate) fn is_named(&self, attachment: &Attachment, name: &str) -> bool {
        let len = usize::from((self.brief.0 >> 8) as u8);
        if len != name.len() {
            return false;
        }
        let start = self.word() + DESCRIPTOR_HEAD / 8;
        let Some(there) = self.chunk.directory.words().get(start..start + len.div_ceil(8)) else {
            return self.is_named_across(attachment, name);
        };
        // Relaxed: a name does not change. If it is damaged meanwhile, another name is found here,
        // or none.
        let (whole, rest) = name.as_bytes().as_chunks::<8>();
        for (bytes, word) in whole.iter().zip(there) {
            if u64::from_le_bytes(*bytes) != word.load(Relaxed) {
                return false;
            }
        }
        let Some(word) = there.get(whole.len()) else { return true };
        // The bytes of the last word that are not of the name are shifted out.
        let other = 64 - 8 * rest.len();
        let last = match name.as_bytes().last_chunk::<8>() {
            // Rereads some bytes instead of going byte by byte.
            Some(last) => u64::from_le_bytes(*last) >> other,
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        word.load(Relaxed) << other == last << other
    }

    /// The same for a name that goes on behind the chunk, and so perhaps in the next tier.
    #[cold]
    fn is_named_across(&self, attachment: &Attachment, name: &str) -> bool {
        let mut there = [0; DESCRIPTOR_HEAD + u8::MAX as usize];
        let there = &mut there[..DESCRIPTOR_HEAD + name.len()];
        attachment.read_lines(self.line, there).is_ok()
            && there[DESCRIPTOR_HEAD..] == *name.as_bytes()
    }

    /// The first word of its line, within the chunk.
    #[inline]
    fn word(&self) -> usize {
        self.line as usize % CHUNK * LINE / 8
    }

    /// Reads the head of its descriptor again.
    pub(crate) fn read_head(&self, head: &mut [u8]) {
        self.chunk.directory.read(self.word(), 0, head);
    }

    /// Where the slot is in the file.
    #[inline]
    pub(crate) fn live(&self) -> u64 {
        self.brief.0 >> 25 << 6
    }

    /// Bytes it takes there.
    #[inline]
    pub(crate) fn live_len(&self) -> u64 {
        match self.is_value() {
            true => VALUE_LEN,
            false => descriptor::live_len(self.live(), self.content_len(), self.areas()),
        }
    }

    /// What follows its control word.
    #[inline]
    pub(crate) fn form(&self) -> Form {
        match self.is_value() {
            true => Form::Scalar,
            false => descriptor::form(self.live(), self.content_len(), self.areas()),
        }
    }

    /// Bytes of its content.
    #[inline]
    pub(crate) fn content_len(&self) -> u64 {
        // Relaxed: `get` has acquired it.
        !self.chunk.content_lens[self.line as usize % CHUNK].load(Relaxed)
    }

    /// The first line of its descriptor.
    #[inline]
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// How many lines its descriptor takes.
    #[inline]
    pub(crate) fn lines(&self) -> u32 {
        (self.brief.0 >> 16 & 31) as u32 + 1
    }

    /// Whether it is a value of this type.
    #[inline]
    pub(crate) fn is_value_of(&self, scalar_type: ScalarType) -> bool {
        self.brief.0 as u8 == KIND_VALUE << 4 | scalar_type as u8
    }

    /// The scalar type, if it is a value.
    #[inline]
    pub(crate) fn value_type(&self) -> Option<ScalarType> {
        self.is_value().then(|| ScalarType::from_code(self.brief.0 as u8 & 15)).flatten()
    }

    #[inline]
    fn is_value(&self) -> bool {
        self.brief.0 as u8 >> 4 == KIND_VALUE
    }

    #[inline]
    fn areas(&self) -> u8 {
        match self.is_value() {
            true => 0,
            false => 1 << (self.brief.0 >> 21 & 15),
        }
    }

    /// The type in this head, which was read again. `None` if it is not of the kind and length that
    /// were checked.
    pub(crate) fn slot_type(&self, head: &DescriptorHead) -> Option<SlotType> {
        let slot_type = descriptor::slot_type(head)?;
        let (kind, scalar, ..) = descriptor::type_fields(&slot_type);
        let content_len = slot_type.content_len()? as u64;
        let same = self.brief.0 as u8 == kind << 4 | scalar && content_len == self.content_len();
        same.then_some(slot_type)
    }

    /// The whole descriptor, which is kept in private memory from now on; `read` reads it again.
    pub(crate) fn descriptor(&self, read: impl FnOnce() -> Result<Descriptor>) -> &'a Descriptor {
        let copies = || Box::new([const { OnceBox::new() }; CHUNK]);
        let copies = self.chunk.copies.get_or_init(copies);
        copies[self.line as usize % CHUNK].get_or_init(|| {
            let is_it = |found: &Descriptor| {
                Brief::of(&found.head()) == self.brief && found.content_len == self.content_len()
            };
            Box::new(read().ok().filter(is_it).unwrap_or_else(|| self.stand_in()))
        })
    }

    /// What is left of a descriptor that was damaged after it had been checked.
    fn stand_in(&self) -> Descriptor {
        let outline = Outline {
            areas: self.areas(),
            content_len: self.content_len(),
            live: self.live(),
            first_segment: 0,
            copies: 0,
            offset_in_segment: 0,
        };
        let name = format!("(line {} of the directory: damaged)", self.line);
        let (kind, scalar) = (self.brief.0 as u8 >> 4, self.brief.0 as u8 & 15);
        Descriptor::stand_in(name, kind, scalar, outline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use crate::attachment::descriptors;

    fn descriptor(name: &str, live: u64) -> Descriptor {
        let outline = Outline {
            areas: 0,
            content_len: 8,
            live,
            first_segment: 0,
            copies: 0,
            offset_in_segment: 0,
        };
        Descriptor {
            name: name.to_owned(),
            doc: String::new(),
            unit: String::new(),
            slot_type: SlotType::Value(ScalarType::U64),
            outline,
        }
    }

    #[test]
    fn a_name_is_told_from_all_that_differ_in_a_byte() {
        let store = Store::temporary().unwrap();
        let attachment = store.attachment();
        for len in (1..=60).chain([167, 168, 169, 255]) {
            let name: String = ('a'..='z').cycle().take(len).collect();
            let line = descriptors::count(attachment).unwrap();
            store.value::<u64>(&name).unwrap();
            let entry = attachment.descriptor_cache.get(line).unwrap();
            let is_named = |name: &str| entry.is_named(attachment, name);
            assert!(is_named(&name), "{len} bytes");
            for at in 0..len {
                let mut other = name.clone().into_bytes();
                other[at] = b'_';
                assert!(!is_named(&String::from_utf8(other).unwrap()), "{at} of {len}");
            }
            assert!(!is_named(&name[1..]) && !is_named(&format!("{name}a")));
            assert!(!is_named(&format!("{name}\0")) && !is_named(""));
            assert_eq!(descriptors::kept(attachment, line).name, name);
        }
    }

    /// At the end of the lines of a chunk, of the first tier, and of the second.
    #[test]
    fn a_name_that_goes_on_behind_its_lines_is_compared_as_a_whole() {
        let store = Store::temporary().unwrap();
        let attachment = store.attachment();
        let mut names = Vec::new();
        for line in [255, 511, 1_023] {
            for n in descriptors::count(attachment).unwrap()..line {
                store.value::<u8>(&n.to_string()).unwrap();
            }
            let name = format!("{line}{}", "x".repeat(200));
            store.value::<u32>(&name).unwrap().store(line).unwrap();
            names.push((name, line));
        }
        for (name, line) in names {
            let entry = attachment.descriptor_cache.get(line).unwrap();
            assert!(entry.is_named(attachment, &name), "{line}");
            assert!(!entry.is_named(attachment, &format!("{}y", &name[1..])), "{line}");
            assert!(!entry.is_named(attachment, &format!("{}y", &name[..name.len() - 1])));
            assert_eq!(store.value::<u32>(&name).unwrap().load(), line);
        }
    }

    /// All numbers of a descriptor are found again as they were.
    #[test]
    fn what_is_kept_is_what_the_descriptor_says() {
        let store = Store::temporary().unwrap();
        let attachment = store.attachment();
        for of in
            ["bool", "f64", "u16[3]", "f32[4,5,6,7]", "text[9]", "bytes[4096]", "buffer:u8[7]"]
        {
            let slot_type: SlotType = of.parse().unwrap();
            for areas in [2, 4, 8] {
                let line = descriptors::count(attachment).unwrap();
                let define = crate::Define::new().areas(areas).doc("x".repeat(300 * areas));
                store.define(&format!("{of}/{areas}"), &slot_type, define).unwrap();
                let entry = attachment.descriptor_cache.get(line).unwrap();
                let there = descriptors::at(attachment, line).unwrap();
                assert_eq!(entry.live(), there.live);
                assert_eq!(entry.live_len(), there.live_len());
                assert_eq!(entry.form(), there.form());
                assert_eq!(entry.content_len(), there.content_len);
                assert_eq!(entry.lines() as usize, there.lines());
                assert_eq!(descriptors::slot_type(attachment, entry).unwrap(), slot_type);
                let stand_in = entry.stand_in();
                assert_eq!(stand_in.slot_type.content_len(), slot_type.content_len());
                assert_eq!(stand_in.form(), there.form());
            }
        }
        let most = descriptor("x", MOST_SIZE - 64);
        let (cache, attachment) = (DescriptorCache::new(1, 1), store.attachment());
        let entered = cache.enter(attachment, 0, &most).unwrap();
        assert_eq!(entered.unwrap().live(), MOST_SIZE - 64);
    }

    /// Any process may write there. Nothing that is used as a place or a length is read again.
    #[test]
    fn what_changes_after_it_was_checked_shows_and_does_no_harm() {
        let store = Store::temporary().unwrap();
        let types = ["f64", "u16[3,2]", "text[9]", "bytes[4096]", "buffer:u8[7]"];
        for of in types {
            let attachment = store.attachment();
            let line = descriptors::count(attachment).unwrap();
            let slot_type: SlotType = of.parse().unwrap();
            let name = format!("group/{of}");
            store.define(&name, &slot_type, crate::Define::new().doc("its doc")).unwrap();
            let slot = store.slot(&name).unwrap();
            let before = slot.load();
            let at = attachment.line_at(line).unwrap();
            let region = attachment.region(at, LINE as u64).unwrap();
            let words = region.words();
            for (at, bit) in (0..LINE / 8).flat_map(|at| (0..64).map(move |bit| (at, bit))) {
                let whole = words[at].fetch_xor(1 << bit, Relaxed);
                let is_of_name =
                    (DESCRIPTOR_HEAD..DESCRIPTOR_HEAD + name.len()).contains(&(8 * at + bit / 8));
                match store.slot(&name) {
                    Ok(found) => {
                        assert!(!is_of_name, "found by a damaged name");
                        assert_eq!(found.load(), before);
                    }
                    Err(error) => assert!(matches!(error, crate::Error::Corrupt { .. })),
                }
                let _ = store.value::<f64>(&name).map(|value| value.load());
                let _ = (store.closest_name(&name, 100), store.slots());
                words[at].store(whole, Relaxed);
            }
            assert_eq!(store.slot(&name).unwrap().name(), name);
        }
    }

    /// Two threads read different descriptors, which only a damaged file can cause: one wins, and
    /// the other is told.
    #[test]
    fn those_who_race_agree() {
        let store = Store::temporary().unwrap();
        store.value::<u64>("name").unwrap();
        for round in 0..if cfg!(miri) { 10 } else { 2_000 } {
            let cache = DescriptorCache::new(1, 1);
            let seen = std::thread::scope(|scope| {
                let racers = [64, 128].map(|live| {
                    let (cache, attachment) = (&cache, store.attachment());
                    scope.spawn(move || {
                        let entered =
                            cache.enter(attachment, 0, &descriptor("name", live)).unwrap();
                        assert!(entered.is_none_or(|entry| entry.live() == live));
                        cache.get(0).unwrap().live()
                    })
                });
                racers.map(|racer| racer.join().unwrap())
            });
            assert_eq!(seen[0], seen[1], "round {round}");
        }
    }
}
