//! How long the tasks of a copy with a digest are: that depends on what holds it up.
//!
//! A digest takes one byte after the other. Where it is the slowest part, one connection feeds it,
//! and long tasks cost the server the fewest requests. Where the network or the target is, several
//! connections have to work at a time, and all of them inside of the part of the disk that fits into
//! memory.

use std::{ops::RangeInclusive, time::Duration};

use super::buffer::BUFFER;

/// The first task, before anything is known: a fifth of a second on a fast network, and not for
/// long alone on a slow one.
pub(super) const FIRST: u64 = 32 << 20;

/// Longest task: one request for 256 MiB costs the server little, and when its connection breaks only
/// the missing part is asked for again.
const LONGEST: u64 = 256 << 20;

/// Nothing is learned from fewer bytes: a single delay would decide.
const SAMPLE: u64 = 8 << 20;

/// The digest's share of waiting, in percent, below which tasks grow and above which they shrink.
/// One connection that gives at least half of what the digest takes is left alone: more of them would
/// cost many requests and win less than half of the time.
const SHARES: RangeInclusive<u32> = 20..=50;

/// How long before the digest comes to a task its request is sent: longer than an answer takes to
/// begin (round trips, the handshake, a token that is validated), and shorter than servers wait for a
/// client that does not read (uwsgi: 4 s).
const LEAD: Duration = Duration::from_millis(500);

/// Longest part of the disk that [`LEAD`] may stand for.
const LONGEST_LEAD: u64 = 256 << 20;

/// What the digest's waits say.
#[derive(Debug)]
pub(super) struct Pace {
    /// Length of the next task.
    length: u64,
    /// Shortest task: with it, the tasks of all connections lie in memory at a time.
    shortest: u64,
    /// Bytes per second at last.
    rate: u64,
    /// Since the last look.
    bytes: u64,
    busy: Duration,
    waited: Duration,
}

impl Pace {
    /// For so many connections and `window` bytes of memory.
    pub(super) fn new(window: u64, workers: u64) -> Self {
        let buffers = window / BUFFER as u64 / workers.max(1);
        Self {
            length: FIRST,
            shortest: buffers.max(1) * BUFFER as u64,
            rate: 0,
            bytes: 0,
            busy: Duration::ZERO,
            waited: Duration::ZERO,
        }
    }

    /// The digest has taken so many bytes, after it has waited for them.
    pub(super) fn hashed(&mut self, bytes: u64, waited: Duration, busy: Duration) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited += waited;
        self.busy += busy;
    }

    /// Length of the task that is handed out now, a multiple of [`BUFFER`].
    pub(super) fn next_length(&mut self) -> u64 {
        self.look();
        self.length
    }

    /// How far from the digest's position a task is handed out, beyond what memory holds.
    pub(super) fn lead(&self) -> u64 {
        let bytes = u128::from(self.rate) * LEAD.as_millis() / 1000;
        u64::try_from(bytes).map_or(LONGEST_LEAD, |bytes| bytes.min(LONGEST_LEAD))
    }

    /// Learns from what was seen since the last time, if that is enough.
    fn look(&mut self) {
        if self.bytes < SAMPLE {
            return;
        }
        let time = self.waited + self.busy;
        let share = |percent: u32| time * percent / 100;
        if self.waited > share(*SHARES.end()) {
            self.length = (self.length / 2).next_multiple_of(BUFFER as u64);
            self.length = self.length.max(self.shortest);
        } else if self.waited <= share(*SHARES.start()) {
            self.length = (self.length * 2).min(LONGEST);
        }
        let nanos = time.as_nanos().max(1);
        let rate = u128::from(self.bytes) * 1_000_000_000 / nanos;
        self.rate = u64::try_from(rate).unwrap_or(u64::MAX);
        (self.bytes, self.busy, self.waited) = (0, Duration::ZERO, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Lengths of tasks while the digest waits for so much of each second.
    fn lengths(pace: &mut Pace, waits: &[u64]) -> Vec<u64> {
        let length = |millis: &u64| {
            let waited = Duration::from_millis(*millis);
            pace.hashed(64 * MIB, waited, Duration::from_millis(1000 - millis));
            pace.next_length() / MIB
        };
        waits.iter().map(length).collect()
    }

    #[test]
    fn tasks_grow_while_the_digest_is_busy_and_shrink_while_it_waits() {
        let mut pace = Pace::new(14 * MIB, 4);
        assert_eq!(pace.next_length(), 32 * MIB);
        assert_eq!(
            lengths(&mut pace, &[0, 200, 300, 500, 100, 0, 0]),
            [64, 128, 128, 128, 256, 256, 256]
        );
        assert_eq!(pace.lead(), 32 * MIB);
        assert_eq!(
            lengths(&mut pace, &[501, 900, 1000, 1000, 1000, 1000, 1000, 1000]),
            [128, 64, 32, 16, 8, 4, 3, 3]
        );
        assert_eq!(lengths(&mut pace, &[300, 0]), [3, 6]);
    }

    #[test]
    fn a_few_bytes_say_nothing() {
        let mut pace = Pace::new(14 * MIB, 4);
        pace.hashed(SAMPLE - 1, Duration::from_secs(9), Duration::ZERO);
        assert_eq!((pace.next_length(), pace.lead()), (32 * MIB, 0));
        pace.hashed(1, Duration::ZERO, Duration::ZERO);
        assert_eq!(pace.next_length(), 16 * MIB);
    }

    #[test]
    fn the_lead_is_bounded_whatever_the_pace() {
        let mut pace = Pace::new(14 * MIB, 4);
        pace.hashed(u64::MAX, Duration::ZERO, Duration::ZERO);
        pace.next_length();
        assert_eq!(pace.lead(), LONGEST_LEAD);
    }

    #[test]
    fn the_shortest_tasks_of_all_connections_fit_into_memory() {
        for (buffers, workers) in [(14, 4), (2, 1), (16, 8), (32, 16), (3, 100)] {
            let pace = Pace::new(buffers * MIB, workers);
            assert!(pace.shortest == MIB || pace.shortest * workers <= buffers * MIB);
        }
    }
}
