//! A disk and the kernel's cache of it, in memory. The cache is a file in memory, which the store
//! maps. The disk's content is recorded here.
//!
//! Each page is independent: at a power cut, writes to it since it last became durable are lost,
//! or kept, or torn between two sectors, or any version in between remains. So pages reach the
//! disk in any order, and the file's length may lag behind all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::layout::{GRANULE, PAGE};
use crate::format::regions::Regions;
use crate::os::disk::{self, Range};
use crate::os::sys;

type Page = Box<[u8; PAGE as usize]>;

const SECTOR: usize = 512;

/// How a sync or a restore is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The process is killed.
    Kill,
    /// The power fails.
    Cut,
    /// A call fails.
    Error,
}

/// What other processes do while a sync runs.
pub(crate) type Others = Box<dyn FnMut() + Send>;

#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    /// Runs of pages that are changed through the mapping, by number.
    mapped: Vec<std::ops::Range<u64>>,
    flushes_ranges: bool,
    state: Mutex<State>,
    others: OthersCell,
}

struct OthersCell(Mutex<Option<Others>>);

impl std::fmt::Debug for OthersCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("others")
    }
}

#[derive(Debug)]
pub(crate) struct State {
    random: fastrand::Rng,
    /// The content of the disk. A missing page is zeros.
    lasting: BTreeMap<u64, Page>,
    lasting_len: u64,
    /// The last recorded content of each mapped page.
    seen: BTreeMap<u64, Page>,
    /// The versions of each page since it last became durable, the newest last.
    versions: BTreeMap<u64, Vec<Page>>,
    /// How many of them are in the device's own cache: the next flush makes them durable.
    in_device: BTreeMap<u64, usize>,
    /// Pages that the kernel believes to be clean, but that never reached the disk.
    lost: BTreeSet<u64>,
    /// Whether a lost page that is not on the disk stays lost, however often it is written, while
    /// the kernel has it in memory. It does on ext4 if its blocks had never been written.
    pub(crate) lost_for_good: bool,
    /// Pages that the disk cannot read.
    pub(crate) unreadable: BTreeSet<u64>,
    /// After this many tries it can read them again; `None`: never.
    pub(crate) readable_in: Option<u32>,
    /// The step at which the operation is interrupted, counted down, and how.
    pub(crate) stop_in: Option<(u32, Stop)>,
    /// The write-out or flush that fails, counted down.
    pub(crate) fail_flush_in: Option<u32>,
    /// Whether the process is killed at its next write-out.
    pub(crate) stop_before_write_out: bool,
    /// Whether nothing happens by chance.
    pub(crate) scripted: bool,
}

fn pages_of(at: u64, len: u64) -> std::ops::Range<u64> {
    at / PAGE..(at + len).div_ceil(PAGE)
}

fn empty_file() -> File {
    sys::memory_file(c"simulated disk").unwrap()
}

impl Disk {
    /// A disk with this file on it, all of it durable.
    pub(crate) fn new(
        file: File,
        regions: &Regions,
        flushes_ranges: bool,
        random: fastrand::Rng,
    ) -> Disk {
        let lasting = content(&file);
        let lasting_len = file.metadata().unwrap().len();
        Disk::with(file, regions, flushes_ranges, random, lasting, lasting_len)
    }

    fn with(
        file: File,
        regions: &Regions,
        flushes_ranges: bool,
        random: fastrand::Rng,
        lasting: BTreeMap<u64, Page>,
        lasting_len: u64,
    ) -> Disk {
        // The live header, the first lines of the index and of the directory, and the run of the
        // live slots, as far as they are used. The process table does not matter.
        let page = |at: u64| at / PAGE;
        let mapped = vec![
            page(regions.live_header)..page(regions.live_header) + 1,
            page(regions.index)..page(regions.index) + 2,
            page(regions.directory)..page(regions.directory) + 16,
            page(regions.first_ends().0)..page(regions.first_ends().0) + 112,
        ];
        let state = State {
            random,
            lasting_len,
            lasting,
            seen: BTreeMap::new(),
            versions: BTreeMap::new(),
            in_device: BTreeMap::new(),
            lost: BTreeSet::new(),
            lost_for_good: false,
            unreadable: BTreeSet::new(),
            readable_in: None,
            stop_in: None,
            fail_flush_in: None,
            stop_before_write_out: false,
            scripted: false,
        };
        let others = OthersCell(Mutex::new(None));
        let disk = Disk { file, mapped, flushes_ranges, state: Mutex::new(state), others };
        disk.see_all();
        disk
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_others(&self, others: Option<Others>) {
        *self.others.0.lock().unwrap_or_else(PoisonError::into_inner) = others;
    }

    fn cached(&self, page: u64) -> Page {
        let mut content = Box::new([0; PAGE as usize]);
        // Beyond the end there are zeros, which no process sees.
        let _ = self.file.read_at(&mut content[..], page * PAGE);
        content
    }

    fn see_all(&self) {
        let mut state = self.state();
        for page in self.mapped.iter().cloned().flatten() {
            state.seen.insert(page, self.cached(page));
        }
    }

    /// Records what was written through the mapping.
    fn notice(&self, state: &mut State) {
        for pages in &self.mapped {
            let mut now = vec![0; ((pages.end - pages.start) * PAGE) as usize];
            let _ = self.file.read_at(&mut now, pages.start * PAGE);
            for (page, now) in pages.clone().zip(now.chunks_exact(PAGE as usize)) {
                if state.seen[&page][..] != *now {
                    let mut content = Box::new([0; PAGE as usize]);
                    content.copy_from_slice(now);
                    state.seen.insert(page, content.clone());
                    state.written(page, content);
                }
            }
        }
    }

    fn note(&self, state: &mut State, page: u64) {
        let content = self.cached(page);
        if let Some(seen) = state.seen.get_mut(&page) {
            *seen = content.clone();
        }
        state.written(page, content);
    }

    /// Runs between any two actions of a sync or a restore: other processes go on, the kernel
    /// writes pages back, and planned faults happen.
    fn step(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.scripted {
            drop(state);
            return self.stop();
        }
        if state.random.u8(0..4) == 0 {
            if state.random.u8(0..8) == 0 {
                self.notice(&mut state);
            }
            state.write_back_one(self.file.metadata()?.len());
        }
        let busy = state.random.u8(0..3) == 0;
        drop(state);
        if busy {
            let others = self.others.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut others) = others {
                others();
                self.set_others(Some(others));
            }
        }
        self.stop()
    }

    fn stop(&self) -> io::Result<()> {
        let mut state = self.state();
        let Some((steps, stop)) = &mut state.stop_in else { return Ok(()) };
        *steps -= 1;
        if *steps > 0 {
            return Ok(());
        }
        let stop = *stop;
        state.stop_in = None;
        if stop == Stop::Error {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        drop(state);
        std::panic::resume_unwind(Box::new(stop))
    }

    /// Makes the kernel drop clean pages, so that the next read comes from the disk. It does not
    /// drop pages that processes have mapped.
    pub(crate) fn evict(&self) {
        let mut state = self.state();
        for page in state.lost.clone() {
            if state.random.u8(0..3) == 0 {
                self.drop_page(&mut state, page);
            }
        }
    }

    fn drop_page(&self, state: &mut State, page: u64) {
        if self.mapped.iter().any(|pages| pages.contains(&page)) {
            return;
        }
        let zeros = Box::new([0; PAGE as usize]);
        let lasting = state.lasting.get(&page).unwrap_or(&zeros);
        self.file.write_all_at(&lasting[..], page * PAGE).unwrap();
        state.lost.remove(&page);
    }

    /// The disk as the machine finds it when the power comes back.
    pub(crate) fn cut(&self, regions: &Regions) -> Disk {
        let mut state = self.state();
        self.notice(&mut state);
        let mode = state.random.u8(0..5);
        if state.random.bool() {
            state.lasting_len = self.file.metadata().unwrap().len();
        }
        drop(state);
        self.cut_with(regions, |random, _, versions| {
            let kept = match mode {
                0 => false,
                1 => true,
                _ => random.bool(),
            };
            kept.then(|| if random.bool() { versions } else { random.usize(1..=versions) })
        })
    }

    /// A power cut. For each page that is not durable, `keeps` gets the number of its versions, and
    /// says how many of them have reached the disk.
    pub(crate) fn cut_with(
        &self,
        regions: &Regions,
        mut keeps: impl FnMut(&mut fastrand::Rng, u64, usize) -> Option<usize>,
    ) -> Disk {
        let mut state = self.state();
        self.notice(&mut state);
        let mut lasting = std::mem::take(&mut state.lasting);
        let zeros = Box::new([0; PAGE as usize]);
        for (page, versions) in std::mem::take(&mut state.versions) {
            let Some(count) = keeps(&mut state.random, page, versions.len()) else { continue };
            let mut kept = versions[count - 1].clone();
            if !state.scripted && state.random.u8(0..4) == 0 {
                // Torn: the sectors after this one are old.
                let at = SECTOR * state.random.usize(1..PAGE as usize / SECTOR);
                kept[at..].copy_from_slice(&lasting.get(&page).unwrap_or(&zeros)[at..]);
            }
            lasting.insert(page, kept);
        }
        let len = state.lasting_len;
        lasting.retain(|page, _| page * PAGE < len);
        // Another boot. (All zeros: a restore was interrupted.)
        if let Some(header) = lasting.get_mut(&(regions.live_header / PAGE))
            && header[..64] != [0; 64]
        {
            header[..8].copy_from_slice(&state.random.u64(1..).to_le_bytes());
        }
        let file = empty_file();
        file.set_len(len).unwrap();
        for (page, content) in &lasting {
            file.write_all_at(&content[..], page * PAGE).unwrap();
        }
        let random = state.random.fork();
        Disk::with(file, regions, self.flushes_ranges, random, lasting, len)
    }

    /// A copy of the file, of which nothing is on the disk yet.
    pub(crate) fn copy(&self, regions: &Regions) -> Disk {
        let (file, len) = (empty_file(), self.file.metadata().unwrap().len());
        file.set_len(len).unwrap();
        let pages = content(&self.file);
        for (page, content) in &pages {
            file.write_all_at(&content[..], page * PAGE).unwrap();
        }
        let random = self.state().random.fork();
        let copy = Disk::with(file, regions, self.flushes_ranges, random, BTreeMap::new(), len);
        copy.state().versions = pages.into_iter().map(|(page, now)| (page, vec![now])).collect();
        copy
    }

    /// Flips a bit, durably.
    pub(crate) fn rot(&self, at: u64, bit: u8) {
        let byte = self.peek((at, 1))[0];
        self.poke(at, &[byte ^ 1 << bit]);
    }

    pub(crate) fn peek(&self, (at, len): Range) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// Changes bytes in memory and on the disk, which no process has written.
    pub(crate) fn poke(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).unwrap();
        let mut state = self.state();
        for page in pages_of(at, bytes.len() as u64) {
            let content = self.cached(page);
            state.seen.get_mut(&page).into_iter().for_each(|seen| *seen = content.clone());
            state.lasting.insert(page, content);
        }
    }

    /// Makes all that was written durable.
    pub(crate) fn settle(&self) {
        let mut state = self.state();
        self.notice(&mut state);
        state.make_all_lasting(self.file.metadata().unwrap().len());
    }

    /// Pages of the checkpoint that are not empty.
    pub(crate) fn checkpoint_pages(&self, regions: &Regions) -> Vec<u64> {
        // The live slots are all in the first run.
        let is_checkpoint = |page: u64| page >= regions.mark / PAGE;
        content(&self.file).into_keys().filter(|page| is_checkpoint(*page)).collect()
    }
}

/// The pages of a file that are not zeros.
fn content(file: &File) -> BTreeMap<u64, Page> {
    let len = file.metadata().unwrap().len();
    let mut pages = BTreeMap::new();
    let mut granule = vec![0; GRANULE as usize];
    for at in (0..len).step_by(GRANULE as usize) {
        granule.fill(0);
        let part = (len - at).min(GRANULE) as usize;
        file.read_exact_at(&mut granule[..part], at).unwrap();
        for (page, content) in (at / PAGE..).zip(granule.chunks_exact(PAGE as usize)) {
            if content.iter().any(|byte| *byte != 0) {
                let mut copy = Box::new([0; PAGE as usize]);
                copy.copy_from_slice(content);
                pages.insert(page, copy);
            }
        }
    }
    pages
}

impl State {
    fn written(&mut self, page: u64, content: Page) {
        if self.lost_for_good && self.lost.contains(&page) && !self.lasting.contains_key(&page) {
            return;
        }
        self.lost.remove(&page);
        self.versions.entry(page).or_default().push(content);
    }

    fn make_lasting(&mut self, page: u64, count: usize) {
        let Some(versions) = self.versions.get_mut(&page) else { return };
        self.lasting.insert(page, versions[count - 1].clone());
        versions.drain(..count);
        if versions.is_empty() {
            self.versions.remove(&page);
        }
        self.in_device.remove(&page);
    }

    fn make_all_lasting(&mut self, len: u64) {
        for (page, versions) in std::mem::take(&mut self.versions) {
            let last = versions.into_iter().last().unwrap();
            self.lasting.insert(page, last);
        }
        self.in_device.clear();
        self.lasting_len = len;
    }

    /// The kernel writes some page back by itself.
    fn write_back_one(&mut self, len: u64) {
        let dirty: Vec<u64> = self.versions.keys().copied().collect();
        if let Some(page) = self.random.choice(&dirty).copied() {
            self.make_lasting(page, self.versions[&page].len());
            if page * PAGE >= self.lasting_len {
                self.lasting_len = len;
            }
        }
    }

    fn flush_fails(&mut self) -> bool {
        let Some(flushes) = &mut self.fail_flush_in else { return false };
        *flushes -= 1;
        let fails = *flushes == 0;
        if fails {
            self.fail_flush_in = None;
        }
        fails
    }

    /// A flush that fails: some of the pages have reached the disk. All count as clean afterwards,
    /// as on ext4 and xfs, so the kernel will not write them again.
    fn fail(&mut self, pages: Vec<u64>) -> io::Result<()> {
        for page in pages {
            let Some(versions) = self.versions.get(&page) else { continue };
            if self.random.bool() {
                self.make_lasting(page, versions.len());
            } else {
                self.versions.remove(&page);
                self.in_device.remove(&page);
                self.lost.insert(page);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    fn dirty(&self, ranges: &[Range]) -> Vec<u64> {
        let pages = ranges.iter().flat_map(|(at, len)| pages_of(*at, *len));
        pages.filter(|page| self.versions.contains_key(page)).collect()
    }
}

impl disk::Disk for Disk {
    fn file(&self) -> &File {
        &self.file
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if pages_of(at, out.len() as u64).any(|page| state.unreadable.contains(&page)) {
            state.readable_in = state.readable_in.map(|tries| tries - 1);
            if state.readable_in == Some(0) {
                state.unreadable.clear();
            }
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.file.read_exact_at(out, at)
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.step()?;
        let mut state = self.state();
        self.file.write_all_at(data, at)?;
        for page in pages_of(at, data.len() as u64) {
            state.unreadable.remove(&page);
            self.note(&mut state, page);
        }
        Ok(())
    }

    fn allocate(&self, at: u64, len: u64) -> io::Result<()> {
        self.step()?;
        if at + len > self.file.metadata()?.len() {
            self.file.set_len(at + len)?;
        }
        Ok(())
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.step()?;
        let mut state = self.state();
        sys::punch(&self.file, at, len)?;
        let pages = pages_of(at, len);
        let known: BTreeSet<u64> = (state.lasting.range(pages.clone()).map(|(page, _)| *page))
            .chain(state.versions.range(pages.clone()).map(|(page, _)| *page))
            .chain(state.seen.range(pages.clone()).map(|(page, _)| *page))
            .collect();
        known.into_iter().for_each(|page| self.note(&mut state, page));
        state.unreadable.retain(|page| !pages.contains(page));
        Ok(())
    }

    fn zero(&self, at: u64, len: u64, _: &mut dyn FnMut()) -> io::Result<()> {
        self.punch(at, len)
    }

    fn unshare(&self, _: u64, _: u64, _: &mut dyn FnMut()) -> io::Result<()> {
        self.step()
    }

    fn write_out(&self, ranges: &[Range], _: &mut dyn FnMut()) -> io::Result<()> {
        if std::mem::take(&mut self.state().stop_before_write_out) {
            std::panic::resume_unwind(Box::new(Stop::Kill));
        }
        self.step()?;
        let mut state = self.state();
        if !self.flushes_ranges {
            return Ok(());
        }
        let dirty = state.dirty(ranges);
        if state.flush_fails() {
            return state.fail(dirty);
        }
        for page in dirty {
            let count = state.versions[&page].len();
            state.in_device.insert(page, count);
        }
        drop(state);
        self.step()
    }

    fn flushes_ranges(&self) -> bool {
        self.flushes_ranges
    }

    fn flush(&self, range: Range) -> io::Result<()> {
        self.step()?;
        let mut state = self.state();
        if !self.flushes_ranges {
            return Ok(());
        }
        let dirty = state.dirty(&[range]);
        if state.flush_fails() {
            return state.fail(dirty);
        }
        for page in dirty {
            let count = state.versions[&page].len();
            state.in_device.insert(page, count);
        }
        for (page, count) in state.in_device.clone() {
            state.make_lasting(page, count);
        }
        state.lasting_len = self.file.metadata()?.len();
        drop(state);
        self.step()
    }

    fn forget(&self, ranges: &[Range]) {
        let _ = self.flush_all();
        let mut state = self.state();
        let is_in = |page: &u64| ranges.iter().any(|(at, len)| pages_of(*at, *len).contains(page));
        for page in state.lost.clone().into_iter().filter(is_in) {
            self.drop_page(&mut state, page);
        }
    }

    fn flush_all(&self) -> io::Result<()> {
        self.step()?;
        let mut state = self.state();
        self.notice(&mut state);
        if state.flush_fails() {
            let dirty = state.versions.keys().copied().collect();
            return state.fail(dirty);
        }
        state.make_all_lasting(self.file.metadata()?.len());
        drop(state);
        self.step()
    }
}
