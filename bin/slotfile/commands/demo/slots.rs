//! The slots of the demo's store, and the sizes of its task.

use slotfile::{Array, Element, Error, Store, Value};

use crate::exit::Failure;

/// Processes that add.
pub(super) const ADDERS: u64 = 10;
/// How often each of them adds 1 to the counter and to each element.
pub(super) const ADDED_BY_EACH: u64 = 100;
/// Elements that they add to.
pub(super) const ELEMENTS: usize = 10;
/// Numbers in the arrays that are written whole.
const MIRRORED: usize = 4096;

pub(super) const RUNS: &str = "demo/runs";
pub(super) const COUNTER: &str = "demo/counter";
pub(super) const RUNNING: &str = "demo/running";

/// What the demo and all of its workers open.
pub(super) struct Slots {
    /// Runs that were completed.
    pub(super) runs: Value<u64>,
    pub(super) counter: Value<u64>,
    pub(super) elements: Array<u64>,
    /// All equal after each update.
    pub(super) mirror: Array<u64>,
    /// All equal too; its writer is killed.
    pub(super) victim: Array<u64>,
}

impl Slots {
    pub(super) fn open(store: &Store) -> Result<Slots, Failure> {
        Ok(Slots {
            runs: store.value(RUNS)?,
            counter: store.value(COUNTER)?,
            elements: store.array("demo/elements", ELEMENTS)?,
            mirror: store.array("demo/mirror", MIRRORED)?,
            victim: store.array("demo/victim", MIRRORED)?,
        })
    }
}

/// This machine's figures.
pub(super) struct Machine {
    pub(super) samples: Value<u64>,
    /// Percent, of each processor.
    pub(super) cpu: Array<f32>,
    /// Bytes: total, used, available.
    pub(super) memory: Array<u64>,
    /// Load averages over 1, 5 and 15 minutes.
    pub(super) load: Array<f64>,
}

impl Machine {
    pub(super) fn open(store: &Store, processors: usize) -> Result<Machine, Failure> {
        Ok(Machine {
            samples: store.value("machine/samples")?,
            cpu: array_of_now(store, "machine/cpu", processors)?,
            memory: store.array("machine/memory", 3)?,
            load: store.array("machine/load", 3)?,
        })
    }
}

/// An array whose length depends on the machine. The file may come from another machine, so
/// an array of another length is replaced.
fn array_of_now<T: Element>(store: &Store, name: &str, len: usize) -> Result<Array<T>, Failure> {
    match store.array(name, len) {
        Err(Error::Type { .. }) => {
            store.remove(name)?;
            Ok(store.array(name, len)?)
        }
        opened => Ok(opened?),
    }
}
