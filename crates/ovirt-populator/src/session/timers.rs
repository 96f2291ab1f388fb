//! Every time limit of a session, in one place.

use std::time::Duration;

/// Time limits of a session. `docs/protocol/ovirt.md` holds the same table for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// The engine ends a transfer from which nothing is read for this long; whole seconds.
    pub inactivity: Duration,
    /// For a locked disk or a busy engine. Longer than `inactivity` and the engine's polling (10 s)
    /// together, so that what a crashed run left behind is waited out.
    pub locked_wait: Duration,
    /// Without an answer from the engine, and without a byte over several transfers.
    pub no_progress: Duration,
    /// From the answer to the creation until data can be read.
    pub begin: Duration,
    /// From the last byte until the engine says that the transfer is finished. The engine applies
    /// actions in a loop that slows down to 10 s, and retries while its host is busy.
    pub finish: Duration,
    /// To have a cancellation accepted.
    pub end: Duration,
    /// For the answer to a creation, and for the copy to end, after the run was asked to stop.
    pub in_flight: Duration,
    /// First delay of the backoff while a transfer is being made ready or finalized: on an idle host, that
    /// takes only a moment.
    pub first_poll: Duration,
    /// First delay of the backoff on a locked disk, and between two transfers.
    pub poll: Duration,
    /// Longest delay of the backoff while the session polls a phase: the time by which a disk that the engine gives
    /// up after its usual 5 to 10 s may be noticed too late.
    pub longest_poll: Duration,
    /// Longest delay of the backoff on a locked disk.
    pub longest_locked_poll: Duration,
    /// Longest delay of the backoff between two transfers, of which the first gave no data.
    pub longest_renewal: Duration,
    /// Between two polls of the phase while data is read.
    pub watch: Duration,
    /// One call while a transfer is being ended.
    pub call: Duration,
    /// Transfers that one run reads from, at most.
    pub attempts: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            inactivity: Duration::from_mins(2),
            locked_wait: Duration::from_mins(5),
            no_progress: Duration::from_mins(10),
            begin: Duration::from_mins(5),
            finish: Duration::from_mins(5),
            end: Duration::from_secs(20),
            in_flight: Duration::from_secs(5),
            first_poll: Duration::from_millis(50),
            poll: Duration::from_secs(1),
            longest_poll: Duration::from_secs(1),
            longest_locked_poll: Duration::from_secs(15),
            longest_renewal: Duration::from_mins(1),
            watch: Duration::from_secs(15),
            call: Duration::from_secs(5),
            attempts: 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crashed_run_is_waited_out() {
        let timers = Timers::default();
        let poll_of_the_engine = Duration::from_secs(10);
        assert!(
            timers.locked_wait
                > timers.inactivity + poll_of_the_engine + timers.longest_locked_poll
        );
    }

    #[test]
    fn the_table_of_timers_is_right() {
        let timers = Timers::default();
        for (name, stated) in [
            ("inactivity *T*", vec![timers.inactivity]),
            ("locked wait", vec![timers.locked_wait]),
            ("no progress", vec![timers.no_progress]),
            ("transfer begins", vec![timers.begin]),
            ("finalize", vec![timers.finish]),
            ("tidying up", vec![timers.end]),
            ("in flight", vec![timers.in_flight]),
            ("watch", vec![timers.watch]),
            (
                "look at the transfer's phase",
                vec![timers.first_poll, timers.longest_poll],
            ),
            (
                "new transfer after a lost one",
                vec![timers.poll, timers.longest_renewal],
            ),
            (
                "try on a locked disk",
                vec![timers.poll, timers.longest_locked_poll],
            ),
        ] {
            assert_eq!(testkit::timers::stated(name), stated, "{name}");
        }
    }
}
