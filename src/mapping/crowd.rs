//! How long the waiters for one lock sleep if they are many.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::os::fork::PerProcess;
use crate::protocol::{LONGEST_SLEEP, Sleepers};

/// How many threads of this process sleep for the locks that share this count.
struct Count {
    sleepers: AtomicU32,
    /// Counts the calls of [`longest_sleep`].
    ticket: AtomicU32,
}

const COUNTS: usize = 64;

static COUNTED: PerProcess<[Count; COUNTS]> = PerProcess::at_load(none());

const fn none() -> [Count; COUNTS] {
    [const { Count { sleepers: AtomicU32::new(0), ticket: AtomicU32::new(0) } }; COUNTS]
}

fn count(address: usize) -> &'static Count {
    &COUNTED.get(|_| none())[(address >> 4 ^ address >> 10) % COUNTS]
}

/// Runs `f`, which sleeps, and counts it as a sleeper if it sleeps for the lock at this address.
pub(crate) fn sleep<R>(address: usize, who: Sleepers, f: impl FnOnce() -> R) -> R {
    if who == Sleepers::CHANGE {
        return f();
    }
    // Relaxed, here and below: the numbers decide only how long to sleep.
    let sleepers = &count(address).sleepers;
    sleepers.fetch_add(1, Relaxed);
    let result = f();
    sleepers.fetch_sub(1, Relaxed);
    result
}

/// How long the next waiter for the lock at this address may sleep. A waiter that wakes up checks
/// whether the owner is alive. One check in each millisecond is enough, so many waiters get
/// different times.
pub(crate) fn longest_sleep(address: usize) -> Duration {
    let count = count(address);
    let number = count.sleepers.load(Relaxed).min(MOST);
    let ticket = count.ticket.fetch_add(1, Relaxed);
    LONGEST_SLEEP + Duration::from_millis(u64::from(ticket % (number + 1)))
}

/// The most milliseconds that are added to the shortest sleep.
const MOST: u32 = 1000;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn sleepers(number: u32, f: &mut dyn FnMut()) {
        match number {
            0 => f(),
            _ => sleep(0, Sleepers::LOCK, || sleepers(number - 1, f)),
        }
    }

    #[test]
    fn of_many_that_sleep_each_has_another_time() {
        assert_eq!(longest_sleep(0), LONGEST_SLEEP);
        sleepers(100, &mut || {
            let times: HashSet<_> = (0..101).map(|_| longest_sleep(0)).collect();
            assert!(times.len() == 101 && times.contains(&LONGEST_SLEEP));
            assert!(times.iter().all(|time| *time <= LONGEST_SLEEP + Duration::from_millis(100)));
        });
        sleep(0, Sleepers::CHANGE, || assert_eq!(longest_sleep(0), LONGEST_SLEEP));
    }
}
