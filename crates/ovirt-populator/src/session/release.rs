//! Ending a transfer, well or otherwise, so that the disk is unlocked.

use contract::Exit;
use mover::{Failure, PollBackoff};
use tokio::time::{Instant, sleep, timeout};

use super::{
    AttemptEnd, DataPath, Session, is_transient,
    phase::{Closing, Ending, closing, ending},
    stopped,
};
use crate::engine::{DiskStatus, Engine, Error, TransferId};

/// What one poll of a transfer that is being finalized has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It has ended, and the disk is unlocked.
    Finished,
    /// The engine has accepted the request and works on it.
    Accepted,
    /// The poll gave no news.
    Nothing,
}

impl<E: Engine, D: DataPath> Session<'_, E, D> {
    /// Finalizes, and waits until the engine has finished. All data connections are closed by now:
    /// the engine cannot remove a ticket that is in use.
    ///
    /// Every step begins with the phase that the engine shows, and finalizes only when that phase
    /// asks for it. So a step is idempotent: after a lost answer the next one finds out whether the
    /// engine accepted the request.
    pub(super) async fn finish(&self, id: &TransferId) -> Result<(), AttemptEnd> {
        let since = Instant::now();
        let mut backoff = PollBackoff::new(self.timers.first_poll, self.timers.longest_poll);
        let mut accepted = false;
        loop {
            // A step is two calls: the phase, then the action or the state of the disk.
            match timeout(self.timers.call * 2, self.finish_step(id)).await {
                Ok(Ok(Seen::Finished)) => {
                    tracing::info!(transfer = %id, "the image transfer is finished; the disk is unlocked");
                    return Ok(());
                }
                Ok(Ok(Seen::Accepted)) => accepted = true,
                Ok(Ok(Seen::Nothing)) | Err(_) => {}
                Ok(Err(ended)) => return Err(ended),
            }
            // A stop does not end the wait at once: every byte is in place, and a finalize that the
            // engine has accepted makes this run a success. Without it the disk would stay locked,
            // so the step is repeated for as long as the stop leaves time.
            if self.stop.is_asked() {
                if accepted {
                    tracing::info!(
                        transfer = %id,
                        "asked to stop; every byte is in place and the engine has accepted the end of \
                         the transfer"
                    );
                    return Ok(());
                }
                if self.stop.time_left().is_zero() {
                    return Err(stopped());
                }
            }
            if since.elapsed() >= self.timers.finish {
                // Nothing is missing in the copy, and a new one would not unlock the disk.
                if accepted {
                    tracing::warn!(
                        transfer = %id,
                        disk = %self.disk,
                        "every byte is in place and the engine has accepted the end of the transfer, \
                         but has not finished it within {} s; the disk stays locked until it does",
                        self.timers.finish.as_secs()
                    );
                    return Ok(());
                }
                return Err(AttemptEnd::Failed(Failure::new(
                    Exit::SourceUnavailable,
                    format!(
                        "every byte is in place, but the engine has not accepted the end of the image \
                         transfer {id} within {} s, so that the disk may still be locked",
                        self.timers.finish.as_secs()
                    ),
                )));
            }
            tokio::select! {
                () = sleep(backoff.next_delay()) => {}
                () = self.stop.asked(), if !self.stop.is_asked() => {}
            }
        }
    }

    async fn finish_step(&self, id: &TransferId) -> Result<Seen, AttemptEnd> {
        let transfer = match self.engine.transfer(id).await {
            Ok(Some(transfer)) => transfer,
            // Forgotten, as engines before 4.4.7 do at once and others after minutes.
            Ok(None) => return self.finished_by_disk().await,
            Err(error) => return ignore_transient(error),
        };
        match closing(&transfer.phase) {
            Closing::Done => return Ok(Seen::Finished),
            Closing::Wait => return Ok(Seen::Accepted),
            Closing::Lost => {
                return Err(AttemptEnd::Lost(format!(
                    "the engine had it in phase {} before it was finalized",
                    transfer.phase
                )));
            }
            Closing::Finalize => {}
        }
        match self.engine.finalize(id).await {
            Ok(()) => Ok(Seen::Accepted),
            Err(error) => ignore_transient(error),
        }
    }

    /// Whether a transfer that the engine has forgotten ended well: the status of the disk shows
    /// it.
    async fn finished_by_disk(&self) -> Result<Seen, AttemptEnd> {
        match self.engine.disk(&self.disk).await {
            Ok(disk) if disk.status == DiskStatus::Ok => Ok(Seen::Finished),
            Ok(disk) if disk.status == DiskStatus::Illegal => {
                disk.ensure_transferable()?;
                Ok(Seen::Nothing)
            }
            Ok(_) => Ok(Seen::Accepted),
            Err(error) => ignore_transient(error),
        }
    }

    /// Gives a transfer up: has its cancellation accepted, unless it ends without one. Retries for
    /// a bounded time, logs the outcome, and never fails.
    pub(super) async fn abandon(&self, id: &TransferId) {
        let since = Instant::now();
        // After a stop, the process ends when the stop's time is over, whatever this transfer
        // needs.
        let left = || {
            let ours = self.timers.end.saturating_sub(since.elapsed());
            ours.min(self.stop.time_left())
        };
        let mut backoff = PollBackoff::new(self.timers.poll, self.timers.poll * 2);
        loop {
            let outcome = timeout(left().min(self.timers.call), self.abandon_step(id)).await;
            match outcome {
                Ok(Ok(what)) => {
                    tracing::info!(transfer = %id, "the image transfer {what}");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(transfer = %id, error = error.chain(), "cannot end the image transfer yet");
                }
                Err(_) => {
                    tracing::warn!(transfer = %id, "the engine does not answer; trying again");
                }
            }
            let pause = backoff.next_delay();
            if left() <= pause {
                break;
            }
            sleep(pause).await;
        }
        tracing::error!(
            transfer = %id,
            disk = %self.disk,
            "the image transfer could not be ended; the engine ends it by itself {} s after the last \
             read, and the disk stays locked until then",
            self.timers.inactivity.as_secs()
        );
    }

    async fn abandon_step(&self, id: &TransferId) -> Result<String, Error> {
        let Some(transfer) = self.engine.transfer(id).await? else {
            return Ok("is gone".into());
        };
        if ending(&transfer.phase) == Ending::Nothing {
            return Ok(format!("is in phase {} and ends by itself", transfer.phase));
        }
        self.engine.cancel(id).await?;
        Ok(format!(
            "was in phase {}; its cancellation is accepted",
            transfer.phase
        ))
    }
}

/// A transient error while the session waits for the end of a transfer changes nothing: it polls
/// again. Every other error ends the attempt.
fn ignore_transient(error: Error) -> Result<Seen, AttemptEnd> {
    if !is_transient(&error) {
        return Err(error.into());
    }
    tracing::warn!(
        error = error.chain(),
        "the engine does not answer; asking again"
    );
    Ok(Seen::Nothing)
}
