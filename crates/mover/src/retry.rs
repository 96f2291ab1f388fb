//! The backoff of a client that polls, and the retry of blocking calls.

use std::time::Duration;

use transfer::{Controls, Error, Kind, RetryPolicy};

/// Delays between polls, which grow by half from the first to the longest one, without end. They have no jitter: one
/// client polls one service.
#[derive(Debug)]
pub struct PollBackoff {
    next: Duration,
    longest: Duration,
}

impl PollBackoff {
    /// From `first` up to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first.min(longest),
            longest,
        }
    }

    /// The delay before the next poll.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay + delay / 2).min(self.longest);
        delay
    }
}

/// Calls `attempt` until it succeeds, fails with an error that is not transient, or has used up the
/// budget of `policy`. `doing` completes the sentence "cannot ...".
///
/// A `Retry-After` of the server takes the place of the backoff's delay. A try that would begin
/// after the end of the budget is not waited for.
pub(crate) fn retry<T>(
    doing: &str,
    policy: &RetryPolicy,
    controls: &Controls,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let (clock, cancel) = (&controls.clock, &controls.cancel);
    let mut random = fastrand::Rng::with_seed(controls.seed);
    let start = clock.now();
    let mut tries = 0;
    loop {
        let error = match attempt() {
            Err(error) if error.kind().is_transient() => error,
            result => return result,
        };
        tries += 1;
        // From half of the bound on: unlike the engine's workers, nothing else goes on meanwhile.
        let backoff = || policy.backoff.delay_from_half(tries, &mut random);
        let delay = error.retry_after().unwrap_or_else(backoff);
        let spent = clock.now().saturating_sub(start);
        if tries >= policy.tries || spent.saturating_add(delay) > policy.no_progress_timeout {
            return Err(Error::with_source(
                Kind::Exhausted,
                format!(
                    "cannot {doing}; given up after {tries} tries in {} s",
                    spent.as_secs()
                ),
                error,
            ));
        }
        tracing::warn!(
            error = error.chain(),
            "cannot {doing}; trying again in {:.1} s",
            delay.as_secs_f64()
        );
        if clock.wait(delay, cancel) {
            return Err(Error::new(
                Kind::Cancelled,
                format!("stopped while trying to {doing}"),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use net::{Cancel, Clock};

    use super::*;

    /// A clock that a wait moves.
    #[derive(Debug, Default)]
    struct MovedClock(Mutex<Duration>);

    impl Clock for MovedClock {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn wait(&self, period: Duration, cancel: &Cancel) -> bool {
            *self.0.lock().unwrap() += period;
            cancel.is_cancelled()
        }
    }

    fn controls() -> Controls {
        Controls {
            clock: Arc::new(MovedClock::default()),
            cancel: Cancel::new(),
            seed: 7,
            progress: Arc::default(),
        }
    }

    fn budget(seconds: u64) -> RetryPolicy {
        RetryPolicy {
            no_progress_timeout: Duration::from_secs(seconds),
            ..RetryPolicy::default()
        }
    }

    fn busy() -> Error {
        Error::new(Kind::Busy, "503")
    }

    #[test]
    fn ends_with_the_first_success() {
        let controls = controls();
        let mut left = 3;
        let result = retry("x", &budget(600), &controls, || {
            left -= 1;
            if left == 0 { Ok("done") } else { Err(busy()) }
        });
        assert_eq!(result.unwrap(), "done");
        // Two pauses, of 0.5 s and of 1 s, each at least half of it.
        let waited = controls.clock.now();
        assert!((0.75..=1.5).contains(&waited.as_secs_f64()), "{waited:?}");
    }

    #[test]
    fn gives_up_when_the_budget_is_spent_and_not_before() {
        let controls = controls();
        let error = retry("x", &budget(600), &controls, || Err::<(), _>(busy())).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        assert!(error.chain().contains("503"), "{}", error.chain());
        let waited = controls.clock.now().as_secs();
        assert!((570..=600).contains(&waited), "{waited}");
    }

    #[test]
    fn keeps_to_what_the_server_asks() {
        let controls = controls();
        let mut first = true;
        retry("x", &budget(600), &controls, || {
            if std::mem::take(&mut first) {
                return Err(busy().after(Some(Duration::from_secs(77))));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(controls.clock.now(), Duration::from_secs(77));
    }

    #[test]
    fn a_permanent_error_ends_at_once() {
        let controls = controls();
        let mut tries = 0;
        let error = retry("x", &budget(600), &controls, || {
            tries += 1;
            Err::<(), _>(Error::new(Kind::Missing, "404"))
        })
        .unwrap_err();
        assert_eq!((error.kind(), tries), (Kind::Missing, 1));
    }

    #[test]
    fn stops_when_it_is_cancelled() {
        let controls = controls();
        controls.cancel.cancel();
        let error = retry("x", &budget(600), &controls, || Err::<(), _>(busy())).unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled);
    }

    #[test]
    fn polls_slow_down_to_their_limit() {
        let mut backoff = PollBackoff::new(Duration::from_secs(1), Duration::from_secs(3));
        let millis: Vec<_> = std::iter::repeat_with(|| backoff.next_delay().as_millis())
            .take(5)
            .collect();
        assert_eq!(millis, [1000, 1500, 2250, 3000, 3000]);
    }
}
