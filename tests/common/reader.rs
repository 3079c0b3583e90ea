//! A reader of stores, written from `docs/format.md` alone. It shares no code with the library, so
//! that each checks the other, and both check the page. It panics at anything that the page does
//! not allow in a store that is not open in any process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

/// A store's file.
pub struct Reader {
    bytes: Vec<u8>,
}

/// One slot of a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    pub name: String,
    pub doc: String,
    pub unit: String,
    /// As `slotfile ls` shows it.
    pub slot_type: String,
    pub areas: u8,
    pub version: u64,
    pub removed: bool,
    /// The bytes of the value or the elements; for a text, its current length of them.
    pub content: Vec<u8>,
}

struct Descriptor {
    kind: u8,
    areas: u64,
    /// The size of the content in bytes.
    len: u64,
    live: u64,
    first_segment: u64,
    copies: u64,
    place: u64,
    lines: u64,
    slot: Slot,
}

/// The positions of the regions.
struct Regions {
    /// The first tier of the directory; in 1.0 the only one.
    first: Tier,
    mark: u64,
    records: u64,
    record_len: u64,
    runs: u64,
    /// 0 in 1.0.
    first_slot: u64,
    first_copy: u64,
}

/// A part of the directory.
#[derive(Clone, Copy)]
struct Tier {
    first_line: u64,
    lines: u64,
    index: u64,
    /// Words of its index.
    entries: u64,
    directory: u64,
    copies: u64,
}

impl Tier {
    /// The tier behind these, whose two parts are here.
    fn behind(tiers: &[Tier], live: u64, copies: u64) -> Tier {
        let lines = tiers_end(tiers);
        let (entries, directory) = (2 * lines, live + 16 * lines);
        Tier { first_line: lines, lines, index: live, entries, directory, copies }
    }
}

/// How many lines these tiers have.
fn tiers_end(tiers: &[Tier]) -> u64 {
    tiers.iter().map(|tier| tier.lines).sum()
}

struct Record {
    epoch: u64,
    lines: u64,
    tiers: Vec<Tier>,
    pages: Vec<u8>,
    segments: Vec<u8>,
    sum: u64,
}

const PAGE: u64 = 4096;
const GRANULE: u64 = 64 << 10;
const RUN: u64 = 2 << 20;
const LIVE_HEADER: u64 = 64 << 10;
const MARKS: u64 = 400 << 10;
const FIRST_LINES: u64 = 512 << 10;
/// The kinds.
const VALUE: u8 = 1;
const ARRAY: u8 = 2;
const TEXT: u8 = 3;
const BYTES: u8 = 4;
const BUFFER: u8 = 6;
const COUNTER: u8 = 7;
/// Name and size of each scalar type, from number 1 on.
const SCALARS: [(&str, u64); 11] = [
    ("bool", 1),
    ("i8", 1),
    ("i16", 2),
    ("i32", 4),
    ("i64", 8),
    ("u8", 1),
    ("u16", 2),
    ("u32", 4),
    ("u64", 8),
    ("f32", 4),
    ("f64", 8),
];

fn up(n: u64, to: u64) -> u64 {
    n.div_ceil(to) * to
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Reader {
    pub fn open(path: &Path) -> Reader {
        Reader { bytes: std::fs::read(path).unwrap() }
    }

    fn at(&self, offset: u64, len: u64) -> &[u8] {
        &self.bytes[offset as usize..(offset + len) as usize]
    }

    fn word(&self, offset: u64) -> u64 {
        word(self.at(offset, 8))
    }

    #[track_caller]
    fn assert_zero(&self, from: u64, to: u64) {
        let used = self.at(from, to - from).iter().position(|byte| *byte != 0);
        assert_eq!(used.map(|at| from + at as u64), None, "{from} to {to} must be zero");
    }

    /// Reads the static header, and checks that its regions are where the page puts them.
    fn regions(&self) -> Regions {
        assert_eq!(self.at(0, 8), b"SLOTFILE");
        assert_eq!(word(self.at(8, 4)), 1, "major version");
        assert!(word(self.at(12, 4)) <= 1, "minor version");
        assert_eq!(word(self.at(4092, 4)), u64::from(crc32fast::hash(self.at(0, 4092))));
        let (max_slots, max_size, flags) = (self.word(32), self.word(40), self.word(48));
        assert!((1..=1 << 28).contains(&max_slots) && max_size <= 1 << 45 && flags <= 1);
        let minor = word(self.at(12, 4));
        let index = 384 << 10;
        let (entries, lines, directory, first_tier, first_slot);
        if minor == 0 {
            (entries, lines) = ((2 * max_slots).next_power_of_two(), 2 * max_slots);
            directory = index + up(8 * entries, GRANULE);
            (first_tier, first_slot) = (lines, 0);
        } else {
            (entries, lines, directory) = (1_024, 4 * max_slots, 448 << 10);
            (first_tier, first_slot) = (512, 576 << 10);
        }
        let directory_len = up(128 * first_tier, GRANULE);
        let mark = up(directory + directory_len, RUN);
        let records = mark + GRANULE;
        let choices = (up(128 * lines, GRANULE) / 4096 + max_size / 8192).div_ceil(4);
        let pairs = if minor == 0 { 0 } else { 16 * 21 };
        let record_len = up(64 + pairs + choices, GRANULE);
        let copies = records + 2 * record_len;
        let copies_end = copies + 4 * directory_len;
        let runs = up(copies_end, RUN);
        assert!(runs + RUN <= max_size);
        let least = match (minor, flags) {
            (0, _) => runs,
            (_, 0) => copies + 4 * PAGE,
            _ => directory + PAGE,
        };
        assert!(self.bytes.len() as u64 >= least, "{} of {least}", self.bytes.len());
        let first_copy = if minor == 0 { 0 } else { copies_end };
        let expected = [
            LIVE_HEADER,
            128 << 10,
            4096,
            index,
            entries,
            directory,
            lines,
            mark,
            records,
            record_len,
            copies,
            runs,
            if minor == 0 { 0 } else { first_tier },
            first_slot,
            first_copy,
            if minor == 0 { 0 } else { MARKS },
            if minor == 0 { 0 } else { FIRST_LINES },
        ];
        for (i, expected) in expected.into_iter().enumerate() {
            assert_eq!(self.word(56 + 8 * i as u64), expected, "region {i}");
        }
        self.assert_zero(192, 4092);
        self.assert_zero(4096, LIVE_HEADER);
        if minor == 1 {
            self.assert_zero(index + 8 * entries, MARKS);
            self.assert_zero(MARKS + 262_144 / 8, directory);
            assert_eq!(directory + directory_len, FIRST_LINES);
            if flags == 1 {
                self.assert_zero(MARKS, directory);
                self.assert_zero(FIRST_LINES, first_slot.min(self.bytes.len() as u64));
            }
        }
        let first = Tier { first_line: 0, lines: first_tier, index, entries, directory, copies };
        Regions { first, mark, records, record_len, runs, first_slot, first_copy }
    }

    /// Where the tiers are that these lines need, as the live header says; the first one is a region.
    fn tiers(&self, regions: &Regions, lines: u64) -> Vec<Tier> {
        let mut tiers = vec![regions.first];
        while tiers_end(&tiers) < lines {
            let at = LIVE_HEADER + 1_024 + 24 * (tiers.len() as u64 - 1);
            let (live, copies) = (self.word(at), self.word(at + 8));
            let check = hash(live, copies, tiers.len() as u64) | 1;
            assert_eq!(self.word(at + 16), check, "tier {}", tiers.len());
            tiers.push(Tier::behind(&tiers, live, copies));
        }
        if word(self.at(12, 4)) == 1 {
            let behind = LIVE_HEADER + 1_024 + 24 * (tiers.len() as u64 - 1);
            self.assert_zero(behind, LIVE_HEADER + 4_096);
        }
        tiers
    }

    fn keeps_checkpoints(&self) -> bool {
        self.word(48) & 1 == 0
    }

    /// All slots that were ever defined, from the live area.
    pub fn live(&self) -> Vec<Slot> {
        let regions = self.regions();
        let count = word(self.at(LIVE_HEADER + 128, 4));
        assert_eq!(word(self.at(LIVE_HEADER + 132, 4)), u64::from(!(count as u32)));
        let tiers = self.tiers(&regions, count);
        let lines = tiers.iter().map(|tier| {
            let lines = tier.lines.min(count - tier.first_line);
            self.at(tier.directory, 128 * lines)
        });
        let descriptors = descriptors(&lines.collect::<Vec<_>>().concat());
        self.check_ends(&regions, &tiers, &descriptors);
        let mut slots = Vec::new();
        let mut line = 0;
        for descriptor in &descriptors {
            let slot = self.live_slot(descriptor);
            self.check_segments(descriptor, line);
            let found = self.find(&tiers, &slot.name, &descriptors);
            assert_eq!(found == Some(line), !slot.removed, "{}: {found:?}", slot.name);
            line += descriptor.lines;
            slots.push(slot);
        }
        slots
    }

    /// The line that the index finds for this name, if its slot is not removed.
    fn find(&self, tiers: &[Tier], name: &str, descriptors: &[Descriptor]) -> Option<u64> {
        let mut lines = BTreeMap::new();
        let mut next = 0;
        for descriptor in descriptors {
            lines.insert(next, descriptor);
            next += descriptor.lines;
        }
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut found = Vec::new();
        for tier in tiers {
            for step in 0..tier.entries {
                let entry = self.word(tier.index + 8 * ((hash + step) % tier.entries));
                if entry == 0 {
                    break;
                }
                let line = (entry & 0xffff_ffff) - 1;
                let there = lines.get(&line).filter(|_| entry >> 32 == hash >> 32);
                if there.is_some_and(|d| d.slot.name == name && !self.live_slot(d).removed) {
                    assert!((tier.first_line..tier.first_line + tier.lines).contains(&line));
                    found.push(line);
                }
            }
        }
        assert!(found.len() < 2, "{name}: {found:?}");
        found.pop()
    }

    /// Checks the marks and the first lines of a slot's segments.
    fn check_segments(&self, descriptor: &Descriptor, line: u64) {
        if word(self.at(12, 4)) == 0 || !self.keeps_checkpoints() {
            return;
        }
        let Descriptor { areas, len, live, first_segment, place, .. } = *descriptor;
        let name = &descriptor.slot.name;
        let count = if place == PAGE { len.div_ceil(65_536) } else { 1 };
        let segments = first_segment..first_segment + count;
        let is_marked = |segment: u64| {
            let mark = segment % 262_144;
            self.at(MARKS + mark / 8, 1)[0] >> (mark % 8) & 1 == 1
        };
        if place == PAGE || place == 64 {
            for segment in segments.clone().take_while(|segment| *segment < 16_384) {
                assert_eq!(word(self.at(FIRST_LINES + 4 * segment, 4)), line + 1, "{name}");
            }
        }
        // Dirty: neither state bit is set, and it is not removed.
        let is_dirty = self.word(live + 8) >> 15 & 3 == 0;
        assert!(areas != 1 || segments.clone().all(is_marked), "{name}: a buffer, or a counter");
        assert!(!is_dirty || segments.clone().any(is_marked), "{name}: dirty, but not marked");
    }

    fn live_slot(&self, descriptor: &Descriptor) -> Slot {
        let Descriptor { kind, areas, len, live, .. } = *descriptor;
        let control = self.word(live + 8);
        let (version, state_and_owner) = (control >> 17, control >> 2 & 0x7fff);
        let removed = state_and_owner == 0x7fff;
        let has_marks = word(self.at(12, 4)) == 1 && self.keeps_checkpoints() && areas != 1;
        // Dirty, or with marks clean or touched.
        let at_rest =
            state_and_owner == 0 || has_marks && [0x4000, 0x6000].contains(&state_and_owner);
        let segment = if has_marks { descriptor.first_segment + 1 } else { 0 };
        let segment_at = if kind == VALUE { live + 24 } else { live };
        assert_eq!(self.word(segment_at), segment, "{}", descriptor.slot.name);
        assert!(control & 3 == 0 && (at_rest || removed), "{control:#x} at rest");
        let mut slot = Slot { version, removed, ..descriptor.slot.clone() };
        if kind == VALUE {
            slot.content = self.at(live, len).to_vec();
            self.assert_zero(live + len, live + 8);
            return slot;
        }
        let align = if len < PAGE { 64 } else { PAGE };
        let area = |number: u64| up(live + 16 + 8 * areas, align) + number * up(len, align);
        let current = area(version % areas);
        for other in 0..areas {
            let (from, to) =
                (word(self.at(live + 16 + 8 * other, 4)), word(self.at(live + 20 + 8 * other, 4)));
            assert!((from < to && to <= len.div_ceil(8)) || (from, to) == (0, 0));
            assert!(areas != 1 || (from, to) == (0, 0));
            for at in (0..len.div_ceil(8)).filter(|at| !(from..to).contains(at)) {
                let (a, b) = (self.word(area(other) + 8 * at), self.word(current + 8 * at));
                assert_eq!(a, b, "{}: word {at} of area {other}", slot.name);
            }
        }
        slot.content = content(kind, self.at(current, len));
        slot
    }

    /// Checks that each slot is where the allocation rules put it, and the ends too.
    fn check_ends(&self, regions: &Regions, tiers: &[Tier], descriptors: &[Descriptor]) {
        let (mut runs, mut live, mut copies) =
            (regions.runs, regions.first_slot, regions.first_copy);
        let mut tiers = tiers.iter().skip(1).peekable();
        let mut lines = 0;
        let (mut segments, mut small, mut small_copies) = (0, 0, 0);
        for d in descriptors {
            lines += d.lines;
            while let Some(tier) = tiers.next_if(|tier| tier.first_line < lines) {
                let len = up(144 * tier.lines, GRANULE);
                assert_eq!(tier.index, take(&mut live, &mut runs, GRANULE, |_| len));
                let copies = match self.keeps_checkpoints() {
                    true => take(&mut copies, &mut runs, GRANULE, |_| 512 * tier.lines),
                    false => 0,
                };
                assert_eq!(tier.copies, copies);
            }
            let at = take(&mut live, &mut runs, 64, |at| match d.areas {
                0 => 64,
                areas => {
                    let align = if d.len < PAGE { 64 } else { PAGE };
                    up(at + 16 + 8 * areas, align) + areas * up(d.len, align) - at
                }
            });
            assert_eq!(d.live, at, "{}", d.slot.name);
            if !self.keeps_checkpoints() {
                assert_eq!((d.first_segment, d.copies, d.place), (0, 0, 0));
                continue;
            }
            let entry = 8 + up(d.len, 8);
            if d.is_small() {
                if small % PAGE == 0 || small % PAGE + entry > PAGE {
                    small_copies = take(&mut copies, &mut runs, PAGE, |_| 8192);
                    small = segments * PAGE + 64;
                    segments += 1;
                }
                let expected = (small / PAGE, small_copies, small % PAGE);
                assert_eq!((d.first_segment, d.copies, d.place), expected, "{}", d.slot.name);
                small += entry;
            } else {
                let own = d.len.div_ceil(65_536);
                let at = take(&mut copies, &mut runs, PAGE, |_| 2 * (own * PAGE + up(d.len, PAGE)));
                assert_eq!(
                    (d.first_segment, d.copies, d.place),
                    (segments, at, PAGE),
                    "{}",
                    d.slot.name
                );
                segments += own;
            }
        }
        let defined = descriptors.len() as u64;
        let expected = [runs, live, copies, segments, defined, small, small_copies];
        for (i, expected) in expected.into_iter().enumerate() {
            assert_eq!(self.word(LIVE_HEADER + 320 + 8 * i as u64), expected, "end {i}");
        }
        assert!(runs <= self.word(40));
        let file_end = self.bytes.len() as u64;
        for end in [live, copies].into_iter().filter(|end| *end != 0) {
            self.assert_zero(end.min(file_end), up(end, RUN).min(file_end));
        }
        self.assert_zero(runs.min(file_end), file_end);
    }

    /// The newest intact sync: its epoch, and all slots as of then.
    pub fn checkpoint(&self) -> (u64, Vec<Slot>) {
        let regions = self.regions();
        let mut records: Vec<Record> = (0..2)
            .filter_map(|n| self.record(&regions, regions.records + n * regions.record_len))
            .collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.epoch));
        let whole = records.iter().find_map(|record| {
            let (slots, sum) = self.checkpointed(record)?;
            (sum == record.sum).then_some((record.epoch, slots))
        });
        let (epoch, slots) = whole.expect("there is a record that is whole");
        let mark = self.at(regions.mark, 8);
        if word(self.at(regions.mark + 8, 4)) == u64::from(crc32fast::hash(mark)) {
            assert!(word(mark) <= epoch);
        }
        self.assert_zero(regions.mark + 12, regions.records);
        (epoch, slots)
    }

    fn record(&self, regions: &Regions, at: u64) -> Option<Record> {
        let (pages, segments) = (self.word(at + 16), self.word(at + 24));
        let padded = |choices: u64| up(choices.div_ceil(4), 8);
        let lines = self.word(at + 8);
        let mut tiers = vec![regions.first];
        while tiers_end(&tiers) < lines.min(1 << 30) {
            let at = at + 64 + 16 * (tiers.len() as u64 - 1);
            tiers.push(Tier::behind(&tiers, self.word(at), self.word(at + 8)));
        }
        let pairs = 16 * (tiers.len() as u64 - 1);
        let len = pairs + padded(pages) + padded(segments);
        if self.word(at) == 0 || 64 + len > regions.record_len {
            return None;
        }
        let crc = [self.at(at, 60), self.at(at + 64, len)].concat();
        if word(self.at(at + 60, 4)) != u64::from(crc32fast::hash(&crc)) {
            return None;
        }
        self.assert_zero(at + 40, at + 60);
        let choices = |from: u64, count: u64| {
            (0..count).map(|i| self.at(from + i / 4, 1)[0] >> (2 * (i % 4)) & 3).collect()
        };
        assert_eq!(pages, lines.div_ceil(32));
        let rest = at + 64 + pairs;
        Some(Record {
            epoch: self.word(at),
            lines,
            tiers,
            pages: choices(rest, pages),
            segments: choices(rest + padded(pages), segments),
            sum: self.word(at + 32),
        })
    }

    /// The slots that a record names, and the sum over its copies; `None` if one is damaged.
    fn checkpointed(&self, record: &Record) -> Option<(Vec<Slot>, u64)> {
        let mut sum = 0;
        let mut lines = Vec::new();
        for (page, choice) in (0..).zip(&record.pages) {
            let second = if *choice == 2 { 8192 } else { 0 };
            let tier = record.tiers.iter().rfind(|tier| tier.first_line <= 32 * page).unwrap();
            let head = tier.copies + (page - tier.first_line / 32) * 16_384 + second;
            let (data, _) = self.copy(record, 1 << 63 | page, *choice, head, PAGE, &mut sum)?;
            lines.extend_from_slice(data);
        }
        assert_eq!(lines.len() as u64, 128 * record.lines);
        let mut slots = Vec::new();
        let mut shared = BTreeMap::new();
        for d in descriptors(&lines) {
            let mut slot = d.slot.clone();
            if d.is_small() {
                let choice = record.segments[d.first_segment as usize];
                if let Entry::Vacant(vacant) = shared.entry(d.first_segment) {
                    let head = d.copies + if choice == 2 { 4096 } else { 0 };
                    let (data, stamp) =
                        self.copy(record, d.first_segment, choice, head, 64, &mut sum)?;
                    assert_eq!(stamp, 0);
                    vacant.insert(data);
                }
                let entry = &shared[&d.first_segment][d.place as usize - 64..];
                let control = word(&entry[..8]);
                assert!(control & 3 == 0 && [0, 0x7fff].contains(&(control >> 2 & 0x7fff)));
                (slot.version, slot.removed) = (control >> 17, control & 0x1fffc != 0);
                slot.content = content(d.kind, &entry[8..8 + d.len as usize]);
            } else {
                let (mut newest, mut all) = (0, Vec::new());
                for part in 0..d.len.div_ceil(65_536) {
                    let len = (d.len - part * 65_536).min(65_536);
                    let segment = d.first_segment + part;
                    let choice = record.segments[segment as usize];
                    let second = if choice == 2 { PAGE + up(len, PAGE) } else { 0 };
                    let head = d.copies + part * 139_264 + second;
                    let (data, stamp) = self.copy(record, segment, choice, head, PAGE, &mut sum)?;
                    assert_eq!(data.len() as u64, len);
                    newest = newest.max(stamp);
                    all.extend_from_slice(data);
                }
                (slot.version, slot.removed) = (newest >> 1, newest & 1 == 1);
                slot.content = content(d.kind, &all);
            }
            slots.push(slot);
        }
        Some((slots, sum))
    }

    /// The data of one copy, and the word of its head with a large slot's version.
    fn copy(
        &self,
        record: &Record,
        segment: u64,
        choice: u8,
        head: u64,
        data: u64,
        sum: &mut u64,
    ) -> Option<(&[u8], u64)> {
        assert!(choice == 1 || choice == 2);
        let (epoch, len) = (self.word(head + 8), self.word(head + 16));
        if self.word(head) != segment || len > 65_536 || epoch > record.epoch {
            return None;
        }
        self.assert_zero(head + 32, head + 60);
        let data = self.at(head + data, len);
        let crc = word(self.at(head + 60, 4));
        if crc != u64::from(crc32fast::hash(&[self.at(head, 60), data].concat())) {
            return None;
        }
        *sum = sum.wrapping_add(hash(segment, epoch, crc));
        Some((data, self.word(head + 24)))
    }
}

impl Descriptor {
    fn is_small(&self) -> bool {
        self.areas != 1 && 8 + up(self.len, 8) <= 1008
    }
}

/// The page's h(u, e, c).
fn hash(u: u64, e: u64, c: u64) -> u64 {
    let m = |x: u64| {
        let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    };
    let golden = 0x9e37_79b9_7f4a_7c15;
    m(m(u.wrapping_add(golden)) ^ e).wrapping_add(c.wrapping_mul(golden))
}

/// The content of an area's bytes.
fn content(kind: u8, area: &[u8]) -> Vec<u8> {
    match kind {
        TEXT | BYTES => area[8..8 + word(&area[..8]) as usize].to_vec(),
        COUNTER => {
            let sum = area.chunks(64).fold(0, |sum: u64, stripe| {
                assert!(stripe[8..].iter().all(|byte| *byte == 0));
                sum.wrapping_add(word(&stripe[..8]))
            });
            sum.to_le_bytes().to_vec()
        }
        _ => area.to_vec(),
    }
}

/// Allocates space of one kind: after the last of its kind, on a multiple of 64, if it fits into
/// that run, or if that run is the last; otherwise at the start of a new run.
fn take(end: &mut u64, runs: &mut u64, align: u64, len: impl Fn(u64) -> u64) -> u64 {
    let behind = up(*end, align);
    let run_end = up(*end, RUN);
    let fits = *end != 0 && (behind + len(behind) <= run_end || run_end == *runs);
    let at = if fits { behind } else { *runs };
    *end = at + len(at);
    *runs = (*runs).max(up(*end, RUN));
    at
}

/// Parses these lines as descriptors.
fn descriptors(lines: &[u8]) -> Vec<Descriptor> {
    let mut found = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let (descriptor, behind) = rest.split_at(128 * usize::from(rest[4]));
        found.push(read_descriptor(descriptor));
        rest = behind;
    }
    found
}

fn read_descriptor(d: &[u8]) -> Descriptor {
    assert_eq!(word(&d[..4]), u64::from(crc32fast::hash(&d[4..])));
    let (kind, scalar, areas, rank) = (d[5], d[6], d[7], usize::from(d[8]));
    let dims: Vec<u64> = (0..4).map(|i| word(&d[16 + 8 * i..24 + 8 * i])).collect();
    let shape = dims[..rank].iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    assert!(dims[rank..].iter().skip(usize::from(matches!(kind, TEXT | BYTES))).all(|d| *d == 0));
    let (name, size) = match scalar {
        0 => ("", 1),
        number => SCALARS[usize::from(number) - 1],
    };
    let elements = dims[..rank].iter().product::<u64>();
    let (slot_type, len) = match kind {
        VALUE => (name.to_owned(), size),
        ARRAY => (format!("{name}[{shape}]"), size * elements),
        BUFFER => (format!("buffer:{name}[{shape}]"), size * elements),
        TEXT => (format!("text[{}]", dims[0]), 8 + dims[0]),
        BYTES => (format!("bytes[{}]", dims[0]), 8 + dims[0]),
        COUNTER => ("counter".to_owned(), 64 * 64),
        other => panic!("kind {other}"),
    };
    assert!(match kind {
        VALUE => (areas, rank) == (0, 0),
        ARRAY => [2, 4, 8].contains(&areas) && (1..=4).contains(&rank),
        BUFFER => areas == 1 && (1..=4).contains(&rank),
        COUNTER => (name, areas, rank) == ("i64", 1, 0),
        _ => [2, 4, 8].contains(&areas) && (scalar, rank) == (0, 0),
    });
    assert_eq!((word(&d[10..12]), word(&d[80..88])), (0, 0), "reserved");
    let mut at = 88;
    let mut next = |len: usize| {
        at += len;
        text(&d[at - len..at])
    };
    let name = next(d[9].into());
    let doc = next(word(&d[12..14]) as usize);
    let unit = next(word(&d[14..16]) as usize);
    assert!(d[at..].iter().all(|byte| *byte == 0) && d.len() == up(at as u64, 128) as usize);
    let number = |at: usize| word(&d[at..at + 8]);
    Descriptor {
        kind,
        areas: areas.into(),
        len,
        live: number(48),
        first_segment: number(56),
        copies: number(64),
        place: number(72),
        lines: d[4].into(),
        slot: Slot {
            name,
            doc,
            unit,
            slot_type,
            areas,
            version: 0,
            removed: false,
            content: Vec::new(),
        },
    }
}
