//! The date, and pauses between tries.

use std::time::Duration;

/// Seconds since 1970, to show to people. No decision depends on it.
pub(crate) fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The pauses of a thread that tries again and again: each twice as long as the one before, from
/// 50 µs to 5 ms.
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { next: Duration::from_micros(50) }
    }

    pub(crate) fn pause(&mut self) {
        std::thread::sleep(self.next);
        self.next = (2 * self.next).min(Duration::from_millis(5));
    }
}
