//! Waiting and syncing in async tasks: not a thread for each, none is forgotten, none blocks another.

use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::common;
use crate::common::os::fork;
use crate::common::state::restart;
use crate::common::{Child, folder, folder_in_memory, path, role, store_in};
use slotfile::{Awaitable, Error, OpenOptions, Recovery, Store, Value};
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Far more than any machine needs.
const HANG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

/// Runs it on this thread alone; it must complete in time.
fn block_on<R>(future: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let in_time = async { timeout(HANG, future).await.expect("in time") };
    LocalSet::new().block_on(&runtime, in_time)
}

/// Threads of this process that wait for tasks.
fn waiting_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
    };
    tasks.map(name).filter(|name| name.trim_end() == "slotfile wait").count()
}

fn values(store: &Store, count: usize) -> Vec<Value<u64>> {
    (0..count).map(|n| store.value(&format!("value {n}")).unwrap()).collect()
}

#[test]
fn a_task_that_can_have_no_thread_to_wait_in_is_told_and_the_next_one_tries_again() {
    if !common::apart(
        "a_task_that_can_have_no_thread_to_wait_in_is_told_and_the_next_one_tries_again",
    ) {
        return;
    }
    fork(|| {
        let value = Store::temporary().unwrap().value::<u64>("value").unwrap();
        let wait = || block_on(async { timeout(SHORT, value.wait_until_async(|n| n == 1)).await });
        common::os::have_no_more_threads(true);
        let error = wait().unwrap().unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains("cannot start a thread"), "{error}");
        common::os::have_no_more_threads(false);
        assert!(wait().is_err(), "its time is over");
        value.store(1).unwrap();
        assert_eq!(wait().unwrap().unwrap(), 1);
    })
    .join();
}

/// On fewer slots than the kernel waits for at once, and on more.
#[test]
fn many_tasks_on_one_thread_are_all_woken() {
    const NAME: &str = "many_tasks_on_one_thread_are_all_woken";
    const ROUNDS: u64 = 20;
    if role().is_some() {
        // Each value is raised once all tasks have reported the previous one.
        let store = Store::open(path()).unwrap();
        let values = values(&store, common::number() as usize);
        let seen = store.value::<u64>("seen").unwrap();
        for round in 1..=ROUNDS {
            values.iter().for_each(|value| value.store(round).unwrap());
            let all = round * values.len() as u64 * 3;
            assert!(seen.wait_until(|n| n == all, Some(HANG)).unwrap().is_some(), "{all}");
        }
        return;
    }
    for count in [1, 40, 126, 150] {
        let folder = folder_in_memory();
        let store = Store::create(store_in(&folder)).unwrap();
        let (values, seen) = (values(&store, count), store.value::<u64>("seen").unwrap());
        let other = Child::spawn_with(NAME, "other", store.path(), count as u64);
        block_on(async {
            let mut tasks = Vec::new();
            for value in values.iter().flat_map(|value| [value; 3]) {
                let (value, seen) = (value.clone(), seen.clone());
                tasks.push(tokio::task::spawn_local(async move {
                    for round in 1..=ROUNDS {
                        let found = value.wait_until_async(|now| now == round).await;
                        assert_eq!(found.unwrap(), round);
                        seen.fetch_add(1).unwrap();
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(waiting_threads(), 1);
        other.join();
    }
}

#[test]
fn every_kind_of_handle_can_be_awaited() {
    let store = Store::temporary().unwrap();
    let array = store.array::<f32>("array", 3).unwrap();
    let text = store.text("text", 9).unwrap();
    let bytes = store.bytes("bytes", 9).unwrap();
    let buffer = store.buffer::<u8>("buffer", 9).unwrap();
    let slot = store.slot("text").unwrap();
    let seen: [(&dyn Awaitable, u64); 4] = [(&array, 0), (&text, 0), (&bytes, 0), (&buffer, 0)];
    block_on(async {
        let changes = async {
            tokio::time::sleep(SHORT).await;
            array.set(1, 1.0).unwrap();
            tokio::time::sleep(SHORT).await;
            text.store("Karel").unwrap();
            tokio::time::sleep(SHORT).await;
            bytes.store(&[1]).unwrap();
            buffer.set(0, 1).unwrap();
            buffer.notify().unwrap();
        };
        let waits = async {
            assert_eq!(store.wait_any_async(&seen).await.unwrap(), [0]);
            let none = timeout(HANG, store.wait_any_async(&[])).await;
            assert!(matches!(none, Ok(Err(Error::Invalid { .. }))), "{none:?}");
            assert_eq!(array.wait_until_async(|a| a[1] > 0.0).await.unwrap(), [0.0, 1.0, 0.0]);
            assert_eq!(text.wait_until_async(|t| !t.is_empty()).await.unwrap(), "Karel");
            assert_eq!(
                slot.wait_until_async(|t| *t == "Karel".into()).await.unwrap(),
                "Karel".into()
            );
            assert_eq!(bytes.wait_until_async(|b| b == [1]).await.unwrap(), [1]);
            assert_eq!(buffer.wait_until_async(|b| b[0] == 1).await.unwrap()[0], 1);
            assert_eq!(buffer.wait_for_change_async(0).await.unwrap(), 1);
        };
        tokio::join!(changes, waits);
        store.remove("bytes").unwrap();
        let removed = bytes.wait_for_change_async(bytes.version()).await;
        assert!(matches!(removed, Err(Error::Removed { .. })), "{removed:?}");
    });
}

/// A dropped future no longer waits, keeps no store open, and does not keep others from waking.
#[test]
fn a_task_that_is_dropped_is_forgotten() {
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    let (x, y) = (store.value::<u64>("x").unwrap(), store.value::<u64>("y").unwrap());
    block_on(async {
        let never = timeout(SHORT, x.wait_for_change_async(0)).await;
        assert!(never.is_err(), "woken for nothing");
        let dropped: Vec<_> = (0..100)
            .map(|_| {
                let x = x.clone();
                tokio::task::spawn_local(async move { x.wait_until_async(|_| false).await })
            })
            .collect();
        // What they await never changes: only dropping them takes them off the list.
        let kept = tokio::task::spawn_local({
            let y = y.clone();
            async move { y.wait_until_async(|y| y == 1).await }
        });
        tokio::time::sleep(SHORT).await;
        dropped.iter().for_each(|task| task.abort());
        tokio::time::sleep(SHORT).await;
        y.store(1).unwrap();
        assert_eq!(kept.await.unwrap().unwrap(), 1);
    });
    drop((x, y, store));
    // The store was left, not joined.
    common::until("the store is closed", || {
        Store::open(&path).unwrap().recovery() == Recovery::Resumed
    });
}

#[test]
fn a_watch_can_be_awaited() {
    const NAME: &str = "a_watch_can_be_awaited";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        for n in 0..10u64 {
            std::thread::sleep(Duration::from_millis(5));
            store.value::<u64>(&format!("here/{n}")).unwrap().store(n + 1).unwrap();
        }
        return;
    }
    let folder = folder_in_memory();
    let store = Store::create(store_in(&folder)).unwrap();
    for read_only in [false, true] {
        let store = match read_only {
            true => Store::open_read_only(store.path()).unwrap(),
            false => store.clone(),
        };
        let mut watch = store.watch("here/*").unwrap().with_present();
        let other = Child::spawn(NAME, "other", store.path());
        block_on(async {
            let mut left: Vec<u64> = (0..10).collect();
            while !left.is_empty() {
                let Ok(change) = timeout(SHORT / 3, watch.next_async()).await else { continue };
                let change = change.unwrap();
                left.retain(|n| {
                    change.slot.name() != format!("here/{n}") || change.content != (n + 1).into()
                });
            }
        });
        other.join();
    }
}

/// The child has no waiting thread and none of its parent's tasks; it gets its own.
#[test]
fn a_forked_child_waits_by_itself() {
    if !common::apart("a_forked_child_waits_by_itself") {
        return;
    }
    let store = Store::temporary().unwrap();
    let (x, y) = (store.value::<u64>("x").unwrap(), store.value::<u64>("y").unwrap());
    block_on(async {
        let waiter = tokio::task::spawn_local({
            let x = x.clone();
            async move { x.wait_until_async(|x| x == 2).await }
        });
        tokio::time::sleep(SHORT).await; // it waits, and so does the thread
        let child = fork(|| {
            // A runtime of its own, as is needed after any fork.
            let wait = || block_on(x.wait_until_async(|x| x == 1)).unwrap();
            let seen = std::thread::scope(|scope| scope.spawn(wait).join().unwrap());
            assert_eq!(seen, 1);
            y.store(1).unwrap();
        });
        tokio::time::sleep(SHORT).await;
        x.store(1).unwrap();
        assert_eq!(y.wait_until_async(|y| y == 1).await.unwrap(), 1);
        x.store(2).unwrap();
        assert_eq!(waiter.await.unwrap().unwrap(), 2);
        child.join();
    });
}

/// The thread that waits for all of them sleeps, and checks now and then. (It used to check all of
/// them every millisecond.)
#[test]
fn many_idle_tasks_cost_little() {
    const NAME: &str = "many_idle_tasks_cost_little";
    if role().is_none() {
        let folder = folder_in_memory(); // a process with only these tasks
        let store = Store::create(store_in(&folder)).unwrap();
        return Child::spawn(NAME, "idle", store.path()).join();
    }
    let sleeps_of_reactor = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let is_it = |task: &std::path::PathBuf| {
            std::fs::read_to_string(task.join("comm"))
                .is_ok_and(|name| name.trim() == "slotfile wait")
        };
        let task = tasks.map(|task| task.unwrap().path()).find(is_it).expect("it runs");
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        line.unwrap().split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    let store = Store::open(path()).unwrap();
    let values: Vec<_> = (0..500).map(|n| store.value::<u64>(&format!("v{n}")).unwrap()).collect();
    block_on(async {
        let tasks: Vec<_> = (0..1_000)
            .map(|n| {
                let value = values[n % values.len()].clone();
                tokio::task::spawn_local(async move { value.wait_until_async(|v| v == 1).await })
            })
            .collect();
        tokio::time::sleep(SHORT).await;
        let before = sleeps_of_reactor();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let slept = sleeps_of_reactor() - before;
        println!("{slept} sleeps");
        assert!(slept < 100, "{slept} sleeps in a second");
        values.iter().for_each(|value| value.store(1).unwrap());
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), 1);
        }
    });
}

/// For runtimes of many threads.
#[test]
fn what_is_awaited_can_be_sent() {
    fn is_send<T: Send>(_: T) {}
    let store = Store::temporary().unwrap();
    let x = store.value::<u64>("x").unwrap();
    let mut watch = store.watch("*").unwrap();
    is_send(x.wait_until_async(|x| x > 0));
    is_send(x.wait_for_change_async(0));
    is_send(store.wait_any_async(&[(&x, 0)]));
    is_send(watch.next_async());
    is_send(store.sync_async());
}

/// Each task updates its slot and syncs, then all of them once more; with and without a background
/// sync. (How many flushes that takes depends on how long one takes: they come while it lasts.)
#[test]
fn what_a_thousand_tasks_have_synced_is_there_after_a_restart() {
    const TASKS: u64 = 1_000;
    let folder = folder();
    let path = store_in(&folder);
    for period in [None, Some(HANG)] {
        let mut options = OpenOptions::new();
        options.create(true).sync_every(period).lock_timeout(Some(HANG));
        let store = options.open(&path).unwrap();
        let slots = store.array::<u64>("of each task", TASKS as usize).unwrap();
        store.sync().unwrap();
        let epoch = || store.info().unwrap().last_sync.unwrap().epoch;
        let before = epoch();
        block_on(async {
            let tasks: Vec<_> = (0..TASKS as usize)
                .map(|n| {
                    let (store, slots) = (store.clone(), slots.clone());
                    tokio::task::spawn_local(async move {
                        for _ in 0..2 {
                            slots.fetch_add(n, 1).unwrap();
                            store.sync_async().await.unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        println!("{} flushes", epoch() - before);
        drop((slots, store));
        restart(&path);
        let store = options.open(&path).unwrap();
        let slots = store.array::<u64>("of each task", TASKS as usize).unwrap();
        assert!(slots.load().iter().all(|n| *n >= 2 && n.is_multiple_of(2)));
    }
}

/// The child has none of its parent's tasks, nor their thread. A task that it has inherited in the
/// middle of its sync begins anew.
#[test]
fn a_forked_child_syncs_by_itself() {
    if !common::apart("a_forked_child_syncs_by_itself") {
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = OpenOptions::new().create(true).sync_every(None).open(&path).unwrap();
    let (x, y) = (store.value::<u64>("x").unwrap(), store.value::<u64>("y").unwrap());
    block_on(store.sync_async()).unwrap(); // the thread is there
    for round in 1..=10 {
        let mut context = Context::from_waker(Waker::noop());
        // Where this thread is held up, the sync may be done before the first poll ends.
        let inherited = loop {
            x.store(round).unwrap();
            let mut task = Box::pin(store.sync_async());
            if task.as_mut().poll(&mut context).is_pending() {
                break Some(task);
            }
        };
        let inherited = std::cell::Cell::new(inherited);
        let child = fork(|| {
            y.store(round).unwrap();
            std::thread::scope(|scope| {
                let sync = || block_on(store.sync_async()).unwrap();
                scope.spawn(sync).join().unwrap();
            });
            let inherited = inherited.take().unwrap();
            match round % 2 {
                0 => drop(inherited),
                _ => std::thread::scope(|scope| {
                    scope.spawn(|| block_on(inherited).unwrap()).join().unwrap();
                }),
            }
        });
        block_on(inherited.take().unwrap()).unwrap();
        child.join();
    }
    drop((x, y, store));
    restart(&path);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.value::<u64>("x").unwrap().load(), 10);
    assert_eq!(store.value::<u64>("y").unwrap().load(), 10);
}

/// The one thread checks each second whether the files are still where they were.
#[test]
fn tasks_whose_file_is_deleted_do_not_wait_for_ever() {
    let folder = folder();
    let store = Store::create(store_in(&folder)).unwrap();
    let value = store.value::<u64>("value").unwrap();
    let seen = value.version();
    let mut watch = store.watch("*").unwrap();
    std::fs::remove_file(store.path()).unwrap();
    let is_detached = |error: Error| assert!(matches!(error, Error::Detached { .. }), "{error}");
    block_on(async {
        is_detached(value.wait_until_async(|value| value == 5).await.unwrap_err());
        is_detached(store.wait_any_async(&[(&value, seen)]).await.unwrap_err());
        is_detached(watch.next_async().await.unwrap_err());
        // A change is reported all the same.
        value.store(5).unwrap();
        assert_eq!(value.wait_until_async(|value| value == 5).await.unwrap(), 5);
    });
}
