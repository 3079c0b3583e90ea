//! Where things are in a store's file, for tests that damage it on purpose. Written from
//! the format's description, not from the library's code.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A store's file, as bytes.
pub struct Raw {
    file: File,
}

pub const LIVE_HEADER: u64 = 64 * 1024;
pub const TABLE: u64 = 128 * 1024;
pub const TABLE_ENTRY: u64 = 64;
pub const LINE: u64 = 128;
/// The words of the live header: the directory's lock, and the allocation ends.
pub const DIRECTORY_LOCK: u64 = LIVE_HEADER + 8 * 24;
pub const COUNT: u64 = LIVE_HEADER + 8 * 16;
pub const ENDS: u64 = LIVE_HEADER + 8 * 40;

/// What tells in which boot, and in which file, the live area was written.
pub const IDENTITY: u64 = LIVE_HEADER;
pub const IDENTITY_LEN: usize = 64;

/// Makes `to` a copy of the store `from` that is taken for the file itself: with an identity
/// of its own. (Any other copy is restored from its checkpoint when it is opened.)
pub fn copy(from: &Path, to: &Path) {
    // Of an earlier copy to the same place: the file is the same, and so is its identity.
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
        Raw { file: File::options().read(true).write(true).open(path).unwrap() }
    }

    pub fn len(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    pub fn cut(&self, len: u64) {
        self.file.set_len(len).unwrap();
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

    /// Where the descriptor of this line is.
    pub fn line(&self, line: u64) -> u64 {
        self.directory() + line * LINE
    }

    /// Where the slot of this line is.
    pub fn slot(&self, line: u64) -> u64 {
        self.word(self.line(line) + 48)
    }

    /// Where the control word of the slot of this line is.
    pub fn control(&self, line: u64) -> u64 {
        self.slot(line) + 8
    }

    /// Makes the header's CRC right again.
    pub fn seal_header(&self) {
        let crc = crc32fast::hash(&self.bytes(0, 4092));
        self.write(4092, &crc.to_le_bytes());
    }

    /// Makes the CRC of a descriptor of one line right again.
    pub fn seal_line(&self, line: u64) {
        let at = self.line(line);
        let crc = crc32fast::hash(&self.bytes(at + 4, LINE as usize - 4));
        self.write(at, &crc.to_le_bytes());
    }
}
