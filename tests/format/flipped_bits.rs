//! One flipped bit anywhere in the live area, in each state of a store. The store is refused, or
//! `check` finds the flip or lists it as unverified, or nothing changes, neither now nor after
//! updates, a definition, a sync and a restart. And `check` finds nothing in an intact store,
//! whatever others do meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common;
use crate::common::os::Mapped;
use crate::common::place::Place;
use crate::common::raw::{self, Image, Raw};
use crate::common::state::State;
use crate::common::subjects::Subject;
use crate::common::{Child, Finally, folder_in_memory, long, path, role, rounds, until};
use slotfile::{Check, Define, Error, OpenOptions, Recovery, Store};

/// The effect of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Refused,
    Found,
    /// `check` says of what has changed that it cannot be verified.
    Unverified,
    /// The store was taken for one of another boot, which was reported.
    Restored,
    Harmless,
}

/// A store that is damaged again and again.
struct Victim {
    subject: Subject,
    image: Image,
    place: Place,
    path: PathBuf,
    /// What it holds.
    expected: State,
    /// What it held when it was synced.
    synced: State,
    /// The versions of its slots, and those when it was synced.
    versions: [BTreeMap<String, u64>; 2],
    /// Another process has it open.
    in_use: bool,
    folder: tempfile::TempDir,
}

impl Victim {
    fn new(subject: Subject) -> Victim {
        let folder = folder_in_memory();
        let (original, path) = (folder.path().join("original"), folder.path().join("copy"));
        subject.make(&original);
        let image = Image::of(&original);
        let mut place = Place::new(&path, &image, &subject.options());
        place.put(&image);
        let store = subject.options().read_only(true).open(&path).unwrap();
        let (expected, now) = (State::of(&store), versions(&store));
        drop(store);
        place.raw.restart();
        let store = subject.options().open(&path).unwrap();
        let (synced, before) = (State::of(&store), versions(&store));
        drop(store);
        place.put(&image);
        let versions = [now, before];
        Victim { subject, image, place, path, expected, synced, versions, in_use: false, folder }
    }

    /// Restores the whole store, damages it with `damage`, and judges the effect.
    fn try_with(&mut self, what: &str, damage: impl FnOnce(&Raw<Mapped>)) -> Outcome {
        self.place.put(&self.image);
        damage(&self.place.raw);
        self.judge(&format!("{:?}: {what}", self.subject))
    }

    /// Panics if the effect is none of the outcomes.
    fn judge(&self, what: &str) -> Outcome {
        let options = self.subject.options();
        let store = match options.open(&self.path) {
            Ok(store) => store,
            // Nor one that nobody can open, and that says something else than that it is damaged.
            Err(
                error @ (Error::LockTimeout { .. }
                | Error::NotFound { .. }
                | Error::Detached { .. }),
            ) => panic!("{what}: {error}"),
            Err(_) => return Outcome::Refused,
        };
        let check = store.check().unwrap();
        if !check.is_ok() {
            return Outcome::Found;
        }
        let state = State::of(&store);
        if matches!(store.recovery(), Recovery::Restored { .. } | Recovery::Emptied) {
            assert!(state == self.synced, "{what}: {state:?}");
            return Outcome::Restored;
        }
        if state != self.expected {
            let taken_back = self.taken_back(&store);
            let unverified = self.is_unverified(&state, &check, taken_back.as_deref());
            assert!(unverified, "{what}: {state:?}, {check:?}");
            return Outcome::Unverified;
        }
        if let Some(outcome) = self.use_it(&store, what) {
            return outcome;
        }
        drop(store);
        self.restart(what);
        Outcome::Harmless
    }

    /// The slot whose version has gone back by one bit to that of the sync, which takes the updates
    /// since with it: of what is said once, this is what `check` cannot name.
    fn taken_back(&self, store: &Store) -> Option<String> {
        let [before, synced] = &self.versions;
        versions(store).into_iter().find_map(|(name, now)| {
            let one_bit = before.get(&name).is_some_and(|before| (before ^ now).count_ones() == 1);
            (one_bit && synced.get(&name) == Some(&now)).then_some(name)
        })
    }

    /// Whether `check` says of every slot that differs that it could not be verified, but for the
    /// one that was taken back.
    fn is_unverified(&self, state: &State, check: &Check, taken_back: Option<&str>) -> bool {
        let (now, before) = (&state.0, &self.expected.0);
        // That a slot was removed is stored once, in the slot.
        let may_be_back = matches!(self.subject, Subject::Changed | Subject::WithoutCheckpoints);
        let is_back = |name: &String| may_be_back && name == "gone";
        // Only the first of many names are listed.
        let named = |name: &String| {
            let says =
                |what: &String| what.contains(&format!("{name:?}")) || what.contains(", ...");
            self.subject == Subject::WithoutCheckpoints || check.unverified.iter().any(says)
        };
        !check.unverified.is_empty()
            && before.keys().all(|name| now.contains_key(name))
            && now.keys().all(|name| before.contains_key(name) || is_back(name))
            && now.iter().all(|(name, data)| {
                let is_old = taken_back == Some(name) && self.synced.0.get(name) == Some(data);
                before.get(name) == Some(data) || is_old || named(name)
            })
    }

    /// Updates parts of arrays, so that each area becomes the current one, and has of the others
    /// what is not stored; then each slot as a whole. Defines a new one, syncs.
    fn use_it(&self, store: &Store, what: &str) -> Option<Outcome> {
        let refused = |error| match error {
            Error::Corrupt { .. } | Error::Full { .. } | Error::LockTimeout { .. } => {
                Some(Outcome::Refused)
            }
            error => panic!("{what}: {error}"),
        };
        for _ in 0..4 {
            let updated = store
                .array::<u16>("array", 20)
                .and_then(|a| a.set(19, a.get(19)?))
                .and_then(|()| store.array::<u8>("four areas", 90))
                .and_then(|a| a.set(89, a.get(89)?))
                .and_then(|()| store.array::<u32>("large", 300))
                .and_then(|a| a.set(299, a.get(299)?));
            if let Err(error) = updated {
                return refused(error);
            }
            assert!(State::of(store) == self.expected, "{what}: {:?}", State::of(store));
        }
        for slot in store.slots().unwrap() {
            if let Err(error) = slot.store(slot.load()) {
                return refused(error);
            }
        }
        if let Err(error) = store.value_with::<u64>("new", Define::new().initial(77u64)) {
            return refused(error);
        }
        let with_new = self.expected.with("new", 77u64);
        assert!(State::of(store) == with_new, "{what}: {:?}", State::of(store));
        if self.subject != Subject::WithoutCheckpoints
            && let Err(error) = store.sync()
        {
            return refused(error);
        }
        None
    }

    /// Synced content must be there after a restart.
    fn restart(&self, what: &str) {
        let mut path = self.path.clone();
        if self.in_use {
            path = self.folder.path().join("restarted");
            std::fs::copy(&self.path, &path).unwrap();
        }
        Raw::open(&path).restart();
        let store = self.subject.options().open(&path).unwrap();
        let expected = match self.subject {
            Subject::WithoutCheckpoints => State::default(),
            _ => self.expected.with("new", 77u64),
        };
        assert!(State::of(&store) == expected, "{what}, restarted: {:?}", State::of(&store));
        assert!(store.check().unwrap().is_ok(), "{what}, restarted");
    }

    /// Flips bits of the whole live area, one at a time: one in n in each region.
    fn sweep(&mut self) -> Seen {
        let raw = &self.place.raw;
        let lines = u64::from(raw.word(raw::COUNT) as u32);
        let mut regions = vec![
            ("live header", raw::LIVE_HEADER, 8 * 448, 1),
            ("process table", raw::TABLE, 3 * 8 * raw::TABLE_ENTRY, 3),
            ("index", raw.index(), 8 * raw.index_len(), 3),
            ("directory", raw.directory(), lines * 8 * raw::LINE, 9),
        ];
        for line in 0..lines {
            // Control word, stale ranges, the first of the areas and the begin of the others.
            regions.push(("slot", raw.slot(line), 8 * raw.live_len(line).min(700), 3));
            // Of the control word all that says who has the lock.
            regions.push(("lock", raw.control(line), 17, 1));
        }
        for (region, .., step) in &mut regions {
            let few = if *region == "lock" { 3 } else { 53 };
            *step *= if long() { 1 } else { few };
        }
        self.sweep_over(&regions)
    }

    /// The same in these regions: name, position, how many bits, n.
    fn sweep_over(&mut self, regions: &[(&'static str, u64, u64, usize)]) -> Seen {
        let mut seen = BTreeMap::new();
        for (region, from, bits, step) in regions.iter().copied() {
            for bit in (0..bits).step_by(step) {
                let what = format!("{region}: byte {} bit {}", bit / 8, bit % 8);
                let flip = |raw: &Raw<Mapped>| raw.flip(from + bit / 8, 1 << (bit % 8));
                let outcome = self.try_with(&what, flip);
                *seen.entry((region, outcome)).or_insert(0) += 1;
            }
        }
        println!("{:?}, in use: {}: {seen:?}", self.subject, self.in_use);
        seen
    }
}

/// How often which outcome was seen, in each region.
type Seen = BTreeMap<(&'static str, Outcome), usize>;

fn versions(store: &Store) -> BTreeMap<String, u64> {
    let slots = store.slots().unwrap();
    slots.iter().map(|slot| (slot.name().to_owned(), slot.version())).collect()
}

#[test]
fn row_28_no_flipped_bit_of_the_live_area_is_silent() {
    let seen = Victim::new(Subject::Synced).sweep();
    assert!(seen[&("slot", Outcome::Found)] > 5, "{seen:?}");
    assert!(seen[&("index", Outcome::Found)] > 2, "{seen:?}");
}

#[test]
fn row_28_nor_of_a_store_that_has_changed_since_its_sync() {
    let seen = Victim::new(Subject::Changed).sweep();
    assert!(seen[&("slot", Outcome::Unverified)] > 5, "{seen:?}");
    assert!(seen[&("slot", Outcome::Found)] > 5, "{seen:?}");
}

#[test]
fn row_28_nor_of_a_store_without_checkpoints() {
    let seen = Victim::new(Subject::WithoutCheckpoints).sweep();
    assert!(seen[&("slot", Outcome::Unverified)] > 5, "{seen:?}");
}

#[test]
fn row_28_nor_where_a_holder_of_locks_has_died() {
    if !common::apart("row_28_nor_where_a_holder_of_locks_has_died") {
        return;
    }
    let seen = Victim::new(Subject::HolderDied).sweep();
    assert!(seen[&("slot", Outcome::Found)] > 5, "{seen:?}");
}

/// Where a further tier is, is noted in the live header, and in each record.
#[test]
fn row_28_nor_in_a_further_tier() {
    let mut victim = Victim::new(Subject::TwoTiers);
    let raw = &victim.place.raw;
    let count = u64::from(raw.word(raw::COUNT) as u32);
    let (first, tier) = (raw.line(512), raw.word(raw::TIERS));
    assert_eq!((count, first), (512 + 10, tier + 16 * 512));
    let few = |short| if long() { 1 } else { short };
    let mut regions = vec![
        // Its words, and those of the third tier, which this store cannot have.
        ("entry", raw::TIERS, 8 * 48, few(5)),
        ("length of the process table", raw::LIVE_HEADER + 640, 64, few(7)),
        ("index", tier, 8 * 16 * 512, few(1_009)),
        ("directory", first, (count - 512) * 8 * raw::LINE, few(211)),
    ];
    let newest = raw.newest_record();
    for (number, region) in [(newest, "record"), (1 - newest, "older record")] {
        regions.push((region, raw.record(number) + 64, 8 * 16, few(9)));
    }
    for line in 512..count {
        regions.push(("slot", raw.slot(line), 8 * raw.live_len(line).min(100), few(101)));
    }
    let seen = victim.sweep_over(&regions);
    assert!(seen[&("entry", Outcome::Refused)] > 30, "{seen:?}");
    assert!(seen[&("record", Outcome::Found)] > 5, "{seen:?}");
}

#[test]
fn row_28_nor_of_a_store_that_others_have_open() {
    if role().is_some() {
        let store = Subject::Changed.options().open(path()).unwrap();
        // It has an entry of the process table from here on.
        drop(store.value::<u64>("value").unwrap().lock().unwrap());
        std::fs::write(path().with_extension("attached"), "").unwrap();
        loop {
            std::thread::park();
        }
    }
    for subject in [Subject::Synced, Subject::Changed] {
        let mut victim = Victim::new(subject);
        victim.place.put(&victim.image);
        let test = "row_28_nor_of_a_store_that_others_have_open";
        let _child = Child::spawn(test, "have it open", &victim.path);
        let attached = victim.path.with_extension("attached");
        until("it has it open", || attached.exists());
        victim.image = Image::of(&victim.path);
        victim.in_use = true;
        victim.sweep();
    }
}

/// Versions only grow: a version before that of the copy is not from an update.
#[test]
fn row_28_a_version_before_that_of_its_copy_is_found() {
    let mut victim = Victim::new(Subject::Synced);
    let damage = |raw: &Raw<Mapped>| {
        let at = raw.control_of("value");
        raw.set_word(at, raw.word(at) - (1 << 17));
    };
    assert_eq!(victim.try_with("a version less", damage), Outcome::Found);
}

/// Of what an update has changed, the other areas have the content before: only the copy shows that
/// it is damaged.
#[test]
fn row_28_a_flipped_bit_of_the_last_update_is_found() {
    let mut victim = Victim::new(Subject::Synced);
    // The elements that the subject updates last.
    for (name, element) in [("array", 2 * 2), ("four areas", 19), ("large", 100 * 4)] {
        let damage = |raw: &Raw<Mapped>| raw.flip(raw.current_area_of(name) + element, 1);
        assert_eq!(victim.try_with(name, damage), Outcome::Found, "{name}");
    }
}

/// The states on which damage of several words is tried.
const SUBJECTS: [Subject; 4] =
    [Subject::Synced, Subject::Changed, Subject::WithoutCheckpoints, Subject::HolderDied];

#[test]
fn row_28_no_count_reaches_into_zeros() {
    if !common::apart("row_28_no_count_reaches_into_zeros") {
        return;
    }
    for subject in SUBJECTS {
        let mut victim = Victim::new(subject);
        let lines = victim.place.raw.word(raw::COUNT) as u32;
        for count in [lines + 1, lines + 2, 31, 32, 33, u32::MAX] {
            let damage = |raw: &Raw<Mapped>| {
                raw.set_word(raw::COUNT, u64::from(count) | u64::from(!count) << 32);
            };
            let outcome = victim.try_with(&format!("a count of {count}"), damage);
            println!("{subject:?}: {count}: {outcome:?}");
            assert!(outcome <= Outcome::Found, "{subject:?}: a count of {count}: {outcome:?}");
        }
    }
}

#[test]
fn row_28_two_slots_of_one_name_are_found() {
    if !common::apart("row_28_two_slots_of_one_name_are_found") {
        return;
    }
    for subject in SUBJECTS {
        let mut victim = Victim::new(subject);
        // "again" was removed, and defined again.
        // Not locked; locked by a reader; by one that may be alive; by none.
        for owner in [0, 8_192, 8_193, 1, 2, 4_096, 4_097] {
            let damage = |raw: &Raw<Mapped>| {
                let at = raw.control(1);
                raw.set_word(at, raw.word(at) & !(0x7fff << 2) | owner << 2);
            };
            let what = format!("the first is there again, with owner {owner}");
            let outcome = victim.try_with(&what, damage);
            assert_eq!(outcome, Outcome::Found, "{subject:?}: {what}");
        }
    }
}

#[test]
fn row_28_a_reader_that_is_none_is_found() {
    // If a holder has died, opening the store ends all locks.
    for subject in [Subject::Synced, Subject::Changed, Subject::WithoutCheckpoints] {
        let mut victim = Victim::new(subject);
        // Of "gone", which was removed; of "text", which nobody has locked.
        for (line, bit) in [(2, 3), (5, 15)] {
            let damage = |raw: &Raw<Mapped>| raw.flip(raw.control(line) + bit / 8, 1 << (bit % 8));
            let outcome = victim.try_with(&format!("line {line}, bit {bit}"), damage);
            assert_eq!(outcome, Outcome::Found, "{subject:?}: line {line}, bit {bit}");
        }
    }
}

#[test]
fn row_31_rubbish_in_the_process_table_harms_nothing() {
    if !common::apart("row_31_rubbish_in_the_process_table_harms_nothing") {
        return;
    }
    let mut random = fastrand::Rng::with_seed(31);
    for subject in SUBJECTS {
        let mut victim = Victim::new(subject);
        for round in 0..rounds(20, 2_000) {
            let entries = [1, 3, 100, 4_096][round % 4];
            let damage = |raw: &Raw<Mapped>| {
                let few = round % 3 == 0;
                let mut rubbish: Vec<u8> =
                    std::iter::repeat_with(|| random.u8(..)).take(64 * entries).collect();
                // Of some, the words are ones that there are.
                for (i, word) in rubbish.chunks_mut(64).enumerate().filter(|_| few) {
                    word[..8].copy_from_slice(&(i as u64 % 3).to_le_bytes());
                }
                raw.write(raw::TABLE, &rubbish);
            };
            let outcome = victim.try_with(&format!("rubbish, round {round}"), damage);
            assert_ne!(outcome, Outcome::Unverified, "{subject:?}, round {round}");
        }
    }
}

/// Others update, define, remove, sync meanwhile; from here, and by a second, read-only opener.
#[test]
fn check_finds_nothing_while_others_write() {
    let folder = folder_in_memory();
    let path = folder.path().join("state.slots");
    let mut options = OpenOptions::new();
    options.max_slots(4_000).max_size(64 << 20).sync_every(None);
    let store = options.clone().create(true).open(&path).unwrap();
    let (hits, array) =
        (store.value::<u64>("hits").unwrap(), store.array::<u64>("a", 700).unwrap());
    let text = store.text("text", 100).unwrap();
    let stop = AtomicBool::new(false);
    let until_stopped = |f: &mut dyn FnMut(u64)| {
        (0..).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(f);
    };
    std::thread::scope(|scope| {
        let _stop = Finally(&stop);
        scope.spawn(|| {
            until_stopped(&mut |n| {
                hits.fetch_add(1).unwrap();
                array.set(n as usize % 700, n).unwrap();
            })
        });
        scope.spawn(|| {
            until_stopped(&mut |n| {
                store
                    .transaction(|t| {
                        t.store(&hits, n)?;
                        t.store(&text, "ä".repeat(n as usize % 50).as_str())
                    })
                    .unwrap();
            })
        });
        scope.spawn(|| {
            until_stopped(&mut |n| {
                if n < 1_500 {
                    store.value::<u32>("again").unwrap();
                    store.remove("again").unwrap();
                    store.array::<u8>(&format!("new {n}"), 100).unwrap();
                }
                store.sync().unwrap();
            })
        });
        let reader = OpenOptions::new().read_only(true).open(&path).unwrap();
        for _ in 0..rounds(60, 2_000) {
            for opener in [&store, &reader] {
                let check = opener.check().unwrap();
                assert!(check.is_ok(), "{check:?}");
            }
        }
    });
}
