//! What follows an error of the source: a retry after a backoff, or the end of the copy.

use std::time::Duration;

use net::Cancel;
use tracing::warn;

use super::{Controls, activity::Activity};
use crate::{Error, Kind, RetryPolicy, RetryReason};

/// Delays before the tries that follow a doubtful answer ([`Kind::is_doubtful`]) of a source that has
/// given bytes: a server behind a router restarts within a minute.
const DOUBTS: [Duration; 3] = [
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
];

/// What is left of the [`RetryPolicy`] for the requests of one worker.
#[derive(Debug)]
pub(super) struct RetryBudget<'a> {
    policy: RetryPolicy,
    controls: &'a Controls,
    /// Pulled together with the flag of `controls`, or earlier.
    stop: &'a Cancel,
    activity: &'a Activity<'a>,
    random: fastrand::Rng,
    /// Failed tries in a row that gave no byte.
    failures: u32,
    /// Whether the current try has given bytes, so that its failure does not count.
    has_progressed: bool,
    /// Doubtful answers in a row that gave no byte.
    doubts: usize,
    /// From when on the time without progress counts: moved on by what was not spent with requests.
    since: Duration,
    /// When a request last ended.
    ended: Duration,
}

impl<'a> RetryBudget<'a> {
    /// A full budget. `salt` gives each thread a jitter of its own.
    pub(super) fn new(
        policy: RetryPolicy,
        controls: &'a Controls,
        stop: &'a Cancel,
        activity: &'a Activity<'a>,
        salt: u64,
    ) -> Self {
        let now = controls.clock.now();
        Self {
            policy,
            controls,
            stop,
            activity,
            random: fastrand::Rng::with_seed(controls.seed.wrapping_add(salt)),
            failures: 0,
            has_progressed: false,
            doubts: 0,
            since: now,
            ended: now,
        }
    }

    /// A request is about to be made. The time before it, spent with zeroing or waiting for the
    /// target, does not count against the source.
    pub(super) fn start(&mut self) {
        let now = self.controls.clock.now();
        self.since = self.since.saturating_add(now.saturating_sub(self.ended));
        self.ended = now;
        self.failures = 0;
        self.doubts = 0;
        self.has_progressed = false;
    }

    /// Runs what waits for other threads. Its time does not count against the source.
    pub(super) fn aside<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let begun = self.controls.clock.now();
        let result = wait();
        let waited = self.controls.clock.now().saturating_sub(begun);
        self.since = self.since.saturating_add(waited);
        result
    }

    /// The current try has given something: its failure does not count. Whether that was enough to go on
    /// for longer, the activity knows.
    pub(super) fn reset(&mut self) {
        self.ended = self.controls.clock.now();
        self.failures = 0;
        self.doubts = 0;
        self.has_progressed = true;
    }

    /// Bytes have arrived.
    pub(super) fn received(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.reset();
        self.activity.add(bytes as u64);
        self.controls.progress.add_received(bytes as u64);
    }

    /// Whether to retry at once, without using up the budget, after an error on a kept connection
    /// that gave no byte. Servers close idle connections, so such an error says nothing about them.
    pub(super) fn retry_immediately(&self, error: &Error) -> bool {
        let at_once = error.kind() == Kind::Network && !self.stop.is_cancelled();
        if at_once {
            self.controls.progress.retried(RetryReason::Network);
        }
        at_once
    }

    /// Waits before the retry that follows `error`, the answer to a request for data. A doubtful one
    /// is final only when it comes again and again.
    ///
    /// # Errors
    /// Those of [`Self::back_off`].
    pub(super) fn back_off_data(&mut self, error: Error) -> Result<(), Error> {
        if !error.kind().is_doubtful() || self.activity.bytes() == 0 || self.stop.is_cancelled() {
            return self.back_off(error);
        }
        let left = self.time_left();
        let Some(delay) = DOUBTS.get(self.doubts).filter(|_| !left.is_zero()) else {
            return Err(error);
        };
        self.doubts += 1;
        self.pause(RetryReason::Unexpected, (*delay).min(left), &error)
    }

    /// Waits before the retry that follows `error`.
    ///
    /// # Errors
    /// The error itself when it is not transient, [`Kind::Exhausted`] with the error as its cause
    /// when the budget is spent, [`Kind::Cancelled`].
    pub(super) fn back_off(&mut self, error: Error) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(cancelled());
        }
        let reason = RetryReason::of(error.kind()).filter(|_| error.kind().is_transient());
        let Some(reason) = reason else {
            return Err(error);
        };
        if !std::mem::take(&mut self.has_progressed) {
            self.failures = self.failures.saturating_add(1);
        }
        if self.failures >= self.policy.tries {
            let text = format!("gave up after {} tries without a byte", self.failures);
            return Err(Error::with_source(Kind::Exhausted, text, error));
        }
        let left = self.time_left();
        if left.is_zero() {
            let silence = self.silence();
            let what = if self.activity.last() > self.activity.moved() {
                "with fewer bytes than the least rate (--min-rate)"
            } else {
                "without a byte"
            };
            let text = format!("gave up after {} s {what}", silence.as_secs());
            return Err(Error::with_source(Kind::Exhausted, text, error));
        }
        let delay = self.delay(&error).min(left);
        self.pause(reason, delay, &error)
    }

    /// How long no byte has come, for this request or any other.
    fn silence(&self) -> Duration {
        let since = self.activity.moved().max(self.since);
        self.controls.clock.now().saturating_sub(since)
    }

    /// Until the copy is given up, if no byte comes.
    fn time_left(&self) -> Duration {
        let limit = self.policy.no_progress_timeout;
        limit.saturating_sub(self.silence())
    }

    fn pause(&self, reason: RetryReason, delay: Duration, error: &Error) -> Result<(), Error> {
        self.controls.progress.retried(reason);
        warn!(
            reason = reason.name(),
            delay_ms = delay.as_millis(),
            tries = self.failures,
            "retrying: {}",
            error.chain()
        );
        if self.controls.clock.wait(delay, self.stop) {
            return Err(cancelled());
        }
        Ok(())
    }

    /// The policy's backoff, but not before the server wants it.
    fn delay(&mut self, error: &Error) -> Duration {
        // Renewed credentials are good at once.
        if error.kind() == Kind::Expired && self.failures <= 1 {
            return Duration::ZERO;
        }
        self.policy
            .backoff
            .delay(self.failures, &mut self.random)
            .max(error.retry_after().unwrap_or_default())
    }
}

/// The error of a thread that was stopped.
pub(super) fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "the copy was stopped")
}
