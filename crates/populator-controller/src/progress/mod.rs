//! How far the pods are: their metrics, or else their logs, asked for at a pace.

mod log;
mod metrics;
mod scrape;

pub use log::{LogReader, measured_of_log};
pub use metrics::{Bytes, Measured};
pub use scrape::{Scraper, ScraperError};

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use futures::{StreamExt, stream};
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
    pods: HashMap<String, Turn>,
}

/// When a pod is asked again.
#[derive(Debug, Clone)]
struct Turn {
    next: Instant,
    pace: Duration,
    log: Instant,
}

impl Poller {
    /// `log` is asked where a pod does not answer; without it such a pod's progress is unknown.
    #[must_use]
    pub fn new(scraper: Scraper, log: Option<LogReader>) -> Self {
        Self {
            scraper,
            log,
            pods: HashMap::new(),
        }
    }

    /// Asks those that `targets` names, each at its pace, and delivers what they say, for ever. `None` says that it is
    /// not known: an old number is not delivered again.
    pub async fn run(
        mut self,
        targets: impl Fn() -> Vec<Target>,
        deliver: impl Fn(&Target, Option<Measured>),
    ) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let due = self.due(targets());
            let this = &self;
            let asked: Vec<(Target, Turn)> = stream::iter(due)
                .map(|target| async {
                    let (measured, turn) = this.ask(&target).await;
                    if let Some(measured) = measured {
                        deliver(&target, measured);
                    }
                    (target, turn)
                })
                .buffer_unordered(AT_A_TIME)
                .collect()
                .await;
            for (target, turn) in asked {
                self.pods.insert(target.pod_uid, turn);
            }
        }
    }

    /// The pods whose turn it is. Those that are gone are forgotten.
    fn due(&mut self, targets: Vec<Target>) -> Vec<Target> {
        let now = Instant::now();
        let uids: HashSet<&str> = targets
            .iter()
            .map(|target| target.pod_uid.as_str())
            .collect();
        self.pods.retain(|uid, _| uids.contains(uid.as_str()));
        let is_due = |target: &Target| {
            let turn = self.pods.get(&target.pod_uid);
            turn.is_none_or(|turn| turn.next <= now)
        };
        targets.into_iter().filter(is_due).collect()
    }

    /// Asks one; `None` in the first place says that there is nothing new to deliver.
    async fn ask(&self, target: &Target) -> (Option<Option<Measured>>, Turn) {
        let start = Instant::now();
        let before = self.pods.get(&target.pod_uid);
        let mut turn = before.cloned().unwrap_or(Turn {
            next: start,
            pace: FIRST_PACE,
            log: start,
        });
        let answer = match self.scraper.measure(target).await {
            Ok(measured) => {
                turn.pace = turn.pace.saturating_mul(2).min(PACE);
                Some(Some(measured))
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
                        Some(log.measure(target).await)
                    }
                    // Until the log is asked again, what it said is the newest there is.
                    Some(_) => None,
                    None => Some(None),
                }
            }
        };
        // With chance in it, so that pods that started together are not asked together for ever.
        turn.next = start + turn.pace.mul_f64(0.9 + 0.2 * fastrand::f64());
        (answer, turn)
    }
}
