//! Two processes with the same pid, each in its own PID namespace, as in containers: locks
//! exclude, and deaths are noticed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common;
use crate::common::{Child, folder, path, role, rounds, store_in, until, within};
use slotfile::{Error, ProcessState, Store};

/// The child's part of a test, as process 1 of a new namespace. `None`: not allowed to.
fn in_namespace(test: &str, role: &str, path: &Path) -> Option<Child> {
    let allowed = Command::new("unshare").args(["--pid", "--fork", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: `unshare --pid` is not there, or needs root");
        return None;
    }
    let inner = common::command(test, role, path);
    let mut command = Command::new("unshare");
    // Killing `unshare` kills the first process of its namespace, and so all of them.
    command.args(["--pid", "--fork", "--kill-child"]).arg(inner.get_program());
    command.args(inner.get_args()).stdout(std::process::Stdio::null());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(Child::of(&mut command))
}

#[test]
fn row_10_the_same_pid_in_two_namespaces_is_two_processes() {
    const NAME: &str = "row_10_the_same_pid_in_two_namespaces_is_two_processes";
    if role().is_some() {
        assert_eq!(std::process::id(), 1);
        let store = Store::open(path()).unwrap();
        let value = store.value::<u64>("value").unwrap();
        let array = store.array::<u64>("array", 8).unwrap();
        value.fetch_add(1 << 32).unwrap();
        until("both are there", || value.load() >> 32 == 2);
        for round in 0..rounds(20_000, 1_000_000) {
            let _guard = array.lock().unwrap();
            let seen = value.load();
            if round % 100 == 0 {
                // Long enough for the other to check whether this process still lives.
                std::thread::sleep(Duration::from_micros(300));
            }
            value.store(seen + 1).unwrap(); // two steps: the guard makes them one
            array.update(|a| a.iter_mut().for_each(|x| *x += 1)).unwrap();
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let value = store.value::<u64>("value").unwrap();
    let array = store.array::<u64>("array", 8).unwrap();
    let Some(first) = in_namespace(NAME, "one", &path) else { return };
    let second = in_namespace(NAME, "two", &path).unwrap();
    first.join();
    second.join();
    let total = 2 * rounds(20_000, 1_000_000) as u64;
    assert_eq!(value.load() & 0xffff_ffff, total);
    assert_eq!(array.load(), [total; 8]);
}

/// The survivor has the dead one's pid: it must not be taken for it, nor wait for it.
#[test]
fn row_10_a_death_is_noticed_although_its_pid_lives_on_elsewhere() {
    const NAME: &str = "row_10_a_death_is_noticed_although_its_pid_lives_on_elsewhere";
    if let Some(role) = role() {
        assert_eq!(std::process::id(), 1);
        let store = Store::open(path()).unwrap();
        let array = store.array::<u64>("array", 8).unwrap();
        let step = store.value::<u64>("step").unwrap();
        if role == "victim" {
            let _guard = array.lock().unwrap();
            step.fetch_add(1).unwrap();
            std::thread::sleep(Duration::from_secs(60));
        }
        // Takes an entry of its own, and looks alive, before the other dies.
        drop(store.value::<u64>("own").unwrap().lock().unwrap());
        step.fetch_add(1).unwrap();
        until("the victim is dead", || step.load() == 3);
        // This kills `unshare`; the kernel kills the victim after it.
        within(Duration::from_secs(4), "taking its lock", || array.set(0, 1).unwrap());
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let array = store.array::<u64>("array", 8).unwrap();
    let step = store.value::<u64>("step").unwrap();
    let Some(victim) = in_namespace(NAME, "victim", &path) else { return };
    until("the victim has the lock", || step.load() == 1);
    let survivor = in_namespace(NAME, "survivor", &path).unwrap();
    until("the survivor is there", || step.load() == 2);
    victim.kill();
    drop(victim);
    step.store(3).unwrap();
    survivor.join();
    assert_eq!(array.get(0).unwrap(), 1);
}

/// A process in another time namespace reads another start time for each process: it must not take
/// a live one for dead because of that.
#[test]
fn a_process_with_a_clock_of_its_own_has_not_ended() {
    const NAME: &str = "a_process_with_a_clock_of_its_own_has_not_ended";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let array = store.array::<u64>("array", 8).unwrap();
        let _guard = array.lock().unwrap();
        store.value::<u64>("step").unwrap().store(1).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let later = ["--time", "--boottime", "100000", "--fork", "--kill-child"];
    let allowed = Command::new("unshare").args(later).arg("true").status();
    if !allowed.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: `unshare --time` is not there, or needs root");
    }
    let folder = folder();
    let store = Store::create(store_in(&folder)).unwrap();
    let store = store.with_lock_timeout(Some(Duration::from_millis(50)));
    let array = store.array::<u64>("array", 8).unwrap();
    let step = store.value::<u64>("step").unwrap();
    let inner = common::command(NAME, "holder", store.path());
    let mut command = Command::new("unshare");
    command.args(later).arg(inner.get_program()).args(inner.get_args());
    command.stdout(std::process::Stdio::null());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let _holder = Child::of(&mut command);
    until("it has the lock", || step.load() == 1);
    let Err(Error::LockTimeout { holder: Some(holder), .. }) = array.set(0, 1) else {
        panic!("it lives");
    };
    assert_eq!(holder.state, ProcessState::Unknown, "{holder}");
}
