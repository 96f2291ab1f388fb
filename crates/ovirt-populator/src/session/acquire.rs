//! Getting a transfer that data can be read from.

use std::{collections::HashSet, time::Duration};

use contract::Exit;
use mover::{Failure, PollBackoff};
use tokio::time::{Instant, timeout};

use super::{
    AttemptEnd, DataPath, Session,
    phase::{Ending, Opening, ending, opening},
    stopped,
};
use crate::engine::{DiskStatus, Engine, Error, ImageTransfer, Kind, NewTransfer, TransferId};

/// What is known after an answer was lost.
enum Recovered {
    /// The transfer was made, and this is it.
    Ours(Box<ImageTransfer>),
    /// Nothing holds the disk: the request did not arrive, or its transfer is over already.
    Free,
    /// Something holds the disk, and may or may not be ours.
    Held(String),
}

/// Since when the engine has refused or not answered, and when the log last said so.
#[derive(Default)]
struct WaitState {
    busy_since: Option<Instant>,
    unreachable_since: Option<Instant>,
    logged_at: Option<Instant>,
}

impl<E: Engine, D: DataPath> Session<'_, E, D> {
    /// Makes a transfer and waits until data can be read from it.
    pub(super) async fn acquire(&self) -> Result<ImageTransfer, AttemptEnd> {
        let created = self.create().await?;
        let id = created.id.clone();
        tracing::info!(
            transfer = %id,
            disk = %self.disk,
            phase = %created.phase,
            "the engine has made an image transfer; the disk is locked until it ends"
        );
        let ready = self.ready(created).await;
        if ready.is_err() {
            self.abandon(&id).await;
        }
        ready
    }

    /// Asks for a transfer until there is one. If the wait ends without one, searches once more for
    /// what a lost answer may have made.
    async fn create(&self) -> Result<ImageTransfer, AttemptEnd> {
        // Taken before the first POST: only a transfer that is missing here can be this run's.
        let known = self.unless_stopped(self.transfers_of_disk()).await?;
        let known: Option<HashSet<TransferId>> = known
            .ok()
            .map(|all| all.into_iter().map(|one| one.id).collect());
        let mut lost = false;
        let created = self.ask(known.as_ref(), &mut lost).await;
        if created.is_err() && lost {
            self.abandon_unknown(known.as_ref()).await;
        }
        created
    }

    /// Retries the POST with backoff, but never blindly after an answer was lost.
    async fn ask(
        &self,
        known: Option<&HashSet<TransferId>>,
        lost: &mut bool,
    ) -> Result<ImageTransfer, AttemptEnd> {
        let mut waits = WaitState::default();
        let mut backoff = PollBackoff::new(self.timers.poll, self.timers.longest_locked_poll);
        loop {
            // The POST is not idempotent: each one that arrives makes a transfer. After a lost
            // answer the engine may already have a transfer of this run. The engine refuses a
            // second POST while the first transfer locks the disk, and nothing reads from that
            // transfer. So the POST is repeated only when nothing holds the disk.
            let recovered = if *lost {
                self.unless_stopped(self.recover(known)).await?
            } else {
                Ok(Recovered::Free)
            };
            let error = match recovered {
                Ok(Recovered::Ours(transfer)) => {
                    tracing::info!(transfer = %transfer.id, "found the transfer whose answer was lost");
                    return Ok(*transfer);
                }
                Ok(Recovered::Held(why)) => Error::new(Kind::Busy, why),
                Err(error) => error,
                Ok(Recovered::Free) => match self.post(lost).await? {
                    Ok(transfer) => return Ok(transfer),
                    Err(error) => error,
                },
            };
            *lost |= error.kind() == Kind::AnswerLost;
            // The last delay ends at the limit: the run uses all of its time, and no more.
            let left = self.wait_or_fail(error, &mut waits).await?;
            self.pause(backoff.next_delay().min(left)).await?;
        }
    }

    /// One request for a transfer. If the run is asked to stop meanwhile, it waits a little for the
    /// answer, since only the answer names the transfer to cancel.
    async fn post(&self, lost: &mut bool) -> Result<Result<ImageTransfer, Error>, AttemptEnd> {
        if self.stop.is_asked() {
            return Err(stopped());
        }
        let new = NewTransfer {
            disk: self.disk.clone(),
            inactivity_timeout: self.timers.inactivity.as_secs().max(1),
        };
        let mut create = std::pin::pin!(self.engine.create(&new));
        tokio::select! {
            biased;
            answer = &mut create => return Ok(answer),
            () = self.stop.asked() => {}
        }
        match timeout(self.timers.in_flight, create).await {
            Ok(Ok(transfer)) => {
                self.abandon(&transfer.id).await;
            }
            Ok(Err(error)) if error.kind() != Kind::AnswerLost => {}
            _ => *lost = true,
        }
        Err(stopped())
    }

    /// Gives up what a request without an answer may have made, if it is certainly ours.
    async fn abandon_unknown(&self, known: Option<&HashSet<TransferId>>) {
        let limit = self.timers.call.min(self.stop.time_left());
        let recovered = timeout(limit, self.recover(known)).await;
        if let Ok(Ok(Recovered::Ours(transfer))) = recovered {
            return self.abandon(&transfer.id).await;
        }
        tracing::warn!(
            disk = %self.disk,
            "the engine may still make a transfer that was asked for; it ends that by itself {} s \
             after its start, since nothing is read from it",
            self.timers.inactivity.as_secs()
        );
    }

    /// Logs why there is no transfer yet and returns the time that is left; fails when that time is
    /// used up or the error is not transient.
    ///
    /// An engine that refuses answers, which ends an outage: the next outage gets the whole limit.
    /// The limit for a locked disk counts from the first refusal, outages included.
    async fn wait_or_fail(
        &self,
        error: Error,
        waits: &mut WaitState,
    ) -> Result<Duration, AttemptEnd> {
        let now = Instant::now();
        let (since, limit) = match error.kind() {
            Kind::Busy => {
                waits.unreachable_since = None;
                (
                    *waits.busy_since.get_or_insert(now),
                    self.timers.locked_wait,
                )
            }
            Kind::Unreachable | Kind::AnswerLost => (
                *waits.unreachable_since.get_or_insert(now),
                self.timers.no_progress,
            ),
            _ => return Err(error.into()),
        };
        let spent = now - since;
        if spent >= limit {
            let failure = Failure::from(error);
            return Err(AttemptEnd::Failed(
                failure.context(format!("gave up after {} s", spent.as_secs())),
            ));
        }
        // Once at first, then twice a minute.
        let quiet = waits
            .logged_at
            .is_some_and(|logged_at| now - logged_at < Duration::from_secs(30));
        if quiet {
            return Ok(limit.saturating_sub(spent));
        }
        waits.logged_at = Some(now);
        let holders = if error.kind() == Kind::Busy {
            self.holders().await
        } else {
            String::new()
        };
        tracing::warn!(
            disk = %self.disk,
            waited_seconds = spent.as_secs(),
            limit_seconds = limit.as_secs(),
            "waiting: {}{holders}",
            error.chain()
        );
        Ok(limit.saturating_sub(spent))
    }

    /// Who holds the disk, as far as this user may see it.
    async fn holders(&self) -> String {
        let listed = timeout(self.timers.call, self.transfers_of_disk()).await;
        let Ok(Ok(transfers)) = listed else {
            return String::new();
        };
        if transfers.is_empty() {
            return "; no image transfer of the disk is visible, so a move, a snapshot or another \
                    user's transfer may hold it"
                .to_owned();
        }
        transfers.iter().map(holder).collect()
    }

    /// Unfinished transfers of our disk.
    async fn transfers_of_disk(&self) -> Result<Vec<ImageTransfer>, Error> {
        let mut transfers = self.engine.transfers().await?;
        transfers.retain(|transfer| {
            transfer.disk.as_deref() == Some(self.disk.as_str()) && !transfer.phase.is_finished()
        });
        Ok(transfers)
    }

    /// Looks for the transfer of a request whose answer was lost.
    ///
    /// Ours is the one transfer of the disk that did not exist before the request and is exactly
    /// what was asked for. Without a list from before, it cannot be distinguished from another
    /// client's.
    async fn recover(&self, known: Option<&HashSet<TransferId>>) -> Result<Recovered, Error> {
        let held = match self.transfers_of_disk().await {
            Ok(transfers) => transfers,
            Err(error) if error.kind() == Kind::Permission => Vec::new(),
            Err(error) => return Err(error),
        };
        let asked = self.timers.inactivity.as_secs().max(1);
        let is =
            |word: &Option<String>, wanted: &str| word.as_deref().is_none_or(|word| word == wanted);
        let ours = |transfer: &&ImageTransfer| {
            known.is_some_and(|known| !known.contains(&transfer.id))
                && transfer.direction.as_deref() == Some("download")
                && is(&transfer.format, "raw")
                && is(&transfer.timeout_policy, "cancel")
                && transfer.inactivity_timeout == Some(asked)
        };
        if let [transfer] = held.as_slice()
            && ours(&transfer)
        {
            return Ok(Recovered::Ours(Box::new(transfer.clone())));
        }
        if let Some(transfer) = held.first() {
            return Ok(Recovered::Held(format!(
                "the image transfer {} holds the disk and cannot be told to be ours",
                transfer.id
            )));
        }
        let disk = self.engine.disk(&self.disk).await?;
        if disk.status == DiskStatus::Locked {
            return Ok(Recovered::Held(format!(
                "the disk {} is locked, maybe by the transfer whose answer was lost",
                net::quoted(&disk.name)
            )));
        }
        Ok(Recovered::Free)
    }

    /// Waits until the ticket is there.
    async fn ready(&self, mut transfer: ImageTransfer) -> Result<ImageTransfer, AttemptEnd> {
        let since = Instant::now();
        let mut backoff = PollBackoff::new(self.timers.first_poll, self.timers.longest_poll);
        loop {
            let has_url = transfer.transfer_url.is_some() || transfer.proxy_url.is_some();
            match opening(&transfer.phase) {
                Opening::Ready if has_url => return Ok(transfer),
                Opening::Ready | Opening::Wait => {}
                Opening::Lost => {
                    return Err(AttemptEnd::Lost(format!(
                        "the engine put it into phase {} before data could be read",
                        transfer.phase
                    )));
                }
            }
            if since.elapsed() >= self.timers.begin {
                return Err(AttemptEnd::Failed(Failure::new(
                    Exit::SourceUnavailable,
                    format!(
                        "the image transfer {} is still in phase {} after {} s",
                        transfer.id,
                        transfer.phase,
                        since.elapsed().as_secs()
                    ),
                )));
            }
            self.pause(backoff.next_delay()).await?;
            let looked = self
                .unless_stopped(self.engine.transfer(&transfer.id))
                .await?;
            match looked {
                Ok(Some(seen)) => transfer = seen,
                Ok(None) => return Err(AttemptEnd::Lost("the engine has forgotten it".into())),
                Err(error) if error.kind() == Kind::Unreachable => {
                    tracing::warn!(
                        error = error.chain(),
                        "the engine does not answer; asking again"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn holder(transfer: &ImageTransfer) -> String {
    let (id, phase) = (&transfer.id, &transfer.phase);
    if ending(phase) == Ending::Nothing {
        return format!("; the engine is ending the image transfer {id} (phase {phase})");
    }
    let end = transfer.inactivity_timeout.map(|seconds| {
        format!(
            "; if a run that crashed left it, the engine ends it {seconds} s after its last read; it \
             is not cancelled from here, since it may be a back-up program's"
        )
    });
    let end = end.unwrap_or_default();
    format!("; the image transfer {id} (phase {phase}) holds the disk{end}")
}
