//! Redis, over a unix socket. The first process of a measurement starts the server, and ends it.

use std::any::Any;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis::{Client, Connection, TypedCommands};

use super::{NUMBER, numbered};
use crate::contestant::{
    Block, Contestant, Durable, End, Keep, Name, Names, Number, Numbers, Own, Signal, not_offered,
};

pub struct Redis;

struct Opened {
    connection: Connection,
    server: Option<Child>,
    socket: PathBuf,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
            let _ = std::fs::remove_file(&self.socket);
        }
    }
}

/// Connects to the server of this folder, or starts it.
fn open(path: &Path, keep: Keep) -> Result<Opened> {
    let socket = path.join("socket");
    if socket.exists() {
        return Ok(Opened { connection: connect(&socket)?, server: None, socket });
    }
    std::fs::create_dir_all(path)?;
    let durable = if keep == Keep::Durable { "yes" } else { "no" };
    let server = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendfsync", "always", "--appendonly", durable])
        .arg("--unixsocket")
        .arg(&socket)
        .arg("--dir")
        .arg(path)
        .stdout(Stdio::null())
        .spawn();
    let server = match server {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(not_offered("redis-server is not installed"));
        }
        other => other.context("redis-server")?,
    };
    let start = Instant::now();
    loop {
        // Also retries errors while the server loads its data.
        match connect(&socket) {
            Ok(connection) => return Ok(Opened { connection, server: Some(server), socket }),
            Err(e) => ensure!(start.elapsed() < Duration::from_secs(10), "redis-server: {e}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn connect(socket: &Path) -> Result<Connection> {
    let client = Client::open(format!("redis+unix://{}", socket.display()))?;
    let mut connection = client.get_connection()?;
    connection.ping()?;
    Ok(connection)
}

impl Contestant for Redis {
    fn name(&self) -> &'static str {
        "Redis"
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        Ok(Box::new(open(path, keep)?))
    }

    fn numbers(&self, path: &Path, count: usize) -> Result<Box<dyn Numbers>> {
        let opened = open(path, Keep::Running)?;
        let names = numbered(count);
        let mut add = redis::pipe();
        add.atomic();
        for name in &names {
            add.incr(name, 1).ignore();
        }
        Ok(Box::new(Together { opened, names, add }))
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        let mut opened = open(path, Keep::Running)?;
        opened.connection.set_nx("block", vec![0u8; 8 * words])?;
        Ok(Box::new(opened))
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        Ok(Box::new(defined(path, names, Keep::Running)?))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        Ok(Box::new(open(path, Keep::Running)?))
    }

    /// The server must keep running.
    fn lasts(&self) -> bool {
        false
    }

    fn signal(&self, path: &Path, name: &str, _end: End) -> Result<Box<dyn Signal>> {
        Ok(Box::new(List { opened: open(path, Keep::Running)?, name: name.to_owned() }))
    }

    fn durable(&self) -> Result<&dyn Durable> {
        Ok(self)
    }
}

fn defined(path: &Path, names: &[Name], keep: Keep) -> Result<Opened> {
    let mut opened = open(path, keep)?;
    for part in names.chunks(10_000) {
        let mut pipe = redis::pipe();
        for name in part {
            pipe.set(&name.name, name.value).ignore();
        }
        pipe.exec(&mut opened.connection)?;
    }
    Ok(opened)
}

/// Each thread has a connection of its own.
impl Durable for Redis {
    fn make(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Any>> {
        Ok(Box::new(defined(path, names, Keep::Durable)?))
    }

    fn open(&self, path: &Path, names: &[&str]) -> Result<Vec<Box<dyn Number + Send>>> {
        let own = |name: &&str| {
            let opened = open(path, Keep::Durable)?;
            Ok(Box::new(Own::of(opened, name)) as Box<dyn Number + Send>)
        };
        names.iter().map(own).collect()
    }
}

impl Names for Opened {
    fn read(&mut self, name: &str) -> u64 {
        let text = self.connection.get(name).expect("read");
        text.map_or(0, |digits| digits.parse().expect("a number"))
    }
}

impl Number for Opened {
    fn read(&mut self) -> u64 {
        Names::read(self, NUMBER)
    }
    fn add(&mut self) {
        self.connection.incr(NUMBER, 1).expect("added");
    }
}

impl Number for Own<Opened> {
    fn read(&mut self) -> u64 {
        Names::read(&mut self.opened, &self.name)
    }
    fn add(&mut self) {
        self.opened.connection.incr(&self.name, 1).expect("added");
    }
}

/// Several numbers, and the transaction that adds to them.
struct Together {
    opened: Opened,
    names: Vec<String>,
    add: redis::Pipeline,
}

impl Numbers for Together {
    fn add(&mut self) {
        self.add.exec(&mut self.opened.connection).expect("added");
    }
    fn read(&mut self, out: &mut [u64]) {
        let read = redis::Commands::mget(&mut self.opened.connection, &self.names);
        let numbers: Vec<Option<u64>> = read.expect("read");
        for (out, number) in out.iter_mut().zip(numbers) {
            *out = number.unwrap_or(0);
        }
    }
}

impl Block for Opened {
    fn replace(&mut self, content: &[u64]) {
        let bytes: &[u8] = bytemuck::cast_slice(content);
        self.connection.set("block", bytes).expect("replaced");
    }
    fn read(&mut self, out: &mut [u64]) {
        // The typed commands return text.
        let bytes: Vec<u8> = redis::Commands::get(&mut self.connection, "block").expect("read");
        bytemuck::cast_slice_mut(out).copy_from_slice(&bytes);
    }
}

/// A list with a blocking take.
struct List {
    opened: Opened,
    name: String,
}

impl Signal for List {
    fn send(&mut self, number: u64) {
        self.opened.connection.rpush(&self.name, number).expect("pushed");
    }
    fn wait(&mut self, number: u64) {
        let taken = self.opened.connection.blpop(&self.name, 0.0).expect("waited");
        let [_, taken] = taken.expect("no time-out");
        assert_eq!(taken, number.to_string(), "announcements come one by one");
    }
}
