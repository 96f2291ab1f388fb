//! One pass over the disk: its threads, and how they end together.
//!
//! # Three stages
//! Workers read, writers write, and the digest hashes, each on threads of its own, so that a slow stage
//! does not wait for another one. Where several connections copy without a digest, each worker writes what
//! it has read: their reading and writing overlap anyway, and a buffer that changes hands costs more.
//!
//! # Why nothing waits for ever
//! A worker waits for memory only while it holds none, and [`super::pool`] says why it gets some. A buffer
//! that was filled goes through the writers, which wait for nothing but the target, to the digest; that
//! waits for the lowest offset that is not hashed yet, which belongs to a task that was handed out, whose
//! worker owns the frontier. It follows that the digest's memory is a window of the disk that moves with
//! the slowest connection.
//!
//! The block hash is one of blocks in any order: several workers hash what they have read, and copy as without
//! a digest.
//!
//! A source that computes its checksum beside the copy is asked for it on one more thread ([`checksum`]).
//!
//! Whatever fails calls [`Threads::fail`], which stops the readers, the backoffs, the pool, the writers and
//! the sequence; a thread that panics does the same while it unwinds.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    thread,
};

use super::{
    blocks::HashedBlocks,
    checksum,
    cursor::{Cursor, Lengths},
    pool::Pool,
    retry_budget::cancelled,
    sequence::{Segment, Sequence},
    shared::Shared,
    worker::{Output, Worker},
    writes::Writes,
};
use crate::{
    Algorithm, Digest, Error, Kind, Options, Phase, Verification,
    digest::{BlockDigests, Hasher},
};

/// Buffers of one connection with writers: two are read into and written, the others make up for
/// stages that take turns at being slow.
const BUFFERS: usize = 4;

/// Most buffers with a digest, unless there are so many connections that each could not have two: the
/// window of the disk in which connections work at a time.
const MOST_HASHED: usize = 16;

/// Longest run of zeroes that is hashed between two checks of the stop flag.
const ZERO_STEP: u64 = 64 << 20;

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

/// Reads, writes and hashes everything with `workers` connections, or fewer where the source answers no
/// more beside its checksum.
///
/// # Errors
/// The most telling one; all threads have ended by then.
pub(super) fn run(shared: &Shared<'_>, workers: NonZeroUsize) -> Result<Outcome, Error> {
    let algorithm = algorithm(shared.options);
    let workers = checksum::readers(shared).map_or(workers, |most| workers.min(most));
    run_with(
        shared,
        workers,
        buffers(workers, algorithm.is_some()),
        algorithm,
    )
}

fn run_with(
    shared: &Shared<'_>,
    workers: NonZeroUsize,
    buffers: usize,
    algorithm: Option<Algorithm>,
) -> Result<Outcome, Error> {
    let is_alone = workers == NonZeroUsize::MIN;
    let by_workers = hashed_by_workers(workers, algorithm);
    let in_order = algorithm.filter(|_| !by_workers);
    let pool = match in_order {
        Some(_) if !is_alone => Pool::in_order(buffers, workers.get()),
        _ => Pool::new(buffers),
    };
    let lengths = lengths(workers, algorithm);
    let writing = if is_alone || in_order.is_some() {
        workers.get()
    } else {
        0
    };
    let digests = by_workers.then(BlockDigests::new);
    let sequence = in_order.map(|_| Sequence::default());
    let queue = Writes::new();
    let cursor = Cursor::new(shared, &pool, lengths);
    let halt = || {
        shared.stop.cancel();
        pool.close();
        queue.close();
        if let Some(sequence) = &sequence {
            sequence.close();
        }
    };
    let threads = Threads {
        halt: &halt,
        failure: Mutex::default(),
    };

    // Pulled once nothing is read any more.
    let copied = shared.stop.child();
    let outcome = thread::scope(|scope| {
        // Before the workers, so that it is under way while they read.
        let asking = checksum::readers(shared).map(|_| {
            let copied = &copied;
            threads.spawn(scope, "checksum", move || checksum::ask(shared, copied))
        });
        let hashing = sequence
            .as_ref()
            .zip(in_order)
            .map(|(sequence, algorithm)| {
                let pool = &pool;
                threads.spawn(scope, "digest", move || {
                    hash(shared, pool, sequence, algorithm)
                })
            });
        let working: Vec<_> = (0..workers.get())
            .map(|index| {
                let output = if writing > 0 {
                    Output::Writers(queue.handle())
                } else {
                    Output::Target(None)
                };
                let sequence = sequence.as_ref();
                let blocks = digests
                    .as_ref()
                    .map(|digests| HashedBlocks::new(shared, digests));
                let salt = index as u64;
                let worker = Worker::new(shared, &cursor, &pool, sequence, output, blocks, salt);
                threads.spawn(scope, &format!("copy-{index}"), move || worker.run())
            })
            .collect();
        // After the workers, so that there are readers.
        let writers: Vec<_> = (0..writing)
            .map(|index| {
                let (queue, sequence) = (&queue, sequence.as_ref());
                threads.spawn(scope, &format!("write-{index}"), move || {
                    queue.run(shared, sequence)
                })
            })
            .collect();
        for thread in working.into_iter().chain(writers) {
            threads.join(thread);
        }
        if algorithm.is_some() && !shared.stop.is_cancelled() {
            shared.controls.progress.enter(Phase::Verifying);
        }
        copied.cancel();
        let tries = checksum::TRIES - u32::from(asking.is_some());
        let asked = asking.and_then(|thread| threads.join(thread)).flatten();
        let expected = checksum::expected(shared, asked, tries).unwrap_or_else(|error| {
            threads.fail(error);
            None
        });
        let computed = hashing.and_then(|thread| threads.join(thread));
        Outcome {
            computed,
            expected,
            buffer_bytes: pool.bytes(),
        }
    });
    match threads.failure() {
        Some(error) => Err(error),
        None if shared.stop.is_cancelled() => Err(cancelled()),
        None => Ok(Outcome {
            computed: digests
                .and_then(|digests| digests.finish(shared.source.size()))
                .or(outcome.computed),
            ..outcome
        }),
    }
}

/// What decides the length of ranges.
fn lengths(workers: NonZeroUsize, algorithm: Option<Algorithm>) -> Lengths {
    match algorithm {
        _ if workers == NonZeroUsize::MIN => Lengths::Whole,
        Some(_) if hashed_by_workers(workers, algorithm) => Lengths::Blocks(workers),
        Some(_) => Lengths::Paced,
        None => Lengths::Guided(workers),
    }
}

/// Length of the first range of data.
pub(super) fn first_range(size: u64, options: &Options) -> u64 {
    lengths(options.connections, algorithm(options)).first(size)
}

const fn algorithm(options: &Options) -> Option<Algorithm> {
    match &options.verification {
        Verification::None => None,
        Verification::Stated(digest) => Some(digest.algorithm),
        Verification::Asked(algorithm) => Some(*algorithm),
    }
}

/// Whether the digest is one of blocks, of which each worker of several hashes its own.
fn hashed_by_workers(workers: NonZeroUsize, algorithm: Option<Algorithm>) -> bool {
    algorithm == Some(Algorithm::Blkhash) && workers > NonZeroUsize::MIN
}

/// The threads of a pass: what ends one of them ends all.
struct Threads<'a> {
    /// Ends every wait of every thread.
    halt: &'a (dyn Fn() + Sync),
    failure: Mutex<Option<Error>>,
}

impl Threads<'_> {
    fn spawn<'scope, T: Send + 'scope>(
        &'scope self,
        scope: &'scope thread::Scope<'scope, '_>,
        name: &str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'scope,
    ) -> Option<thread::ScopedJoinHandle<'scope, Option<T>>> {
        let body = move || {
            let guard = HaltOnPanic(self.halt);
            let result = work();
            drop(guard);
            match result {
                Ok(value) => Some(value),
                Err(error) => {
                    self.fail(error);
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
                self.fail(Error::with_source(Kind::Internal, text, error));
                None
            }
        }
    }

    /// Waits for a thread; a panic in it is a failure of the pass.
    fn join<T>(&self, thread: Option<thread::ScopedJoinHandle<'_, Option<T>>>) -> Option<T> {
        let Ok(value) = thread?.join() else {
            self.fail(Error::new(Kind::Internal, "a thread of the copy panicked"));
            return None;
        };
        value
    }

    /// The most telling error, once all threads have ended.
    fn failure(&self) -> Option<Error> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }

    /// Keeps the most telling error and stops everything.
    fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let is_worse = failure
            .as_ref()
            .is_none_or(|known| severity(error.kind()) > severity(known.kind()));
        if is_worse {
            *failure = Some(error);
        }
        drop(failure);
        (self.halt)();
    }
}

/// Halts the pass when its thread unwinds, so that no thread waits for one that has ended.
struct HaltOnPanic<'a>(&'a (dyn Fn() + Sync));

impl Drop for HaltOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

/// The digest thread.
fn hash(
    shared: &Shared<'_>,
    pool: &Pool,
    sequence: &Sequence<'_>,
    algorithm: Algorithm,
) -> Result<Digest, Error> {
    let (size, clock) = (shared.source.size(), &shared.controls.clock);
    let mut hasher = Hasher::new(algorithm);
    let (mut offset, mut idle_since) = (0, None);
    while offset < size {
        let segment = sequence.take(offset).ok_or_else(cancelled)?;
        let begun = clock.now();
        // The time before the first byte says nothing about the pace.
        let waited = begun.saturating_sub(idle_since.unwrap_or(begun));
        let data = match segment {
            Segment::Data(lease, length) => {
                hasher.update(lease.bytes().get(..length).unwrap_or_default());
                offset += length as u64;
                length as u64
            }
            Segment::Zero(length) => {
                let end = offset + length;
                while offset < end {
                    shared.check()?;
                    let step = (end - offset).min(ZERO_STEP);
                    hasher.zeroes(step);
                    offset += step;
                }
                0
            }
        };
        let ended = clock.now();
        pool.hashed(offset, data, waited, ended.saturating_sub(begun));
        idle_since = Some(ended);
    }
    Ok(hasher.finish())
}

/// How many buffers a pass may have.
fn buffers(workers: NonZeroUsize, hashing: bool) -> usize {
    let workers = workers.get();
    match (workers, hashing) {
        (1, _) => BUFFERS,
        (_, false) => workers,
        (_, true) => (BUFFERS * workers).min(MOST_HASHED).max(2 * (workers + 1)),
    }
}

/// Which of two errors is reported. Stopped threads know nothing; what the target says is not
/// hidden by what its failure does to the source; of equals, the first.
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

#[cfg(test)]
mod tests;
