//! A reader's lock delays writers only for a moment, whether its holder is alive, stopped or dead.

use std::time::Duration;

use crate::common;
use crate::common::raw::Raw;
use slotfile::{Error, OpenOptions};

/// What the format adds to the owner of a lock that only reads.
const READS: u64 = 8192 << 2;
const OWNER: u64 = 0x7fff << 2;

/// The lock of a live but idle thread, this one. It is written into the file as a reader stopped
/// in the middle leaves it, so that nothing depends on timing.
#[test]
fn row_01_a_stopped_readers_lock_is_taken_away() {
    let folder = common::folder_in_memory();
    let path = common::store_in(&folder);
    let open = |timeout| {
        let mut options = OpenOptions::new();
        options.create(true).lock_timeout(timeout).sync_every(None).open(&path).unwrap()
    };
    let store = open(Some(Duration::from_secs(10)));
    let v = store.value::<u64>("v").unwrap();
    let a = store.array::<u64>("a", 4).unwrap();
    let raw = Raw::open(&path);
    let guard = v.lock().unwrap();
    let owner = raw.word(raw.control_of("v")) & OWNER;
    drop(guard);
    assert_ne!(owner, 0);
    let leave_read_locks = || {
        for name in ["v", "a"] {
            let at = raw.control_of(name);
            raw.set_word(at, raw.word(at) & !OWNER | owner | READS);
        }
    };
    type Update<'u> = &'u (dyn Fn() -> Result<(), Error> + Sync);
    let updates: [Update<'_>; 6] = [
        &|| v.fetch_add(1).map(drop),
        &|| v.lock().map(drop),
        &|| a.set(0, 1),
        &|| a.begin_update()?.commit(&[2; 4]),
        &|| store.transaction(|tx| tx.fetch_add(&v, 1).and_then(|_| tx.set(&a, 0, 3))),
        &|| v.clone().with_lock_timeout(Some(Duration::ZERO)).fetch_add(1).map(drop),
    ];
    for (n, update) in updates.into_iter().enumerate() {
        leave_read_locks();
        // Reads go on, and find nothing wrong.
        assert_eq!(store.snapshot_of(&store.slots().unwrap()).unwrap().len(), 2);
        assert!(store.check().unwrap().is_ok());
        // By another thread, and by the holder itself.
        common::within(Duration::from_secs(5), "an update", || {
            std::thread::scope(|scope| scope.spawn(update).join().unwrap()).unwrap();
        });
        leave_read_locks();
        common::within(Duration::from_secs(5), "an update", || update().unwrap());
        println!("{n} done");
    }
    leave_read_locks();
    store.remove("v").unwrap();
    store.sync().unwrap();
    // Finally in a copy of the file, as a restart would leave it.
    drop((v, a, store));
    assert_eq!(open(None).array::<u64>("a", 4).unwrap().get(0).unwrap(), 3);
}
