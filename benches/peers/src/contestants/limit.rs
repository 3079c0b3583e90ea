//! The limit of the machine: no names, no types, no locks, no recovery.

use std::any::Any;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::contestant::{
    Block, Contestant, Durable, End, Keep, Name, Names, Number, Numbers, Signal, not_offered,
};
use crate::shared::Shared;

pub struct Limit {
    /// Copies of a block. With one, a read may be torn; with four, a slow reader has the time of
    /// three replacements to finish.
    pub versions: usize,
}

impl Contestant for Limit {
    fn name(&self) -> &'static str {
        if self.versions == 1 { "limit" } else { "limit (4 versions)" }
    }

    fn is_variant(&self) -> bool {
        self.versions != 1
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        self.only_blocks()?;
        Ok(match keep {
            Keep::Running => Box::new(Word(Shared::open(path, 8)?)),
            Keep::Durable => Box::new(Written::open(path)?),
        })
    }

    fn numbers(&self, path: &Path, count: usize) -> Result<Box<dyn Numbers>> {
        self.only_blocks()?;
        Ok(Box::new(Words(Shared::open(path, count)?)))
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        // The version has a page of its own, and so has each block that is large enough.
        let map = Shared::open(path, FIRST + self.versions * words)?;
        Ok(Box::new(Versions { map, words, versions: self.versions as u64 }))
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        self.only_blocks()?;
        let map = Shared::open(path, names.len())?;
        let mut found = HashMap::new();
        for (place, name) in names.iter().enumerate() {
            map.word(place).store(name.value, Ordering::Relaxed);
            found.insert(name.name.clone(), AtomicU64::new(name.value));
        }
        Ok(Box::new(found))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        self.only_blocks()?;
        let file = File::open(path)?;
        let words = file.metadata()?.len() / 8;
        Ok(Box::new(Places(Shared::open(path, words as usize)?)))
    }

    fn signal(&self, path: &Path, name: &str, _end: End) -> Result<Box<dyn Signal>> {
        self.only_blocks()?;
        Ok(Box::new(Futex(Shared::open(&path.with_extension(name), 8)?)))
    }

    fn durable(&self) -> Result<&dyn Durable> {
        self.only_blocks()?;
        Ok(self)
    }
}

/// One page, whatever the slots: the limit is one flush after the other.
impl Durable for Limit {
    fn make(&self, path: &Path, _names: &[Name]) -> Result<Box<dyn Any>> {
        Written::open(path)?;
        Ok(Box::new(()))
    }

    fn open(&self, path: &Path, names: &[&str]) -> Result<Vec<Box<dyn Number + Send>>> {
        ensure!(names.len() == 1, "one thread at a time");
        Ok(vec![Box::new(Written::open(path)?)])
    }

    fn is_alone(&self) -> bool {
        true
    }
}

impl Limit {
    fn only_blocks(&self) -> Result<()> {
        if self.versions == 1 { Ok(()) } else { Err(not_offered("versions are for blocks")) }
    }
}

/// One number that is the sum of many: each process adds to one on a cache line of its own.
pub struct OwnLines;

impl Contestant for OwnLines {
    fn name(&self) -> &'static str {
        "limit (own lines)"
    }

    fn is_variant(&self) -> bool {
        true
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        if keep == Keep::Durable {
            return Err(not_offered("lines are for processes at once"));
        }
        let words = Shared::open(path, 8 * (1 + LINES))?;
        let given_out = words.word(0).fetch_add(1, Ordering::Relaxed) as usize;
        Ok(Box::new(OwnLine { words, own: 8 * (1 + given_out % LINES) }))
    }
}

const LINES: usize = 128;

struct OwnLine {
    words: Shared,
    own: usize,
}

impl Number for OwnLine {
    fn read(&mut self) -> u64 {
        (1..=LINES).map(|line| self.words.word(8 * line).load(Ordering::Acquire)).sum()
    }
    fn add(&mut self) {
        self.words.word(self.own).fetch_add(1, Ordering::AcqRel);
    }
}

struct Word(Shared);

impl Number for Word {
    fn read(&mut self) -> u64 {
        self.0.word(0).load(Ordering::Acquire)
    }
    fn add(&mut self) {
        self.0.word(0).fetch_add(1, Ordering::AcqRel);
    }
}

struct Words(Shared);

impl Numbers for Words {
    fn add(&mut self) {
        for i in 0..self.0.len() {
            self.0.word(i).fetch_add(1, Ordering::AcqRel);
        }
    }
    fn read(&mut self, out: &mut [u64]) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = self.0.word(i).load(Ordering::Acquire);
        }
    }
}

/// A page of a file, written and flushed.
struct Written {
    file: File,
    page: [u8; 4096],
}

impl Written {
    fn open(path: &Path) -> Result<Written> {
        let options = File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(path)?;
        let mut page = [0; 4096];
        if file.metadata()?.len() == 0 {
            file.write_all_at(&page, 0)?;
            file.sync_all()?;
        }
        file.read_exact_at(&mut page, 0)?;
        Ok(Written { file, page })
    }
}

impl Number for Written {
    fn read(&mut self) -> u64 {
        u64::from_le_bytes(*self.page.first_chunk().expect("a page"))
    }
    fn add(&mut self) {
        let next = self.read() + 1;
        self.page[..8].copy_from_slice(&next.to_le_bytes());
        self.file.write_all_at(&self.page, 0).expect("written");
        self.file.sync_data().expect("flushed");
    }
}

/// Blocks written in turn, and a word that counts the writes.
struct Versions {
    map: Shared,
    words: usize,
    versions: u64,
}

const FIRST: usize = 512;

impl Versions {
    fn place(&self, version: u64) -> usize {
        FIRST + (version % self.versions) as usize * self.words
    }
}

impl Block for Versions {
    fn replace(&mut self, content: &[u64]) {
        let next = self.map.word(0).load(Ordering::Relaxed) + 1;
        self.map.copy_in(self.place(next), content);
        self.map.word(0).store(next, Ordering::Release);
    }

    fn read(&mut self, out: &mut [u64]) {
        loop {
            let version = self.map.word(0).load(Ordering::Acquire);
            self.map.copy_out(self.place(version), out);
            fence(Ordering::Acquire);
            let passed = self.map.word(0).load(Ordering::Relaxed) - version;
            // The next replacement of this block begins after those of all others.
            if passed < self.versions - 1 || self.versions == 1 {
                break;
            }
        }
    }

    fn set(&mut self, index: usize, word: u64) -> bool {
        self.map.word(self.place(0) + index).store(word, Ordering::Release);
        true
    }
}

impl Names for HashMap<String, AtomicU64> {
    fn read(&mut self, name: &str) -> u64 {
        self[name].load(Ordering::Acquire)
    }
}

/// A mapped file of numbers, without names: the number at the end of a name is the position.
struct Places(Shared);

impl Names for Places {
    fn read(&mut self, name: &str) -> u64 {
        let digits = name.trim_start_matches(|c| c != 's').trim_start_matches("slot");
        self.0.word(digits.parse().expect("a number")).load(Ordering::Acquire)
    }
}

/// A word to wait for: 50 us spinning, then asleep.
struct Futex(Shared);

impl Futex {
    fn call(&self, operation: i32, value: u32) {
        let word: *const AtomicU64 = self.0.word(0);
        let no_timeout: *const libc::timespec = std::ptr::null();
        // SAFETY: the low half of a word of the mapping, which outlives the call.
        unsafe {
            libc::syscall(libc::SYS_futex, word.cast::<AtomicU32>(), operation, value, no_timeout)
        };
    }
}

impl Signal for Futex {
    fn send(&mut self, number: u64) {
        self.0.word(0).store(number, Ordering::SeqCst);
        // The second word counts the sleepers; without any, the system call is skipped.
        if self.0.word(1).load(Ordering::SeqCst) > 0 {
            self.call(libc::FUTEX_WAKE, i32::MAX as u32);
        }
    }

    fn wait(&mut self, number: u64) {
        let start = Instant::now();
        loop {
            let seen = self.0.word(0).load(Ordering::SeqCst);
            if seen >= number {
                assert_eq!(seen, number, "announcements come one by one");
                return;
            }
            if start.elapsed() < Duration::from_micros(50) {
                std::hint::spin_loop();
                continue;
            }
            self.0.word(1).fetch_add(1, Ordering::SeqCst);
            self.call(libc::FUTEX_WAIT, seen as u32);
            self.0.word(1).fetch_sub(1, Ordering::SeqCst);
        }
    }
}
