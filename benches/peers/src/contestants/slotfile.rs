//! slotfile, without its background sync: all are measured without flushing unless the work is
//! to flush.

use std::path::Path;

use anyhow::Result;
use slotfile::{Array, Define, OpenOptions, Store, Value};

use super::NUMBER;
use crate::contestant::{Block, Contestant, End, Keep, Name, Names, Number, Signal, not_offered};

pub struct Slotfile {
    /// Copies of a block.
    pub areas: usize,
}

/// Opens or creates it, for this many slots, or the default.
fn open(path: &Path, slots: usize) -> Result<Store> {
    let mut options = OpenOptions::new();
    options.create(true).max_slots(slots.max(65_536) as u64).sync_every(None);
    Ok(options.open(path)?)
}

impl Contestant for Slotfile {
    fn name(&self) -> &'static str {
        if self.areas == 2 { "slotfile" } else { "slotfile (4 areas)" }
    }

    fn is_variant(&self) -> bool {
        self.areas != 2
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        self.only_blocks()?;
        let store = open(path, 0)?;
        let value = store.value::<u64>(NUMBER)?;
        Ok(match keep {
            Keep::Running => Box::new(value),
            Keep::Durable => Box::new(Synced { store, value }),
        })
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        let define = Define::new().areas(self.areas);
        Ok(Box::new(open(path, 0)?.array_with::<u64>("block", words, define)?))
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        self.only_blocks()?;
        let store = open(path, names.len() + 1)?;
        for name in names {
            store.value_with(&name.name, Define::new().initial(name.value))?;
        }
        Ok(Box::new(store))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        self.only_blocks()?;
        Ok(Box::new(open(path, 0)?))
    }

    fn signal(&self, path: &Path, name: &str, _end: End) -> Result<Box<dyn Signal>> {
        self.only_blocks()?;
        Ok(Box::new(open(path, 0)?.value::<u64>(name)?))
    }
}

impl Slotfile {
    fn only_blocks(&self) -> Result<()> {
        if self.areas == 2 { Ok(()) } else { Err(not_offered("areas are for blocks")) }
    }
}

impl Number for Value<u64> {
    fn read(&mut self) -> u64 {
        self.load()
    }
    fn add(&mut self) {
        self.fetch_add(1).expect("added");
    }
}

struct Synced {
    store: Store,
    value: Value<u64>,
}

impl Number for Synced {
    fn read(&mut self) -> u64 {
        self.value.load()
    }
    fn add(&mut self) {
        self.value.fetch_add(1).expect("added");
        self.store.sync().expect("synced");
    }
}

impl Block for Array<u64> {
    fn replace(&mut self, content: &[u64]) {
        self.store(content).expect("replaced");
    }
    fn read(&mut self, out: &mut [u64]) {
        self.load_into(out);
    }
    fn set(&mut self, index: usize, word: u64) -> bool {
        Array::set(self, index, word).expect("set");
        true
    }
}

impl Names for Store {
    fn read(&mut self, name: &str) -> u64 {
        self.value::<u64>(name).expect("there").load()
    }
}

impl Signal for Value<u64> {
    fn send(&mut self, number: u64) {
        self.store(number).expect("stored");
    }
    fn wait(&mut self, number: u64) {
        let seen = self.wait_until(|seen| seen >= number, None).expect("waited");
        assert_eq!(seen, Some(number), "announcements come one by one");
    }
}
