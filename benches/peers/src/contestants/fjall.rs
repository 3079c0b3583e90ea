//! fjall, a log-structured store. One process at a time.

use std::any::Any;
use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::{NUMBER, numbered};
use crate::contestant::{
    Block, Contestant, Durable, Keep, Name, Names, Number, Numbers, Own, Sharing,
};

pub struct Fjall;

#[derive(Clone)]
struct Opened {
    database: Database,
    slots: Keyspace,
    keep: Keep,
}

fn open(path: &Path, keep: Keep) -> Result<Opened> {
    let database = Database::builder(path).open()?;
    let slots = database.keyspace("slots", KeyspaceCreateOptions::default)?;
    Ok(Opened { database, slots, keep })
}

impl Contestant for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn sharing(&self) -> Sharing {
        Sharing::OneProcess
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        Ok(Box::new(open(path, keep)?))
    }

    fn numbers(&self, path: &Path, count: usize) -> Result<Box<dyn Numbers>> {
        let opened = open(path, Keep::Running)?;
        let names = numbered(count);
        for name in &names {
            opened.slots.insert(name, 0u64.to_le_bytes())?;
        }
        Ok(Box::new((opened, names)))
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        let opened = open(path, Keep::Running)?;
        opened.slots.insert("block", vec![0; 8 * words])?;
        Ok(Box::new(opened))
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        let opened = open(path, Keep::Running)?;
        let mut batch = opened.database.batch();
        for name in names {
            batch.insert(&opened.slots, name.name.as_str(), name.value.to_le_bytes());
        }
        batch.commit()?;
        Ok(Box::new(opened))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        Ok(Box::new(open(path, Keep::Running)?))
    }

    fn durable(&self) -> Result<&dyn Durable> {
        Ok(self)
    }
}

/// The threads of a process share one `Database`.
impl Durable for Fjall {
    fn make(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Any>> {
        self.define(path, names)?;
        Ok(Box::new(()))
    }

    fn open(&self, path: &Path, names: &[&str]) -> Result<Vec<Box<dyn Number + Send>>> {
        let opened = open(path, Keep::Durable)?;
        let own = |name: &&str| Box::new(Own::of(opened.clone(), name)) as Box<dyn Number + Send>;
        Ok(names.iter().map(own).collect())
    }
}

impl Opened {
    /// Not atomic: only one thread adds to each number.
    fn add_to(&mut self, name: &str) {
        let next = Names::read(self, name) + 1;
        self.slots.insert(name, next.to_le_bytes()).expect("inserted");
        if self.keep == Keep::Durable {
            self.database.persist(PersistMode::SyncData).expect("flushed");
        }
    }
}

impl Names for Opened {
    fn read(&mut self, name: &str) -> u64 {
        let value = self.slots.get(name).expect("read");
        value.map_or(0, |bytes| u64::from_le_bytes((*bytes).try_into().expect("eight bytes")))
    }
}

impl Number for Opened {
    fn read(&mut self) -> u64 {
        Names::read(self, NUMBER)
    }
    fn add(&mut self) {
        self.add_to(NUMBER);
    }
}

impl Number for Own<Opened> {
    fn read(&mut self) -> u64 {
        Names::read(&mut self.opened, &self.name)
    }
    fn add(&mut self) {
        self.opened.add_to(&self.name);
    }
}

impl Numbers for (Opened, Vec<String>) {
    /// Not atomic beside others, as `add`.
    fn add(&mut self) {
        let (opened, names) = self;
        let mut batch = opened.database.batch();
        for name in names {
            let next = Names::read(opened, name) + 1;
            batch.insert(&opened.slots, name.as_str(), next.to_le_bytes());
        }
        batch.commit().expect("committed");
    }
    fn read(&mut self, out: &mut [u64]) {
        let (opened, names) = self;
        let snapshot = opened.database.snapshot();
        for (name, out) in names.iter().zip(out) {
            let bytes = snapshot.get(&opened.slots, name).expect("read").expect("there");
            *out = u64::from_le_bytes((*bytes).try_into().expect("eight bytes"));
        }
    }
}

impl Block for Opened {
    fn replace(&mut self, content: &[u64]) {
        let bytes: &[u8] = bytemuck::cast_slice(content);
        self.slots.insert("block", bytes).expect("inserted");
    }
    fn read(&mut self, out: &mut [u64]) {
        let bytes = self.slots.get("block").expect("read").expect("there");
        bytemuck::cast_slice_mut(out).copy_from_slice(&bytes);
    }
}
