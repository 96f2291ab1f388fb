//! Time and cancellation, passed in wherever they are needed, so that tests can move the one and
//! pull the other.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Monotonic time. `now` counts from an arbitrary start.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Time since the clock's start.
    fn now(&self) -> Duration;

    /// Blocks for `period`, or until `cancel` is pulled. Returns true when it was pulled.
    fn wait(&self, period: Duration, cancel: &Cancel) -> bool;
}

/// The machine's monotonic clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait(&self, period: Duration, cancel: &Cancel) -> bool {
        cancel.wait(period)
    }
}

/// A flag that is pulled once and seen by every clone; waits on it end at once.
///
/// Blocking reads of a [`crate::Connection`] look at it several times a second.
#[derive(Clone, Default)]
pub struct Cancel(Arc<(Mutex<bool>, Condvar)>);

impl Cancel {
    /// A flag that is not pulled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Pulls the flag. Never blocks for long; pulling twice is the same as once.
    pub fn cancel(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether the flag has been pulled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks for `period`, or until the flag is pulled. Returns true when it was pulled.
    #[must_use]
    pub fn wait(&self, period: Duration) -> bool {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .0
            .1
            .wait_timeout_while(guard, period, |cancelled| !*cancelled)
            .unwrap_or_else(PoisonError::into_inner);
        *guard
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}
