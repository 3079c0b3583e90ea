//! A peer that may write the file writes garbage into it while others parse it. Their results may
//! be wrong, but they never touch foreign memory, panic or hang.

use std::time::{Duration, Instant};

use crate::common::raw::{self, Image, Raw};
use crate::common::{Child, folder_in_memory, long, number, path, role, store_in, within};
use slotfile::{Define, Error, OpenOptions, Store};

const NAME: &str = "row_32_a_peer_that_rewrites_the_structure_while_others_parse_it";

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.max_slots(64).max_size(32 << 20).sync_every(None);
    options.lock_timeout(Some(Duration::from_millis(20)));
    options
}

/// All operations that parse.
fn read_it(store: &Store) -> Result<(), Error> {
    for slot in store.slots()? {
        slot.load();
        let _ = (slot.version(), slot.is_removed(), slot.size());
    }
    for slot in store.list("*")? {
        let slot = slot?;
        let _ = (slot.version(), slot.size(), slot.load_beginning(40));
    }
    store.info()?;
    store.check()?;
    Ok(())
}

/// All operations that rely on parsed data.
fn write_it(store: &Store) -> Result<(), Error> {
    for slot in store.slots()? {
        let _ = slot.lock();
    }
    store.value::<u64>("value")?.fetch_add(1)?;
    store.array::<f64>("array", 3)?.update(|a| a[0] += 1.0)?;
    store.array_with::<u64>("new", 90, Define::new().initial([7; 90]))?.set(3, 8)?;
    store.remove("new")?;
    store.sync()
}

/// A process that parses for this long, and counts how often all was well. Its writes may be
/// refused all the same, since the other one removes the same slot.
fn parse() {
    let until = Instant::now() + Duration::from_millis(number());
    let (mut well, mut refused) = (0, 0);
    let mut random = fastrand::Rng::new();
    while Instant::now() < until {
        let result = within(Duration::from_secs(30), "a turn", || {
            let store = options().read_only(random.u8(0..4) == 0).open(path())?;
            (0..4).try_for_each(|_| {
                read_it(&store)?;
                well += 1;
                write_it(&store)
            })
        });
        if let Err(error) = result {
            let message = error.to_string();
            assert!(message.len() > 20 && !message.contains('\n'), "{message}");
            refused += 1;
        }
    }
    eprintln!("all was well {well} times, {refused} turns were refused");
    assert!(well > 0 && refused > 0, "the peer did no harm, or nothing else");
}

/// Writes garbage for this long, and restores the original in between.
fn rewrite() {
    let raw = Raw::open(&path());
    let regions = [
        (0, 160),
        (raw::LIVE_HEADER, raw::LIVE_HEADER + 448),
        (raw::TABLE, raw::TABLE + 4 * raw::TABLE_ENTRY),
        (raw.index(), raw.index() + raw.index_len()),
        (raw.directory(), raw.line(8)),
        (raw.slot(0), raw.slot(0) + 512),
        (raw.mark(), raw.mark() + 16),
        (raw.record(0), raw.record(0) + 128),
        (raw.record(1), raw.record(1) + 128),
    ];
    // Not from the header, which may be garbage later.
    let lines = [0, 1, 2, 3].map(|line| raw.line(line));
    let good = Image::of(&path().with_extension("good"));
    let mut random = fastrand::Rng::new();
    let until = Instant::now() + Duration::from_millis(number());
    while Instant::now() < until {
        for _ in 0..random.usize(1..4) {
            // A moved slot, or any word that others parse.
            let (from, to) = regions[random.usize(0..regions.len())];
            let (at, word) = match random.u8(0..8) {
                0..4 => (lines[random.usize(0..4)] + 48, random.u64(0..1 << 19) * 64),
                4 => (random.u64(from..to) / 8 * 8, random.u64(..)),
                5 => (random.u64(from..to) / 8 * 8, [0, 1, u64::MAX, 1 << 63][random.usize(0..4)]),
                _ => {
                    let at = random.u64(from..to) / 8 * 8;
                    (at, raw.word(at) ^ 1 << random.u64(0..64))
                }
            };
            raw.set_word(at, word);
            for line in lines {
                let crc = crc32fast::hash(&raw.bytes(line + 4, raw::LINE as usize - 4));
                raw.write(line, &crc.to_le_bytes());
            }
            if random.bool() {
                raw.seal_header();
            }
        }
        std::thread::sleep(Duration::from_micros(random.u64(0..300)));
        // So that there is something to parse; locks and versions are restored as well.
        for (at, page) in &good.pages {
            raw.write(*at, page);
        }
        std::thread::sleep(Duration::from_micros(random.u64(0..3_000)));
    }
}

#[test]
fn row_32_a_peer_that_rewrites_the_structure_while_others_parse_it() {
    match role().as_deref() {
        Some("parses") => return parse(),
        Some(_) => return rewrite(),
        None => {}
    }
    let folder = folder_in_memory();
    let path = store_in(&folder);
    let store = options().create_new(true).open(&path).unwrap();
    store.value::<u64>("value").unwrap();
    store.array::<f64>("array", 3).unwrap();
    store.text("text", 30).unwrap().store("some text").unwrap();
    store.array::<u8>("large", 70_000).unwrap().set(69_000, 1).unwrap();
    store.sync().unwrap();
    drop(store);
    // Before any process uses it, or the restored bytes would be of many instants.
    std::fs::copy(&path, path.with_extension("good")).unwrap();
    let time = if long() { 60_000 } else { 3_000 };
    for child in ["rewrites", "parses", "parses"].map(|r| Child::spawn_with(NAME, r, &path, time)) {
        child.join();
    }
}

#[test]
fn row_32_a_directory_that_has_become_shorter() {
    let folder = folder_in_memory();
    let path = store_in(&folder);
    let store = options().max_slots(64).create_new(true).open(&path).unwrap();
    let values: Vec<_> =
        (0..60).map(|i| store.value::<u64>(&format!("value {i}")).unwrap()).collect();
    store.sync().unwrap();
    let raw = Raw::open(&path);
    let there = raw.word(raw::COUNT);
    raw.set_word(raw::COUNT, 3 | u64::from(!3u32) << 32);
    values[0].fetch_add(1).unwrap();
    let error = store.sync().unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    raw.set_word(raw::COUNT, there);
    store.sync().unwrap();
}
