//! A store's whole content, for comparison, and the store of the tests that run one operation
//! with a fault at every step.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use slotfile::{Data, OpenOptions, Store};

use super::raw::Raw;

/// The contents of the slots, by name.
#[derive(Clone, PartialEq, Default)]
pub struct State(pub BTreeMap<String, Data>);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, data) in &self.0 {
            match data {
                Data::Array(elements) => {
                    let bytes = elements.as_bytes();
                    let lows: Vec<u8> = bytes.iter().step_by(8).take(24).copied().collect();
                    let crc = crc32fast::hash(bytes);
                    write!(f, "{name}: lowest bytes {lows:?}, crc {crc:#x}; ")?;
                }
                other => write!(f, "{name}: {other:?}; ")?,
            }
        }
        Ok(())
    }
}

impl State {
    pub fn of(store: &Store) -> State {
        let slots = store.slots().unwrap();
        State(slots.iter().map(|slot| (slot.name().to_owned(), slot.load())).collect())
    }

    /// The same but for one slot.
    pub fn with(&self, name: &str, content: impl Into<Data>) -> State {
        let mut state = self.clone();
        state.0.insert(name.to_owned(), content.into());
        state
    }

    /// The same without one slot.
    pub fn without(&self, name: &str) -> State {
        let mut state = self.clone();
        state.0.remove(name);
        state
    }
}

/// Options without a background sync and with a short lock timeout.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).max_slots(2_000).max_size(256 << 20).sync_every(None);
    options.lock_timeout(Some(Duration::from_secs(3)));
    options
}

pub fn open(path: &Path) -> Store {
    options().open(path).unwrap()
}

/// Makes the store one of an earlier boot, as a restart of the machine does. No process has it
/// open.
pub fn restart(path: &Path) {
    Raw::open(path).restart();
}
