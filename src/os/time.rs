//! The date, to show to people. No decision depends on it.

/// Seconds since 1970.
pub(crate) fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
