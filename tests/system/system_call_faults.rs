//! Every system call of creating, growing, syncing, restoring, opening, leaving and compacting
//! fails, once or always, or the process is killed at it. After each there is a clear error or
//! success, no half store, no leftover file, and the state of before or after. An unacknowledged
//! sync never counts as acknowledged.
//!
//! The calls are stopped by ptrace, as `strace -e inject=` does, but without that program.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common;
use crate::common::state::{State, open, options, restart};
use crate::common::trace::{Call, Traced, mark};
use crate::common::{apart_to_trace, folder_in_memory, os};
use libc::{EINTR, EIO, ENOLCK, ENOMEM, ENOSPC};
use slotfile::{Recovery, Store};

/// The exit code of a child whose operation was refused.
const REFUSED: i32 = 3;

/// Changes slots with all kinds of checkpoint segments.
fn change(store: &Store, round: u64) {
    store.value::<u64>("value").unwrap().store(round).unwrap();
    store.array::<u64>("array", 24).unwrap().update(|a| a.fill(round)).unwrap();
    store.array::<u64>("large", 1_200).unwrap().set(round as usize % 1_200, round).unwrap();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Once(i32),
    /// This call and all others of its kind after it.
    ForEver(i32),
}

/// How a call of this kind may fail.
fn faults(call: Call) -> Vec<Fault> {
    use Fault::{ForEver, Once};
    let mut faults = vec![Fault::Kill];
    faults.extend_from_slice(match call.number {
        libc::SYS_fallocate => &[Once(ENOSPC), ForEver(ENOSPC), Once(EIO), Once(EINTR)],
        libc::SYS_pwrite64 => {
            &[Once(EIO), Once(ENOSPC), ForEver(EIO), ForEver(ENOSPC), Once(EINTR)]
        }
        libc::SYS_msync => &[Once(EIO), Once(ENOSPC), ForEver(EIO), Once(EINTR)],
        libc::SYS_fsync | libc::SYS_fdatasync => &[Once(EIO), ForEver(EIO), Once(ENOSPC)],
        libc::SYS_sync_file_range => &[Once(EIO), ForEver(EIO), Once(ENOSPC), Once(EINTR)],
        libc::SYS_openat => &[Once(EIO), ForEver(EIO), Once(EINTR)],
        libc::SYS_ftruncate => &[Once(EIO), Once(ENOSPC)],
        libc::SYS_linkat | libc::SYS_rename => &[Once(EIO), Once(ENOSPC), ForEver(EIO)],
        libc::SYS_fcntl => &[Once(ENOLCK), ForEver(ENOLCK), Once(EINTR)],
        libc::SYS_flock => &[Once(ENOLCK), ForEver(ENOLCK), Once(EINTR)],
        libc::SYS_mmap if call.maps_file => &[Once(ENOMEM)],
        libc::SYS_pread64 | libc::SYS_read => &[Once(EIO), Once(EINTR)],
        libc::SYS_statx | libc::SYS_readlink | libc::SYS_lseek => &[Once(EIO)],
        _ => &[],
    });
    faults
}

/// The outcome of an operation with a fault in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    Killed,
}

/// Runs an operation again and again, with another fault each time.
///
/// `prepare` gets a growing number. Then `operation` runs in another process: it marks where it
/// begins and ends, and exits by [`end`]. `then` checks the result.
fn with_all_faults<T>(
    what: &str,
    prepare: impl Fn(u64) -> T,
    operation: impl Fn(&T, u64),
    then: impl Fn(T, Outcome, u64),
) {
    let began = Instant::now();
    let mut round = 1;
    let prepared = prepare(round);
    let mut child = Traced::start(|| operation(&prepared, round));
    let calls: Vec<Call> = std::iter::from_fn(|| child.next_call()).collect();
    drop((child, prepared));
    let (mut runs, mut refused, mut elsewhere) = (0, 0, 0);
    for (at, call) in calls.iter().enumerate() {
        for fault in faults(*call) {
            round += 1;
            let prepared = prepare(round);
            let mut child = Traced::start(|| operation(&prepared, round));
            let now = (0..=at).map_while(|_| child.next_call()).last();
            if now != Some(*call) {
                elsewhere += 1; // the operation takes another path than the first time
            }
            let context = format!("{what}: call {at}, {call:?}, {fault:?}");
            let outcome = match fault {
                Fault::Kill => {
                    child.kill();
                    Outcome::Killed
                }
                Fault::Once(error) | Fault::ForEver(error) => {
                    if now == Some(*call) && !child.is_over() {
                        child.fail_call(error);
                    }
                    while matches!(fault, Fault::ForEver(_)) && !child.is_over() {
                        if child.next_call() == Some(*call) {
                            child.fail_call(error);
                        }
                    }
                    child.finish();
                    match child.end() {
                        0 => Outcome::Done,
                        REFUSED => Outcome::Refused,
                        // 1 is a panic.
                        code => panic!("{context}: exit code {code}"),
                    }
                }
            };
            if fault == Fault::Once(EINTR) && call.number != libc::SYS_read {
                assert_eq!(outcome, Outcome::Done, "{context}: an interruption is not an error");
            }
            refused += u32::from(outcome == Outcome::Refused);
            let judged = std::panic::AssertUnwindSafe(|| then(prepared, outcome, round));
            if let Err(panic) = std::panic::catch_unwind(judged) {
                eprintln!("after {context}, {outcome:?}");
                std::panic::resume_unwind(panic);
            }
            runs += 1;
        }
    }
    assert!(elsewhere * 2 < runs, "{what}: {elsewhere} of {runs} took another path");
    println!(
        "{what}: {} calls, {runs} faults, {refused} refusals, {elsewhere} on another path; {:?}",
        calls.len(),
        began.elapsed()
    );
}

/// Ends a child: its operation succeeded, or was refused with a readable error.
fn end(path: &Path, result: Result<(), slotfile::Error>) -> ! {
    if let Err(error) = &result {
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()), "does not name the file: {text}");
        assert!(!text.contains('\n') && text.len() > 20, "not a line: {text}");
    }
    os::exit_at_once(if result.is_err() { REFUSED } else { 0 })
}

/// A store, and its state as of its last sync.
struct Prepared {
    folder: tempfile::TempDir,
    path: PathBuf,
    synced: State,
    live: State,
}

/// A store with a sync, and changes after it.
fn prepared(round: u64) -> Prepared {
    let folder = folder_in_memory();
    let path = common::store_in(&folder);
    let store = open(&path);
    change(&store, 1_000 + round);
    store.sync().unwrap();
    let synced = State::of(&store);
    change(&store, 2_000 + round);
    store.value::<u64>("after the sync").unwrap().store(round).unwrap();
    let live = State::of(&store);
    Prepared { folder, path, synced, live }
}

impl Prepared {
    /// The store works: it can be opened, changed, synced and checked, and no other file lies
    /// beside it.
    fn assert_works(&self, expected: &[&State]) {
        self.assert_no_litter();
        let store = open(&self.path);
        let now = State::of(&store);
        assert!(expected.contains(&&now), "{now:?}\nis none of\n{expected:?}");
        change(&store, 7);
        let new = store.array::<u64>("new", 20_000).unwrap();
        new.store(&vec![7; 20_000]).unwrap(); // no SIGBUS
        store.sync().unwrap();
        let last = State::of(&store);
        assert!(store.check().unwrap().is_ok(), "{:?}", store.check());
        drop((new, store));
        restart(&self.path);
        let store = open(&self.path);
        assert!(State::of(&store) == last, "a later sync does not survive a restart");
        assert!(store.check().unwrap().is_ok(), "{:?}", store.check());
    }

    fn assert_no_litter(&self) {
        let names: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["state.slots"]);
    }
}

#[test]
fn row_03_any_fault_in_create_leaves_no_file_or_a_valid_store() {
    if !apart_to_trace("row_03_any_fault_in_create_leaves_no_file_or_a_valid_store") {
        return;
    }
    let prepare = |_| {
        let folder = folder_in_memory();
        let path = common::store_in(&folder);
        let (synced, live) = (State::default(), State::default());
        Prepared { folder, path, synced, live }
    };
    let run = |prepared: &Prepared, _| {
        mark();
        let result = options().create_new(true).open(&prepared.path);
        mark();
        end(&prepared.path, result.map(drop));
    };
    with_all_faults("create", prepare, run, |prepared, outcome, _| {
        if prepared.path.exists() {
            prepared.assert_no_litter();
        } else {
            assert_ne!(outcome, Outcome::Done);
            assert_eq!(std::fs::read_dir(prepared.folder.path()).unwrap().count(), 0, "litter");
        }
        open(&prepared.path);
        prepared.assert_works(&[&State::default()]);
    });
}

#[test]
fn row_22_any_fault_in_growing_leaves_the_store_as_it_was() {
    if !apart_to_trace("row_22_any_fault_in_growing_leaves_the_store_as_it_was") {
        return;
    }
    let run = |prepared: &Prepared, _| {
        let store = open(&prepared.path);
        mark();
        let result = store.array::<u64>("grown", 30_000);
        mark();
        if result.is_err() {
            change(&store, 5); // the store keeps working, in this process too
        }
        end(&prepared.path, result.map(drop));
    };
    with_all_faults("define that grows", prepared, run, |prepared, outcome, _| {
        let store = open(&prepared.path);
        let grown = store.slot("grown").is_ok();
        match outcome {
            Outcome::Done => assert!(grown),
            Outcome::Refused => assert!(!grown),
            Outcome::Killed => {}
        }
        store.array::<u64>("grown", 30_000).unwrap().store(&vec![3; 30_000]).unwrap();
        let now = State::of(&store);
        for name in prepared.live.0.keys() {
            assert!(outcome == Outcome::Refused || now.0[name] == prepared.live.0[name], "{name}");
        }
        drop(store);
        prepared.assert_works(&[&now]);
    });
}

/// After a fault in a sync, nothing is acknowledged that is not on the disk. The next sync, of the
/// same process or another, writes everything again.
#[test]
fn row_21_any_fault_in_sync_leaves_the_last_one_and_a_later_one_works() {
    if !apart_to_trace("row_21_any_fault_in_sync_leaves_the_last_one_and_a_later_one_works") {
        return;
    }
    let run = |prepared: &Prepared, round: u64| {
        let store = open(&prepared.path);
        mark();
        let result = store.sync();
        mark();
        if round.is_multiple_of(3) && result.is_err() {
            store.sync().expect("a later sync works");
            os::exit_at_once(REFUSED);
        }
        end(&prepared.path, result);
    };
    with_all_faults("sync", prepared, run, |prepared, outcome, round| {
        let Prepared { path, synced, live, .. } = &prepared;
        let mut expected = vec![live];
        match (outcome, round % 3) {
            (Outcome::Done, _) | (Outcome::Refused, 0) => {}
            // The next process syncs.
            (_, 1) => open(path).sync().unwrap(),
            _ => expected.push(synced),
        }
        restart(path);
        let store = open(path);
        assert!(matches!(store.recovery(), Recovery::Restored { .. }));
        drop(store);
        prepared.assert_works(&expected);
    });
}

#[test]
fn row_04_any_fault_in_restoring_leaves_the_last_sync() {
    if !apart_to_trace("row_04_any_fault_in_restoring_leaves_the_last_sync") {
        return;
    }
    let prepare = |round| {
        let prepared = prepared(round);
        restart(&prepared.path);
        prepared
    };
    let run = |prepared: &Prepared, _| {
        mark();
        let result = options().open(&prepared.path);
        mark();
        if let Ok(store) = &result {
            assert!(State::of(store) == prepared.synced, "restored to something else");
        }
        end(&prepared.path, result.map(drop));
    };
    with_all_faults("restore", prepare, run, |prepared, _, _| {
        prepared.assert_works(&[&prepared.synced]);
    });
}

#[test]
fn row_39_any_fault_in_opening_is_a_clear_error_or_none() {
    if !apart_to_trace("row_39_any_fault_in_opening_is_a_clear_error_or_none") {
        return;
    }
    let prepare = |round| {
        let prepared = prepared(round);
        if round.is_multiple_of(2) {
            os::unmark(&prepared.path); // so that the whole identity is compared
        }
        prepared
    };
    let run = |prepared: &Prepared, round| {
        mark();
        let result = options().open(&prepared.path);
        // With the claim of an entry, and a lock.
        let result = result.and_then(|s| s.array::<u64>("array", 24)?.set(0, round));
        mark();
        end(&prepared.path, result);
    };
    with_all_faults("open and update", prepare, run, |prepared, outcome, round| {
        let with_update = {
            let store = open(&prepared.path);
            assert_eq!(store.recovery(), Recovery::Resumed);
            let array = store.array::<u64>("array", 24).unwrap();
            let before = array.get(0).unwrap();
            assert!(before == round || before == 2_000 + round && outcome != Outcome::Done);
            State::of(&store)
        };
        assert_eq!(with_update.without("array"), prepared.live.without("array"));
        prepared.assert_works(&[&with_update]);
    });
}

/// A descriptor whose file cannot be told counts as lost, and the file is opened anew; also while
/// it is being opened a second time, to restore it for a read-only opener.
#[test]
fn row_51_a_descriptor_that_is_lost_while_a_reader_restores_stops_nobody() {
    if !apart_to_trace("row_51_a_descriptor_that_is_lost_while_a_reader_restores_stops_nobody") {
        return;
    }
    let prepare = || {
        let prepared = prepared(1);
        restart(&prepared.path);
        prepared
    };
    let run = |prepared: &Prepared| {
        mark();
        let result = Store::open_read_only(&prepared.path);
        mark();
        end(&prepared.path, result.map(drop));
    };
    let looks = [libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx];
    for look in 0.. {
        let prepared = prepare();
        let mut child = Traced::start(|| run(&prepared));
        let mut calls = std::iter::from_fn(|| child.next_call());
        if calls.by_ref().filter(|call| looks.contains(&call.number)).nth(look).is_none() {
            assert!(look > 5, "only {look} looks");
            return;
        }
        child.fail_call(EIO);
        let more = std::iter::from_fn(|| child.next_call()).take(20_000).count();
        assert!(more < 20_000, "after a failure of look {look} it never ends");
        assert!([0, REFUSED].contains(&child.end()), "look {look}");
        prepared.assert_works(&[&prepared.synced]);
    }
}

#[test]
fn row_21_any_fault_in_leaving_keeps_the_last_sync() {
    if !apart_to_trace("row_21_any_fault_in_leaving_keeps_the_last_sync") {
        return;
    }
    let run = |prepared: &Prepared, _| {
        // Without a background thread, whose calls would come in a different order each time.
        let store = options().sync_every(Some(Duration::MAX)).open(&prepared.path).unwrap();
        mark();
        drop(store);
        mark();
        end(&prepared.path, Ok(()));
    };
    with_all_faults("leave", prepared, run, |prepared, _, _| {
        restart(&prepared.path);
        prepared.assert_works(&[&prepared.synced, &prepared.live]);
    });
}

#[test]
fn any_fault_in_copying_leaves_no_copy_or_a_whole_one() {
    if !apart_to_trace("any_fault_in_copying_leaves_no_copy_or_a_whole_one") {
        return;
    }
    let copy_of = |path: &Path| path.with_extension("copy");
    let run = |prepared: &Prepared, _| {
        let store = open(&prepared.path);
        let copy = copy_of(&prepared.path);
        mark();
        let result = store.copy_to(&copy);
        mark();
        // The error may name either file: this is the common part of their names.
        end(&prepared.path.with_extension(""), result);
    };
    with_all_faults("copy", prepared, run, |prepared, outcome, _| {
        let copy = copy_of(&prepared.path);
        assert!(outcome == Outcome::Killed || copy.exists() == (outcome == Outcome::Done));
        if copy.exists() {
            // If the file exists, it is complete.
            restart(&copy);
            assert!(State::of(&open(&copy)) == prepared.live, "it differs from the original");
            std::fs::remove_file(&copy).unwrap();
        }
        prepared.assert_works(&[&prepared.live]);
    });
}

#[test]
fn any_fault_in_compacting_leaves_the_old_store_or_the_new_one() {
    if !apart_to_trace("any_fault_in_compacting_leaves_the_old_store_or_the_new_one") {
        return;
    }
    let run = |prepared: &Prepared, _| {
        let store = open(&prepared.path);
        mark();
        let result = store.compact();
        mark();
        end(&prepared.path, result.map(drop));
    };
    with_all_faults("compact", prepared, run, |prepared, outcome, _| {
        if outcome == Outcome::Killed {
            // If killed before the new file is in place, it may be left behind under its temporary
            // name.
            for entry in std::fs::read_dir(prepared.folder.path()).unwrap() {
                let path = entry.unwrap().path();
                if path != prepared.path {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
        // A process that cannot read the boot id assumes another boot: the new file was synced.
        prepared.assert_works(&[&prepared.live, &prepared.synced]);
    });
}
