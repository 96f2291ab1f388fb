//! Waiting for what a service does in its own time: bounded, and told in the log.

use std::time::Duration;

use contract::Exit;
use mover::{Failure, PollBackoff, Stop};
use tokio::time::{self, Instant};

/// How long a step may take whatever the size: busy volumes, snapshots, deletions.
pub(super) const STEP: Duration = Duration::from_mins(15);
/// How much longer a step may take for each GiB that it copies. A store that is slower than 10 MiB/s is broken.
const PER_GIB: Duration = Duration::from_secs(100);
/// The first pause between two questions, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// Between two lines of the log.
const TOLD: Duration = Duration::from_secs(30);

/// One wait.
#[derive(Debug)]
pub(super) struct Wait {
    what: String,
    advice: &'static str,
    bound: Duration,
    stop: Option<Stop>,
    start: Instant,
    told: Instant,
    pauses: PollBackoff,
}

impl Wait {
    /// `what` completes the sentence "waiting for ...". With a stop, the wait ends when that is asked for.
    pub(super) fn new(what: impl Into<String>, bound: Duration, stop: Option<&Stop>) -> Self {
        let now = Instant::now();
        Self {
            what: what.into(),
            advice: "see what the cloud does with it, and start the copy again",
            bound,
            stop: stop.cloned(),
            start: now,
            told: now,
            pauses: PollBackoff::new(PAUSES.0, PAUSES.1),
        }
    }

    /// The same for something after which there is no copy to start again.
    pub(super) fn of_an_end(self) -> Self {
        Self {
            advice: "see what the cloud does with it",
            ..self
        }
    }

    /// Pauses before the next question; `state` is what the last one found.
    ///
    /// # Errors
    /// [`Exit::SourceBusy`] when the time is over, [`Exit::Terminated`] when the run is to end.
    pub(super) async fn pause(&mut self, state: &str) -> Result<(), Failure> {
        let spent = self.start.elapsed();
        if spent >= self.bound {
            return Err(Failure::new(
                Exit::SourceBusy,
                format!(
                    "waited {} s for {}, which is still {}; {}",
                    self.bound.as_secs(),
                    self.what,
                    net::quoted(state),
                    self.advice
                ),
            ));
        }
        if let Some(line) = self.line(state) {
            tracing::info!("{line}");
        }
        let delay = self.pauses.next_delay();
        let Some(stop) = &self.stop else {
            time::sleep(delay).await;
            return Ok(());
        };
        tokio::select! {
            () = time::sleep(delay) => Ok(()),
            () = stop.asked() => Err(stopped()),
        }
    }

    /// A line for the log, when the last one is some time ago.
    fn line(&mut self, state: &str) -> Option<String> {
        if self.told.elapsed() < TOLD {
            return None;
        }
        self.told = Instant::now();
        Some(format!(
            "waiting for {}: {}, for {} s of at most {} s",
            self.what,
            net::quoted(state),
            self.start.elapsed().as_secs(),
            self.bound.as_secs()
        ))
    }
}

/// How long a step may take that copies this many GiB, or waits for such a copy.
pub(super) fn bound(gib: u64) -> Duration {
    let gib = u32::try_from(gib).unwrap_or(u32::MAX);
    STEP.saturating_add(PER_GIB.saturating_mul(gib))
}

/// Waits until the run is to end, and then for a part of the time to tidy up: all of it, or a half.
pub(super) async fn last_moment(stop: &Stop, part: u32) {
    stop.asked().await;
    time::sleep(stop.time_left() / part).await;
}

/// The failure of a run that is to end.
pub(super) fn stopped() -> Failure {
    Failure::new(
        Exit::Terminated,
        "stopped before the copy began; nothing was written",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_bounded_and_names_what_it_found() {
        let start = Instant::now();
        let mut wait = Wait::new("the volume v-1", Duration::from_mins(10), None);
        let failure = loop {
            if let Err(failure) = wait.pause("creating").await {
                break failure;
            }
        };
        assert_eq!(failure.exit(), Exit::SourceBusy);
        for needle in ["the volume v-1", "\"creating\"", "600 s"] {
            assert!(failure.message().contains(needle), "{failure}");
        }
        assert!(start.elapsed() < Duration::from_secs(610));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_says_now_and_then_how_far_it_is() {
        let mut wait = Wait::new("the volume v-1", bound(1), None);
        assert_eq!(wait.line("creating"), None);
        time::advance(TOLD).await;
        assert_eq!(
            wait.line("creating").unwrap(),
            "waiting for the volume v-1: \"creating\", for 30 s of at most 1000 s"
        );
        assert_eq!(wait.line("creating"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_a_wait() {
        let (handle, stop) = Stop::new();
        let mut wait = Wait::new("x", Duration::from_mins(10), Some(&stop));
        wait.pause("x").await.unwrap();
        handle.pull();
        assert_eq!(wait.pause("x").await.unwrap_err().exit(), Exit::Terminated);
    }
}
