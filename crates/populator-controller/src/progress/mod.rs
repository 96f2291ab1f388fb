//! Progress of the pods: their metrics, or else their logs, are polled.

mod copied_bytes;
mod log;
mod run;
mod scrape;

pub use copied_bytes::CopiedBytes;
pub use log::{LogReader, measured_of_log};
pub use run::run;
pub use scrape::{Scraper, ScraperError};

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use backoff::Backoff;
use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use population::{model::Uid, progress::Measured};
use tokio::time::{self, Instant, MissedTickBehavior};

/// A pod to poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeTarget {
    /// UID of the claim that it fills, which its metrics carry as a label.
    pub claim_uid: Uid,
    /// UID of the pod, by which its state is kept.
    pub pod_uid: Uid,
    /// Namespace of the pod and the claim.
    pub namespace: String,
    /// Name of the pod, for its log.
    pub pod: String,
    /// IP address of the pod, for its metrics.
    pub address: IpAddr,
    /// When the pod was created.
    pub created: Timestamp,
}

/// How often the list of pods is read.
const TICK: Duration = Duration::from_secs(1);
/// Pace of a pod that answers: slower with each poll, since short copies are the first to end.
const PACE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
/// Pace of a pod that does not answer.
const SILENT_PACE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
/// Pace of reading a pod's log, which costs the API server more than a poll.
const LOG_PACE: Duration = Duration::from_mins(1);
/// Polls under way at a time.
const CONCURRENCY: usize = 16;

/// Polls pods for their progress.
pub struct Poller {
    scraper: Scraper,
    log: Option<LogReader>,
}

/// When a pod is polled again.
#[derive(Debug, Clone)]
struct PollState {
    next: Instant,
    /// Polls in a row that were answered.
    answered: u32,
    /// Polls in a row that were not.
    silent: u32,
    log: Instant,
    /// Its last value comes from its log, and is the newest one until the log is read again.
    is_of_log: bool,
    /// A poll of it is under way.
    is_polled: bool,
}

/// A poll that has ended.
struct Scraped {
    target: ScrapeTarget,
    state: PollState,
    answer: Answer,
}

/// Result of a poll.
enum Answer {
    /// The progress of the pod; `None` if it is unknown.
    New(Option<Measured>),
    /// The last value is still the newest one.
    NothingNew,
}

/// When each pod is due.
#[derive(Debug, Default)]
struct Schedule {
    states: HashMap<Uid, PollState>,
}

impl Poller {
    /// `log` is read if a pod does not answer; without it the progress of such a pod is unknown.
    #[must_use]
    pub const fn new(scraper: Scraper, log: Option<LogReader>) -> Self {
        Self { scraper, log }
    }

    /// Polls the pods that `targets` returns, each at its pace, and delivers their progress, for
    /// ever. `None` means that the progress is unknown: an old value is not delivered again. A pod
    /// that hangs delays no other one, until [`CONCURRENCY`] of them hang.
    pub async fn run(
        self,
        targets: impl Fn() -> Vec<ScrapeTarget>,
        deliver: impl Fn(&ScrapeTarget, Option<Measured>),
    ) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut schedule = Schedule::default();
        let mut waiting = VecDeque::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => waiting = schedule.due(targets()),
                Some(scraped) = under_way.next() => {
                    let Scraped { target, state, answer } = scraped;
                    // The answer of a pod that is gone meanwhile is dropped.
                    if schedule.put(&target, state) && let Answer::New(measured) = answer {
                        deliver(&target, measured);
                    }
                }
            }
            while under_way.len() < CONCURRENCY
                && let Some(target) = waiting.pop_front()
            {
                let state = schedule.take(&target);
                under_way.push(self.poll(target, state));
            }
        }
    }

    /// Polls one pod.
    async fn poll(&self, target: ScrapeTarget, mut state: PollState) -> Scraped {
        let start = Instant::now();
        let (answer, pace) = match self.scraper.measure(&target).await {
            Ok(measured) => {
                state.answered = state.answered.saturating_add(1);
                state.silent = 0;
                state.is_of_log = false;
                (Answer::New(Some(measured)), PACE.bound(state.answered))
            }
            Err(error) => {
                tracing::debug!(
                    pod = target.pod,
                    "the metrics do not give its progress: {error}"
                );
                state.silent = state.silent.saturating_add(1);
                state.answered = 0;
                let answer = match &self.log {
                    Some(log) if state.log <= start => {
                        state.log = start + LOG_PACE;
                        state.is_of_log = true;
                        Answer::New(log.measure(&target).await)
                    }
                    Some(_) if state.is_of_log => Answer::NothingNew,
                    _ => Answer::New(None),
                };
                (answer, SILENT_PACE.bound(state.silent))
            }
        };
        // With jitter, so that pods that started together are not polled together for ever.
        state.next = start + backoff::jittered(pace, 0.1, &mut fastrand::Rng::new());
        state.is_polled = false;
        Scraped {
            target,
            state,
            answer,
        }
    }
}

impl Schedule {
    /// The pods that are due, ordered by how long they have been due. The states of pods that are
    /// gone are dropped.
    fn due(&mut self, targets: Vec<ScrapeTarget>) -> VecDeque<ScrapeTarget> {
        let now = Instant::now();
        let uids: HashSet<&str> = targets
            .iter()
            .map(|target| target.pod_uid.as_str())
            .collect();
        self.states.retain(|uid, _| uids.contains(uid.as_str()));
        let mut due: Vec<(Instant, ScrapeTarget)> = targets
            .into_iter()
            .filter_map(|target| match self.states.get(&target.pod_uid) {
                Some(state) if state.is_polled || state.next > now => None,
                Some(state) => Some((state.next, target)),
                None => Some((now, target)),
            })
            .collect();
        due.sort_by_key(|(since, _)| *since);
        due.into_iter().map(|(_, target)| target).collect()
    }

    /// Marks the pod as being polled; returns its state.
    fn take(&mut self, target: &ScrapeTarget) -> PollState {
        let now = Instant::now();
        let state = self
            .states
            .entry(target.pod_uid.clone())
            .or_insert(PollState {
                next: now,
                answered: 0,
                silent: 0,
                log: now,
                is_of_log: false,
                is_polled: true,
            });
        state.is_polled = true;
        state.clone()
    }

    /// Stores the state after a poll; returns whether the pod is still there.
    fn put(&mut self, target: &ScrapeTarget, state: PollState) -> bool {
        let kept = self.states.get_mut(&target.pod_uid);
        kept.map(|kept| *kept = state).is_some()
    }
}
