//! SQLite, through rusqlite, with a write-ahead log and prepared statements.

use std::any::Any;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, params};

use super::{NUMBER, numbered};
use crate::contestant::{Block, Contestant, Durable, Keep, Name, Names, Number, Numbers, Own};

pub struct Sqlite;

fn open(path: &Path, keep: Keep) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    let synchronous = if keep == Keep::Durable { "full" } else { "off" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch(
        "create table if not exists slots (name text primary key, value) without rowid",
    )?;
    Ok(connection)
}

impl Contestant for Sqlite {
    fn name(&self) -> &'static str {
        "SQLite"
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        let connection = open(path, keep)?;
        connection.execute("insert or ignore into slots values (?, 0)", [NUMBER])?;
        Ok(Box::new(connection))
    }

    fn numbers(&self, path: &Path, count: usize) -> Result<Box<dyn Numbers>> {
        let connection = open(path, Keep::Running)?;
        let names = numbered(count);
        for name in &names {
            connection.execute("insert or ignore into slots values (?, 0)", [name])?;
        }
        Ok(Box::new((connection, names)))
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        let connection = open(path, Keep::Running)?;
        let insert = "insert or ignore into slots values ('block', zeroblob(?))";
        connection.execute(insert, [8 * words as i64])?;
        Ok(Box::new(connection))
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        let mut connection = open(path, Keep::Running)?;
        let tx = connection.transaction()?;
        {
            let mut insert = tx.prepare("insert into slots values (?, ?)")?;
            for name in names {
                insert.execute(params![name.name, name.value as i64])?;
            }
        }
        tx.commit()?;
        Ok(Box::new(connection))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        Ok(Box::new(open(path, Keep::Running)?))
    }

    fn durable(&self) -> Result<&dyn Durable> {
        Ok(self)
    }
}

/// Each thread has a connection of its own.
impl Durable for Sqlite {
    fn make(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Any>> {
        self.define(path, names)?;
        Ok(Box::new(()))
    }

    fn open(&self, path: &Path, names: &[&str]) -> Result<Vec<Box<dyn Number + Send>>> {
        let own = |name: &&str| {
            let connection = open(path, Keep::Durable)?;
            Ok(Box::new(Own::of(connection, name)) as Box<dyn Number + Send>)
        };
        names.iter().map(own).collect()
    }
}

fn add_to(connection: &Connection, name: &str) {
    let add = "update slots set value = value + 1 where name = ?";
    let changed = connection.prepare_cached(add).expect("prepared").execute([name]);
    assert_eq!(changed, Ok(1));
}

impl Names for Connection {
    fn read(&mut self, name: &str) -> u64 {
        let mut select =
            self.prepare_cached("select value from slots where name = ?").expect("prepared");
        select.query_row([name], |row| row.get::<_, i64>(0)).expect("there") as u64
    }
}

impl Number for Connection {
    fn read(&mut self) -> u64 {
        Names::read(self, NUMBER)
    }
    fn add(&mut self) {
        add_to(self, NUMBER);
    }
}

impl Number for Own<Connection> {
    fn read(&mut self) -> u64 {
        Names::read(&mut self.opened, &self.name)
    }
    fn add(&mut self) {
        add_to(&self.opened, &self.name);
    }
}

impl Numbers for (Connection, Vec<String>) {
    fn add(&mut self) {
        let (connection, names) = self;
        let tx = connection.transaction().expect("a transaction");
        {
            let add = "update slots set value = value + 1 where name = ?";
            let mut add = tx.prepare_cached(add).expect("prepared");
            for name in &*names {
                assert_eq!(add.execute([name]), Ok(1));
            }
        }
        tx.commit().expect("committed");
    }
    fn read(&mut self, out: &mut [u64]) {
        let (connection, names) = self;
        let tx = connection.transaction().expect("a transaction");
        for (name, out) in names.iter().zip(out) {
            let select = "select value from slots where name = ?";
            let mut select = tx.prepare_cached(select).expect("prepared");
            *out = select.query_row([name], |row| row.get::<_, i64>(0)).expect("there") as u64;
        }
    }
}

impl Block for Connection {
    fn replace(&mut self, content: &[u64]) {
        let replace = "insert or replace into slots values ('block', ?)";
        let bytes: &[u8] = bytemuck::cast_slice(content);
        self.prepare_cached(replace).expect("prepared").execute([bytes]).expect("replaced");
    }
    fn read(&mut self, out: &mut [u64]) {
        let select = "select value from slots where name = 'block'";
        let mut select = self.prepare_cached(select).expect("prepared");
        let mut rows = select.query([]).expect("asked");
        let row = rows.next().expect("read").expect("there");
        let bytes = row.get_ref(0).expect("a column").as_blob().expect("bytes");
        bytemuck::cast_slice_mut(out).copy_from_slice(bytes);
    }
}
