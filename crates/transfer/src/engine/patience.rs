//! What follows an error of the source: another try after a pause, or the end.

use std::time::Duration;

use net::{Cancel, Clock};
use tracing::warn;

use super::activity::Activity;
use crate::{Error, Kind, Progress, RetryPolicy, RetryReason};

/// The tries of one worker.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    policy: RetryPolicy,
    clock: &'a dyn Clock,
    stop: &'a Cancel,
    activity: &'a Activity<'a>,
    progress: &'a Progress,
    random: fastrand::Rng,
    /// Tries in a row without a byte.
    failures: u32,
    /// Whether the try under way has given bytes, so that its failure is not one of those.
    has_moved: bool,
    /// When the request under way was first made.
    since: Duration,
}

impl<'a> Patience<'a> {
    pub(super) fn new(
        policy: RetryPolicy,
        clock: &'a dyn Clock,
        stop: &'a Cancel,
        activity: &'a Activity<'a>,
        progress: &'a Progress,
        seed: u64,
    ) -> Self {
        Self {
            policy,
            clock,
            stop,
            activity,
            progress,
            random: fastrand::Rng::with_seed(seed),
            failures: 0,
            has_moved: false,
            since: clock.now(),
        }
    }

    /// A request is about to be made. The time before it, spent with zeroing or waiting for the
    /// target, does not count against the source.
    pub(super) fn begin(&mut self) {
        self.renew();
        self.has_moved = false;
    }

    /// The try under way has given bytes.
    pub(super) fn renew(&mut self) {
        self.since = self.clock.now();
        self.failures = 0;
        self.has_moved = true;
    }

    /// Bytes have arrived.
    pub(super) fn received(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.renew();
        self.activity.add(bytes as u64);
        self.progress.add_received(bytes as u64);
    }

    /// A kept connection turned out to be dead before a byte came: servers close idle connections,
    /// so this says nothing, and the next try follows at once.
    pub(super) fn forgive(&self, error: &Error) -> bool {
        let forgiven = error.kind() == Kind::Network && !self.stop.is_cancelled();
        if forgiven {
            self.progress.retried(RetryReason::Network);
        }
        forgiven
    }

    /// Pauses before the next try.
    ///
    /// # Errors
    /// The error itself when it is not transient, [`Kind::Exhausted`] with the error as its cause when
    /// the budget is spent, [`Kind::Cancelled`].
    pub(super) fn pause(&mut self, error: Error) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(cancelled());
        }
        let reason = RetryReason::of(error.kind()).filter(|_| error.kind().is_transient());
        let Some(reason) = reason else {
            return Err(error);
        };
        if !std::mem::take(&mut self.has_moved) {
            self.failures = self.failures.saturating_add(1);
        }
        if self.failures >= self.policy.tries {
            let text = format!("gave up after {} tries without a byte", self.failures);
            return Err(Error::with_source(Kind::Exhausted, text, error));
        }
        let silent_since = self.activity.last().max(self.since);
        let silence = self.clock.now().saturating_sub(silent_since);
        let left = self.policy.no_progress_timeout.saturating_sub(silence);
        if left.is_zero() {
            let text = format!("gave up after {} s without a byte", silence.as_secs());
            return Err(Error::with_source(Kind::Exhausted, text, error));
        }
        let delay = self.delay(&error).min(left);
        self.progress.retried(reason);
        warn!(
            reason = reason.name(),
            delay_ms = delay.as_millis(),
            tries = self.failures,
            "trying again: {}",
            error.chain()
        );
        if self.clock.wait(delay, self.stop) {
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

/// The error of whoever was stopped.
pub(super) fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "the copy was stopped")
}
