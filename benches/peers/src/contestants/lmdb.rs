//! LMDB, through heed. Every read is its own transaction, so that it sees what others wrote.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use heed::byteorder::NativeEndian;
use heed::types::{Bytes, Str, U64};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, WithTls};

use super::{NUMBER, numbered};
use crate::contestant::{Block, Contestant, Durable, Keep, Name, Names, Number, Numbers, Own};

pub struct Lmdb;

type Number64 = U64<NativeEndian>;

/// Without flushing, it writes to the map, which is fastest.
fn open(path: &Path, keep: Keep) -> Result<Env<WithTls>> {
    std::fs::create_dir_all(path)?;
    let mut options = EnvOpenOptions::new();
    options.map_size(1 << 30);
    // SAFETY: no other program changes the files, and each process opens them once.
    unsafe {
        if keep == Keep::Running {
            options.flags(EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC);
        }
        Ok(options.open(path)?)
    }
}

struct Opened<V> {
    env: Env<WithTls>,
    database: Database<'static, Str, V>,
}

/// The unnamed database, which always exists.
fn opened<V: 'static>(path: &Path, keep: Keep) -> Result<Opened<V>> {
    let env = open(path, keep)?;
    let database = env.open_databases_and_commit(env.read_txn()?, |opener, tx| {
        opener.open_database::<Str, V>(tx, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    let database = database.unwrap_commit().context("the unnamed database")?;
    Ok(Opened { env, database })
}

impl Contestant for Lmdb {
    fn name(&self) -> &'static str {
        "LMDB"
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        Ok(Box::new(opened::<Number64>(path, keep)?))
    }

    fn numbers(&self, path: &Path, count: usize) -> Result<Box<dyn Numbers>> {
        let names = numbered(count);
        let opened = opened::<Number64>(path, Keep::Running)?;
        let mut tx = opened.env.write_txn()?;
        for name in &names {
            opened.database.put(&mut tx, name, &0)?;
        }
        tx.commit()?;
        Ok(Box::new((opened, names)))
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        let opened = opened::<Bytes>(path, Keep::Running)?;
        let mut tx = opened.env.write_txn()?;
        if opened.database.get(&tx, "block")?.is_none() {
            opened.database.put(&mut tx, "block", &vec![0; 8 * words])?;
        }
        tx.commit()?;
        Ok(Box::new(opened))
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        let opened = opened::<Number64>(path, Keep::Running)?;
        let mut tx = opened.env.write_txn()?;
        for name in names {
            opened.database.put(&mut tx, &name.name, &name.value)?;
        }
        tx.commit()?;
        Ok(Box::new(opened))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        Ok(Box::new(opened::<Number64>(path, Keep::Running)?))
    }

    fn durable(&self) -> Result<&dyn Durable> {
        Ok(self)
    }
}

impl Durable for Lmdb {
    fn make(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Any>> {
        self.define(path, names)?;
        Ok(Box::new(()))
    }

    fn open(&self, path: &Path, names: &[&str]) -> Result<Vec<Box<dyn Number + Send>>> {
        let opened = Arc::new(opened::<Number64>(path, Keep::Durable)?);
        let own = |name: &&str| Box::new(Own::of(opened.clone(), name)) as Box<dyn Number + Send>;
        Ok(names.iter().map(own).collect())
    }
}

impl Names for Opened<Number64> {
    fn read(&mut self, name: &str) -> u64 {
        self.value(name)
    }
}

impl Number for Opened<Number64> {
    fn read(&mut self) -> u64 {
        Names::read(self, NUMBER)
    }
    fn add(&mut self) {
        self.add_to(NUMBER);
    }
}

impl Number for Own<Arc<Opened<Number64>>> {
    fn read(&mut self) -> u64 {
        self.opened.value(&self.name)
    }
    fn add(&mut self) {
        self.opened.add_to(&self.name);
    }
}

impl Opened<Number64> {
    fn value(&self, name: &str) -> u64 {
        let tx = self.env.read_txn().expect("a transaction");
        self.database.get(&tx, name).expect("read").unwrap_or(0)
    }

    fn add_to(&self, name: &str) {
        let mut tx = self.env.write_txn().expect("a transaction");
        let old = self.database.get(&tx, name).expect("read").unwrap_or(0);
        self.database.put(&mut tx, name, &(old + 1)).expect("put");
        tx.commit().expect("committed");
    }
}

impl Numbers for (Opened<Number64>, Vec<String>) {
    fn add(&mut self) {
        let (opened, names) = self;
        let mut tx = opened.env.write_txn().expect("a transaction");
        for name in names {
            let old = opened.database.get(&tx, name).expect("read").expect("there");
            opened.database.put(&mut tx, name, &(old + 1)).expect("put");
        }
        tx.commit().expect("committed");
    }
    fn read(&mut self, out: &mut [u64]) {
        let (opened, names) = self;
        let tx = opened.env.read_txn().expect("a transaction");
        for (name, out) in names.iter().zip(out) {
            *out = opened.database.get(&tx, name).expect("read").expect("there");
        }
    }
}

impl Block for Opened<Bytes> {
    fn replace(&mut self, content: &[u64]) {
        let mut tx = self.env.write_txn().expect("a transaction");
        self.database.put(&mut tx, "block", bytemuck::cast_slice(content)).expect("put");
        tx.commit().expect("committed");
    }
    fn read(&mut self, out: &mut [u64]) {
        let tx = self.env.read_txn().expect("a transaction");
        let bytes = self.database.get(&tx, "block").expect("read").expect("there");
        bytemuck::cast_slice_mut(out).copy_from_slice(bytes);
    }
}
