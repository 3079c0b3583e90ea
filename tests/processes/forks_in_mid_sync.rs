//! A process forks while another of its threads is in the middle of a sync. The child has a copy of
//! what that thread was working on, but not the thread. Both go on: nothing hangs, no lock is
//! released for the other, and nothing that was synced is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::common;
use crate::common::state::restart;
use crate::common::{folder, os, rounds, store_in, until};
use slotfile::{OpenOptions, Store};

/// Threads that sync without a pause, the background thread too. Each child goes on with the
/// inherited handles, syncs, and ends as a program does, which syncs once more.
#[test]
fn row_53_children_that_are_forked_beside_syncs_go_on_and_sync() {
    if !common::apart("row_53_children_that_are_forked_beside_syncs_go_on_and_sync") {
        return;
    }
    const THREADS: usize = 3;
    let folder = folder();
    let path = store_in(&folder);
    let mut options = OpenOptions::new();
    options.create(true).sync_every(Some(Duration::from_millis(1)));
    let store = options.lock_timeout(Some(Duration::from_secs(60))).open(&path).unwrap();
    let of_children = store.value::<u64>("of children").unwrap();
    let names: Vec<String> = (0..THREADS).map(|n| format!("of thread {n}")).collect();
    let acknowledged = [const { AtomicU64::new(0) }; THREADS];
    let done = AtomicBool::new(false);
    let children = rounds(60, 2_000) as u64;
    std::thread::scope(|scope| {
        let _finally = common::Finally(&done);
        for (name, acknowledged) in names.iter().zip(&acknowledged) {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let value = store.value::<u64>(name).unwrap();
                while !done.load(Ordering::Relaxed) {
                    let count = value.fetch_add(1).unwrap() + 1;
                    store.sync().unwrap();
                    acknowledged.store(count, Ordering::Relaxed);
                }
            });
        }
        // A thread of std's that begins at a fork would keep the child from having any.
        until("all sync", || acknowledged.iter().all(|count| count.load(Ordering::Relaxed) > 0));
        for round in 0..children {
            let child = os::fork(|| {
                of_children.fetch_add(1).unwrap();
                store.value::<u64>("of children").unwrap().fetch_add(1).unwrap();
                store.array::<u64>("array", 5).unwrap().fetch_add(1, 1).unwrap();
                if round % 8 == 0 {
                    store.value::<u64>(&format!("new {round}")).unwrap().store(1).unwrap();
                }
                store.sync().unwrap();
                of_children.fetch_add(1).unwrap();
                std::process::exit(0);
            });
            child.join();
            assert_eq!(of_children.load(), 3 * (round + 1));
        }
    });
    assert!(store.info().unwrap().failed_sync.is_none());
    drop((of_children, store));
    restart(&path);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.value::<u64>("of children").unwrap().load(), 3 * children);
    for (name, acknowledged) in names.iter().zip(&acknowledged) {
        let there = store.value::<u64>(name).unwrap().load();
        assert!(there >= acknowledged.load(Ordering::Relaxed));
    }
    assert!(store.check().unwrap().is_ok());
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod at_each_call {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::common::raw::{LIVE_HEADER, Raw};
    use crate::common::state::{open, options};
    use crate::common::trace::{Traced, mark};
    use slotfile::Error;

    /// The control word of the sync lock, and the owner in it.
    const SYNC_OWNER: u64 = LIVE_HEADER + 256 + 8;
    const OWNER: u64 = 0x7fff << 2;

    /// How it goes on after the fork.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Then {
        /// The child ends, then the parent's sync goes on.
        TheChildEnds,
        /// The child waits for the sync lock, and the parent's sync goes on.
        BothSync,
        /// The child waits for the sync lock, and the parent is killed.
        TheParentIsKilled,
    }

    // What the thread that forks tells: the child is there, the child has ended.
    const FORKED: u8 = b'f';
    const ENDED: u8 = b'e';
    // What the child tells: it could sync at once, or not; it has synced.
    const SYNCED: u8 = b's';
    const TIME_OVER: u8 = b't';
    const SYNCED_AT_LAST: u8 = b'l';
    const FAILED: u8 = b'x';

    /// The child: what it has of the store was copied in the middle of the parent's sync.
    fn child(store: &Store, then: Then, tells: &mut UnixStream) {
        let parent = std::os::unix::process::parent_id();
        let of_children = store.value::<u64>("of children").unwrap();
        let count = of_children.fetch_add(1).unwrap() + 1;
        // Slots that the parent has not opened, and one that nobody has.
        store.array::<u64>("array", 5).unwrap().fetch_add(1, 1).unwrap();
        store.value::<u64>(&format!("new {count}")).unwrap().store(1).unwrap();
        drop(store.text("text", 9).unwrap().lock().unwrap());
        let brief = store.clone().with_lock_timeout(Some(Duration::from_millis(5)));
        let told = match brief.sync() {
            Ok(()) => SYNCED,
            Err(Error::LockTimeout { holder, .. }) => {
                assert_eq!(holder.map(|holder| holder.pid), Some(parent));
                TIME_OVER
            }
            Err(error) => panic!("{error:?}"),
        };
        tells.write_all(&[told]).unwrap();
        if then == Then::TheChildEnds {
            os::exit_at_once(0);
        }
        store.clone().with_lock_timeout(Some(LONG)).sync().unwrap();
        of_children.fetch_add(1).unwrap();
        tells.write_all(&[SYNCED_AT_LAST]).unwrap();
        std::process::exit(0); // syncs
    }

    /// The parent: its first thread is traced while it syncs. Another thread forks when told to.
    fn parent(path: &Path, then: Then, mut tells: UnixStream) {
        let mut options = options();
        let store = options.sync_every(Some(Duration::MAX)).open(path).unwrap();
        store.value::<u64>("of parents").unwrap().fetch_add(1).unwrap();
        store.value::<u64>("of children").unwrap();
        drop(store.text("other text", 9).unwrap().lock().unwrap()); // it has an entry
        let handle = store.clone();
        std::thread::spawn(move || {
            tells.read_exact(&mut [0]).unwrap();
            let mut of_child = tells.try_clone().unwrap();
            let forked = os::fork(|| {
                let goes_on = || child(&handle, then, &mut of_child);
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(goes_on));
                of_child.write_all(&[FAILED]).unwrap();
            });
            tells.write_all(&[FORKED]).unwrap();
            forked.join();
            tells.write_all(&[ENDED]).unwrap();
        });
        mark();
        store.sync().unwrap();
        mark();
    }

    const LONG: Duration = Duration::from_secs(30);

    /// What the two have told.
    struct Told {
        from: UnixStream,
        so_far: Vec<u8>,
    }

    impl Told {
        /// Waits until one of these is told.
        fn wait(&mut self, which: &[u8], at_most: Duration) -> Option<u8> {
            let start = Instant::now();
            self.from.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            loop {
                if let Some(told) = self.so_far.iter().find(|told| which.contains(told)) {
                    return Some(*told);
                }
                let mut next = [0];
                match self.from.read(&mut next) {
                    Ok(1) => self.so_far.push(next[0]),
                    Ok(_) => return None,
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                }
                assert!(!self.so_far.contains(&FAILED), "the child has failed");
                if start.elapsed() > at_most {
                    return None;
                }
            }
        }
    }

    /// Stops a parent in its sync after so many calls and instructions, and lets it fork there.
    /// Returns whether the child could sync at once; `None`: the sync was over before.
    fn fork_at(path: &Path, (calls, skip): (u64, u64), then: Then) -> Option<bool> {
        let (from, of_parent) = UnixStream::pair().unwrap();
        let mut traced = Traced::start(|| parent(path, then, of_parent.try_clone().unwrap()));
        drop(of_parent);
        if traced.skip_calls(calls) < calls || traced.step(skip) < skip {
            return None;
        }
        let raw = Raw::open(path);
        let mut owner = Some(raw.word(SYNC_OWNER) & OWNER);
        (&from).write_all(&[0]).unwrap();
        let mut told = Told { from, so_far: Vec::new() };
        // A fork waits for locks of the allocator, which the stopped thread may have.
        let start = Instant::now();
        while told.wait(&[FORKED], Duration::from_millis(300)).is_none() {
            assert!(start.elapsed() < LONG, "it does not fork");
            traced.skip_calls(1);
            owner = None; // from here on, that is not known
        }
        let at_once = told.wait(&[SYNCED, TIME_OVER], LONG).expect("the child goes on") == SYNCED;
        match then {
            Then::TheChildEnds => {
                told.wait(&[ENDED], LONG).expect("the child ends");
                // It has neither kept a lock of its own nor released its parent's.
                if let Some(owner) = owner {
                    assert_eq!(raw.word(SYNC_OWNER) & OWNER, owner);
                    assert_eq!(at_once, owner == 0);
                }
                traced.finish();
            }
            Then::BothSync => {
                traced.finish();
                told.wait(&[SYNCED_AT_LAST], LONG).expect("the child syncs");
                told.wait(&[ENDED], LONG).expect("the child ends");
            }
            Then::TheParentIsKilled => {
                traced.kill();
                told.wait(&[SYNCED_AT_LAST], LONG).expect("the child syncs");
                // The end of the last process that could tell anything.
                assert_eq!(told.wait(&[], LONG), None);
                return Some(at_once);
            }
        }
        assert_eq!(traced.end(), 0);
        Some(at_once)
    }

    #[test]
    fn row_53_a_fork_at_each_call_of_a_sync_harms_neither_process() {
        const NAME: &str =
            "at_each_call::row_53_a_fork_at_each_call_of_a_sync_harms_neither_process";
        if !common::apart_to_trace(NAME) {
            return;
        }
        let folder = folder();
        let path = store_in(&folder);
        let store = open(&path);
        for name in ["text", "other text"] {
            store.text(name, 9).unwrap();
        }
        store.array::<u64>("array", 5).unwrap();
        let counts = |store: &Store| {
            ["of parents", "of children"].map(|name| store.value::<u64>(name).unwrap().load())
        };
        assert_eq!(counts(&store), [0, 0]);
        drop(store);
        let skips: &[u64] = if common::long() { &[0, 17, 139, 929] } else { &[0] };
        let all = [Then::TheChildEnds, Then::BothSync, Then::TheParentIsKilled];
        let (mut points, mut at_once) = (0, 0);
        'calls: for calls in 0.. {
            for skip in skips {
                for then in all {
                    let [parents, children] = counts(&open(&path));
                    let Some(synced) = fork_at(&path, (calls, *skip), then) else { break 'calls };
                    points += 1;
                    at_once += u64::from(synced);
                    restart(&path);
                    let now = counts(&open(&path));
                    let at = format!("{then:?} after {calls} calls and {skip} instructions");
                    assert_eq!(now[0], parents + 1, "{at}");
                    match then {
                        Then::TheChildEnds if !synced => assert!(now[1] >= children, "{at}"),
                        Then::TheChildEnds => assert_eq!(now[1], children + 1, "{at}"),
                        _ => assert_eq!(now[1], children + 2, "{at}"),
                    }
                }
            }
        }
        assert!(open(&path).check().unwrap().is_ok());
        println!("{points} points; at {at_once} of them, the child could sync at once");
        assert!(at_once > 5 && points - at_once > 5, "it forks before its sync, or behind it");
    }
}
