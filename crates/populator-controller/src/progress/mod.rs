//! How far the pods are: their metrics, or else their logs, asked for at a pace.

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

use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use population::progress::Measured;
use tokio::time::{self, Instant, MissedTickBehavior};

/// A pod to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeTarget {
    /// UID of the claim that it fills; the metrics carry it.
    pub claim_uid: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// Namespace of both.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Address of the pod.
    pub address: IpAddr,
    /// When the pod was made.
    pub created: Timestamp,
}

/// How often it is looked for pods to ask.
const TICK: Duration = Duration::from_secs(1);
/// A pod that has just started is asked sooner; the pause doubles with each question.
const FIRST_PACE: Duration = Duration::from_millis(500);
/// Between two questions to a pod that answers.
const PACE: Duration = Duration::from_secs(5);
/// Between two questions to a pod that does not, at most; the pause doubles up to this.
const LONGEST_PACE: Duration = Duration::from_mins(1);
/// Between two looks at a pod's log.
const LOG_PACE: Duration = Duration::from_mins(1);
/// Pods that are asked at a time.
const AT_A_TIME: usize = 16;

/// Asks pods how far they are.
#[derive(Debug)]
pub struct Poller {
    scraper: Scraper,
    log: Option<LogReader>,
}

/// When a pod is asked again.
#[derive(Debug, Clone)]
struct PollState {
    next: Instant,
    pace: Duration,
    log: Instant,
    /// What it said last comes from its log, and is the newest until that is read again.
    is_of_log: bool,
    /// It is being asked.
    is_asked: bool,
}

/// What came of a question.
struct Scraped {
    target: ScrapeTarget,
    state: PollState,
    answer: Answer,
}

/// What a question has brought.
enum Answer {
    /// How far the pod is; `None` where that is not known.
    New(Option<Measured>),
    /// What was known before is the newest there is.
    NothingNew,
}

/// Whose turn it is.
#[derive(Debug, Default)]
struct Schedule {
    states: HashMap<String, PollState>,
}

impl Poller {
    /// `log` is asked where a pod does not answer; without it such a pod's progress is unknown.
    #[must_use]
    pub const fn new(scraper: Scraper, log: Option<LogReader>) -> Self {
        Self { scraper, log }
    }

    /// Asks those that `targets` names, each at its pace, and delivers what they say, for ever. `None` says that it is
    /// not known: an old number is not delivered again. A pod that hangs delays no other one, up to
    /// so many of them that every place is taken.
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
                Some(asked) = under_way.next() => {
                    let Scraped { target, state, answer } = asked;
                    // Of a pod that is gone meanwhile nobody wants to know.
                    if schedule.put(&target, state) && let Answer::New(measured) = answer {
                        deliver(&target, measured);
                    }
                }
            }
            while under_way.len() < AT_A_TIME
                && let Some(target) = waiting.pop_front()
            {
                let state = schedule.take(&target);
                under_way.push(self.ask(target, state));
            }
        }
    }

    /// Asks one.
    async fn ask(&self, target: ScrapeTarget, mut state: PollState) -> Scraped {
        let start = Instant::now();
        let answer = match self.scraper.measure(&target).await {
            Ok(measured) => {
                state.pace = state.pace.saturating_mul(2).min(PACE);
                state.is_of_log = false;
                Answer::New(Some(measured))
            }
            Err(error) => {
                tracing::debug!(
                    pod = target.pod,
                    "the metrics do not say how far it is: {error}"
                );
                state.pace = state.pace.saturating_mul(2).min(LONGEST_PACE);
                match &self.log {
                    Some(log) if state.log <= start => {
                        state.log = start + LOG_PACE;
                        state.is_of_log = true;
                        Answer::New(log.measure(&target).await)
                    }
                    Some(_) if state.is_of_log => Answer::NothingNew,
                    _ => Answer::New(None),
                }
            }
        };
        // With chance in it, so that pods that started together are not asked together for ever.
        state.next = start + state.pace.mul_f64(0.9 + 0.2 * fastrand::f64());
        state.is_asked = false;
        Scraped {
            target,
            state,
            answer,
        }
    }
}

impl Schedule {
    /// The pods whose turn it is, those first that have waited longest. Those that are gone are forgotten.
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
                Some(state) if state.is_asked || state.next > now => None,
                Some(state) => Some((state.next, target)),
                None => Some((now, target)),
            })
            .collect();
        due.sort_by_key(|(since, _)| *since);
        due.into_iter().map(|(_, target)| target).collect()
    }

    /// It is being asked from now on.
    fn take(&mut self, target: &ScrapeTarget) -> PollState {
        let now = Instant::now();
        let state = self
            .states
            .entry(target.pod_uid.clone())
            .or_insert(PollState {
                next: now,
                pace: FIRST_PACE,
                log: now,
                is_of_log: false,
                is_asked: true,
            });
        state.is_asked = true;
        state.clone()
    }

    /// It was asked; whether it is still there.
    fn put(&mut self, target: &ScrapeTarget, state: PollState) -> bool {
        let kept = self.states.get_mut(&target.pod_uid);
        kept.map(|kept| *kept = state).is_some()
    }
}
