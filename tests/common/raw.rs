//! Positions in a store's file, for tests that damage it on purpose. Written from the format's
//! description, not from the library's code.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A store's bytes, in a file or in memory.
pub struct Raw<B: Storage = File> {
    file: B,
}

/// Access to a store's bytes.
pub trait Storage: FileExt {
    fn len(&self) -> u64;
}

impl Storage for File {
    fn len(&self) -> u64 {
        self.metadata().unwrap().len()
    }
}

pub const LIVE_HEADER: u64 = 64 * 1024;
pub const TABLE: u64 = 128 * 1024;
pub const TABLE_ENTRY: u64 = 64;
pub const LINE: u64 = 128;
/// The words of the live header: the directory's lock, and the allocation ends.
pub const DIRECTORY_LOCK: u64 = LIVE_HEADER + 8 * 24;
pub const COUNT: u64 = LIVE_HEADER + 8 * 16;
pub const ENDS: u64 = LIVE_HEADER + 8 * 40;
/// Where the further tiers of the directory are: two words each, and their check.
pub const TIERS: u64 = LIVE_HEADER + 1_024;

/// The fields that identify the boot and the file of the live area.
pub const IDENTITY: u64 = LIVE_HEADER;
pub const IDENTITY_LEN: usize = 64;

/// Makes `to` a copy of the store `from` with an identity of its own, so that it is not seen as
/// a copy. (Any other copy is restored from its checkpoint when it is opened.)
pub fn copy(from: &Path, to: &Path) {
    // After an earlier copy to the same place, the file is the same, and so is its identity.
    let known = to.with_extension("identity");
    let identity = std::fs::read(&known).ok().filter(|_| to.exists()).unwrap_or_else(|| {
        slotfile::OpenOptions::new().create_new(true).sync_every(None).open(to).unwrap();
        let identity = Raw::open(to).bytes(IDENTITY, IDENTITY_LEN);
        std::fs::write(&known, &identity).unwrap();
        identity
    });
    let raw = Raw::open(to);
    raw.cut(0);
    std::io::copy(&mut File::open(from).unwrap(), &mut &raw.file).unwrap();
    raw.write(IDENTITY, &identity);
}

impl Raw {
    pub fn open(path: &Path) -> Raw {
        Raw::of(File::options().read(true).write(true).open(path).unwrap())
    }

    pub fn cut(&self, len: u64) {
        self.file.set_len(len).unwrap();
    }
}

impl<B: Storage> Raw<B> {
    pub fn of(file: B) -> Raw<B> {
        Raw { file }
    }

    pub fn storage(&self) -> &B {
        &self.file
    }

    pub fn len(&self) -> u64 {
        self.file.len()
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).unwrap();
    }

    pub fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    pub fn set_word(&self, at: u64, word: u64) {
        self.write(at, &word.to_le_bytes());
    }

    pub fn flip(&self, at: u64, mask: u8) {
        let byte = self.bytes(at, 1)[0];
        self.write(at, &[byte ^ mask]);
    }

    pub fn index(&self) -> u64 {
        self.word(80)
    }

    pub fn index_len(&self) -> u64 {
        8 * self.word(88)
    }

    pub fn directory(&self) -> u64 {
        self.word(96)
    }

    /// The position of the descriptor of this line.
    pub fn line(&self, line: u64) -> u64 {
        match (self.word(152), line / 512) {
            (0, _) | (_, 0) => self.directory() + line * LINE,
            (_, times) => {
                let tier = u64::from(times.ilog2());
                let first = 512 << tier;
                self.word(TIERS + 24 * tier) + 16 * first + (line - first) * LINE
            }
        }
    }

    /// The position of the slot of this line.
    pub fn slot(&self, line: u64) -> u64 {
        self.word(self.line(line) + 48)
    }

    /// The size of the slot of this line, in bytes.
    pub fn live_len(&self, line: u64) -> u64 {
        let at = self.line(line);
        let (kind, scalar) = (self.bytes(at + 5, 1)[0], self.bytes(at + 6, 1)[0]);
        let size = [0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 4, 8][usize::from(scalar)];
        let dims = (0..u64::from(self.bytes(at + 8, 1)[0])).map(|i| self.word(at + 16 + 8 * i));
        let content = match kind {
            1 => return 64,
            2 | 6 => size * dims.product::<u64>(),
            _ => self.word(at + 16) + 8,
        };
        let areas = u64::from(self.bytes(at + 7, 1)[0]);
        let of = if content < 4_096 { 64 } else { 4_096 };
        let from = self.slot(line);
        (from + 16 + 8 * areas).next_multiple_of(of) - from + areas * content.next_multiple_of(of)
    }

    /// The position of the control word of the slot of this line.
    pub fn control(&self, line: u64) -> u64 {
        self.slot(line) + 8
    }

    /// The line of the first slot of this name.
    fn line_of(&self, name: &str) -> u64 {
        let mut line = 0;
        loop {
            let at = self.line(line);
            let len = usize::from(self.bytes(at + 9, 1)[0]);
            if self.bytes(at + 88, len) == name.as_bytes() {
                return line;
            }
            line += u64::from(self.bytes(at + 4, 1)[0]);
        }
    }

    /// The position of the control word of the first slot of this name.
    pub fn control_of(&self, name: &str) -> u64 {
        self.control(self.line_of(name))
    }

    /// The position of the current area of the first slot of this name, which is an array of less
    /// than 4 KiB.
    pub fn current_area_of(&self, name: &str) -> u64 {
        let line = self.line_of(name);
        let (from, areas) = (self.slot(line), u64::from(self.bytes(self.line(line) + 7, 1)[0]));
        let first = (from + 16 + 8 * areas).next_multiple_of(64);
        let version = self.word(self.control(line)) >> 17;
        first + version % areas * ((from + self.live_len(line) - first) / areas)
    }

    /// Recomputes the header's CRC.
    pub fn seal_header(&self) {
        let crc = crc32fast::hash(&self.bytes(0, 4092));
        self.write(4092, &crc.to_le_bytes());
    }

    /// Makes an empty new store one of version 1.0. It has at most 16 slots, and nobody has it open:
    /// then the regions of both versions are in the same places.
    pub fn make_older(&self) {
        assert!(self.word(COUNT) as u32 == 0 && self.word(32) <= 16);
        self.write(12, &[0]);
        self.set_word(88, (2 * self.word(32)).next_power_of_two());
        self.set_word(104, 2 * self.word(32));
        for word in [152, 160, 168, 176, 184] {
            self.set_word(word, 0);
        }
        self.seal_header();
        // The words that 1.0 does not have, and the ends of slots and copies.
        for word in [56, 80, 88, 96, 104, 136, 144, 392, 640, 648] {
            self.set_word(LIVE_HEADER + word, 0);
        }
        for end in [8, 16] {
            self.set_word(ENDS + end, 0);
        }
        // Up to the first run.
        if self.len() < self.word(144) {
            self.write(self.word(144) - 1, &[0]);
        }
    }

    /// Recomputes the CRC of a descriptor of one line.
    pub fn seal_line(&self, line: u64) {
        let at = self.line(line);
        let crc = crc32fast::hash(&self.bytes(at + 4, LINE as usize - 4));
        self.write(at, &crc.to_le_bytes());
    }
}

/// The parts of the checkpoint that the header or a descriptor points to.
impl<B: Storage> Raw<B> {
    pub fn mark(&self) -> u64 {
        self.word(112)
    }

    /// The position of commit record 0 or 1.
    pub fn record(&self, number: u64) -> u64 {
        self.word(120) + number * self.record_len()
    }

    pub fn record_len(&self) -> u64 {
        self.word(128)
    }

    /// The number of the commit record with the highest epoch.
    pub fn newest_record(&self) -> u64 {
        u64::from(self.word(self.record(1)) > self.word(self.record(0)))
    }

    /// The bytes of a record: the head, then two bits for each page, then two for each segment. Its
    /// directory has one tier.
    pub fn record_used(&self, number: u64) -> u64 {
        let at = self.record(number);
        64 + choices_len(self.word(at + 16)) + choices_len(self.word(at + 24))
    }

    /// The positions of the copies that a record names: of directory pages, then of segments.
    pub fn copies_in_use(&self, number: u64) -> Vec<CopyAt> {
        let at = self.record(number);
        let (pages, segments) = (self.word(at + 16), self.word(at + 24));
        let choice = |from: u64, i: u64| self.bytes(from + i / 4, 1)[0] >> (2 * (i % 4)) & 3;
        let mut found = Vec::new();
        for page in 0..pages {
            let second = choice(at + 64, page) == 2;
            let head = self.word(136) + page * 4 * 4096 + if second { 2 * 4096 } else { 0 };
            found.push(CopyAt {
                slot_line: None,
                head,
                data: head + 4096,
                len: self.word(head + 16),
            });
        }
        for line in 0..self.word(at + 8) {
            let (segment, copies) =
                (self.word(self.line(line) + 56), self.word(self.line(line) + 64));
            let place = self.word(self.line(line) + 72);
            if place != 4096 {
                let second = choice(at + 64 + choices_len(pages), segment) == 2;
                let head = copies + if second { 4096 } else { 0 };
                found.push(CopyAt {
                    slot_line: Some(line),
                    head,
                    data: head + 64,
                    len: self.word(head + 16),
                });
                continue;
            }
            let mut left = self.word(self.line(line) + 16);
            for part in 0.. {
                let len = left.min(65_536);
                if len == 0 || segment + part >= segments {
                    break;
                }
                let second = choice(at + 64 + choices_len(pages), segment + part) == 2;
                let stride = 4096 + len.next_multiple_of(4096);
                let head = copies + part * 2 * (4096 + 65_536) + if second { stride } else { 0 };
                found.push(CopyAt { slot_line: Some(line), head, data: head + 4096, len });
                left -= len;
            }
        }
        found.sort_by_key(|copy| copy.head);
        // Slots that share a segment.
        found.dedup_by_key(|copy| copy.head);
        found
    }

    /// Recomputes the CRC of a commit record, if its numbers allow it.
    pub fn seal_record(&self, number: u64) {
        let (at, len) = (self.record(number), self.record_used(number));
        if len <= self.record_len() {
            let bytes = self.bytes(at, len as usize);
            let mut crc = crc32fast::Hasher::new();
            crc.update(&bytes[..60]);
            crc.update(&bytes[64..]);
            self.write(at + 60, &crc.finalize().to_le_bytes());
        }
    }

    /// Recomputes the CRC of a copy.
    pub fn seal_copy(&self, copy: &CopyAt) {
        let len = self.word(copy.head + 16);
        if len <= 65_536 && copy.data + len <= self.len() {
            let mut crc = crc32fast::Hasher::new();
            crc.update(&self.bytes(copy.head, 60));
            crc.update(&self.bytes(copy.data, len as usize));
            self.write(copy.head + 60, &crc.finalize().to_le_bytes());
        }
    }

    /// Makes the store one of an earlier boot. No process has it open.
    pub fn restart(&self) {
        self.write(IDENTITY, &[0x55; IDENTITY_LEN]);
    }
}

fn choices_len(choices: u64) -> u64 {
    choices.div_ceil(4).saturating_add(7) / 8 * 8
}

/// The position of one copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyAt {
    /// The line of the first slot in it; `None` for a page of the directory.
    pub slot_line: Option<u64>,
    pub head: u64,
    pub data: u64,
    pub len: u64,
}

/// All of a file that is not zero: stores are sparse, so restoring one is quick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub len: u64,
    pub pages: Vec<(u64, Vec<u8>)>,
}

impl Image {
    pub fn of(path: &Path) -> Image {
        let bytes = std::fs::read(path).unwrap();
        let pages = bytes.chunks(4096).enumerate();
        let pages = pages.filter(|(_, page)| page.iter().any(|b| *b != 0));
        let pages = pages.map(|(i, page)| (4096 * i as u64, page.to_vec())).collect();
        Image { len: bytes.len() as u64, pages }
    }

    /// Restores the file's content. The file keeps its inode.
    pub fn put(&self, path: &Path) {
        let options = File::options().write(true).create(true).truncate(true).to_owned();
        let file = options.open(path).unwrap();
        file.set_len(self.len).unwrap();
        for (at, page) in &self.pages {
            file.write_all_at(page, *at).unwrap();
        }
    }

    /// Serializes compactly: the length, then the runs that are not zero: offset, length, bytes.
    pub fn to_runs(&self) -> Vec<u8> {
        let mut runs = self.len.to_le_bytes().to_vec();
        for (at, page) in &self.pages {
            let mut from = 0;
            while let Some(start) = (from..page.len()).find(|i| page[*i] != 0) {
                // Up to sixteen zeros cost less than another run.
                let mut end = start + 1;
                let mut i = end;
                while i < page.len() && i < end + 16 {
                    if page[i] != 0 {
                        end = i + 1;
                    }
                    i += 1;
                }
                runs.extend((at + start as u64).to_le_bytes());
                runs.extend((end as u64 - start as u64).to_le_bytes());
                runs.extend(&page[start..end]);
                from = end;
            }
        }
        runs
    }

    /// The inverse of [`to_runs`](Image::to_runs).
    pub fn put_runs(runs: &[u8], path: &Path) {
        let word = |at: usize| u64::from_le_bytes(runs[at..at + 8].try_into().unwrap());
        let file = File::create(path).unwrap();
        file.set_len(word(0)).unwrap();
        let mut at = 8;
        while at < runs.len() {
            let (offset, len) = (word(at), word(at + 8) as usize);
            file.write_all_at(&runs[at + 16..at + 16 + len], offset).unwrap();
            at += 16 + len;
        }
    }
}
