//! Time and cancellation, passed in wherever they are needed, so that tests can move the one and
//! pull the other.

use std::{
    fmt, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
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

/// A flag that is pulled once and seen by every clone and every child; waits on it end at once.
///
/// Blocking reads of a [`crate::Connection`] check it several times a second.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Default)]
struct Flag {
    state: Mutex<State>,
    pulled: Condvar,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    children: Vec<Weak<Flag>>,
}

impl Cancel {
    /// A flag that is not pulled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that is pulled together with this one, and can be pulled without it.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self::new();
        self.adopt(&child);
        child
    }

    /// Pulls `child` together with this flag from now on: for what is handed on from one caller to
    /// another while it is under way.
    pub fn adopt(&self, child: &Self) {
        let mut state = self.0.lock();
        if state.cancelled {
            drop(state);
            child.cancel();
            return;
        }
        state.children.retain(|other| other.strong_count() > 0);
        state.children.push(Arc::downgrade(&child.0));
    }

    /// Pulls the flag. Never blocks for long; pulling twice is the same as once.
    pub fn cancel(&self) {
        let children = {
            let mut state = self.0.lock();
            state.cancelled = true;
            mem::take(&mut state.children)
        };
        self.0.pulled.notify_all();
        for child in children.iter().filter_map(Weak::upgrade) {
            Self(child).cancel();
        }
    }

    /// Whether the flag has been pulled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.lock().cancelled
    }

    /// Blocks for `period`, or until the flag is pulled. Returns true when it was pulled.
    #[must_use]
    pub fn wait(&self, period: Duration) -> bool {
        let (state, _) = self
            .0
            .pulled
            .wait_timeout_while(self.0.lock(), period, |state| !state.cancelled)
            .unwrap_or_else(PoisonError::into_inner);
        state.cancelled
    }
}

impl Flag {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_pulled_with_its_parent_and_not_the_other_way() {
        let parent = Cancel::new();
        let (pulled, kept) = (parent.child(), parent.child());
        let grandchild = kept.child();
        pulled.cancel();
        assert!(!parent.is_cancelled());
        assert!(!kept.is_cancelled());
        parent.cancel();
        assert!(kept.is_cancelled());
        assert!(grandchild.wait(Duration::MAX));
        assert!(parent.child().is_cancelled());
    }

    #[test]
    fn a_flag_that_is_adopted_is_pulled_with_both_parents() {
        for second in [false, true] {
            let parents = [Cancel::new(), Cancel::new()];
            let child = parents[0].child();
            parents[1].adopt(&child);
            parents[usize::from(second)].cancel();
            assert!(child.is_cancelled());
            assert!(!parents[usize::from(!second)].is_cancelled());
        }
        let (late, pulled) = (Cancel::new(), Cancel::new());
        pulled.cancel();
        pulled.adopt(&late);
        assert!(late.is_cancelled());
    }

    #[test]
    fn a_wait_on_a_child_ends_when_the_parent_is_pulled() {
        let parent = Cancel::new();
        let child = parent.child();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| child.wait(Duration::from_hours(1)));
            parent.cancel();
            assert!(waiter.join().unwrap());
        });
    }
}
