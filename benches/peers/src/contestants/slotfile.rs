//! slotfile, without its background sync: all are measured without flushing unless the work is
//! to flush.

use std::any::Any;
use std::path::Path;

use anyhow::Result;
use slotfile::{Array, Counter, Data, Define, Group, OpenOptions, Scalar, Slot, Store, Value};

use super::NUMBER;
use crate::contestant::{
    Block, Contestant, Durable, End, Keep, Name, Names, Number, Numbers, Signal, not_offered,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slotfile {
    Plain,
    /// Copies of a block.
    FourAreas,
    /// Several numbers prepared once, to be used as one.
    Group,
    /// A number in stripes.
    Counter,
}

/// Opens or creates it, for this many slots, or the default.
fn open(path: &Path, slots: usize) -> Result<Store> {
    let mut options = OpenOptions::new();
    options.create(true).max_slots(slots.max(65_536) as u64).sync_every(None);
    Ok(options.open(path)?)
}

impl Contestant for Slotfile {
    fn name(&self) -> &'static str {
        match self {
            Slotfile::Plain => "slotfile",
            Slotfile::FourAreas => "slotfile (4 areas)",
            Slotfile::Group => "slotfile (group)",
            Slotfile::Counter => "slotfile (counter)",
        }
    }

    fn is_variant(&self) -> bool {
        *self != Slotfile::Plain
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        if *self == Slotfile::Counter && keep == Keep::Running {
            return Ok(Box::new(open(path, 0)?.counter(NUMBER)?));
        }
        self.only_plain()?;
        let store = open(path, 0)?;
        let value = store.value::<u64>(NUMBER)?;
        Ok(match keep {
            Keep::Running => Box::new(value),
            Keep::Durable => Box::new(Synced { store, value }),
        })
    }

    fn numbers(&self, path: &Path, count: usize) -> Result<Box<dyn Numbers>> {
        let store = open(path, 0)?;
        let values = (0..count).map(|i| store.value(&format!("{NUMBER}{i}")));
        let values = values.collect::<Result<Vec<Value<u64>>, _>>()?;
        Ok(match self {
            Slotfile::Plain => {
                let slots = store.slots()?;
                Box::new(Several { store, values, slots })
            }
            Slotfile::FourAreas => return Err(not_offered("areas are for blocks")),
            Slotfile::Counter => return Err(not_offered("a counter is one number")),
            Slotfile::Group => Box::new((store.group(values)?, vec![0; count])),
        })
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        let areas = match self {
            Slotfile::Plain => 2,
            Slotfile::FourAreas => 4,
            Slotfile::Group => return Err(not_offered("a group is of several numbers")),
            Slotfile::Counter => return Err(not_offered("a counter is one number")),
        };
        let define = Define::new().areas(areas);
        Ok(Box::new(open(path, 0)?.array_with::<u64>("block", words, define)?))
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        self.only_plain()?;
        let store = open(path, names.len() + 1)?;
        for name in names {
            store.value_with(&name.name, Define::new().initial(name.value))?;
        }
        Ok(Box::new(store))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        self.only_plain()?;
        Ok(Box::new(open(path, 0)?))
    }

    fn signal(&self, path: &Path, name: &str, _end: End) -> Result<Box<dyn Signal>> {
        self.only_plain()?;
        Ok(Box::new(open(path, 0)?.value::<u64>(name)?))
    }

    fn durable(&self) -> Result<&dyn Durable> {
        self.only_plain()?;
        Ok(self)
    }
}

impl Durable for Slotfile {
    fn make(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Any>> {
        self.define(path, names)?;
        Ok(Box::new(()))
    }

    fn open(&self, path: &Path, names: &[&str]) -> Result<Vec<Box<dyn Number + Send>>> {
        let store = open(path, 0)?;
        let synced = |name: &&str| {
            let value = store.value::<u64>(name)?;
            Ok(Box::new(Synced { store: store.clone(), value }) as Box<dyn Number + Send>)
        };
        names.iter().map(synced).collect()
    }
}

impl Slotfile {
    fn only_plain(&self) -> Result<()> {
        match self {
            Slotfile::Plain => Ok(()),
            Slotfile::FourAreas => Err(not_offered("areas are for blocks")),
            Slotfile::Group => Err(not_offered("a group is of several numbers")),
            Slotfile::Counter => Err(not_offered("a counter is one number, synced with the store")),
        }
    }
}

impl Number for Counter {
    fn read(&mut self) -> u64 {
        self.load() as u64
    }
    fn add(&mut self) {
        Counter::add(self, 1).expect("added");
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

struct Several {
    store: Store,
    values: Vec<Value<u64>>,
    slots: Vec<Slot>,
}

impl Numbers for Several {
    fn add(&mut self) {
        let add = self.store.transaction(|tx| {
            self.values.iter().try_for_each(|value| tx.fetch_add(value, 1).map(drop))
        });
        add.expect("added");
    }
    fn read(&mut self, out: &mut [u64]) {
        let read = self.store.snapshot_of(&self.slots).expect("read");
        for (out, (data, _)) in out.iter_mut().zip(read) {
            let Data::Scalar(Scalar::U64(number)) = data else { panic!("numbers") };
            *out = number;
        }
    }
}

/// And the memory for its contents.
impl Numbers for (Group<Vec<Value<u64>>>, Vec<u64>) {
    fn add(&mut self) {
        let (group, contents) = self;
        let add = group.update_into(contents, |numbers| numbers.iter_mut().for_each(|n| *n += 1));
        add.expect("added");
    }
    fn read(&mut self, out: &mut [u64]) {
        self.0.load_into(&mut self.1).expect("read");
        out.copy_from_slice(&self.1);
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
