//! A gate that holds a server's thread until the test opens it.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{DEADLINE, lock};

/// Closed when made; once opened it stays open. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        *lock(&self.0.open) = true;
        self.0.changed.notify_all();
    }

    /// Whether it was opened.
    pub fn is_open(&self) -> bool {
        *lock(&self.0.open)
    }

    /// Waits until it is open; panics after [`DEADLINE`].
    pub fn wait(&self) {
        let begun = Instant::now();
        self.wait_unless(|| {
            assert!(begun.elapsed() < DEADLINE, "the gate was not opened");
            false
        });
    }

    /// Waits until it is open, or until `given_up` says so.
    pub(crate) fn wait_unless(&self, given_up: impl Fn() -> bool) {
        let mut open = lock(&self.0.open);
        while !*open && !given_up() {
            open = self
                .0
                .changed
                .wait_timeout(open, Duration::from_millis(20))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
