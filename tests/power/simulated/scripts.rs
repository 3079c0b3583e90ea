//! Cases that are too rare to happen by chance, each with a script of its own; and bit rot.

use std::sync::Arc;

use super::disk::Stop;
use super::machine::{Ended, Machine, State, len};
use crate::attachment::descriptors;
use crate::durability::recovery::Recovery;
use crate::error::Error;
use crate::format::checkpoint::{Choice, CopyPair};
use crate::format::descriptor::Descriptor;
use crate::format::layout::{PAGE, live};
use crate::os::disk::Range;

type Checked = Result<(), String>;

/// A machine on which nothing happens by chance.
fn scripted() -> Machine {
    let machine = Machine::new(0, true);
    machine.disk.state().scripted = true;
    machine
}

fn sync(machine: &mut Machine) -> Result<State, String> {
    let state = machine.expected();
    match machine.sync(false).0 {
        Ok(()) => Ok(state),
        Err(ended) => Err(format!("a sync: {ended:?}")),
    }
}

/// Kills a sync when everything is written, but nothing has left the kernel's memory.
fn sync_up_to_the_flush(machine: &mut Machine) -> Checked {
    machine.disk.state().stop_before_write_out = true;
    match machine.sync(false).0 {
        Err(Ended::Stopped(Stop::Kill)) => Ok(()),
        other => Err(format!("the sync was not stopped: {other:?}")),
    }
}

/// The power fails; `keeps` says which pages have reached the disk.
fn cut(machine: &mut Machine, keeps: impl Fn(u64) -> bool) {
    machine.store = None;
    let regions = machine.header.regions;
    let disk = machine.disk.cut_with(&regions, |_, page, versions| keeps(page).then_some(versions));
    disk.state().scripted = true;
    machine.disk = Arc::new(disk);
}

/// Opens the store. Its content must be `expected`.
fn expect_restored(machine: &mut Machine, expected: &State) -> Checked {
    match machine.open() {
        Ok(Recovery::Restored { .. }) => {}
        other => return Err(format!("after a restart: {other:?}")),
    }
    let found = machine.read()?;
    if found != *expected {
        return Err(format!("got {found:?}, not {expected:?}"));
    }
    machine.check()
}

fn descriptor(machine: &Machine, name: &str) -> Descriptor {
    let mut found = None;
    let attachment = machine.store.as_ref().expect("it is open").attachment();
    descriptors::each(attachment, |descriptor| {
        if descriptor.name == name {
            found = Some(descriptor);
        }
        Ok(())
    })
    .unwrap();
    found.expect("it was defined")
}

/// Both copies of the first segment of a large slot, the newer one first.
fn copies(machine: &Machine, name: &str) -> [Range; 2] {
    copies_of_part(machine, name, 0)
}

/// The same of one of its segments.
fn copies_of_part(machine: &Machine, name: &str, part: u64) -> [Range; 2] {
    let pair = CopyPair::of_large(&descriptor(machine, name), part);
    let epoch = |choice| pair.read_head(&*machine.disk, choice).map_or(0, |head| head.epoch);
    let (a, b) = (pair.range(Choice::A), pair.range(Choice::B));
    if epoch(Choice::A) > epoch(Choice::B) { [a, b] } else { [b, a] }
}

fn is_in(page: u64, (at, len): Range) -> bool {
    (at / PAGE..(at + len).div_ceil(PAGE)).contains(&page)
}

/// A power cut during a sync keeps its record and one of its two copies, so the sync is dropped.
/// The next sync, of the same epoch, writes the missing copy with the same content, and is cut off,
/// too, with its record lost. If the record of the dropped sync were still there, it would be whole
/// now, and a state would return that never was.
pub(super) fn a_dropped_sync_stays_dropped() -> Checked {
    let mut machine = scripted();
    machine.set("l0", 0);
    machine.set("l1", 0);
    let saved = sync(&mut machine)?;
    machine.set("l0", 1);
    machine.set("l1", 2);
    let of_second = copies(&machine, "l1");
    let is_of_second = |page| of_second.iter().any(|copy| is_in(page, *copy));
    sync_up_to_the_flush(&mut machine)?;
    cut(&mut machine, |page| !is_of_second(page));
    expect_restored(&mut machine, &saved)?;
    machine.set("l1", 2);
    sync_up_to_the_flush(&mut machine)?;
    cut(&mut machine, is_of_second);
    expect_restored(&mut machine, &saved)
}

/// The newest record is that of a sync that was killed before its flush, and the live header is
/// damaged, so that it names no acknowledged sync. The next sync builds on that record, so it must
/// first make it durable.
pub(super) fn a_record_that_nobody_acknowledged_is_flushed() -> Checked {
    let mut machine = scripted();
    machine.set("l0", 0);
    machine.set("l1", 0);
    sync(&mut machine)?;
    machine.set("l0", 1);
    sync_up_to_the_flush(&mut machine)?;
    let attachment = machine.store.as_ref().expect("it is open").attachment();
    attachment.live.store(live::ACKED, 77, std::sync::atomic::Ordering::Relaxed);
    machine.open().map_err(|e| format!("{e:?}"))?;
    machine.set("l1", 5);
    let saved = sync(&mut machine)?;
    cut(&mut machine, |_| false);
    expect_restored(&mut machine, &saved)
}

/// The disk has lost a write: of a slot's two segments, the first has an older copy in the place of
/// the one in use. Its CRC is right.
fn with_a_lost_write() -> Result<(Machine, State), String> {
    let mut machine = scripted();
    machine.set("v0", 1);
    machine.set("two", 1);
    sync(&mut machine)?;
    machine.set("two", 2);
    sync(&mut machine)?;
    let [lost, _] = copies(&machine, "two");
    let older = machine.disk.peek(lost);
    machine.set("two", 3);
    sync(&mut machine)?;
    machine.set("two", 4);
    let saved = sync(&mut machine)?;
    assert_eq!(copies(&machine, "two")[0], lost, "the same pair again");
    machine.disk.settle();
    machine.disk.poke(lost.0, &older);
    Ok((machine, saved))
}

/// After a restart the lost content is unknown.
pub(super) fn a_lost_write_is_refused() -> Checked {
    let (mut machine, _) = with_a_lost_write()?;
    cut(&mut machine, |_| true);
    match machine.open() {
        Err(Ended::Failed(Error::Corrupt { what, .. })) if what.contains("made of") => Ok(()),
        other => Err(format!("after a lost write: {other:?}")),
    }
}

/// While the machine runs, the content is still in memory: the next sync of a new process writes it
/// anew.
pub(super) fn a_lost_write_is_made_good() -> Checked {
    let (mut machine, _) = with_a_lost_write()?;
    if machine.check().is_ok() {
        return Err("check does not find a lost write".into());
    }
    machine.open().map_err(|e| format!("{e:?}"))?;
    machine.set("v0", 9);
    let saved = sync(&mut machine)?;
    machine.check()?;
    cut(&mut machine, |_| false);
    expect_restored(&mut machine, &saved)
}

/// A bit flips in a slot that has not changed since the last sync. When a slot beside it changes,
/// the next sync must not save the flipped bit with a right CRC.
pub(super) fn a_flipped_bit_is_not_synced() -> Checked {
    let mut machine = scripted();
    machine.set("v0", 1_000);
    machine.set("v1", 1);
    let saved = sync(&mut machine)?;
    let at = descriptor(&machine, "v0").live;
    machine.disk.rot(at, 3);
    machine.set("v1", 2);
    match machine.sync(false).0 {
        Err(Ended::Failed(Error::Corrupt { slot: Some(slot), .. })) if slot == "v0" => {}
        other => return Err(format!("a flipped bit was synced: {other:?}")),
    }
    machine.open().map_err(|e| format!("{e:?}"))?;
    if machine.sync(false).0.is_ok() {
        return Err("a flipped bit was synced by another process".into());
    }
    // As the message advises: a new value makes the slot valid again.
    machine.set("v0", 7);
    let now = sync(&mut machine)?;
    assert_ne!(now, saved);
    cut(&mut machine, |_| false);
    expect_restored(&mut machine, &now)
}

/// The disk cannot read a copy. If its sync was never acknowledged, the store returns to the sync
/// before; if it was, the store is refused, with the reason.
pub(super) fn an_unreadable_copy_counts_as_absent() -> Checked {
    for acknowledged in [false, true] {
        let mut machine = scripted();
        machine.set("l0", 1);
        let saved = sync(&mut machine)?;
        machine.set("l0", 2);
        if acknowledged {
            sync(&mut machine)?;
        } else {
            sync_up_to_the_flush(&mut machine)?;
        }
        let [(at, _), _] = copies(&machine, "l0");
        cut(&mut machine, |_| true);
        machine.disk.state().unreadable.insert(at / PAGE + 1);
        if !acknowledged {
            expect_restored(&mut machine, &saved)?;
            continue;
        }
        match machine.open() {
            Err(Ended::Failed(Error::Corrupt { slot: Some(slot), what, .. }))
                if slot == "l0" && what.contains("cannot read") => {}
            other => return Err(format!("with an unreadable copy: {other:?}")),
        }
    }
    Ok(())
}

/// A flush fails, and later writes to the same pages are lost, as on ext4 if their blocks had never
/// been written.
pub(super) fn unwritten_pages_are_forgotten() -> Checked {
    for another in [false, true] {
        let mut machine = scripted();
        machine.set("v0", 1);
        sync(&mut machine)?;
        machine.disk.state().lost_for_good = true;
        machine.set("two", 1);
        machine.disk.state().fail_flush_in = Some(1);
        match machine.sync(false).0 {
            Err(Ended::Failed(_)) => {}
            other => return Err(format!("a sync whose flush failed: {other:?}")),
        }
        if another {
            machine.open().map_err(|e| format!("{e:?}"))?;
        }
        let saved = sync(&mut machine)?;
        cut(&mut machine, |_| false);
        expect_restored(&mut machine, &saved)?;
    }
    Ok(())
}

/// The restore of a copied file fails, and later writes to the same pages are lost. So the second
/// restore must not count as durable. (The checkpoint that it restores from is still there.)
pub(super) fn a_second_restore_is_read_back() -> Checked {
    let mut machine = scripted();
    machine.set("l0", 1);
    machine.set("two", 1);
    let saved = sync(&mut machine)?;
    machine.copy();
    {
        let mut state = machine.disk.state();
        (state.scripted, state.lost_for_good, state.fail_flush_in) = (true, true, Some(1));
    }
    if machine.open().is_ok() {
        return Err("a restore whose flush failed".into());
    }
    match machine.open() {
        Err(Ended::Failed(Error::Corrupt { .. })) => Ok(()),
        Err(other) => Err(format!("{other:?}")),
        Ok(_) => {
            cut(&mut machine, |_| false);
            expect_restored(&mut machine, &saved)
        }
    }
}

/// The disk cannot read a copy for a while. The next sync of a new process does without the copy,
/// and writes it anew although it has become readable.
pub(super) fn an_unreadable_copy_is_written_anew() -> Checked {
    // A copy is not given up after a single failed read; and its head is read before its data.
    for tries in 1..12 {
        let mut machine = scripted();
        machine.set("v0", 1);
        machine.set("two", 1);
        sync(&mut machine)?;
        let [(at, _), _] = copies_of_part(&machine, "two", 1);
        machine.open().map_err(|e| format!("{e:?}"))?;
        machine.disk.state().unreadable.insert(at / PAGE);
        machine.disk.state().readable_in = Some(tries);
        machine.set("v0", 2);
        // A new version of the same bytes: the sync compares them with the copy.
        machine.set("two", 1);
        let saved = sync(&mut machine)?;
        machine.check()?;
        cut(&mut machine, |_| false);
        machine.disk.state().unreadable.clear();
        expect_restored(&mut machine, &saved)?;
    }
    Ok(())
}

/// The disk cannot read the acknowledged record, and the next sync builds on the record before it.
/// The sync must not get the number of the unreadable one: other processes would take its copies
/// for those that they know by this number.
pub(super) fn a_number_is_given_once() -> Checked {
    let mut machine = scripted();
    machine.set("l0", 1);
    machine.set("l1", 1);
    sync(&mut machine)?;
    machine.set("l0", 2);
    sync(&mut machine)?;
    let attachment = machine.store.as_ref().expect("it is open").attachment();
    let acked = attachment.live.load(live::ACKED, std::sync::atomic::Ordering::Relaxed);
    let regions = machine.header.regions;
    machine.open().map_err(|e| format!("{e:?}"))?;
    let at = (0..2).map(|number| regions.records + number * regions.record_len).find(|at| {
        u64::from_le_bytes(machine.disk.peek((*at, 8)).try_into().expect("eight bytes")) == acked
    });
    machine.disk.state().unreadable.insert(at.expect("one of them is acknowledged") / PAGE);
    let saved = sync(&mut machine)?;
    let attachment = machine.store.as_ref().expect("it is open").attachment();
    let now = attachment.live.load(live::ACKED, std::sync::atomic::Ordering::Relaxed);
    if now <= acked {
        return Err(format!("sync {now} after sync {acked}"));
    }
    machine.check()?;
    cut(&mut machine, |_| false);
    expect_restored(&mut machine, &saved)
}

/// A sync that has grown the file is cut off: its record is on the disk, but the file's new length
/// is not.
pub(super) fn the_length_of_the_file_may_lag() -> Checked {
    let mut machine = scripted();
    machine.set("v0", 1);
    let saved = sync(&mut machine)?;
    machine.set("two", 2);
    sync_up_to_the_flush(&mut machine)?;
    cut(&mut machine, |_| true);
    expect_restored(&mut machine, &saved)
}

/// A slot that was defined after the sync has left its bytes beyond the allocation ends. A slot
/// that is defined there after the restart must be all zeros.
pub(super) fn a_slot_defined_after_a_restart_is_zero() -> Checked {
    let mut machine = scripted();
    machine.set("v0", 1);
    let saved = sync(&mut machine)?;
    // Twice: into both areas.
    machine.set("two", 7);
    machine.set("two", 7);
    machine.disk.settle();
    cut(&mut machine, |_| true);
    expect_restored(&mut machine, &saved)?;
    let store = machine.store.as_ref().expect("it is open");
    let two = store.array::<u64>("two", len("two")).map_err(|e| e.to_string())?.load();
    if two.iter().all(|x| *x == 0) { Ok(()) } else { Err("a new slot is not zero".into()) }
}

/// A restore reads nothing of the live area, whatever bytes it has.
#[test]
fn a_restore_ignores_the_live_area() {
    let mut machine = scripted();
    for name in ["v0", "s0", "l0", "two"] {
        machine.set(name, 3);
    }
    let saved = sync(&mut machine).unwrap();
    let regions = machine.header.regions;
    machine.disk.settle();
    cut(&mut machine, |_| true);
    for page in [regions.table, regions.index, regions.directory, regions.runs].map(|at| at / PAGE)
    {
        machine.disk.poke(page * PAGE, &[0xaa; PAGE as usize]);
    }
    expect_restored(&mut machine, &saved).unwrap();
}

/// After an acknowledged sync one bit of its checkpoint flips, or one bit in each of two pages. The
/// store must be refused, or return to exactly that sync. Returns the counts of both.
pub(super) fn rot(seeds: u64) -> Result<[u64; 2], String> {
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..seeds {
        let mut machine = Machine::new(seed, true);
        machine.disk.state().scripted = true;
        let mut saved = State::new();
        for name in ["v0", "v1", "l0", "s0"].into_iter().take(2 + seed as usize % 3) {
            let number = machine.random.u64(0..3);
            machine.set(name, number);
            machine.transaction();
            saved = sync(&mut machine)?;
        }
        machine.disk.settle();
        let regions = machine.header.regions;
        cut(&mut machine, |_| true);
        for rotten in 0..=seed % 2 {
            let pages = machine.disk.checkpoint_pages(&regions);
            let page = *machine.random.choice(&pages).unwrap();
            let at = match machine.random.u8(0..3) {
                // Alone it is harmless.
                1 | 2 if rotten == 1 => regions.mark + machine.random.u64(0..16),
                0 => {
                    let record = regions.records + machine.random.u64(0..2) * regions.record_len;
                    record + machine.random.u64(0..80)
                }
                _ => page * PAGE + machine.random.u64(0..128),
            };
            let bit = machine.random.u8(0..8);
            machine.disk.rot(at, bit);
        }
        match machine.open() {
            Err(Ended::Failed(Error::Corrupt { .. })) => refused += 1,
            Ok(_) if machine.read()? == saved => harmless += 1,
            opened => return Err(format!("{seed}: an older sync: {opened:?}")),
        }
    }
    Ok([refused, harmless])
}
