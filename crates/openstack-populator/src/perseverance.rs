//! Repeats what fails in a way that heals, before the engine takes over.

use transfer::{Controls, Error, Kind, RetryPolicy};

/// Calls `attempt` until it succeeds, fails for good, or `policy` is spent. `doing` completes the
/// sentence "cannot ...".
pub(crate) fn persevere<T>(
    doing: &str,
    policy: &RetryPolicy,
    controls: &Controls,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let (clock, cancel) = (&controls.clock, &controls.cancel);
    let mut random = fastrand::Rng::with_seed(controls.seed);
    let start = clock.now();
    let mut delay = policy.backoff.first;
    let mut tries = 0;
    loop {
        let error = match attempt() {
            Err(error) if error.kind().is_transient() => error,
            result => return result,
        };
        tries += 1;
        let pause = error
            .retry_after()
            .unwrap_or_else(|| delay.mul_f64(0.5 + random.f64() / 2.0));
        let spent = clock.now().saturating_sub(start);
        if tries >= policy.tries || spent.saturating_add(pause) > policy.no_progress_timeout {
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
            pause.as_secs_f64()
        );
        if clock.wait(pause, cancel) {
            return Err(Error::new(
                Kind::Cancelled,
                format!("stopped while trying to {doing}"),
            ));
        }
        delay = delay.saturating_mul(2).min(policy.backoff.longest);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

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

    fn policy(patience: u64) -> RetryPolicy {
        RetryPolicy {
            no_progress_timeout: Duration::from_secs(patience),
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
        let result = persevere("x", &policy(600), &controls, || {
            left -= 1;
            if left == 0 { Ok("done") } else { Err(busy()) }
        });
        assert_eq!(result.unwrap(), "done");
        // Two pauses, of 0.5 s and of 1 s, each at least half of it.
        let waited = controls.clock.now();
        assert!((0.75..=1.5).contains(&waited.as_secs_f64()), "{waited:?}");
    }

    #[test]
    fn gives_up_when_the_patience_is_spent_and_not_before() {
        let controls = controls();
        let error = persevere("x", &policy(600), &controls, || Err::<(), _>(busy())).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        assert!(error.chain().contains("503"), "{}", error.chain());
        let waited = controls.clock.now().as_secs();
        assert!((570..=600).contains(&waited), "{waited}");
    }

    #[test]
    fn keeps_to_what_the_server_asks() {
        let controls = controls();
        let mut first = true;
        persevere("x", &policy(600), &controls, || {
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
        let error = persevere("x", &policy(600), &controls, || {
            tries += 1;
            Err::<(), _>(Error::new(Kind::Missing, "404"))
        })
        .unwrap_err();
        assert_eq!((error.kind(), tries), (Kind::Missing, 1));
    }

    #[test]
    fn stops_when_it_is_told_to() {
        let controls = controls();
        controls.cancel.cancel();
        let error = persevere("x", &policy(600), &controls, || Err::<(), _>(busy())).unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled);
    }
}
