//! How long to wait before a retry.
//!
//! Every growing delay of the programs is one of these, so that they have one meaning: what doubles,
//! from where, up to where, and which part of it is random. Randomness is an argument; what is
//! decided without chance uses [`Backoff::bound`].

use std::time::Duration;

/// Exponential backoff: a bound that starts at `first`, doubles with every failure in a row, and
/// ends at `longest`.
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
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }
}

impl Backoff {
    /// A backoff with these bounds.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The longest delay after `failures` failures in a row: it doubles with each.
    #[must_use]
    pub fn bound(self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// Full jitter: a random part of the bound, from zero on, so that clients which failed together,
    /// because their server restarted, do not come back together.
    pub fn delay(self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        self.bound(failures).mul_f64(random.f64())
    }

    /// Equal jitter: half of the bound, and a random part of the other half. For a client that has
    /// nothing else to do meanwhile, and would only spend its tries on short delays.
    pub fn delay_from_half(self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        self.bound(failures).mul_f64(0.5 + random.f64() / 2.0)
    }
}

/// A period that is longer or shorter by a random part, of which `most` (0 to 1) is the limit: what
/// is repeated by many at one pace does not stay in step.
#[must_use]
pub fn jittered(period: Duration, most: f64, random: &mut fastrand::Rng) -> Duration {
    let most = most.clamp(0.0, 1.0);
    period.mul_f64(1.0 - most + 2.0 * most * random.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_fill_a_bound_that_doubles_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
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
            assert_eq!(backoff.bound(failures), bound);
            let full: Vec<_> = (0..100)
                .map(|_| backoff.delay(failures, &mut random))
                .collect();
            assert!(full.iter().all(|delay| *delay <= bound), "{full:?}");
            assert!(full.iter().any(|delay| *delay < bound / 8), "{full:?}");
            assert!(full.iter().any(|delay| *delay > bound * 7 / 8));
            let half: Vec<_> = (0..100)
                .map(|_| backoff.delay_from_half(failures, &mut random))
                .collect();
            assert!(
                half.iter()
                    .all(|delay| *delay <= bound && *delay >= bound / 2)
            );
            assert!(half.iter().any(|delay| *delay < bound * 5 / 8), "{half:?}");
        }
    }

    #[test]
    fn a_jittered_period_is_around_it() {
        let mut random = fastrand::Rng::with_seed(7);
        let period = Duration::from_secs(100);
        let periods: Vec<_> = (0..100)
            .map(|_| jittered(period, 0.25, &mut random).as_secs())
            .collect();
        assert!(periods.iter().all(|period| (75..=125).contains(period)));
        assert!(periods.iter().any(|period| *period < 80), "{periods:?}");
        assert!(periods.iter().any(|period| *period > 120), "{periods:?}");
        assert_eq!(jittered(period, 0.0, &mut random), period);
    }

    #[test]
    fn the_table_of_timers_is_right() {
        let Backoff { first, longest } = Backoff::default();
        let stated = testkit::timers::stated("pause before a repetition");
        assert_eq!(stated, [first, longest]);
    }
}
