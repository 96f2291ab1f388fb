//! The copy itself.
//!
//! [`plan`] cuts the disk into tasks, [`cursor`] hands them out in order, each [`worker`] reads
//! the bytes of its own connection into buffers of the [`pool`], [`writes`] takes them to the target,
//! [`sequence`] brings them back into order for the digest ([`blocks`] needs no order), whose [`pace`] decides how long tasks are,
//! [`checksum`] asks the source for the digest that ours has to equal, [`retry_budget`] decides what follows an error, [`pass`] runs the threads of all that on what is
//! [`shared`]. Meanwhile [`KeepAlive`] calls the server when nothing is read from it.

mod activity;
mod blocks;
pub(crate) mod buffer;
mod checksum;
mod cursor;
mod pace;
mod pass;
mod plan;
mod pool;
mod retry_budget;
mod sequence;
mod shared;
mod worker;
mod writes;
pub(crate) mod zeroes;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use net::{Cancel, Clock};

use self::{
    activity::Activity,
    pass::Outcome,
    retry_budget::{RetryBudget, cancelled},
    shared::Shared,
};
use crate::{
    Access, Algorithm, Digest, Error, Kind, Phase, Progress, RetryPolicy, Sink, Source, check_room,
    keep_alive::KeepAlive,
};

/// What proves that the copy equals the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verification {
    /// Nothing but the count of the bytes.
    None,
    /// Our digest of the whole disk, computed while it passes, with one that was stated beforehand.
    Stated(Digest),
    /// Our digest with one that the source computes, while it is read where it can do both, or after the last byte.
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
    /// When to retry, and when to give up.
    pub retry: RetryPolicy,
    /// Interval of the signs of life ([`Source::keep_alive`]) while no byte is read: during
    /// zeroing, verifying, syncing or waiting. Well below the inactivity time after which a server
    /// gives up; [`Duration::MAX`] means never.
    pub keep_alive: Duration,
}

impl Default for Options {
    /// 4 connections, no verification, holes kept, the default retry policy, and a sign of life
    /// after 20 s, a third of the shortest inactivity time of a server (imageio: 60 s).
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
pub struct Controls {
    /// The clock of all waits and limits.
    pub clock: Arc<dyn Clock>,
    /// Stop flag. The engine gives a child of it to the source, and pulls that when one of its own
    /// workers fails.
    pub cancel: Cancel,
    /// Seed of the jitter.
    pub seed: u64,
    /// The counters that the copy adds to.
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

/// How many bytes the first request of a copy asks for, of a source of `size` bytes that has ranges and
/// knows nothing of zeroes: a source that has asked for them already saves a request.
#[must_use]
pub fn first_range(size: u64, options: &Options) -> u64 {
    pass::first_range(size, options).min(size)
}

/// Copies all of `source` to `sink`, verifies it as the options say, and syncs the sink.
///
/// [`Phase::Done`] is reached only when all of that has succeeded. The sink may be copied
/// to again after an error: it is prepared again.
///
/// # Errors
/// The most telling error of all workers; see [`Kind`]. What was written by then stays. No call to
/// the source or the sink is under way or follows. [`Kind::Unusable`] for a source of 0 bytes,
/// [`Kind::TargetTooSmall`] and the error of [`check_room`] come before anything is written.
pub fn copy(
    source: &dyn Source,
    sink: &dyn Sink,
    options: &Options,
    controls: &Controls,
) -> Result<Report, Error> {
    let (size, capacity) = (source.size(), sink.capacity());
    // Nothing would be written, and an untouched target would be called a copy.
    if size == 0 {
        let text = "the source holds no data: its size is 0 bytes";
        return Err(Error::new(Kind::Unusable, text));
    }
    if capacity < size {
        return Err(Error::new(
            Kind::TargetTooSmall,
            format!("the target holds {capacity} bytes, the disk has {size}"),
        ));
    }
    check_room(source, sink, options.detect_zeroes)?;
    let activity = Activity::new(&*controls.clock, options.retry.least_rate);
    let keep_alive = KeepAlive {
        idle: options.keep_alive,
        clock: &*controls.clock,
        cancel: &controls.cancel,
        last: &|| activity.last(),
        sign: &|over| source.keep_alive(over),
    };
    keep_alive.during(|| {
        let outcome = transfer(source, sink, options, controls, &activity)?;
        check(controls)?;
        covers(controls.progress.in_place(), size)?;
        let verified = verify(outcome.computed, outcome.expected)?;
        controls.progress.enter(Phase::Syncing);
        sink.sync()?;
        controls.progress.enter(Phase::Done);
        Ok(Report {
            verified,
            buffer_bytes: outcome.buffer_bytes,
        })
    })
}

/// Reads and writes everything, in one pass if the source allows to continue after an error.
fn transfer(
    source: &dyn Source,
    sink: &dyn Sink,
    options: &Options,
    controls: &Controls,
    activity: &Activity<'_>,
) -> Result<Outcome, Error> {
    let (workers, is_ordered) = match source.access() {
        Access::Ranged { connections } => (connections.min(options.connections), false),
        Access::Ordered => (NonZeroUsize::MIN, true),
    };
    let mut restarts = Restarts::default();
    let mut retries = RetryBudget::new(options.retry, controls, &controls.cancel, activity, 0);
    loop {
        check(controls)?;
        controls.progress.begin(source.size());
        sink.prepare(source.size())?;
        let received = activity.bytes();
        let shared = Shared::new(source, sink, options, controls, activity, is_ordered);
        match pass::run(&shared, workers) {
            Err(error) if is_ordered => {
                let reached = activity.bytes() - received;
                let is_doubtful = error.kind().is_doubtful() && reached == 0;
                if !error.kind().is_transient() && !is_doubtful {
                    return Err(error);
                }
                if reached > 0 {
                    retries.start();
                    retries.reset();
                }
                retries.back_off_data(restarts.count(reached, error)?)?;
            }
            result => return result,
        }
    }
}

/// The restarts of a copy from an ordered source.
///
/// Such a source cannot be asked for the missing part, and nothing proves that a second answer is
/// the same object as the first. So every answer is taken whole or not at all: reading, writing
/// and the digest start again from the first byte, and bytes of two answers are never mixed. That
/// costs time with every error, so the copy is given up when passes in a row get no further than
/// one before.
#[derive(Debug, Default)]
struct Restarts {
    furthest: u64,
    without_progress: u32,
}

impl Restarts {
    /// Passes in a row that got no further than an earlier one before the copy is given up.
    const MAX_WITHOUT_PROGRESS: u32 = 5;

    /// Records a pass that ended after `reached` bytes with `error`; returns it unless it is time
    /// to give up.
    fn count(&mut self, reached: u64, error: Error) -> Result<Error, Error> {
        if reached > self.furthest {
            self.furthest = reached;
            self.without_progress = 0;
            return Ok(error);
        }
        self.without_progress += 1;
        // Passes without a byte are limited by the retry policy, not here.
        if reached == 0 || self.without_progress < Self::MAX_WITHOUT_PROGRESS {
            return Ok(error);
        }
        let text = format!(
            "gave up: the source sends no ranges, and {} answers in a row ended at or before byte {}",
            self.without_progress + 1,
            self.furthest
        );
        Err(Error::with_source(Kind::Exhausted, text, error))
    }
}

/// Checks the count of the bytes: threads that ended without an error do not prove that they did
/// all.
fn covers(in_place: u64, size: u64) -> Result<(), Error> {
    if in_place == size {
        return Ok(());
    }
    Err(Error::new(
        Kind::Internal,
        format!(
            "the copy ended with {in_place} of {size} bytes in place, which is a fault of this program"
        ),
    ))
}

/// Compares the digests where one was asked for. A digest without its counterpart proves nothing.
fn verify(computed: Option<Digest>, expected: Option<Digest>) -> Result<Option<Digest>, Error> {
    match (computed, expected) {
        (None, None) => Ok(None),
        (Some(computed), Some(expected)) if computed == expected => Ok(Some(computed)),
        (Some(computed), Some(expected)) => Err(Error::new(
            Kind::Hash,
            format!(
                "the source states {expected}, what was copied has {computed}: \
                 the image changed or was damaged on its way"
            ),
        )),
        (Some(_), None) | (None, Some(_)) => Err(Error::new(
            Kind::Internal,
            "one of two digests is missing, which is a fault of this program",
        )),
    }
}

fn check(controls: &Controls) -> Result<(), Error> {
    if controls.cancel.is_cancelled() {
        return Err(cancelled());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;

    #[test]
    fn a_digest_is_verified_by_its_equal_only() {
        let digest = |hex: &str| {
            Some(Digest {
                algorithm: Algorithm::Sha256,
                hex: hex.to_owned(),
            })
        };
        assert_eq!(verify(None, None).unwrap(), None);
        assert_eq!(verify(digest("a"), digest("a")).unwrap(), digest("a"));
        let kind = |computed, expected| verify(computed, expected).unwrap_err().kind();
        assert_eq!(kind(digest("a"), digest("b")), Kind::Hash);
        assert_eq!(kind(digest("a"), None), Kind::Internal);
        assert_eq!(kind(None, digest("a")), Kind::Internal);
    }

    #[test]
    fn a_copy_that_has_missed_a_byte_is_no_success() {
        assert!(covers(10, 10).is_ok());
        for in_place in [0, 9, 11] {
            let error = covers(in_place, 10).unwrap_err();
            assert_eq!(error.kind(), Kind::Internal);
        }
    }
}
