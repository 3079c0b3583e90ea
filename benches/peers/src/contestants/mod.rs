//! One file per contestant: the limit first, then slotfile, then the peers.

mod fjall;
mod iceoryx2;
mod limit;
mod lmdb;
mod mmap_sync;
mod multiprocessing;
pub mod postgres;
mod redb;
mod redis;
mod slotfile;
mod sqlite;

use crate::contestant::Contestant;

pub static ALL: &[&dyn Contestant] = &[
    &limit::Limit { versions: 1 },
    &limit::Limit { versions: 4 },
    &limit::OwnLines,
    &slotfile::Slotfile::Plain,
    &slotfile::Slotfile::FourAreas,
    &slotfile::Slotfile::Group,
    &slotfile::Slotfile::Counter,
    &iceoryx2::Iceoryx2,
    &mmap_sync::MmapSync,
    &lmdb::Lmdb,
    &redb::Redb { processes: redb::Processes::One },
    &redb::Redb { processes: redb::Processes::Many },
    &sqlite::Sqlite,
    &fjall::Fjall,
    &redis::Redis,
    &postgres::Postgres,
    &multiprocessing::Multiprocessing,
];

/// The name of the measured number, for contestants that need one.
const NUMBER: &str = "number";

/// Of so many numbers, for contestants that need names.
fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{NUMBER}{i}")).collect()
}
