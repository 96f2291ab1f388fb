//! The life of one disk's transfer: asked for, read, finalized; or given up so that the disk is not
//! left locked.
//!
//! ```text
//! acquire -> open -> copy -> finish
//!    |         |       |        |
//!    +---------+-------+--------+--> abandon; a lost transfer starts over with a new one
//! ```
//!
//! A lost transfer means a new one *and a new copy*: the disk was unlocked between the two, so
//! bytes that were read before may be older than those read after.

mod acquire;
mod data;
pub mod phase;
mod release;
mod timers;

use std::{pin::pin, time::Duration};

use contract::Exit;
use mover::{Failure, PollBackoff, Stop};
use tokio::time::{Instant, sleep, timeout};
use transfer::{Report, source::Ticket};

pub use data::{DataPath, Imageio, TransferLost};
pub use timers::Timers;

use crate::engine::{DiskId, Engine, Error, ImageTransfer, Kind, TransferId};

/// One run's session with the engine about one disk.
#[derive(Debug)]
pub struct Session<'a, E, D> {
    /// The client of the engine.
    pub engine: &'a E,
    /// The data path, which reads a ticket and writes the target.
    pub data: &'a D,
    /// The disk that is copied.
    pub disk: DiskId,
    /// Its size in bytes when it was looked up.
    pub size: u64,
    /// How many bytes the target holds.
    pub capacity: u64,
    /// The session's time limits.
    pub timers: Timers,
    /// Says when the run is asked to stop.
    pub stop: Stop,
}

/// How an attempt ends without success.
#[derive(Debug)]
enum AttemptEnd {
    /// The transfer is lost; a new one may succeed.
    Lost(String),
    /// The run has failed.
    Failed(Failure),
}

impl<E: Engine, D: DataPath> Session<'_, E, D> {
    /// Copies the disk; makes new transfers when one is lost. Whatever the outcome, no transfer of
    /// this run is left open unless the engine cannot be reached, which the log says.
    ///
    /// # Errors
    /// When the run is stopped, an error is not transient, or its retry budget is used up.
    pub async fn run(&self) -> Result<Report, Failure> {
        let (mut lost, mut lost_with_data) = (0_u32, 0_u32);
        let mut moved = Instant::now();
        let backoff = || PollBackoff::new(self.timers.poll, self.timers.longest_renewal);
        let mut pauses = backoff();
        loop {
            let received = self.data.received();
            let why = match self.attempt().await {
                Ok(report) => return Ok(report),
                Err(AttemptEnd::Failed(failure)) => return Err(failure),
                Err(AttemptEnd::Lost(why)) => why,
            };
            lost += 1;
            if self.data.received() != received {
                lost_with_data += 1;
                (moved, pauses) = (Instant::now(), backoff());
            }
            let spent = moved.elapsed();
            let left = self.timers.no_progress.saturating_sub(spent);
            if lost_with_data >= self.timers.attempts || left.is_zero() {
                let end = if left.is_zero() {
                    format!("gave up after {} s without data", spent.as_secs())
                } else {
                    format!("gave up after {lost_with_data} that were read from")
                };
                return Err(Failure::new(
                    Exit::SourceUnavailable,
                    format!(
                        "{lost} image transfers of the disk {} were lost, the last because {why}; {end}",
                        self.disk
                    ),
                ));
            }
            tracing::warn!(
                disk = %self.disk,
                lost,
                "the image transfer was lost: {why}; the disk was unlocked since, so the copy starts \
                 over with a new transfer"
            );
            // The engine takes a transfer back at once while its host is in trouble.
            let pause = pauses.next_delay().min(left);
            if let Err(AttemptEnd::Failed(failure)) = self.pause(pause).await {
                return Err(failure);
            }
        }
    }

    /// Makes a transfer, tests the way to its data, and ends it: the preflight that locks the disk
    /// for a moment. What is returned knows the disk's zeroes; its data can be read no more.
    ///
    /// # Errors
    /// As [`Session::run`], but a lost transfer is not replaced.
    pub async fn dry_run(&self) -> Result<D::Source, Failure> {
        let failed = |ended| match ended {
            AttemptEnd::Failed(failure) => failure,
            AttemptEnd::Lost(why) => Failure::new(
                Exit::SourceUnavailable,
                format!(
                    "the image transfer of the disk {} was lost: {why}",
                    self.disk
                ),
            ),
        };
        let transfer = self.acquire().await.map_err(failed)?;
        let opened = self.open(&transfer).await;
        self.abandon(&transfer.id).await;
        opened.map_err(failed)
    }

    async fn attempt(&self) -> Result<Report, AttemptEnd> {
        let transfer = self.acquire().await?;
        let outcome = match self.copy(&transfer).await {
            Ok(report) => self.finish(&transfer.id).await.map(|()| report),
            Err(ended) => Err(ended),
        };
        if outcome.is_err() {
            self.abandon(&transfer.id).await;
        }
        outcome
    }

    /// Opens the source at the host's daemon or, where that cannot be reached or is not trusted,
    /// through the engine's proxy.
    async fn open(&self, transfer: &ImageTransfer) -> Result<D::Source, AttemptEnd> {
        let size = self.locked_size().await?;
        let ways: Vec<(&str, &Ticket)> = [
            ("the host's imageio daemon", &transfer.transfer_url),
            ("the engine's imageio proxy", &transfer.proxy_url),
        ]
        .into_iter()
        .filter_map(|(name, ticket)| Some((name, ticket.as_ref()?)))
        .collect();
        let since = Instant::now();
        let mut backoff = PollBackoff::new(self.timers.poll, self.timers.longest_locked_poll);
        loop {
            let mut transient = false;
            let mut reasons = Vec::new();
            let mut last = None;
            for (name, ticket) in &ways {
                let opened = self.data.open((*ticket).clone(), size);
                let error = match self.or_stop(opened).await? {
                    Ok(source) => {
                        tracing::info!(transfer = %transfer.id, ticket = ?ticket, "reading from {name}");
                        return Ok(source);
                    }
                    Err(error) => error,
                };
                match error.kind() {
                    transfer::Kind::Network | transfer::Kind::Stalled | transfer::Kind::Busy => {
                        transient = true;
                    }
                    transfer::Kind::Tls | transfer::Kind::Configuration => {}
                    _ => return Err(of_copy(error)),
                }
                tracing::warn!(transfer = %transfer.id, error = error.chain(), "cannot read from {name}");
                reasons.push(format!("{name}: {}", error.chain()));
                last = Some(error);
            }
            let spent = since.elapsed();
            let Some(last) = last else {
                return Err(AttemptEnd::Failed(Failure::new(
                    Exit::SourceProtocol,
                    format!("the image transfer {} has no URL to read from", transfer.id),
                )));
            };
            if !transient || spent >= self.timers.no_progress {
                return Err(AttemptEnd::Failed(Failure::new(
                    Failure::from(last).exit(),
                    reasons.join("; "),
                )));
            }
            self.pause(backoff.next_delay()).await?;
            // The ticket is not used meanwhile, so the engine may end the transfer before the daemon
            // can be reached.
            match self.still_alive(&transfer.id).await {
                Err(AttemptEnd::Lost(why)) => {
                    let reasons = reasons.join("; ");
                    let why = format!("{why}, since no data could be read: {reasons}");
                    return Err(AttemptEnd::Lost(why));
                }
                alive => alive?,
            }
        }
    }

    /// The size of the disk now that the transfer locks it: it may have been extended while the run
    /// waited for the lock, or between two transfers.
    async fn locked_size(&self) -> Result<u64, AttemptEnd> {
        let looked = timeout(self.timers.call, self.engine.disk(&self.disk));
        let disk = match self.unless_stopped(looked).await? {
            Ok(Ok(disk)) => disk,
            Ok(Err(error)) if !is_transient(&error) => return Err(error.into()),
            outcome => {
                let why = match outcome {
                    Ok(Err(error)) => error.chain(),
                    _ => "no answer in time".to_owned(),
                };
                tracing::warn!(disk = %self.disk, "the disk's size could not be read again: {why}");
                return Ok(self.size);
            }
        };
        disk.ensure_transferable()?;
        if disk.size > self.capacity {
            return Err(AttemptEnd::Failed(Failure::new(
                Exit::TargetTooSmall,
                format!(
                    "the disk {} was extended from {} to {} bytes, but the target holds only {}; \
                     give a target of its new size",
                    net::quoted(&disk.name),
                    self.size,
                    disk.size,
                    self.capacity
                ),
            )));
        }
        if disk.size != self.size {
            tracing::info!(disk = %self.disk, before = self.size, now = disk.size, "the disk's size has changed");
        }
        Ok(disk.size)
    }

    /// Reads everything, and polls the transfer meanwhile: a host that does not come back cannot
    /// report that the engine has ended the transfer.
    async fn copy(&self, transfer: &ImageTransfer) -> Result<Report, AttemptEnd> {
        let source = self.open(transfer).await?;
        let lost = TransferLost::default();
        let watch = async {
            loop {
                sleep(self.timers.watch).await;
                if let Err(AttemptEnd::Lost(why)) = self.still_alive(&transfer.id).await {
                    lost.set(why);
                    return std::future::pending::<()>().await;
                }
            }
        };
        let copy = self.or_stop(self.data.copy(source, lost.clone()));
        tokio::select! {
            copied = copy => copied?.map_err(of_copy),
            () = watch => Err(AttemptEnd::Lost("the engine ended it".into())),
        }
    }

    async fn still_alive(&self, id: &TransferId) -> Result<(), AttemptEnd> {
        match self.engine.transfer(id).await {
            Ok(Some(transfer)) if !phase::is_alive(&transfer.phase) => Err(AttemptEnd::Lost(
                format!("the engine has it in phase {}", transfer.phase),
            )),
            // Engines before 4.4.7 forget a transfer as soon as it is finished; the daemon then
            // decides whether data can be read.
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(error = error.chain(), "the phase is not known");
                Ok(())
            }
        }
    }

    /// Waits for blocking work that ends by itself after a stop; from the stop on for a bounded
    /// time, since a target that hangs must not keep the source's disk locked.
    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, AttemptEnd> {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = self.stop.asked() => {}
        }
        timeout(self.timers.in_flight, work)
            .await
            .map_err(|_| stopped())
    }

    /// Sleeps, or fails when the run is asked to stop.
    async fn pause(&self, period: Duration) -> Result<(), AttemptEnd> {
        self.unless_stopped(sleep(period)).await
    }

    /// Does work that can be dropped at any moment, or fails when the run is asked to stop.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, AttemptEnd> {
        tokio::select! {
            biased;
            () = self.stop.asked() => Err(stopped()),
            done = work => Ok(done),
        }
    }
}

/// Whether the engine may answer the same request later.
fn is_transient(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::Unreachable | Kind::AnswerLost | Kind::Busy
    )
}

fn stopped() -> AttemptEnd {
    AttemptEnd::Failed(Failure::new(Exit::Terminated, "stopped from outside"))
}

fn of_copy(error: transfer::Error) -> AttemptEnd {
    if error.kind() == transfer::Kind::Lost {
        return AttemptEnd::Lost(error.chain());
    }
    AttemptEnd::Failed(error.into())
}

impl From<Error> for AttemptEnd {
    fn from(error: Error) -> Self {
        if error.kind() == Kind::Lost {
            return Self::Lost(error.chain());
        }
        Self::Failed(error.into())
    }
}
