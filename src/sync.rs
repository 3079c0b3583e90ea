//! Making the state survive a power cut: the cut through all slots at one instant, the
//! copies of what changed, and the one flush that commits them.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::attach::Attachment;
use crate::checkpoint::{self, Choice, Place, Record, Tag, UNKNOWN, mix, tag_of};
use crate::clock::seconds_since_1970;
use crate::cut::{SlotMemory, settle_copies};
use crate::directory;
use crate::error::{Error, Result};
use crate::fork::PerProcess;
use crate::layout::{Descriptor, FLAG_NO_CHECKPOINT, LARGE_UNIT, LINE, PAGE, UNIT_HEAD, live};
use crate::map::Region;
use crate::protocol::{self, Control, Form, Held, Memory, Patience};
use crate::space;
use crate::sys;
use crate::unit::{Slot, Unit, cannot_sync, copy_large, copy_small, write_large};

/// Syncs one store for this process.
#[derive(Debug)]
pub(crate) struct Syncer {
    tracked: PerProcess<Mutex<Tracked>>,
}

/// Whether a sync may wait for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Wait,
    /// Nothing is done if another one is at it, or was within this time.
    SkipIfWithin(Duration),
}

impl Syncer {
    pub(crate) fn new() -> Syncer {
        Syncer { tracked: PerProcess::new(Mutex::default()) }
    }

    /// How many slots have changed since the last sync.
    pub(crate) fn count_unsynced(attachment: &Attachment) -> Result<u64> {
        let mut tracked = Tracked::load(attachment)?;
        tracked.extend(attachment, directory::count(attachment)?)?;
        let mut changed = 0;
        for (slot, clean) in tracked.slots.iter().zip(&tracked.clean) {
            let tag = slot.memory.tag(attachment);
            changed += u64::from(tag != *clean || tracked.buffer_differs(attachment, slot)?);
        }
        Ok(changed)
    }

    /// Syncs the store.
    pub(crate) fn sync(
        &self,
        attachment: &Attachment,
        patience: &mut Patience,
        turn: Turn,
    ) -> Result<()> {
        attachment.check_writable()?;
        if attachment.header.flags & FLAG_NO_CHECKPOINT != 0 {
            let what = "it was created without checkpoints, so it cannot be synced".into();
            return Err(Error::Invalid { path: attachment.path.clone(), slot: None, what });
        }
        let tracked = self.tracked.get(|_| Mutex::default());
        let lock = attachment.live.part(live::SYNC_LOCK, 2);
        let (mut tracked, held) = match turn {
            Turn::Wait => {
                let tracked = tracked.lock().unwrap_or_else(PoisonError::into_inner);
                let held = protocol::lock(&lock, attachment, Form::Lock, patience)
                    .map_err(|f| directory::explain(attachment, "the sync lock", f, patience))?;
                (tracked, held)
            }
            Turn::SkipIfWithin(period) => {
                let Ok(tracked) = tracked.try_lock() else { return Ok(()) };
                let Some(held) = protocol::try_lock(&lock, attachment) else { return Ok(()) };
                // Relaxed: a time; whoever syncs too early does so in vain.
                let last = attachment.live.load(live::LAST_SYNC, Relaxed);
                // A time to come is another boot's, or of a container with a clock of its own.
                let since = sys::since_boot().checked_sub(last).map(Duration::from_nanos);
                if since.is_some_and(|since| since < period) {
                    return Ok(());
                }
                (tracked, held)
            }
        };
        let result = tracked.sync(attachment, held);
        if result.is_err() {
            // What was written is not what the record says: begin with nothing.
            *tracked = Tracked::default();
        }
        result
    }
}

/// Bytes that the whole file is written out by.
const PART: u64 = 16 << 20;

/// The whole file, in parts.
pub(crate) fn parts(len: u64) -> impl Iterator<Item = (u64, u64)> + Clone {
    (0..len.div_ceil(PART)).map(move |i| (i * PART, PART.min(len - i * PART)))
}

/// Makes the whole file survive a power cut. In parts first, as it may take long.
pub(crate) fn flush(attachment: &Attachment) -> std::io::Result<()> {
    let file = attachment.map.file();
    let len = file.metadata()?.len();
    sys::write_out(file, parts(len), || attachment.note_progress())?;
    file.sync_all()
}

/// The epoch of the last acknowledged sync, if the live header has one.
fn acked(attachment: &Attachment) -> Option<u64> {
    // Acquire: stored after the record was written.
    let epoch = attachment.live.load(live::ACKED, Acquire);
    (attachment.live.load(live::ACKED + 1, Relaxed) == !epoch).then_some(epoch)
}

/// Notes an acknowledged epoch. Under the sync lock, or before anybody is attached.
pub(crate) fn store_acked(attachment: &Attachment, epoch: u64) {
    // Release: in this order, whenever the process is killed. Between the two there is no
    // acknowledged epoch, and the next sync reads the records as opening does.
    attachment.live.store(live::ACKED + 1, !epoch, Release);
    attachment.live.store(live::ACKED, epoch, Release);
}

/// What the syncing process remembers, in private memory, of the record in use.
#[derive(Debug, Default)]
struct Tracked {
    /// 0: nothing yet.
    epoch: u64,
    /// Which of the two records is in use.
    record: u64,
    /// Lines of the directory that the record in use covers.
    synced_lines: u32,
    /// Lines of the directory that `slots` covers.
    lines: u32,
    slots: Vec<Slot>,
    /// What each slot is in the record in use; [`UNKNOWN`] if it is not in it. Apart from the
    /// slots, as each sync looks at all of them.
    clean: Vec<Tag>,
    /// What each was when it was last copied.
    seen: Vec<Tag>,
    pages: Vec<Unit>,
    /// By number; `None` for those that no slot is in.
    units: Vec<Option<Unit>>,
}

impl Tracked {
    fn sync(&mut self, attachment: &Attachment, held: Held<'_, Region, Attachment>) -> Result<()> {
        let file = attachment.map.file();
        let cannot = |e| cannot_sync(attachment, e);
        let began = sys::since_boot();
        if self.epoch == 0 || acked(attachment) != Some(self.epoch) {
            *self = Tracked::load(attachment)?;
        }
        let epoch = self.epoch + 1;
        self.cut(attachment, epoch)?;
        // Relaxed: a time, and a date to show to people.
        attachment.live.store(live::LAST_SYNC, began, Relaxed);
        let written: Vec<(u64, u64)> =
            self.all_units().filter_map(|u| Some(u.place.range(u.written?.0))).collect();
        if !written.is_empty() || self.lines != self.synced_lines {
            let progress = || attachment.note_progress();
            sys::write_out(file, written.iter().copied(), progress).map_err(cannot)?;
            let record = self.next_record(epoch);
            let number = 1 - self.record;
            let regions = &attachment.header.regions;
            let (bytes, at) = (record.encode(), regions.records + number * regions.record_len);
            space::allocate(attachment, at, at + bytes.len() as u64)?;
            sys::write_durably(file, &bytes, at).map_err(cannot)?;
            // Committed. What was written is in use from here on.
            store_acked(attachment, epoch);
            for unit in self.pages.iter_mut().chain(self.units.iter_mut().flatten()) {
                if let Some((choice, share)) = unit.written.take() {
                    (unit.choice, unit.share) = (choice, share);
                }
            }
            (self.epoch, self.record, self.synced_lines) = (epoch, number, self.lines);
        }
        self.clean.clone_from(&self.seen);
        attachment.live.store(live::LAST_SYNC + 1, seconds_since_1970(), Relaxed);
        // Not flushed, and after the acknowledgement: if it is there, so is the record. Under
        // the lock: an older sync's mark must not follow a newer one's.
        let marked = checkpoint::write_mark(file, &attachment.header.regions, self.epoch);
        drop(held);
        marked.map_err(cannot)
    }

    /// What the record in use says: the acknowledged one; where the live header has none,
    /// the one that opening would choose.
    fn load(attachment: &Attachment) -> Result<Tracked> {
        let (file, regions) = (attachment.map.file(), &attachment.header.regions);
        let cannot = |e| cannot_sync(attachment, e);
        let mut found = Vec::new();
        for number in 0..2 {
            if let Some(record) = Record::read(file, regions, number).map_err(cannot)? {
                found.push((number, record));
            }
        }
        found.sort_by_key(|(_, record)| std::cmp::Reverse(record.epoch));
        let acked = acked(attachment);
        let chosen = found.iter().position(|(_, record)| Some(record.epoch) == acked);
        let newest = || (!found.is_empty()).then_some(0);
        let Some(chosen) = chosen.or_else(newest) else {
            return Err(Error::corrupt(&attachment.path, "both of its commit records are damaged"));
        };
        if Some(found[chosen].1.epoch) != acked && attachment.writable {
            // It may never have reached the disk; what it names must, before it is built on.
            flush(attachment).map_err(cannot)?;
        }
        let (number, record) = found.swap_remove(chosen);
        let mut tracked = Tracked {
            epoch: record.epoch,
            record: number,
            synced_lines: record.lines,
            ..Tracked::default()
        };
        tracked.extend(attachment, record.lines)?;
        for (unit, choice) in tracked.pages.iter_mut().zip(&record.pages) {
            unit.choice = *choice;
        }
        for (unit, choice) in tracked.units.iter_mut().zip(&record.units) {
            if let Some(unit) = unit {
                unit.choice = *choice;
            }
        }
        tracked.load_copies(attachment)?;
        Ok(tracked)
    }

    /// Reads of each copy in use what it adds to the sum, and which versions it is of.
    /// Slots whose copy is damaged count as never synced: they are written anew.
    fn load_copies(&mut self, attachment: &Attachment) -> Result<()> {
        let Tracked { pages, units, slots, clean, .. } = self;
        let file = attachment.map.file();
        let cannot = |e| cannot_sync(attachment, e);
        for unit in pages.iter_mut().filter(|unit| unit.choice != Choice::Absent) {
            if let Some((head, _)) = unit.place.read(file, unit.choice).map_err(cannot)? {
                unit.share = mix(head.unit, head.epoch, head.crc);
                unit.used = head.len as usize;
            }
        }
        let mut damaged = Vec::new();
        for unit in units.iter_mut().flatten().filter(|unit| unit.choice != Choice::Absent) {
            let small = unit.slots.iter().any(|i| slots[*i].small_at.is_some());
            // Of a large unit the head is enough, and its data may be much.
            let read = match small {
                true => unit.place.read(file, unit.choice),
                false => {
                    unit.place.read_head(file, unit.choice).map(|h| h.map(|h| (h, Vec::new())))
                }
            };
            let Some((head, data)) = read.map_err(cannot)? else {
                damaged.extend_from_slice(&unit.slots);
                continue;
            };
            attachment.note_progress();
            unit.share = mix(head.unit, head.epoch, head.crc);
            for i in &unit.slots {
                let tag = match slots[*i].small_at {
                    // Not there: defined since.
                    Some(at) => data
                        .get(at..at + 8)
                        .and_then(|b| <[u8; 8]>::try_from(b).ok())
                        .map(|bits| tag_of(Control::from_bits(u64::from_le_bytes(bits)))),
                    None => Some(head.tag),
                };
                // The newest of a large slot's units: what it was when the record was made.
                if let Some(tag) = tag
                    && (clean[*i] == UNKNOWN || clean[*i] < tag)
                {
                    clean[*i] = tag;
                }
            }
        }
        for i in damaged {
            clean[i] = UNKNOWN;
        }
        Ok(())
    }

    /// Takes up the descriptors up to line `lines`.
    fn extend(&mut self, attachment: &Attachment, lines: u32) -> Result<()> {
        let regions = &attachment.header.regions;
        while self.pages.len() < checkpoint::pages(lines) {
            self.pages.push(Unit::new(Place::of_page(regions, self.pages.len() as u64)));
        }
        let from = self.lines;
        directory::each_between(attachment, from, lines, |descriptor| {
            self.add(attachment, &descriptor)
        })?;
        self.lines = lines;
        Ok(())
    }

    fn add(&mut self, attachment: &Attachment, descriptor: &Descriptor) -> Result<()> {
        let region = directory::region(attachment, descriptor)?;
        let memory = SlotMemory::new(descriptor, region);
        let small = checkpoint::is_small(descriptor);
        let index = self.slots.len();
        let count = if small { 1 } else { checkpoint::large_units(descriptor) };
        let damaged = || {
            let what = "its checkpoint units are out of place";
            Error::corrupt(&attachment.path, what).of_slot(&descriptor.name)
        };
        checkpoint::check_places(descriptor, &attachment.header).ok_or_else(damaged)?;
        let end = descriptor.first_unit + count;
        if self.units.len() < end as usize {
            self.units.resize_with(end as usize, || None);
        }
        for part in 0..count {
            let place =
                if small { Place::of_small(descriptor) } else { Place::of_large(descriptor, part) };
            let unit = self.units[(descriptor.first_unit + part) as usize]
                .get_or_insert_with(|| Unit::new(place));
            if unit.place != place {
                return Err(damaged());
            }
            unit.slots.push(index);
        }
        let small_at = small.then(|| (descriptor.place - UNIT_HEAD) as usize);
        if let Some(at) = small_at {
            let unit = self.units[descriptor.first_unit as usize].as_mut();
            let unit = unit.expect("inserted above");
            unit.used = unit.used.max(at + checkpoint::entry_len(descriptor) as usize);
        }
        self.slots.push(Slot {
            memory,
            content_len: descriptor.content_len(),
            first_unit: descriptor.first_unit,
            small_at,
        });
        self.clean.push(UNKNOWN);
        self.seen.push(UNKNOWN);
        Ok(())
    }

    /// Writes copies of all that changed, until they are the state of one instant.
    fn cut(&mut self, attachment: &Attachment, epoch: u64) -> Result<()> {
        self.seen.clone_from(&self.clean);
        loop {
            self.extend(attachment, directory::count(attachment)?)?;
            if self.passes(attachment, epoch)? {
                break;
            }
        }
        self.copy_buffers(attachment, epoch)?;
        self.write_pages(attachment, epoch)
    }

    /// Copies what has changed, again and again, until nothing has. False if the cut must be
    /// begun anew.
    fn passes(&mut self, attachment: &Attachment, epoch: u64) -> Result<bool> {
        let Tracked { slots, seen, units, lines, .. } = self;
        settle_copies(
            attachment,
            slots,
            |slot| &slot.memory,
            *lines,
            seen,
            |changed, seen| {
                let mut done = None;
                for i in changed {
                    let slot = &slots[*i];
                    let first = slot.first_unit as usize;
                    if let SlotMemory::Buffer(..) = slot.memory {
                        seen[*i] = slot.memory.tag(attachment);
                        continue;
                    }
                    match slot.small_at {
                        Some(_) if done == Some(first) => {} // with a neighbour
                        Some(_) => {
                            let unit = units[first].as_mut().expect("every slot has a unit");
                            copy_small(attachment, epoch, unit, slots, seen)?;
                            done = Some(first);
                        }
                        None => {
                            let units = &mut units[slot.large_units()];
                            seen[*i] = copy_large(attachment, epoch, units, slot)?;
                        }
                    }
                }
                Ok(())
            },
        )
    }

    /// Copies the buffers, as they stand. Whether one has changed its version does not say.
    fn copy_buffers(&mut self, attachment: &Attachment, epoch: u64) -> Result<()> {
        let Tracked { slots, seen, units, .. } = self;
        for (slot, seen) in slots.iter().zip(seen) {
            if let SlotMemory::Buffer(_, elements) = &slot.memory {
                let units = &mut units[slot.large_units()];
                write_large(attachment, epoch, units, *seen, |at, data| {
                    elements.read(at, data);
                })?;
            }
        }
        Ok(())
    }

    /// Whether a buffer's content is not what its copies in use are.
    fn buffer_differs(&self, attachment: &Attachment, slot: &Slot) -> Result<bool> {
        let SlotMemory::Buffer(_, elements) = &slot.memory else { return Ok(false) };
        let mut data = vec![0; LARGE_UNIT as usize];
        for (part, unit) in self.units[slot.large_units()].iter().enumerate() {
            let unit = unit.as_ref().expect("every slot has its units");
            let data = &mut data[..unit.place.len];
            elements.read(part * LARGE_UNIT as usize, data);
            if unit.tag_if_same(attachment, data)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the pages of the directory that have lines which the record in use has not.
    fn write_pages(&mut self, attachment: &Attachment, epoch: u64) -> Result<()> {
        let all = self.lines as usize * LINE;
        for (number, unit) in self.pages.iter_mut().enumerate() {
            let start = number * PAGE as usize;
            let used = (all - start).min(PAGE as usize);
            if unit.choice != Choice::Absent && unit.used == used {
                continue;
            }
            let mut data = vec![0; used];
            attachment.directory.read(start / 8, 0, &mut data);
            unit.write(attachment.map.file(), epoch, 0, &data)
                .map_err(|e| cannot_sync(attachment, e))?;
            unit.used = used;
            attachment.note_progress();
        }
        Ok(())
    }

    fn all_units(&self) -> impl Iterator<Item = &Unit> {
        self.pages.iter().chain(self.units.iter().flatten())
    }

    fn next_record(&self, epoch: u64) -> Record {
        let next = |unit: &Unit| unit.written.unwrap_or((unit.choice, unit.share));
        let shares = self.all_units().map(|unit| next(unit).1);
        Record {
            epoch,
            lines: self.lines,
            pages: self.pages.iter().map(|unit| next(unit).0).collect(),
            units: self
                .units
                .iter()
                .map(|unit| unit.as_ref().map_or(Choice::Absent, |unit| next(unit).0))
                .collect(),
            sum: shares.fold(0, u64::wrapping_add),
        }
    }
}
