//! Any bytes as a store: a fuzzer's input is a list of edits of a good store, after which
//! everything there is to do with a store is done with it. Whatever happens must be an
//! error or a result: no panic, no hang, no signal.
//!
//! The input: a byte of flags, then edits. An edit is a region, a kind with a length, an
//! offset of two bytes, and its bytes. Checksums are then made right again or not, so that
//! what lies behind them is reached, too.
//!
//! A fuzzer wants thousands of runs a second: it has copies and a compaction, which make new
//! files, only of few inputs ([`run_quickly`]).

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use slotfile::{Data, Define, Error, OpenOptions, Store};

use super::model::{Bytes, Source};
use super::raw::{self, Image, Raw};

/// The store that is edited, and a temporary folder to do it in.
struct Setting {
    folder: tempfile::TempDir,
    image: Image,
    /// The identity of the file that is there, and its inode number.
    identity: RefCell<(Vec<u8>, u64)>,
    /// Where the edits go: from, to.
    regions: Vec<(u64, u64)>,
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.max_slots(8).max_size(16 << 20).sync_every(None);
    options.lock_timeout(Some(Duration::from_millis(1)));
    options
}

fn setting() -> Setting {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("state.slots");
    let store = options().create_new(true).open(&path).unwrap();
    for n in 1..3u64 {
        store.value::<u64>("value").unwrap().store(n).unwrap();
        store.array::<f64>("array", 3).unwrap().set(1, 1.5).unwrap();
        store.text("text", 30).unwrap().store("some text").unwrap();
        store.bytes("bytes", 30).unwrap().store(&[7; 20]).unwrap();
        let large = store.array_with::<u8>("large", 70_000, Define::new().areas(4)).unwrap();
        large.set(69_000, n as u8).unwrap();
        store.sync().unwrap();
    }
    store.value::<bool>("removed").unwrap();
    store.remove("removed").unwrap();
    let define = Define::new().doc("raw memory").unit("m/s");
    store.buffer_with::<u16>("buffer", [3, 20], define).unwrap().set([1, 1], 7).unwrap();
    store.sync().unwrap();
    drop(store);
    let raw = Raw::open(&path);
    let records = raw.record(0);
    let mut regions = vec![
        (0, 160),
        (4_088, 4_096),
        (raw::LIVE_HEADER, raw::LIVE_HEADER + 448),
        (raw::TABLE, raw::TABLE + 4 * raw::TABLE_ENTRY),
        (raw.index(), raw.index() + raw.index_len()),
        (raw.directory(), raw.line(8)),
        (raw.mark(), raw.mark() + 16),
        (records, records + 128),
        (raw.record(1), raw.record(1) + 128),
        (raw.word(136), raw.word(136) + 4 * 4_096),
        (0, raw.len()),
    ];
    regions.extend((0..7).map(|line| (raw.slot(line), raw.slot(line) + 256)));
    for copy in raw.copies_in_use(raw.newest_record()) {
        regions.push((copy.head, copy.head + 64));
        regions.push((copy.data, copy.data + copy.len.min(512)));
    }
    let identity = RefCell::new((raw.bytes(raw::IDENTITY, raw::IDENTITY_LEN), inode(&path)));
    // So many bytes were allocated: the image has holes, which opening would fill each time.
    raw.set_word(raw::ENDS + 8 * 7, 0);
    Setting { image: Image::of(&path), identity, regions, folder }
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.ino())
}

impl Setting {
    fn path(&self) -> PathBuf {
        self.folder.path().join("state.slots")
    }

    /// Puts the good store back.
    fn put(&self) -> Raw {
        let path = self.path();
        let mut identity = self.identity.borrow_mut();
        if inode(&path) != identity.1 {
            // Compaction has put another file there, which has another identity.
            let _ = std::fs::remove_file(&path);
            drop(options().create_new(true).open(&path).unwrap());
            *identity = (Raw::open(&path).bytes(raw::IDENTITY, raw::IDENTITY_LEN), inode(&path));
        }
        self.image.put(&path);
        let raw = Raw::open(&path);
        raw.write(raw::IDENTITY, &identity.0);
        raw
    }
}

/// Makes the store that an input describes, and calls `f` with its path, with that of
/// another file in its folder, which is not there, and with the input's flags.
pub fn with_store(input: &[u8], f: impl FnOnce(&Path, &Path, usize)) {
    // Threads of a test harness each have a store of their own.
    thread_local! { static SETTING: OnceLock<Setting> = const { OnceLock::new() }; }
    SETTING.with(|setting| {
        let setting = setting.get_or_init(self::setting);
        let path = setting.path();
        let raw = setting.put();
        let copies = raw.copies_in_use(raw.newest_record());
        let header = raw.bytes(56, 96);
        let mut source = Bytes(input);
        let flags = source.below(256);
        if flags & 1 != 0 {
            raw.restart();
        }
        let mut cut = None;
        while !source.0.is_empty() {
            cut = edit(&raw, &setting.regions, &mut source).or(cut);
        }
        // Where the header leads elsewhere, there is nothing to make right.
        if flags & 2 != 0 && raw.bytes(56, 96) == header {
            for line in 0..8 {
                raw.seal_line(line);
            }
            for copy in &copies {
                raw.seal_copy(copy);
            }
            for number in 0..2 {
                raw.seal_record(number);
            }
        }
        if flags & 4 != 0 {
            raw.seal_header();
        }
        cut.inspect(|len| raw.cut(*len));
        f(&path, &setting.folder.path().join("backup"), flags);
    });
}

/// What is done beside reading and writing slots.
#[derive(Clone, Copy)]
struct Whole {
    copy: bool,
    compact: bool,
    /// Whether the store is opened once more, to read.
    again: bool,
}

/// Runs one input.
pub fn run(input: &[u8]) {
    run_with(input, Whole { copy: true, compact: true, again: true });
}

/// The same, but of most inputs only what takes no new file: by a number that the input gives.
pub fn run_quickly(input: &[u8]) {
    let number = crc32fast::hash(input) % 64;
    run_with(input, Whole { copy: number == 0, compact: number == 1, again: number < 8 });
}

fn run_with(input: &[u8], whole: Whole) {
    with_store(input, |path, backup, flags| {
        let start = Instant::now();
        let first = if flags & 8 != 0 { read(path, backup, whole) } else { Ok(()) };
        let used = write(path, backup, whole);
        let second = if whole.again { read(path, backup, whole) } else { Ok(()) };
        for result in [first, used, second] {
            if let Err(error) = result {
                let message = error.to_string();
                assert!(!message.contains('\n'), "{message}");
            }
        }
        // Fuzzers run on machines that are busy.
        assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
    });
}

/// Edits the file; or says where it is to be cut, when all else is done.
fn edit(raw: &Raw, regions: &[(u64, u64)], source: &mut Bytes<'_>) -> Option<u64> {
    let (from, to) = regions[source.below(regions.len())];
    let kind = source.below(256);
    let at = source.below(65_536) as u64;
    // In the whole file, in larger steps.
    let at = if to - from > 65_536 { from + at * 4_096 } else { from + at };
    let at = from + (at - from) % (to - from);
    let len = 1 + kind / 8;
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
        4 => raw.write(at, &vec![source.below(256) as u8; 16 * len]),
        _ => {
            let bytes: Vec<u8> = (0..len).map(|_| source.below(256) as u8).collect();
            raw.write(at, &bytes);
        }
    }
    None
}

/// What `ls`, `get`, `info`, `check` and `copy` do.
fn read(path: &Path, backup: &Path, whole: Whole) -> Result<(), Error> {
    let mut options = options();
    let store = options.read_only(true).open(path)?;
    look(&store, backup, whole)
}

fn look(store: &Store, backup: &Path, whole: Whole) -> Result<(), Error> {
    store.recovery();
    let mut worst = store.info().map(drop);
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
    for name in ["value", "array", "text", "bytes", "large", "removed"] {
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
            // What was copied is a store, whatever the first one was.
            let copy = options().open(backup);
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

/// What writes: stores, definitions, removals, a sync, compacting.
fn write(path: &Path, backup: &Path, whole: Whole) -> Result<(), Error> {
    let store = options().open(path)?;
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
