//! The stores that the damage tests use: slots of each kind, in different states.

use std::path::Path;
use std::time::Duration;

use slotfile::{Define, OpenOptions, Store};

use super::os;
use super::raw::Raw;

/// The last thing that was done to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// It was synced.
    Synced,
    /// It was changed after a sync: contents, slots, and a reused name.
    Changed,
    /// It keeps no checkpoints.
    WithoutCheckpoints,
    /// A process that held locks has died, in the middle of an update and of a transaction.
    HolderDied,
    /// It is of format 1.0, and was synced.
    Older,
    /// It has a slot of two checkpoint segments.
    Large,
    /// Its slots, but for some before them, are in the second tier of the directory.
    TwoTiers,
}

impl Subject {
    /// Those whose slots have one line of the directory each, from the first line on.
    pub const ALL: [Subject; 6] = [
        Subject::Synced,
        Subject::Changed,
        Subject::WithoutCheckpoints,
        Subject::HolderDied,
        Subject::Older,
        Subject::Large,
    ];

    /// The options to open it with, and to create it.
    pub fn options(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.max_slots(if self == Subject::TwoTiers { 160 } else { 16 });
        options.max_size(16 << 20).sync_every(None);
        options.checkpoint(self != Subject::WithoutCheckpoints);
        options.lock_timeout(Some(Duration::from_micros(200)));
        options
    }

    /// Makes it. No process has it open afterwards.
    pub fn make(self, path: &Path) {
        let mut store = self.options().create_new(true).open(path).unwrap();
        if self == Subject::Older {
            drop(store);
            Raw::open(path).make_older();
            store = self.options().open(path).unwrap();
            assert_eq!(store.info().unwrap().format, (1, 0));
        }
        if self == Subject::TwoTiers {
            // Each takes 32 lines.
            for n in 0..16 {
                let doc = Define::new().doc("d".repeat(3_990));
                store.value_with::<u16>(&format!("before {n}"), doc).unwrap();
            }
        }
        define(&store);
        if self != Subject::Changed {
            store.remove("gone").unwrap();
        }
        // Synced twice, so that both copies of each slot, and both records, are of a sync.
        for n in 1..3 {
            update(&store, n);
            self.sync(&store);
        }
        match self {
            Subject::Synced | Subject::WithoutCheckpoints | Subject::Older => {}
            Subject::TwoTiers => {}
            Subject::Changed => {
                store.value::<u64>("value").unwrap().fetch_add(1).unwrap();
                store.array::<u16>("array", 20).unwrap().set(3, 7).unwrap();
                store.array::<u32>("large", 300).unwrap().set(200, 3).unwrap();
                store.value_with::<u16>("since", Define::new().initial(7u16)).unwrap();
                store.remove("gone").unwrap();
                store.remove("again").unwrap();
                store.value_with::<u32>("again", Define::new().initial(8u32)).unwrap();
            }
            Subject::HolderDied => die_with_locks(&store),
            Subject::Large => {
                let large = store.array::<u8>("two segments", 66_000).unwrap();
                large.set(65_999, 1).unwrap();
                self.sync(&store);
            }
        }
    }

    fn sync(self, store: &Store) {
        if self != Subject::WithoutCheckpoints {
            store.sync().unwrap();
        }
    }
}

/// Slots of each kind, each with one line of the directory; two have the same name, of which the
/// first is removed.
fn define(store: &Store) {
    store.value_with::<u64>("value", Define::new().initial(1_000u64)).unwrap();
    store.value::<bool>("again").unwrap();
    store.value::<bool>("gone").unwrap();
    store.array::<u16>("array", 20).unwrap();
    store.array_with::<u8>("four areas", 90, Define::new().areas(4)).unwrap();
    store.text("text", 30).unwrap();
    store.bytes("bytes", 30).unwrap();
    store.array::<u32>("large", 300).unwrap();
    let define = Define::new().doc("raw").unit("m/s");
    store.buffer_with::<u16>("buffer", [3, 20], define).unwrap();
    store.remove("again").unwrap();
    store.value_with::<u32>("again", Define::new().initial(5u32)).unwrap();
}

/// Updates the slots, so that areas have stale ranges.
fn update(store: &Store, n: u8) {
    store.value::<u64>("value").unwrap().fetch_add(u64::from(n)).unwrap();
    store.array::<u16>("array", 20).unwrap().set(usize::from(n), 7).unwrap();
    let many = store.array_with::<u8>("four areas", 90, Define::new().areas(4)).unwrap();
    (0..2).for_each(|i| many.set(usize::from(n) * 9 + i, n).unwrap());
    store.text("text", 30).unwrap().store(&"text ".repeat(n.into())).unwrap();
    store.bytes("bytes", 30).unwrap().store(&[n; 20]).unwrap();
    store.array::<u32>("large", 300).unwrap().set(usize::from(n) * 50, n.into()).unwrap();
    store.buffer::<u16>("buffer", [3, 20]).unwrap().set([1, 1], n.into()).unwrap();
}

/// A process dies in a transaction while another of its threads is in an update.
fn die_with_locks(store: &Store) {
    let array = store.array::<u16>("array", 20).unwrap();
    let large = store.array::<u32>("large", 300).unwrap();
    let value = store.value::<u64>("value").unwrap();
    let child = os::fork(|| {
        let die = |elements: &mut [u16]| {
            elements[3] = 9;
            os::exit_at_once(0)
        };
        let transaction = store.transaction(|t| {
            t.store(&value, 9)?;
            t.update(&large, |elements| elements[7] = 9)?;
            std::thread::scope(|scope| scope.spawn(|| array.update(die)).join().unwrap())
        });
        transaction.unwrap();
    });
    child.join();
}
