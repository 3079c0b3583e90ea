//! Transactions and snapshots beside those of other threads: the order in which they wait, and
//! what they see of each other.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

use crate::common;
use crate::common::kinds::slots;
use crate::common::within;
use slotfile::{Data, Error, OpenOptions, Scalar};

/// In the same order, each would lose what the other reads first; in opposite orders, they would
/// wait for each other.
#[test]
fn row_16_opposite_orders_do_not_deadlock() {
    let s = slots();
    let rounds = common::rounds(2_000, 50_000) as i64;
    let runs = AtomicU32::new(0);
    let start = Barrier::new(2);
    within(Duration::from_secs(60), "two transactions in opposite orders", || {
        thread::scope(|scope| {
            let transfer = |upwards: bool| {
                start.wait();
                for _ in 0..rounds {
                    s.store
                        .transaction(|tx| {
                            runs.fetch_add(1, Relaxed);
                            if upwards {
                                tx.fetch_add(&s.a, 1)?;
                                tx.update_element(&s.array, 0, |x| x - 1.0)
                            } else {
                                tx.update_element(&s.array, 0, |x| x - 1.0)?;
                                tx.fetch_add(&s.a, 1)?;
                                tx.load(&s.text)?;
                                Ok::<_, Error>(0.0)
                            }
                        })
                        .unwrap();
                }
            };
            scope.spawn(move || transfer(true));
            scope.spawn(move || transfer(false));
        });
    });
    assert_eq!((s.a.load(), s.array.get(0).unwrap()), (2 * rounds, -2.0 * rounds as f64));
    println!("{} runs for {} transactions", runs.load(Relaxed), 2 * rounds);
}

/// The second one holds `a` and wants `text`, the first one holds `text` and wants `a`.
#[test]
fn row_16_who_would_wait_downwards_lets_go_and_runs_again() {
    let s = slots();
    let (has_text, has_a) = (Barrier::new(2), Barrier::new(2));
    let mut runs = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut first = true;
            s.store
                .transaction(|tx| {
                    tx.store(&s.a, 1)?;
                    if std::mem::take(&mut first) {
                        has_a.wait();
                        has_text.wait();
                    }
                    tx.update(&s.text, |text| text.push('2')) // waits: it is above
                })
                .unwrap();
        });
        s.store
            .transaction(|tx| {
                runs += 1;
                tx.update(&s.text, |text| text.push('1'))?;
                if runs == 1 {
                    has_a.wait();
                    has_text.wait();
                    let conflict = tx.load(&s.a);
                    assert!(matches!(conflict, Err(Error::Conflict { .. })), "{conflict:?}");
                    // From here on nothing can be read, not even what it read before.
                    assert!(matches!(tx.load(&s.text), Err(Error::Conflict { .. })));
                    return Ok(()); // not passed on, but noticed all the same
                }
                tx.fetch_add(&s.a, 10).map(drop)
            })
            .unwrap();
    });
    assert_eq!((runs, s.a.load(), s.text.load()), (2, 11, "21".to_owned()));
}

#[test]
fn transactions_on_different_slots_do_not_wait_for_each_other() {
    let s = slots();
    within(Duration::from_secs(30), "a transaction beside another one", || {
        s.store
            .transaction(|tx| {
                tx.store(&s.a, 1)?;
                tx.set(&s.array, 0, 1.0)?;
                thread::scope(|scope| {
                    let other = scope.spawn(|| {
                        s.store.transaction(|tx| {
                            tx.store(&s.b, 1)?;
                            tx.store(&s.text, "x")
                        })
                    });
                    other.join().unwrap()
                })
            })
            .unwrap();
    });
    assert_eq!((s.a.load(), s.b.load()), (1, 1));
}

/// Additions by others to a scalar in a transaction wait, and are not lost.
#[test]
fn lock_free_updates_beside_transactions_are_not_lost() {
    let s = slots();
    let rounds = common::rounds(20_000, 500_000) as i64;
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                s.a.fetch_add(1).unwrap();
            }
        });
        for _ in 0..rounds / 4 {
            let add = s.store.transaction(|tx| {
                tx.fetch_add(&s.a, 1)?;
                tx.fetch_add(&s.b, 1)
            });
            add.unwrap();
        }
    });
    assert_eq!(s.a.load(), rounds + rounds / 4);
}

#[test]
fn a_waiter_that_gives_up_is_told_who_holds_the_slot() {
    let folder = common::folder();
    let path = common::store_in(&folder);
    let store = OpenOptions::new()
        .create(true)
        .lock_timeout(Some(Duration::from_millis(50)))
        .open(&path)
        .unwrap();
    let low = store.value::<i32>("low").unwrap();
    let high = store.array::<i32>("high", 3).unwrap();
    let (held, done) = (Barrier::new(2), mpsc::channel::<()>());
    thread::scope(|scope| {
        let (low, high, held) = (&low, &high, &held);
        scope.spawn(move || {
            let _guards = (low.lock().unwrap(), high.lock().unwrap());
            held.wait();
            done.1.recv().unwrap_err();
        });
        held.wait();
        let start = std::time::Instant::now();
        let late = store.transaction(|tx| tx.load(high).map(drop));
        let Err(Error::LockTimeout { slot, holder, waited, .. }) = late else { panic!("{late:?}") };
        let holder = holder.map(|holder| holder.pid);
        assert_eq!((slot.as_str(), holder), ("high", Some(std::process::id())));
        assert_eq!(waited, Duration::from_millis(50));
        assert!(start.elapsed() >= waited, "it gave up early");
        // The other way to wait: release, and wait at the beginning of the next run.
        drop(done.0);
    });
    let (held, done) = (Barrier::new(2), mpsc::channel::<()>());
    thread::scope(|scope| {
        let (low, held) = (&low, &held);
        scope.spawn(move || {
            let _guard = low.lock().unwrap();
            held.wait();
            done.1.recv().unwrap_err();
        });
        held.wait();
        let late = store.transaction(|tx| {
            tx.set(&high, 0, 1)?;
            tx.store(low, 1)
        });
        assert!(matches!(late, Err(Error::LockTimeout { slot, .. }) if slot == "low"));
        drop(done.0);
    });
    assert_eq!(high.load(), [0; 3]);
}

/// Already inside of the closure, not only at its end.
#[test]
fn a_snapshots_closure_never_sees_half_a_transaction() {
    let s = slots();
    let stop = AtomicBool::new(false);
    let (mut runs, mut snapshots) = (0u32, 0);
    let losses = common::rounds(300, 20_000) as u32;
    thread::scope(|scope| {
        let _finally = common::Finally(&stop);
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Relaxed) {
                n += 1;
                s.store
                    .transaction(|tx| {
                        tx.store(&s.text, &"x".repeat((n % 12) as usize))?;
                        tx.store(&s.a, n)?;
                        tx.update(&s.array, |a| a.fill(n as f64))
                    })
                    .unwrap();
            }
        });
        // Until it has lost often enough to show something.
        common::until("snapshots have lost", || {
            snapshots += 1;
            let at_the_end = s.store.snapshot(|snap| {
                runs += 1;
                let a = snap.load(&s.a)?;
                assert_eq!(snap.load_range(&s.array, 3..5)?, [a as f64; 2]);
                assert_eq!(snap.load(&s.text)?.len() as i64, a % 12);
                assert_eq!(snap.get(&s.array, 19)?, a as f64);
                assert_eq!(snap.load(&s.a)?, a);
                Ok(a)
            });
            assert!(at_the_end.unwrap() <= s.a.load());
            let all = s.store.snapshot_of(&s.store.slots().unwrap()).unwrap();
            let (Data::Scalar(Scalar::I64(a)), Data::Text(text)) = (&all[0].0, &all[3].0) else {
                panic!("{all:?}")
            };
            assert_eq!(text.len() as i64, a % 12);
            runs > snapshots + losses
        });
    });
    println!("{runs} runs for {snapshots} snapshots");
}
