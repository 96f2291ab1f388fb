//! How far the pods are: their metrics, or else their logs, asked for at a pace.

mod log;
mod scrape;
mod tally;

pub use log::{LogReader, measured_of_log};
pub use scrape::{Scraper, ScraperError};
pub use tally::Tally;

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
pub struct Target {
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
struct Turn {
    next: Instant,
    pace: Duration,
    log: Instant,
    /// What it said last comes from its log, and is the newest until that is read again.
    is_of_log: bool,
    /// It is being asked.
    is_asked: bool,
}

/// What came of a question.
struct Asked {
    target: Target,
    turn: Turn,
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
    turns: HashMap<String, Turn>,
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
        targets: impl Fn() -> Vec<Target>,
        deliver: impl Fn(&Target, Option<Measured>),
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
                    let Asked { target, turn, answer } = asked;
                    // Of a pod that is gone meanwhile nobody wants to know.
                    if schedule.put(&target, turn) && let Answer::New(measured) = answer {
                        deliver(&target, measured);
                    }
                }
            }
            while under_way.len() < AT_A_TIME
                && let Some(target) = waiting.pop_front()
            {
                let turn = schedule.take(&target);
                under_way.push(self.ask(target, turn));
            }
        }
    }

    /// Asks one.
    async fn ask(&self, target: Target, mut turn: Turn) -> Asked {
        let start = Instant::now();
        let answer = match self.scraper.measure(&target).await {
            Ok(measured) => {
                turn.pace = turn.pace.saturating_mul(2).min(PACE);
                turn.is_of_log = false;
                Answer::New(Some(measured))
            }
            Err(error) => {
                tracing::debug!(
                    pod = target.pod,
                    "the metrics do not say how far it is: {error}"
                );
                turn.pace = turn.pace.saturating_mul(2).min(LONGEST_PACE);
                match &self.log {
                    Some(log) if turn.log <= start => {
                        turn.log = start + LOG_PACE;
                        turn.is_of_log = true;
                        Answer::New(log.measure(&target).await)
                    }
                    Some(_) if turn.is_of_log => Answer::NothingNew,
                    _ => Answer::New(None),
                }
            }
        };
        // With chance in it, so that pods that started together are not asked together for ever.
        turn.next = start + turn.pace.mul_f64(0.9 + 0.2 * fastrand::f64());
        turn.is_asked = false;
        Asked {
            target,
            turn,
            answer,
        }
    }
}

impl Schedule {
    /// The pods whose turn it is, those first that have waited longest. Those that are gone are forgotten.
    fn due(&mut self, targets: Vec<Target>) -> VecDeque<Target> {
        let now = Instant::now();
        let uids: HashSet<&str> = targets
            .iter()
            .map(|target| target.pod_uid.as_str())
            .collect();
        self.turns.retain(|uid, _| uids.contains(uid.as_str()));
        let mut due: Vec<(Instant, Target)> = targets
            .into_iter()
            .filter_map(|target| match self.turns.get(&target.pod_uid) {
                Some(turn) if turn.is_asked || turn.next > now => None,
                Some(turn) => Some((turn.next, target)),
                None => Some((now, target)),
            })
            .collect();
        due.sort_by_key(|(since, _)| *since);
        due.into_iter().map(|(_, target)| target).collect()
    }

    /// It is being asked from now on.
    fn take(&mut self, target: &Target) -> Turn {
        let now = Instant::now();
        let turn = self.turns.entry(target.pod_uid.clone()).or_insert(Turn {
            next: now,
            pace: FIRST_PACE,
            log: now,
            is_of_log: false,
            is_asked: true,
        });
        turn.is_asked = true;
        turn.clone()
    }

    /// It was asked; whether it is still there.
    fn put(&mut self, target: &Target, turn: Turn) -> bool {
        let kept = self.turns.get_mut(&target.pod_uid);
        kept.map(|kept| *kept = turn).is_some()
    }
}
