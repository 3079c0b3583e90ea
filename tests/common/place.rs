//! A file that a store is written into again and again, without creating a new file.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use slotfile::OpenOptions;

use super::os::{self, Mapped};
use super::raw::{self, Image, Raw};

const PAGE: usize = 4096;

/// The file. It gets an identity of its own, so that opening it does not see a copy.
pub struct Place {
    file: File,
    identity: Vec<u8>,
    pub raw: Raw<Mapped>,
    /// How many times the store was written there.
    times: u32,
}

impl Place {
    /// A new file at this path, for stores like this one.
    pub fn new(path: &Path, image: &Image, options: &OpenOptions) -> Place {
        let _ = std::fs::remove_file(path);
        drop(options.clone().create_new(true).open(path).unwrap());
        let identity = Raw::open(path).bytes(raw::IDENTITY, raw::IDENTITY_LEN);
        let file = File::options().read(true).write(true).open(path).unwrap();
        file.set_len(image.len).unwrap();
        let raw = Raw::of(Mapped::of(&file));
        Place { file, identity, raw, times: 0 }
    }

    /// Whether this path still leads to it.
    pub fn is_at(&self, path: &Path) -> bool {
        let inode = |metadata: std::fs::Metadata| metadata.ino();
        std::fs::metadata(path).is_ok_and(|at| inode(at) == inode(self.file.metadata().unwrap()))
    }

    pub fn cut(&self, len: u64) {
        self.file.set_len(len).unwrap();
    }

    /// Writes the store there, only where it differs, since the last user has not changed much.
    pub fn put(&mut self, image: &Image) {
        // Now and then all of it is written, so that it has its holes again.
        if self.times.is_multiple_of(1_000) {
            self.cut(0);
        }
        self.times += 1;
        self.cut(image.len);
        let mapped = self.raw.storage();
        let page_at = |at: u64| at as usize..at as usize + PAGE;
        let mut pages = image.pages.iter().peekable();
        for at in os::data_ranges(&self.file).into_iter().flat_map(|range| range.step_by(PAGE)) {
            // The parts that are holes now.
            while let Some((at, page)) = pages.next_if(|(page, _)| *page < at) {
                mapped.with(page_at(*at), |to| to.copy_from_slice(page));
            }
            let page = pages.next_if(|(page, _)| *page == at);
            mapped.with(page_at(at), |to| match page {
                Some((_, page)) if to != page => to.copy_from_slice(page),
                Some(_) => {}
                None => to.fill(0),
            });
        }
        for (at, page) in pages {
            mapped.with(page_at(*at), |to| to.copy_from_slice(page));
        }
        self.raw.write(raw::IDENTITY, &self.identity);
    }
}
