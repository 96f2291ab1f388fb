//! One pass over the disk: threads, what they share, and how they end together.
//!
//! # Why nothing waits for ever
//! Tasks are handed out in order of offset, by a [`Cursor`] that lets a worker go only with all the
//! buffers reserved that its task will need. So a worker waits for memory only while it holds none.
//! Buffers come back when they were written and, with a digest, hashed; the digest always waits for
//! the lowest offset that is not hashed yet, which belongs to a task that was handed out, whose
//! worker has its buffers and does not wait for anybody. It follows that the digest's memory is a
//! window of the disk that moves with the slowest connection.
//!
//! Whatever fails calls [`Pass::fail`], which stops the readers, the backoffs, the pool and
//! the sequence; a thread that panics does the same while it unwinds.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    thread,
};

use net::{Cancel, Clock};

use super::{
    activity::Activity,
    cursor::Cursor,
    pool::{BUFFER, Pool},
    retry_budget::{RetryBudget, cancelled},
    sequence::{Segment, Sequence},
    worker::Worker,
};
use crate::{
    Algorithm, Controls, Digest, Error, Kind, Options, Phase, Progress, Sink, Source, Verification,
    digest::Hasher,
};

/// Tries of [`Source::checksum`]: each may cost the server a reading of the whole disk.
const CHECKSUM_TRIES: u32 = 3;

/// Buffers that a task with a digest needs.
#[allow(clippy::cast_possible_truncation, reason = "two")]
const HASHED_TASK_BUFFERS: usize = super::HASHED_TASK.div_ceil(BUFFER as u64) as usize;

/// Longest run of zeroes that is hashed between two looks at the stop flag.
const ZERO_STEP: u64 = 64 << 20;

/// What a pass works on and with.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) sink: &'a dyn Sink,
    pub(super) options: &'a Options,
    pub(super) clock: &'a dyn Clock,
    pub(super) activity: &'a Activity<'a>,
    pub(super) progress: &'a Progress,
    pub(super) seed: u64,
    /// Pulled from outside, and by the first failure.
    pub(super) stop: Cancel,
    /// Whether the sink read as zero when the pass began.
    pub(super) is_blank: bool,
    /// One reader from start to end, whose errors end the pass.
    pub(super) is_ordered: bool,
    failure: Mutex<Option<Error>>,
}

/// How a pass ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Our digest, if one was computed.
    pub(super) computed: Option<Digest>,
    /// The digest that ours has to equal, if there is one.
    pub(super) expected: Option<Digest>,
    /// Memory of the buffers, in bytes.
    pub(super) buffer_bytes: u64,
}

impl<'a> Pass<'a> {
    /// A pass over `source`. Its stop flag is a child of the caller's.
    pub(super) fn new(
        source: &'a dyn Source,
        sink: &'a dyn Sink,
        options: &'a Options,
        controls: &'a Controls,
        activity: &'a Activity<'a>,
        is_ordered: bool,
    ) -> Self {
        Self {
            source,
            sink,
            options,
            clock: &*controls.clock,
            activity,
            progress: &controls.progress,
            seed: controls.seed,
            stop: controls.cancel.child(),
            is_blank: sink.is_blank(),
            is_ordered,
            failure: Mutex::default(),
        }
    }

    /// Reads, writes and hashes everything with `workers` connections.
    ///
    /// # Errors
    /// The most telling one; all threads have ended by then.
    pub(super) fn run(&self, workers: NonZeroUsize) -> Result<Outcome, Error> {
        let algorithm = match &self.options.verification {
            Verification::None => None,
            Verification::Stated(digest) => Some(digest.algorithm),
            Verification::Asked(algorithm) => Some(*algorithm),
        };
        let pool = Pool::new(buffers(workers, algorithm.is_some()));
        let sequence = algorithm.map(|_| Sequence::default());
        let cursor = Cursor::new(self, &pool, algorithm.is_some(), workers);
        let halt = || {
            self.stop.cancel();
            pool.close();
            if let Some(sequence) = &sequence {
                sequence.close();
            }
        };

        let outcome = thread::scope(|scope| {
            let hashing = sequence
                .as_ref()
                .zip(algorithm)
                .map(|(sequence, algorithm)| {
                    self.spawn(scope, "digest", halt, move || {
                        self.hash(sequence, algorithm)
                    })
                });
            let working: Vec<_> = (0..workers.get())
                .map(|index| {
                    let worker = Worker::new(self, &cursor, &pool, sequence.as_ref(), index as u64);
                    self.spawn(scope, &format!("copy-{index}"), halt, move || worker.run())
                })
                .collect();
            for thread in working {
                self.join(thread, halt);
            }
            if algorithm.is_some() && !self.stop.is_cancelled() {
                self.progress.enter(Phase::Verifying);
            }
            let expected = self.expected().unwrap_or_else(|error| {
                self.fail(error, halt);
                None
            });
            let computed = hashing.and_then(|thread| self.join(thread, halt));
            Outcome {
                computed,
                expected,
                buffer_bytes: pool.bytes(),
            }
        });
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match failure {
            Some(error) => Err(error),
            None if self.stop.is_cancelled() => Err(cancelled()),
            None => Ok(outcome),
        }
    }

    /// What a thread does before it touches the sink.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(cancelled());
        }
        Ok(())
    }

    pub(super) fn retry_budget(&'a self, salt: u64) -> RetryBudget<'a> {
        RetryBudget::new(
            self.options.retry,
            self.clock,
            &self.stop,
            self.activity,
            self.progress,
            self.seed.wrapping_add(salt),
        )
    }

    /// Keeps the most telling error and stops everything.
    fn fail(&self, error: Error, halt: impl Fn()) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let is_worse = failure
            .as_ref()
            .is_none_or(|known| severity(error.kind()) > severity(known.kind()));
        if is_worse {
            *failure = Some(error);
        }
        drop(failure);
        halt();
    }

    fn spawn<'scope, 'env, T: Send + 'scope>(
        &'scope self,
        scope: &'scope thread::Scope<'scope, 'env>,
        name: &str,
        halt: impl Fn() + Copy + Send + 'scope,
        work: impl FnOnce() -> Result<T, Error> + Send + 'scope,
    ) -> Option<thread::ScopedJoinHandle<'scope, Option<T>>> {
        let body = move || {
            let bell = Bell(halt);
            let result = work();
            drop(bell);
            match result {
                Ok(value) => Some(value),
                Err(error) => {
                    self.fail(error, halt);
                    None
                }
            }
        };
        match thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, body)
        {
            Ok(thread) => Some(thread),
            Err(error) => {
                let text = format!("cannot start the thread {name:?}");
                self.fail(Error::with_source(Kind::Internal, text, error), halt);
                None
            }
        }
    }

    /// Waits for a thread; a panic in it is a failure of the pass.
    fn join<T>(
        &self,
        thread: Option<thread::ScopedJoinHandle<'_, Option<T>>>,
        halt: impl Fn(),
    ) -> Option<T> {
        let Ok(value) = thread?.join() else {
            self.fail(
                Error::new(Kind::Internal, "a thread of the copy panicked"),
                halt,
            );
            return None;
        };
        value
    }

    /// The digest thread.
    fn hash(&self, sequence: &Sequence<'_>, algorithm: Algorithm) -> Result<Digest, Error> {
        let size = self.source.size();
        let mut hasher = Hasher::new(algorithm);
        let mut offset = 0;
        while offset < size {
            match sequence.take(offset) {
                None => return Err(cancelled()),
                Some(Segment::Data(lease, length)) => {
                    hasher.update(lease.bytes().get(..length).unwrap_or_default());
                    offset += length as u64;
                }
                Some(Segment::Zero(length)) => {
                    let end = offset + length;
                    while offset < end {
                        self.check()?;
                        let step = (end - offset).min(ZERO_STEP);
                        hasher.zeroes(step);
                        offset += step;
                    }
                }
            }
        }
        Ok(hasher.finish())
    }

    /// What our digest has to equal. A source is asked right after the last byte was read, while the
    /// rest is hashed: a server that finds its client idle may end the transfer by itself.
    fn expected(&self) -> Result<Option<Digest>, Error> {
        let algorithm = match &self.options.verification {
            _ if self.stop.is_cancelled() => return Ok(None),
            Verification::None => return Ok(None),
            Verification::Stated(digest) => return Ok(Some(digest.clone())),
            Verification::Asked(algorithm) => *algorithm,
        };
        let mut retries = self.retry_budget(u64::MAX);
        for _ in 1..CHECKSUM_TRIES {
            retries.start();
            match self.source.checksum(algorithm, &self.stop) {
                Ok(hex) => return Ok(Some(Digest { algorithm, hex })),
                Err(error) => retries.back_off(error)?,
            }
        }
        let hex = self
            .source
            .checksum(algorithm, &self.stop)
            .map_err(|error| {
                if self.stop.is_cancelled() || !error.kind().is_transient() {
                    return error;
                }
                let text = format!("the source gave no checksum in {CHECKSUM_TRIES} tries");
                Error::with_source(Kind::Exhausted, text, error)
            })?;
        Ok(Some(Digest { algorithm, hex }))
    }
}

/// Rings when its thread unwinds, so that nobody waits for a thread that is no more.
struct Bell<F: Fn()>(F);

impl<F: Fn()> Drop for Bell<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0();
        }
    }
}

/// How many buffers a pass may have. Without a digest, one for each worker; with one, each task in
/// work has its own, and one more task may wait, so that a short delay of one connection does not
/// hold the others.
fn buffers(workers: NonZeroUsize, hashing: bool) -> usize {
    if hashing {
        return (workers.get() + 1) * HASHED_TASK_BUFFERS;
    }
    workers.get()
}

/// Which of two errors is told. Stopped threads know nothing; what the target says is not hidden by
/// what its failure does to the source; of equals, the first.
const fn severity(kind: Kind) -> u8 {
    match kind {
        Kind::Cancelled => 0,
        Kind::Network
        | Kind::Stalled
        | Kind::Busy
        | Kind::Expired
        | Kind::Exhausted
        | Kind::Lost
        | Kind::Configuration
        | Kind::Credentials
        | Kind::Permission
        | Kind::Missing
        | Kind::Unusable
        | Kind::Protocol
        | Kind::Tls
        | Kind::Hash => 1,
        Kind::TargetTooSmall
        | Kind::TargetDenied
        | Kind::TargetFull
        | Kind::TargetIo
        | Kind::TargetExists => 2,
        Kind::Internal => 3,
    }
}
