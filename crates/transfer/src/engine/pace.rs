//! How long the tasks of a copy with a digest are: that depends on what holds it up.
//!
//! A digest takes one byte after the other. Where it is the slowest part, or where one connection fills
//! the link, one connection feeds it, and long tasks cost the server the fewest requests. Where each
//! connection is slow by itself, several of them have to work at a time, all of them inside of the part
//! of the disk that fits into memory: with short tasks.
//!
//! That the digest waits does not tell the two apart, so short tasks have to prove themselves: a
//! [`Trial`] compares them with long ones, and they stay where they are faster by [`GAIN`]. A trial
//! costs requests where they lose and time where they win, so the next one comes after a distance
//! that doubles with each trial that changes nothing.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

use super::buffer::BUFFER;

/// The first task, before anything is known: a fifth of a second on a fast network, and not for
/// long alone on a slow one.
pub(super) const FIRST: u64 = 32 << 20;

/// Longest task: one request for 256 MiB costs the server little, and when its connection breaks only
/// the missing part is asked for again.
const LONGEST: u64 = 256 << 20;

/// Nothing is learned from fewer bytes: a single delay would decide.
const SAMPLE: u64 = 8 << 20;

/// Nothing is learned from the first bytes of a copy: TCP's slow start holds them up.
const START: u64 = 8 << 20;

/// The digest's share of waiting, in percent, below which short tasks grow and above which they shrink.
/// One connection that gives at least half of what the digest takes is left alone: more of them would
/// cost many requests and win less than half of the time.
const SHARES: RangeInclusive<u32> = 20..=50;

/// How fast short tasks have to be, in percent of long ones. Less is not worth some 300 requests for
/// each GiB, and connections that share a link unevenly seem to win less than that.
const GAIN: u64 = 140;

/// Most connections that work at a time in a trial: that is enough to see whether several of them add up,
/// and more would cost more requests.
const TRIED: u64 = 4;

/// Rounds of short tasks that are measured where they are chosen already, and cost nothing more: when
/// each of several connections is done, and so how much has come in, is a matter of chance.
const ROUNDS: u64 = 4;

/// Distances between trials, in bytes of the disk. A trial costs some ten requests where long tasks win, and where
/// short ones do, one connection reads some 36 MiB alone.
const DISTANCES: RangeInclusive<u64> = 1 << 30..=16 << 30;

/// How long before the digest comes to a task its request is sent: longer than an answer takes to
/// begin (round trips, the handshake, a token that is validated), and shorter than servers wait for a
/// client that does not read (uwsgi: 4 s).
const LEAD: Duration = Duration::from_millis(500);

/// Longest part of the disk that [`LEAD`] may stand for.
const LONGEST_LEAD: u64 = 256 << 20;

/// What the digest has just done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    /// Where it has come to.
    pub(super) frontier: u64,
    /// Bytes of data that it took; 0 for zeroes, which no connection has brought.
    pub(super) bytes: u64,
    /// Memory in use, in bytes: what has come in from beyond the frontier, or is coming in.
    pub(super) held: u64,
    /// How long it has waited for these bytes.
    pub(super) waited: Duration,
    /// How long it has worked on them.
    pub(super) busy: Duration,
}

/// What the digest's waits say.
#[derive(Debug)]
pub(super) struct Pace {
    /// Length of the next task while there is no trial.
    length: u64,
    /// Shortest task: with it, the tasks of all connections lie in memory at a time.
    shortest: u64,
    /// Length of the short tasks of a trial.
    tried: u64,
    /// Bytes of one such task for each of those that work at a time.
    round: u64,
    /// How far beyond the frontier memory reaches.
    window: u64,
    /// Whether short tasks have proved themselves.
    is_short: bool,
    /// Since the last look.
    seen: Span,
    /// Bytes per second at last.
    rate: u64,
    /// Memory in use at last.
    held: u64,
    trial: Option<Trial>,
    /// No trial begins before this offset.
    next_trial: u64,
    /// How far from the end of the next trial the one after it begins, unless it changes the choice.
    distance: u64,
}

/// Compares short tasks with a long one behind them.
///
/// What a connection brings while the digest is elsewhere belongs to neither, so the first tasks
/// of all connections do not count, nor does the long one where memory still holds bytes of the short ones,
/// or already holds bytes of what follows.
#[derive(Debug)]
struct Trial {
    /// Where the long task begins.
    middle: u64,
    end: u64,
    /// Rate of long tasks before it, 0 where short ones were chosen.
    before: u64,
    short: Span,
    long: Span,
}

/// What was seen while the digest was within a part of the disk.
#[derive(Debug)]
struct Span {
    range: Range<u64>,
    /// Memory in use when the digest came to the part.
    held_first: Option<u64>,
    held_last: u64,
    bytes: u64,
    busy: Duration,
    waited: Duration,
}

impl Pace {
    /// For so many connections and `window` bytes of memory.
    pub(super) fn new(window: u64, workers: u64) -> Self {
        let share = |tasks: u64| (window / BUFFER as u64 / tasks).max(1) * BUFFER as u64;
        let at_a_time = workers.clamp(1, TRIED);
        Self {
            length: FIRST,
            shortest: share(workers.max(1)),
            tried: share(at_a_time),
            round: share(at_a_time) * at_a_time,
            window,
            is_short: false,
            seen: Span::new(START..u64::MAX),
            rate: 0,
            held: 0,
            trial: None,
            next_trial: 0,
            distance: *DISTANCES.start(),
        }
    }

    /// The digest has gone on.
    pub(super) fn hashed(&mut self, step: Step) {
        self.held = step.held;
        if let Some(trial) = &mut self.trial {
            trial.short.add(step);
            trial.long.add(step);
        } else {
            self.seen.add(step);
        }
    }

    /// Length of the task that is handed out now and begins at `position`, a multiple of [`BUFFER`].
    pub(super) fn next_length(&mut self, position: u64) -> u64 {
        match self.trial.take_if(|trial| trial.end <= position) {
            Some(trial) => self.conclude(&trial, position),
            None if self.trial.is_none() => self.look(position),
            None => {}
        }
        match &self.trial {
            Some(trial) if position < trial.middle => self.tried,
            Some(trial) => (trial.end - position).next_multiple_of(BUFFER as u64),
            None => self.length,
        }
    }

    /// How far from the digest's position a task is handed out, beyond what memory holds.
    pub(super) fn lead(&self) -> u64 {
        // What follows a trial depends on it. Its end is in reach only when its long task has been measured.
        if self.trial.is_some() {
            return 0;
        }
        let bytes = u128::from(self.rate) * LEAD.as_millis() / 1000;
        u64::try_from(bytes).map_or(LONGEST_LEAD, |bytes| bytes.min(LONGEST_LEAD))
    }

    /// Learns from what was seen since the last time, if that is enough.
    fn look(&mut self, position: u64) {
        if self.seen.bytes < SAMPLE {
            return;
        }
        let time = self.seen.time();
        let share = |percent: u32| time * percent / 100;
        let waits = self.seen.waited > share(*SHARES.end());
        let is_busy = self.seen.waited <= share(*SHARES.start());
        self.rate = self.seen.rate();
        self.restart();
        if (waits || self.is_short) && position >= self.next_trial {
            self.trial = Some(self.trial_at(position));
        } else if !self.is_short {
            self.grow();
        } else if waits {
            let half = (self.length / 2).next_multiple_of(BUFFER as u64);
            self.length = half.max(self.shortest);
        } else if is_busy {
            self.grow();
            self.is_short = self.length < FIRST;
        }
    }

    fn trial_at(&self, start: u64) -> Trial {
        let begun = start.saturating_add(self.round);
        // Each connection counts as often as the others.
        let measured = if self.is_short {
            self.round.saturating_mul(ROUNDS)
        } else {
            SAMPLE.next_multiple_of(self.round)
        };
        let middle = begun.saturating_add(measured);
        let from = middle.saturating_add(self.window);
        let to = from.saturating_add(SAMPLE);
        Trial {
            middle,
            end: to.saturating_add(self.window),
            before: if self.is_short { 0 } else { self.rate },
            short: Span::new(begun..middle),
            long: Span::new(from..to),
        }
    }

    /// Chooses what was faster. Holes in the parts that were measured leave everything as it is.
    fn conclude(&mut self, trial: &Trial, position: u64) {
        self.restart();
        self.next_trial = position.saturating_add(self.distance);
        if !(trial.short.is_full() && trial.long.is_full()) {
            return;
        }
        let (short, long) = (trial.short.rate(), trial.long.rate());
        let least = u128::from(long.max(trial.before)) * u128::from(GAIN) / 100;
        let was_short = self.is_short;
        self.is_short = u128::from(short) >= least;
        if self.is_short != was_short {
            self.distance = *DISTANCES.start();
            self.next_trial = position.saturating_add(self.distance);
        }
        self.distance = (self.distance * 2).min(*DISTANCES.end());
        if !self.is_short {
            // Nothing is won by an early end.
            (self.rate, self.length) = (long, LONGEST);
        } else if was_short {
            self.rate = short;
        } else {
            (self.rate, self.length) = (short, self.shortest);
        }
    }

    fn grow(&mut self) {
        self.length = (self.length * 2).min(LONGEST);
    }

    fn restart(&mut self) {
        self.seen = Span::new(0..u64::MAX);
        self.seen.held_first = Some(self.held);
    }
}

impl Span {
    const fn new(range: Range<u64>) -> Self {
        Self {
            range,
            held_first: None,
            held_last: 0,
            bytes: 0,
            busy: Duration::ZERO,
            waited: Duration::ZERO,
        }
    }

    fn add(&mut self, step: Step) {
        if !(self.range.start..=self.range.end).contains(&step.frontier) {
            return;
        }
        if self.held_first.is_none() {
            self.held_first = Some(step.held);
            self.held_last = step.held;
        } else if step.bytes > 0 {
            self.held_last = step.held;
            self.bytes = self.bytes.saturating_add(step.bytes);
            self.busy += step.busy;
            self.waited += step.waited;
        }
    }

    /// Whether most of the part is data, so that its rate says something.
    const fn is_full(&self) -> bool {
        self.bytes >= (self.range.end - self.range.start) / 4 * 3
    }

    fn time(&self) -> Duration {
        self.busy + self.waited
    }

    /// Bytes per second that came in. They are not the same as those that the digest took: connections
    /// that share a link unevenly fill memory and leave it to one of them to empty it.
    fn rate(&self) -> u64 {
        let held_first = self.held_first.unwrap_or_default();
        let bytes = u128::from(self.bytes) + u128::from(self.held_last);
        let came = bytes.saturating_sub(u128::from(held_first));
        let rate = came * 1_000_000_000 / self.time().as_nanos().max(1);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    /// A digest on its way over a disk.
    struct Digest {
        pace: Pace,
        frontier: u64,
        held: u64,
    }

    impl Digest {
        /// With 14 MiB of memory and 4 connections.
        fn new() -> Self {
            Self {
                pace: Pace::new(14 * MIB, 4),
                frontier: 0,
                held: 0,
            }
        }

        /// Goes on to this MiB, with so many microseconds of waiting and of work for each.
        fn goes_to(&mut self, mib: u64, waited: u64, busy: u64) -> &mut Self {
            while self.frontier < mib * MIB {
                self.frontier += MIB;
                self.pace.hashed(Step {
                    frontier: self.frontier,
                    bytes: MIB,
                    held: self.held,
                    waited: Duration::from_micros(waited),
                    busy: Duration::from_micros(busy),
                });
            }
            self
        }

        /// Goes on by 32 MiB, and waits for so many percent of the time.
        fn waits(&mut self, percent: u64) -> u64 {
            self.goes_to(
                self.frontier / MIB + 32,
                100 * percent,
                100 * (100 - percent),
            );
            self.length(self.frontier / MIB)
        }

        /// Length in MiB of the task that begins at this MiB.
        fn length(&mut self, position: u64) -> u64 {
            self.pace.next_length(position * MIB) / MIB
        }

        /// Meets a trial of short tasks from 32 to 56 MiB and a long one to 92 MiB, each MiB that counts in so
        /// many microseconds. Long tasks took 1000 before. Gives the length that is chosen.
        fn tries(&mut self, short: u64, long: u64) -> u64 {
            assert_eq!(self.goes_to(19, 900, 100).length(32), 3);
            self.goes_to(44, 0, 1).goes_to(56, short - 100, 100);
            assert_eq!(self.length(56), 36);
            self.goes_to(70, 0, 1).goes_to(78, long - 100, 100);
            self.goes_to(92, 0, 1).length(92)
        }
    }

    #[test]
    fn tasks_grow_unless_the_digest_waits_for_half_of_the_time() {
        let mut digest = Digest::new();
        assert_eq!(digest.length(0), 32);
        assert_eq!([0, 20, 50].map(|share| digest.waits(share)), [64, 128, 256]);
        assert_eq!([50, 0].map(|share| digest.waits(share)), [256, 256]);
        // 32 MiB in 320 ms.
        assert_eq!(digest.pace.lead(), 50 * MIB);
        assert_eq!(digest.waits(51), 3);
    }

    #[test]
    fn a_trial_is_two_short_tasks_for_each_connection_and_a_long_one() {
        let mut digest = Digest::new();
        digest.goes_to(19, 900, 100);
        let lengths = (32..56).step_by(3).map(|at| digest.length(at));
        assert_eq!(lengths.collect::<Vec<_>>(), [3; 8]);
        // What follows depends on it, so that it is not handed out early.
        assert_eq!((digest.length(56), digest.pace.lead()), (36, 0));
        assert_eq!(digest.length(90), 2, "behind a hole");
        digest.goes_to(79, 900, 100);
        assert_eq!(digest.length(92), 256);
        assert_eq!(digest.pace.lead(), LONGEST_LEAD);
    }

    #[test]
    fn short_tasks_stay_where_they_are_faster_by_two_fifths() {
        // Microseconds for each MiB of the short tasks, and of the long one behind them.
        for (short, long, chosen) in [
            (714, 1000, 3),
            (715, 1000, 256),
            (714, 900, 256),
            (250, 1000, 3),
            // The network was slow for a moment.
            (250, 250, 256),
            // It is slow from now on.
            (1000, 9000, 256),
        ] {
            assert_eq!(Digest::new().tries(short, long), chosen, "{short} {long}");
        }
    }

    #[test]
    fn what_has_come_into_memory_counts_when_it_comes() {
        let mut digest = Digest::new();
        assert_eq!(digest.goes_to(19, 900, 100).length(32), 3);
        digest.held = 9 * MIB;
        digest.goes_to(44, 900, 100);
        // As slow as before: a quarter is new, the rest was there.
        digest.goes_to(47, 900, 100).held = 0;
        digest.goes_to(56, 0, 100).length(56);
        digest.goes_to(79, 900, 100);
        assert_eq!(digest.length(92), 256);
    }

    #[test]
    fn a_trial_over_a_hole_changes_nothing() {
        let mut digest = Digest::new();
        digest.goes_to(19, 900, 100).length(32);
        digest.goes_to(44, 150, 100).frontier = 50 * MIB;
        digest.goes_to(56, 150, 100).length(56);
        digest.goes_to(79, 900, 100);
        assert_eq!(digest.length(92), 32);
    }

    #[test]
    fn the_first_bytes_and_a_few_bytes_say_nothing() {
        let mut digest = Digest::new();
        digest.goes_to(8, 900_000, 100).goes_to(15, 900, 100);
        assert_eq!((digest.length(32), digest.pace.lead()), (32, 0));
        assert_eq!(digest.goes_to(16, 900, 100).length(32), 3);
        assert_eq!(digest.pace.rate / 1_000_000, 1048);
    }

    #[test]
    fn short_tasks_follow_the_digest_until_they_are_long() {
        let mut digest = Digest::new();
        assert_eq!(digest.tries(250, 1000), 3);
        assert_eq!(
            [90, 51, 50, 20].map(|share| digest.waits(share)),
            [3, 3, 3, 6]
        );
        assert_eq!(
            [0, 21, 51, 60].map(|share| digest.waits(share)),
            [12, 12, 6, 3]
        );
        assert_eq!(
            [0; 6].map(|share| digest.waits(share)),
            [6, 12, 24, 48, 96, 192]
        );
        assert_eq!(
            [40, 60].map(|share| digest.waits(share)),
            [256, 256],
            "long again"
        );
    }

    #[test]
    fn the_distance_of_trials_doubles_until_one_changes_the_choice() {
        let mut digest = Digest::new();
        digest.tries(1000, 1000);
        let mut distances = Vec::new();
        for gain in [1, 1, 1, 4, 4, 4, 1, 1] {
            let begun = digest.frontier;
            while digest.pace.trial.is_none() {
                digest.goes_to(digest.frontier / MIB + 16, 900, 100);
                digest.length(digest.frontier / MIB);
            }
            distances.push((digest.frontier - begun).div_ceil(GIB));
            let trial = digest.pace.trial.as_ref().unwrap();
            let (middle, end) = (trial.middle / MIB, trial.end / MIB);
            digest.goes_to(middle, 1000 / gain - 100, 100);
            digest.goes_to(end, 900, 100).length(end);
            assert_eq!(digest.pace.is_short, gain > 1);
        }
        assert_eq!(distances, [1, 2, 4, 8, 1, 2, 4, 1]);
    }

    #[test]
    fn the_lead_is_bounded_whatever_the_pace() {
        let mut digest = Digest::new();
        digest.goes_to(64, 0, 0).length(64);
        assert_eq!(digest.pace.lead(), LONGEST_LEAD);
    }

    #[test]
    fn the_shortest_tasks_of_all_connections_fit_into_memory() {
        for (buffers, workers) in [(14, 4), (2, 1), (16, 8), (32, 16), (3, 100)] {
            let pace = Pace::new(buffers * MIB, workers);
            assert!(pace.shortest == MIB || pace.shortest * workers <= buffers * MIB);
            assert!(pace.tried == MIB || pace.round <= buffers * MIB);
            assert!(pace.shortest <= pace.tried && pace.round <= 4 * pace.tried);
        }
    }
}
