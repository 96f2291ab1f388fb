//! What has happened so far: counters that cost next to nothing, for logs and metrics to read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Kind;

/// What the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// The copy has not started.
    #[default]
    Preparing,
    /// Data is read and written, and zeroes are made.
    Copying,
    /// All is written; the digest is not compared yet.
    Verifying,
    /// The target is being synced to stable storage.
    Syncing,
    /// The data is durable and proven.
    Done,
}

impl Phase {
    /// A stable name for metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Copying => "copying",
            Self::Verifying => "verifying",
            Self::Syncing => "syncing",
            Self::Done => "done",
        }
    }
}

/// Why a request, or a whole copy, was retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryReason {
    /// [`Kind::Network`].
    Network,
    /// [`Kind::Stalled`].
    Stalled,
    /// [`Kind::Busy`].
    Busy,
    /// [`Kind::Expired`].
    Expired,
    /// [`Kind::Lost`]: the caller made a new source and started over.
    Lost,
    /// An answer that would be final, of a source that has given bytes: it may not be the source's.
    Unexpected,
}

impl RetryReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Network,
        Self::Stalled,
        Self::Busy,
        Self::Expired,
        Self::Lost,
        Self::Unexpected,
    ];

    /// The reason for a retry after an error of this kind; `None` for kinds that end a copy.
    #[must_use]
    pub const fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Network => Some(Self::Network),
            Kind::Stalled => Some(Self::Stalled),
            Kind::Busy => Some(Self::Busy),
            Kind::Expired => Some(Self::Expired),
            Kind::Lost => Some(Self::Lost),
            _ => None,
        }
    }

    /// A stable name for metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Stalled => "stalled",
            Self::Busy => "busy",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Unexpected => "unexpected",
        }
    }
}

/// How many retries there were, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retries([u64; RetryReason::ALL.len()]);

impl Retries {
    /// Retries for one reason.
    #[must_use]
    pub const fn of(self, reason: RetryReason) -> u64 {
        self.0[reason as usize]
    }

    /// All retries.
    #[must_use]
    pub fn sum(self) -> u64 {
        self.0.iter().sum()
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Size of the source in bytes, 0 while unknown.
    pub total: u64,
    /// Bytes of the source in place because they were read and written.
    pub data: u64,
    /// Bytes of the source in place because they are zeroes that needed no transfer.
    pub zero: u64,
    /// Body bytes received, repeats included.
    pub received: u64,
    /// Requests that were retried.
    pub retries: Retries,
    /// What the engine is doing.
    pub phase: Phase,
}

impl Snapshot {
    /// Bytes of the source in place; never more than [`Snapshot::total`].
    #[must_use]
    pub const fn done(&self) -> u64 {
        self.data + self.zero
    }
}

/// Counters of one copy, shared by its workers. They live across passes over an ordered source and
/// across several [`crate::copy`] calls for one disk: what is shown never falls.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Counters>);

/// Updated once per buffer of a MiB, so that one lock costs less than keeping several atomic
/// counters consistent with each other.
#[derive(Debug, Default)]
struct Counters {
    shown: Snapshot,
    /// Data and zero bytes of the current pass, which may be fewer than an earlier one has shown.
    data: u64,
    zero: u64,
}

impl Progress {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lock().shown
    }

    /// Counts a retry. The engine counts its own; a caller that starts over with a new source
    /// counts [`RetryReason::Lost`].
    pub fn retried(&self, reason: RetryReason) {
        self.lock().shown.retries.0[reason as usize] += 1;
    }

    /// Sets the phase.
    pub fn enter(&self, phase: Phase) {
        self.lock().shown.phase = phase;
    }

    /// Starts a pass over a source of `total` bytes, with nothing in place.
    pub(crate) fn begin(&self, total: u64) {
        let mut counters = self.lock();
        counters.shown.total = total;
        counters.shown.phase = Phase::Copying;
        counters.data = 0;
        counters.zero = 0;
    }

    /// Bytes that the current pass has put in place.
    pub(crate) fn in_place(&self) -> u64 {
        let counters = self.lock();
        counters.data.saturating_add(counters.zero)
    }

    pub(crate) fn add_received(&self, bytes: u64) {
        self.lock().shown.received += bytes;
    }

    pub(crate) fn add_data(&self, bytes: u64) {
        let mut counters = self.lock();
        counters.data += bytes;
        counters.show();
    }

    pub(crate) fn add_zero(&self, bytes: u64) {
        let mut counters = self.lock();
        counters.zero += bytes;
        counters.show();
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    /// Raises what is shown to what the pass has reached; passes may differ in what they call zero,
    /// so each counter is held below what the other leaves of the total.
    fn show(&mut self) {
        let Snapshot {
            total, data, zero, ..
        } = self.shown;
        let data = data.max(self.data.min(total.saturating_sub(zero)));
        self.shown.data = data;
        self.shown.zero = zero.max(self.zero.min(total.saturating_sub(data)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shown_falls_when_a_pass_restarts() {
        let progress = Progress::new();
        let mut last = Snapshot::default();
        let mut check = || {
            let now = progress.snapshot();
            assert!(
                now.data >= last.data && now.zero >= last.zero,
                "{last:?} {now:?}"
            );
            assert!(now.done() <= now.total);
            last = now;
        };
        for (data, zero) in [(300, 100), (100, 400), (600, 400)] {
            progress.begin(1000);
            check();
            for _ in 0..10 {
                progress.add_data(data / 10);
                check();
                progress.add_zero(zero / 10);
                check();
            }
        }
        assert_eq!((last.data, last.zero), (600, 400));
    }

    #[test]
    fn every_transient_kind_has_a_reason() {
        for kind in [Kind::Network, Kind::Stalled, Kind::Busy, Kind::Expired] {
            assert!(kind.is_transient());
            let reason = RetryReason::of(kind).unwrap();
            let progress = Progress::new();
            progress.retried(reason);
            let retries = progress.snapshot().retries;
            assert_eq!((retries.of(reason), retries.sum()), (1, 1));
        }
        let mut names: Vec<_> = RetryReason::ALL.map(RetryReason::name).into();
        names.dedup();
        assert_eq!(names.len(), RetryReason::ALL.len());
    }
}
