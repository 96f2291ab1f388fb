//! When to try again, and when to give up.

use std::time::Duration;

use backoff::Backoff;
use net::LeastRate;

/// The budget of one copy. Every range has its own count of tries; the time without progress is the
/// whole copy's, since one connection that moves proves the server alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one request in a row without a single byte; at least 1.
    pub tries: u32,
    /// Answers in a row, each on a new connection, that begin right and end before their first
    /// byte, all at the same byte of the disk; at least 1. An outage refuses, resets or is silent;
    /// this is what stored data that is cut short or damaged looks like, and waiting does not heal
    /// it.
    pub cut_short: u32,
    /// The copy ends after this long without a byte on any connection, or with fewer than the least rate
    /// asks for.
    pub no_progress_timeout: Duration,
    /// Slower bytes are none.
    pub least_rate: LeastRate,
    /// Delays before retries; a longer `Retry-After` is honoured, up to
    /// [`Self::no_progress_timeout`].
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    /// 10 minutes without a byte, and the default backoff; tries without limit within that time,
    /// but 12 answers that are cut short, which takes between one and three minutes.
    fn default() -> Self {
        Self {
            tries: u32::MAX,
            cut_short: 12,
            no_progress_timeout: Duration::from_mins(10),
            least_rate: LeastRate::default(),
            backoff: Backoff::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Options;

    #[test]
    fn the_table_of_timers_is_right() {
        let Options {
            retry, keep_alive, ..
        } = Options::default();
        assert_eq!(
            testkit::timers::stated("no progress"),
            [retry.no_progress_timeout]
        );
        assert_eq!(testkit::timers::stated("sign of life"), [keep_alive]);
    }
}
