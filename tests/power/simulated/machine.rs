//! The code that ships, on a simulated disk: the users of a store, and what may go wrong.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, Stop};
use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::durability::recovery::{Recovery, recover};
use crate::error::{Error, Result};
use crate::format::descriptor::DESCRIPTOR_HEAD;
use crate::format::layout::{HEADER_LEN, Header, LINE};
use crate::mapping::map::Map;
use crate::os::store_file::StoreFile;
use crate::os::sys;
use crate::store::create::{Creation, fill};
use crate::store::session::Session;
use crate::store::store::{Settings, Store};
use crate::types::define::Define;

/// What users see: each slot that is not removed, and the numbers that it carries.
pub(crate) type State = BTreeMap<String, Vec<u64>>;

/// Names of values, of arrays that share a segment, of an array with a segment of its own, and of
/// one with two segments.
pub(crate) const NAMES: [&str; 8] = ["v0", "v1", "v2", "s0", "s1", "l0", "l1", "two"];

/// Elements of an array of this name; 0: a value.
pub(super) fn len(name: &str) -> usize {
    match name.as_bytes()[0] {
        b'v' => 0,
        b's' => 20,
        b'l' => 600,
        _ => 9_000,
    }
}

/// The first elements of the array with two segments are filled separately.
const FIRST: usize = 100;

pub(crate) struct Machine {
    pub(crate) disk: Arc<Disk>,
    pub(crate) random: fastrand::Rng,
    pub(crate) header: Header,
    pub(crate) store: Option<Store>,
    /// What the users have stored last; and all states since the last sync began.
    users: Arc<Mutex<Users>>,
}

#[derive(Debug, Default)]
struct Users {
    now: State,
    since: Vec<State>,
}

/// How an interrupted operation ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Stopped(Stop),
    Failed(Error),
}

impl Machine {
    /// A new, empty store, on a disk on which a flush of a range works, or does not.
    pub(crate) fn new(seed: u64, flushes_ranges: bool) -> Machine {
        let mut random = fastrand::Rng::with_seed(seed);
        let file = sys::memory_file(c"simulated disk").unwrap();
        let creation = Creation {
            max_slots: 200,
            max_size: 16 << 20,
            mode: 0o600,
            checkpoint: true,
            any_file_system: true,
            in_memory: true,
        };
        fill(&file, creation).unwrap();
        let mut page = [0; HEADER_LEN];
        file.read_exact_at(&mut page, 0).unwrap();
        let header = Header::from_page(&page).unwrap();
        let disk = Disk::new(file, &header.regions, flushes_ranges, random.fork());
        let users = Arc::default();
        let mut machine = Machine { disk: Arc::new(disk), random, header, store: None, users };
        machine.open().unwrap();
        machine
    }

    /// Opens the store, as `open.rs` does for the first opener.
    pub(crate) fn open(&mut self) -> std::result::Result<Recovery, Ended> {
        self.store = None;
        let disk = Arc::clone(&self.disk);
        let header = self.header;
        let opened = stoppable(move || {
            let number = crate::os::disk::Disk::file(&*disk).as_raw_fd();
            let path = PathBuf::from(format!("/proc/self/fd/{number}"));
            let file =
                StoreFile::open(true, None, || File::options().read(true).write(true).open(&path));
            let map = Map::new(file.unwrap(), true, header.max_size).unwrap();
            let attachment = Attachment::new(path, map, header, true)?;
            attachment.simulated.set(disk).unwrap();
            let recovery = recover(&attachment, true)?;
            descriptors::count(&attachment)?;
            attachment.announce()?;
            let settings = Settings { define: true, lock_timeout: None, sync_every: None };
            let session = Session::new(attachment, recovery);
            Ok((Store { session, settings, location: None }, recovery))
        });
        let (store, recovery) = opened?;
        self.store = Some(store);
        Ok(recovery)
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    /// Syncs; if `busy`, others update slots meanwhile. Returns the states of which one is saved,
    /// or may be.
    pub(crate) fn sync(&mut self, busy: bool) -> (std::result::Result<(), Ended>, Vec<State>) {
        let users = Arc::clone(&self.users);
        {
            let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
            users.since = vec![users.now.clone()];
        }
        if busy {
            let (store, users) = (self.store().clone(), Arc::clone(&users));
            let mut random = self.random.fork();
            self.disk.set_others(Some(Box::new(move || {
                // Refused where the sync has locked the slot.
                let _ = update(&store, &users, &mut random);
            })));
        }
        let store = self.store().clone();
        let result = stoppable(move || store.sync());
        self.disk.set_others(None);
        let users = users.lock().unwrap_or_else(PoisonError::into_inner);
        (result, users.since.clone())
    }

    pub(crate) fn update(&mut self) {
        let mut random = self.random.fork();
        update(self.store(), &self.users, &mut random).unwrap();
    }

    /// Defines the slot if it does not exist, and makes it carry this number.
    pub(crate) fn set(&mut self, name: &str, number: u64) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        set(self.store(), name, number).unwrap();
        users.carry(name, vec![number; if name == "two" { 2 } else { 1 }]);
    }

    /// Defines so much that the next slots need a further tier of the directory.
    pub(crate) fn fill_first_tier(&mut self) {
        for (number, lines) in (0..).zip([[32; 15].as_slice(), &[30]].concat()) {
            let name = format!("v filler {number:02}");
            let doc = "d".repeat(LINE * lines - DESCRIPTOR_HEAD - name.len());
            let define = Define::new().doc(doc);
            drop(self.store().value_with::<u64>(&name, define).unwrap());
            self.users.lock().unwrap_or_else(PoisonError::into_inner).carry(&name, vec![0]);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.now.remove(name).is_some() {
            self.store().remove(name).unwrap();
            let now = users.now.clone();
            users.since.push(now);
        }
    }

    /// Several slots get one number in a transaction.
    pub(crate) fn transaction(&mut self) {
        let number = self.random.u64(0..3);
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = users.now.keys().cloned().collect();
        names.retain(|_| self.random.bool());
        let store = self.store();
        let committed = store.transaction(|tx| {
            for name in &names {
                match len(name) {
                    0 => tx.store(&store.value::<u64>(name)?, number)?,
                    len => tx.store(&store.array::<u64>(name, len)?, &vec![number; len][..])?,
                }
            }
            Ok::<(), Error>(())
        });
        committed.unwrap();
        for name in names {
            let count = users.now[&name].len();
            users.now.insert(name, vec![number; count]);
        }
        let now = users.now.clone();
        users.since.push(now);
    }

    /// The state that the users expect.
    pub(crate) fn expected(&self) -> State {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    /// Reads the content; the users go on from there.
    pub(crate) fn read(&self) -> std::result::Result<State, String> {
        let store = self.store();
        let mut state = State::new();
        for slot in store.slots().map_err(|e| e.to_string())? {
            let name = slot.name().to_owned();
            let numbers = match len(&name) {
                0 => vec![store.value::<u64>(&name).map_err(|e| e.to_string())?.load()],
                len => {
                    let content = store.array::<u64>(&name, len).map_err(|e| e.to_string())?.load();
                    let (first, rest) = content.split_at(if name == "two" { FIRST } else { 0 });
                    let whole = |part: &[u64]| part.iter().all(|x| *x == part[0]);
                    if !whole(first) || !whole(rest) {
                        return Err(format!("{name} is torn"));
                    }
                    first.first().into_iter().chain(rest.first()).copied().collect()
                }
            };
            state.insert(name, numbers);
        }
        self.users.lock().unwrap_or_else(PoisonError::into_inner).now = state.clone();
        Ok(state)
    }

    /// An error if `check` finds a problem.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let check = self.store().check().map_err(|e| e.to_string())?;
        if check.is_ok() { Ok(()) } else { Err(format!("check: {:?}", check.problems)) }
    }

    pub(crate) fn cut_power(&mut self) {
        self.store = None;
        self.disk = Arc::new(self.disk.cut(&self.header.regions));
    }

    pub(crate) fn copy(&mut self) {
        self.store = None;
        self.disk = Arc::new(self.disk.copy(&self.header.regions));
    }

    /// Cancels all planned faults.
    pub(crate) fn calm(&self) {
        let mut state = self.disk.state();
        (state.stop_in, state.fail_flush_in) = (None, None);
    }
}

impl Users {
    fn carry(&mut self, name: &str, numbers: Vec<u64>) {
        self.now.insert(name.to_owned(), numbers);
        self.since.push(self.now.clone());
    }
}

fn set(store: &Store, name: &str, number: u64) -> Result<()> {
    match len(name) {
        0 => store.value::<u64>(name)?.store(number),
        len => store.array::<u64>(name, len)?.store(&vec![number; len]),
    }
}

/// Sets one slot to one of a few numbers, so that earlier numbers return often.
fn update(store: &Store, users: &Mutex<Users>, random: &mut fastrand::Rng) -> Result<()> {
    let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
    let names: Vec<String> = users.now.keys().cloned().collect();
    let Some(name) = random.choice(&names) else { return Ok(()) };
    let number = random.u64(0..3);
    if name == "two" {
        let first = random.bool();
        store
            .array::<u64>(name, len(name))?
            .update(|p| if first { p[..FIRST].fill(number) } else { p[FIRST..].fill(number) })?;
        let mut numbers = users.now[name].clone();
        numbers[usize::from(!first)] = number;
        users.carry(name, numbers);
    } else {
        set(store, name, number)?;
        users.carry(name, vec![number]);
    }
    Ok(())
}

/// Runs an operation that may be stopped at any step of the disk.
fn stoppable<T>(f: impl FnOnce() -> Result<T>) -> std::result::Result<T, Ended> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(Ended::Failed),
        Err(panic) => match panic.downcast::<Stop>() {
            Ok(stop) => Err(Ended::Stopped(*stop)),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}
