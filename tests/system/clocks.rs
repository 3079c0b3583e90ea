//! No timeout and no period depends on the wall clock, or on the times in the file.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::raw::{LIVE_HEADER, Raw, TABLE, TABLE_ENTRY};
use crate::common::{folder_in_memory, store_in, until};
use slotfile::{Error, OpenOptions};

/// When the last sync began, in nanoseconds since boot; behind it, the date when it ended.
const LAST_SYNC: u64 = LIVE_HEADER + 272;
const LAST_RECOVERY_AT: u64 = LIVE_HEADER + 424;

/// Times of all kinds, as a jumping clock would leave them.
const TIMES: [u64; 5] = [0, 1, 4_102_444_800, 1 << 63, u64::MAX];

#[test]
fn row_35_impossible_times_in_the_file_delay_nobody() {
    let folder = folder_in_memory();
    let path = store_in(&folder);
    let every = Duration::from_millis(20);
    let mut options = OpenOptions::new();
    options.create(true).sync_every(Some(every)).lock_timeout(Some(Duration::from_millis(200)));
    let store = options.open(&path).unwrap();
    let array = store.array::<u64>("array", 3).unwrap();
    let raw = Raw::open(&path);
    let acked = || raw.word(LIVE_HEADER + 64);
    for time in TIMES {
        for at in [LAST_SYNC, LAST_SYNC + 8, LAST_RECOVERY_AT] {
            raw.set_word(at, time);
        }
        for entry in 0..4 {
            raw.set_word(TABLE + entry * TABLE_ENTRY + 16, time);
        }
        // A time within the last period may delay one sync, by a period.
        let before = acked();
        until("a sync in the background is done", || {
            array.fetch_add(0, 1).unwrap();
            acked() > before
        });
        let guard = array.lock().unwrap();
        let waited = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let start = Instant::now();
                let refused = array.fetch_add(1, 1).unwrap_err();
                assert!(matches!(refused, Error::LockTimeout { .. }), "{refused:?}");
                start.elapsed()
            });
            waiting.join().unwrap()
        });
        drop(guard);
        assert!(waited >= Duration::from_millis(200), "{waited:?}");
        store.info().unwrap();
        assert!(store.check().unwrap().is_ok());
    }
}

/// The wall clock is read only for dates that are shown to people. (To let it jump would harm
/// everything else that runs on the machine.)
#[test]
fn row_35_the_wall_clock_is_read_only_for_dates() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut asks = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            if text.contains("SystemTime::now") || text.contains("CLOCK_REALTIME") {
                asks.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(asks, ["time.rs"]);
}
