//! What opening finds of an earlier boot, and what it does about it.
//!
//! The live area is the truth for as long as the machine has not been restarted: pages in
//! memory survive any process. After a restart, or in a copied file, nobody knows which of
//! its pages reached the disk; then the checkpoint is the truth, and is put back whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use crate::attach::Attachment;
use crate::checkpoint::{self, Choice, Mark, Place, Record, Tag, control_of, mix, tag_of};
use crate::clock::seconds_since_1970;
use crate::commit;
use crate::directory;
use crate::error::{Error, Result};
use crate::layout::{
    Descriptor, Ends, FLAG_NO_CHECKPOINT, GRANULE, LINE, PAGE, RUN, SMALL_UNIT, UNIT_HEAD, live,
};
use crate::protocol::{Areas, CONTROL, DRAFT, Form, Memory, STALE, VALUE};
use crate::space;
use crate::sys;

/// What opening a store found and did, see [`Store::recovery`](crate::Store::recovery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// The store is new.
    Created,
    /// Others have it open: nothing was looked at.
    Joined,
    /// Nobody had it open, and the machine has not been restarted: all is as it was left.
    /// What processes had left half-done when they died was settled.
    Resumed,
    /// The machine was restarted, or the file was copied: the store is as of its last sync.
    Restored {
        /// Which sync it was; they are counted.
        epoch: u64,
        /// Whether there was a newer sync that had not been completed, or may have been: what
        /// is left of it, or of an older one, cannot be told.
        newer_dropped: bool,
    },
    /// As [`Restored`](Recovery::Restored), but this opener may only read: what it sees is
    /// a private copy, in which nothing will ever change.
    Frozen {
        /// Which sync it was.
        epoch: u64,
        /// As of [`Restored`](Recovery::Restored).
        newer_dropped: bool,
    },
    /// The machine was restarted, and the store keeps no checkpoints: it is empty.
    Emptied,
}

/// Puts the store into order. Nobody else is attached, and the open lock is held, or nobody
/// else can know of the file.
pub(crate) fn recover(attachment: &Attachment) -> Result<Recovery> {
    let path = &attachment.path;
    let identity = identity(attachment.map.file()).map_err(|e| cannot(path, e))?;
    if is_of_this_boot(attachment, &identity) {
        let on_disk = attachment.map.file().metadata().map_or(u64::MAX, |m| 512 * m.blocks());
        directory::fill_holes(attachment, on_disk)?;
        attachment.reset_table(|| directory::settle_everything(attachment))?;
        return Ok(Recovery::Resumed);
    }
    let recovery = if attachment.header.flags & FLAG_NO_CHECKPOINT != 0 {
        restore(attachment, &Record::empty())?;
        Recovery::Emptied
    } else {
        let (record, newer_dropped) =
            choose(attachment).map_err(|e| advise(attachment, &identity, e))?;
        restore(attachment, &record)?;
        Recovery::Restored { epoch: record.epoch, newer_dropped }
    };
    // To show to people.
    let epoch = match recovery {
        Recovery::Restored { epoch, .. } => epoch,
        _ => 0,
    };
    attachment.live.store(live::LAST_RECOVERY, epoch, Relaxed);
    attachment.live.store(live::LAST_RECOVERY + 1, seconds_since_1970(), Relaxed);
    store_identity(attachment, &identity);
    Ok(recovery)
}

/// Whether opening must restore, before it may even read.
pub(crate) fn is_needed(attachment: &Attachment) -> Result<bool> {
    let identity = identity(attachment.map.file()).map_err(|e| cannot(&attachment.path, e))?;
    Ok(!is_of_this_boot(attachment, &identity))
}

fn cannot(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        let have = std::fs::metadata(path).map_or(0, |m| m.len());
        return Error::Truncated { path: path.to_owned(), have, need: have + 1 };
    }
    Error::io(path, "cannot restore the last sync", error)
}

/// Eight words that are the same for as long as the file's pages in memory are the ones
/// that processes have written: the boot, the file, and the mount of its file system.
pub(crate) type Identity = [u64; 8];

/// That of a store which is being restored.
const RESTORING: Identity = [0; 8];

/// The identity of an open file, as of now.
pub(crate) fn identity(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata()?;
    // Where it cannot be read, every opening is of another boot.
    let boot = boot_id().unwrap_or_else(|| u128::from(sys::since_boot()));
    // A file that was removed and copied back may have the same inode number.
    let born = metadata.created().ok().and_then(|born| {
        born.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_nanos() as u64)
    });
    Ok([
        boot as u64,
        (boot >> 64) as u64,
        metadata.dev(),
        metadata.ino(),
        born.unwrap_or(0),
        mount_inode(metadata.dev()),
        1,
        0,
    ])
}

fn boot_id() -> Option<u128> {
    // By one call: half of the time of `read_to_string`, which counts in opening a store.
    let mut text = [0; 64];
    let len = File::open("/proc/sys/kernel/random/boot_id").ok()?.read_at(&mut text, 0).ok()?;
    let digits = std::str::from_utf8(&text[..len]).ok()?.trim().replace('-', "");
    u128::from_str_radix(&digits, 16).ok()
}

/// The inode number of the folder that the kernel shows of a mounted file system: one that
/// was shut down and mounted again has a new one, while all else is the same. 0: none.
fn mount_inode(dev: u64) -> u64 {
    let (major, minor) = (libc::major(dev), libc::minor(dev));
    let device = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"));
    let Some(name) = device.as_ref().ok().and_then(|d| d.file_name()) else { return 0 };
    ["ext4", "xfs"]
        .iter()
        .find_map(|kind| std::fs::metadata(Path::new("/sys/fs").join(kind).join(name)).ok())
        .map_or(0, |folder| folder.ino())
}

fn is_of_this_boot(attachment: &Attachment, identity: &Identity) -> bool {
    // Relaxed: the open lock, which is held, orders it.
    (0..8).all(|i| attachment.live.load(live::IDENTITY + i, Relaxed) == identity[i])
}

/// Notes that the live area is whole in this boot. Last of all, so that whoever is
/// interrupted before restores again.
pub(crate) fn store_identity(attachment: &Attachment, identity: &Identity) {
    // The sixth word last: until then it is nobody's identity.
    for i in [0, 1, 2, 3, 4, 5, 7, 6] {
        attachment.live.store(
            live::IDENTITY + i,
            identity[i],
            std::sync::atomic::Ordering::Release,
        );
    }
}

/// The newest record that is whole, and whether there is, or may have been, a newer one.
fn choose(attachment: &Attachment) -> Result<(Record, bool)> {
    let (file, regions) = (attachment.map.file(), &attachment.header.regions);
    let fail = |e| cannot(&attachment.path, e);
    let corrupt = |what: &str| Error::corrupt(&attachment.path, what);
    let mut records = Vec::new();
    let mut unreadable = false;
    for number in 0..2 {
        match Record::read(file, regions, number).map_err(fail)? {
            Some(record) => records.push(record),
            None => unreadable |= !Record::is_erased(file, regions, number).map_err(fail)?,
        }
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.epoch));
    if records.is_empty() {
        return Err(corrupt("both of its commit records are damaged"));
    }
    let mark = Mark::read(file, regions).map_err(fail)?;
    // What is wrong with the newest one, which is the one that is wanted.
    let mut damage = None;
    for (number, record) in records.iter().enumerate() {
        match check_whole(attachment, record) {
            Ok(()) => {
                let newer_dropped = number > 0 || unreadable;
                let Err(why) = may_return_to(record.epoch, newer_dropped, mark) else {
                    return Ok((record.clone(), newer_dropped));
                };
                return Err(match damage {
                    Some(damage) => with_more(damage, &why),
                    None => corrupt(&why),
                });
            }
            Err(error @ Error::Corrupt { .. }) => damage = damage.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(damage.unwrap_or_else(|| corrupt("none of its commit records is whole")))
}

/// Why a whole record will not do, which there may have been a newer one than: that one was
/// acknowledged, or nobody can tell.
fn may_return_to(epoch: u64, newer_dropped: bool, mark: Mark) -> std::result::Result<(), String> {
    match mark {
        Mark::Of(acknowledged) if acknowledged > epoch => Err(format!(
            "sync {acknowledged} was acknowledged, but the newest that is whole is {epoch}"
        )),
        Mark::Damaged if newer_dropped => Err(format!(
            "the mark of the last sync is damaged too, so that nobody can tell whether that was \
             sync {epoch}, the newest that is whole"
        )),
        _ => Ok(()),
    }
}

/// Adds to what an error says of a damaged file.
fn with_more(mut error: Error, more: &str) -> Error {
    if let Error::Corrupt { what, .. } = &mut error {
        *what = format!("{what}; {more}");
    }
    error
}

/// Tells whoever has copied a file while it was written how that is done.
fn advise(attachment: &Attachment, identity: &Identity, error: Error) -> Error {
    let there = |i: usize| attachment.live.load(live::IDENTITY + i, Relaxed);
    // Its inode's number and its birth are another file's.
    if there(6) == identity[6] && [3, 4].iter().any(|i| there(*i) != identity[*i]) {
        return with_more(error, "copy a store that is in use with `slotfile copy`");
    }
    error
}

/// `Corrupt` unless every copy that the record names is right, and they are the ones that
/// it was made of.
pub(crate) fn check_whole(attachment: &Attachment, record: &Record) -> Result<()> {
    let mut sum = 0u64;
    each_copy(attachment, record, |place, choice, _| {
        let (head, _) = read_copy(attachment, &place, choice)?;
        sum = sum.wrapping_add(mix(head.unit, head.epoch, head.crc));
        Ok(())
    })?;
    if sum == record.sum {
        return Ok(());
    }
    let what = format!("the copies of sync {} are not those that it was made of", record.epoch);
    Err(Error::corrupt(&attachment.path, what))
}

fn read_copy(
    attachment: &Attachment,
    place: &Place,
    choice: Choice,
) -> Result<(checkpoint::CopyHead, Vec<u8>)> {
    attachment.note_progress();
    let copy =
        place.read(attachment.map.file(), choice).map_err(|e| cannot(&attachment.path, e))?;
    copy.ok_or_else(|| {
        let unit = place.unit & !checkpoint::DIRECTORY;
        let what = match place.unit & checkpoint::DIRECTORY {
            0 => format!("the checkpoint of unit {unit} is damaged"),
            _ => format!("the checkpoint of page {unit} of the directory is damaged"),
        };
        Error::corrupt(&attachment.path, what)
    })
}

/// Calls `f` with each unit that the record names: of each page of the directory, with
/// nothing; of each slot, with its descriptor and the number of the part of it.
fn each_copy(
    attachment: &Attachment,
    record: &Record,
    mut f: impl FnMut(Place, Choice, Option<(&Descriptor, u64)>) -> Result<()>,
) -> Result<()> {
    let corrupt = |what: &str| Error::corrupt(&attachment.path, what);
    let header = &attachment.header;
    let mut lines = Vec::new();
    for (page, choice) in record.pages.iter().enumerate() {
        if choice == Choice::Absent {
            return Err(corrupt("a page of the directory has no checkpoint"));
        }
        let place = Place::of_page(&header.regions, page as u64);
        let (_, data) = read_copy(attachment, &place, choice)?;
        lines.extend_from_slice(&data);
        f(place, choice, None)?;
    }
    if lines.len() != record.lines as usize * LINE {
        return Err(corrupt("the checkpoint of the directory has another length"));
    }
    let mut small = std::collections::BTreeSet::new();
    let mut rest = lines.as_slice();
    while !rest.is_empty() {
        let count = usize::from(rest[directory::LINES_AT]).max(1) * LINE;
        let descriptor = rest
            .get(..count)
            .ok_or("it ends too soon")
            .and_then(|lines| Descriptor::decode(lines, &header.regions, header.max_size));
        let descriptor =
            descriptor.map_err(|what| corrupt(&format!("a checkpointed descriptor: {what}")))?;
        rest = &rest[count..];
        let damaged = |what: &str| corrupt(what).of_slot(&descriptor.name);
        checkpoint::check_places(&descriptor, header)
            .ok_or_else(|| damaged("its checkpoint units are out of place"))?;
        let is_small = checkpoint::is_small(&descriptor);
        let parts = if is_small { 1 } else { checkpoint::large_units(&descriptor) };
        for part in 0..parts {
            let unit = descriptor.first_unit + part;
            let choice = record.units.get(unit as usize);
            if choice == Choice::Absent {
                return Err(damaged("it has no checkpoint"));
            }
            let place = match is_small {
                true => Place::of_small(&descriptor),
                false => Place::of_large(&descriptor, part),
            };
            // A unit that slots share counts once.
            if !is_small || small.insert(unit) {
                f(place, choice, Some((&descriptor, part)))
                    .map_err(|e| e.of_slot(&descriptor.name))?;
            }
        }
    }
    Ok(())
}

/// Puts back what the record names: directory, slots, index, ends. The record is whole.
fn restore(attachment: &Attachment, record: &Record) -> Result<()> {
    let (file, regions) = (attachment.map.file(), &attachment.header.regions);
    let fail = |e| cannot(&attachment.path, e);
    let len = file.metadata().map_err(fail)?.len();
    for (at, len) in commit::parts(len) {
        match sys::unshare(file, at, len) {
            Ok(()) => attachment.note_progress(),
            // Most file systems share no blocks, and know nothing of it.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => break,
            Err(e) => return Err(space::no_space(attachment, len, e)),
        }
    }
    // Until the end nobody must take the live area for whole.
    let tried_before = is_of_this_boot(attachment, &RESTORING);
    store_identity(attachment, &RESTORING);
    let directory_end = regions.directory + u64::from(record.lines) * LINE as u64;
    space::allocate(attachment, 0, (directory_end + 1).next_multiple_of(GRANULE))?;
    let mut slots = Vec::new();
    let mut line = 0;
    for (page, choice) in record.pages.iter().enumerate() {
        let place = Place::of_page(regions, page as u64);
        let (_, data) = read_copy(attachment, &place, choice)?;
        attachment.directory.write(page * PAGE as usize / 8, 0, &data);
    }
    directory::each_between(attachment, 0, record.lines, |descriptor| {
        let lines = descriptor.lines() as u32;
        slots.push((line, descriptor));
        line += lines;
        Ok(())
    })?;
    directory::rebuild_index(attachment, slots.iter().map(|(line, d)| (*line, d.name.as_str())));
    let ends = space::rebuild(attachment, slots.iter().map(|(_, descriptor)| descriptor));
    clear_beyond(attachment, &ends)?;
    let mut unit = None;
    for (_, descriptor) in &slots {
        let from = descriptor.live / GRANULE * GRANULE;
        let to = (descriptor.live + descriptor.live_len()).next_multiple_of(GRANULE);
        space::allocate(attachment, from, to)?;
        restore_slot(attachment, record, descriptor, &mut unit)
            .map_err(|e| e.of_slot(&descriptor.name))?;
    }
    // Locks, process table, and whatever else belonged to those who were there before.
    for lock in [live::DIRECTORY_LOCK, live::SYNC_LOCK] {
        attachment.live.store(lock + CONTROL, 0, Relaxed);
    }
    attachment.live.store(live::LAST_SYNC, 0, Relaxed);
    attachment.clear_table();
    space::store_rebuilt(attachment, &ends);
    // The record that was not chosen could come back, after further syncs, as the newest.
    for number in 0..2 {
        let other = Record::read(file, regions, number).map_err(fail)?;
        if other.as_ref() != Some(record) {
            Record::erase(file, regions, number).map_err(fail)?;
        }
    }
    commit::store_acked(attachment, record.epoch);
    attachment.live.store(live::COUNT, directory::count_word(record.lines), Relaxed);
    if tried_before {
        write_again(attachment, record)?;
    }
    // All of it, also what was not written just now: of a copied file nothing is on the
    // disk yet. On an error the next opener does all of it again.
    commit::flush(attachment).map_err(fail)?;
    // The mark may be damaged, or have been lost with the power.
    if attachment.header.flags & FLAG_NO_CHECKPOINT == 0 {
        checkpoint::write_mark(file, regions, record.epoch).map_err(fail)?;
    }
    Ok(())
}

/// Writes what the restored state was made of once more, as it is. An earlier attempt has
/// failed, perhaps in its fsync: then the kernel takes pages of a copied file for clean
/// that have never reached the disk, and another fsync alone would leave them out.
fn write_again(attachment: &Attachment, record: &Record) -> Result<()> {
    let (file, regions) = (attachment.map.file(), &attachment.header.regions);
    let again = |at: u64, len: u64| {
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, at)
            .and_then(|()| sys::write_at(file, &bytes, at))
            .map_err(|e| cannot(&attachment.path, e))
    };
    again(0, PAGE)?;
    for number in 0..2 {
        again(regions.records + number * regions.record_len, record.encode().len() as u64)?;
    }
    each_copy(attachment, record, |place, choice, _| {
        let (at, len) = place.range(choice);
        again(at, len)
    })
}

/// Makes the space beyond the ends what it is in a new store: zeros. Slots that were
/// defined after the sync have left their bytes there.
fn clear_beyond(attachment: &Attachment, ends: &Ends) -> Result<()> {
    let file = attachment.map.file();
    let fail = |e| cannot(&attachment.path, e);
    let file_end = file.metadata().map_err(fail)?.len();
    let punch = |from: u64, to: u64| {
        if from < to { sys::punch(file, from, to - from).map_err(fail) } else { Ok(()) }
    };
    if ends.live != 0 {
        punch(ends.live, ends.live.next_multiple_of(RUN).min(file_end))?;
    }
    punch(ends.runs, file_end)?;
    Ok(())
}

/// Writes one slot's control word and content. `unit` is the small unit read last.
fn restore_slot(
    attachment: &Attachment,
    record: &Record,
    descriptor: &Descriptor,
    unit: &mut Option<(u64, Vec<u8>)>,
) -> Result<()> {
    let region = directory::region(attachment, descriptor)?;
    let choice = |unit: u64| record.units.get(unit as usize);
    if checkpoint::is_small(descriptor) {
        let number = descriptor.first_unit;
        if unit.as_ref().is_none_or(|(read, _)| *read != number) {
            let place = Place::of_small(descriptor);
            *unit = Some((number, read_copy(attachment, &place, choice(number))?.1));
        }
        let data = unit.as_ref().map_or(&[][..], |(_, data)| data);
        let at = (descriptor.place - UNIT_HEAD) as usize;
        let entry = data.get(at..at + checkpoint::entry_len(descriptor) as usize);
        let entry = entry
            .ok_or_else(|| Error::corrupt(&attachment.path, "its checkpoint ends before it"))?;
        let (control, content) = entry.split_at(8);
        let control = u64::from_le_bytes(control.try_into().unwrap_or_default());
        let tag = tag_of(crate::protocol::Control::from_bits(control));
        match descriptor.form() {
            Form::Areas(areas) => {
                let content = &content[..descriptor.content_len() as usize];
                region.write(areas.of(tag >> 1), 0, content);
                settle(&region, Some(&areas), tag);
            }
            Form::Scalar | Form::Lock => {
                let value = u64::from_le_bytes(content.try_into().unwrap_or_default());
                region.store(VALUE, value, Relaxed);
                region.store(DRAFT, 0, Relaxed);
                settle(&region, None, tag);
            }
        }
        return Ok(());
    }
    let Form::Areas(areas) = descriptor.form() else { unreachable!("a scalar is small") };
    // First the heads: the newest says of which version the whole is, and so where it goes.
    let mut tag: Tag = 0;
    for part in 0..checkpoint::large_units(descriptor) {
        let place = Place::of_large(descriptor, part);
        let head = place.read_head(attachment.map.file(), choice(place.unit));
        let head = head.map_err(|e| cannot(&attachment.path, e))?;
        tag = tag.max(head.map_or(0, |head| head.tag));
    }
    for part in 0..checkpoint::large_units(descriptor) {
        let place = Place::of_large(descriptor, part);
        let (_, data) = read_copy(attachment, &place, choice(place.unit))?;
        let at = (part * crate::layout::LARGE_UNIT) as usize;
        region.write(areas.of(tag >> 1), at, &data);
    }
    settle(&region, Some(&areas), tag);
    Ok(())
}

/// Writes the control word of a slot at rest; all but its current area is stale.
fn settle(region: &crate::map::Region, areas: Option<&Areas>, tag: Tag) {
    // A buffer has one area, which is never stale.
    if let Some(areas) = areas.filter(|areas| areas.count > 1) {
        for area in 0..areas.count as usize {
            region.store(STALE + area, (areas.words as u64) << 32, Relaxed);
        }
    }
    region.store(CONTROL, control_of(tag).bits(), Relaxed);
}

const _: () = assert!(SMALL_UNIT == PAGE);
