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
/// The control word of the sync lock.
const SYNC_OWNER: u64 = LIVE_HEADER + 256 + 8;

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

/// Syncs without a pause, for ever. Each sync takes a while.
fn sync_for_ever() {
    let store = open(&common::path());
    let large = store.array::<u64>("large", 1 << 17).unwrap();
    for i in 0.. {
        large.update(|all| all.fill(i)).unwrap();
        store.sync().unwrap();
    }
}

/// Stops this process where it has the sync lock.
fn stop_inside_a_sync(child: &Child, raw: &Raw) {
    until("it is stopped inside a sync", || {
        os::stop(child.pid());
        let has_lock = raw.word(SYNC_OWNER) >> 2 & 0x7fff != 0;
        if !has_lock {
            os::resume(child.pid());
            std::thread::sleep(Duration::from_millis(1));
        }
        has_lock
    });
}

/// Whether the time was over, and this process was named as the holder of the lock.
fn is_time_out(result: &Result<(), Error>, holder_is: u32) -> bool {
    match result {
        Err(Error::LockTimeout { holder, slot, .. }) => {
            slot == "the sync lock" && holder.as_ref().is_some_and(|holder| holder.pid == holder_is)
        }
        _ => false,
    }
}

/// Joins the sync of a process that is stopped in it: waits no longer than it may, and is told who
/// keeps it waiting. When that process goes on, or is killed, its sync goes on.
#[test]
fn row_08_a_leader_that_is_stopped_keeps_others_until_their_time_is_over() {
    const NAME: &str = "row_08_a_leader_that_is_stopped_keeps_others_until_their_time_is_over";
    if common::role().is_some() {
        return sync_for_ever();
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let raw = Raw::open(&path);
    let child = Child::spawn(NAME, "syncs", &path);
    stop_inside_a_sync(&child, &raw);
    let brief = store.clone().with_lock_timeout(Some(Duration::from_millis(50)));
    let result = brief.sync();
    assert!(is_time_out(&result, child.pid()), "{result:?}");
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
    stop_inside_a_sync(&child, &raw);
    sync_meanwhile(&|| child.kill());
}

/// The same for tasks, each of which has its own time. Those that have waited for a process that is
/// killed share a flush.
#[cfg(feature = "tokio")]
#[test]
fn row_08_a_leader_that_is_stopped_keeps_tasks_until_their_time_is_over() {
    const NAME: &str = "row_08_a_leader_that_is_stopped_keeps_tasks_until_their_time_is_over";
    const TASKS: usize = 1_000;
    if common::role().is_some() {
        return sync_for_ever();
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let raw = Raw::open(&path);
    let child = Child::spawn(NAME, "syncs", &path);
    let brief = store.clone().with_lock_timeout(Some(Duration::from_millis(50)));
    let patient = store.clone().with_lock_timeout(None);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sync = |store: &Store| {
        let store = store.clone();
        tokio::task::spawn_local(async move { store.sync_async().await })
    };
    let end_of_wait: [&dyn Fn(); 2] = [&|| os::resume(child.pid()), &|| child.kill()];
    let epoch = || store.info().unwrap().last_sync.map_or(0, |last| last.epoch);
    let mut flushes = 0;
    for end in end_of_wait {
        stop_inside_a_sync(&child, &raw);
        let before = epoch();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let waiting: Vec<_> = (0..TASKS).map(|_| sync(&patient)).collect();
            for task in (0..20).map(|_| sync(&brief)).collect::<Vec<_>>() {
                let result = task.await.unwrap();
                assert!(is_time_out(&result, child.pid()), "{result:?}");
            }
            assert!(!waiting.iter().any(|task| task.is_finished()));
            end();
            for task in waiting {
                task.await.unwrap().unwrap();
            }
        });
        flushes = epoch() - before;
    }
    // One may be that of the killed process.
    assert!(flushes <= 2, "{flushes} flushes for {TASKS} tasks");
}

/// Whoever does not sync does not notice: openers, readers, updates, definitions.
#[test]
fn row_08_a_leader_that_is_stopped_holds_up_nothing_but_syncs() {
    const NAME: &str = "row_08_a_leader_that_is_stopped_holds_up_nothing_but_syncs";
    match common::role().as_deref() {
        Some("syncs") => return sync_for_ever(),
        Some(_) => {
            let mut options = options();
            let store = options.lock_timeout(None).open(common::path()).unwrap();
            let value = store.value::<u64>("value").unwrap();
            value.fetch_add(1).unwrap();
            drop(value.lock().unwrap());
            store.array::<u64>("array", 3).unwrap().update(|a| a.fill(1)).unwrap();
            store.transaction(|tx| tx.fetch_add(&value, 1)).unwrap();
            store.remove("array").unwrap();
            assert!(store.info().unwrap().unsynced.is_some());
            assert_eq!(store.list("*").unwrap().count(), 2);
            drop((value, store));
            let reader = Store::open_read_only(common::path()).unwrap();
            assert_eq!(reader.slots().unwrap().len(), 2);
            assert!(reader.info().unwrap().failed_sync.is_none());
            assert_eq!(reader.value::<u64>("value").unwrap().load(), 2);
            return;
        }
        None => {}
    }
    let folder = folder();
    let path = store_in(&folder);
    drop(open(&path));
    let raw = Raw::open(&path);
    let child = Child::spawn(NAME, "syncs", &path);
    stop_inside_a_sync(&child, &raw);
    // It waits for no lock, and would wait for ever.
    Child::spawn(NAME, "goes on", &path).join();
}

/// It is told. But the lock's holder may be about to sync all of it, and does so when it goes on.
#[test]
fn row_08_leaving_beside_a_leader_that_is_stopped_is_no_failed_sync() {
    const NAME: &str = "row_08_leaving_beside_a_leader_that_is_stopped_is_no_failed_sync";
    match common::role().as_deref() {
        Some("syncs") => return sync_for_ever(),
        Some(_) => {
            let mut options = options();
            let options = options.sync_every(Some(Duration::MAX));
            let brief = options.lock_timeout(Some(Duration::from_millis(50)));
            let store = brief.open(common::path()).unwrap();
            store.value::<u64>("value").unwrap().fetch_add(1).unwrap();
            let result = store.close();
            assert!(is_time_out(&result, common::number() as u32), "{result:?}");
            return;
        }
        None => {}
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = open(&path);
    let raw = Raw::open(&path);
    let child = Child::spawn(NAME, "syncs", &path);
    stop_inside_a_sync(&child, &raw);
    Child::spawn_with(NAME, "leaves", &path, child.pid().into()).join();
    assert!(store.info().unwrap().failed_sync.is_none());
    os::resume(child.pid());
    let done = raw.word(DONE);
    until("the next sync is done", || raw.word(DONE) > done + 1);
    child.kill();
    drop((child, store));
    restart(&path);
    assert_eq!(open(&path).value::<u64>("value").unwrap().load(), 1);
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
            while raw.word(SYNC_OWNER) >> 2 & 0x7fff == 0 {
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
