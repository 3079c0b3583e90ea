//! The workload on the disk that logs its writes. It also tells to which sync a recovered store has
//! returned. Started by `run.sh`; see there.
//!
//! One process sets all slots to a number and syncs, again and again; now and then it is killed
//! meanwhile. Others update slots of their own without pause. Each sync that begins or is
//! acknowledged is noted outside of the disk, with the number of writes logged by then.
//!
//! With `SLOTFILE_POWER_WORKLOAD=group`, eight processes commit at once instead: each adds 1 to a slot
//! of its own and syncs, again and again. Each acknowledged commit is noted likewise.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use slotfile::{OpenOptions, Recovery, Store};

/// The files of a run, from the environment.
pub(crate) struct Paths {
    /// The store, on the disk whose writes are logged.
    pub(crate) store: PathBuf,
    /// The log of the writes.
    pub(crate) log: PathBuf,
    /// The syncs that were begun and acknowledged.
    pub(crate) events: PathBuf,
}

impl Paths {
    pub(crate) fn from_env() -> Paths {
        let path = |name: &str| std::env::var_os(name).expect(name).into();
        Paths {
            store: path("SLOTFILE_POWER_STORE"),
            log: path("SLOTFILE_POWER_LOG"),
            events: path("SLOTFILE_POWER_EVENTS"),
        }
    }
}

/// What happened to a number that all slots carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From here on it may be saved.
    Begun,
    /// It is saved: its sync was acknowledged, or the store was restored to it.
    Saved,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    /// How many writes were logged by then.
    pub(crate) logged: u64,
}

pub(crate) fn events(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // An unfinished line: its writer was killed.
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let event = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let kind = if words[0] == "begun" { Kind::Begun } else { Kind::Saved };
        Event { kind, number: words[1].parse().unwrap(), logged: words[2].parse().unwrap() }
    };
    lines.map(event).collect()
}

fn note(paths: &Paths, kind: &str, number: u64) {
    note_in(&paths.events, paths, kind, number);
}

fn note_in(events: &Path, paths: &Paths, kind: &str, number: u64) {
    let mut logged = [0; 8];
    File::open(&paths.log).unwrap().read_exact_at(&mut logged, 16).unwrap();
    let logged = u64::from_le_bytes(logged);
    let mut file = File::options().create(true).append(true).open(events).unwrap();
    file.write_all(format!("{kind} {number} {logged}\n").as_bytes()).unwrap();
    file.sync_data().unwrap();
}

pub(crate) fn open(path: &Path) -> slotfile::Result<Store> {
    OpenOptions::new().create(true).max_slots(20_000).sync_every(None).open(path)
}

const SMALL: [&str; 5] = ["a", "b", "c", "d", "e"];
const LARGE: [&str; 2] = ["image/left", "image/right"];
const LARGE_LEN: usize = 25_600;
/// Prefix of the slots whose content need not be of the sync.
const NOISE: &str = "noise/";

/// The slot that exists only while the store carries certain numbers.
fn passing(number: u64) -> Option<String> {
    (3..6).contains(&(number % 7)).then(|| format!("passing/{}", number / 7))
}

/// Makes the store carry this number.
fn set_all(store: &Store, number: u64) -> slotfile::Result<()> {
    let wanted = passing(number);
    for slot in store.slots()? {
        let passing = slot.name().starts_with("passing/");
        if passing && wanted.as_deref() != Some(slot.name()) {
            store.remove(slot.name())?;
        }
    }
    for name in SMALL {
        store.value::<u64>(name)?.store(number)?;
    }
    store.array::<f64>("pose", 6)?.store(&[number as f64; 6])?;
    store.text("name", 40)?.store(&number.to_string())?;
    for name in LARGE {
        // Except at every third number, most of it stays as it was.
        let image = store.array::<u32>(name, LARGE_LEN)?;
        image.update(|p| match number % 3 {
            0 => p.fill(number as u32),
            1 => p[0] = number as u32,
            _ => p[LARGE_LEN - 1] = number as u32,
        })?;
    }
    if let Some(name) = wanted {
        store.value::<u32>(&name)?.store(number as u32)?;
    }
    Ok(())
}

/// The number that the store carries; an error if slots carry different numbers, or if anything
/// else is wrong.
pub(crate) fn number_of(store: &Store) -> Result<u64, String> {
    let slots = store.slots().map_err(|e| e.to_string())?;
    let mut names = Vec::new();
    for slot in &slots {
        if slot.name().starts_with(NOISE) {
            let noise = store.array::<u64>(slot.name(), 600).map_err(|e| e.to_string())?.load();
            if noise.iter().any(|x| *x != noise[0]) {
                return Err(format!("{} is torn", slot.name()));
            }
        } else {
            names.push(slot.name());
        }
    }
    if names.is_empty() {
        return Ok(0);
    }
    let read = || -> slotfile::Result<_> {
        let number = store.value::<u64>(SMALL[0])?.load();
        let mut wrong = Vec::new();
        let mut expect = |name: &str, right: bool| {
            if !right {
                wrong.push(name.to_owned());
            }
        };
        for name in SMALL {
            expect(name, store.value::<u64>(name)?.load() == number);
        }
        expect("pose", store.array::<f64>("pose", 6)?.load() == [number as f64; 6]);
        expect("name", store.text("name", 40)?.load() == number.to_string());
        for name in LARGE {
            let image = store.array::<u32>(name, LARGE_LEN)?.load();
            let changed = match number % 3 {
                0 => &image[..],
                1 => &image[..1],
                _ => &image[LARGE_LEN - 1..],
            };
            let inner = &image[1..LARGE_LEN - 1];
            let right = changed.iter().all(|x| *x == number as u32);
            expect(name, right && inner.iter().all(|x| *x == inner[0]));
        }
        if let Some(name) = passing(number) {
            expect(&name, store.value::<u32>(&name)?.load() == number as u32);
        }
        Ok((number, wrong))
    };
    let mut expected: Vec<String> = [&SMALL[..], &LARGE[..], &["pose", "name"]]
        .concat()
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    let missing: Vec<_> = expected.iter().filter(|name| !names.contains(&name.as_str())).collect();
    if !missing.is_empty() {
        return Err(format!("{missing:?} are missing"));
    }
    let (number, wrong) = read().map_err(|e| e.to_string())?;
    if !wrong.is_empty() {
        return Err(format!("the store carries {number}, but {wrong:?} do not"));
    }
    expected.extend(passing(number));
    match names.iter().find(|name| !expected.iter().any(|e| e == *name)) {
        Some(name) => Err(format!("the store carries {number}, and has {name}")),
        None => Ok(number),
    }
}

/// Sets and syncs until it is killed.
pub(crate) fn write() {
    let paths = Paths::from_env();
    let store = open(&paths.store).unwrap();
    match store.recovery() {
        Recovery::Created => note(&paths, "saved", 0),
        Recovery::Restored { .. } => note(&paths, "saved", number_of(&store).unwrap()),
        _ => {}
    }
    let first = events(&paths.events).iter().map(|e| e.number).max().unwrap_or(0) + 1;
    for number in first.. {
        note(&paths, "begun", number);
        set_all(&store, number).unwrap();
        store.sync().unwrap();
        note(&paths, "saved", number);
    }
}

/// Updates a slot of its own until it is killed.
pub(crate) fn make_noise() {
    let paths = Paths::from_env();
    let store = open(&paths.store).unwrap();
    let name = format!("{NOISE}{}", std::process::id() % 2);
    let noise = store.array::<u64>(&name, 600).unwrap();
    for i in 0.. {
        noise.update(|p| p.fill(i)).unwrap();
        if i % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether several processes commit at once.
pub(crate) fn is_of_a_group() -> bool {
    std::env::var("SLOTFILE_POWER_WORKLOAD").is_ok_and(|workload| workload == "group")
}

/// How many do.
const GROUP: u64 = 8;

/// The slot of one of them, and the commits of it that were acknowledged.
fn of_member(paths: &Paths, member: u64) -> (String, PathBuf) {
    (format!("commit/{member}"), paths.events.with_extension(member.to_string()))
}

/// Adds 1 to a slot of its own and syncs, until it is killed.
pub(crate) fn commit() {
    let paths = Paths::from_env();
    let member = std::env::var("SLOTFILE_POWER_MEMBER").unwrap().parse().unwrap();
    let (name, events) = of_member(&paths, member);
    let store = open(&paths.store).unwrap();
    let slot = store.value::<u64>(&name).unwrap();
    loop {
        let count = slot.fetch_add(1).unwrap() + 1;
        store.sync().unwrap();
        note_in(&events, &paths, "saved", count);
    }
}

/// An error if a commit is missing that was acknowledged at this point of the log.
pub(crate) fn check_commits(store: &Store, logged: u64) -> Result<(), String> {
    let paths = Paths::from_env();
    for member in 0..GROUP {
        let (name, noted) = of_member(&paths, member);
        let saved = events(&noted).into_iter().filter(|event| event.logged <= logged);
        let Some(saved) = saved.map(|event| event.number).max() else { continue };
        let there = store.value::<u64>(&name).map_err(|e| e.to_string())?.load();
        if there < saved {
            return Err(format!("{name} is {there}, but {saved} was acknowledged"));
        }
    }
    Ok(())
}

/// Lets all of them run for a while, and kills one now and then.
pub(crate) fn run_group() {
    let paths = Paths::from_env();
    let seconds: f64 = std::env::var("SLOTFILE_POWER_SECONDS").unwrap().parse().unwrap();
    let mut random = fastrand::Rng::new();
    let begun = Instant::now();
    drop(open(&paths.store).unwrap());
    if events(&paths.events).is_empty() {
        note(&paths, "saved", 0);
    }
    let mut members: Vec<Killed> = (0..GROUP).map(Killed::member).collect();
    let mut kills = 0;
    while begun.elapsed().as_secs_f64() < seconds {
        std::thread::sleep(Duration::from_millis(random.u64(100..500)));
        let member = random.usize(0..members.len());
        assert!(members[member].is_there(), "a process has ended");
        drop(members.remove(member));
        members.insert(member, Killed::member(member as u64));
        kills += 1;
    }
    drop(members);
    let saved = (0..GROUP).map(|member| events(&of_member(&paths, member).1).len());
    println!("{} commits so far; {kills} kills", saved.sum::<usize>());
}

/// One of these processes. It is killed when this is dropped, also by a panic.
struct Killed(Child);

impl Killed {
    fn start(role: &str) -> Killed {
        Killed::start_as(role, 0)
    }

    fn member(member: u64) -> Killed {
        Killed::start_as("commit", member)
    }

    fn start_as(role: &str, member: u64) -> Killed {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "part_of_a_power_cut_run", "--nocapture"]);
        command.env("SLOTFILE_POWER", role).env("SLOTFILE_POWER_MEMBER", member.to_string());
        Killed(command.spawn().unwrap())
    }

    fn is_there(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets all of them run for a while, and kills the writer now and then.
pub(crate) fn run() {
    let paths = Paths::from_env();
    let seconds: f64 = std::env::var("SLOTFILE_POWER_SECONDS").unwrap().parse().unwrap();
    let mut random = fastrand::Rng::new();
    let begun = Instant::now();
    let before = events(&paths.events).len();
    let mut writer = Killed::start("write");
    // The first opener notes what it has found.
    while events(&paths.events).len() == before {
        assert!(writer.is_there(), "the writer has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let noise = [Killed::start("noise"), Killed::start("noise")];
    let mut kills = 0;
    while begun.elapsed().as_secs_f64() < seconds {
        std::thread::sleep(Duration::from_millis(random.u64(100..500)));
        assert!(writer.is_there(), "the writer has ended");
        drop(writer);
        kills += 1;
        writer = Killed::start("write");
    }
    drop((noise, writer));
    let saved = events(&paths.events).iter().filter(|e| e.kind == Kind::Saved).count();
    println!("{saved} syncs so far; the writer was killed {kills} times");
}
