//! The loop: each claim is looked at when something about it has changed, and does its next step.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt, channel::mpsc, stream};
use jiff::Timestamp;
use kube::runtime::scheduler::{ScheduleRequest, scheduler};
use populator_api::Reason;
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{self, Instant},
};

use crate::{
    apply::{Board, Failure, Recorder, Writer},
    observe::{Observer, source_of},
    telemetry::{Ended, Telemetry},
};
use population::{
    Settings,
    model::{Grant, World},
    plan::{Action, Event, Plan, Removal, Status, plan},
    slots::{Admission, Request, Slots},
};

/// A claim that is not bound is looked at this often although nothing happens: a change that was missed
/// does no lasting harm, and what still holds is said again before the cluster forgets it.
const RESYNC: Duration = Duration::from_mins(10);
/// The first pause after a look that failed; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Between two pods for one claim: where something deletes them as soon as they are there, the API server is not to be kept
/// busy with them.
const POD_PACE: Duration = Duration::from_secs(10);
/// For the looks under way at the end. Each is a few short writes.
const GRACE: Duration = Duration::from_secs(10);

/// Everything that a look at a claim needs.
#[derive(Debug)]
pub struct Controller {
    /// What the cluster shows.
    pub observer: Arc<Observer>,
    /// What is done.
    pub writer: Writer,
    /// What is said to owners of claims.
    pub recorder: Arc<Recorder>,
    /// What is said of populator resources.
    pub board: Arc<Board>,
    /// Who may begin.
    pub slots: Mutex<Slots>,
    /// When each claim's last pod was made.
    pub pods: Mutex<HashMap<String, Instant>>,
    /// What the installation decides.
    pub settings: Settings,
    /// The controller's own metrics.
    pub telemetry: Telemetry,
}

/// What follows from a look.
#[derive(Debug, Default)]
struct Round {
    /// Look again after this long.
    again: Option<Duration>,
    /// Claims to look at now.
    woken: Vec<String>,
    /// What went wrong.
    failure: Option<Failure>,
}

impl Controller {
    /// Counts who holds a place, before anybody is let in.
    pub fn count_places(&self) {
        let now = Timestamp::now();
        let cache = self.observer.cache();
        let mut slots = self.slots();
        for uid in cache.all_claims() {
            let world = cache.world(&uid).map(|mut world| {
                // Who has begun was granted what it needed, and is counted; it is asked for again at the look.
                if world.grant == Grant::Missing && world.own_temporary().is_some() {
                    world.grant = Grant::Given;
                }
                world
            });
            let request = world.and_then(|world| {
                let plan = plan(&world, &self.settings, now)?;
                Some(Request::new(&world, plan.slot?))
            });
            slots.count(&uid, request);
        }
    }

    /// Looks at the claims that `wakes` names, and at those that ask for it, until `stop` ends; at most
    /// `workers` at a time, and each at most once at a time.
    pub async fn run(
        self: Arc<Self>,
        wakes: impl Stream<Item = String>,
        workers: usize,
        stop: impl Future<Output = ()>,
    ) {
        let now = |message| ScheduleRequest {
            message,
            run_at: Instant::now(),
        };
        // At most one request for each claim that is looked at, and one for each that it wakes.
        let (own, own_requests) = mpsc::unbounded();
        let requests = stream::select(wakes.map(now), own_requests);
        let mut queue = std::pin::pin!(scheduler(requests));
        let mut stop = std::pin::pin!(stop);
        let mut looks: JoinSet<Round> = JoinSet::new();
        let mut names: HashMap<Id, String> = HashMap::new();
        let mut busy: HashSet<String> = HashSet::new();
        let mut failures: HashMap<String, u32> = HashMap::new();
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(ended) = looks.join_next_with_id() => {
                    let (id, round) = unfold(ended);
                    let Some(claim) = names.remove(&id) else { continue };
                    busy.remove(&claim);
                    let ask = |message: String, pause: Duration| {
                        // The receiver lives as long as this loop.
                        let _ = own.unbounded_send(ScheduleRequest { message, run_at: Instant::now() + pause });
                    };
                    for woken in round.woken {
                        ask(woken, Duration::ZERO);
                    }
                    let again = if let Some(failure) = round.failure {
                        let times = failures.entry(claim.clone()).or_default();
                        *times = times.saturating_add(1);
                        tracing::debug!(claim, "look again later: {failure}");
                        Some(pause(*times))
                    } else {
                        failures.remove(&claim);
                        round.again
                    };
                    if let Some(again) = again {
                        ask(claim, again);
                    }
                }
                Some(claim) = async { queue.as_mut().hold_unless(|claim| !busy.contains(claim)).next().await },
                    if looks.len() < workers =>
                {
                    busy.insert(claim.clone());
                    let this = Arc::clone(&self);
                    let uid = claim.clone();
                    let handle = looks.spawn(async move { this.look(&uid).await });
                    names.insert(handle.id(), claim);
                }
            }
        }
        let rest = async { while looks.join_next().await.is_some() {} };
        if time::timeout(GRACE, rest).await.is_err() {
            tracing::warn!(
                "some steps did not end in time; they are made anew after the next start"
            );
        }
    }

    async fn look(&self, claim_uid: &str) -> Round {
        let start = Instant::now();
        let round = self.step(claim_uid).await;
        let error = round.failure.as_ref().map(Failure::kind);
        self.telemetry.looked(start.elapsed(), error);
        let (held, waiting) = self.slots().count_of_held_and_queued();
        self.telemetry.places(held, waiting);
        round
    }

    /// Looks at one claim, and takes its next step.
    async fn step(&self, claim_uid: &str) -> Round {
        let now = Timestamp::now();
        let world = match self.observer.world(claim_uid, &self.settings, now).await {
            Ok(Some(world)) => world,
            Ok(None) => {
                self.recorder.forget(claim_uid);
                self.board.remove(claim_uid);
                self.pods().remove(claim_uid);
                let woken = self.slots().leave(claim_uid, &self.settings);
                return Round {
                    woken,
                    failure: self.let_go(claim_uid).await.err(),
                    ..Round::default()
                };
            }
            Err(error) => {
                return Round {
                    failure: Some(Failure::Unavailable(error)),
                    ..Round::default()
                };
            }
        };
        let plan = plan(&world, &self.settings, now);
        let needed = plan.as_ref().and_then(|plan| plan.slot);
        let request = needed.map(|usage| Request::new(&world, usage));
        let decision = self.slots().decide(claim_uid, request, &self.settings);
        let mut round = Round {
            woken: decision.trigger,
            ..Round::default()
        };
        let plan = match decision.admission {
            Admission::Admitted => plan,
            Admission::Queued(queued) => plan.map(|plan| plan.deferred(&queued)),
        };
        if let Some(plan) = plan {
            self.take(&world, plan, &mut round, now).await;
        }
        round
    }

    /// The claim is gone, and its pods are on their way out: nothing is expected of them.
    async fn let_go(&self, claim_uid: &str) -> Result<(), Failure> {
        let mut pods = self.observer.cache().pods_of(claim_uid);
        pods.retain(|(_, pod)| pod.terminating.is_some());
        for (namespace, pod) in &pods {
            self.writer.release(namespace, pod).await?;
        }
        Ok(())
    }

    async fn take(&self, world: &World, plan: Plan, round: &mut Round, now: Timestamp) {
        let claim = &world.claim;
        let unbound = claim.volume.is_none();
        round.again = match plan.again {
            Some(again) => Some(again.min(RESYNC)),
            None => unbound.then_some(RESYNC),
        };
        self.recorder.holds(claim, &plan.events, now).await;
        let mut status = plan.status;
        // Said afterwards: an event that is slow must not keep a failed pod standing, which Forklift takes for the end.
        let mut done = Vec::new();
        for action in &plan.actions {
            let makes_pod = matches!(action, Action::CreatePod(_));
            if makes_pod && let Some(left) = self.too_soon(&claim.uid) {
                round.again = Some(left);
                break;
            }
            match self.writer.apply(action, claim).await {
                Ok(()) => {
                    if makes_pod {
                        self.pods().insert(claim.uid.clone(), Instant::now());
                    }
                    if matches!(action, Action::CreateTemporaryClaim(_)) {
                        self.slots().began(&claim.uid);
                    }
                    if let (
                        Action::DeleteTemporaryClaim {
                            removal: Removal::Populated,
                            ..
                        },
                        Some(temporary),
                    ) = (action, &world.temporary)
                    {
                        let time = now.duration_since(temporary.created).unsigned_abs();
                        self.telemetry.ended(Ended::success, time);
                    }
                    done.extend(action.announcement());
                }
                Err(failure) => {
                    status = self
                        .refused(world, action, &failure, status, round, now)
                        .await;
                    round.failure = Some(failure);
                    break;
                }
            }
        }
        for event in &done {
            self.recorder.happened(claim, event, now).await;
        }
        let Some(source) = source_of(claim) else {
            return;
        };
        let reason = status.reason;
        if self.board.set(source, claim.clone(), status) {
            self.telemetry.failed(reason);
            if let Some(temporary) = world.own_temporary() {
                let time = now.duration_since(temporary.created).unsigned_abs();
                self.telemetry.ended(Ended::failure, time);
            }
        }
    }

    /// An action was not done: how the claim stands then.
    async fn refused(
        &self,
        world: &World,
        action: &Action,
        failure: &Failure,
        status: Status,
        round: &mut Round,
        now: Timestamp,
    ) -> Status {
        let claim = &world.claim;
        let Failure::Refused(_) = failure else {
            return status;
        };
        if matches!(action, Action::CreateTemporaryClaim(_)) {
            let woken = self.slots().leave(&claim.uid, &self.settings);
            round.woken.extend(woken);
        }
        let message = failure.to_string();
        tracing::warn!(
            claim = claim.name,
            namespace = claim.namespace,
            "refused by the API server: {message}"
        );
        if let Some(reason) = action.failure_reason() {
            let event = Event::warning(reason, &message);
            self.recorder.happened(claim, &event, now).await;
        }
        Status {
            reason: Reason::Retrying,
            message,
        }
    }

    /// What is left of the pause after the claim's last pod.
    fn too_soon(&self, claim_uid: &str) -> Option<Duration> {
        let made = self.pods().get(claim_uid).copied()?;
        let left = POD_PACE.saturating_sub(made.elapsed());
        (!left.is_zero()).then_some(left)
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that ended, and what follows. One that panicked is a fault of ours; its claim is looked at again.
fn unfold(ended: Result<(Id, Round), JoinError>) -> (Id, Round) {
    ended.unwrap_or_else(|error| {
        tracing::error!("a look at a claim was cut short: {error}");
        let round = Round {
            again: Some(LONGEST_PAUSE),
            ..Round::default()
        };
        (error.id(), round)
    })
}

/// The pause after so many failures in a row, with chance in it so that claims that failed together do not
/// come back together.
fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    pause.mul_f64(0.75 + 0.5 * fastrand::f64())
}
