//! How long to wait before a retry.

use std::time::Duration;

/// Exponential backoff with full jitter: a delay is a random part of a bound that starts at
/// `first`, doubles with every failure in a row, and ends at `longest`.
///
/// The random part starts at zero, so that connections which failed together, because their server
/// restarted, do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Longest delay after the first failure.
    pub first: Duration,
    /// Longest delay after any number of failures.
    pub longest: Duration,
}

impl Default for Backoff {
    /// From 0.5 s to 30 s.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The longest delay after `failures` failures in a row: it doubles with each.
    #[must_use]
    pub fn bound(self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// A random part of that bound, so that clients which failed together do not come back together.
    pub fn delay(self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        self.bound(failures).mul_f64(random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_fill_a_bound_that_doubles_up_to_the_longest() {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(8),
        };
        let mut random = fastrand::Rng::with_seed(7);
        for (failures, bound) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (3, 4),
            (4, 8),
            (5, 8),
            (u32::MAX, 8),
        ] {
            let bound = Duration::from_secs(bound);
            let delays: Vec<_> = (0..100)
                .map(|_| backoff.delay(failures, &mut random))
                .collect();
            assert!(delays.iter().all(|delay| *delay <= bound), "{delays:?}");
            assert!(delays.iter().any(|delay| *delay < bound / 8), "{delays:?}");
            assert!(delays.iter().any(|delay| *delay > bound * 7 / 8));
        }
    }

    #[test]
    fn the_table_of_timers_is_right() {
        let Backoff { first, longest } = Backoff::default();
        let stated = testkit::timers::stated("pause before a repetition");
        assert_eq!(stated, [first, longest]);
    }
}
