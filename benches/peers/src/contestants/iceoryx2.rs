//! iceoryx2: its blackboard, and its events for waiting. One writer process; the keys are fixed at
//! creation; it is gone when the last process has left.

use std::fmt::Debug;
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::reader::{EntryHandle, Reader};
use iceoryx2::port::writer::EntryHandleMut;
use iceoryx2::prelude::*;
use iceoryx2::service::builder::Builder;
use iceoryx2::service::port_factory::blackboard::PortFactory;

use super::NUMBER;
use crate::contestant::{
    Block, Contestant, End, Keep, Name, Names, Number, Sharing, Signal, not_offered,
};

pub struct Iceoryx2;

/// A name stored inline, as keys must be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, ZeroCopySend)]
#[repr(C)]
pub struct Key([u8; 32]);

impl Key {
    fn of(name: &str) -> Key {
        let mut key = [0; 32];
        key[..name.len()].copy_from_slice(name.as_bytes());
        Key(key)
    }
}

/// Its errors do not implement `std::error::Error`.
fn plain<E: Debug>(error: E) -> anyhow::Error {
    anyhow!("{error:?}")
}

fn node() -> Result<Node<ipc::Service>> {
    set_log_level(LogLevel::Fatal);
    NodeBuilder::new().create::<ipc::Service>().map_err(plain)
}

/// A service is found by its name: here a path, which is unique.
fn service(node: &Node<ipc::Service>, path: &Path) -> Result<Builder<ipc::Service>> {
    let name = path.display().to_string();
    Ok(node.service_builder(&name.as_str().try_into().map_err(plain)?))
}

struct Board {
    board: PortFactory<ipc::Service, Key>,
    reader: Reader<ipc::Service, Key>,
    _node: Node<ipc::Service>,
}

impl Board {
    fn new(node: Node<ipc::Service>, board: PortFactory<ipc::Service, Key>) -> Result<Board> {
        let reader = board.reader_builder().create().map_err(plain)?;
        Ok(Board { board, reader, _node: node })
    }

    fn open(path: &Path) -> Result<Board> {
        let node = node()?;
        let board = service(&node, path)?.blackboard_opener::<Key>().open().map_err(plain)?;
        Board::new(node, board)
    }

    /// Opens the blackboard of a single entry, or makes it.
    fn of_one<T: Copy + ZeroCopySend + 'static>(path: &Path, zero: T) -> Result<Box<Entry<T>>> {
        let board = match Board::open(path) {
            Ok(board) => board,
            Err(_) => {
                let node = node()?;
                let creator = service(&node, path)?.blackboard_creator::<Key>();
                let board = creator.add(Key::of(NUMBER), zero).create().map_err(plain)?;
                Board::new(node, board)?
            }
        };
        let read = board.reader.entry::<T>(&Key::of(NUMBER)).map_err(plain)?;
        Ok(Box::new(Entry { write: None, read, board }))
    }
}

struct Entry<T: Copy + ZeroCopySend + 'static> {
    /// Taken at the first write, since only one process may have it.
    write: Option<EntryHandleMut<ipc::Service, Key, T>>,
    read: EntryHandle<ipc::Service, Key, T>,
    board: Board,
}

impl<T: Copy + ZeroCopySend + 'static> Entry<T> {
    #[inline]
    fn write(&mut self, value: T) {
        if self.write.is_none() {
            let writer = self.board.board.writer_builder().create().expect("the only writer");
            self.write = Some(writer.entry(&Key::of(NUMBER)).expect("the entry"));
        }
        self.write.as_ref().expect("made above").update_with_copy(value);
    }
}

impl Contestant for Iceoryx2 {
    fn name(&self) -> &'static str {
        "iceoryx2"
    }

    fn sharing(&self) -> Sharing {
        Sharing::OneWriter
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        if keep == Keep::Durable {
            return Err(not_offered("nothing outlives the processes"));
        }
        Ok(Board::of_one(path, 0u64)?)
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        Ok(match words {
            128 => Board::of_one(path, [0u64; 128])?,
            8192 => Board::of_one(path, [0u64; 8192])?,
            _ => bail!("blocks of {words} words are not compiled in"),
        })
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        let node = node()?;
        let mut creator = service(&node, path)?.blackboard_creator::<Key>();
        for name in names {
            ensure!(name.name.len() <= 32, "{} does not fit into a key", name.name);
            creator = creator.add(Key::of(&name.name), name.value);
        }
        let board = creator.create().map_err(plain)?;
        Ok(Box::new(Board::new(node, board)?))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        Ok(Box::new(Board::open(path)?))
    }

    fn lasts(&self) -> bool {
        false
    }

    fn signal(&self, path: &Path, name: &str, end: End) -> Result<Box<dyn Signal>> {
        let node = node()?;
        let event = service(&node, &path.with_extension(name))?.event();
        let event = event.event_id_max_value(IDS as usize).open_or_create().map_err(plain)?;
        let port = match end {
            End::Sends => Port::Sends(event.notifier_builder().create().map_err(plain)?),
            End::Waits => Port::Waits(event.listener_builder().create().map_err(plain)?),
        };
        Ok(Box::new(Event { port, _node: node }))
    }
}

impl Number for Entry<u64> {
    fn read(&mut self) -> u64 {
        *self.read.get()
    }
    fn add(&mut self) {
        let next = *self.read.get() + 1;
        self.write(next);
    }
}

impl<const WORDS: usize> Block for Entry<[u64; WORDS]>
where
    [u64; WORDS]: ZeroCopySend,
{
    fn replace(&mut self, content: &[u64]) {
        self.write(*<&[u64; WORDS]>::try_from(content).expect("as long as the block"));
    }
    fn read(&mut self, out: &mut [u64]) {
        out.copy_from_slice(&*self.read.get());
    }
}

impl Names for Board {
    fn read(&mut self, name: &str) -> u64 {
        *self.reader.entry::<u64>(&Key::of(name)).expect("there").get()
    }
}

/// Announcements are told apart by their id, of which there are this many.
const IDS: u64 = 256;

enum Port {
    Sends(Notifier<ipc::Service>),
    Waits(Listener<ipc::Service>),
}

struct Event {
    port: Port,
    _node: Node<ipc::Service>,
}

impl Signal for Event {
    fn send(&mut self, number: u64) {
        let Port::Sends(notifier) = &self.port else { panic!("this end waits") };
        let id = EventId::new((number % IDS) as usize);
        notifier.notify_with_custom_event_id(id).expect("notified");
    }

    fn wait(&mut self, number: u64) {
        let Port::Waits(listener) = &self.port else { panic!("this end sends") };
        let mut seen = false;
        while !seen {
            let wait = listener.blocking_wait(|event| {
                assert_eq!(event.id.as_value() as u64, number % IDS, "one by one");
                seen = true;
            });
            wait.expect("waited");
        }
    }
}
