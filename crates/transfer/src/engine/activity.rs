//! When a byte last arrived, on any connection, and how many did.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use net::Clock;

/// Bytes of a copy that arrived, repeats included, and the time of the last.
#[derive(Debug)]
pub(super) struct Activity<'a> {
    clock: &'a dyn Clock,
    /// Milliseconds on the clock.
    last: AtomicU64,
    bytes: AtomicU64,
}

impl<'a> Activity<'a> {
    /// Counts from now.
    pub(super) fn new(clock: &'a dyn Clock) -> Self {
        Self {
            clock,
            last: AtomicU64::new(millis(clock.now())),
            bytes: AtomicU64::new(0),
        }
    }

    /// Bytes have arrived.
    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last
            .fetch_max(millis(self.clock.now()), Ordering::Relaxed);
    }

    /// How many have arrived.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When the last one did, on the clock.
    pub(super) fn last(&self) -> Duration {
        Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
