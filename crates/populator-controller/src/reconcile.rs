//! The work queue and its workers: each claim is reconciled when something about it has changed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backoff::Backoff;
use futures::{Stream, StreamExt, channel::mpsc, stream};
use jiff::Timestamp;
use kube::runtime::scheduler::{ScheduleRequest, scheduler};
use populator_api::Reason;
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{self, Instant},
};

use crate::{
    apply::{Failure, Recorder, Writer},
    observe::{Observer, populator_ref},
    pace::{Created, Pace},
    status::StatusWriter,
    telemetry::{Ended, Telemetry},
};
use population::{
    Settings,
    model::{Grant, Uid, World},
    plan::{Action, DeleteReason, Plan, Status, plan},
    slots::{Admission, Request, Slots},
};

/// A claim that is not bound is reconciled this often even if nothing changes: a missed change does
/// no lasting harm, and events that are still true are renewed before the API server deletes them.
const RESYNC: Duration = Duration::from_mins(10);
/// After failed reconciles of a claim.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
/// Time for the reconciles under way at the end. Each consists of a few short writes.
const GRACE: Duration = Duration::from_secs(10);

/// Reconciles claims: observe, plan, apply.
///
/// The price of this shape: a claim takes as many reconciles as it has steps, and each reads all it
/// needs from the cache again. In return no state is kept between them that a restart could lose.
pub struct Controller {
    /// Reads what the cluster shows.
    pub observer: Arc<Observer>,
    /// Applies the actions of plans.
    pub writer: Writer,
    /// Reports to owners of claims, by events.
    pub recorder: Arc<Recorder>,
    /// Reports on populator resources, by their status.
    pub status: Arc<StatusWriter>,
    /// Limits how many claims are served at a time.
    pub slots: Mutex<Slots>,
    /// What is remembered to spare the API server.
    pub pace: Mutex<Pace>,
    /// Images, resources and limits, as the installation sets them.
    pub settings: Settings,
    /// The controller's own metrics.
    pub telemetry: Telemetry,
}

/// What follows from one reconcile.
#[derive(Debug, Default)]
struct Outcome {
    /// Reconcile the claim again after this long.
    requeue_after: Option<Duration>,
    /// Other claims to reconcile now.
    trigger: Vec<Uid>,
    /// What failed; the claim is requeued with backoff.
    failure: Option<Failure>,
}

impl Outcome {
    /// The claim is reconciled again after this long at the latest.
    fn requeue_within(&mut self, delay: Duration) {
        let others = self.requeue_after.into_iter();
        self.requeue_after = others.chain([delay]).min();
    }
}

impl Controller {
    /// Counts the claims that hold a slot, before the first one is admitted: a restart must not
    /// admit more claims than there are slots.
    pub fn count_slots(&self) {
        let now = Timestamp::now();
        let cache = self.observer.cache();
        let mut slots = self.slots();
        for uid in cache.all_claims() {
            let world = cache.world(&uid).map(|mut world| {
                // Grants are not cached. A claim with a temporary claim had its grant, and counts;
                // its reconcile reads the grant again.
                if world.grant == Grant::Missing && world.own_temporary().is_some() {
                    world.grant = Grant::Given;
                }
                world
            });
            let request = world.and_then(|world| {
                let plan = plan(&world, &self.settings, now)?;
                Some(Request::new(&world, plan.slot?))
            });
            slots.count(&uid, request, now);
        }
    }

    /// Reconciles the claims that `triggers` names, and those that are requeued, until `stop` ends,
    /// with a concurrency of at most `workers`. No claim is reconciled twice at a time.
    pub async fn run(
        self: Arc<Self>,
        triggers: impl Stream<Item = Uid>,
        workers: usize,
        stop: impl Future<Output = ()>,
    ) {
        let now = |message| ScheduleRequest {
            message,
            run_at: Instant::now(),
        };
        // Not bounded by its type, but by its use: at most one request for each claim that is
        // reconciled, and one for each claim that it triggers. A bounded channel could block the
        // loop that drains it.
        let (own, own_requests) = mpsc::unbounded();
        let requests = stream::select(triggers.map(now), own_requests);
        let mut queue = std::pin::pin!(scheduler(requests));
        let mut stop = std::pin::pin!(stop);
        let mut running: JoinSet<Outcome> = JoinSet::new();
        // By task, since a task that panics returns nothing, not even the name of its claim.
        let mut names: HashMap<Id, Uid> = HashMap::new();
        let mut busy: HashSet<Uid> = HashSet::new();
        let mut failures: HashMap<Uid, u32> = HashMap::new();
        let mut random = fastrand::Rng::new();
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(ended) = running.join_next_with_id() => {
                    let (id, outcome) = unfold(ended);
                    let Some(claim) = names.remove(&id) else { continue };
                    busy.remove(&claim);
                    let requeue = |message: Uid, delay: Duration| {
                        // The receiver lives as long as this loop.
                        let run_at = Instant::now() + delay;
                        let _ = own.unbounded_send(ScheduleRequest { message, run_at });
                    };
                    for triggered in outcome.trigger {
                        requeue(triggered, Duration::ZERO);
                    }
                    let delay = if let Some(failure) = outcome.failure {
                        let times = failures.entry(claim.clone()).or_default();
                        *times = times.saturating_add(1);
                        tracing::debug!(%claim, "requeued with backoff: {failure}");
                        Some(BACKOFF.delay_from_half(*times, &mut random))
                    } else {
                        failures.remove(&claim);
                        outcome.requeue_after
                    };
                    if let Some(delay) = delay {
                        requeue(claim, delay);
                    }
                }
                // A busy claim stays in the queue, and is not dropped: the reconcile under way may
                // have read the cache before the change that triggered this one.
                Some(claim) = async {
                    queue.as_mut().hold_unless(|claim| !busy.contains(claim)).next().await
                },
                    if running.len() < workers =>
                {
                    busy.insert(claim.clone());
                    let this = Arc::clone(&self);
                    let uid = claim.clone();
                    let handle = running.spawn(async move { this.reconcile(&uid).await });
                    names.insert(handle.id(), claim);
                }
            }
        }
        let rest = async { while running.join_next().await.is_some() {} };
        if time::timeout(GRACE, rest).await.is_err() {
            tracing::warn!(
                "some reconciles did not end in time; the next start repeats their steps"
            );
        }
    }

    async fn reconcile(&self, claim_uid: &Uid) -> Outcome {
        let start = Instant::now();
        let outcome = self.step(claim_uid).await;
        let error = outcome.failure.as_ref().map(Failure::kind);
        self.telemetry.reconciled(start.elapsed(), error);
        let (held, queued) = self.slots().held_and_queued();
        self.telemetry.slots(held, queued);
        outcome
    }

    /// Takes the next step of one claim.
    async fn step(&self, claim_uid: &Uid) -> Outcome {
        let now = Timestamp::now();
        // Observe: from the cache, with live reads where the cache cannot know. Read again in every
        // step, also after one of our own writes: the plan must see what others have done meanwhile.
        let mut world = match self.observer.world(claim_uid, &self.settings, now).await {
            Ok(Some(world)) => world,
            Ok(None) => return self.forget(claim_uid).await,
            Err(error) => {
                return Outcome {
                    failure: Some(Failure::Unavailable(error)),
                    ..Outcome::default()
                };
            }
        };
        world.is_short_of_quota = self.pace().is_short_of_quota(&world.claim.namespace);
        // Plan: pure.
        let plan = plan(&world, &self.settings, now);
        // Admit: one serialised step over all claims, without I/O. After the plan, since only the
        // plan knows whether the claim needs a slot; before the first write, since a write that
        // starts work cannot be taken back.
        let needed = plan.as_ref().and_then(|plan| plan.slot);
        let request = needed.map(|usage| Request::new(&world, usage));
        let decision = {
            let mut slots = self.slots();
            // A claim that is bound may have been finished by another controller before its
            // temporary claim was seen here, and is not reconciled again.
            if world.own_temporary().is_some() || world.claim.volume.is_some() {
                slots.seen(claim_uid);
            }
            slots.decide(claim_uid, request, &self.settings, now)
        };
        let mut outcome = Outcome {
            trigger: decision.trigger,
            ..Outcome::default()
        };
        let plan = match decision.admission {
            Admission::Admitted => plan,
            Admission::Queued(queued) => plan.map(|plan| plan.deferred(&queued)),
        };
        // Apply: writes to the API server, each bound to the state that it was decided on.
        if let Some(plan) = plan {
            self.apply(&world, plan, &mut outcome, now).await;
        } else {
            // It may have been ours before.
            self.recorder.sync(&world.claim, &[], now);
            self.status.remove(claim_uid);
        }
        outcome
    }

    /// The claim is gone. Its terminating pods are released, since their results no longer matter.
    /// Others are left: the garbage collector deletes them, unless the cache does not show their
    /// claim yet.
    async fn forget(&self, claim_uid: &Uid) -> Outcome {
        self.recorder.forget(claim_uid);
        self.status.remove(claim_uid);
        self.pace().forget(claim_uid);
        let trigger = self.slots().leave(claim_uid, &self.settings);
        let mut pods = self.observer.cache().pods_of(claim_uid);
        pods.retain(|(_, pod)| pod.terminating.is_some());
        let mut failure = None;
        for (namespace, pod) in &pods {
            failure = failure.or(self.writer.release(namespace, pod).await.err());
        }
        Outcome {
            trigger,
            failure,
            ..Outcome::default()
        }
    }

    async fn apply(&self, world: &World, plan: Plan, outcome: &mut Outcome, now: Timestamp) {
        let claim = &world.claim;
        outcome.requeue_after = match plan.requeue_after {
            Some(delay) => Some(delay.min(RESYNC)),
            None => claim.volume.is_none().then_some(RESYNC),
        };
        if let Some(postponed) = self.recorder.sync(claim, &plan.events, now) {
            outcome.requeue_within(postponed);
        }
        let mut status = plan.status;
        // Emitted after the actions: a slow event must not delay the deletion of a failed pod,
        // which Forklift takes for the end of the migration.
        let mut done = Vec::new();
        for action in &plan.actions {
            let created = Created::by(action);
            let left = created.and_then(|kind| self.pace().left(&claim.uid, kind));
            // The rest of the plan waits too: later actions rely on the earlier ones.
            if let Some(left) = left {
                outcome.requeue_after = Some(left);
                break;
            }
            let left = self.pace().left_of_ending(action);
            if let Some(left) = left {
                outcome.requeue_within(left);
                continue;
            }
            if let Err(failure) = self.writer.apply(action, claim).await {
                if action.is_optional() && matches!(failure, Failure::Refused(_)) {
                    tracing::warn!(claim = claim.name, "left out: {failure}");
                    continue;
                }
                status = self.on_rejected(world, action, &failure, status, outcome, now);
                outcome.failure = Some(failure);
                break;
            }
            if let Some(kind) = created {
                self.pace().created(&claim.uid, kind);
            }
            self.pace().ended(action);
            match action {
                Action::CreateTemporaryClaim(_) => self.slots().started(&claim.uid, now),
                Action::DeleteTemporaryClaim {
                    reason: DeleteReason::Populated,
                    ..
                } if self.pace().populated(&claim.uid) => {
                    self.count_end(world, Ended::success, now);
                }
                _ => {}
            }
            done.extend(action.announcement());
        }
        for event in &done {
            if let Some(held) = self.recorder.emit(claim, event, now) {
                outcome.requeue_within(held);
            }
        }
        let Some(populator) = populator_ref(claim) else {
            return;
        };
        let reason = status.reason;
        let is_granted = world.grant != Grant::Missing;
        // Shared with the cache, which may show a later version of it: the status names it, no more.
        let shared = self.observer.cache().claim(&claim.uid);
        let shared = shared.unwrap_or_else(|| Arc::new(claim.clone()));
        if self.status.set(populator, shared, status, is_granted) {
            self.telemetry.failed(reason);
            self.count_end(world, Ended::failure, now);
        }
    }

    /// Counts the end of a population that had started.
    fn count_end(&self, world: &World, ended: Ended, now: Timestamp) {
        if let Some(temporary) = world.own_temporary() {
            let time = now.duration_since(temporary.created).unsigned_abs();
            self.telemetry.ended(ended, time);
        }
    }

    /// The claim's status after an action that failed. A rejection by the API server (a quota, a
    /// policy) is reported to the claim's owner, who can act on it; any other failure is retried in
    /// silence.
    fn on_rejected(
        &self,
        world: &World,
        action: &Action,
        failure: &Failure,
        status: Status,
        outcome: &mut Outcome,
        now: Timestamp,
    ) -> Status {
        let claim = &world.claim;
        let Failure::Refused(_) = failure else {
            return status;
        };
        if Created::by(action).is_some() {
            // A claim that cannot start must not keep others from starting.
            let trigger = self.slots().reject(&claim.uid, &self.settings);
            outcome.trigger.extend(trigger);
        }
        if failure.is_of_quota() {
            // Finished pods keep claims that count: they go at once.
            self.pace().quota_rejected(&claim.namespace);
            let cache = self.observer.cache();
            let pods = cache.all_pods();
            let here = pods.filter(|(_, (namespace, _), _)| *namespace == claim.namespace);
            let others = here.map(|(uid, ..)| uid).filter(|uid| *uid != claim.uid);
            outcome.trigger.extend(others);
        }
        let event = action.rejected(&failure.to_string());
        self.recorder.report(claim, &event, now);
        let message = event.message;
        Status {
            reason: Reason::Retrying,
            message,
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that ended, and its outcome. A panic is a fault of the controller; the claim is
/// reconciled again.
fn unfold(ended: Result<(Id, Outcome), JoinError>) -> (Id, Outcome) {
    ended.unwrap_or_else(|error| {
        tracing::error!("a reconcile panicked: {error}");
        let outcome = Outcome {
            requeue_after: Some(BACKOFF.longest),
            ..Outcome::default()
        };
        (error.id(), outcome)
    })
}
