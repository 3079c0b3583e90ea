//! Processes that commit as a group, of which any may be killed or stopped at any moment: whoever
//! was told of success finds its commit after a restart, and nobody waits for the dead.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::common::raw::{LIVE_HEADER, Raw};
use crate::common::state::{open, options, restart};
use crate::common::{self, Child, folder, os, rounds, store_in, until, within};
use slotfile::{Error, Store};

const PROCESSES: u64 = 8;

/// Words of group commit: the number of the last sync that has begun, that of the last one that is
/// done, and how often `sync` was called.
const BEGUN: u64 = LIVE_HEADER + 288;
const DONE: u64 = LIVE_HEADER + 296;
const CALLS: u64 = LIVE_HEADER + 312;

fn slot(number: u64) -> String {
    format!("slot/{number}")
}

/// Adds 1 to a slot of its own and syncs, for ever; notes each commit that was acknowledged.
fn commit_for_ever(path: &Path, number: u64) {
    let store = options().lock_timeout(None).open(path).unwrap();
    let slot = store.value::<u64>(&slot(number)).unwrap();
    let notes = File::options().write(true).open(path.with_extension("notes")).unwrap();
    loop {
        let count = slot.fetch_add(1).unwrap() + 1;
        store.sync().unwrap();
        notes.write_all_at(&count.to_le_bytes(), 8 * number).unwrap();
    }
}

/// How many commits of this process were acknowledged.
fn acknowledged(path: &Path, number: u64) -> u64 {
    let mut word = [0; 8];
    let notes = File::open(path.with_extension("notes")).unwrap();
    notes.read_exact_at(&mut word, 8 * number).unwrap();
    u64::from_le_bytes(word)
}

#[test]
fn row_04_each_acknowledged_commit_of_eight_killed_processes_is_there_after_a_restart() {
    const NAME: &str =
        "row_04_each_acknowledged_commit_of_eight_killed_processes_is_there_after_a_restart";
    if common::role().is_some() {
        return commit_for_ever(&common::path(), common::number());
    }
    let folder = folder();
    let path = store_in(&folder);
    drop(open(&path));
    std::fs::write(path.with_extension("notes"), [0; 8 * PROCESSES as usize]).unwrap();
    for _ in 0..rounds(2, 40) {
        let start = |number| Child::spawn_with(NAME, "commits", &path, number);
        let mut children: Vec<Child> = (0..PROCESSES).map(start).collect();
        // One after the other is killed, wherever it is; another one takes its place, but in the end.
        for round in 0..2 * PROCESSES {
            let number = round % PROCESSES;
            let before: Vec<u64> = (0..PROCESSES).map(|n| acknowledged(&path, n)).collect();
            let others = (0..PROCESSES).filter(|n| round < PROCESSES || *n > number);
            let others: Vec<u64> = others.collect();
            until("all that live have committed", || {
                others.iter().all(|n| acknowledged(&path, *n) > before[*n as usize] + 3)
            });
            children[number as usize].kill();
            if round < PROCESSES {
                children[number as usize] = start(number);
            }
        }
        drop(children);
        restart(&path);
        let store = open(&path);
        for number in 0..PROCESSES {
            let (noted, there) = (acknowledged(&path, number), store.value(&slot(number)));
            let there: u64 = there.unwrap().load();
            // Each life of a process ends with a commit that may be there, acknowledged or not.
            assert!(there >= noted, "process {number}: {there}, but {noted} was acknowledged");
        }
        assert!(store.check().unwrap().is_ok());
    }
}

/// Joins the sync of a process that is stopped in it: waits no longer than it may, and is told who
/// keeps it waiting. When that process goes on, or is killed, its sync goes on.
#[test]
fn row_08_a_leader_that_is_stopped_keeps_others_until_their_time_is_over() {
    const NAME: &str = "row_08_a_leader_that_is_stopped_keeps_others_until_their_time_is_over";
    if common::role().is_some() {
        let store = open(&common::path());
        let large = store.array::<u64>("large", 1 << 17).unwrap();
        for i in 0.. {
            large.update(|all| all.fill(i)).unwrap();
            store.sync().unwrap();
        }
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let raw = Raw::open(&path);
    let child = Child::spawn(NAME, "syncs", &path);
    let owner_at = LIVE_HEADER + 256 + 8;
    let stop_inside_a_sync = || {
        until("it is stopped inside a sync", || {
            os::stop(child.pid());
            let has_lock = raw.word(owner_at) >> 2 & 0x7fff != 0;
            if !has_lock {
                os::resume(child.pid());
                std::thread::sleep(Duration::from_millis(1));
            }
            has_lock
        });
    };
    stop_inside_a_sync();
    let brief = store.clone().with_lock_timeout(Some(Duration::from_millis(50)));
    let Err(Error::LockTimeout { holder, slot, .. }) = brief.sync() else { panic!("it is done") };
    assert_eq!((holder.unwrap().pid, slot.as_str()), (child.pid(), "the sync lock"));
    let calls = raw.word(CALLS);
    let sync_meanwhile = |f: &dyn Fn()| {
        std::thread::scope(|scope| {
            let patient = store.clone().with_lock_timeout(None);
            let waiting = scope.spawn(move || patient.sync());
            until("it waits", || raw.word(CALLS) > calls);
            f();
            within(Duration::from_secs(10), "its sync", || waiting.join().unwrap()).unwrap();
        });
    };
    sync_meanwhile(&|| os::resume(child.pid()));
    stop_inside_a_sync();
    sync_meanwhile(&|| child.kill());
}

/// A process is killed at many instructions of a sync, and each time others have joined it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn row_04_those_who_have_joined_the_sync_of_a_killed_process_go_on() {
    use crate::common::trace::{Traced, mark};
    const NAME: &str = "row_04_those_who_have_joined_the_sync_of_a_killed_process_go_on";
    if !common::apart_to_trace(NAME) {
        return;
    }
    let folder = common::folder_in_memory();
    let path = store_in(&folder);
    let add = |store: &Store, name: &str| {
        store.value::<u64>(name).unwrap().fetch_add(1).unwrap();
    };
    add(&open(&path), "joined");
    add(&open(&path), "victim");
    let skips: &[u64] = if common::long() { &[0, 17, 53, 139, 359, 929, 2_411] } else { &[0, 139] };
    let owner_at = LIVE_HEADER + 256 + 8;
    let (mut leads, mut told, mut count) = (0, 0, 1);
    // After so many instructions it has the lock.
    let mut until_lock = 0_u64;
    let mut is_over = false;
    for calls in 0.. {
        for skip in skips {
            let mut victim = Traced::start(|| {
                let store = open(&path);
                drop(store.value::<u64>("victim").unwrap().lock().unwrap());
                add(&store, "victim");
                mark();
                store.sync().unwrap();
                mark();
            });
            let store = options().lock_timeout(None).open(&path).unwrap();
            let raw = Raw::open(&path);
            let begun = raw.word(BEGUN);
            // It has the lock, and has not begun: whoever calls now joins its sync.
            let mut steps = victim.step(until_lock.saturating_sub(30));
            while raw.word(owner_at) >> 2 & 0x7fff == 0 {
                steps += victim.step(1);
            }
            until_lock = until_lock.max(steps);
            leads += u64::from(raw.word(BEGUN) == begun);
            let before = raw.word(CALLS);
            add(&store, "joined");
            count += 1;
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| store.sync());
                until("it has called", || raw.word(CALLS) > before);
                is_over = victim.skip_calls(calls) < calls;
                victim.step(if is_over { 0 } else { *skip });
                told += u64::from(raw.word(DONE) > begun);
                victim.kill();
                within(Duration::from_secs(10), "its sync", || waiting.join().unwrap()).unwrap();
            });
            drop(store);
            restart(&path);
            assert_eq!(open(&path).value::<u64>("joined").unwrap().load(), count, "after {calls}");
        }
        if is_over {
            break;
        }
    }
    println!("{} points, in {leads} others had joined, in {told} it had told them", count - 1);
    assert!(leads > 5 && 0 < told && told < count - 5, "it had no time for its sync, or too much");
}
