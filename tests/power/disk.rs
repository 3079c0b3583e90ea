//! A file, the kernel's cache of it, and a power cut.
//!
//! Each page is on its own: what was written to it since the last flush is lost at a cut,
//! or kept, or the cut catches any version in between. So pages reach the disk in any order.

use crate::layout::{EMPTY, PAGES, Page, segments_for};

/// How a cut treats the pages that were not flushed.
#[derive(Clone, Copy)]
enum Cut {
    LosesAll,
    KeepsAll,
    Mixes,
}

pub(crate) struct Disk {
    durable: Vec<Page>,
    durable_segments: usize,
    /// What every process sees.
    cache: Vec<Page>,
    segments: usize,
    /// The versions of each page since its last flush, the newest last.
    unflushed: Vec<Vec<Page>>,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        Disk {
            durable: vec![EMPTY; PAGES],
            durable_segments: 0,
            cache: vec![EMPTY; PAGES],
            segments: 0,
            unflushed: vec![Vec::new(); PAGES],
        }
    }

    pub(crate) fn read(&self, page: usize) -> Page {
        self.cache[page]
    }

    pub(crate) fn write(&mut self, page: usize, content: Page) {
        assert!(segments_for(page) <= self.segments, "page {page} is beyond the file's end");
        self.cache[page] = content;
        self.unflushed[page].push(content);
    }

    /// Makes the file at least so long.
    pub(crate) fn grow(&mut self, segments: usize) {
        self.segments = self.segments.max(segments);
    }

    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    pub(crate) fn all_pages(&self) -> Vec<usize> {
        (0..PAGES).filter(|page| segments_for(*page) <= self.segments).collect()
    }

    /// These pages, and with `size` the file's length, survive from here on.
    pub(crate) fn flush(&mut self, pages: &[usize], size: bool) {
        for page in pages {
            self.make_durable(*page);
        }
        if size {
            self.durable_segments = self.segments;
        }
    }

    /// A flush that fails: some of the pages have reached the disk. All count as clean
    /// afterwards, as on ext4 and xfs, so that nobody will write them again.
    pub(crate) fn fail_to_flush(&mut self, pages: &[usize], random: &mut fastrand::Rng) {
        for page in pages {
            if random.bool() {
                self.make_durable(*page);
            }
            self.unflushed[*page].clear();
        }
    }

    /// The kernel writes some page on its own account.
    pub(crate) fn write_back_one(&mut self, random: &mut fastrand::Rng) {
        let page = random.usize(0..PAGES);
        if !self.unflushed[page].is_empty() {
            self.make_durable(page);
            if segments_for(page) > self.durable_segments {
                self.durable_segments = self.segments;
            }
        }
    }

    fn make_durable(&mut self, page: usize) {
        if !self.unflushed[page].is_empty() {
            self.durable[page] = self.cache[page];
            self.unflushed[page].clear();
        }
    }

    /// The kernel drops clean pages; whoever reads them next reads the disk. Of mapped
    /// pages, which processes hold, it does not.
    pub(crate) fn evict(&mut self, may: impl Fn(usize) -> bool, random: &mut fastrand::Rng) {
        for page in self.all_pages() {
            if may(page) && self.unflushed[page].is_empty() && random.u8(0..3) == 0 {
                self.cache[page] = self.durable[page];
            }
        }
    }

    pub(crate) fn cut(&mut self, random: &mut fastrand::Rng) {
        let cut = match random.u8(0..5) {
            0 => Cut::LosesAll,
            1 => Cut::KeepsAll,
            _ => Cut::Mixes,
        };
        if random.bool() {
            self.durable_segments = self.segments;
        }
        self.cut_with(|_, versions| {
            let kept = match cut {
                Cut::LosesAll => false,
                Cut::KeepsAll => true,
                Cut::Mixes => random.bool(),
            };
            let last = versions - 1;
            kept.then(|| if random.bool() { last } else { random.usize(0..versions) })
        });
    }

    /// A cut in which `keeps` says of each page that was not flushed, given the number of
    /// its versions, which one is kept.
    pub(crate) fn cut_with(&mut self, mut keeps: impl FnMut(usize, usize) -> Option<usize>) {
        for page in 0..PAGES {
            let versions = &mut self.unflushed[page];
            if !versions.is_empty()
                && let Some(version) = keeps(page, versions.len())
            {
                self.durable[page] = versions[version];
            }
            versions.clear();
            if segments_for(page) > self.durable_segments {
                self.durable[page] = EMPTY;
            }
            self.cache[page] = self.durable[page];
        }
        self.segments = self.durable_segments;
    }

    /// The file becomes a copy of itself, of which nothing is on the disk yet.
    pub(crate) fn copy(&mut self) {
        for page in 0..PAGES {
            self.durable[page] = EMPTY;
            self.unflushed[page].clear();
            if segments_for(page) <= self.segments {
                self.unflushed[page].push(self.cache[page]);
            }
        }
        self.durable_segments = self.segments;
    }

    /// Flips a bit, for good.
    pub(crate) fn rot(&mut self, page: usize, word: usize, bit: u32) {
        self.cache[page][word] ^= 1 << bit;
        self.durable[page] = self.cache[page];
    }
}
