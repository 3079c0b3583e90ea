//! Damaged stores: a fuzzer's input is a list of edits of a good store. After the edits,
//! every operation is run on the store. Each must return a result or an error: no panic, no
//! hang, no signal.
//!
//! The input is a byte of flags, then edits. An edit is a region, a kind with a length, an offset
//! of two bytes, and its bytes. Then the checksums are recomputed, or not, so that the code that
//! they guard is reached, too.
//!
//! A fuzzer wants thousands of runs a second, so copies and compactions, which make new files,
//! are run for few inputs only ([`run_quickly`]).

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use slotfile::{Data, Define, Error, OpenOptions, Store};

use super::model::{Bytes, Source};
use super::os::{self, Mapped};
use super::place::Place;
use super::raw::{self, CopyAt, Image, Raw};
use super::subjects::Subject;

/// The store to edit, and its temporary folder.
struct Setting {
    folder: tempfile::TempDir,
    subject: Subject,
    image: Image,
    /// The file that is there now.
    place: RefCell<Place>,
    /// The regions that are edited: from, to.
    regions: Vec<(u64, u64)>,
    /// The copies that its newest record names.
    copies: Vec<CopyAt>,
}

fn setting(subject: Subject) -> Setting {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("state.slots");
    subject.make(&path);
    let raw = Raw::open(&path);
    let records = raw.record(0);
    let mut regions = vec![
        (0, 184),
        (4_088, 4_096),
        (raw::LIVE_HEADER, raw::LIVE_HEADER + 448),
        (raw::LIVE_HEADER + 640, raw::LIVE_HEADER + 648),
        (raw::TIERS, raw::TIERS + 48),
        (raw::TABLE, raw::TABLE + 4 * raw::TABLE_ENTRY),
        (raw.index(), raw.index() + raw.index_len()),
        (raw.directory(), raw.line(LINES)),
        (raw.mark(), raw.mark() + 16),
        (records, records + 128),
        (raw.record(1), raw.record(1) + 128),
        (raw.word(136), raw.word(136) + 4 * 4_096),
        (0, raw.len()),
    ];
    // A store without checkpoints ends before the mark.
    regions.retain(|(_, to)| *to <= raw.len());
    let copies = match raw.mark() < raw.len() {
        true => raw.copies_in_use(raw.newest_record()),
        false => Vec::new(),
    };
    regions.extend((0..LINES).map(|line| (raw.slot(line), raw.slot(line) + 256)));
    for copy in &copies {
        regions.push((copy.head, copy.head + 64));
        regions.push((copy.data, copy.data + copy.len.min(512)));
    }
    // Allocate as many bytes: the image has holes, which each opening would fill.
    raw.set_word(raw::ENDS + 8 * 7, 0);
    let image = Image::of(&path);
    let place = RefCell::new(Place::new(&path, &image, &subject.options()));
    Setting { folder, subject, image, place, regions, copies }
}

/// The least number of directory records in the stores.
const LINES: u64 = 8;

impl Setting {
    fn path(&self) -> PathBuf {
        self.folder.path().join("state.slots")
    }

    /// Restores the good store.
    fn put(&self) {
        let mut place = self.place.borrow_mut();
        if !place.is_at(&self.path()) {
            // Compaction has replaced the file.
            *place = Place::new(&self.path(), &self.image, &self.subject.options());
        }
        place.put(&self.image);
    }
}

/// The store that an input with these flags edits.
fn subject_of(flags: usize) -> usize {
    flags / 16 % Subject::ALL.len()
}

/// Makes the store that an input describes, and calls `f` with its path, an unused path in the
/// same folder, and the input's flags.
pub fn with_store(input: &[u8], f: impl FnOnce(&Path, &Path, usize)) {
    // Each thread of the test harness has its own stores.
    thread_local! {
        static SETTINGS: [OnceCell<Setting>; Subject::ALL.len()] =
            const { [const { OnceCell::new() }; Subject::ALL.len()] };
    }
    let mut source = Bytes(input);
    let flags = source.below(256);
    let number = subject_of(flags);
    SETTINGS.with(|settings| {
        let setting = settings[number].get_or_init(|| setting(Subject::ALL[number]));
        setting.put();
        setting.mangle(flags, source);
        f(&setting.path(), &setting.folder.path().join("backup"), flags);
    });
}

impl Setting {
    fn mangle(&self, flags: usize, mut source: Bytes<'_>) {
        let place = self.place.borrow();
        let raw = &place.raw;
        let header = raw.bytes(56, 120);
        if flags & 1 != 0 {
            raw.restart();
        }
        let mut cut = None;
        while !source.0.is_empty() {
            cut = edit(raw, &self.regions, &mut source).or(cut);
        }
        // If the header points elsewhere, no checksum is recomputed.
        if flags & 2 != 0 && raw.bytes(56, 120) == header {
            for line in 0..LINES {
                raw.seal_line(line);
            }
            for copy in &self.copies {
                raw.seal_copy(copy);
            }
            for number in (0..2).filter(|_| raw.mark() < raw.len()) {
                raw.seal_record(number);
            }
        }
        if flags & 4 != 0 {
            raw.seal_header();
        }
        if let Some(len) = cut {
            place.cut(len);
        }
    }
}

/// What is done besides opening, checking, reading and writing the store.
#[derive(Clone, Copy)]
struct Whole {
    /// Whether it is also opened read-only, before and after.
    reader: bool,
    info: bool,
    copy: bool,
    compact: bool,
}

/// Runs one input.
pub fn run(input: &[u8]) {
    run_with(input, Whole { reader: true, info: true, copy: true, compact: true });
}

/// The same, but only cheap operations for most inputs, chosen by a number in the input.
pub fn run_quickly(input: &[u8]) {
    let number = crc32fast::hash(input) % 256;
    let whole = Whole {
        reader: number.is_multiple_of(8),
        info: number % 8 == 1,
        copy: number == 2,
        compact: number == 3,
    };
    run_with(input, whole);
}

fn run_with(input: &[u8], whole: Whole) {
    with_store(input, |path, backup, flags| {
        let (start, waited) = (Instant::now(), os::time_without_processor());
        let options = Subject::ALL[subject_of(flags)].options();
        let read = |yes| if yes { read(&options, path, backup, whole) } else { Ok(()) };
        let first = read(whole.reader && flags & 8 != 0);
        let used = write(&options, path, backup, whole);
        let second = read(whole.reader);
        for result in [first, used, second] {
            if let Err(error) = result {
                let message = error.to_string();
                assert!(!message.contains('\n'), "{message}");
            }
        }
        // Fuzzers run on busy machines: only this thread's own time counts.
        let took =
            start.elapsed().saturating_sub(os::time_without_processor().saturating_sub(waited));
        assert!(took < Duration::from_secs(30), "it took {took:?}");
    });
}

/// Edits the file, or returns the length to truncate it to after all other edits.
fn edit(raw: &Raw<Mapped>, regions: &[(u64, u64)], source: &mut Bytes<'_>) -> Option<u64> {
    let (from, to) = regions[source.below(regions.len())];
    let kind = source.below(256);
    let at = source.below(65_536) as u64;
    // In the whole file, in larger steps.
    let at = if to - from > 65_536 { from + at * 4_096 } else { from + at };
    let at = from + (at - from) % (to - from);
    let len = 1 + kind / 8;
    let write = |at, bytes: &[u8]| {
        raw.write(at, &bytes[..bytes.len().min((raw.len() - at) as usize)]);
    };
    match kind % 8 {
        0 if to == raw.len() => return Some(at),
        0 | 1 => raw.flip(at, source.below(256) as u8),
        2 => {
            raw.set_word(at / 8 * 8, [0, 1, !0, 1 << 63, 1 << 45, 4_096, 1 << 21, 65_536][len % 8])
        }
        3 => {
            let word = raw.word(at / 8 * 8);
            let by = source.below(256) as u64;
            raw.set_word(at / 8 * 8, word.wrapping_add(by << (8 * (len % 8))));
        }
        4 => write(at, &vec![source.below(256) as u8; 16 * len]),
        _ => {
            let bytes: Vec<u8> = (0..len).map(|_| source.below(256) as u8).collect();
            write(at, &bytes);
        }
    }
    None
}

/// Does what `ls`, `get`, `info`, `check` and `copy` do.
fn read(options: &OpenOptions, path: &Path, backup: &Path, whole: Whole) -> Result<(), Error> {
    let store = options.clone().read_only(true).open(path)?;
    look(&store, backup, whole)
}

fn look(store: &Store, backup: &Path, whole: Whole) -> Result<(), Error> {
    store.recovery();
    let mut worst = if whole.info { store.info().map(drop) } else { Ok(()) };
    if let Ok(slots) = store.slots() {
        for slot in slots {
            let (data, _) = slot.load_versioned();
            drop((slot.version(), slot.is_removed(), slot.size(), data));
            worst = worst.and(match slot.load_range(..) {
                Err(Error::Type { .. }) => Ok(()),
                result => result.map(drop),
            });
        }
    }
    for name in ["value", "array", "text", "bytes", "large", "again"] {
        if let Ok(slot) = store.slot(name) {
            slot.load();
        }
    }
    store.check()?;
    if !whole.copy {
        return worst;
    }
    match store.copy_to(backup) {
        Ok(()) => {
            // A copy is a valid store, whatever the original was.
            let copy = OpenOptions::new().sync_every(None).open(backup);
            let checked = copy.and_then(|copy| copy.check());
            std::fs::remove_file(backup).unwrap();
            assert!(checked.as_ref().is_ok_and(|c| c.is_ok()), "{checked:?}");
        }
        Err(error) => {
            assert!(!backup.exists(), "{error}");
            worst = Err(error);
        }
    }
    worst
}

/// The operations that write: stores, definitions, removals, a sync, compacting.
fn write(options: &OpenOptions, path: &Path, backup: &Path, whole: Whole) -> Result<(), Error> {
    let store = options.open(path)?;
    look(&store, backup, whole).ok();
    if let Ok(slots) = store.slots() {
        for slot in slots {
            if slot.store(slot.load()).is_ok() {
                slot.load();
            }
        }
    }
    let new = store.array_with::<u64>("new", 700, Define::new().initial([!0; 700]));
    if let Ok(new) = new {
        assert_eq!(new.load(), [!0; 700]);
        if new.fetch_add(0, 1).is_ok() {
            assert_eq!(new.get(0).unwrap(), 0);
        }
    }
    if let Ok(slot) = store.slot("value") {
        _ = slot.store(Data::from(1u64));
    }
    _ = store.remove("array");
    _ = store.sync();
    if whole.copy {
        look(&store, backup, whole).ok();
    }
    if whole.compact {
        return store.compact().map(drop);
    }
    Ok(())
}
