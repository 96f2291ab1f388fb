//! How fast it goes, and how long it will take: from snapshots and the times at which they were
//! taken.

use std::{collections::VecDeque, time::Duration};

use crate::Snapshot;

/// A moving average over the last seconds, fed with snapshots at any pace.
#[derive(Debug, Clone)]
pub struct Rate {
    window: Duration,
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    done: u64,
}

impl Rate {
    /// Most samples kept, whatever the pace.
    const SAMPLES: u32 = 32;

    /// Averages over `window`; some ten seconds are steady enough to read.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self {
            window,
            samples: VecDeque::new(),
        }
    }

    /// Adds a snapshot taken at `at`, on any clock that does not go back.
    pub fn observe(&mut self, at: Duration, snapshot: &Snapshot) {
        let sample = Sample {
            at,
            done: snapshot.done(),
        };
        let apart = self.window / Self::SAMPLES;
        let is_close = |other: &Sample| at.saturating_sub(other.at) < apart;
        // The newest is always kept; the one before it only if it is not too close to its own
        // predecessor, so that the number of samples is bounded.
        if self.samples.len() >= 2 && self.samples.iter().rev().nth(1).is_some_and(is_close) {
            self.samples.pop_back();
        }
        self.samples.push_back(sample);
        // One sample older than the window stays, so that the average covers all of it.
        while self
            .samples
            .get(1)
            .is_some_and(|second| at.saturating_sub(second.at) >= self.window)
        {
            self.samples.pop_front();
        }
    }

    /// Bytes of the source that came into place per second, zeroes included; 0 until two moments
    /// have been observed.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn done(&self) -> f64 {
        let Some((first, last)) = self.samples.front().zip(self.samples.back()) else {
            return 0.0;
        };
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        if seconds == 0.0 {
            return 0.0;
        }
        last.done.saturating_sub(first.done) as f64 / seconds
    }

    /// Time that the rest takes at the present pace; `None` while nothing moves.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn eta(&self, snapshot: &Snapshot) -> Option<Duration> {
        let left = snapshot.total.saturating_sub(snapshot.done());
        if left == 0 {
            return Some(Duration::ZERO);
        }
        Duration::try_from_secs_f64(left as f64 / self.done()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(data: u64) -> Snapshot {
        Snapshot {
            total: 1000,
            data,
            ..Snapshot::default()
        }
    }

    fn is_near(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 1e-6
    }

    #[test]
    fn averages_cover_the_window_and_no_more() {
        let mut rate = Rate::new(Duration::from_secs(10));
        assert!(is_near(rate.done(), 0.0));
        assert_eq!(rate.eta(&snapshot(0)), None);
        for second in 0..=20_u64 {
            // Fast at first, then 10 a second.
            let data = if second <= 10 {
                second * 50
            } else {
                500 + (second - 10) * 10
            };
            rate.observe(Duration::from_secs(second), &snapshot(data));
        }
        assert!(is_near(rate.done(), 10.0), "{}", rate.done());
        assert_eq!(rate.eta(&snapshot(600)), Some(Duration::from_secs(40)));
        assert_eq!(rate.eta(&snapshot(1000)), Some(Duration::ZERO));
    }

    #[test]
    fn nothing_moves_no_estimate() {
        let mut rate = Rate::new(Duration::from_secs(10));
        for second in 0..30 {
            rate.observe(Duration::from_secs(second), &snapshot(7));
        }
        assert!(is_near(rate.done(), 0.0));
        assert_eq!(rate.eta(&snapshot(7)), None);
    }

    #[test]
    fn samples_are_bounded_at_any_pace() {
        let mut rate = Rate::new(Duration::from_secs(10));
        for millis in 0..100_000_u64 {
            rate.observe(Duration::from_millis(millis), &snapshot(millis));
        }
        assert!(rate.samples.len() <= 2 * Rate::SAMPLES as usize);
        assert!(is_near(rate.done(), 1000.0), "{}", rate.done());
    }
}
