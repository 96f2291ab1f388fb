//! When to try again, and when to give up.

use std::time::Duration;

/// The budget of one copy. Every range has its own count of tries; the time without progress is the
/// whole copy's, since one connection that moves proves the server alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one request in a row without a single byte; at least 1.
    pub tries: u32,
    /// Time without a byte on any connection.
    pub patience: Duration,
    /// Delay before the first repetition.
    pub first_delay: Duration,
    /// Longest delay (a longer `Retry-After` is honoured up to the patience).
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    /// 10 minutes without a byte; delays from 0.5 s to 30 s, with jitter; tries without limit below
    /// that.
    fn default() -> Self {
        Self {
            tries: u32::MAX,
            patience: Duration::from_mins(10),
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
        }
    }
}
