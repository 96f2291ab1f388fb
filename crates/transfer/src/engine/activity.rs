//! When bytes last arrived, on any connection, and how many did.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use net::{Clock, LeastRate};

/// Bytes of a copy that arrived, repeats included, and the time of the last.
#[derive(Debug)]
pub(super) struct Activity<'a> {
    clock: &'a dyn Clock,
    /// Milliseconds on the clock.
    last: AtomicU64,
    bytes: AtomicU64,
    least: LeastRate,
    /// When as many had arrived as the least rate asks for, in milliseconds on the clock, and how many have
    /// since.
    moved: AtomicU64,
    pending: AtomicU64,
}

impl<'a> Activity<'a> {
    /// Counts from now.
    pub(super) fn new(clock: &'a dyn Clock, least: LeastRate) -> Self {
        let now = millis(clock.now());
        Self {
            clock,
            last: AtomicU64::new(now),
            bytes: AtomicU64::new(0),
            least,
            moved: AtomicU64::new(now),
            pending: AtomicU64::new(0),
        }
    }

    /// Bytes have arrived.
    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let now = millis(self.clock.now());
        self.last.fetch_max(now, Ordering::Relaxed);
        let pending = self.pending.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let moved = self.moved.load(Ordering::Relaxed);
        let time = Duration::from_millis(now.saturating_sub(moved));
        // Two threads at a time may both find it enough, which it is.
        if pending >= self.least.bytes_in(time) {
            self.moved.fetch_max(now, Ordering::Relaxed);
            self.pending.store(0, Ordering::Relaxed);
        }
    }

    /// When they last arrived as fast as the least rate asks for, on the clock.
    pub(super) fn moved(&self) -> Duration {
        Duration::from_millis(self.moved.load(Ordering::Relaxed))
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
