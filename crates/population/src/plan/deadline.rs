//! The deadline for the start of a copy, where the installation sets one: a plan that waits for the
//! claim must not wait for ever.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use populator_api::{Reason, names::event as name};

use super::{
    action::Action,
    steps::remaining,
    types::{Plan, Situation},
};
use crate::{
    model::{LastFailure, Pod, PodPhase, TemporaryClaim, Uid, Verdict},
    objects,
};

/// The plan, or the end of a claim that `plan` would let wait beyond the deadline.
pub(super) fn enforce(
    situation: &Situation<'_>,
    temporary: &TemporaryClaim,
    pod: Option<&Pod>,
    mut plan: Plan,
) -> Plan {
    let populator = situation.world.populator.found();
    let is_waiting = matches!(
        plan.status.reason,
        Reason::Provisioning | Reason::PodPending | Reason::PodStuck
    );
    let deadline = situation.settings.start_deadline.filter(|_| is_waiting);
    let Some((deadline, populator)) = deadline.zip(populator) else {
        return plan;
    };
    let left = remaining(temporary.created, deadline, situation.now);
    if !left.is_zero() {
        let sooner = plan.requeue_after.map_or(left, |requeue| requeue.min(left));
        plan.requeue_after = Some(sooner);
        return plan;
    }
    let message = format!(
        "the copy has not started within {} s: {}",
        deadline.as_secs(),
        plan.status.message
    );
    let claim = &situation.world.claim;
    let unstarted = pod.filter(|pod| pod.phase == PodPhase::Pending && pod.terminating.is_none());
    // There may be no pod, and so nothing that tells one verdict from another.
    let uid = unstarted.map_or_else(Uid::default, |pod| pod.uid.clone());
    let last = claim.attempts.last_failure.as_ref();
    let is_recorded = last.is_some_and(|last| last.pod == uid && last.verdict.is_some());
    let mut failed = Plan::warn(name::FAILED, Reason::StartDeadlineExceeded, &message);
    if is_recorded {
        return failed;
    }
    failed.actions.extend(unstarted.map(|pod| Action::FailPod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        message: message.clone(),
    }));
    failed.actions.push(Action::RecordFailure {
        recreations: claim.attempts.recreations,
        failure: LastFailure {
            pod: uid,
            at: Time(situation.now),
            reason: Reason::StartDeadlineExceeded,
            message,
            disruptions: last.map_or(0, |last| last.disruptions),
            verdict: Some(Verdict {
                origin: objects::origin(claim, populator),
                retry: claim.retry.clone(),
            }),
        },
    });
    failed
}
