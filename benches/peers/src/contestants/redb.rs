//! redb, in both of its modes: one process owns the file, or many write it.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use redb::{
    ConcurrencyMode, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use super::{NUMBER, numbered};
use crate::contestant::{
    Block, Contestant, Durable, Keep, Name, Names, Number, Numbers, Own, Sharing,
};

pub struct Redb {
    pub processes: Processes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    One,
    Many,
}

const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
const BLOCKS: TableDefinition<&str, &[u8]> = TableDefinition::new("blocks");

struct Opened {
    database: Database,
    durability: Durability,
}

impl Redb {
    fn opened(&self, path: &Path, keep: Keep) -> Result<Opened> {
        let mut builder = Database::builder();
        if self.processes == Processes::Many {
            builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
        }
        // With many processes, it has only durable commits.
        let durability = match (keep, self.processes) {
            (Keep::Running, Processes::One) => Durability::None,
            _ => Durability::Immediate,
        };
        let opened = Opened { database: builder.create(path)?, durability };
        let tx = opened.begin()?;
        tx.open_table(NUMBERS)?;
        tx.open_table(BLOCKS)?;
        tx.commit()?;
        Ok(opened)
    }
}

impl Opened {
    fn begin(&self) -> Result<WriteTransaction> {
        let mut tx = self.database.begin_write()?;
        tx.set_durability(self.durability)?;
        Ok(tx)
    }
}

impl Contestant for Redb {
    fn name(&self) -> &'static str {
        if self.processes == Processes::One { "redb" } else { "redb (many processes)" }
    }

    fn sharing(&self) -> Sharing {
        match self.processes {
            Processes::One => Sharing::OneProcess,
            Processes::Many => Sharing::Full,
        }
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        Ok(Box::new(self.opened(path, keep)?))
    }

    fn numbers(&self, path: &Path, count: usize) -> Result<Box<dyn Numbers>> {
        let names = numbered(count);
        let opened = self.opened(path, Keep::Running)?;
        let tx = opened.begin()?;
        let mut table = tx.open_table(NUMBERS)?;
        for name in &names {
            table.insert(name.as_str(), 0)?;
        }
        drop(table);
        tx.commit()?;
        Ok(Box::new((opened, names)))
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        let opened = self.opened(path, Keep::Running)?;
        let tx = opened.begin()?;
        let mut table = tx.open_table(BLOCKS)?;
        if table.get("block")?.is_none() {
            table.insert("block", vec![0; 8 * words].as_slice())?;
        }
        drop(table);
        tx.commit()?;
        Ok(Box::new(opened))
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        let opened = self.opened(path, Keep::Running)?;
        let tx = opened.begin()?;
        let mut table = tx.open_table(NUMBERS)?;
        for name in names {
            table.insert(name.name.as_str(), name.value)?;
        }
        drop(table);
        tx.commit()?;
        Ok(Box::new(opened))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        Ok(Box::new(self.opened(path, Keep::Running)?))
    }

    fn durable(&self) -> Result<&dyn Durable> {
        Ok(self)
    }
}

/// The threads of a process share one `Database`.
impl Durable for Redb {
    fn make(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Any>> {
        self.define(path, names)?;
        Ok(Box::new(()))
    }

    fn open(&self, path: &Path, names: &[&str]) -> Result<Vec<Box<dyn Number + Send>>> {
        let opened = Arc::new(self.opened(path, Keep::Durable)?);
        let own = |name: &&str| Box::new(Own::of(opened.clone(), name)) as Box<dyn Number + Send>;
        Ok(names.iter().map(own).collect())
    }
}

impl Opened {
    fn value(&self, name: &str) -> u64 {
        let tx = self.database.begin_read().expect("a transaction");
        let table = tx.open_table(NUMBERS).expect("the table");
        table.get(name).expect("read").map_or(0, |value| value.value())
    }

    fn add_to(&self, name: &str) {
        let tx = self.begin().expect("a transaction");
        {
            let mut table = tx.open_table(NUMBERS).expect("the table");
            let old = table.get(name).expect("read").map_or(0, |value| value.value());
            table.insert(name, old + 1).expect("inserted");
        }
        tx.commit().expect("committed");
    }
}

impl Names for Opened {
    fn read(&mut self, name: &str) -> u64 {
        self.value(name)
    }
}

impl Number for Opened {
    fn read(&mut self) -> u64 {
        self.value(NUMBER)
    }
    fn add(&mut self) {
        self.add_to(NUMBER);
    }
}

impl Number for Own<Arc<Opened>> {
    fn read(&mut self) -> u64 {
        self.opened.value(&self.name)
    }
    fn add(&mut self) {
        self.opened.add_to(&self.name);
    }
}

impl Numbers for (Opened, Vec<String>) {
    fn add(&mut self) {
        let (opened, names) = self;
        let tx = opened.begin().expect("a transaction");
        {
            let mut table = tx.open_table(NUMBERS).expect("the table");
            for name in names {
                let old = table.get(name.as_str()).expect("read").expect("there").value();
                table.insert(name.as_str(), old + 1).expect("inserted");
            }
        }
        tx.commit().expect("committed");
    }
    fn read(&mut self, out: &mut [u64]) {
        let (opened, names) = self;
        let tx = opened.database.begin_read().expect("a transaction");
        let table = tx.open_table(NUMBERS).expect("the table");
        for (name, out) in names.iter().zip(out) {
            *out = table.get(name.as_str()).expect("read").expect("there").value();
        }
    }
}

impl Block for Opened {
    fn replace(&mut self, content: &[u64]) {
        let tx = self.begin().expect("a transaction");
        {
            let mut table = tx.open_table(BLOCKS).expect("the table");
            table.insert("block", bytemuck::cast_slice(content)).expect("inserted");
        }
        tx.commit().expect("committed");
    }
    fn read(&mut self, out: &mut [u64]) {
        let tx = self.database.begin_read().expect("a transaction");
        let table = tx.open_table(BLOCKS).expect("the table");
        let bytes = table.get("block").expect("read").expect("there");
        bytemuck::cast_slice_mut(out).copy_from_slice(bytes.value());
    }
}
