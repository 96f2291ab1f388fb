//! The copy itself.

use std::{num::NonZeroUsize, sync::Arc};

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
}

/// What a copy needs from its caller besides the settings.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Stop flag.
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
}

/// Copies all of `source` to `sink` and syncs it.
pub fn copy(
    _source: &dyn Source,
    _sink: &dyn Sink,
    _options: &Options,
    _surroundings: &Surroundings,
) -> Result<Report, Error> {
    todo!()
}
