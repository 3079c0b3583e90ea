//! mmap-sync: one value of any rkyv type in a mapped file, replaced as a whole by one process.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use mmap_sync::synchronizer::Synchronizer;

use crate::contestant::{Block, Contestant, Keep, Name, Names, Number, Sharing, not_offered};

pub struct MmapSync;

/// After this time, a reader counts as dead.
const GRACE: Duration = Duration::from_secs(1);

struct Opened<T> {
    synchronizer: Synchronizer,
    of: PhantomData<T>,
}

fn open<T>(path: &Path) -> Opened<T> {
    Opened { synchronizer: Synchronizer::new(path.as_os_str()), of: PhantomData }
}

fn zeroed<const BYTES: usize>(path: &Path) -> Result<Opened<[u8; BYTES]>> {
    let mut opened = open::<[u8; BYTES]>(path);
    if opened.synchronizer.version().is_err() {
        opened.synchronizer.write_raw::<[u8; BYTES]>(&[0; BYTES], GRACE)?;
    }
    Ok(opened)
}

impl Contestant for MmapSync {
    fn name(&self) -> &'static str {
        "mmap-sync"
    }

    fn sharing(&self) -> Sharing {
        Sharing::OneWriter
    }

    fn number(&self, path: &Path, keep: Keep) -> Result<Box<dyn Number>> {
        if keep == Keep::Durable {
            return Err(not_offered("no flushing to the disk"));
        }
        let mut opened = open::<u64>(path);
        opened.synchronizer.write(&0u64, GRACE)?;
        Ok(Box::new(opened))
    }

    fn block(&self, path: &Path, words: usize) -> Result<Box<dyn Block>> {
        Ok(match words {
            128 => Box::new(zeroed::<1024>(path)?),
            8192 => Box::new(zeroed::<65536>(path)?),
            _ => bail!("blocks of {words} words are not compiled in"),
        })
    }

    fn define(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Names>> {
        let mut opened = open::<HashMap<String, u64>>(path);
        let map: HashMap<String, u64> = names.iter().map(|n| (n.name.clone(), n.value)).collect();
        opened.synchronizer.write(&map, GRACE)?;
        Ok(Box::new(opened))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Names>> {
        Ok(Box::new(open::<HashMap<String, u64>>(path)))
    }
}

impl Number for Opened<u64> {
    fn read(&mut self) -> u64 {
        // SAFETY: the result is dropped at once, and the files hold what this type wrote.
        *unsafe { self.synchronizer.read::<u64>(false) }.expect("read")
    }
    fn add(&mut self) {
        let next = self.read() + 1;
        self.synchronizer.write(&next, GRACE).expect("written");
    }
}

impl<const BYTES: usize> Block for Opened<[u8; BYTES]> {
    fn replace(&mut self, content: &[u64]) {
        let bytes = bytemuck::cast_slice(content);
        self.synchronizer.write_raw::<[u8; BYTES]>(bytes, GRACE).expect("written");
    }
    fn read(&mut self, out: &mut [u64]) {
        // SAFETY: copied and dropped within far less than the grace, and the files hold what
        // this type wrote.
        let content = unsafe { self.synchronizer.read::<[u8; BYTES]>(false) }.expect("read");
        bytemuck::cast_slice_mut(out).copy_from_slice(&content[..]);
    }
}

impl Names for Opened<HashMap<String, u64>> {
    fn read(&mut self, name: &str) -> u64 {
        // SAFETY: as above.
        let map = unsafe { self.synchronizer.read::<HashMap<String, u64>>(false) }.expect("read");
        *map.get(name).expect("there")
    }
}
