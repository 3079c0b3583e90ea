//! Where the directory's tiers are, and its lines and indexes through them.
//!
//! Where the first tier is, the header says. Each further tier has an entry in the live header, with
//! a check. A definition writes it before the first line of the tier counts; it never changes while
//! the boot lasts, and a restore writes what its record says.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::attachment::attach::Attachment;
use crate::error::{Error, Result};
use crate::format::checkpoint::mix;
use crate::format::layout::{GRANULE, LINE, live};
use crate::format::regions::MOST_SIZE;
use crate::format::tiers::{MOST_TIERS, Parts, Tier};
use crate::mapping::map::{Map, Region};
use crate::mutant::planted;

/// Where the live parts of the further tiers are that this process has looked names up in; 0: it has
/// not. They are checked once: a first look-up of a name asks each tier.
#[derive(Debug, Default)]
pub(crate) struct KnownTiers([AtomicU64; MOST_TIERS as usize]);

impl Attachment {
    /// Where a further tier is; `None` if it has not been placed.
    pub(crate) fn parts(&self, number: u32) -> Result<Option<Parts>> {
        let header = &self.header;
        if number >= header.regions.tiers(header.regions.directory_lines) {
            return Ok(None);
        }
        let parts = self.entry(number)?;
        let can_be = |parts: &Parts| {
            header.regions.can_be_at(number, *parts, header.max_size, header.has_checkpoint())
        };
        if parts.is_some_and(|parts| !can_be(&parts)) {
            return Err(self.damaged_entry(number));
        }
        Ok(parts)
    }

    /// The same for reading there: what it leads to is within any store's size, no more.
    #[inline]
    fn entry(&self, number: u32) -> Result<Option<Parts>> {
        let at = entry_at(number);
        let words = &self.live.words()[at..at + 3];
        // Acquire: whoever sees the check sees the words before it.
        let check = words[2].load(Acquire);
        if check == 0 {
            return Ok(None);
        }
        let parts = Parts { live: words[0].load(Relaxed), copies: words[1].load(Relaxed) };
        let is_whole = check == check_of(number, parts) || planted!(TheEntryOfATierIsBelieved);
        if !is_whole || !parts.live.is_multiple_of(GRANULE) || parts.live > MOST_SIZE {
            return Err(self.damaged_entry(number));
        }
        Ok(Some(parts))
    }

    #[cold]
    fn damaged_entry(&self, number: u32) -> Error {
        let what = format!("the entry of tier {number} of its directory is damaged");
        Error::corrupt(&self.path, what)
    }

    /// Notes where a further tier is; `None`: it has not been placed.
    pub(crate) fn store_parts(&self, number: u32, parts: Option<Parts>) {
        let (at, Parts { live, copies }) = (entry_at(number), parts.unwrap_or_default());
        self.known_tiers.0[number as usize - 1].store(0, Relaxed);
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
        let parts = self.entry(number)?.ok_or_else(|| self.missing(number))?;
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
        let at = match number {
            0 => self.header.regions.index,
            _ => self.live_part(number)?,
        };
        let len = 8 * self.index_entries(number);
        Region::of(&*self.map, at, len).map_err(|why| self.unmapped(why, at + len))
    }

    /// How many words the index of a tier has.
    #[inline]
    fn index_entries(&self, number: u32) -> u64 {
        // Each further tier has as many lines as all before it.
        self.header.regions.index_entries << number.saturating_sub(1)
    }

    /// Where the live part of a further tier is that has lines.
    #[inline]
    fn live_part(&self, number: u32) -> Result<u64> {
        let known = &self.known_tiers.0[number as usize - 1];
        // Relaxed: it is only a number. Who sees a line of the tier has acquired the count.
        match known.load(Relaxed) {
            0 => {
                let at = self.tier(number)?.index;
                known.store(at, Relaxed);
                Ok(at)
            }
            at => Ok(at),
        }
    }

    /// Has the processor fetch the word of a tier's index at which the search for names with this hash
    /// begins.
    #[inline]
    pub(crate) fn fetch_index(&self, number: u32, hash: u64) {
        // Relaxed: a tier that is not known is not fetched, but the first page of the file.
        let index = match number {
            0 => self.header.regions.index,
            _ => self.known_tiers.0[number as usize - 1].load(Relaxed),
        };
        self.map.fetch(index + 8 * (hash & (self.index_entries(number) - 1)));
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
