//! Which watches work.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A watch that fails is retried within a minute, and a server that is silent is noticed within 75 s. So
/// a watch that has not failed for this long works, also when nothing happens in it.
const QUIET: Duration = Duration::from_mins(3);
/// Between two warnings about one watch that goes on failing.
const PACE: Duration = Duration::from_mins(5);

/// The state of every watch.
#[derive(Debug, Default)]
pub struct WatchHealth(Mutex<BTreeMap<&'static str, Option<Failing>>>);

/// A watch that fails.
#[derive(Debug, Clone, Copy)]
struct Failing {
    last: Instant,
    logged: Instant,
}

impl WatchHealth {
    /// Adds a watch, which counts as one that works.
    pub(super) fn add(&self, what: &'static str) {
        self.lock().entry(what).or_default();
    }

    /// A watch has failed, and is retried. Returns whether that was logged, which it is at a pace.
    pub(super) fn failed(&self, what: &'static str, error: &impl Display) -> bool {
        let now = Instant::now();
        let mut watches = self.lock();
        let state = watches.entry(what).or_default();
        let before = state.filter(|failing| failing.last.elapsed() < QUIET);
        let logged = before.map(|failing| failing.logged);
        let logged = logged.filter(|logged| logged.elapsed() < PACE);
        if logged.is_none() {
            tracing::warn!("the watch of {what} fails, and is retried: {error}");
        }
        *state = Some(Failing {
            last: now,
            logged: logged.unwrap_or(now),
        });
        logged.is_none()
    }

    /// Something has come from a watch that proves that it works.
    pub(super) fn works(&self, what: &'static str) {
        let mut watches = self.lock();
        if watches.entry(what).or_default().take().is_some() {
            tracing::info!("the watch of {what} works again");
        }
    }

    /// How many watches fail, of how many.
    #[must_use]
    pub fn failing(&self) -> (usize, usize) {
        let mut watches = self.lock();
        for (what, state) in watches.iter_mut() {
            let is_quiet = |failing: &mut Failing| failing.last.elapsed() >= QUIET;
            if state.take_if(is_quiet).is_some() {
                tracing::info!("the watch of {what} works again");
            }
        }
        let failing = watches.values().filter(|state| state.is_some()).count();
        (failing, watches.len())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<Failing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_logged_at_a_pace_and_anew_after_it_has_worked() {
        let health = WatchHealth::default();
        assert!(health.failed("a", &"broken"));
        let mut logged = 0;
        for _ in 0..60 {
            tokio::time::advance(Duration::from_secs(30)).await;
            logged += usize::from(health.failed("a", &"broken"));
        }
        assert_eq!(logged, 6, "in 30 minutes");
        assert!(!health.failed("a", &"broken"));
        health.works("a");
        assert!(health.failed("a", &"broken"));
        // A watch that was resumed, and is quiet since: there is no event that says that it works.
        tokio::time::advance(QUIET).await;
        assert!(health.failed("a", &"broken"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_in_which_nothing_happens_works_when_it_has_not_failed_for_long() {
        let health = WatchHealth::default();
        health.add("a");
        health.add("b");
        assert_eq!(health.failing(), (0, 2));
        health.failed("a", &"broken");
        tokio::time::advance(Duration::from_secs(170)).await;
        health.failed("a", &"broken");
        tokio::time::advance(Duration::from_secs(170)).await;
        assert_eq!(health.failing(), (1, 2));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(health.failing(), (0, 2));
        health.failed("a", &"broken");
        health.works("a");
        assert_eq!(health.failing(), (0, 2));
    }
}
