//! Builds the disk as a power cut would have left it at any point of the log, mounts it, opens the
//! store, and checks its content.
//!
//! The log has the format of dm-log-writes, as qemu's `blklogwrites` writes it: one sector for the
//! head; then, for each write, one sector that describes it, and its data.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use slotfile::Recovery;

use crate::workload::{self, Event, Kind, Paths};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// Written data is kept or lost in pieces of this size.
const PIECE: u64 = 4096;

struct Entry {
    at: u64,
    len: u64,
    flags: u64,
    /// The place of its data in the log; `None` for a discard.
    data: Option<u64>,
}

fn word(bytes: &[u8], number: usize) -> u64 {
    u64::from_le_bytes(bytes[8 * number..8 * number + 8].try_into().unwrap())
}

fn read_log(log: &File) -> Vec<Entry> {
    let mut head = [0; 32];
    log.read_exact_at(&mut head, 0).unwrap();
    assert_eq!(word(&head, 0), MAGIC, "not a log of writes");
    let sector = word(&head, 3) & 0xffff_ffff;
    let mut position = sector;
    (0..word(&head, 2))
        .map(|_| {
            let mut bytes = [0; 32];
            log.read_exact_at(&mut bytes, position).unwrap();
            let (at, len) = (word(&bytes, 0) * sector, word(&bytes, 1) * sector);
            let (flags, data_len) = (word(&bytes, 2), word(&bytes, 3));
            position += sector;
            let has_data = flags & (DISCARD | MARK) == 0 && len > 0;
            let data = has_data.then_some(position);
            position += match (has_data, flags & MARK != 0) {
                (true, _) => len,
                (false, true) => data_len.next_multiple_of(sector),
                _ => 0,
            };
            Entry { at, len, flags, data }
        })
        .collect()
}

/// Part of a write, within one block of the disk.
struct Piece {
    at: u64,
    data: Vec<u8>,
}

/// The disk at some point of the log.
struct Disk<'a> {
    log: &'a File,
    blocks: BTreeMap<u64, Vec<u8>>,
    /// The writes since the last flush, in order; each in its pieces.
    unflushed: Vec<Vec<Piece>>,
}

fn put(blocks: &mut BTreeMap<u64, Vec<u8>>, piece: &Piece) {
    let block = blocks.entry(piece.at / PIECE).or_insert_with(|| vec![0; PIECE as usize]);
    let at = (piece.at % PIECE) as usize;
    block[at..at + piece.data.len()].copy_from_slice(&piece.data);
}

impl Disk<'_> {
    fn advance(&mut self, entry: &Entry) {
        if entry.flags & FLUSH != 0 {
            for piece in self.unflushed.drain(..).flatten() {
                put(&mut self.blocks, &piece);
            }
        }
        if entry.len == 0 || entry.flags & MARK != 0 {
            return;
        }
        let mut pieces = Vec::new();
        let mut at = entry.at;
        while at < entry.at + entry.len {
            let end = (at / PIECE * PIECE + PIECE).min(entry.at + entry.len);
            let mut data = vec![0; (end - at) as usize];
            if let Some(from) = entry.data {
                self.log.read_exact_at(&mut data, from + (at - entry.at)).unwrap();
            }
            pieces.push(Piece { at, data });
            at = end;
        }
        if entry.flags & FUA != 0 {
            for piece in &pieces {
                put(&mut self.blocks, piece);
            }
        }
        self.unflushed.push(pieces);
    }

    /// Writes the disk as it may be after a cut at this point.
    fn write_image(&self, path: &Path, size: u64, random: &mut fastrand::Rng) {
        let mut touched = BTreeMap::new();
        let (all, torn) = (random.u8(0..8), random.bool());
        for pieces in &self.unflushed {
            let whole = random.bool();
            for piece in pieces {
                let kept = match all {
                    0 => true,
                    1 => false,
                    _ if torn => random.bool(),
                    _ => whole,
                };
                if kept {
                    let number = piece.at / PIECE;
                    if let Some(block) = self.blocks.get(&number) {
                        touched.entry(number).or_insert_with(|| block.clone());
                    }
                    put(&mut touched, piece);
                }
            }
        }
        let image = File::create(path).unwrap();
        image.set_len(size).unwrap();
        let old = self.blocks.iter().filter(|(number, _)| !touched.contains_key(number));
        for (number, block) in old.chain(&touched) {
            if block.iter().any(|byte| *byte != 0) {
                image.write_all_at(block, number * PIECE).unwrap();
            }
        }
    }
}

/// The numbers that the store may carry after a cut at this point of the log: the last one saved,
/// and those begun since. `None`: the store may not exist yet.
fn allowed(events: &[Event], logged: u64) -> Option<Vec<u64>> {
    let mut allowed: Option<Vec<u64>> = None;
    for event in events.iter().filter(|event| event.logged <= logged) {
        match event.kind {
            Kind::Saved => allowed = Some(vec![event.number]),
            Kind::Begun => allowed.as_mut()?.push(event.number),
        }
    }
    allowed
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {arguments:?}: {error}")) }
}

pub(crate) fn replay() {
    let paths = Paths::from_env();
    let variable = |name: &str| std::env::var(name).unwrap();
    let images: usize = variable("SLOTFILE_POWER_IMAGES").parse().unwrap();
    let size: u64 = variable("SLOTFILE_POWER_SIZE").parse().unwrap();
    let folder = PathBuf::from(variable("SLOTFILE_POWER_FOLDER"));
    let seed = variable("SLOTFILE_POWER_SEED").parse().unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let log = File::open(&paths.log).unwrap();
    let entries = read_log(&log);
    let events = workload::events(&paths.events);
    let created = events[0].logged as usize;
    // Half of the points are beside flushes, where an acknowledgement begins to hold.
    let flushes: Vec<usize> =
        (created..entries.len()).filter(|i| entries[*i].flags & FLUSH != 0).collect();
    let mut points: Vec<usize> = (0..images)
        .map(|i| match i % 2 {
            0 => flushes[random.usize(0..flushes.len())] + random.usize(0..2),
            _ => random.usize(created..=entries.len()),
        })
        .collect();
    points.sort_unstable();
    let start = Instant::now();
    let mut disk = Disk { log: &log, blocks: BTreeMap::new(), unflushed: Vec::new() };
    let (mut done, mut wrong) = (0, Vec::new());
    let (mut looked, mut newer) = (0, 0);
    for point in points {
        for entry in &entries[done..point] {
            disk.advance(entry);
        }
        done = point;
        let Some(allowed) = allowed(&events, point as u64) else { continue };
        looked += 1;
        disk.write_image(&folder.join("image"), size, &mut random);
        match look(&folder, &allowed, point as u64) {
            Ok(number) => newer += u64::from(number != allowed[0]),
            Err(what) => {
                println!("cut after write {point} of {}: {what}", entries.len());
                wrong.push(point);
            }
        }
    }
    println!(
        "{looked} images of {} writes, {} flushes, {} events in {:.1?}: {} wrong; {newer} came \
         back with the sync in flight; seed {seed}",
        entries.len(),
        flushes.len(),
        events.len(),
        start.elapsed(),
        wrong.len(),
    );
    assert!(wrong.is_empty());
}

/// Mounts the image and opens the store, whose number must be one of `allowed`; of a group, what was
/// acknowledged at this point must be there.
fn look(folder: &Path, allowed: &[u64], point: u64) -> Result<u64, String> {
    let [image, mount, layers] = ["image", "mount", "layers"].map(|name| folder.join(name));
    let [image, mount, layers] = [&image, &mount, &layers].map(|path| path.to_str().unwrap());
    let variable = |name: &str| std::env::var(name).unwrap();
    match &*variable("SLOTFILE_POWER_KIND") {
        "overlay" => {
            run("mount", &["-t", "ext4", "-o", "loop", image, layers])?;
            let options = variable("SLOTFILE_POWER_LAYERS");
            run("mount", &["-t", "overlay", "-o", &options, "overlay", mount])?;
        }
        // Two copies of one xfs may be mounted in turn.
        "xfs" => run("mount", &["-t", "xfs", "-o", "loop,nouuid", image, mount])?,
        kind => run("mount", &["-t", kind, "-o", "loop", image, mount])?,
    }
    let result = look_at(&Path::new(mount).join("state.slots"), allowed, point);
    run("umount", &[mount])?;
    if variable("SLOTFILE_POWER_KIND") == "overlay" {
        run("umount", &[layers])?;
    }
    result
}

fn look_at(path: &Path, allowed: &[u64], point: u64) -> Result<u64, String> {
    let store = slotfile::OpenOptions::new()
        .define(false)
        .sync_every(None)
        .open(path)
        .map_err(|e| format!("{e}; expected one of {allowed:?}"))?;
    if !matches!(store.recovery(), Recovery::Restored { .. }) {
        return Err(format!("not restored but {:?}", store.recovery()));
    }
    let number = if workload::is_of_a_group() {
        workload::check_commits(&store, point)?;
        allowed[0]
    } else {
        workload::number_of(&store)?
    };
    if !allowed.contains(&number) {
        return Err(format!("it carries {number}, not one of {allowed:?}"));
    }
    let check = store.check().map_err(|e| e.to_string())?;
    if !check.is_ok() {
        return Err(format!("{check:?}"));
    }
    Ok(number)
}
