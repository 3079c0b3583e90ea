//! Waiting for a change: none is missed, time-outs are kept, and nobody waits for the dead.

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Child, Finally, folder, folder_in_memory, long, path, role, rounds, store_in, within};
use slotfile::{Awaitable, Error, Store};

/// Far more than any machine needs.
const HANG: Option<Duration> = Some(Duration::from_secs(60));
const SHORT: Option<Duration> = Some(Duration::from_millis(30));

/// Each waits for the other's number, and answers with the next: one change that is missed,
/// and both would wait for ever. They hand over so fast that some find the other spinning,
/// and so slowly now and then that others find it asleep.
#[test]
fn no_hand_over_between_two_processes_is_missed() {
    const NAME: &str = "no_hand_over_between_two_processes_is_missed";
    let hand_overs = rounds(20_000, 100_000) as u64;
    let play = |store: &Store, first: u64| {
        let (ball, steps) = (store.value::<u64>("ball").unwrap(), store.array::<u64>("ball 2", 3));
        let steps = steps.unwrap();
        for n in (first..hand_overs).step_by(2) {
            if n % 2_000 < 2 {
                std::thread::sleep(Duration::from_millis(1)); // the other one falls asleep
            }
            // By turns a value, and an array.
            let seen = if n % 4 < 2 {
                ball.wait_until(|now| now == n, HANG).unwrap()
            } else {
                let seen = steps.wait_until(|now| now[2] == n, HANG).unwrap();
                seen.map(|now| now[0])
            };
            assert_eq!(seen, Some(n), "missed");
            ball.store(n + 1).unwrap();
            steps.store(&[n + 1; 3]).unwrap();
        }
    };
    if role().is_some() {
        return play(&Store::open(path()).unwrap(), 1);
    }
    let folder = folder_in_memory();
    let store = Store::create(store_in(&folder)).unwrap();
    let other = Child::spawn(NAME, "other", store.path());
    play(&store, 0);
    other.join();
    assert_eq!(store.value::<u64>("ball").unwrap().load(), hand_overs);
}
