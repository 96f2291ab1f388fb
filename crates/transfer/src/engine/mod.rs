//! The copy itself.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use net::{Cancel, Clock};

use crate::{Algorithm, Digest, Error, Progress, RetryPolicy, Sink, Source};

/// What is compared with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verification {
    /// Nothing.
    None,
    /// Our digest of the whole disk, computed while it passes, with one that was stated beforehand.
    Stated(Digest),
    /// Our digest with one that the source computes when the last byte has been read.
    Asked(Algorithm),
}

/// Settings of a copy.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections to use if the source allows as many.
    pub connections: NonZeroUsize,
    /// What to verify.
    pub verification: Verification,
    /// Whether zero blocks inside data are kept as holes (thin volumes stay thin).
    pub detect_zeroes: bool,
    /// When to try again.
    pub retry: RetryPolicy,
    /// After this time without a byte read, and again and again after it, the source is told that its
    /// client is alive ([`Source::keep_alive`]): while zeroing, verifying, syncing or waiting. Well
    /// below the inactivity time after which a server gives up; [`Duration::MAX`] means never.
    pub keep_alive: Duration,
}

impl Default for Options {
    /// 4 connections, no verification, holes kept, the default retry policy, and a sign of life after
    /// 20 s, a third of the shortest inactivity time of a server (imageio: 60 s).
    fn default() -> Self {
        Self {
            connections: NonZeroUsize::MIN.saturating_add(3),
            verification: Verification::None,
            detect_zeroes: true,
            retry: RetryPolicy::default(),
            keep_alive: Duration::from_secs(20),
        }
    }
}

/// What a copy needs from its caller besides the settings.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Stop flag. The engine gives a child of it to the source, and pulls that when one of its own
    /// workers fails.
    pub cancel: Cancel,
    /// Seed of the jitter.
    pub seed: u64,
    /// Counters.
    pub progress: Arc<Progress>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The digest that was compared and found equal.
    pub verified: Option<Digest>,
    /// The largest sum of the engine's buffers, in bytes.
    pub buffer_bytes: u64,
}

/// Copies all of `source` to `sink`, verifies it as the options say, and syncs the sink.
///
/// [`crate::Phase::Done`] and 100 % are reached only when all of that has succeeded.
///
/// # Errors
/// The most telling error of all workers; see [`crate::Kind`]. What was written by then stays.
pub fn copy(
    _source: &dyn Source,
    _sink: &dyn Sink,
    _options: &Options,
    _surroundings: &Surroundings,
) -> Result<Report, Error> {
    todo!()
}
