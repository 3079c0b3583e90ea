//! Where the directory's tiers are, and its lines and indexes through them.
//!
//! Where the first tier is, the header says. Each further tier has an entry in the live header, with
//! a check. A definition writes it before the first line of the tier counts; it never changes while
//! the boot lasts, and a restore writes what its record says. It is read anew each time, but for the
//! lines of slots that this process knows (`descriptor_cache.rs`).

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::attachment::attach::Attachment;
use crate::error::{Error, Result};
use crate::format::checkpoint::mix;
use crate::format::layout::{LINE, live};
use crate::format::tiers::{Parts, Tier};
use crate::mapping::map::{Map, Region};
use crate::mutant::planted;

impl Attachment {
    /// Where a further tier is; `None` if it has not been placed.
    pub(crate) fn parts(&self, number: u32) -> Result<Option<Parts>> {
        let header = &self.header;
        if number >= header.regions.tiers(header.regions.directory_lines) {
            return Ok(None);
        }
        let at = entry_at(number);
        // Acquire: whoever sees the check sees the words before it.
        let check = self.live.load(at + 2, Acquire);
        if check == 0 {
            return Ok(None);
        }
        let parts =
            Parts { live: self.live.load(at, Relaxed), copies: self.live.load(at + 1, Relaxed) };
        let can_be =
            || header.regions.can_be_at(number, parts, header.max_size, header.has_checkpoint());
        let is_whole = check == check_of(number, parts) || planted!(TheEntryOfATierIsBelieved);
        if !is_whole || !can_be() {
            let what = format!("the entry of tier {number} of its directory is damaged");
            return Err(Error::corrupt(&self.path, what));
        }
        Ok(Some(parts))
    }

    /// Notes where a further tier is; `None`: it has not been placed.
    pub(crate) fn store_parts(&self, number: u32, parts: Option<Parts>) {
        let (at, Parts { live, copies }) = (entry_at(number), parts.unwrap_or_default());
        self.live.store(at, live, Relaxed);
        self.live.store(at + 1, copies, Relaxed);
        // Release: see `parts`.
        self.live.store(at + 2, parts.map_or(0, |parts| check_of(number, parts)), Release);
    }

    /// Where the further tiers of this many lines are.
    pub(crate) fn tiers_of(&self, lines: u32) -> Result<Vec<Parts>> {
        let tiers = 1..self.header.regions.tiers(lines.into());
        tiers.map(|number| self.parts(number)?.ok_or_else(|| self.missing(number))).collect()
    }

    /// A tier that has lines.
    #[inline]
    pub(crate) fn tier(&self, number: u32) -> Result<Tier> {
        if number == 0 {
            return Ok(self.header.regions.first_tier());
        }
        let parts = self.parts(number)?.ok_or_else(|| self.missing(number))?;
        Ok(self.header.regions.tier_at(number, parts))
    }

    #[cold]
    fn missing(&self, number: u32) -> Error {
        let what = format!("tier {number} of its directory has lines, but no place");
        Error::corrupt(&self.path, what)
    }

    /// The index of a tier that has lines.
    #[inline]
    pub(crate) fn index(&self, number: u32) -> Result<Region<&Map>> {
        let tier = self.tier(number)?;
        let len = 8 * tier.index_entries;
        Region::of(&*self.map, tier.index, len).map_err(|why| self.unmapped(why, tier.index + len))
    }

    /// Has the processor fetch the word of a tier's index at which the search for names with this hash
    /// begins.
    #[inline]
    pub(crate) fn fetch_index(&self, number: u32, hash: u64) {
        let regions = &self.header.regions;
        let (index, entries) = match number {
            0 => (regions.index, regions.index_entries),
            // Relaxed, and not checked: it may be any number, as nothing is read there.
            _ => (self.live.load(entry_at(number), Relaxed), regions.index_entries << (number - 1)),
        };
        self.map.fetch(index.wrapping_add(8 * (hash & (entries - 1))));
    }

    /// Where in the file a line of the directory is.
    #[inline]
    pub(crate) fn line_at(&self, line: u32) -> Result<u64> {
        let tier = self.tier(self.header.regions.tier_of(line.into()))?;
        Ok(tier.directory + (u64::from(line) - tier.first_line) * LINE as u64)
    }

    /// Reads lines of the directory, from this one on.
    pub(crate) fn read_lines(&self, line: u32, out: &mut [u8]) -> Result<()> {
        self.each_piece(line, out.len(), |region, piece| region.read(0, 0, &mut out[piece]))
    }

    /// Writes lines of the directory, from this one on.
    pub(crate) fn write_lines(&self, line: u32, lines: &[u8]) -> Result<()> {
        self.each_piece(line, lines.len(), |region, piece| region.write(0, 0, &lines[piece]))
    }

    /// Calls `f` with each part of the mapping that holds some of these bytes of lines, and which.
    #[inline]
    fn each_piece(
        &self,
        line: u32,
        len: usize,
        mut f: impl FnMut(Region<&Map>, Range<usize>),
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let line = u64::from(line) + (done / LINE) as u64;
            let tier = self.tier(self.header.regions.tier_of(line))?;
            let left = (tier.first_line + tier.lines - line) * LINE as u64;
            let end = if planted!(ATierHasNoEnd) { len } else { len.min(done + left as usize) };
            let at = tier.directory + (line - tier.first_line) * LINE as u64;
            let bytes = (end - done) as u64;
            let region =
                Region::of(&*self.map, at, bytes).map_err(|why| self.unmapped(why, at + bytes))?;
            f(region, done..end);
            done = end;
        }
        Ok(())
    }
}

/// The first of the three words of a further tier.
fn entry_at(number: u32) -> usize {
    live::TIERS + 3 * (number as usize - 1)
}

fn check_of(number: u32, parts: Parts) -> u64 {
    mix(parts.live, parts.copies, number) | 1
}
